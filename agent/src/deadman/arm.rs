//! The agent's side: arming before the first change, time for each step, disarming.

use super::host::{self, Place};
use super::{Armed, BINARY, DeadmanError, Files, file, now};
use crate::apply::Executor;
use crate::disk;
use crate::journal::{Journal, Record};
use crate::process::Identity;
use crate::spare;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of the two numbers and what is between and behind them.
const CLOCK: usize = 42;
/// What a step has beyond its own limit: writing down that it begins, a busy machine.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a dead-man that was started may take until it watches.
const BEGINNING: Duration = Duration::from_secs(15);
/// One that has fired kills this process within moments.
const DYING: Duration = Duration::from_secs(60);

/// The dead-man of the transaction that is under way, if it has one.
#[derive(Debug)]
pub struct DeadMan {
    /// What is copied and started.
    program: PathBuf,
    watched: Mutex<Option<Watched>>,
}

impl Default for DeadMan {
    fn default() -> Self {
        Self::of_program("/proc/self/exe")
    }
}

#[derive(Debug)]
struct Watched {
    files: Files,
    clock: File,
    /// When the whole is to be over.
    whole: Duration,
}

impl DeadMan {
    /// Another program than this process's own: a test's is not the agent.
    pub fn of_program(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), watched: Mutex::new(None) }
    }

    /// Copies, writes and starts what is needed, and returns when the dead-man watches.
    /// One of a former arming is relieved by it.
    pub fn arm(
        &self,
        journal: &Journal,
        executor: &Executor,
        record: &Record,
        whole: Duration,
    ) -> Result<(), DeadmanError> {
        let place = Place::of(executor, journal.directory(), &self.program);
        copy_binary(&place)?;
        let files = Files { directory: journal.directory().to_owned(), token: token() };
        files.forget_former();
        let clock = open_clock(&files)?;
        let watched = Watched { files, clock, whole: now() + whole + MARGIN };
        watched.grant(BEGINNING * 3)?;
        let armed = Armed {
            transaction: record.checkpoint.transaction.clone(),
            boot_id: boot_id()?,
            agent: Identity::of(std::process::id()).ok_or_else(|| {
                file("read", Path::new("/proc/self/stat"))(io::ErrorKind::NotFound.into())
            })?,
            root: place.root.clone(),
            state_dir: place.state_dir.clone(),
            ovsdb: record.settings.node.ovsdb.clone(),
        };
        let unwritten =
            |error: serde_json::Error| file("write", &watched.files.armed())(error.into());
        let text = serde_json::to_vec(&armed).map_err(unwritten)?;
        spare::write_whole(&watched.files.armed(), 0o600, &text).map_err(DeadmanError::Disk)?;
        if let Err(error) = begin(&place, &watched.files) {
            // a late one finds nothing to watch
            drop(watched.files.claim("disarmed"));
            watched.files.sweep();
            return Err(error);
        }
        relieve(&watched.files);
        *self.lock() = Some(watched);
        Ok(())
    }

    /// Puts the copy of the program into the state directory, for the host's own init: what
    /// that starts after a boot outlives the image too.
    pub fn put_copy(&self, executor: &Executor, directory: &Path) -> Result<(), DeadmanError> {
        copy_binary(&Place::of(executor, directory, &self.program))
    }

    /// Relieves who watched over an agent that is no more, and removes what is left of those that
    /// are no more either: what they watched over has ended.
    pub fn relieve_former(&self, journal: &Journal) {
        if !self.is_armed() {
            relieve(&Files { directory: journal.directory().to_owned(), token: String::new() });
        }
    }

    /// Whether one watches.
    pub fn is_armed(&self) -> bool {
        self.lock().is_some()
    }

    /// The agent may now be silent for so long.
    pub fn grant(&self, limit: Duration) {
        if let Some(watched) = &*self.lock()
            && let Err(error) = watched.grant(limit)
        {
            // what was granted before still runs
            tracing::warn!(%error, "could not tell the dead-man of progress");
        }
    }

    /// The whole may take so long from now: the way back has begun.
    pub fn grant_whole(&self, limit: Duration) {
        if let Some(watched) = &mut *self.lock() {
            watched.whole = now() + limit + MARGIN;
        }
    }

    /// The host is this process's own again, or never more.
    ///
    /// After [`DeadmanError::Fired`] nothing may be done: it waits to be killed first.
    pub fn disarm(&self) -> Result<(), DeadmanError> {
        let Some(watched) = self.lock().take() else { return Ok(()) };
        let armed = watched.files.armed();
        if watched.files.claim("disarmed").map_err(file("rename", &armed))? {
            watched.files.sweep();
            return Ok(());
        }
        std::thread::sleep(DYING);
        Err(DeadmanError::Fired)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Two numbers of fixed width in place: a rename for each step would cost more than the step.
    fn grant(&self, limit: Duration) -> Result<(), DeadmanError> {
        let step = (now() + limit + MARGIN).as_millis();
        let text = format!("{step:020} {:020}\n", self.whole.as_millis());
        self.clock.write_all_at(text.as_bytes(), 0).map_err(file("write", &self.files.deadline()))
    }
}

