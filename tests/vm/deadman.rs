//! The way back that does not depend on the agent: it is killed, stopped or removed with its
//! pod in the middle of a handover and never started again, and the node is reachable.

use crate::state;
use std::time::{Duration, Instant};
use support::node::{AGENT, CONFIG, Node, PROFILES};
use support::vm::{Command, Result};

const PROGRESS: &str = "/var/lib/pointsman/progress";
const THERE: &str = "handover apply --to bridge";
const BACK: &str = "handover apply --to uplink";
/// A step of an agent that stands still, and its margin, on an emulated machine.
const LONG: Duration = Duration::from_secs(180);

/// Runs the agent until a step of its plan that has these words begins, and then sends it
/// SIGKILL, or SIGSTOP; its process id in the latter case.
fn cut(
    node: &Node,
    prefix: &[&str],
    arguments: &str,
    words: &[&str],
    stop: bool,
) -> Result<String> {
    let plan = node.try_agent(&arguments.replace("apply", "plan"))?.stdout;
    let has = |line: &&str| words.iter().all(|word| line.contains(word));
    let step = plan.lines().filter_map(|line| line.strip_prefix("  - ")).find(has);
    let step = step.unwrap_or_else(|| panic!("no step with {words:?} in:\n{plan}"));
    // on one processor with the agent and before it: no other one's pace decides where it is
    let mut argv = vec!["taskset", "1", "chrt", "--reset-on-fork", "--fifo", "50"];
    argv.extend(["bed", "kill-when", "--file", PROGRESS, "--contains", step]);
    argv.extend(stop.then_some("--stop"));
    argv.push("--");
    argv.extend(prefix);
    if prefix.is_empty() {
        argv.push(AGENT);
    }
    argv.extend(["--config", CONFIG]);
    argv.extend(arguments.split(' '));
    let output = node.vm.run(&Command::new(argv).within(Duration::from_secs(240)))?;
    output.succeeded()?;
    println!("{arguments}: {}", output.stdout.trim_end());
    let pid = output.stdout.trim().to_owned();
    if stop {
        node.vm.sh(&format!("grep '^State:.*stopped' /proc/{pid}/status"))?;
    }
    Ok(pid)
}

/// Waits until no dead-man runs.
fn until_it_is_over(node: &Node) -> Result<()> {
    let start = Instant::now();
    while !node.vm.sh("pgrep -f '[p]ointsman deadman' || :")?.is_empty() {
        let progress = || node.vm.sh(&format!("tail -n 20 {PROGRESS}"));
        assert!(start.elapsed() < LONG, "a dead-man still runs:\n{}", progress()?);
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("  over after {:.1?}", start.elapsed());
    Ok(())
}

/// What a dead-man that was armed, and is gone, leaves behind.
fn files(node: &Node) -> Result<String> {
    node.vm.sh("cd /var/lib/pointsman && ls -d armed* deadline* watching* disarmed fired 2>/dev/null | sort | tr '\\n' ' ' || :")
}

/// The node after the dead-man fired, and after the next start of the agent.
fn in_the_harbour(node: &Node, home: &str, reason: &str) -> Result<()> {
    until_it_is_over(node)?;
    let owner = node.vm.sh("ip -o address show scope global | grep -c ' eth1 '")?;
    let says = || node.vm.sh(&format!("tail -n 30 {PROGRESS}; ip address; ovs-dpctl show"));
    assert_eq!(owner, "3", "{}", says()?);
    assert_eq!(state::reachable(node)?, Ok(()), "{}", says()?);
    assert_eq!(node.vm.sh("ls /sys/class/net/eth1/master 2>/dev/null || :")?, "", "{}", says()?);
    assert_eq!(files(node)?.trim(), "fired");
    let status = node.agent("status")?;
    assert!(status.contains(": open, RollingBack"), "{status}");
    assert!(status.contains(&format!("{reason}: ")), "{status}");
    if !home.is_empty() {
        assert_eq!(node.ip_state()?, home);
    }
    Ok(())
}

/// The next start takes the rest of the way back, and says why.
fn the_next_start(node: &Node, before: &str) -> Result<()> {
    let output = node.try_agent("handover apply --to uplink")?;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("): RolledBack"), "{said}");
    until_it_is_over(node)?;
    if !before.is_empty() {
        state::assert_same(&state::of(node)?, before, "after the next start");
    }
    assert_eq!(state::reachable(node)?, Ok(()));
    Ok(())
}

