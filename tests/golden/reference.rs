//! The reference names every key, annotation, state and exit code that the code has.

use pointsman_core::config::keys;
use pointsman_core::keys::{AGENT_KEYS, DESIRED_PROFILE, PREFIX, RETRY};
use pointsman_core::plan::handover::coexistence::{TABLE, acceptable};
use pointsman_core::report::State;

fn reference() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../REFERENCE.md")).unwrap()
}

/// The first cells of the reference's tables.
fn rows(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect()
}

#[test]
fn every_configuration_key_is_in_the_reference() {
    let text = reference();
    for key in keys() {
        assert!(rows(&text).contains(&&*format!("`{}`", key.path)), "{} is missing", key.path);
    }
}

#[test]
fn every_sysctl_that_is_carried_or_left_is_in_the_reference() {
    let text = reference();
    let left_out = pointsman_core::plan::handover::LEFT_OUT_SYSCTLS;
    for sysctl in pointsman_core::plan::handover::SYSCTLS.iter().chain(left_out) {
        let row = format!("| `{}` | {} |", sysctl.key, sysctl.why);
        assert!(text.contains(&row), "{row} is missing");
    }
}

#[test]
fn every_annotation_and_state_is_in_the_reference() {
    let text = reference();
    for key in AGENT_KEYS.iter().chain(&[DESIRED_PROFILE, RETRY]) {
        let key = key.strip_prefix(PREFIX).unwrap();
        assert!(rows(&text).contains(&&*format!("`{key}`")), "{key} is missing");
    }
    let states = [
        State::Done,
        State::Pending,
        State::Working,
        State::RebootRequired,
        State::RolledBack,
        State::Refused,
        State::Degraded,
    ];
    for state in states {
        assert!(rows(&text).contains(&&*format!("`{state}`")), "{state} is missing");
    }
}

#[test]
fn every_exit_code_of_the_usage_is_in_the_reference() {
    let text = reference();
    for code in 0..=5 {
        assert!(rows(&text).contains(&&*code.to_string()), "{code} is missing");
    }
}

#[test]
fn the_table_of_owners_is_in_the_reference_word_for_word() {
    let text = reference();
    let missing: Vec<String> = TABLE
        .iter()
        .map(pointsman_core::plan::handover::coexistence::Row::in_reference)
        .filter(|row| !text.lines().any(|line| line == row))
        .collect();
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
    let table = text.split("## Who else configures the uplink").nth(1).unwrap();
    let found = table.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let found = found.take_while(|line| line.starts_with("| ")).count();
    assert_eq!(found, TABLE.len(), "the reference has more rows than the code");
}

#[test]
fn every_reason_that_can_be_accepted_is_in_the_reference() {
    let text = reference();
    for reason in acceptable() {
        assert!(text.contains(&format!("`{reason}`")), "{reason} is missing");
    }
}