/// Another word for each arming.
fn token() -> String {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let word: String = uuid.chars().take_while(|c| *c != '-').collect();
    if word.is_empty() { std::process::id().to_string() } else { word }
}

fn boot_id() -> Result<String, DeadmanError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(file("read", path))?;
    Ok(text.trim().to_owned())
}

fn open_clock(files: &Files) -> Result<File, DeadmanError> {
    let path = files.deadline();
    // with a block, so that a full disk does not stop it; these are no numbers yet
    spare::write_whole(&path, 0o600, &[b'-'; CLOCK]).map_err(DeadmanError::Disk)?;
    OpenOptions::new().write(true).open(&path).map_err(file("open", &path))
}

/// A copy that outlives the image; written only where it differs, and tried each time: one
/// that is what it should be may yet not run, by a mount's or a policy's word.
fn copy_binary(place: &Place) -> Result<(), DeadmanError> {
    let own = place.program.as_path();
    let copy = place.directory.join(BINARY);
    if !is_same(own, &copy) {
        let bytes = fs::read(own).map_err(file("read", own))?;
        disk::write_whole(&copy, 0o755, &bytes).map_err(DeadmanError::Disk)?;
    }
    place.probe().map_err(DeadmanError::Probe)
}

/// Byte by byte, which says as much as two digests and costs less.
fn is_same(a: &Path, b: &Path) -> bool {
    let (Ok(mut a), Ok(mut b)) = (File::open(a), File::open(b)) else { return false };
    let size = |file: &File| file.metadata().map(|meta| meta.len()).ok();
    if size(&a) != size(&b) {
        return false;
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let Ok(length) = a.read(&mut left) else { return false };
        if length == 0 {
            return true;
        }
        let (Some(left), Some(right)) = (left.get(..length), right.get_mut(..length)) else {
            return false;
        };
        if b.read_exact(right).is_err() || left != &*right {
            return false;
        }
    }
}

/// Starts it by each of the host's means until one is heard of.
fn begin(place: &Place, files: &Files) -> Result<(), DeadmanError> {
    let mut tried = Vec::new();
    for means in host::means(place) {
        let started = place.start(means, &files.token);
        let what = match &started {
            Ok(()) => format!("{means} started it"),
            Err(error) => format!("{means}: {}", pointsman_core::error::chain(error)),
        };
        tried.push(what);
        let start = Instant::now();
        while started.is_ok() && start.elapsed() < BEGINNING {
            if files.watching().exists() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Err(DeadmanError::Silent { limit: BEGINNING, tried: tried.join("; ") })
}

/// Takes from former dead-men what they could fire.
fn relieve(files: &Files) {
    for (path, is_armed) in files.others() {
        let done = if is_armed {
            fs::rename(&path, files.directory.join("disarmed"))
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = done {
            tracing::debug!(%error, path = %path.display(), "it is gone already");
        }
    }
}
