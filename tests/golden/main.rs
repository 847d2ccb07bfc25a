//! A case is a folder: a configuration, a host as `pointsman observe` saved it, a command,
//! and what the command prints. A report from the field becomes a case by being put there.
//!
//! `command` holds the arguments; `expected` the output and, in its last line, the exit
//! code. A changed plan is a failing case until `scripts/golden-update` is run and the
//! difference reviewed.

mod cni;
mod decision;
mod reference;

use pointsman_core::model::Observed;
use pointsman_core::plan::{Plan, simulate};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cases");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases");
    cases
}

fn run(case: &Path, observed: &Path, json: bool) -> (String, i32) {
    let words = fs::read_to_string(case.join("command")).unwrap();
    let mut command = Command::new(support::program::pointsman());
    command.args(words.split_whitespace()).arg("--observed").arg(observed);
    if case.join("config.toml").exists() {
        command.arg("--config").arg(case.join("config.toml"));
    }
    if json {
        command.arg("--json");
    }
    let output = command.output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    if output.status.code() == Some(1) {
        let words = String::from_utf8(output.stderr).unwrap();
        // where the repository lies is no part of what is printed
        text.push_str(&words.replace(&format!("{}/", case.display()), ""));
    }
    (text, output.status.code().expect("ended by a signal"))
}

#[test]
fn every_case_prints_what_it_should() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (text, code) = run(&case, &case.join("observed.json"), false);
        let found = format!("{text}exit: {code}\n");
        let path = case.join("expected");
        if std::env::var_os("GOLDEN_UPDATE").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- found\n{found}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_plan_leads_to_where_nothing_is_left_to_do() {
    let mut planned = 0;
    for case in cases() {
        let path = case.join("observed.json");
        let (text, code) = run(&case, &path, true);
        if code != 2 {
            continue;
        }
        planned += 1;
        let plan: Plan = serde_json::from_str(&text).unwrap();
        let mut observed: Observed =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for step in plan.steps() {
            simulate(&mut observed, step);
        }
        let after = tempfile::NamedTempFile::new().unwrap();
        fs::write(after.path(), serde_json::to_vec(&observed).unwrap()).unwrap();
        let (text, code) = run(&case, after.path(), false);
        assert_eq!(code, 0, "{}:\n{text}", case.display());
    }
    assert!(planned > 0, "no case had anything to do");
}

/// Notes, and the fates of the CNI files.
fn is_aside(line: &str) -> bool {
    line.starts_with("note: ") || line.starts_with("file: ")
}

/// `--json` prints the plan that is carried out, and each step's words beside it.
#[test]
fn the_words_of_a_plan_are_the_same_in_json() {
    let mut compared = 0;
    for case in cases() {
        let path = case.join("observed.json");
        let (json, code) = run(&case, &path, true);
        if code != 2 {
            continue;
        }
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let stages = value["stages"].as_array().unwrap();
        let mut lines = Vec::new();
        for stage in stages {
            lines.push(stage["title"].as_str().unwrap().to_owned());
            let steps = stage["steps"].as_array().unwrap();
            lines.extend(
                steps.iter().map(|step| format!("  - {}", step["words"].as_str().unwrap())),
            );
            compared += steps.len();
        }
        let (text, _) = run(&case, &path, false);
        let told: Vec<&str> = text.lines().filter(|line| !is_aside(line)).collect();
        assert_eq!(lines, told, "{}", case.display());
    }
    assert!(compared > 20, "{compared}");
}
