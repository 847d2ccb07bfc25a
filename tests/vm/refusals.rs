//! What cannot be done is refused with what was found, what was expected and what to
//! do, and the node stays what it was.

use crate::state;
use std::path::Path;
use support::node::{Node, PROFILES};
use support::payload::{self, ModuleSet};
use support::vm::{Bed, Result};
use tempfile::TempDir;

/// A command, and what it has to say.
struct Case {
    command: &'static str,
    code: i32,
    reason: &'static str,
    /// In this order or another.
    words: Vec<String>,
}

fn case(command: &'static str, code: i32, reason: &'static str, words: &[&str]) -> Case {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Case { command, code, reason, words }
}

/// Runs a case as it is and, where it applies something, as a plan; the node may not change.
fn refused(node: &Node, case: &Case) -> Result<()> {
    let before = state::of(node)?;
    for command in [case.command.to_owned(), case.command.replace("apply", "plan")] {
        let output = node.try_agent(&command)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        println!("$ pointsman {command}\n{}", said.trim_end());
        assert_eq!(output.code(), Some(case.code), "{command}: {said}");
        assert!(said.contains(&format!("{}: ", case.reason)), "{command}: {said}");
        for word in &case.words {
            assert!(said.contains(word), "{command}: `{word}` is missing in: {said}");
        }
        state::assert_same(&state::of(node)?, &before, &command);
    }
    assert!(state::reachable(node)?.is_ok());
    Ok(())
}

#[test]
fn a_configuration_with_a_mistake() -> Result<()> {
    let node = Node::start()?;
    node.configure(&PROFILES.replace("uplink = \"eth1\"", "uplnk = \"eth1\""))?;
    let unknown = &["unknown key `node.uplnk`", "did you mean `node.uplink`?"];
    refused(&node, &case("apply --profile nsx-ovs", 1, "BadConfig", unknown))?;
    node.configure(PROFILES)?;
    let profiles = &["`nsx`", "nsx-ovs, upstream-ovs"];
    refused(&node, &case("apply --profile nsx", 1, "BadUsage", profiles))?;

    let missing = &["no network device eth9", "eth1", "correct node.uplink"];
    refused(&node, &case("apply --profile nsx-ovs --uplink eth9", 3, "UplinkMissing", missing))?;
    let missing = case("handover apply --to bridge --uplink eth9", 3, "UplinkMissing", missing);
    refused(&node, &missing)?;

    node.vm.sh("ip link add br-int type dummy")?;
    let kind = &["device br-int is of kind dummy", "expected", "remove it"];
    refused(&node, &case("handover apply --to bridge", 3, "BridgeNotOvs", kind))?;
    refused(&node, &case("apply --profile nsx-ovs", 3, "BridgeNotOvs", kind))?;
    node.vm.sh("ip link del br-int")?;

    node.vm.sh("/usr/share/openvswitch/scripts/ovs-ctl stop")?;
    let down = &["database does not answer", "start Open vSwitch, or correct node.ovsdb"];
    refused(&node, &case("handover apply --to bridge", 3, "OvsUnavailable", down))?;
    Ok(())
}

/// A set whose vport-gre wants another `module_layout`: `struct modversion_info` is a checksum
/// of eight bytes, and a name.
fn with_another_checksum(built: &Path) -> TempDir {
    let set = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(built).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), set.path().join(file.file_name())).unwrap();
    }
    let path = set.path().join("vport-gre.ko");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"module_layout\0";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at - 8] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    set
}

