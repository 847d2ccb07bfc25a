//! The handover on the kernel datapath, under traffic, where the kernel can carry no shield.

use support::node::Node;
use support::vm::{Command, Result, Traffic};

#[test]
fn without_a_shield_it_says_what_that_can_cost() -> Result<()> {
    let node = Node::start()?;
    node.vm.sh("find /lib/modules -name nft_fwd_netdev.ko -delete && depmod -a")?;
    let before = node.ip_state()?;
    let plan = node.try_agent("handover plan --to bridge")?;
    assert_eq!(plan.code(), Some(2), "{}{}", plan.stdout, plan.stderr);
    assert!(plan.stdout.contains("note: no shield can be raised ("), "{}", plan.stdout);
    assert!(!plan.stdout.contains("raise the shield"), "{}", plan.stdout);
    assert_eq!(node.ip_state()?, before, "a plan changes nothing");
    assert_eq!(node.vm.sh("ovs-vsctl --timeout=10 list-br")?, "");

    let traffic = Traffic::start(&node.vm)?;
    node.agent("handover apply --to bridge")?;
    let report = traffic.stop()?;
    println!("to the bridge:\n{report}");
    assert_eq!(node.ip_state()?, before.replace("eth1", "br-int"));
    assert!(!report.tcp.broken, "{report}");

    let again = node.agent("handover apply --to bridge")?;
    assert!(again.contains("nothing to do"), "{again}");

    let traffic = Traffic::start(&node.vm)?;
    node.agent("handover apply --to uplink --delete-bridge")?;
    let report = traffic.stop()?;
    println!("to the uplink:\n{report}");
    assert_eq!(node.ip_state()?, before);
    assert_eq!(node.vm.sh("ovs-vsctl --timeout=10 list-br")?, "");
    assert!(!report.tcp.broken, "{report}");

    let again = node.agent("handover apply --to uplink --delete-bridge")?;
    assert!(again.contains("nothing to do"), "{again}");
    let output = node.vm.run(&Command::new(["ovs-dpctl", "dump-dps"]))?;
    assert_eq!(output.stdout, "", "no datapath is left");
    Ok(())
}
