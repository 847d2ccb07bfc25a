//! The whole switch, without a cluster.

use support::node::Node;
use support::payload;
use support::vm::{Bed, Result, Traffic};

#[test]
fn there_and_back_under_traffic() -> Result<()> {
    let node = Node::start()?;
    let nsx = payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko"));
    let before = node.ip_state()?;
    let plan = node.try_agent("plan --profile nsx-ovs")?;
    println!("{}", plan.stdout);
    assert_eq!(plan.code(), Some(2), "{}{}", plan.stdout, plan.stderr);

    let traffic = Traffic::start(&node.vm)?;
    println!("{}", node.agent("apply --profile nsx-ovs")?);
    println!("{}", traffic.stop()?);
    assert_eq!(node.loaded_build_id()?, nsx);
    assert_eq!(node.ip_state()?, before.replace("eth1", "br-int"));
    assert!(node.vm.sh("cat /etc/cni/net.d/10-nsx.conflist")?.contains(payload::CNI_VERSION));
    let again = node.agent("apply --profile nsx-ovs")?;
    assert!(again.contains("nothing to do"), "{again}");

    // from the bridge this time: through the harbour
    let plan = node.try_agent("plan --profile upstream-ovs")?;
    println!("{}", plan.stdout);
    let traffic = Traffic::start(&node.vm)?;
    println!("{}", node.agent("apply --profile upstream-ovs")?);
    println!("{}", traffic.stop()?);
    assert_ne!(node.loaded_build_id()?, nsx);
    assert_eq!(node.ip_state()?, before);
    let again = node.agent("apply --profile upstream-ovs")?;
    assert!(again.contains("nothing to do"), "{again}");
    Ok(())
}
