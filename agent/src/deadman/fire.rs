//! What the dead-man does once it owns the host: end the agent, and go to the safe harbour.

use super::{DeadMan, FIRED, Files};
use crate::apply::Executor;
use crate::journal::{Failure, Journal, JournalError, Record};
use crate::process::Process;
use crate::transaction::{Progress, Site};
use pointsman_core::error::chain;
use pointsman_core::phase::Phase;
use std::fmt;
use std::time::Duration;

/// An agent in the middle of a system call ends when that does.
const DYING: Duration = Duration::from_secs(30);
/// Between two tries, the first time; then longer.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why it fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The agent ended without disarming.
    Died,
    /// The agent is there and did not finish its step.
    Stood,
    /// The agent goes on and does not come to an end.
    TooLong,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Died => "the agent ended in the middle of its work",
            Self::Stood => "the agent made no progress for longer than its step may take",
            Self::TooLong => "the agent did not come to an end in time",
        })
    }
}

/// Nobody listens.
struct Logged;

impl Progress for Logged {
    fn tell(&self, phase: Phase, words: &str) {
        tracing::info!(%phase, "{words}");
    }
}

/// What is to be done next.
enum Next {
    /// The harbour is reached, or somebody else has the node in hand.
    Nothing,
    /// Try again after a pause.
    Again,
}

/// Tries until the harbour is reached, or until somebody else works on it: the lock is
/// given up between the tries, and an agent that starts takes the way back itself.
pub(super) fn fire(
    files: &Files,
    agent: Option<&Process>,
    why: Why,
    executor: &impl Fn(&Record) -> Executor,
) {
    if let Some(agent) = agent {
        end(agent);
    }
    let mut pause = PAUSE;
    while matches!(attempt(files, why, executor), Next::Again) {
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        if files.others().iter().any(|(_, is_armed)| *is_armed) {
            tracing::info!("another transaction has a dead-man of its own");
            return;
        }
    }
}

fn end(agent: &Process) {
    let ended = agent.kill().and_then(|()| agent.has_ended(DYING));
    if !matches!(ended, Ok(true)) {
        tracing::error!(?ended, "the agent was killed and does not end; it holds the lock");
    }
}

fn attempt(files: &Files, why: Why, executor: &impl Fn(&Record) -> Executor) -> Next {
    let journal = match Journal::open_as_deadman(&files.directory) {
        Ok(journal) => journal,
        Err(JournalError::Locked { holder }) => {
            tracing::warn!(holder, "somebody else holds the lock");
            return Next::Again;
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "could not open the journal");
            return Next::Again;
        }
    };
    let mut record = match journal.read() {
        Ok(Some(record)) if record.is_open() => record,
        Ok(_) => return Next::Nothing,
        Err(error) => {
            tracing::error!(error = %chain(&error), "could not read the journal");
            return Next::Again;
        }
    };
    note(&journal, &mut record, why);
    let executor = executor(&record);
    let site = Site {
        settings: &record.settings,
        executor: &executor,
        journal: &journal,
        progress: &Logged,
        deadman: &DeadMan::default(),
        api: None,
    };
    match site.try_harbour(&record) {
        Ok(()) => {
            journal.note("the dead-man took the node to the safe harbour");
            Next::Nothing
        }
        Err(failure) => {
            let Failure { reason, message } = failure;
            tracing::error!(reason, message, "the safe harbour is not reached yet");
            journal.note(&format!("the safe harbour is not reached: {reason}: {message}"));
            Next::Again
        }
    }
}

/// Whoever finds the record takes the rest of the way back. A first cause stays what it was.
fn note(journal: &Journal, record: &mut Record, why: Why) {
    if record.phase == Phase::RollingBack && record.failure.is_some() {
        return;
    }
    record.phase = Phase::RollingBack;
    record.failure = Some(Failure {
        reason: FIRED.into(),
        message: format!(
            "{why} while {} was under way, and the dead-man took the addresses to the uplink",
            record.goal
        ),
    });
    journal.note(&format!("the dead-man has fired: {why}"));
    if let Err(error) = journal.write(record) {
        tracing::error!(error = %chain(&error), "could not note that the dead-man fired");
    }
}
