//! Daemons of Open vSwitch that die or hang at the worst moments of a handover, while nobody
//! starts them again.

use crate::bed::Bed;
use crate::ordered::{Order, give, obey};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::process::Command;
use support::ovs::command;

/// While the port is made, and when everything goes by the bridge already.
const STEPS: [&str; 2] = ["make nic0 a port", "delete 192.0.2.7/24 on nic0"];

/// Nobody starts the daemons again: the scripts that would are hidden from this thread and what
/// it starts. They would start the machine's own, and not these.
fn hide_scripts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    command(&["mount", "--make-rprivate", "/"]);
    command(&["mount", "-t", "tmpfs", "tmpfs", "/usr/share/openvswitch/scripts"]);
}

/// Each case has a node of its own, and they wait side by side.
fn without(test: &str, hangs: bool) {
    obey();
    std::thread::scope(|scope| {
        for daemon in ["ovs-vswitchd", "ovsdb-server"] {
            for step in STEPS {
                scope.spawn(move || case(test, daemon, step, hangs));
            }
        }
    });
}

fn case(test: &str, daemon: &str, step: &str, hangs: bool) {
    hide_scripts();
    let mut bed = Bed::new();
    command(&["ip", "address", "add", "2001:db8::7/64", "dev", "nic0", "nodad"]);
    bed.gateway.ip("address add 2001:db8::1/64 dev nic0-peer nodad");
    bed.lock(false);
    let pid = fs::read_to_string(bed.ovs.directory().join(format!("{daemon}.pid")));
    let order = Order { step: step.into(), daemon: pid.unwrap().trim().parse().unwrap(), hangs };
    let output = give(&order, test, &bed).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let when = format!("{daemon}, {order:?}: {said}");
    assert!(said.contains("end: RolledBack") || said.contains("end: Degraded"), "{when}");
    assert!(said.contains("the addresses are on the uplink"), "{when}");
    assert_eq!(bed.owner(), "nic0", "{when}");
    assert_eq!(command(&["ip", "-4", "-o", "address", "show", "dev", "br-int"]), "", "{when}");
    for target in ["192.0.2.7", "2001:db8::7"] {
        let answered = bed.gateway.run(move || {
            // until one is answered, for so many seconds
            let ping = ["-n", "-q", "-c", "1", "-i", "0.2", "-w", "10", target];
            Command::new("ping").args(ping).output().unwrap().status.success()
        });
        assert!(answered, "{when}: {target} does not answer");
    }
}

#[test]
fn daemons_that_are_killed() {
    without("stopped::daemons_that_are_killed", false);
}

#[test]
fn daemons_that_hang() {
    without("stopped::daemons_that_hang", true);
}
