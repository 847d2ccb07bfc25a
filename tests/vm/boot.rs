//! Power cuts in the middle of a handover: the node comes back reachable by itself, before
//! anybody could have started the agent.

use crate::state;
use std::time::Duration;
use support::node::{AGENT, CONFIG, NAME, Node};
use support::operator::Operator;
use support::payload;
use support::vm::{Bed, Command, HOST, Output, Result};

/// The agent appends each step here before it takes it.
const PROGRESS: &str = "/var/lib/pointsman/progress";
const THERE: &str = "handover apply --to bridge";
const BACK: &str = "handover apply --to uplink";

/// What of Open vSwitch's database is on disk: its server syncs a row's removal at once, and
/// leaves everything else to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Database {
    Synced,
    Behind,
}

/// Cuts the power at the step of a plan whose line has all these words.
fn cut(node: &Node, arguments: &str, words: &[&str], database: Database) -> Result<()> {
    let plan = node.try_agent(&arguments.replace("apply", "plan"))?.stdout;
    let has = |line: &&str| words.iter().all(|word| line.contains(word));
    let step = plan.lines().filter_map(|line| line.strip_prefix("  - ")).find(has);
    let step = step.unwrap_or_else(|| panic!("no step with {words:?} in:\n{plan}"));
    // the power cut is about the agent's files, not about what the test itself put there
    node.vm.sh("sync")?;
    let when = ["bed", "kill-when", "--cut", "--file", PROGRESS, "--contains", step];
    let synced = (database == Database::Synced).then_some("--synced");
    let agent = ["--", AGENT, "--config", CONFIG].into_iter().chain(arguments.split(' '));
    let command = Command::new(when.into_iter().chain(synced).chain(agent));
    let took = node.vm.cut_by(&command)?;
    println!("{arguments}: power cut before: {step} ({database:?}; up again in {took:.1?})");
    Ok(())
}

/// What the host's own boot scripts run: the copy, which knows no configuration.
fn restore(node: &Node) -> Result<Output> {
    let copy = ["/var/lib/pointsman/pointsman", "restore", "--boot"];
    let output = node.vm.run(&Command::new(copy).within(Duration::from_secs(120)))?;
    print!("  {}", output.stdout);
    assert_eq!(output.code(), Some(0), "{}{}", output.stdout, output.stderr);
    Ok(output)
}

