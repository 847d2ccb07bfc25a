//! Killed at each step of the journal, and in between: the next start ends what was begun, in the
//! old or in the new, and the runtime's default network is one of both all the time.

use super::runtime::Watch;
use super::{BIN, CONF, Host, conflist, plugin};
use crate::way_back::{Case, Saboteur, calm};
use pointsman_core::config::Paths;
use pointsman_core::goal::Goal;
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::cni::{Consent, Places, Toward, first_config};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

fn first(host: &Host) -> Option<String> {
    first_config(&host.observe(), &Places::of(&Paths::default())).map(str::to_owned)
}

/// Ends in the middle of a step's announcement, as a kill would: nothing is tidied up.
fn ended_at(case: &Case, goal: &Goal, number: usize) -> bool {
    let mut left = number;
    let saboteur = Saboteur(Mutex::new(move |phase: Phase, _: &str| {
        if matches!(phase, Phase::Applying | Phase::Verifying) {
            assert!(left > 0, "killed");
            left -= 1;
        }
    }));
    catch_unwind(AssertUnwindSafe(|| case.site(&saboteur).carry_out(goal, None))).is_err()
}

/// Every goal ends the same, wherever it was ended first.
fn replayed(goal: &Goal, prepare: &dyn Fn(&Case)) -> usize {
    let whole = {
        let case = Case::new();
        prepare(&case);
        assert_eq!(case.site(&calm()).carry_out(goal, None).unwrap().end, End::Reached);
        case.host.files()
    };
    for number in 0.. {
        let case = Case::new();
        prepare(&case);
        let before = case.host.files();
        if !ended_at(&case, goal, number) {
            return number;
        }
        assert!(case.record().is_open(), "{number}");
        assert!(first(&case.host).is_none_or(|name| name == "10-nsx.conflist"), "{number}");
        let (_, outcome) = case.site(&calm()).recover().unwrap().unwrap();
        let files = case.host.files();
        match outcome.end {
            End::RolledBack => assert_eq!(files, before, "{number}"),
            End::Reached => assert_eq!(files, whole, "{number}"),
            other => panic!("{number}: {other:?} {outcome:?}"),
        }
        let again = case.site(&calm()).carry_out(goal, None).unwrap();
        assert!(matches!(again.end, End::Reached | End::Unchanged), "{number}: {again:?}");
        assert_eq!(case.host.files(), whole, "{number}");
    }
    unreachable!("a range without an end")
}

#[test]
fn ended_at_each_step_of_the_journal_and_replayed() {
    let steps = replayed(&Goal::cni(), &|_| {});
    println!("an update was ended at {steps} places");
    assert!(steps > 10, "{steps}");
    let undo = Goal::Cni { to: Toward::Absent, consent: Consent::default() };
    let steps = replayed(&undo, &|case| {
        assert_eq!(case.apply(&calm()).end, End::Reached);
    });
    println!("an undo was ended at {steps} places");
    assert!(steps > 8, "{steps}");
}

fn agent(words: &str, root: &Path, payload: &Path) -> Command {
    let mut command = Command::new(support::program::pointsman());
    command.args(words.split_whitespace());
    command.arg("--root").arg(root).arg("--payload").arg(payload).args(["--uplink", "nic0"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The real program, killed when so many events were seen in the directories.
#[test]
fn the_program_killed_at_any_change_of_the_directories_is_replayed() {
    let mut killed = 0;
    for events in 1..40 {
        let host = Host::new();
        host.put(&format!("{BIN}/nsx"), 0o755, &plugin("host-local"));
        host.put(&format!("{CONF}/10-nsx.conflist"), 0o640, conflist("4.1.9").as_bytes());
        let (root, payload) = (host.executor.root.path().to_owned(), host.payload());
        let etc_and_opt = |host: &Host| {
            let mut files = host.files();
            files.retain(|path, _| !path.starts_with("/var/"));
            files
        };
        let before = etc_and_opt(&host);
        let watch = Watch::new(&[host.at(BIN), host.at(CONF)]);
        let mut child = agent("cni apply", &root, &payload).spawn().unwrap();
        let mut seen = 0;
        let ended = loop {
            seen += watch.events().len();
            if seen >= events {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
        };
        killed += u32::from(!ended.success());
        assert!(first(&host).as_deref() == Some("10-nsx.conflist"), "after {events}");
        // the next start takes it back or finds it done, and what is asked for is done then
        assert!(agent("cni apply", &root, &payload).status().unwrap().success(), "after {events}");
        let names = |directory: &str| {
            let entries = fs::read_dir(host.at(directory)).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(BIN), ["loopback", "nsx"], "after {events}");
        assert_eq!(names(CONF), ["10-nsx.conflist", "99-loopback.conf"], "after {events}");
        assert!(agent("undo", &root, &payload).status().unwrap().success(), "after {events}");
        assert_eq!(etc_and_opt(&host), before, "after {events}");
        if ended.success() {
            break;
        }
    }
    println!("killed {killed} times");
    assert!(killed > 5, "{killed}");
}
