//! A node on a real API server, which it reaches through its uplink only.

use std::time::Duration;
use support::node::Node;
use support::operator::Operator;
use support::payload;
use support::vm::{Bed, Result, Traffic};

const LONG: Duration = Duration::from_secs(180);

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

    operator.ask("upstream-ovs");
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!(report["state"], "Done", "{report:#?}\n{}", agent.log()?);
    assert_eq!(report["previous-profile"], pinned);
    assert_eq!(report["address-owner"], "uplink");
    assert_ne!(node.loaded_build_id()?, nsx);
    assert_eq!(node.ip_state()?, before);
    Ok(())
}
