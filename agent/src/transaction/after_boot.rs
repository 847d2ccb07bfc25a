//! What a boot has to change, as a transaction of its own upon the last one.
//!
//! The last one has ended, and its checkpoint is of another day: the way back of a boot's own
//! steps is what the boot has made of the node. So that is written first, with the last one
//! inside, and a dead-man is armed. When the boot's own transaction ends, by this process,
//! by the dead-man and an agent, or after one more power cut, the last one has its place again:
//! what was asked for, what came of it and its way back are not lost. One that the boot has
//! interrupted is left as it is: its way back is on disk, and the agent ends it.

use super::{Outcome, Site, TransactionError, ended, transaction_id};
use crate::boot::{self, BootNote, Did};
use crate::journal::{Failure, JOURNAL_SCHEMA, Record};
use crate::observe;
use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::config::Node;
use pointsman_core::error::chain;
use pointsman_core::goal::Goal;
use pointsman_core::model::Observed;
use pointsman_core::phase::{End, Event, Phase};
use pointsman_core::plan::handover::Owner;
use std::time::Instant;

/// Why a boot's own transaction goes to the uplink.
const AFTER_BOOT: &str = "AfterBoot";

impl Site<'_> {
    /// Moves the addresses to the bridge, which has the uplink already; a step that fails, or
    /// a bridge by which no gateway answers, ends with them on the uplink.
    ///
    /// `last` has ended; `now` is what the boot has made of the node.
    pub fn return_to_bridge(
        &self,
        last: Record,
        now: Observed,
    ) -> Result<Outcome, TransactionError> {
        let record = upon(last, Owner::Bridge, now);
        let began = Instant::now();
        match record.goal.plan(&record.settings, &record.checkpoint.before, None) {
            Ok(plan) if plan.is_empty() => {
                ended(Phase::Preparing.after(Event::NothingToDo)?, None, plan.notes)
            }
            Ok(plan) => self.begin(record, plan, began, true),
            Err(refusal) => ended(Phase::Preparing.after(Event::Refused)?, Some(refusal), vec![]),
        }
    }

    /// Frees the uplink and sees to its addresses: those that `before` shows, or those of the
    /// record's own checkpoint, and those that are there.
    ///
    /// Where that is not verified the record stays open, and the dead-man armed: it goes on
    /// when this process has ended.
    pub fn free_uplink(
        &self,
        last: Record,
        before: Option<Observed>,
        why: &str,
    ) -> Result<Result<(), Failure>, TransactionError> {
        let mut record = last;
        if record.is_open() {
            record.checkpoint.before = before.unwrap_or(record.checkpoint.before);
            self.guard_way_back(&record);
            let went = self.go(&record, super::Way::Harbour);
            if went.is_ok() {
                self.deadman.disarm()?;
            }
            return Ok(went);
        }
        let before = before.unwrap_or_else(|| record.checkpoint.before.clone());
        let record = upon(record, Owner::Uplink, before);
        let failure = Failure { reason: AFTER_BOOT.into(), message: why.to_owned() };
        self.journal.begin_progress(Instant::now());
        let outcome = self.take_back(record, failure.clone(), Event::Failed)?;
        if self.journal.read()?.is_some_and(|record| record.is_open()) {
            return Ok(Err(outcome.failure.unwrap_or(failure)));
        }
        Ok(Ok(()))
    }

    /// Notes what became of a boot's own transaction that its unit did not end.
    pub(super) fn tell_of_boot(&self, record: &Record, outcome: &Outcome) {
        let of_boot = record.former.is_some() && matches!(record.goal, Goal::Boot { .. });
        let (true, Ok(host)) = (of_boot, observe::host(self.executor)) else {
            return;
        };
        let Node { uplink, bridge, .. } = &record.settings.node;
        let (did, what) = match outcome.end {
            End::Reached if record.goal.wants_bridge() => {
                (Did::Completed, format!("the addresses are on {bridge}"))
            }
            End::Reached | End::RolledBack => {
                (Did::Freed, format!("the addresses are on {uplink}"))
            }
            End::Unchanged | End::Refused | End::Degraded => {
                (Did::Failed, format!("the addresses could not be put on {uplink}"))
            }
        };
        let message = format!("it was interrupted, and the agent saw to the rest: {what}");
        let note = BootNote { boot_id: host.boot_id, did, message };
        if let Err(error) = self.journal.write_note(boot::NOTE, &note) {
            tracing::warn!(error = %chain(&error), "could not note what became of the boot");
        }
    }
}

/// A boot's own transaction. Nobody was asked before it: what was reachable then is unknown.
fn upon(last: Record, to: Owner, before: Observed) -> Record {
    Record {
        schema: JOURNAL_SCHEMA,
        goal: Goal::Boot { to },
        settings: last.settings.clone(),
        request: None,
        checkpoint: Checkpoint {
            schema: CHECKPOINT_SCHEMA,
            transaction: transaction_id(&before),
            before,
        },
        phase: Phase::Applying,
        failure: None,
        baseline: None,
        former: Some(Box::new(last)),
    }
}