#[test]
fn an_agent_that_ends_or_stands_still_is_no_reason_to_be_dark() -> Result<()> {
    let node = Node::start()?;
    let home = node.ip_state()?;

    // confirmed: nothing is left running, and nothing is done twice
    node.agent(THERE)?;
    until_it_is_over(&node)?;
    assert_eq!(files(&node)?.trim(), "disarmed");
    node.vm.sh("cmp /var/lib/pointsman/pointsman /usr/local/bin/pointsman")?;
    let there = state::of(&node)?;
    assert!(node.agent(THERE)?.contains("nothing to do"));
    node.agent(BACK)?;
    let at_home = state::of(&node)?;

    // killed, in either direction, and not started again
    cut(&node, &[], THERE, &["delete 10.0.2.16/24 on eth1"], false)?;
    in_the_harbour(&node, &home, "DeadmanFired")?;
    the_next_start(&node, &at_home)?;
    node.agent(THERE)?;
    cut(&node, &[], BACK, &["take eth1 out of br-int"], false)?;
    in_the_harbour(&node, &home, "DeadmanFired")?;
    let restored = node.agent("restore")?;
    assert!(restored.contains("RolledBack: "), "{restored}");
    state::assert_same(&state::of(&node)?, &there, "after restore");
    node.agent(BACK)?;

    // stopped with the lock in its hand
    let agent = cut(&node, &[], THERE, &["delete 10.0.2.16/24 on eth1"], true)?;
    in_the_harbour(&node, &home, "DeadmanFired")?;
    node.vm.sh(&format!("[ ! -e /proc/{agent}/exe ]"))?;
    the_next_start(&node, &at_home)?;

    // a pod, with its namespaces and its cgroup, removed without grace
    node.vm.sh("mkdir -p /sys/fs/cgroup/pod /host")?;
    let pod = "echo $$ >/sys/fs/cgroup/pod/cgroup.procs && exec unshare --mount --uts --ipc --cgroup \
         sh -c 'busybox mount -o rbind / /host && exec \"$@\"' pod \"$@\"";
    let prefix = ["sh", "-c", pod, "pod", AGENT, "--root", "/host"];
    cut(&node, &prefix, THERE, &["delete 10.0.2.16/24 on eth1"], true)?;
    let members = node.vm.sh("cat /sys/fs/cgroup/pod/cgroup.procs | wc -l")?;
    assert_eq!(members, "1", "the agent, and not the dead-man");
    node.vm.sh("echo 1 >/sys/fs/cgroup/pod/cgroup.kill")?;
    in_the_harbour(&node, &home, "DeadmanFired")?;
    the_next_start(&node, &at_home)?;
    Ok(())
}

#[test]
fn neither_is_open_vswitch_that_ends_or_stands_still() -> Result<()> {
    let node = Node::start()?;
    let home = node.ip_state()?;
    for (daemon, signal) in [
        ("ovs-vswitchd", "KILL"),
        ("ovs-vswitchd", "STOP"),
        ("ovsdb-server", "KILL"),
        ("ovsdb-server", "STOP"),
    ] {
        println!("{daemon}, SIG{signal}");
        let agent = cut(&node, &[], THERE, &["delete 10.0.2.16/24 on eth1"], true)?;
        let pids = node.vm.sh(&format!("pidof {daemon}"))?;
        node.vm.sh(&format!("kill -{signal} {pids}; kill -KILL {agent}"))?;
        in_the_harbour(&node, &home, "DeadmanFired")?;
        // whoever starts it now, it does not take the uplink again: a person here, and where it
        // hung and was ended the rest of the way back, since it ran before
        if signal == "KILL" {
            node.vm.sh("/usr/share/openvswitch/scripts/ovs-ctl stop >/dev/null; /usr/share/openvswitch/scripts/ovs-ctl start >/dev/null")?;
        } else {
            the_next_start(&node, "")?;
            node.vm.sh("pidof ovs-vswitchd && pidof ovsdb-server")?;
        }
        node.vm.sh("ovs-vsctl --timeout=30 list-ports br-int | grep -c eth1 | grep -qx 0")?;
        assert_eq!(state::reachable(&node)?, Ok(()), "{daemon} started again");
        if signal == "KILL" {
            the_next_start(&node, "")?;
        }
        assert_eq!(node.ip_state()?, home);
    }
    Ok(())
}

