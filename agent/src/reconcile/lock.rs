//! Turns with other processes of this program: a person's `apply` or `restore` beside the agent.
//!
//! The lock is held from the look that a decision follows from to the end of what was decided,
//! and given up in between. Whatever was seen in an earlier turn is looked at again; what is
//! remembered of a transaction is forgotten when the journal holds another one.

use super::Workshop;
use crate::journal::{JournalError, Record};
use pointsman_core::decision::Attempt;
use pointsman_core::error::chain;
use pointsman_core::phase::Phase;
use std::time::{Duration, Instant};

/// How the last try for a request ended, for when a transaction that answers none came after it.
const ATTEMPT: &str = "attempt.json";
/// A person's command that only looks or finds nothing to do is done by then.
const PATIENCE: Duration = Duration::from_secs(3);

impl Workshop {
    /// Begins a turn.
    pub(super) fn enter(&self) -> Result<(), JournalError> {
        let start = Instant::now();
        loop {
            match self.journal.look() {
                Err(JournalError::Locked { .. }) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                other => return other,
            }
        }
    }

    /// Begins a turn, if nobody else has one.
    pub(super) fn try_enter(&self) -> bool {
        match self.journal.look() {
            Ok(()) => true,
            Err(JournalError::Locked { .. }) => false,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not take the lock");
                false
            }
        }
    }

    /// Ends a turn; not while a dead-man of this process watches over the node.
    pub(super) fn leave(&self) {
        if !self.deadman.is_armed() {
            self.journal.rest();
        }
    }

    /// How the last try for a request ended: by the record, or by the note that outlives it.
    pub(super) fn last_attempt(&self, record: &Record) -> Option<Attempt> {
        let known = || self.journal.read_note::<Attempt>(ATTEMPT);
        attempt_of(record).or_else(|| if record.request.is_none() { known() } else { None })
    }

    pub(super) fn note_attempt(&self) {
        let noted = self.journal.read().and_then(|record| {
            let attempt = record.as_ref().and_then(attempt_of);
            attempt.map_or(Ok(()), |attempt| self.journal.write_note(ATTEMPT, &attempt))
        });
        if let Err(error) = noted {
            tracing::warn!(error = %chain(&error), "could not note how the try ended");
        }
    }
}

fn attempt_of(record: &Record) -> Option<Attempt> {
    let Phase::Ended(end) = record.phase else { return None };
    let failure = record.failure.clone();
    Some(Attempt {
        request: record.request.clone()?,
        boot_id: record.checkpoint.before.host.boot_id.clone(),
        end,
        reason: failure.as_ref().map_or_else(String::new, |failure| failure.reason.clone()),
        message: failure.map_or_else(String::new, |failure| failure.message),
    })
}
