//! The minute after a switch: what somebody else changes in it is put right once, and then said.
//!
//! Kept in memory only: an agent that starts anew has forgotten it, and puts nothing right.

use crate::journal::Record;
use crate::transaction::{Outcome, Site, TransactionError};
use pointsman_core::config::Settings;
use pointsman_core::decision::{self, Attempt, Decision, what_changed};
use pointsman_core::goal::Goal;
use pointsman_core::keys::Annotations;
use pointsman_core::model::Observed;
use pointsman_core::phase::{End, Phase};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a foreign change is put right.
const MINUTE: Duration = Duration::from_secs(60);

/// What is known of the last switch of this process.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Option<Watched>>);

#[derive(Clone, Debug)]
struct Watched {
    request: String,
    /// The journal's record that reached it; after any other one this is over.
    transaction: String,
    reached: Instant,
    /// What is to be put right now, in plain words.
    change: Option<String>,
    /// What was put right already.
    repaired: Option<String>,
}

impl Watched {
    fn may_repair(&self) -> bool {
        self.repaired.is_none() && self.reached.elapsed() < MINUTE
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Option<Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`decision::decide_watching`] with what is known here.
    pub fn decide(
        &self,
        annotations: &Annotations,
        settings: &Settings,
        observed: &Observed,
        (record, last): (Option<&Record>, Option<&Attempt>),
    ) -> Decision {
        let mut kept = self.lock();
        let staged = record.and_then(|record| staged_by(record, observed));
        let own = |kept: &&mut Watched| {
            let same = record.is_some_and(|r| r.checkpoint.transaction == kept.transaction);
            same && last.is_some_and(|last| last.request == kept.request)
        };
        let Some(watched) = kept.as_mut().filter(own) else {
            let watch = decision::Watch { staged, ..decision::Watch::default() };
            return decision::decide_watching(annotations, settings, observed, last, watch);
        };
        let young = watched.reached.elapsed() < MINUTE;
        let checkpoint = record.filter(|_| young).map(|record| &record.checkpoint);
        let repaired = watched.repaired.as_deref();
        let watch = decision::Watch { checkpoint, repaired, staged };
        let decision = decision::decide_watching(annotations, settings, observed, last, watch);
        watched.change = match &decision {
            Decision::Attempt { goal, request, .. } if *request == watched.request => {
                let plan = goal.plan(settings, observed, checkpoint).unwrap_or_default();
                Some(what_changed(settings, observed, &plan))
            }
            Decision::Attempt { .. } | Decision::Report(_) => None,
        };
        decision
    }

    /// One switch; within the minute after the last one, for the same request, its repair.
    pub fn carry_out(
        &self,
        site: &Site<'_>,
        goal: &Goal,
        request: &str,
    ) -> Result<Outcome, TransactionError> {
        let same = |watched: &Watched| watched.request == request && watched.may_repair();
        let before = self.lock().clone().filter(same).filter(|watched| watched.change.is_some());
        let outcome = match &before {
            Some(watched) => {
                let change = watched.change.as_deref().unwrap_or_default();
                tracing::warn!(
                    change,
                    "somebody else changed what was reached; putting it right once"
                );
                site.repair(goal, Some(request))
            }
            None => site.carry_out(goal, Some(request)),
        }?;
        match outcome.end {
            End::Reached => {
                let reached = before.as_ref().map_or_else(Instant::now, |before| before.reached);
                let repaired = before.and_then(|before| before.change);
                let (request, record) = (request.to_owned(), site.journal.read()?);
                *self.lock() = record.map(|record| {
                    let transaction = record.checkpoint.transaction;
                    Watched { request, transaction, reached, change: None, repaired }
                });
            }
            // it was put right by whoever changed it
            End::Unchanged => {}
            End::Refused | End::RolledBack | End::Degraded => *self.lock() = None,
        }
        Ok(outcome)
    }
}

/// What the last transaction reached on this boot, and may have left for the next one. One
/// that came [upon it](Record::former) has not changed that.
pub(crate) fn staged_by<'a>(record: &'a Record, observed: &Observed) -> Option<&'a Goal> {
    let record = record.former.as_deref().unwrap_or(record);
    let here = record.checkpoint.before.host.boot_id == observed.host.boot_id;
    (here && record.phase == Phase::Ended(End::Reached)).then_some(&record.goal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::JOURNAL_SCHEMA;
    use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
    use pointsman_core::plan::handover::Owner;

    fn record(goal: Goal, phase: Phase, former: Option<Record>) -> Record {
        let settings = Settings::parse("[node]\nuplink = \"eth1\"\n").unwrap();
        let (transaction, before) = ("t".into(), Observed::default());
        let checkpoint = Checkpoint { schema: CHECKPOINT_SCHEMA, transaction, before };
        Record {
            schema: JOURNAL_SCHEMA,
            goal,
            settings,
            request: None,
            checkpoint,
            phase,
            failure: None,
            baseline: None,
            former: former.map(Box::new),
        }
    }

    #[test]
    fn what_was_staged_before_a_boots_own_transaction_is_staged_still() {
        let observed = Observed::default();
        let staged = record(Goal::cni(), Phase::Ended(End::Reached), None);
        assert_eq!(staged_by(&staged, &observed), Some(&Goal::cni()));
        for phase in [Phase::Applying, Phase::Ended(End::Reached), Phase::Ended(End::Degraded)] {
            let boots = record(Goal::Boot { to: Owner::Uplink }, phase, Some(staged.clone()));
            assert_eq!(staged_by(&boots, &observed), Some(&Goal::cni()), "{phase}");
        }
        let mut elsewhere = staged;
        elsewhere.checkpoint.before.host.boot_id = "another".into();
        assert_eq!(staged_by(&elsewhere, &observed), None);
    }
}
