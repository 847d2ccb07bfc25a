//! A step that fails takes the node to the safe harbour, and from there to where it began.

use crate::state;
use support::node::Node;
use support::payload;
use support::vm::{Bed, Output, Result, Traffic};

/// A switch that fails under traffic; all it may leave behind is its journal.
fn rolled_back(node: &Node, command: &str, reason: &str, words: &[&str]) -> Result<Output> {
    let before = state::of(node)?;
    let traffic = Traffic::start(&node.vm)?;
    let output = node.try_agent(command)?;
    let report = traffic.stop()?;
    println!("$ pointsman {command}\n{}\n{report}", output.stdout.trim_end());
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code(), Some(4), "{said}");
    assert!(output.stdout.contains(&format!("RolledBack: {reason}: ")), "{said}");
    for word in words {
        assert!(output.stdout.contains(word), "`{word}` is missing in: {said}");
    }
    state::assert_same(&state::of(node)?, &before, command);
    assert_eq!(state::reachable(node)?, Ok(()));
    let status = node.agent("status")?;
    assert!(status.contains("ended, RolledBack") && status.contains(reason), "{status}");
    Ok(output)
}

/// Whether the harbour was reached on the way back, before anything else was taken back.
fn by_the_harbour(output: &Output) -> bool {
    let back: Vec<&str> =
        output.stderr.lines().filter(|line| line.starts_with("RollingBack: ")).collect();
    let verified = back.iter().position(|line| line.contains("looking again"));
    let others = ["module", "the host's Open vSwitch", "/lib/modules", "/etc/cni"];
    let first = back.iter().position(|line| others.iter().any(|word| line.contains(word)));
    matches!((verified, first), (Some(verified), Some(first)) if verified < first)
}

/// A copy of the payload with one file changed by a script, and a manifest that knows.
fn payload_with(node: &Node, name: &str, file: &str, change: &str) -> Result<String> {
    let to = format!("/payload-{name}");
    node.vm.sh(&format!(
        "set -e; cp -a /payload {to}; f=$(echo {to}/{file}); old=$(sha256sum $f | cut -d' ' -f1); \
         {change}; new=$(sha256sum $f | cut -d' ' -f1); [ $new != $old ]; \
         sed -i s/$old/$new/ {to}/manifest.toml"
    ))?;
    Ok(to)
}

#[test]
fn whatever_fails_the_node_is_what_it_was() -> Result<()> {
    let node = Node::start()?;
    let nsx = payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko"));
    node.agent("handover apply --to bridge")?;
    let before = state::of(&node)?;
    assert!(before.contains("bridge br-int eth1"), "{before}");

    // the kernel finds a module wanting that the manifest, rightly, finds whole
    let change = "LC_ALL=C sed -i s/nf_ct_deliver_cached_events/nf_ct_deliver_cached_absent/g $f";
    let bad = payload_with(&node, "unloadable", "modules/*/openvswitch.ko", change)?;
    let command = format!("apply --profile nsx-ovs --payload {bad}");
    let words = &["could not load the module openvswitch", "a module it needs is missing"];
    let output = rolled_back(&node, &command, "ModuleLoadFailed", words)?;
    assert!(by_the_harbour(&output), "{}", output.stderr);

    // the last of the chores fails when all others are done
    let bad = payload_with(&node, "unrunnable", "cni/nsx", "echo no program >$f")?;
    let command = format!("apply --profile nsx-ovs --payload {bad}");
    let words = &["could not try the payload's cni/nsx", "does not run on this host"];
    let output = rolled_back(&node, &command, "PluginProbeFailed", words)?;
    assert!(by_the_harbour(&output), "{}", output.stderr);
    assert!(output.stderr.contains("Applying: load the module openvswitch"), "{}", output.stderr);

    // with the cause gone nothing stands in the way
    node.agent("apply --profile nsx-ovs")?;
    assert_eq!(node.loaded_build_id()?, nsx);
    assert!(node.agent("apply --profile nsx-ovs")?.contains("nothing to do"));
    Ok(())
}
