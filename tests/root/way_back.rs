//! The way back of a whole transaction, when things get into its way: on a scratch root with
//! real files, disturbed at a step of the test's choice.

use crate::cni::{BIN, CONF, Host, conflist, plugin};
use pointsman::deadman::DeadMan;
use pointsman::journal::{Journal, Record};
pub use pointsman::transaction::Outcome;
use pointsman::transaction::{Progress, Site};
use pointsman_core::config::Settings;
use pointsman_core::goal::Goal;
use pointsman_core::phase::{End, Phase};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

/// Told of every step; does what the test wants at each.
pub struct Saboteur<F>(pub Mutex<F>);

impl<F: FnMut(Phase, &str) + Send> Progress for Saboteur<F> {
    fn tell(&self, phase: Phase, words: &str) {
        self.0.lock().unwrap()(phase, words);
    }
}

/// Nobody disturbs.
pub fn calm() -> Saboteur<impl FnMut(Phase, &str) + Send> {
    Saboteur(Mutex::new(|_: Phase, _: &str| {}))
}

/// A directory that nothing can be written to or deleted from, until it is given back.
struct Barred {
    path: PathBuf,
}

impl Barred {
    fn aside(&self) -> PathBuf {
        self.path.with_extension("aside")
    }

    fn bar(&self) {
        fs::rename(&self.path, self.aside()).unwrap();
        fs::write(&self.path, "where a directory was").unwrap();
    }

    fn is_barred(&self) -> bool {
        self.aside().exists()
    }

    fn give_back(&self) {
        fs::remove_file(&self.path).unwrap();
        fs::rename(self.aside(), &self.path).unwrap();
    }
}

fn writes_conflist(words: &str) -> bool {
    words.starts_with("write ") && words.contains("10-nsx.conflist")
}

/// A host with an older CNI, its settings and its journal.
pub struct Case {
    pub host: Host,
    settings: Settings,
    pub journal: Journal,
    /// Never armed: nothing here touches the network.
    deadman: DeadMan,
}

impl Case {
    pub fn new() -> Self {
        let host = Host::new();
        host.put(&format!("{BIN}/nsx"), 0o755, &plugin("host-local"));
        host.put(&format!("{CONF}/10-nsx.conflist"), 0o640, conflist("4.1.9").as_bytes());
        let payload = host.payload();
        let settings = format!("payload = \"{}\"\n[node]\nuplink = \"nic0\"\n", payload.display());
        let settings = Settings::parse(&settings).unwrap();
        let journal = Journal::open(&payload.with_file_name("state")).unwrap();
        Self { host, settings, journal, deadman: DeadMan::default() }
    }

    fn barred(&self, directory: &str) -> Barred {
        Barred { path: self.host.at(directory) }
    }

    pub fn site<'a>(&'a self, progress: &'a (dyn Progress + Sync)) -> Site<'a> {
        Site {
            settings: &self.settings,
            executor: &self.host.executor,
            journal: &self.journal,
            progress,
            deadman: &self.deadman,
            api: None,
        }
    }

    pub fn apply(&self, progress: &(dyn Progress + Sync)) -> Outcome {
        self.site(progress).carry_out(&Goal::cni(), None).unwrap()
    }

    pub fn record(&self) -> Record {
        self.journal.read().unwrap().unwrap()
    }
}

#[test]
fn what_is_in_the_way_back_for_a_moment_only_is_waited_for() {
    let case = Case::new();
    let before = case.host.files();
    let (conf, bin) = (case.barred(CONF), case.barred(BIN));
    let mut tries = 0;
    let tried = &mut tries;
    let saboteur = Saboteur(Mutex::new(|phase: Phase, words: &str| match phase {
        // the binaries are in, the configuration cannot follow
        Phase::Applying if writes_conflist(words) => conf.bar(),
        Phase::RollingBack if words.contains("trying again") => {
            *tried += 1;
            if conf.is_barred() {
                conf.give_back();
                bin.bar();
            } else {
                bin.give_back();
            }
        }
        _ => {}
    }));
    let outcome = case.apply(&saboteur);
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(tries, 2);
    assert_eq!(case.host.files(), before);
    assert!(!case.record().is_open());
}

