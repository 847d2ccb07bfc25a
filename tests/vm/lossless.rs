//! Not one packet lost: there and back on the kernel datapath, on a host that is strict.

use std::thread;
use std::time::Duration;
use support::node::Node;
use support::vm::{Command, Report, Result, Traffic};

/// `scripts/bench --runs 20 losses` runs more.
const RUNS: u32 = 3;
/// So that every probe runs before, and had the time to come back after: TCP sends again
/// after 0.2, 0.6 and 1.4 s.
const LEAD: Duration = Duration::from_secs(1);
const TAIL: Duration = Duration::from_secs(3);

/// What a hardened host sets, and what makes a primary address take its secondaries along;
/// one more network, and the kernel's own connected routes.
const STRICT: &str = "
for link in all default eth1; do
    echo 1 >/proc/sys/net/ipv4/conf/$link/rp_filter
    echo 1 >/proc/sys/net/ipv4/conf/$link/arp_ignore
    echo 0 >/proc/sys/net/ipv4/conf/$link/promote_secondaries
done
ip address add 10.66.0.15/24 brd + dev eth1
ip address add 10.66.0.16/24 brd + dev eth1
ip -n peer address add 10.66.0.77/24 dev peer0
";

/// A stop of Open vSwitch by its own script, while traffic runs.
const STOP_OVS: &str = "/usr/share/openvswitch/scripts/ovs-ctl stop";

fn stop(node: &Node) -> Result<()> {
    node.vm.run(&Command::sh(STOP_OVS).within(Duration::from_secs(120)))?.succeeded()
}

fn under_traffic(node: &Node, change: impl FnOnce() -> Result<()>) -> Result<Report> {
    let traffic = Traffic::start(&node.vm)?;
    thread::sleep(LEAD);
    change()?;
    thread::sleep(TAIL);
    traffic.stop()
}

#[track_caller]
fn assert_whole(report: &Report, what: &str) {
    println!("{what}:\n{report}");
    for (label, probe) in &report.probes {
        assert!(probe.sent > 100, "{what}: {label} hardly ran\n{report}");
    }
    assert_eq!(report.lost(), 0, "{what}\n{report}");
    assert!(!report.tcp.broken, "{what}\n{report}");
    assert_eq!(report.tcp.sent, report.tcp.received, "{what}\n{report}");
}

#[test]
fn there_and_back_not_a_packet_is_lost() -> Result<()> {
    let node = Node::start()?;
    node.vm.sh(STRICT)?;
    let before = node.ip_state()?;
    for run in 1..=RUNS {
        let report = under_traffic(&node, || node.agent("handover apply --to bridge").map(drop))?;
        assert_eq!(node.ip_state()?, before.replace("eth1", "br-int"), "run {run}");
        assert_whole(&report, &format!("run {run}, to the bridge"));
        let report = under_traffic(&node, || {
            node.agent("handover apply --to uplink --delete-bridge")?;
            stop(&node)
        })?;
        assert_eq!(node.ip_state()?, before, "run {run}");
        assert_whole(&report, &format!("run {run}, to the uplink, Open vSwitch stopped"));
        node.vm.start_ovs()?;
    }
    Ok(())
}

#[test]
fn a_grown_node_loses_nothing_either() -> Result<()> {
    let node = Node::start()?;
    node.vm.sh(STRICT)?;
    node.grow()?;
    let before = node.ip_state()?;
    let report = under_traffic(&node, || node.agent("handover apply --to bridge").map(drop))?;
    assert_eq!(node.ip_state()?, before.replace("eth1", "br-int"));
    assert_whole(&report, "to the bridge");
    let report = under_traffic(&node, || node.agent("handover apply --to uplink").map(drop))?;
    assert_eq!(node.ip_state()?, before);
    assert_whole(&report, "to the uplink");
    Ok(())
}
