//! Power cuts in the steps of a module switch, on disk and in the kernel: what only was in memory
//! is lost, and the set's place has the whole old set or the whole new one all the same.

use crate::state;
use support::node::{AGENT, CONFIG, Node};
use support::payload;
use support::vm::{Bed, Command, Result};

/// The agent appends each step here before it takes it.
const PROGRESS: &str = "/var/lib/pointsman/progress";
const THERE: &str = "modules apply --to payload --activate reboot";
const BACK: &str = "modules apply --to in-tree --activate reboot";

/// By what words a step's line begins, and what else it has; `- ` begins the journal's own notes. Before the
/// exchange nothing may be lost of the old set, after it nothing of the new one. The steps between are cut in
/// the root tier, by SIGKILL.
const CUTS: [(&str, &[&str]); 6] = [
    (THERE, &["- the way back is on disk"]),
    (THERE, &["exchange "]),
    (THERE, &["remove ", "pointsman.tmp/openvswitch.ko"]),
    (THERE, &["- looking again"]),
    (BACK, &["exchange "]),
    (BACK, &["index the modules"]),
];

/// What lies in the module trees and in depmod's configuration, the index aside.
fn tree(node: &Node) -> Result<String> {
    node.vm.sh("cd /; find lib/modules etc/depmod.d -type f ! -name 'modules.*' \
         -exec stat -c '%a %u:%g %n' {} + -exec sha256sum {} + 2>/dev/null | sort -k2; \
         find lib/modules etc/depmod.d ! -type f 2>/dev/null | sort")
}

/// The files of the set's place, with what they hold.
fn set(node: &Node) -> Result<String> {
    let kernel = Bed::locate()?.kernel();
    node.vm.sh(&format!("cd /lib/modules/{kernel}/weak-updates/openvswitch; sha256sum * | sort"))
}

/// The kernel's own modules in the set's place, as if the user had built them, preferred by the
/// user's own configuration.
fn bring_user_set(node: &Node) -> Result<()> {
    let kernel = Bed::locate()?.kernel();
    node.vm.sh(&format!(
        "cd /lib/modules/{kernel}; mkdir -p weak-updates/openvswitch /etc/depmod.d; \
         cp kernel/net/openvswitch/*.ko weak-updates/openvswitch/; \
         echo 'search weak-updates updates built-in' >/etc/depmod.d/user.conf; depmod {kernel}"
    ))?;
    Ok(())
}

fn cut(node: &Node, arguments: &str, words: &[&str]) -> Result<()> {
    let plan = node.try_agent(&arguments.replace("apply", "plan"))?.stdout;
    let has =
        |line: &&str| line.starts_with(words[0]) && words.iter().all(|word| line.contains(word));
    let notes = words.iter().copied().filter(|word| word.starts_with("- "));
    let steps = plan.lines().filter_map(|line| line.strip_prefix("  - "));
    let step = notes.chain(steps).find(has);
    let step = step.unwrap_or_else(|| panic!("no step with {words:?} in:\n{plan}"));
    // the line has its number before the words
    let line = format!(" {step}");
    // the power cut is about the agent's files, not about what the test itself put there
    node.vm.sh("sync")?;
    let when = ["bed", "kill-when", "--cut", "--file", PROGRESS, "--contains", &line, "--"];
    let agent = [AGENT, "--config", CONFIG].into_iter().chain(arguments.split(' '));
    let took = node.vm.cut_by(&Command::new(when.into_iter().chain(agent)))?;
    println!("{arguments}: power cut at: {step} (up again in {took:.1?})");
    Ok(())
}

fn reach(node: &Node, arguments: &str) -> Result<String> {
    let output = node.try_agent(arguments)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code(), Some(0), "{arguments}: {said}");
    Ok(output.stderr)
}

#[test]
fn cut_in_the_steps_of_a_swap_on_disk() -> Result<()> {
    let node = Node::start()?;
    bring_user_set(&node)?;
    let users = (tree(&node)?, set(&node)?);
    reach(&node, THERE)?;
    let nsx = (tree(&node)?, set(&node)?);
    for (arguments, words) in CUTS {
        let (start, end) = if arguments == THERE { (&users, &nsx) } else { (&nsx, &users) };
        reach(&node, if arguments == THERE { BACK } else { THERE })?;
        assert_eq!(tree(&node)?, start.0);
        cut(&node, arguments, words)?;
        let found = set(&node)?;
        assert!(found == start.1 || found == end.1, "{words:?}: neither set is whole:\n{found}");
        let status = node.agent("status")?;
        assert!(status.contains(": open, "), "{status}");
        let said = reach(&node, arguments)?;
        let unfinished = said.lines().find(|line| line.contains("an unfinished transaction"));
        println!("  {}", unfinished.expect("it to be found"));
        assert_eq!(tree(&node)?, end.0, "{words:?}: whole, and nothing left over");
    }
    Ok(())
}

/// Between unload and load the kernel has no module at all. The boot loads by the new index.
#[test]
fn cut_in_the_middle_of_a_live_exchange() -> Result<()> {
    let node = Node::start()?;
    let nsx = payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko"));
    cut(&node, "apply --profile nsx-ovs", &["load the module openvswitch"])?;
    node.vm.node_network()?;
    node.vm.start_ovs()?;
    let status = node.agent("status")?;
    assert!(status.contains("the profile nsx-ovs: open, Applying"), "{status}");
    let before = node.ip_state()?;
    let said = reach(&node, "apply --profile nsx-ovs")?;
    assert!(said.contains("an unfinished transaction was found (the profile nsx-ovs): "), "{said}");
    assert_eq!(node.loaded_build_id()?, nsx);
    assert_eq!(node.ip_state()?, before.replace("eth1", "br-int"));
    assert!(!state::of(&node)?.contains("leftover"), "{}", state::of(&node)?);
    assert!(node.agent("apply --profile nsx-ovs")?.contains("nothing to do"));
    Ok(())
}
