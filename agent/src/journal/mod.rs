//! The write-ahead record of a transaction, and the lock that makes it the only one.
//!
//! One file, `journal.json` in the state directory, holds the transaction that is
//! open or was last: its goal, the whole checkpoint, its phase. It is on disk
//! before the first step and is never removed, only replaced by the next one.

mod error;
mod lock;

pub use error::JournalError;

use crate::disk::{self, HostRoot};
use crate::spare;
use lock::{lock_of, sign};
use nix::fcntl::Flock;
use pointsman_core::checkpoint::Checkpoint;
use pointsman_core::config::Settings;
use pointsman_core::goal::Goal;
use pointsman_core::phase::{End, Phase};
use pointsman_core::probe::Baseline;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The version of [`Record`]'s written form that this code writes.
pub const JOURNAL_SCHEMA: u32 = 1;

/// Larger journals are not ours: ten thousand routes stay far below.
const LIMIT: u64 = 256 << 20;

/// How the dead-man signs the lock.
const DEADMAN: &str = "the dead-man, ";
/// How an agent that follows its Node signs the lock, while it looks and has nothing to do.
const LOOKING: &str = "an agent that looks, ";
/// Between taking the lock and signing it.
const SIGNING: Duration = Duration::from_millis(250);
/// So long a look may take, two daemons that hang included.
const LOOK: Duration = Duration::from_secs(60);
/// One try to reach the safe harbour with every daemon hanging; between two it gives up the lock.
const DEADMAN_WORKS: Duration = Duration::from_secs(120);

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`JOURNAL_SCHEMA`] of the writer.
    pub schema: u32,
    /// What it is for.
    pub goal: Goal,
    /// The settings it began with: a later edit changes no running transaction.
    pub settings: Settings,
    /// The request that it answers, verbatim; none when a person started it by hand.
    pub request: Option<String>,
    /// The way back.
    pub checkpoint: Checkpoint,
    /// Where it is.
    pub phase: Phase,
    /// Why it did not reach its goal.
    pub failure: Option<Failure>,
    /// Who has to answer when the goal is reached. None where nobody was asked before: after
    /// a boot, and in a record of an older version.
    #[serde(default)]
    pub baseline: Option<Baseline>,
    /// The one that was last before this one, and has ended. When a boot's own transaction ends,
    /// or one for another kernel than the running one, or one that mends a part, it is the last
    /// one again. When a repair of what it had reached succeeds, its checkpoint is what is gone
    /// back to again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Box<Self>>,
}

/// Why a transaction did not reach its goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable `CamelCase` word.
    pub reason: String,
    /// Plain words.
    pub message: String,
}

impl Record {
    /// Whether somebody has to finish it or take it back.
    pub fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }

    /// Whether it is a boot's own.
    pub fn is_of_boot(&self) -> bool {
        matches!(self.goal, Goal::Boot { .. })
    }

    /// Where Open vSwitch had its database when this one began.
    pub fn database_file(&self) -> Option<&str> {
        self.checkpoint.before.ovs.file.as_deref()
    }

    /// What this one repairs, where it is a repair.
    pub fn repaired(&self) -> Option<&Self> {
        self.former.as_deref().filter(|former| former.goal.is_same(&self.goal))
    }

    /// What the journal holds instead of this one when it has ended. A repair that failed stays,
    /// with what it repaired: it went back to what was there right before it.
    fn at_rest(&self) -> Option<Self> {
        if let Some(former) = self.repaired() {
            let (checkpoint, former) = (former.checkpoint.clone(), None);
            let reached = self.phase == Phase::Ended(End::Reached);
            return reached.then(|| Self { checkpoint, former, ..self.clone() });
        }
        // half of a tree is no state to forget the way back from
        let stays = !self.is_of_boot() && self.phase == Phase::Ended(End::Degraded);
        self.former.as_deref().filter(|_| !stays).cloned()
    }
}

/// The state directory, locked for this process.
///
/// An agent that follows its Node gives the lock up [between two looks](Self::rest), so that
/// another process of this program can have its turn. Whoever has the lock looks first: nothing
/// that was seen without it, or in an earlier turn, is acted on.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    /// The zero of the progress file's clock.
    began: Mutex<Instant>,
    /// None between two turns.
    lock: Mutex<Option<Flock<File>>>,
}

