//! What the journal holds when nobody is at work: an open transaction, or one to be taken back.

use super::{Outcome, Site, TransactionError, Way};
use crate::journal::{Failure, Record};
use crate::observe;
use pointsman_core::phase::{End, Event, Phase};

impl Site<'_> {
    /// What an open journal asks for: confirm the goal where it is reached and who answered
    /// before answers, else go back.
    ///
    /// None where no transaction is open.
    pub fn recover(&self) -> Result<Option<(Record, Outcome)>, TransactionError> {
        let Some(mut record) = self.journal.read()?.filter(Record::is_open) else {
            return Ok(None);
        };
        let executor = self.executor.placed(&record.settings);
        let site = Site { executor: &executor, ..*self };
        let outcome = if record.phase != Phase::RollingBack && site.is_reached(&record) {
            record.phase = Phase::Verifying;
            match site.confirm(&record) {
                Ok(()) => {
                    record.phase = record.phase.after(Event::Verified)?;
                    site.close(record.clone(), Event::Closed, vec![])?
                }
                Err(failure) => site.take_back(record.clone(), failure, Event::Failed)?,
            }
        } else {
            let failure = record.failure.clone().unwrap_or_else(|| Failure {
                reason: "Interrupted".into(),
                message: format!(
                    "the agent or the node stopped while {} was under way",
                    record.goal
                ),
            });
            site.take_back(record.clone(), failure, Event::Interrupted)?
        };
        site.tell_of_boot(&record, &outcome);
        Ok(Some((record, outcome)))
    }

    /// Whether the goal of an interrupted transaction is what the host is. Another kernel
    /// than the one it was for proves nothing.
    fn is_reached(&self, record: &Record) -> bool {
        let Ok(host) = observe::host(self.executor) else { return false };
        host.kernel == record.checkpoint.before.host.kernel
            && matches!(self.left_to_do(record, Way::Forth), Ok(plan) if plan.is_empty())
    }

    /// Takes the way back of the journal's transaction, whatever its phase; what a boot began
    /// of its own is taken back first.
    pub fn restore(&self) -> Result<Option<Outcome>, TransactionError> {
        if self.journal.read()?.is_some_and(|record| record.is_open() && record.is_of_boot())
            && let Some((_, outcome)) = self.recover()?
            && outcome.end == End::Degraded
        {
            return Ok(Some(outcome));
        }
        let Some(mut record) = self.journal.read()? else { return Ok(None) };
        if let Some(checkpoint) = record.repaired().map(|former| former.checkpoint.clone()) {
            (record.checkpoint, record.former) = (checkpoint, None);
        }
        record.phase = Phase::Applying;
        let failure = Failure {
            reason: "Restored".into(),
            message: "a person asked for the way back".into(),
        };
        let executor = self.executor.placed(&record.settings);
        let site = Site { executor: &executor, ..*self };
        site.take_back(record, failure, Event::Failed).map(Some)
    }
}
