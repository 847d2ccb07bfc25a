//! What the file system refuses: nothing changes, or it is taken back, and the message names the
//! cause.

use super::{BIN, CONF, Host, conflist, plugin};
use crate::way_back::{Case, Outcome, calm};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pointsman_core::phase::End;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command};

/// In a mount namespace of a thread of its own.
fn apart(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        work();
    });
    thread.join().unwrap();
}

/// A file system over a directory, holding what that held.
fn cover(at: &Path, options: &str, flags: MsFlags) {
    let files: Vec<_> = fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.clone(), fs::read(&path).unwrap(), path.metadata().unwrap().permissions())
        })
        .collect();
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
    for (path, contents, mode) in files {
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, mode).unwrap();
    }
    let none = None::<&str>;
    mount(none, at, none, MsFlags::MS_REMOUNT | flags, Some(options)).unwrap();
}

/// A failure that left everything as it was, and its words.
fn assert_taken_back(case: &Case, before: &super::Files, outcome: Outcome, words: &[&str]) {
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    let told = format!("{}: {}", failure.reason, failure.message);
    println!("{told}");
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
    assert_eq!(case.host.files(), *before);
    assert!(!case.record().is_open());
    let ledger = case.host.executor.store.with_file_name("cni.json");
    assert!(!ledger.exists(), "nothing is Pointsman's own");
}

#[test]
fn no_space_for_the_plugin_changes_nothing() {
    apart(|| {
        let case = Case::new();
        let size = plugin("host-local").len() + plugin("bridge").len() / 2;
        cover(&case.host.at(BIN), &format!("size={}k", size / 1024), MsFlags::empty());
        let before = case.host.files();
        let outcome = case.apply(&calm());
        assert_taken_back(&case, &before, outcome, &["NoSpace", BIN, "No space left on device"]);
    });
}

#[test]
fn no_space_for_the_configuration_takes_the_plugins_back() {
    apart(|| {
        let case = Case::new();
        cover(&case.host.at(CONF), "size=8k", MsFlags::empty());
        fs::write(case.host.at(CONF).join("filler"), [0; 4096]).unwrap();
        let before = case.host.files();
        let outcome = case.apply(&calm());
        let words = ["NoSpace", "10-nsx.conflist", "No space left on device"];
        assert_taken_back(&case, &before, outcome, &words);
    });
}

#[test]
fn a_read_only_directory_is_named() {
    for directory in [BIN, CONF] {
        apart(move || {
            let case = Case::new();
            cover(&case.host.at(directory), "size=64m", MsFlags::MS_RDONLY);
            let before = case.host.files();
            let outcome = case.apply(&calm());
            let words = ["HostReadOnly", directory, "Read-only file system"];
            assert_taken_back(&case, &before, outcome, &words);
        });
    }
}

#[test]
fn a_read_only_directory_with_the_same_plugin_is_no_hindrance() {
    apart(|| {
        let case = Case::new();
        assert_eq!(case.apply(&calm()).end, End::Reached);
        cover(&case.host.at(BIN), "size=64m", MsFlags::MS_RDONLY);
        let older = conflist("4.1.9");
        case.host.put(&format!("{CONF}/10-nsx.conflist"), 0o644, older.as_bytes());
        assert_eq!(case.apply(&calm()).end, End::Reached);
    });
}

/// An immutable file, as long as this lives.
struct Immutable(std::path::PathBuf);

impl Immutable {
    fn new(at: &Path) -> Self {
        chattr("+i", at);
        Self(at.to_owned())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        chattr("-i", &self.0);
    }
}

fn chattr(flag: &str, at: &Path) {
    let status = Command::new("chattr").arg(flag).arg(at).status().unwrap();
    assert!(status.success(), "chattr {flag} {}", at.display());
}

#[test]
fn an_immutable_file_is_named() {
    for path in [format!("{BIN}/nsx"), format!("{CONF}/10-nsx.conflist")] {
        let case = Case::new();
        let before = case.host.files();
        let immutable = Immutable::new(&case.host.at(&path));
        let outcome = case.apply(&calm());
        let words = ["PermissionDenied", path.as_str(), "Operation not permitted", "chattr -i"];
        assert_taken_back(&case, &before, outcome, &words);
        drop(immutable);
        assert_eq!(case.apply(&calm()).end, End::Reached);
    }
}

/// A process that runs a file.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_plugin_that_is_running_is_replaced_under_it() {
    let case = Case::new();
    let nsx = case.host.at(BIN).join("nsx");
    fs::copy("/bin/sleep", &nsx).unwrap();
    let running = Running(Command::new(&nsx).arg("1000").spawn().unwrap());
    let old = nsx.metadata().unwrap().ino();
    // in place nobody could write it
    let busy = fs::OpenOptions::new().write(true).open(&nsx).unwrap_err();
    assert_eq!(busy.kind(), std::io::ErrorKind::ExecutableFileBusy);
    assert_eq!(case.apply(&calm()).end, End::Reached);
    assert_ne!(nsx.metadata().unwrap().ino(), old);
    drop(running);
}

#[test]
fn a_staged_plugin_that_another_process_holds_open_is_waited_for() {
    let host = Host::new();
    host.put(&format!("{BIN}/nsx"), 0o755, &plugin("host-local"));
    let staged = host.at(BIN).join(".nsx.pointsman.tmp");
    std::thread::scope(|scope| {
        // as a child of another thread does between its fork and its exec
        let holder = scope.spawn(move || {
            let held = loop {
                if let Ok(file) = fs::OpenOptions::new().append(true).open(&staged) {
                    break file;
                }
            };
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(held);
        });
        host.install();
        holder.join().unwrap();
    });
}