#[test]
fn who_answered_before_has_to_answer_after() -> Result<()> {
    let node = Node::start()?;
    let home = state::of(&node)?;
    node.configure(&format!("{PROFILES}confirm_timeout = \"3s\"\n"))?;

    // the gateway falls silent while the addresses move
    let agent = cut(&node, &[], THERE, &["make eth1 a port of br-int"], true)?;
    node.vm.sh("ip -n peer link set out0 down")?;
    node.vm
        .sh(&format!("kill -CONT {agent}; while [ -e /proc/{agent}/exe ]; do sleep 0.1; done"))?;
    let status = node.agent("status")?;
    assert!(status.contains("ended, RolledBack"), "{status}");
    assert!(
        status.contains("GatewayUnreachable: the gateway 10.0.2.2 answered before"),
        "{status}"
    );
    state::assert_same(&state::of(&node)?, &home, "after a silent gateway");
    until_it_is_over(&node)?;

    // one that is silent before proves nothing, and is no obstacle
    node.agent(THERE)?;
    node.agent(BACK)?;
    node.vm.sh("ip -n peer link set out0 up")?;

    // a bridge of somebody else whose flows let nothing pass, and then all
    node.vm.sh(
        "ovs-vsctl --timeout=30 del-br br-int -- add-br br-int -- set-fail-mode br-int secure",
    )?;
    let before = state::of(&node)?;
    let output = node.try_agent(THERE)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code(), Some(4), "{said}");
    assert!(output.stdout.contains("RolledBack: SecureBridgeSilent: "), "{said}");
    let sends = |line: &str| line.starts_with("Applying: ") && line.contains("before main");
    assert!(!output.stderr.lines().any(sends), "nothing was sent by the bridge: {said}");
    state::assert_same(&state::of(&node)?, &before, "a bridge that forwards nothing");
    assert_eq!(state::reachable(&node)?, Ok(()));
    node.vm.sh("ovs-ofctl add-flow br-int actions=NORMAL")?;
    node.agent(THERE)?;
    assert_eq!(state::reachable(&node)?, Ok(()));
    Ok(())
}

/// Where the host has systemd, it is systemd that starts the dead-man: in no cgroup of the
/// agent's, and gone with all its traces when it is over.
#[test]
fn a_unit_of_the_hosts_systemd() -> Result<()> {
    const UNITS: &str = "systemctl list-units --all --plain --no-legend 'pointsman-deadman-*' | awk '{ print $1, $3 }'";
    let node = Node::with_systemd()?;
    let home = node.ip_state()?;
    let before = state::of(&node)?;

    let agent = cut(&node, &[], THERE, &["delete 10.0.2.16/24 on eth1"], true)?;
    let units = node.vm.sh(UNITS)?;
    let unit = units.strip_suffix(" active").unwrap_or_else(|| panic!("{units}"));
    let cgroup = node
        .vm
        .sh(&format!("cat /proc/$(systemctl show --property=MainPID --value {unit})/cgroup"))?;
    assert!(cgroup.ends_with(&format!("/system.slice/{unit}")), "{cgroup}");
    // the agent's whole service is killed, with all that it has started
    let own = node.vm.sh(&format!("cut -d: -f3 /proc/{agent}/cgroup"))?;
    assert_ne!(cgroup, format!("0::{own}"));
    node.vm.sh(&format!("kill -KILL {agent}"))?;
    in_the_harbour(&node, &home, "DeadmanFired")?;
    assert_eq!(node.vm.sh(UNITS)?, "", "nothing of it is left");
    the_next_start(&node, &before)?;

    // relieved in peace, it leaves nothing either
    node.agent(THERE)?;
    until_it_is_over(&node)?;
    assert_eq!(files(&node)?.trim(), "disarmed");
    assert_eq!(node.vm.sh(UNITS)?, "");
    Ok(())
}
