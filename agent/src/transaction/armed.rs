//! When the dead-man is armed, and for how long.

use super::way_back::TRIES;
use super::{DEGRADED, LOOK, LOOKS, Outcome, Site, TransactionError, ended_with, touches_network};
use crate::deadman::DeadmanError;
use crate::journal::{Failure, Record};
use pointsman_core::error::chain;
use pointsman_core::phase::Event;
use pointsman_core::plan::Plan;
use pointsman_core::plan::limit::limit;
use std::time::Duration;

/// A way back is known only when it is planned: what the longest has been granted.
const WAY_BACK: Duration = Duration::from_secs(1800);

impl Site<'_> {
    /// Before the first step of a plan that touches the network, after the checkpoint.
    pub(super) fn arm(&self, record: &Record, plan: &Plan) -> Result<(), DeadmanError> {
        if !plan.steps().any(touches_network) {
            return Ok(());
        }
        let confirm = Duration::from_secs(record.settings.switch.confirm_timeout.into());
        let steps: Duration = plan.steps().map(limit).sum();
        let whole = steps + LOOK * LOOKS + confirm * 2;
        self.deadman.arm(self.journal, self.executor, record, whole)?;
        self.journal.note("the dead-man watches");
        Ok(())
    }

    /// Nothing was changed, and nothing is going to be.
    pub(super) fn unarmed(
        &self,
        mut record: Record,
        error: &DeadmanError,
        is_first: bool,
    ) -> Result<Outcome, TransactionError> {
        let message = format!(
            "no dead-man could be armed that would take the way back if this process died: {}; nothing was changed",
            chain(error)
        );
        // a word of its own: a full disk is one more reason, and in the message
        record.failure = Some(Failure { reason: "DeadmanNotArmed".into(), message });
        record.phase = if is_first { record.phase.after(Event::Refused)? } else { DEGRADED };
        self.journal.write(&record)?;
        ended_with(record, vec![])
    }

    /// For a way back too; one that cannot be watched over is taken all the same.
    pub(super) fn guard_way_back(&self, record: &Record) {
        let whole = WAY_BACK * TRIES;
        if self.deadman.is_armed() {
            self.deadman.grant_whole(whole);
            return;
        }
        if let Err(error) = self.deadman.arm(self.journal, self.executor, record, whole) {
            tracing::warn!(error = %chain(&error), "no dead-man watches over the way back");
        }
    }
}
