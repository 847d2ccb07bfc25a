//! The way back: to the harbour, to the checkpoint, and what is told where neither is reached.

use super::{Outcome, Site, TransactionError, Way, failure_of, touches_network};
use crate::journal::{Failure, Record};
use pointsman_core::error::chain;
use pointsman_core::phase::{End, Event, Phase};
use std::time::Duration;

/// How often a leg of the way back is tried: what is in its way may pass.
pub(super) const TRIES: u32 = 3;
/// Between two tries.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
impl Site<'_> {
    /// The harbour first where the network was touched, then the checkpoint.
    pub(super) fn take_back(
        &self,
        mut record: Record,
        failure: Failure,
        event: Event,
    ) -> Result<Outcome, TransactionError> {
        tracing::warn!(reason = %failure.reason, message = %failure.message, "taking the way back");
        self.journal.note("taking the way back");
        record.phase = if record.phase == Phase::RollingBack {
            record.phase
        } else {
            record.phase.after(event)?
        };
        record.failure = Some(failure.clone());
        // the record is a help, not a condition: the way back is taken even on a full disk
        if let Err(error) = self.journal.write(&record) {
            tracing::error!(error = %chain(&error), "could not note the way back");
        }
        let calm = !record.goal.may_touch_network()
            || matches!(self.left_to_do(&record, Way::Back), Ok(plan) if !plan.steps().any(touches_network));
        if !calm {
            self.guard_way_back(&record);
        }
        let back = if calm {
            self.go(&record, Way::Back)
        } else {
            self.go(&record, Way::Harbour).and_then(|()| self.go(&record, Way::Back))
        };
        match back {
            Ok(()) => {
                self.judge_api(&mut record);
                self.close(record, Event::Verified, vec![])
            }
            Err(why) if calm => {
                let message =
                    format!("{}; and the way back failed: {}", failure.message, why.message);
                record.failure = Some(Failure { reason: failure.reason, message });
                self.close(record, Event::Failed, vec![])
            }
            Err(why) => self.give_up_in_harbour(record, failure, &why),
        }
    }

    /// Neither the goal nor the checkpoint: addresses on the uplink, and a person is needed.
    ///
    /// A harbour that is not reached leaves the journal open, so that the next start, or
    /// the next look, tries again.
    pub(super) fn give_up_in_harbour(
        &self,
        mut record: Record,
        failure: Failure,
        why: &Failure,
    ) -> Result<Outcome, TransactionError> {
        let Failure { reason, message } = failure;
        let harbour = self.go(&record, Way::Harbour);
        let where_it_is = match &harbour {
            Ok(()) => "the addresses are on the uplink".to_owned(),
            Err(dark) => {
                format!(
                    "and so did moving the addresses to the uplink: {}; trying again",
                    dark.message
                )
            }
        };
        let message = format!("{message}; and the way back failed: {}; {where_it_is}", why.message);
        let failure = Some(Failure { reason, message });
        if harbour.is_ok() {
            record.failure = failure;
            return self.close(record, Event::Failed, vec![]);
        }
        Ok(Outcome { end: End::Degraded, failure, notes: vec![] })
    }

    /// To the safe harbour, once.
    pub(crate) fn try_harbour(&self, record: &Record) -> Result<(), Failure> {
        self.try_leg(record, Way::Harbour)
    }

    /// One leg of the way back: planned, applied and verified, and tried again.
    pub(super) fn go(&self, record: &Record, way: Way) -> Result<(), Failure> {
        let mut result = self.try_leg(record, way);
        for _ in 1..TRIES {
            let Err(failure) = &result else { break };
            let words = format!("the way back is barred, trying again: {}", failure.message);
            self.journal.note(&words);
            self.progress.tell(record.phase, &words);
            std::thread::sleep(BETWEEN_TRIES);
            result = self.try_leg(record, way);
        }
        result
    }

    fn try_leg(&self, record: &Record, way: Way) -> Result<(), Failure> {
        let plan = self.left_to_do(record, way)?;
        // what a step could not do is in the log, and in the journal's notes
        self.apply(record.phase, &plan).map_err(|error| failure_of(&error))?;
        self.verify(record, way)
    }
}
