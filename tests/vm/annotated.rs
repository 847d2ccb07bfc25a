//! A node on a real API server, which it reaches through its uplink only.

use std::thread;
use std::time::{Duration, Instant};
use support::node::Node;
use support::operator::Operator;
use support::payload;
use support::vm::{Bed, Result, Traffic};

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

#[test]
fn a_switch_goes_on_while_the_api_server_is_away_and_is_reported_after() -> Result<()> {
    let node = Node::start()?;
    let mut operator = Operator::start(&node);
    let agent = operator.start_agent(&node)?;
    operator.ask("nsx-ovs");
    let start = Instant::now();
    while operator.annotations().get("phase").map(String::as_str) != Some("Applying") {
        assert!(start.elapsed() < LONG, "{:#?}\n{}", operator.annotations(), agent.log()?);
        thread::sleep(Duration::from_millis(50));
    }
    operator.cluster.stop();
    // the record on the node's disk is the witness: nobody else can tell now
    let start = Instant::now();
    while !node.agent("status")?.contains("ended, Reached") {
        assert!(start.elapsed() < LONG, "{}\n{}", node.agent("status")?, agent.log()?);
        thread::sleep(Duration::from_millis(500));
    }
    operator.cluster.start_again();
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!(report["state"], "Done", "{report:#?}\n{}", agent.log()?);
    assert_eq!(report["address-owner"], "bridge");
    Ok(())
}
