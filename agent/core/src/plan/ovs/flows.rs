//! What is in no database and ends with vswitchd: flows, groups, meters, TLV maps.
//!
//! Saved while vswitchd lives, and put back while the next one waits for them
//! (`other_config:flow-restore-wait`, ovs-vswitchd.conf.db(5)): until the wait is over it
//! forwards nothing and speaks to no controller, so no packet meets half of the flows.
//!
//! The wait is in the database, and a crash leaves it there. So it is marked as ours
//! (`external_ids:pointsman-restoring`), and whoever finds the mark puts back what was saved
//! and ends the wait, in that order. A wait without the mark is somebody else's.

use super::Step;
use crate::model::{Ovs, OvsDatabase};

/// What saves the flows of every bridge; nothing where they are saved already, and waited for.
///
/// None where they cannot be had: nobody else knows them than a vswitchd that answers.
pub fn save_flows(ovs: &Ovs) -> Option<Vec<Step>> {
    let known = ovs.database.as_ref().or(ovs.stopped.as_ref());
    if known.is_some_and(|database| database.flow_restore_wait) {
        return Some(Vec::new());
    }
    let bridges = known.map(names).unwrap_or_default();
    if bridges.is_empty() || !ovs.vswitchd {
        return Some(Vec::new());
    }
    ovs.is_healthy().then(|| vec![Step::SaveFlows { bridges }])
}

/// What puts the saved flows back and ends our own wait for them; nothing while there is no
/// vswitchd to take them.
pub fn restore_flows(ovs: &Ovs) -> Vec<Step> {
    let known = ovs.database.as_ref().filter(|database| database.restoring && ovs.is_healthy());
    let Some(database) = known else { return Vec::new() };
    let there = names(database).into_iter().filter(|bridge| ovs.saved.contains(bridge));
    there.map(|bridge| Step::RestoreFlows { bridge }).chain([Step::ReleaseFlows]).collect()
}

/// Whether somebody else has vswitchd wait: not ours to end.
pub fn is_held_by_another(ovs: &Ovs) -> bool {
    ovs.database.as_ref().is_some_and(|found| found.flow_restore_wait && !found.restoring)
}

fn names(database: &OvsDatabase) -> Vec<String> {
    database.bridges.iter().map(|bridge| bridge.name.clone()).collect()
}