#[test]
fn a_payload_that_does_not_fit() -> Result<()> {
    let node = Node::start()?;
    let bed = Bed::locate()?;
    let (kernel, other) = (bed.kernel(), bed.other_kernel()?);
    let apply = |payload: &'static str, reason, words: &[&str]| {
        refused(&node, &case(payload, 3, reason, words))
    };
    apply(
        "apply --profile nsx-ovs --payload /nowhere",
        "NoPayload",
        &["/nowhere", "manifest.toml"],
    )?;

    // for another kernel; the same where it would do, as each symbol's checksum says, and the
    // same once one of them says otherwise
    let sets = |dir: &Path, kernel: &str| [ModuleSet { dir: dir.into(), kernel: kernel.into() }];
    let built = bed.modules("nsx-other");
    node.put_payload(&sets(&built, &other), "/payload-other")?;
    let words = &[kernel, &*format!("has sets for {other}")];
    apply("apply --profile nsx-ovs --payload /payload-other", "NoPayloadForKernel", words)?;
    node.put_payload(&sets(&built, kernel), "/payload-relabelled")?;
    let plan = node.try_agent("modules plan --to payload --payload /payload-relabelled")?;
    assert_eq!(plan.code(), Some(2), "{}{}", plan.stdout, plan.stderr);
    let clashing = with_another_checksum(&built);
    node.put_payload(&sets(clashing.path(), kernel), "/payload-clashing")?;
    let words = &["module_layout (vport-gre needs 0x", "would not load it"];
    apply("apply --profile nsx-ovs --payload /payload-clashing", "AbiMismatch", words)?;
    apply("modules apply --to payload --payload /payload-clashing", "AbiMismatch", words)?;

    node.vm.sh(
        "cp -a /payload /payload-short && truncate -s 1000 /payload-short/modules/*/vport-gre.ko",
    )?;
    let words = &["vport-gre.ko", "sha256", "the manifest says"];
    apply("apply --profile nsx-ovs --payload /payload-short", "PayloadCorrupt", words)?;
    node.vm.sh("cp -a /payload /payload-lacking && rm /payload-lacking/cni/nsx")?;
    let words = &["cni/nsx", "it is missing"];
    apply("cni apply --payload /payload-lacking", "PayloadCorrupt", words)?;
    apply("apply --profile nsx-ovs --payload /payload-lacking", "PayloadCorrupt", words)?;
    Ok(())
}

#[test]
fn a_conflist_that_is_not_ours_or_says_nothing() -> Result<()> {
    let node = Node::start()?;
    let (conflist, legacy) = ("/etc/cni/net.d/10-nsx.conflist", "/etc/cni/net.d/10-nsx.conf");
    let theirs = payload::conflist("9.9").replace("\"type\": \"nsx\"", "\"type\": \"flannel\"");
    node.vm.put(conflist, theirs.as_bytes(), 0o644)?;
    let words = &["10-nsx.conflist", "configures the plugin `flannel`, not `nsx`", "move it away"];
    refused(&node, &case("cni apply", 3, "ConflistNotOurs", words))?;
    refused(&node, &case("apply --profile nsx-ovs", 3, "ConflistNotOurs", words))?;

    // nothing that a runtime could load: replaced, a copy is kept
    let garbled = "{ \"cniVersion\": \"0.4.0\", \"name\": \"nsx-cni\", \"plug";
    node.vm.put(conflist, garbled.as_bytes(), 0o644)?;
    let older = "{ \"cniVersion\": \"0.3.1\", \"name\": \"nsx-cni\", \"type\": \"nsx\" }";
    node.vm.put(legacy, older.as_bytes(), 0o600)?;
    let before = state::of(&node)?;
    // what a mount stands on cannot be removed: a step behind the conflist's fails
    node.vm.sh(&format!("busybox mount -o bind {legacy} {legacy}"))?;
    let failed = node.try_agent("cni apply")?;
    println!("{}", failed.stdout);
    assert_eq!(failed.code(), Some(4), "{}{}", failed.stdout, failed.stderr);
    assert!(failed.stdout.contains("RolledBack: FileOperationFailed: "), "{}", failed.stdout);
    assert!(
        failed.stdout.contains("could not remove /etc/cni/net.d/10-nsx.conf"),
        "{}",
        failed.stdout
    );
    state::assert_same(&state::of(&node)?, &before, "after the way back");
    node.vm.sh(&format!("busybox umount {legacy}"))?;

    let done = node.agent("cni apply")?;
    assert!(
        done.contains("Garbled: /etc/cni/net.d/10-nsx.conflist is replaced, a copy is kept"),
        "{done}"
    );
    assert!(node.vm.sh(&format!("cat {conflist}"))?.contains(payload::CNI_VERSION));
    node.vm.sh(&format!("[ ! -e {legacy} ]"))?;
    assert!(node.agent("cni apply")?.contains("nothing to do"));
    node.agent("restore")?;
    state::assert_same(&state::of(&node)?, &before, "after restore");
    assert_eq!(node.vm.get(conflist)?, garbled.as_bytes());
    Ok(())
}
