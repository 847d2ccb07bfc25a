use super::*;
use crate::apply::Executor;
use crate::disk::{self, HostRoot};
use crate::host_command::HostTools;
use std::fs;
use std::process::{Child, Command};
use std::sync::Barrier;
use std::time::Instant;

fn files(directory: &Path) -> Files {
    Files { directory: directory.to_owned(), token: "t".into() }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "plays the agent")]
fn agent() -> Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

fn arm(files: &Files, agent: &Child, boot_id: &str) {
    let armed = Armed {
        transaction: "a".into(),
        boot_id: boot_id.into(),
        agent: Identity::of(agent.id()).unwrap(),
        root: "/".into(),
        state_dir: files.directory.to_string_lossy().into_owned(),
        ovsdb: String::new(),
    };
    deadline(files, Duration::from_secs(1000), Duration::from_secs(1000));
    disk::write_whole(&files.armed(), 0o600, &serde_json::to_vec(&armed).unwrap()).unwrap();
}

fn deadline(files: &Files, step: Duration, whole: Duration) {
    let at = |limit: Duration| (now() + limit).as_millis();
    let text = format!("{:020} {:020}\n", at(step), at(whole));
    disk::write_whole(&files.deadline(), 0o600, text.as_bytes()).unwrap();
}

/// There is no journal here, so one that fires has nothing to take back.
fn watch_it(files: &Files) -> Result<(), DeadmanError> {
    watch(&files.directory, &files.token, |_| unreachable!("no record"))
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "lock" && name != "store");
    names.sort();
    names
}

#[test]
fn of_agent_and_dead_man_exactly_one_owns_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    for _ in 0..2000 {
        fs::File::create(files.armed()).unwrap();
        let barrier = Barrier::new(2);
        let claim = |as_what: &'static str| {
            barrier.wait();
            files.claim(as_what).unwrap()
        };
        let [agent, deadman] = std::thread::scope(|scope| {
            let deadman = scope.spawn(|| claim("fired"));
            [claim("disarmed"), deadman.join().unwrap()]
        });
        assert!(agent != deadman, "agent: {agent}, dead-man: {deadman}");
        let there = ["disarmed", "fired"].map(|name| dir.path().join(name).exists());
        assert_eq!(there, [agent, deadman]);
        assert!(!files.armed().exists());
        fs::remove_file(dir.path().join(if agent { "disarmed" } else { "fired" })).unwrap();
    }
}

#[test]
fn an_agent_that_dies_or_stands_still_fires_it_and_one_that_disarms_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let begin = |limits: [u64; 2]| {
        let child = agent();
        arm(&files, &child, &boot_id());
        let [step, whole] = limits.map(Duration::from_secs);
        deadline(&files, step, whole);
        child
    };
    std::thread::scope(|scope| {
        let mut child = begin([1000, 1000]);
        let watching = scope.spawn(|| watch_it(&files));
        until("it to watch", || files.watching().exists());
        assert!(!watching.is_finished());
        child.kill().unwrap();
        watching.join().unwrap().unwrap();
        assert_eq!(names(dir.path()), ["fired"]);
        child.wait().unwrap();

        for limits in [[1, 1000], [1000, 1]] {
            let mut child = begin(limits);
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
            scope.spawn(|| watch_it(&files)).join().unwrap().unwrap();
            assert_eq!(names(dir.path()), ["fired"]);
            assert_eq!(
                std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()),
                Some(9)
            );
        }

        let mut child = begin([1000, 1000]);
        let watching = scope.spawn(|| watch_it(&files));
        until("it to watch", || files.watching().exists());
        assert!(files.claim("disarmed").unwrap());
        watching.join().unwrap().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "the agent lives");
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn what_is_disarmed_or_of_another_boot_is_not_watched() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    watch_it(&files).unwrap();
    let mut child = agent();
    arm(&files, &child, "another");
    watch_it(&files).unwrap();
    assert_eq!(names(dir.path()), ["armed.t", "deadline.t"]);
    // who was too late to be watched is found dead
    child.kill().unwrap();
    child.wait().unwrap();
    let armed = fs::read_to_string(files.armed()).unwrap().replace("another", &boot_id());
    disk::write_whole(&files.armed(), 0o600, armed.as_bytes()).unwrap();
    watch_it(&files).unwrap();
    assert_eq!(names(dir.path()), ["fired"]);
    disk::write_whole(&files.armed(), 0o600, b"{").unwrap();
    assert_eq!(watch_it(&files).unwrap_err().reason(), "DeadmanNotArmed");
}

/// What a full disk, a `noexec` mount or a policy makes of a copy may pass, or may not.
#[test]
fn a_copy_that_did_not_run_once_is_tried_again_before_it_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (program, broken) = (dir.path().join("program"), dir.path().join("broken"));
    let script = format!("#!/bin/sh\n[ ! -e {} ]\n", broken.display());
    disk::write_whole(&program, 0o755, script.as_bytes()).unwrap();
    disk::write_whole(&broken, 0o600, b"").unwrap();
    let executor = Executor {
        root: HostRoot::new("/"),
        tools: HostTools::Here,
        payload: PathBuf::new(),
        store: PathBuf::new(),
        ovsdb: PathBuf::new(),
    };
    let state = tempfile::tempdir().unwrap();
    let deadman = DeadMan::of_program(&program);
    for _ in 0..2 {
        let error = deadman.put_copy(&executor, state.path()).unwrap_err();
        assert!(matches!(error, DeadmanError::Probe(_)), "{error:?}");
    }
    fs::remove_file(&broken).unwrap();
    deadman.put_copy(&executor, state.path()).unwrap();
    assert_eq!(fs::read(state.path().join(BINARY)).unwrap(), script.as_bytes());
}

/// Another thread's child holds what this process writes until it executes its own program.
#[test]
fn a_copy_that_is_still_busy_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (program, state) = (dir.path().join("program"), tempfile::tempdir().unwrap());
    disk::write_whole(&program, 0o755, b"#!/bin/true\n").unwrap();
    fs::copy(&program, state.path().join(BINARY)).unwrap();
    let executor = Executor {
        root: HostRoot::new("/"),
        tools: HostTools::Here,
        payload: PathBuf::new(),
        store: PathBuf::new(),
        ovsdb: PathBuf::new(),
    };
    let busy = fs::OpenOptions::new().append(true).open(state.path().join(BINARY)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(busy);
        });
        DeadMan::of_program(&program).put_copy(&executor, state.path()).unwrap();
    });
}
