//! SIGKILL at chosen steps: what is found then is taken back or
//! confirmed, whole, and the goal is reached after all.

use crate::state;
use std::time::Duration;
use support::node::{AGENT, CONFIG, Node};
use support::vm::{Command, Result};

/// The agent appends each step here before it takes it.
const PROGRESS: &str = "/var/lib/pointsman/progress";

/// Who finds what the killed agent left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The next `apply` of the same goal.
    Apply,
    /// A person with `restore`, and then an `apply`.
    Restore,
}

/// When to kill: at a step of the plan whose line has all these words, so many
/// milliseconds after it began.
struct Cut {
    words: &'static [&'static str],
    after: u32,
    by: By,
}

const fn cut(words: &'static [&'static str], by: By) -> Cut {
    Cut { words, after: 0, by }
}

/// Kills the agent there.
fn kill(node: &Node, goal: &Goal, cut: &Cut) -> Result<()> {
    let plan = node.try_agent(&goal.arguments.replace("apply", "plan"))?.stdout;
    let has = |line: &&str| cut.words.iter().all(|word| line.contains(word));
    let step = plan.lines().filter_map(|line| line.strip_prefix("  - ")).find(has);
    let step = step.unwrap_or_else(|| panic!("no step with {:?} in:\n{plan}", cut.words));
    let after = cut.after.to_string();
    let words = ["bed", "kill-when", "--file", PROGRESS, "--contains", step, "--after", &after];
    let agent = ["--", AGENT, "--config", CONFIG].into_iter().chain(goal.arguments.split(' '));
    let command = Command::new(words.into_iter().chain(agent)).within(Duration::from_secs(240));
    let output = node.vm.run(&command)?;
    output.succeeded()?;
    println!("{}: {}", goal.arguments, output.stdout.trim_end());
    Ok(())
}

/// What an agent that is killed was to do.
struct Goal {
    arguments: &'static str,
    /// The node when it is reached.
    reached: String,
    /// Whether the node answers at every moment of the way.
    answers: bool,
}

/// Kills, recovers, and reaches the goal.
fn killed_and_recovered(node: &Node, goal: &Goal, cut: &Cut) -> Result<()> {
    let before = state::of(node)?;
    kill(node, goal, cut)?;
    // a tool that goes on alone would work against the way back
    node.vm.sh("for i in 1 2 3 4 5 6 7 8 9; do pidof depmod modprobe >/dev/null || exit 0; sleep 0.1; done; \
         echo a tool goes on; exit 1")?;
    match state::reachable(node)? {
        Ok(()) => {}
        Err(dark) if goal.answers => panic!("after the kill at {:?}: {dark}", cut.words),
        Err(dark) => println!("  after the kill: {dark}"),
    }
    recovered(node, goal, cut.by, &before)
}

fn recovered(node: &Node, goal: &Goal, by: By, before: &str) -> Result<()> {
    let status = node.agent("status")?;
    assert!(status.contains(": open, "), "{status}");
    if by == By::Restore {
        let said = node.agent("restore")?;
        assert!(said.contains("RolledBack: "), "{said}");
        state::assert_same(&state::of(node)?, before, "after restore");
        assert_eq!(state::reachable(node)?, Ok(()));
    }
    let output = node.try_agent(goal.arguments)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code(), Some(0), "{said}");
    let found = output.stderr.lines().find_map(|line| {
        line.strip_prefix("an unfinished transaction was found (")?.rsplit(": ").next()
    });
    println!("  recovered by {by:?}: {}", found.unwrap_or("RolledBack"));
    match by {
        By::Apply => assert!(matches!(found, Some("RolledBack" | "Reached")), "{said}"),
        By::Restore => assert_eq!(found, None, "{said}"),
    }
    state::assert_same(&state::of(node)?, &goal.reached, goal.arguments);
    assert_eq!(state::reachable(node)?, Ok(()));
    let status = node.agent("status")?;
    assert!(status.contains("ended, Reached"), "{status}");
    Ok(())
}

#[test]
fn in_the_middle_of_a_handover() -> Result<()> {
    use By::{Apply, Restore};
    const THERE: [Cut; 6] = [
        cut(&["add 10.0.2.16/24 on br-int"], Apply),
        cut(&["make eth1 a port of br-int"], Restore),
        cut(&["add an IPv6 rule"], Apply),
        cut(&["delete", "route", ": "], Apply),
        cut(&["delete 10.0.2.16/24 on eth1"], Restore),
        cut(&["delete the IPv4 rule"], Apply),
    ];
    const BACK: [Cut; 6] = [
        cut(&["add 10.0.2.16/24 on eth1"], Apply),
        cut(&["add an IPv6 rule"], Restore),
        cut(&["delete", "route", ": "], Apply),
        cut(&["take eth1 out of br-int"], Apply),
        cut(&["delete 10.0.2.16/24 on br-int"], Apply),
        cut(&["delete the IPv4 rule"], Restore),
    ];
    let node = Node::start()?;
    let (there, back) = ("handover apply --to bridge", "handover apply --to uplink");
    // strict, so that what is loosened for a moment is seen to be tightened again
    node.vm.sh("for f in eth1 default; do echo 1 >/proc/sys/net/ipv4/conf/$f/rp_filter; done")?;

    // with no bridge before, there is none afterwards
    let before = state::of(&node)?;
    let none = Goal { arguments: there, reached: String::new(), answers: true };
    kill(&node, &none, &cut(&["make the bridge br-int"], Restore))?;
    assert_eq!(state::reachable(&node)?, Ok(()));
    node.agent("restore")?;
    state::assert_same(&state::of(&node)?, &before, "after restore");

    node.agent(there)?;
    let there = Goal { arguments: there, reached: state::of(&node)?, answers: true };
    node.agent(back)?;
    let back = Goal { arguments: back, reached: state::of(&node)?, answers: true };
    for (one, other) in THERE.iter().zip(&BACK) {
        killed_and_recovered(&node, &there, one)?;
        killed_and_recovered(&node, &back, other)?;
    }
    Ok(())
}

