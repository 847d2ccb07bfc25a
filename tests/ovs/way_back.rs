//! The way back of a handover, and what is found open: barred, or cut short.

use crate::bed::{Bed, THERE};
use pointsman::transaction::Progress;
use pointsman_core::phase::{End, Phase};
use std::sync::Mutex;
use support::ovs::command;

/// Takes the NIC away when it is about to be attached.
struct Thief;

impl Progress for Thief {
    fn tell(&self, phase: Phase, words: &str) {
        if phase == Phase::Applying && words.starts_with("make nic0 a port") {
            command(&["ip", "link", "set", "nic0", "name", "stolen0"]);
        }
    }
}

#[test]
fn a_harbour_that_is_out_of_reach_is_tried_again_at_the_next_start() {
    let bed = Bed::new();
    let outcome = bed.site(&Thief).carry_out(&THERE, None).unwrap();
    assert_eq!(outcome.end, End::Degraded, "{outcome:?}");
    let message = outcome.failure.unwrap().message;
    assert!(message.contains("trying again"), "{message}");
    assert!(bed.record().is_open());
    // still out of reach
    assert_eq!(bed.recover().end, End::Degraded);
    assert!(bed.record().is_open());

    command(&["ip", "link", "set", "stolen0", "name", "nic0"]);
    let outcome = bed.recover();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert!(!bed.record().is_open());
    assert!(bed.state.path().join("disarmed").exists(), "and the dead-man is relieved");
    assert_eq!(bed.owner(), "nic0");
    assert_eq!(bed.ovs.vsctl(&["list-ports", "br-int"]), "");
}

#[test]
fn a_goal_that_is_found_reached_counts_only_with_the_gateway_that_answered_before() {
    let bed = Bed::new();
    bed.go(&THERE);
    assert_eq!(bed.owner(), "br-int");
    bed.interrupt();
    assert_eq!(bed.recover().end, End::Reached);
    assert_eq!(bed.owner(), "br-int");

    bed.interrupt();
    bed.gateway.ip("link set nic0-peer down");
    let outcome = bed.recover();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.reason, "GatewayUnreachable", "{failure:?}");
    assert!(failure.message.contains("192.0.2.1"), "{failure:?}");
    assert_eq!(bed.owner(), "nic0");
}

/// Hides the NIC from vswitchd when it is about to be attached, until the way back is barred.
#[derive(Default)]
struct Hider {
    said: Mutex<Vec<String>>,
}

impl Progress for Hider {
    fn tell(&self, phase: Phase, words: &str) {
        if phase == Phase::Applying && words.starts_with("make nic0 a port") {
            command(&["ip", "link", "set", "nic0", "name", "hidden0"]);
        }
        if phase == Phase::RollingBack {
            if words.contains("trying again") {
                command(&["ip", "link", "set", "hidden0", "name", "nic0"]);
            }
            self.said.lock().unwrap().push(words.to_owned());
        }
    }
}

#[test]
fn the_row_of_a_port_that_vswitchd_could_not_make_goes_by_a_step_of_the_way_back() {
    let bed = Bed::new();
    let hider = Hider::default();
    let outcome = bed.site(&hider).carry_out(&THERE, None).unwrap();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(outcome.failure.unwrap().reason, "OvsPortFailed");
    let said = hider.said.into_inner().unwrap();
    assert!(said.iter().any(|words| words.starts_with("take nic0 out of br-int")), "{said:#?}");
    assert_eq!(bed.owner(), "nic0");
    assert_eq!(bed.ovs.vsctl(&["list-ports", "br-int"]), "");
}
