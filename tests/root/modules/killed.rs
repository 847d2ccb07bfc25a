//! SIGKILL between any two steps of a swap on disk: a whole transaction with its journal, in a
//! process of its own that kills itself there, and another one that finds what is left.

use super::bench::{Bench, Snapshot, differences, mount_memory, parts, without_index};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use pointsman::deadman::DeadMan;
use pointsman::journal::Journal;
use pointsman::transaction::{Progress, Site};
use pointsman_core::config::{Activate, Settings};
use pointsman_core::goal::Goal;
use pointsman_core::model::{Digest, MODULE_STEMS, ModuleState};
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::modules::Target;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use walkdir::WalkDir;

/// For the process that is to die: the bench's directory, the target, before which step.
const ORDERS: &str = "POINTSMAN_TEST_KILLED";

/// Counts steps, and kills this process before one of them.
struct Until {
    step: usize,
    seen: AtomicUsize,
}

impl Progress for Until {
    fn tell(&self, phase: Phase, _: &str) {
        if phase == Phase::Applying && self.seen.fetch_add(1, Ordering::SeqCst) == self.step {
            kill(getpid(), Signal::SIGKILL).unwrap();
        }
    }
}

fn until(step: usize) -> Until {
    Until { step, seen: AtomicUsize::new(0) }
}

struct Case {
    bench: Bench,
    settings: Settings,
    journal: Journal,
    deadman: DeadMan,
}

impl Case {
    fn open(directory: &Path) -> Self {
        let bench = Bench::open(directory);
        let payload = directory.join("payload");
        let settings = format!("payload = \"{}\"\n[node]\nuplink = \"nic0\"\n", payload.display());
        let settings = Settings::parse(&settings).unwrap();
        let journal = Journal::open(&directory.join("state")).unwrap();
        Self { bench, settings, journal, deadman: DeadMan::default() }
    }

    fn site<'a>(&'a self, progress: &'a Until) -> Site<'a> {
        let (settings, executor) = (&self.settings, &self.bench.executor);
        Site {
            settings,
            executor,
            journal: &self.journal,
            progress,
            deadman: &self.deadman,
            api: None,
        }
    }

    fn goal(&self, target: Target) -> Goal {
        Goal::Modules { kernel: self.bench.kernel.clone(), target, activate: Activate::Reboot }
    }

    fn reach(&self, target: Target, progress: &Until) -> End {
        self.site(progress).carry_out(&self.goal(target), None).unwrap().end
    }

    fn snapshot(&self) -> Snapshot {
        without_index(self.bench.snapshot())
    }
}

fn write_manifest(bench: &Bench, directory: &Path) {
    let set = &bench.manifest(&[&bench.kernel]).modules[0];
    let mut text = format!("[[modules]]\nversion = \"vendor\"\nkernels = [\"{}\"]\n", bench.kernel);
    for (stem, file) in &set.files {
        let (path, sha256, id) = (&file.path, file.sha256, &file.build_id);
        writeln!(
            text,
            "[modules.files.{stem}]\npath = \"{path}\"\nsha256 = \"{sha256}\"\nbuild_id = \"{id}\""
        )
        .unwrap();
    }
    fs::write(directory.join("payload/manifest.toml"), text).unwrap();
}

/// Somewhere on the host's disk, whole.
fn assert_users_files_exist(directory: &Path, when: &str) {
    let contents: Vec<Digest> = WalkDir::new(directory)
        .into_iter()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().display().to_string();
            let looked = entry.file_type().is_file()
                && (path.contains("store")
                    || path.contains("openvswitch")
                    || path.contains("/nsx/"));
            looked.then(|| Digest::of(&fs::read(entry.path()).unwrap()))
        })
        .collect();
    for stem in MODULE_STEMS {
        let users = Digest::of(&fs::read(parts().user.join(format!("{stem}.ko"))).unwrap());
        assert!(contents.contains(&users), "{when}: no copy of the user's {stem}");
    }
}

/// The old set or the new one, whole, in the set's place.
fn assert_one_set(bench: &Bench, when: &str) {
    let whose = |stem: &&str| {
        let bytes = fs::read(bench.tree(&format!("weak-updates/openvswitch/{stem}.ko"))).unwrap();
        bytes == fs::read(parts().vendor.join(format!("{stem}.ko"))).unwrap()
    };
    let first = whose(&MODULE_STEMS[0]);
    assert!(MODULE_STEMS.iter().all(|stem| whose(stem) == first), "{when}: a mixed set");
}

/// Runs as the process that dies, if it is asked to.
fn die_as_ordered() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let [directory, target, step] = orders.split('|').collect::<Vec<_>>().try_into().unwrap();
    let target = if target == "Payload" { Target::Payload } else { Target::InTree };
    let end = Case::open(Path::new(directory)).reach(target, &until(step.parse().unwrap()));
    panic!("it was to be killed, and ended: {end:?}");
}

fn killed(directory: &Path, target: Target, step: usize) {
    let orders = format!("{}|{target:?}|{step}", directory.display());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "modules::killed::between_any_two_steps", "--nocapture"]);
    let output = command.env(ORDERS, orders).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "{said}");
}

#[test]
fn between_any_two_steps() {
    die_as_ordered();
    let directory = tempfile::tempdir().unwrap();
    mount_memory(directory.path(), 192);
    let directory = directory.path();
    let bench = Bench::new(directory);
    bench.add_user_set("weak-updates/openvswitch");
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    write_manifest(&bench, directory);
    for (target, state) in
        [(Target::Payload, ModuleState::Nsx), (Target::InTree, ModuleState::User)]
    {
        let other = if target == Target::Payload { Target::InTree } else { Target::Payload };
        let (start, end, steps) = {
            let case = Case::open(directory);
            let start = case.snapshot();
            let counter = until(usize::MAX);
            assert_eq!(case.reach(target, &counter), End::Reached);
            (start, case.snapshot(), counter.seen.load(Ordering::SeqCst))
        };
        assert!(steps > 20, "{steps} steps");
        for step in 0..steps {
            let when = format!("to {target:?}, killed before step {step} of {steps}");
            let back = Case::open(directory).reach(other, &until(usize::MAX));
            assert!(matches!(back, End::Reached | End::Unchanged), "{when}: {back:?}");
            assert_eq!(
                differences(&start, &Case::open(directory).snapshot()),
                Vec::<String>::new(),
                "{when}"
            );
            killed(directory, target, step);
            assert_users_files_exist(directory, &when);
            assert_one_set(&bench, &when);
            let case = Case::open(directory);
            let (_, outcome) = case.site(&until(usize::MAX)).recover().unwrap().unwrap();
            let whole = match outcome.end {
                End::RolledBack => &start,
                End::Reached => &end,
                other => panic!("{when}: {other:?}, {:?}", outcome.failure),
            };
            assert_eq!(differences(whole, &case.snapshot()), Vec::<String>::new(), "{when}");
            assert!(!case.snapshot().keys().any(|path| path.contains("pointsman.tmp")), "{when}");
        }
        let case = Case::open(directory);
        case.reach(target, &until(usize::MAX));
        assert_eq!(bench.set(), state);
    }
}