/// What there is of a shield, as the agent sees it: rule, devices, whether there can be one.
fn shield(node: &Node) -> Result<String> {
    Ok(node.observe()?["network"]["shield"].to_string())
}

/// Between raising and lowering: packets go on by the shield, and who comes next takes it away.
#[test]
fn under_a_shield() -> Result<()> {
    const NONE: &str = r#"{"table":false,"links":false,"refused":null}"#;
    const UP: &str = r#"{"table":true,"links":true,"refused":null}"#;
    let node = Node::start()?;
    assert_eq!(shield(&node)?, NONE);
    let (there, back) = ("handover apply --to bridge", "handover apply --to uplink");
    node.agent(there)?;
    let there = Goal { arguments: there, reached: state::of(&node)?, answers: true };
    node.agent(back)?;
    let back = Goal { arguments: back, reached: state::of(&node)?, answers: true };
    let cuts = [
        (&there, cut(&["make eth1 a port of br-int"], By::Restore)),
        (&back, cut(&["take eth1 out of br-int"], By::Apply)),
    ];
    for (goal, cut) in &cuts {
        let before = state::of(&node)?;
        kill(&node, goal, cut)?;
        assert_eq!(shield(&node)?, UP, "killed at {:?}", cut.words);
        assert_eq!(state::reachable(&node)?, Ok(()), "killed at {:?}", cut.words);
        recovered(&node, goal, cut.by, &before)?;
        assert_eq!(shield(&node)?, NONE);
    }
    Ok(())
}

#[test]
fn in_the_middle_of_a_swap_on_disk() -> Result<()> {
    use By::{Apply, Restore};
    const CUTS: [Cut; 6] = [
        cut(&["write", "pointsman.tmp/vport-gre.ko"], Restore),
        cut(&["exchange", "weak-updates/openvswitch"], Apply),
        cut(&["remove the empty directory", "pointsman.tmp"], Restore),
        cut(&["index the modules"], Restore),
        // depmod is at work then
        Cut { words: &["index the modules"], after: 300, by: Restore },
        cut(&["check that the index"], Apply),
    ];
    let node = Node::start()?;
    let before = state::of(&node)?;
    let there = "modules apply --to payload --activate reboot";
    node.agent(there)?;
    let there = Goal { arguments: there, reached: state::of(&node)?, answers: true };
    node.agent("restore")?;
    state::assert_same(&state::of(&node)?, &before, "after restore");
    for cut in &CUTS {
        killed_and_recovered(&node, &there, cut)?;
        node.agent("modules apply --to in-tree --activate reboot")?;
        state::assert_same(&state::of(&node)?, &before, "on the kernel's own set again");
    }

    // the plugin is there, the configuration that names it is not
    node.agent("cni apply")?;
    let cni = Goal { arguments: "cni apply", reached: state::of(&node)?, answers: true };
    for words in [&["write", "10-nsx.conflist"], &["write", "/opt/cni/bin/nsx "]] {
        node.vm.sh("rm /etc/cni/net.d/10-nsx.conflist /opt/cni/bin/nsx")?;
        killed_and_recovered(&node, &cni, &cut(words, Apply))?;
    }
    Ok(())
}

#[test]
fn in_the_middle_of_a_whole_switch() -> Result<()> {
    let node = Node::start()?;
    node.agent("handover apply --to bridge")?;
    let before = state::of(&node)?;
    let goal = Goal { arguments: "apply --profile nsx-ovs", reached: String::new(), answers: true };
    let cuts: [&[&str]; 3] =
        [&["stop the host's"], &["load the module openvswitch"], &["start the host's"]];
    for words in cuts {
        kill(&node, &goal, &cut(words, By::Restore))?;
        assert_eq!(state::reachable(&node)?, Ok(()), "the addresses are on the uplink");
        let status = node.agent("status")?;
        assert!(status.contains(": open, "), "{status}");
        node.agent("restore")?;
        state::assert_same(&state::of(&node)?, &before, "after restore");
        assert_eq!(state::reachable(&node)?, Ok(()));
    }
    Ok(())
}

/// A configuration that became wrong meanwhile must not keep the node from its way back.
#[test]
fn a_wrong_configuration_is_no_obstacle_to_the_way_back() -> Result<()> {
    let node = Node::start()?;
    let before = state::of(&node)?;
    let goal =
        Goal { arguments: "handover apply --to bridge", reached: String::new(), answers: true };
    kill(&node, &goal, &cut(&["make eth1 a port of br-int"], By::Apply))?;
    node.configure("[node]\nuplnk = \"eth1\"\n")?;
    let output = node.try_agent(goal.arguments)?;
    assert_eq!(output.code(), Some(1), "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("RolledBack"), "{}", output.stderr);
    assert!(output.stderr.contains("did you mean `node.uplink`?"), "{}", output.stderr);
    state::assert_same(&state::of(&node)?, &before, "with a wrong configuration");
    assert!(node.agent("status")?.contains("ended, RolledBack"));
    Ok(())
}