#[test]
fn a_state_that_nobody_wanted_is_no_checkpoint_for_the_next_try() {
    let case = Case::new();
    let before = case.host.files();
    let (conf, bin) = (case.barred(CONF), case.barred(BIN));
    let saboteur = Saboteur(Mutex::new(|phase: Phase, words: &str| {
        if phase == Phase::Applying && writes_conflist(words) {
            conf.bar();
            bin.bar();
        }
    }));
    let outcome = case.apply(&saboteur);
    assert_eq!(outcome.end, End::Degraded, "{outcome:?}");
    let message = outcome.failure.unwrap().message;
    assert!(message.contains("and the way back failed"), "{message}");
    let first = case.record();
    assert_eq!(first.phase, Phase::Ended(End::Degraded));
    bin.give_back();
    conf.give_back();
    assert_ne!(case.host.files(), before, "half of the new version is there");

    // the person repairs it and tries again: the way back leads to where all began
    assert_eq!(case.apply(&calm()).end, End::Reached);
    assert_eq!(case.record().checkpoint, first.checkpoint);
    let outcome = case.site(&calm()).restore().unwrap().unwrap();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(case.host.files(), before);
}

#[test]
fn a_goal_reached_under_another_kernel_is_not_taken_for_reached() {
    for (kernel, end) in [(None, End::Reached), (Some("5.4.0-other"), End::RolledBack)] {
        let case = Case::new();
        let before = case.host.files();
        assert_eq!(case.apply(&calm()).end, End::Reached);
        // as if the agent had been killed between its last step and its second look
        let mut record = case.record();
        record.phase = Phase::Verifying;
        if let Some(kernel) = kernel {
            record.checkpoint.before.host.kernel = kernel.into();
        }
        case.journal.write(&record).unwrap();
        let (_, outcome) = case.site(&calm()).recover().unwrap().unwrap();
        assert_eq!(outcome.end, end, "{outcome:?}");
        assert_eq!(case.host.files() == before, end == End::RolledBack);
    }
}

/// Somebody changes what was reached; much later the agent puts it right.
fn drift(case: &Case) {
    case.host.put(&format!("{CONF}/10-nsx.conflist"), 0o600, conflist("4.0").as_bytes());
}

#[test]
fn a_repair_leaves_the_baseline_what_it_was() {
    let case = Case::new();
    let before = case.host.files();
    assert_eq!(case.apply(&calm()).end, End::Reached);
    let first = case.record();
    let reached = case.host.files();
    for _ in 0..2 {
        drift(&case);
        assert_eq!(case.apply(&calm()).end, End::Reached);
        assert_eq!(case.host.files(), reached);
        let record = case.record();
        assert_eq!(record.checkpoint, first.checkpoint);
        assert_eq!(record.former, None);
    }
    let outcome = case.site(&calm()).restore().unwrap().unwrap();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(case.host.files(), before);
}

#[test]
fn a_repair_that_fails_goes_back_to_what_it_found_and_the_baseline_stays() {
    let case = Case::new();
    let before = case.host.files();
    assert_eq!(case.apply(&calm()).end, End::Reached);
    let first = case.record();
    drift(&case);
    let drifted = case.host.files();
    let conf = case.barred(CONF);
    let saboteur = Saboteur(Mutex::new(|phase: Phase, words: &str| match phase {
        Phase::Applying if writes_conflist(words) => conf.bar(),
        Phase::RollingBack if conf.is_barred() => conf.give_back(),
        _ => {}
    }));
    assert_eq!(case.apply(&saboteur).end, End::RolledBack);
    assert_eq!(case.host.files(), drifted);
    assert_eq!(case.record().repaired().map(|record| &record.checkpoint), Some(&first.checkpoint));

    // the next one has the same baseline, and so has a person who asks for the way back
    assert_eq!(case.apply(&calm()).end, End::Reached);
    assert_eq!(case.record().checkpoint, first.checkpoint);
    drift(&case);
    assert_eq!(case.site(&calm()).restore().unwrap().unwrap().end, End::RolledBack);
    assert_eq!(case.host.files(), before);
}
