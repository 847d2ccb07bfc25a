//! A node on a real API server, which it reaches through its uplink only.

use std::thread;
use std::time::{Duration, Instant};
use support::node::{Node, PROFILES};
use support::operator::Operator;
use support::payload;
use support::vm::{Bed, Result, Running, Traffic};

/// A busy machine emulates slowly; a quiet one needs ten seconds.
const LONG: Duration = Duration::from_secs(400);

#[test]
fn an_annotation_takes_the_node_there_and_another_one_back() -> Result<()> {
    let node = Node::start()?;
    let operator = Operator::start(&node);
    let before = node.ip_state()?;
    let nsx = payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko"));
    let agent = operator.start_agent(&node)?;

    operator.ask("no-such-profile");
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!((&*report["state"], &*report["reason"]), ("Refused", "UnknownProfile"));
    assert!(report["message"].contains("nsx-ovs, upstream-ovs"), "{report:#?}");
    assert_eq!(node.ip_state()?, before);

    let traffic = Traffic::start(&node.vm)?;
    operator.ask("nsx-ovs");
    let report = operator.wait(&node, LONG, |_, now| println!("{now:?}"))?;
    println!("{}", traffic.stop()?);
    assert_eq!(report["state"], "Done", "{report:#?}\n{}", agent.log()?);
    assert!(report["current-profile"].starts_with("nsx-ovs@sha256:"), "{report:#?}");
    assert_eq!(report["ovs-module"], format!("nsx@{nsx}"));
    assert_eq!(report["address-owner"], "bridge");
    assert_eq!(report["cni-version"], payload::CNI_VERSION);
    assert_eq!(report["uplink-mtu"], "1500");
    assert_eq!(node.loaded_build_id()?, nsx);

    // pinned by the digest that it reported itself
    let pinned = report["current-profile"].clone();
    operator.ask(&pinned);
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!((&*report["state"], &report["current-profile"]), ("Done", &pinned));

    // idle: a look later not a word has been written again, the time included
    thread::sleep(Duration::from_secs(40));
    assert_eq!(operator.annotations(), report, "{}", agent.log()?);

    operator.ask("upstream-ovs");
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!(report["state"], "Done", "{report:#?}\n{}", agent.log()?);
    assert_eq!(report["previous-profile"], pinned);
    assert_eq!(report["address-owner"], "uplink");
    assert_ne!(node.loaded_build_id()?, nsx);
    assert_eq!(node.ip_state()?, before);
    Ok(())
}

/// Waits for a phase on the Node.
fn until_applying(operator: &Operator, agent: &Running<'_>) -> Result<()> {
    let start = Instant::now();
    while operator.annotations().get("phase").map(String::as_str) != Some("Applying") {
        assert!(start.elapsed() < LONG, "{:#?}\n{}", operator.annotations(), agent.log()?);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits for words in the record on the node's disk: nobody else can tell while the API is away.
fn until_noted(node: &Node, file: &str, words: &str, agent: &Running<'_>) -> Result<()> {
    let start = Instant::now();
    while node.vm.sh(&format!("grep -c '{words}' /var/lib/pointsman/{file} || :"))? == "0" {
        assert!(start.elapsed() < LONG, "{}\n{}", node.agent("status")?, agent.log()?);
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

#[test]
fn an_api_server_that_is_away_for_a_while_stops_nothing_and_is_told_after() -> Result<()> {
    let node = Node::start()?;
    // longer than an emulated machine takes from here to there
    node.configure(&format!("{PROFILES}confirm_timeout = \"10m\"\n"))?;
    let mut operator = Operator::start(&node);
    let agent = operator.start_agent(&node)?;
    operator.ask("nsx-ovs");
    until_applying(&operator, &agent)?;
    operator.cluster.stop();
    until_noted(&node, "progress", "connecting anew to the API server", &agent)?;
    operator.cluster.start_again();
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!(report["state"], "Done", "{report:#?}\n{}", agent.log()?);
    assert_eq!(report["address-owner"], "bridge");

    // and one that does not come back is one more reason to go back, once
    agent.signal(15)?;
    agent.wait(LONG)?;
    let before = node.ip_state()?;
    let profile =
        "[profiles.light]\nmodules = \"leave\"\ncni = \"leave\"\naddresses = \"uplink\"\n";
    node.configure(&format!("{PROFILES}confirm_timeout = \"3s\"\n{profile}"))?;
    let agent = operator.start_agent(&node)?;
    node.vm.sh("rm /var/lib/pointsman/progress")?;
    operator.ask("light");
    // stopped where everybody has been asked once, and nothing is changed yet
    let pid = agent.pid;
    node.vm.sh(&format!(
        "until grep -q 'the dead-man watches' /var/lib/pointsman/progress 2>/dev/null; do :; done; kill -STOP {pid}"
    ))?;
    operator.cluster.stop();
    node.vm.sh(&format!("kill -CONT {pid}"))?;
    until_noted(&node, "journal.json", "RolledBack", &agent)?;
    assert_eq!(node.ip_state()?, before);
    operator.cluster.start_again();
    let report = operator.wait(&node, LONG, |_, _| {})?;
    let said = format!("{report:#?}\n{}", agent.log()?);
    assert_eq!((&*report["state"], &*report["reason"]), ("RolledBack", "ApiUnreachable"), "{said}");
    assert_eq!(report["address-owner"], "bridge", "{said}");
    Ok(())
}
