//! No room on the disk when Open vSwitch is lost: the way to the uplink is taken, and is watched
//! over, all the same.

use crate::bed::{Bed, THERE};
use crate::executor;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pointsman::apply::Executor;
use pointsman::deadman::DeadMan;
use pointsman::journal::{Failure, Journal};
use pointsman::observe;
use pointsman::transaction::{Progress, Site};
use pointsman_core::phase::Phase;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// State directory and socket for the process that plays the agent.
const STATE: &str = "POINTSMAN_TEST_STATE";
const SOCKET: &str = "POINTSMAN_TEST_SOCKET";
/// How the agent ends.
const DIED: i32 = 9;
/// A machine that is shared takes its time.
const LONG: Duration = Duration::from_secs(120);

/// Dies when the uplink is about to be freed.
struct Dying;

impl Progress for Dying {
    fn tell(&self, phase: Phase, words: &str) {
        if phase == Phase::RollingBack && words.starts_with("take nic0 out of") {
            std::process::exit(DIED);
        }
    }
}

/// The guard's last deed, in a process of its own that does not live to see its end.
fn retreat(state: &Path, socket: &Path) {
    let journal = Journal::open(state).unwrap();
    let lost = journal.read().unwrap().unwrap();
    let settings = lost.settings.clone();
    let executor = Executor { store: state.join("store"), ..executor(socket) };
    let before = observe::observe(&executor, &settings).unwrap();
    let deadman = DeadMan::of_program(state.join("../program"));
    let site = Site {
        settings: &settings,
        executor: &executor,
        journal: &journal,
        progress: &Dying,
        deadman: &deadman,
        api: None,
    };
    let failure = Failure { reason: "OvsLost".into(), message: "for a test".into() };
    let outcome = site.retreat(lost, before, failure);
    panic!("it came to an end: {outcome:?}");
}

/// A small file system that nobody else sees.
fn small(at: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("test"), at, Some("tmpfs"), MsFlags::empty(), Some("size=8m")).unwrap();
}

/// The product, but for one thing: what it detaches stays in this mount namespace, where the
/// small file system is.
fn program(directory: &Path) -> PathBuf {
    let product = support::program::release("pointsman").unwrap();
    let (path, product) = (directory.join("program"), product.display());
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = detach ]; then\n  shift\n  setsid \"$@\" >/dev/null 2>&1 </dev/null &\n  exit 0\nfi\nexec {product} \"$@\"\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn fill(directory: &Path) {
    let mut file = fs::File::create(directory.join("filler")).unwrap();
    for size in [1 << 16, 4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    let error = fs::write(directory.join("one-more"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_retreat_on_a_full_disk_has_a_record_and_a_dead_man_that_finishes_it() {
    if let (Some(state), Some(socket)) = (std::env::var_os(STATE), std::env::var_os(SOCKET)) {
        return retreat(Path::new(&state), Path::new(&socket));
    }
    let room = tempfile::tempdir().unwrap();
    small(room.path());
    let state = tempfile::tempdir_in(room.path()).unwrap();
    let mut bed = Bed::new().kept_in(state, &program(room.path()));
    bed.go(&THERE);
    assert_eq!(bed.owner(), "br-int");
    bed.lock(false);
    fill(room.path());

    let name = std::thread::current().name().unwrap().to_owned();
    let agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .envs([(STATE, bed.state.path()), (SOCKET, &bed.ovs.socket())])
        .output()
        .unwrap();
    assert_eq!(agent.status.code(), Some(DIED), "{agent:?}");
    until("the dead-man", || bed.state.path().join("fired").exists());
    until("the address on the NIC", || bed.owner() == "nic0");
    until("the NIC to be free", || bed.ovs.vsctl(&["list-ports", "br-int"]).is_empty());
    let record = bed.record();
    assert_eq!(record.phase, Phase::RollingBack);
    assert_eq!(record.failure.unwrap().reason, "OvsLost");
}