/// Without systemd: whatever the database and the kernel hold after the boot.
#[test]
fn a_host_without_systemd_comes_back_by_its_boot_scripts() -> Result<()> {
    const CUTS: [(&str, &[&str], Database); 6] = [
        (THERE, &["make eth1 a port of br-int"], Database::Behind),
        (BACK, &["add an IPv6 rule"], Database::Behind),
        (THERE, &["delete 10.0.2.16/24 on eth1"], Database::Behind),
        (BACK, &["take eth1 out of br-int"], Database::Synced),
        (THERE, &["delete the IPv4 rule"], Database::Synced),
        (BACK, &["delete 10.0.2.15/24 on br-int"], Database::Behind),
    ];
    let node = Node::start()?;
    let before = node.ip_state()?;
    node.agent(THERE)?;
    let there = node.ip_state()?;
    node.agent(BACK)?;
    for (arguments, words, database) in CUTS {
        cut(&node, arguments, words, database)?;
        node.vm.boot_scripts()?;
        let alone = state::reachable(&node)?;
        // a step goes on until the power is cut: the one that takes the row out may be done
        let row = node.vm.run(&Command::sh("ovs-vsctl --timeout=30 port-to-br eth1"))?;
        let row = row.code() == Some(0);
        println!("  as the host boots: {alone:?}, with the row: {row}");
        // one that is behind may have been written out all the same
        let dark = row && database == Database::Synced;
        assert!(alone.is_err() || !dark, "the row makes it dark");
        restore(&node)?;
        assert_eq!(state::reachable(&node)?, Ok(()));
        assert_eq!(node.ip_state()?, before, "addresses and routes are whole, on the uplink");
        let status = node.agent("status")?;
        assert!(status.contains(": open, ") && status.contains("\nboot "), "{status}");
        // the agent finds what is open, ends it, and goes on
        let output = node.try_agent(arguments)?;
        assert_eq!(output.code(), Some(0), "{}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains("an unfinished transaction was found"), "{}", output.stderr);
        let expected = if arguments == THERE { &there } else { &before };
        assert_eq!(&node.ip_state()?, expected);
        assert_eq!(state::reachable(&node)?, Ok(()));
        println!("  and the agent got there");
    }
    Ok(())
}

/// When the boot's unit had done its work, and when the kubelet began; seconds of uptime.
const ORDER: &str = "
    at() { systemctl show --value -p $2 $1; }
    unit=$(at pointsman-boot ExecMainExitTimestampMonotonic)
    kubelet=$(at kubelet ExecMainStartTimestampMonotonic)
    echo \"unit done at $unit us, kubelet started at $kubelet us\"
    [ $unit -gt 0 ] && [ $unit -lt $kubelet ]
";

/// Waits until the host has started its kubelet.
fn booted(node: &Node) -> Result<()> {
    let script = "until systemctl is-active -q kubelet; do sleep 0.1; done";
    let output = node.vm.run(&Command::sh(script).within(Duration::from_secs(240)))?;
    output.succeeded()
}

/// Plays a kubelet: starts nothing before it has reached the API server.
fn install_kubelet(node: &Node, command: &str) -> Result<()> {
    let unit = "[Unit]\nAfter=network-online.target\nWants=network-online.target\n\
                [Service]\nExecStart=/usr/local/sbin/kubelet\nRestart=always\nRestartSec=1\n\
                [Install]\nWantedBy=multi-user.target\n";
    node.vm.put("/etc/systemd/system/kubelet.service", unit.as_bytes(), 0o644)?;
    node.vm.put("/usr/local/sbin/kubelet", format!("#!/bin/sh\n{command}\n").as_bytes(), 0o755)?;
    node.vm.sh("ln -s ../kubelet.service /etc/systemd/system/multi-user.target.wants/; \
         systemctl daemon-reload; sync")?;
    Ok(())
}

/// With systemd the node's own units do all of it; Open vSwitch is stopped and started by
/// its units too.
#[test]
fn a_host_with_systemd_switches_and_comes_back_by_its_units() -> Result<()> {
    const CUTS: [(&str, &[&str], Database); 3] = [
        (THERE, &["add an IPv6 rule"], Database::Synced),
        (THERE, &["delete 10.0.2.16/24 on eth1"], Database::Synced),
        (BACK, &["take eth1 out of br-int"], Database::Synced),
    ];
    let node = Node::with_systemd()?;
    let addresses = node.ip_state()?;
    let nsx = payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko"));
    let daemons = "systemctl show --value -p MainPID ovsdb-server ovs-vswitchd | xargs";
    let first = node.vm.sh(daemons)?;
    println!("{}", node.agent("apply --profile nsx-ovs")?);
    assert_eq!(node.loaded_build_id()?, nsx);
    assert_eq!(node.ip_state()?, addresses.replace("eth1", "br-int"));
    assert_eq!(state::reachable(&node)?, Ok(()));
    let second = node.vm.sh(daemons)?;
    let both_other = first.split(' ').zip(second.split(' ')).all(|(a, b)| a != b && b != "0");
    assert!(both_other, "{first} / {second}: both run again, under their units");
    assert!(node.agent("apply --profile nsx-ovs")?.contains("nothing to do"));
    let enabled = "systemctl daemon-reload; systemctl is-enabled pointsman-boot || :";
    assert_eq!(node.vm.sh(enabled)?, "enabled");
    let faults = node.vm.sh("systemd-analyze verify pointsman-boot.service 2>&1 || :")?;
    assert_eq!(faults, "");
    println!("{}", node.agent("apply --profile upstream-ovs")?);
    assert_eq!(node.ip_state()?, addresses);
    assert_eq!(node.vm.sh(enabled)?, "", "what is not needed any more is gone");
    install_kubelet(&node, "exec sleep 100000")?;
    node.agent(BACK)?;
    for (arguments, words, database) in CUTS {
        if arguments == BACK {
            node.agent(THERE)?;
        }
        cut(&node, arguments, words, database)?;
        booted(&node)?;
        println!("  {}", node.vm.sh(ORDER)?);
        println!("  {}", node.vm.sh("journalctl -q -o cat -u pointsman-boot")?);
        assert_eq!(state::reachable(&node)?, Ok(()));
        assert_eq!(node.ip_state()?, addresses, "addresses and routes are whole, on the uplink");
        let status = node.agent("status")?;
        assert!(status.contains(": open, ") && status.contains("\nboot "), "{status}");
        let output = node.try_agent(arguments)?;
        assert_eq!(output.code(), Some(0), "{}{}", output.stdout, output.stderr);
        assert_eq!(state::reachable(&node)?, Ok(()));
        if arguments == THERE {
            node.agent(BACK)?;
        }
    }
    Ok(())
}

/// The whole circle: the agent comes only by a kubelet that reaches the API server, which it
/// does by the uplink only.
#[test]
fn a_node_that_lost_power_reports_when_its_kubelet_has_the_api_again() -> Result<()> {
    const LONG: Duration = Duration::from_secs(400);
    let node = Node::with_systemd()?;
    node.configure(
        "[node]\nuplink = \"eth1\"\n[profiles.on-bridge]\nmodules = \"leave\"\ncni = \"leave\"\n\
         addresses = \"bridge\"\n",
    )?;
    let addresses = node.ip_state()?;
    let operator = Operator::start(&node);
    operator.put_secrets(&node, "/etc/bed/serviceaccount")?;
    let port = operator.cluster.port();
    let kubelet = format!(
        "until echo | busybox nc -w 2 {HOST} {port} >/dev/null 2>&1; do sleep 0.2; done\n\
         mkdir -p /var/run/secrets/kubernetes.io\n\
         cp -a /etc/bed/serviceaccount /var/run/secrets/kubernetes.io/\n\
         export NODE_NAME={NAME} KUBERNETES_SERVICE_HOST={HOST} KUBERNETES_SERVICE_PORT={port}\n\
         exec {AGENT} --config {CONFIG} run"
    );
    install_kubelet(&node, &kubelet)?;
    node.vm.sh("systemctl start --no-block kubelet")?;
    operator.ask("on-bridge");
    let step = "delete 10.0.2.16/24 on eth1";
    let when = ["bed", "kill-when", "--cut", "--file", PROGRESS, "--contains", step];
    let command = Command::new(when.into_iter().chain(["--", "sleep", "600"]));
    println!("up again in {:.1?}", node.vm.cut_by(&command)?);
    operator.tell_boot_id(&node);
    let report = operator.wait(&node, LONG, |_, now| println!("{now:?}"))?;
    println!("{}", node.vm.sh(ORDER)?);
    assert_eq!((&*report["state"], &*report["reason"]), ("RolledBack", "Interrupted"));
    assert!(report["message"].contains("before kubelet: the addresses are on eth1"), "{report:#?}");
    assert_eq!(report["address-owner"], "uplink");
    assert_eq!(node.ip_state()?, addresses);

    operator.retry("again");
    let report = operator.wait(&node, LONG, |_, now| println!("{now:?}"))?;
    assert_eq!((&*report["state"], &*report["address-owner"]), ("Done", "bridge"), "{report:#?}");
    // the database's row is on disk by now or it is not: either way the node answers
    println!("up again in {:.1?}", node.vm.reset()?);
    operator.tell_boot_id(&node);
    let report = operator.wait(&node, LONG, |_, now| println!("{now:?}"))?;
    println!("{}", node.vm.sh("journalctl -q -o cat -u pointsman-boot")?);
    assert_eq!((&*report["state"], &*report["address-owner"]), ("Done", "bridge"), "{report:#?}");
    assert_eq!(node.ip_state()?, addresses.replace("eth1", "br-int"));
    assert_eq!(state::reachable(&node)?, Ok(()));
    Ok(())
}

/// What is cut once more while it makes good the first cut.
#[test]
fn a_power_cut_in_the_steps_of_a_boot_is_made_good_by_the_next() -> Result<()> {
    const AGAIN: &str = "addresses on the bridge after a boot";
    let node = Node::start()?;
    let before = node.ip_state()?;
    node.agent(THERE)?;
    let there = node.ip_state()?;
    for step in ["add 10.0.2.16/24 on br-int", "delete 10.0.2.16/24 on eth1"] {
        node.vm.sh("sync")?;
        node.vm.reset()?;
        node.vm.boot_scripts()?;
        assert!(state::reachable(&node)?.is_err(), "the database's row makes it dark");
        let when = ["bed", "kill-when", "--cut", "--file", PROGRESS, "--contains", step, "--"];
        let unit = ["/var/lib/pointsman/pointsman", "restore", "--boot"];
        let took = node.vm.cut_by(&Command::new(when.into_iter().chain(unit)))?;
        println!("power cut in a boot's step: {step} (up again in {took:.1?})");
        node.vm.boot_scripts()?;
        let output = restore(&node)?;
        assert!(output.stdout.starts_with("Freed: "), "{}", output.stdout);
        assert_eq!(state::reachable(&node)?, Ok(()));
        assert_eq!(node.ip_state()?, before, "addresses and routes are whole, on the uplink");
        let status = node.agent("status")?;
        assert!(status.contains(&format!("{AGAIN}: open, ")), "{status}");
        let output = node.try_agent(THERE)?;
        assert_eq!(output.code(), Some(0), "{}{}", output.stdout, output.stderr);
        let found = format!("an unfinished transaction was found ({AGAIN}): RolledBack");
        assert!(output.stderr.contains(&found), "{}", output.stderr);
        assert_eq!(node.ip_state()?, there);
        assert_eq!(state::reachable(&node)?, Ok(()));
    }
    Ok(())
}

/// Cuts the power, and gives what the unit said on the boot after it.
fn comes_back(node: &Node) -> Result<String> {
    node.vm.sh("sync")?;
    println!("up again in {:.1?}", node.vm.reset()?);
    booted(node)?;
    println!("  {}", node.vm.sh(ORDER)?);
    let said = node.vm.sh("journalctl -q -o cat -u pointsman-boot")?;
    println!("  {said}");
    assert_eq!(state::reachable(node)?, Ok(()), "{said}");
    let status = node.agent("status")?;
    assert!(status.starts_with("addresses on the bridge: ended, Reached"), "{status}");
    Ok(said)
}

/// A bridge that would take the addresses and keep them dark does not keep them.
#[test]
fn a_bridge_that_does_not_carry_the_node_after_a_boot_gives_the_uplink_back() -> Result<()> {
    let node = Node::with_systemd()?;
    let addresses = node.ip_state()?;
    install_kubelet(&node, "exec sleep 100000")?;
    node.agent(THERE)?;
    // its flows were in memory
    node.vm
        .sh("ovs-ofctl add-flow br-int actions=NORMAL; ovs-vsctl set-fail-mode br-int secure")?;
    let said = comes_back(&node)?;
    assert!(said.contains("its fail_mode is secure"), "{said}");
    assert_eq!(node.ip_state()?, addresses);

    node.vm.sh("ovs-vsctl del-fail-mode br-int")?;
    node.agent(THERE)?;
    // its routers have fallen silent: nobody tells that the bridge forwards
    node.vm.sh(
        "sed -i 's/gateway 10.0.2.2$/gateway 10.0.2.98/; s/gateway fd77::77$/gateway fd77::98/' \
         /etc/network/interfaces",
    )?;
    let said = comes_back(&node)?;
    assert!(said.contains("no gateway answers out of br-int"), "{said}");
    assert_eq!(node.vm.sh("ls /sys/class/net/eth1/master 2>/dev/null || :")?, "");
    Ok(())
}
