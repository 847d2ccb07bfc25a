//! `restore --boot`: its own steps have a way back on disk, and a dead-man, as any others.

use crate::bed::{Bed, Nobody, THERE};
use pointsman::boot::{Boot, BootNote, Did, NOTE};
use pointsman::journal::{Record, read_note};
use pointsman_core::goal::Goal;
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::handover::Owner;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A machine that is shared takes its time.
const LONG: Duration = Duration::from_secs(120);

/// A node whose bridge owned the address, after a boot; and the last record.
fn rebooted() -> (Bed, Record) {
    let bed = Bed::new();
    bed.go(&THERE);
    bed.reboot();
    let last = bed.record();
    (bed, last)
}

fn come_up(bed: &Bed) -> BootNote {
    Boot { last: &bed.record(), site: bed.site(&Nobody) }.come_up().unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The real program, as the unit runs it.
fn restore_boot(bed: &Bed) -> Child {
    let state = bed.state.path().to_str().unwrap();
    let arguments = ["restore", "--boot", "--state-dir", state];
    Command::new(&bed.program).args(arguments).spawn().unwrap()
}

#[test]
fn a_bridge_that_is_well_gets_the_address_and_the_last_transaction_stays_the_last() {
    let (bed, last) = rebooted();
    let note = come_up(&bed);
    assert_eq!(note.did, Did::Completed, "{note:?}");
    assert_eq!(bed.owner(), "br-int");
    assert_eq!(bed.record(), last);
    assert!(bed.state.path().join("disarmed").exists(), "a dead-man has watched");
    // somebody asks for the way back of what was done before the boot
    let outcome = bed.site(&Nobody).restore().unwrap().unwrap();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(bed.owner(), "nic0");
}

#[test]
fn a_bridge_by_which_no_gateway_answers_does_not_keep_the_address() {
    let (bed, last) = rebooted();
    bed.silence();
    let note = come_up(&bed);
    assert_eq!(note.did, Did::Freed, "{note:?}");
    assert!(note.message.contains("no gateway answers out of br-int"), "{note:?}");
    assert_eq!(bed.owner(), "nic0");
    assert_eq!(bed.ovs.vsctl(&["list-ports", "br-int"]), "");
    assert_eq!(bed.record(), last);
}

#[test]
fn what_a_boot_began_is_made_good_whoever_finds_it() {
    let (mut bed, last) = rebooted();
    bed.silence();
    bed.lock(false);
    let mut program = restore_boot(&bed);
    // it asks the gateway for a while
    until("a record of its own", || {
        assert_eq!(program.try_wait().unwrap(), None, "it ended without one");
        bed.record().is_open()
    });
    let own = bed.record();
    assert_eq!(own.goal, Goal::Boot { to: Owner::Bridge });
    assert_eq!(own.former.as_deref(), Some(&last));
    let on_nic = own.checkpoint.before.network.addresses.iter().filter(|a| a.link == "nic0");
    assert!(on_nic.map(|a| a.ip.to_string()).any(|ip| ip == "192.0.2.7"), "{own:?}");
    until("the address on the bridge", || bed.owner() == "br-int");
    program.kill().unwrap();
    program.wait().unwrap();

    // nobody comes: neither a kubelet nor a second boot
    until("the dead-man", || bed.state.path().join("fired").exists());
    until("the address on the NIC", || bed.owner() == "nic0");
    until("the NIC to be free", || bed.ovs.vsctl(&["list-ports", "br-int"]).is_empty());
    let found = bed.record();
    assert_eq!((found.phase, found.former.as_deref()), (Phase::RollingBack, Some(&last)));

    // one more boot leaves it to the agent, and the agent ends it
    until("the lock", || restore_boot(&bed).wait().unwrap().success());
    assert_eq!(bed.record().former.as_deref(), Some(&last));
    let note: BootNote = read_note(bed.state.path(), NOTE).unwrap();
    assert_eq!(note.did, Did::Freed, "{note:?}");
    bed.lock(true);
    let outcome = bed.recover();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(outcome.failure.unwrap().reason, "DeadmanFired");
    assert_eq!(bed.record(), last);
    assert_eq!(bed.owner(), "nic0");
    let note: BootNote = read_note(bed.state.path(), NOTE).unwrap();
    assert!(
        note.message.ends_with("the agent saw to the rest: the addresses are on nic0"),
        "{note:?}"
    );
    // and what was asked for before the boot can be reached again
    bed.gateway.ip("address add 192.0.2.1/24 dev nic0-peer");
    bed.go(&THERE);
}