impl Journal {
    /// Makes the directory where needed and takes its lock, without waiting for anybody who is
    /// at work; only for the dead-man, which is on its way to the safe harbour, and for an agent
    /// that does no more than look, it is waited.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let start = Instant::now();
        let waits = |holder: &str| {
            // whoever has just taken it may not have signed yet
            let passing = [("", SIGNING), (DEADMAN, DEADMAN_WORKS), (LOOKING, LOOK)];
            passing.iter().any(|(who, limit)| holder.starts_with(who) && start.elapsed() < *limit)
        };
        loop {
            match Self::open_as(directory, "") {
                Err(JournalError::Locked { holder }) if waits(&holder) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    /// Gives the lock up until the next [`Self::look`].
    pub fn rest(&self) {
        *self.locked() = None;
    }

    /// Takes the lock again, without waiting, to look; nothing where this process has it.
    pub fn look(&self) -> Result<(), JournalError> {
        let mut lock = self.locked();
        if lock.is_none() {
            *lock = Some(lock_of(&self.directory, LOOKING)?);
        }
        Ok(())
    }

    /// Tells whoever wants the lock that more than a look goes on.
    pub fn work(&self) {
        let lock = self.locked();
        let signed = lock.as_ref().map_or(Ok(()), |lock| sign(lock, ""));
        if let Err(error) = signed {
            tracing::warn!(%error, "could not sign the lock");
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Flock<File>>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for the dead-man, without waiting for anybody.
    pub(crate) fn open_as_deadman(directory: &Path) -> Result<Self, JournalError> {
        Self::open_as(directory, DEADMAN)
    }

    fn open_as(directory: &Path, who: &str) -> Result<Self, JournalError> {
        let at = |source| JournalError::Open { path: directory.to_owned(), source };
        for path in [directory, &directory.join("store")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)?;
        }
        let lock = Mutex::new(Some(lock_of(directory, who)?));
        let began = Mutex::new(Instant::now());
        Ok(Self { directory: directory.to_owned(), began, lock })
    }

    /// The open or last transaction; none on a host that never had one.
    pub fn read(&self) -> Result<Option<Record>, JournalError> {
        read(&self.directory)
    }

    /// Replaces the record, on disk before this returns. One that has ended and was upon
    /// [another](Record::former) leaves what that asks for.
    pub fn write(&self, record: &Record) -> Result<(), JournalError> {
        let at_rest = if record.is_open() { None } else { record.at_rest() };
        let record = at_rest.as_ref().unwrap_or(record);
        let path = self.directory.join("journal.json");
        let text = serde_json::to_vec(record)
            .map_err(|source| JournalError::Garbled { path: path.clone(), source })?;
        spare::write_whole(&path, 0o600, &text)
            .map_err(|source| JournalError::Disk { path, source })?;
        // not a condition: a way back is taken without a record too
        if let Err(error) = spare::keep(&self.directory, text.len()) {
            tracing::warn!(%error, "no room could be kept for what a full disk has to take");
        }
        Ok(())
    }

    /// Starts the list of a transaction's steps anew; its clock starts with `began`.
    ///
    /// Each line of the file `progress` is `MILLISECONDS NUMBER WORDS`: when it was
    /// noted, by the monotonic clock since the transaction began (since the journal was
    /// opened, where an earlier process began it), the step that begins, counted from
    /// zero in the plan of its leg, and its words. Between the steps the number is `-`;
    /// `took MILLISECONDS ms: TITLE` is noted so behind each stage of the plan.
    pub fn begin_progress(&self, began: Instant) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = began;
        self.progress(true, "");
    }

    /// Notes that a step begins. For the person who reads it: nothing depends on it.
    pub fn note_step(&self, number: usize, words: &str) {
        self.note_line(&number.to_string(), words);
    }

    /// Notes what happens between the steps.
    pub fn note(&self, words: &str) {
        self.note_line("-", words);
    }

    fn note_line(&self, number: &str, words: &str) {
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        self.progress(false, &format!("{} {number} {words}\n", began.elapsed().as_millis()));
    }

    fn progress(&self, anew: bool, line: &str) {
        let path = self.directory.join("progress");
        let mut options = OpenOptions::new();
        options.create(true).mode(0o600);
        if anew {
            options.write(true).truncate(true);
        } else {
            options.append(true);
        }
        let noted = options.open(&path).and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = noted {
            tracing::warn!(%error, path = %path.display(), "could not note the step");
        }
    }

    /// The state directory, as this process sees it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where contents of replaced files are kept.
    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// A small file of the state directory, as JSON; none where it is absent.
    pub fn read_note<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        read_note(&self.directory, name)
    }

    /// Replaces a small file of the state directory.
    pub fn write_note<T: Serialize>(&self, name: &str, value: &T) -> Result<(), JournalError> {
        let path = self.directory.join(name);
        let text = serde_json::to_vec(value)
            .map_err(|source| JournalError::Garbled { path: path.clone(), source })?;
        disk::write_whole(&path, 0o600, &text).map_err(|source| JournalError::Disk { path, source })
    }
}

/// A small file of the state directory, as JSON, read without the lock; none where it is absent.
pub fn read_note<T: serde::de::DeserializeOwned>(directory: &Path, name: &str) -> Option<T> {
    let bytes = HostRoot::new(directory).read(&format!("/{name}"), LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The open or last transaction, read without the lock: for `status`.
pub fn read(directory: &Path) -> Result<Option<Record>, JournalError> {
    let path = directory.join("journal.json");
    let bytes = match HostRoot::new(directory).read("/journal.json", LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(source) => return Err(JournalError::Disk { path, source }),
    };
    let garbled = |source| JournalError::Garbled { path: path.clone(), source };
    let Version { schema } = serde_json::from_slice(&bytes).map_err(garbled)?;
    if schema > JOURNAL_SCHEMA {
        return Err(JournalError::Newer { path, found: schema });
    }
    serde_json::from_slice(&bytes).map_err(garbled).map(Some)
}

/// What every version of a record begins with.
#[derive(Deserialize)]
struct Version {
    schema: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_core::error::{Reasoned as _, chain};

    #[test]
    fn only_one_process_holds_the_journal_and_the_other_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path()).unwrap();
        let error = Journal::open(dir.path()).unwrap_err();
        assert_eq!(error.reason(), "AnotherAgentAtWork");
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        assert!(Journal::open(dir.path()).is_ok());
    }

    #[test]
    fn the_dead_man_is_waited_for_and_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let deadman = Journal::open_as_deadman(dir.path()).unwrap();
        let error = Journal::open_as_deadman(dir.path()).unwrap_err();
        assert!(error.to_string().contains("(the dead-man, pid "), "{error}");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Journal::open(dir.path()));
            std::thread::sleep(Duration::from_millis(300));
            assert!(!waiting.is_finished());
            drop(deadman);
            assert!(waiting.join().unwrap().is_ok());
        });
    }

    #[test]
    fn an_agent_that_looks_is_waited_for_and_one_at_work_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Journal::open(dir.path()).unwrap();
        agent.rest();
        let other = Journal::open(dir.path()).unwrap();
        let error = agent.look().unwrap_err();
        assert_eq!(error.reason(), "AnotherAgentAtWork", "{error}");
        drop(other);
        agent.look().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Journal::open(dir.path()).map(drop));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!waiting.is_finished());
            agent.rest();
            assert!(waiting.join().unwrap().is_ok());
        });
        agent.look().unwrap();
        agent.work();
        let error = Journal::open(dir.path()).unwrap_err();
        assert_eq!(error.reason(), "AnotherAgentAtWork", "{error}");
    }

    #[test]
    fn progress_says_when_each_step_began_since_the_transaction_did() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        journal.note("of the one before");
        journal.begin_progress(Instant::now().checked_sub(Duration::from_secs(5)).unwrap());
        journal.note("the way back is on disk");
        journal.note_step(0, "stop Open vSwitch");
        let text = fs::read_to_string(dir.path().join("progress")).unwrap();
        let columns: Vec<Vec<&str>> =
            text.lines().map(|line| line.splitn(3, ' ').collect()).collect();
        let words: Vec<&[&str]> = columns.iter().map(|line| &line[1..]).collect();
        assert_eq!(words, [["-", "the way back is on disk"], ["0", "stop Open vSwitch"]], "{text}");
        for line in &columns {
            let ms: u64 = line[0].parse().unwrap();
            assert!((5000..65_000).contains(&ms), "{text}");
        }
    }

    #[test]
    fn a_garbled_or_newer_journal_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        for (text, reason) in [
            ("", "cannot be read"),
            ("{\"schema\":1}", "cannot be read"),
            ("{\"schema\":99}", "has the version 99"),
        ] {
            disk::write_whole(&dir.path().join("journal.json"), 0o600, text.as_bytes()).unwrap();
            let error = read(dir.path()).unwrap_err();
            assert!(chain(&error).contains(reason), "{}", chain(&error));
            assert_eq!(error.reason(), "JournalUnreadable");
        }
    }
}
