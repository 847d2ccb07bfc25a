//! Who can prove a move: what is said where nobody can, and when that is a reason not to move.

use crate::bed::{Bed, Nobody, THERE};
use pointsman_core::phase::End;
use serde_json::Value;
use std::process::Command;
use support::ovs::command;

fn moved(bed: &Bed) -> String {
    let outcome = bed.site(&Nobody).carry_out(&THERE, None).unwrap();
    assert_eq!((outcome.end, bed.owner().as_str()), (End::Reached, "br-int"), "{outcome:?}");
    outcome.notes.join("\n")
}

#[track_caller]
fn holds(text: &str, all: &[&str]) {
    for words in all {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

#[test]
fn a_gateway_that_answers_needs_no_word() {
    let notes = moved(&Bed::new());
    assert!(!notes.contains("prove"), "{notes}");
}

#[test]
fn a_gateway_that_was_silent_before_is_named() {
    let bed = Bed::new();
    bed.silence();
    let said = ["192.0.2.1 did not answer ARP or ND out of nic0", "nobody outside of this node"];
    holds(&moved(&bed), &said);
}

#[test]
fn a_node_without_a_gateway_is_told() {
    let bed = Bed::new();
    command(&["ip", "route", "del", "default"]);
    holds(&moved(&bed), &["no gateway of a default route", "nobody outside of this node"]);
}

/// As in a pod without `CAP_NET_RAW`: the program itself, with all but that.
fn without_raw_sockets(bed: &Bed, to: &str) -> (Option<i32>, Value) {
    let ovsdb = format!("unix:{}", bed.ovs.socket().display());
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"])
        .arg(&bed.program)
        .args(["handover", "apply", "--json", "--to", to, "--uplink", "nic0", "--bridge", "br-int"])
        .args(["--accept", "UplinkNotPersistent", "--ovsdb", &ovsdb, "--state-dir"])
        .arg(bed.state.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), json)
}

#[test]
fn a_move_that_nobody_could_prove_is_refused_and_its_way_back_is_not() {
    let mut bed = Bed::new();
    let before = command(&["ip", "address", "show"]);
    bed.lock(false);
    let (code, refused) = without_raw_sockets(&bed, "bridge");
    assert_eq!((code, refused["end"].as_str()), (Some(3), Some("Refused")), "{refused}");
    assert_eq!(refused["failure"]["reason"], "ProbeFailed", "{refused}");
    let said = ["out of nic0", "Operation not permitted", "nothing was changed", "CAP_NET_RAW"];
    holds(refused["failure"]["message"].as_str().unwrap(), &said);
    assert_eq!(command(&["ip", "address", "show"]), before);
    assert!(!bed.state.path().join("journal.json").exists());
    bed.lock(true);
    bed.go(&THERE);

    bed.lock(false);
    let (code, back) = without_raw_sockets(&bed, "uplink");
    assert_eq!((code, back["end"].as_str()), (Some(0), Some("Reached")), "{back}");
    assert_eq!(bed.owner(), "nic0");
    let notes = back["notes"].to_string();
    holds(&notes, &["no gateway could be asked out of br-int", "were not announced out of nic0"]);
}
