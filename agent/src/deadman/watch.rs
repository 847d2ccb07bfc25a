//! The dead-man's side until it is disarmed or fires.

use super::fire::{self, Why};
use super::{Armed, DeadmanError, Files, file, now};
use crate::apply::Executor;
use crate::disk;
use crate::process::Process;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How soon the agent's disarming, or its standstill, is noticed; its end is at once.
const LOOK: Duration = Duration::from_millis(100);

/// Watches until there is nothing to watch any more, or until the node is in the harbour.
///
/// `executor` gives the host below `root`, with the settings of the journal's record.
pub fn watch(
    directory: &Path,
    token: &str,
    executor: impl Fn(&crate::journal::Record) -> Executor,
) -> Result<(), DeadmanError> {
    let files = Files { directory: directory.to_owned(), token: token.to_owned() };
    let Some(armed) = read(&files)? else { return Ok(()) };
    let agent = Process::open(armed.agent).map_err(file("watch the agent of", &files.armed()))?;
    disk::write_whole(&files.watching(), 0o600, b"").map_err(DeadmanError::Disk)?;
    let Some(why) = wait(&files, agent.as_ref())? else { return Ok(()) };
    if !files.claim("fired").map_err(file("rename", &files.armed()))? {
        return Ok(());
    }
    tracing::error!(%why, transaction = armed.transaction, "taking the node to the safe harbour");
    if let Err(error) = disk::sync_directory_of(&files.armed()) {
        tracing::warn!(%error, "could not sync that the dead-man fired");
    }
    fire::fire(&files, agent.as_ref(), why, &executor);
    files.sweep();
    Ok(())
}

/// None where it is disarmed already, or was for a former boot.
fn read(files: &Files) -> Result<Option<Armed>, DeadmanError> {
    let path = files.armed();
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file("read", &path)(error)),
    };
    let garbled = |error: serde_json::Error| file("understand", &path)(error.into());
    let armed: Armed = serde_json::from_slice(&text).map_err(garbled)?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Ok((armed.boot_id == boot_id.trim()).then_some(armed))
}

/// None once it is disarmed.
fn wait(files: &Files, agent: Option<&Process>) -> Result<Option<Why>, DeadmanError> {
    let Some(agent) = agent else { return Ok(Some(Why::Died)) };
    loop {
        let ended = agent.has_ended(LOOK).map_err(file("watch the agent of", &files.armed()))?;
        if !files.armed().exists() {
            return Ok(None);
        }
        if ended {
            return Ok(Some(Why::Died));
        }
        if let Some(why) = overdue(files).and_then(|_| {
            // not by the half of a number
            std::thread::sleep(LOOK / 2);
            overdue(files)
        }) {
            return Ok(Some(why));
        }
    }
}

fn overdue(files: &Files) -> Option<Why> {
    let text = fs::read_to_string(files.deadline()).ok()?;
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    let (step, whole): (u64, u64) = (numbers.next()??, numbers.next()??);
    let now = u64::try_from(now().as_millis()).unwrap_or(u64::MAX);
    if now > step {
        Some(Why::Stood)
    } else if now > whole {
        Some(Why::TooLong)
    } else {
        None
    }
}
