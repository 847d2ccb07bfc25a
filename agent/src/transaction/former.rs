//! What the last transaction is to the next one: its way back, what it repairs, or no business
//! of its own.

use super::DEGRADED;
use crate::journal::Record;
use pointsman_core::drift::keeps_baseline;
use pointsman_core::goal::Goal;
use pointsman_core::model::Observed;
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::Plan;

/// Whether the checkpoint of the last one is the next one's: what a transaction left half done
/// is no state to come back to. Half a change of the running node is none of another kernel's.
pub(super) fn stands(last: &Record, goal: &Goal, observed: &Observed) -> bool {
    let beside = goal.is_for_another_kernel(&observed.host.kernel) && !last.goal.is_same(goal);
    last.is_open() || (last.phase == DEGRADED && !beside)
}

/// The record that the next one keeps: what it repairs, or what it does not concern.
///
/// Where a repair leads back to is the drifted state; where `restore` leads to stays what was
/// there before the profile.
pub(super) fn upon(last: Record, goal: &Goal, plan: &Plan, observed: &Observed) -> Option<Record> {
    if goal.is_for_another_kernel(&observed.host.kernel) && !last.goal.is_same(goal) {
        return (!last.is_open()).then_some(last);
    }
    let reached = last.phase == Phase::Ended(End::Reached);
    let was = if reached { Some(last) } else { last.former.map(|former| *former) };
    was.filter(|was| was.goal.is_same(goal) && keeps_baseline(&was.checkpoint, plan, observed))
}
