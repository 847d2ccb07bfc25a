//! The way to the harbour from a goal that was reached and is lost: no step of ours failed, Open
//! vSwitch did.

use super::{Outcome, Site, TransactionError, Way};
use crate::journal::{Failure, JOURNAL_SCHEMA, Record};
use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::error::chain;
use pointsman_core::model::Observed;
use pointsman_core::phase::{End, Event, Phase};
use std::time::Instant;

impl Site<'_> {
    /// Takes the addresses that `before` shows on the bridge to the uplink, also those that
    /// have vanished with the bridge since.
    ///
    /// The record that is left is that of the goal that was lost, with `before` as its
    /// checkpoint, and Degraded: what comes next goes on from there.
    pub fn retreat(
        &self,
        lost: Record,
        before: Observed,
        failure: Failure,
    ) -> Result<Outcome, TransactionError> {
        let transaction = super::transaction_id(&before);
        // where `restore` leads to stays what was there before the goal
        let former = match lost.phase {
            Phase::Ended(End::Reached) => Some(Box::new(lost.clone())),
            _ => lost.former.clone(),
        };
        let record = Record {
            schema: JOURNAL_SCHEMA,
            checkpoint: Checkpoint { schema: CHECKPOINT_SCHEMA, transaction, before },
            phase: Phase::RollingBack,
            failure: Some(failure.clone()),
            former,
            ..lost
        };
        // as on every way back: a full disk must not keep the node dark
        if let Err(error) = self.journal.write(&record) {
            tracing::error!(error = %chain(&error), "could not note the way to the uplink");
        }
        self.journal.begin_progress(Instant::now());
        self.journal.note(&failure.message);
        tracing::warn!(reason = %failure.reason, message = %failure.message, "taking the addresses to the uplink");
        self.guard_way_back(&record);
        match self.go(&record, Way::Harbour) {
            Ok(()) => self.close(record, Event::Failed, vec![]),
            Err(why) => self.give_up_in_harbour(record, failure, &why),
        }
    }
}
