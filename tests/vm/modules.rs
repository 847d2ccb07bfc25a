//! Modules in a real kernel: exchanged live, told by build id, still so after a reboot.

use support::node::Node;
use support::payload;
use support::vm::{Bed, Result};

/// Of Debian's own module, as `readelf` says it of the file in the VM's root.
fn in_tree_build_id(node: &Node) -> Result<String> {
    let kernel = Bed::locate()?.kernel();
    let file =
        node.vm.get(&format!("/lib/modules/{kernel}/kernel/net/openvswitch/openvswitch.ko"))?;
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(copy.path(), file).unwrap();
    Ok(payload::build_id(copy.path()))
}

fn payload_build_id() -> Result<String> {
    Ok(payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko")))
}

/// Every file below the module tree, depmod's configuration and what they hold.
fn tree(node: &Node) -> Result<String> {
    node.vm
        .sh("cd /; find lib/modules etc/depmod.d -type f ! -name 'modules.*' -exec sha256sum {} + \
         2>/dev/null | sort -k2; find lib/modules etc/depmod.d ! -type f 2>/dev/null | sort")
}

#[test]
fn there_and_back_live_and_after_a_reboot() -> Result<()> {
    let node = Node::start()?;
    let vm = &node.vm;
    let (in_tree, nsx) = (in_tree_build_id(&node)?, payload_build_id()?);
    assert_ne!(in_tree, nsx);
    vm.sh("/usr/share/openvswitch/scripts/ovs-ctl stop; modprobe openvswitch")?;
    assert_eq!(node.loaded_build_id()?, in_tree);
    let before = tree(&node)?;

    let plan = node.try_agent("modules plan --to payload --activate live")?;
    assert_eq!(plan.code(), Some(2), "{}{}", plan.stdout, plan.stderr);
    assert_eq!(tree(&node)?, before, "a plan changes nothing");

    node.agent("modules apply --to payload --activate live")?;
    assert_eq!(node.loaded_build_id()?, nsx);
    let chosen = vm.sh("modprobe --show-depends openvswitch | tail -n 1")?;
    assert!(chosen.contains("/weak-updates/openvswitch/openvswitch.ko"), "{chosen}");
    let there = tree(&node)?;
    let again = node.agent("modules apply --to payload --activate live")?;
    assert!(again.contains("nothing to do"), "{again}");
    assert_eq!(tree(&node)?, there);

    vm.reboot()?;
    vm.sh("modprobe openvswitch")?;
    assert_eq!(node.loaded_build_id()?, nsx, "still so after a reboot");
    let again = node.agent("modules apply --to payload --activate live")?;
    assert!(again.contains("nothing to do"), "{again}");

    node.agent("modules apply --to in-tree --activate live")?;
    assert_eq!(node.loaded_build_id()?, in_tree);
    assert_eq!(tree(&node)?, before, "and back, byte for byte");
    vm.sh(&format!("[ ! -e /lib/modules/{}/nsx ]", Bed::locate()?.kernel()))?;
    Ok(())
}
