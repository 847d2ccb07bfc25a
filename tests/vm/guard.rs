//! The guard: a bridge whose Open vSwitch is lost gives its addresses to the uplink, and gets them back.

use crate::state;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use support::node::Node;
use support::operator::Operator;
use support::vm::Result;

/// A busy machine emulates slowly; the guard itself acts within seconds.
const LONG: Duration = Duration::from_secs(300);

/// Open vSwitch is somebody else's: within a minute of a switch ours would be started again, as
/// a foreign change that is put right.
const PROFILE: &str = "
[profiles.moved]
modules = \"leave\"
cni = \"leave\"
addresses = \"bridge\"
ovs = \"none\"
";

fn wait_for(
    operator: &Operator,
    state: &str,
    reason: &str,
    log: impl Fn() -> String,
) -> BTreeMap<String, String> {
    let start = Instant::now();
    loop {
        let now = operator.annotations();
        let is = |key: &str, value: &str| now.get(key).is_some_and(|found| found == value);
        if is("state", state) && is("reason", reason) {
            return now;
        }
        assert!(start.elapsed() < LONG, "not {state}/{reason}: {now:#?}\n{}", log());
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_lost_open_vswitch_gives_the_addresses_back_and_gets_them_again() -> Result<()> {
    let node = Node::start()?;
    let before = node.ip_state()?;
    node.configure(&format!("{}{PROFILE}", support::node::PROFILES))?;
    let operator = Operator::start(&node);
    let agent = operator.start_agent(&node)?;
    let log = || agent.log().unwrap_or_default();
    operator.ask("moved");
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!(report["state"], "Done", "{report:#?}\n{}", log());
    let on_bridge = node.ip_state()?;

    // dead: packets flow only by what the datapath knows already, and soon it knows nothing
    node.vm.sh("pkill -9 ovs-vswitchd; ovs-dpctl del-flows")?;
    let report = wait_for(&operator, "Degraded", "OvsLost", log);
    assert_eq!(report["address-owner"], "uplink", "{report:#?}");
    assert!(report["message"].contains("no ovs-vswitchd runs"), "{report:#?}");
    assert_eq!(node.ip_state()?, before);
    assert_eq!(state::reachable(&node)?, Ok(()));

    // it is well again, and stays so: the profile is put in place by itself
    node.vm.sh("/usr/share/openvswitch/scripts/ovs-ctl --no-ovsdb-server start")?;
    let report = wait_for(&operator, "Done", "Verified", log);
    assert_eq!(report["address-owner"], "bridge", "{report:#?}");
    assert_eq!(node.ip_state()?, on_bridge);
    assert_eq!(state::reachable(&node)?, Ok(()));

    // by hand, and with it the addresses are gone from the kernel. Within a minute of a switch
    // that is a foreign change, put right once; after it, a loss
    node.vm.sh("ovs-vsctl --timeout=30 del-br br-int")?;
    let start = Instant::now();
    loop {
        let now = node.ip_state()?;
        if (now == before || now == on_bridge) && state::reachable(&node)? == Ok(()) {
            return Ok(());
        }
        assert!(start.elapsed() < LONG, "{now}\n{}", log());
        thread::sleep(Duration::from_millis(500));
    }
}
