//! Back to the files that a checkpoint holds.

use super::install;
use super::places::{Places, directories_for, not_a};
use crate::checkpoint::Checkpoint;
use crate::model::{Digest, FileState, Observed};
use crate::payload::CniRole;
use crate::plan::file::Source;
use crate::plan::{Plan, Refusal, Step, file};

pub(super) fn plan(
    places: &Places,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let Some(way_back) = way_back else {
        return Err(Refusal::new(
            "NoCheckpoint",
            "no checkpoint says what the CNI files were: there is nothing to go back to",
        ));
    };
    let before = &way_back.before;
    let kept = kept_by_the_way_there(places, before);
    let mut back = Back { observed, before, kept, notes: Vec::new() };
    let loopback_conf = back.change(&places.loopback_conf, Some(CniRole::LoopbackConf))?;
    let legacy = back.change(&places.legacy, None)?;
    let conflist = back.change(&places.conflist, Some(CniRole::Conflist))?;
    let nsx = back.change(&places.nsx, Some(CniRole::Nsx))?;
    let loopback = back.change(&places.loopback, Some(CniRole::Loopback))?;

    let mut plan = Plan { stages: Vec::new(), notes: back.notes };
    plan.push("Sweep what an interrupted run left", places.sweep(observed));
    let all = [&loopback_conf, &legacy, &conflist, &nsx, &loopback];
    plan.push("Make the directories", directories(&all, observed)?);
    plan.push("Keep what others wrote", all.into_iter().filter_map(Change::keep).collect());

    // The mirror of the installation: no configuration names a binary that is gone, and the
    // loopback's is gone before it could become the default network.
    let (missing, replaced): (Vec<Change>, Vec<Change>) =
        [nsx, loopback].into_iter().partition(Change::is_addition);
    let (first, last) = if loopback_conf.is_removal() {
        (loopback_conf, Change::None)
    } else {
        (Change::None, loopback_conf)
    };
    plan.push("Remove the loopback configuration", first.into_steps());
    plan.push(
        "Put missing plugins back",
        missing.into_iter().flat_map(Change::into_steps).collect(),
    );
    let configuration = legacy.into_steps().into_iter().chain(conflist.into_steps());
    plan.push("Put the configuration back", configuration.collect());
    let plugins = replaced.into_iter().flat_map(Change::into_steps);
    plan.push("Put the plugins back", plugins.collect());
    plan.push("Put the loopback configuration back", last.into_steps());
    Ok(plan)
}

/// What happens to one file.
enum Change {
    None,
    Remove { path: String, sha256: Digest },
    Write { path: String, mode: u32, sha256: Digest, present: Option<Digest>, foreign: bool },
}

impl Change {
    fn is_removal(&self) -> bool {
        matches!(self, Self::Remove { .. })
    }

    fn is_addition(&self) -> bool {
        matches!(self, Self::Write { present: None, .. })
    }

    fn keep(&self) -> Option<Step> {
        match self {
            Self::Write { path, present: Some(sha256), foreign: true, .. } => {
                Some(Step::File(file::Step::Keep { path: path.clone(), sha256: *sha256 }))
            }
            Self::None | Self::Remove { .. } | Self::Write { .. } => None,
        }
    }

    fn into_steps(self) -> Vec<Step> {
        match self {
            Self::None => Vec::new(),
            Self::Remove { path, sha256 } => {
                vec![Step::File(file::Step::Remove { path, sha256: Some(sha256) })]
            }
            Self::Write { path, mode, sha256, .. } => {
                vec![Step::File(file::Step::Write { path, mode, source: Source::Store, sha256 })]
            }
        }
    }
}

fn directories(changes: &[&Change], observed: &Observed) -> Result<Vec<Step>, Refusal> {
    let mut steps = Vec::new();
    for change in changes {
        if let Change::Write { path, .. } = change {
            for step in directories_for(path, observed)? {
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
        }
    }
    Ok(steps)
}

/// The files that the installation planned from `before` replaces or removes: their contents
/// are in the store. What it leaves alone is not ours to put back, and is not in the store.
fn kept_by_the_way_there(places: &Places, before: &Observed) -> Vec<String> {
    let there = install::plan(places, before).unwrap_or_default();
    let kept = |step: &Step| {
        let Step::File(file::Step::Keep { path, .. }) = step else { return None };
        Some(path.clone())
    };
    there.steps().filter_map(kept).collect()
}

struct Back<'a> {
    observed: &'a Observed,
    before: &'a Observed,
    kept: Vec<String>,
    notes: Vec<String>,
}

impl Back<'_> {
    fn change(&mut self, path: &str, role: Option<CniRole>) -> Result<Change, Refusal> {
        let ours = role.and_then(|role| self.written(role));
        let now = self.observed.files.get(path);
        match (self.before.files.get(path), now) {
            (None, Some(FileState::Regular { sha256, .. })) if Some(*sha256) == ours => {
                Ok(Change::Remove { path: path.to_owned(), sha256: *sha256 })
            }
            (None, Some(_)) => {
                self.notes.push(format!(
                    "LeftInPlace: {path} was not there before and does not hold what was \
                     installed: it is somebody else's"
                ));
                Ok(Change::None)
            }
            (Some(FileState::Regular { mode, sha256, .. }), now) => {
                self.restore(path, (*mode, *sha256), now, ours)
            }
            // never written over: the planner refuses such a target, and leaves such a loopback
            (Some(_), _) | (None, None) => Ok(Change::None),
        }
    }

    fn restore(
        &mut self,
        path: &str,
        (mode, sha256): (u32, Digest),
        now: Option<&FileState>,
        ours: Option<Digest>,
    ) -> Result<Change, Refusal> {
        let kept = self.kept.iter().any(|kept| kept == path);
        let present = now.and_then(FileState::sha256);
        match now {
            Some(FileState::Regular { mode: m, sha256: found, .. })
                if (*m, *found) == (mode, sha256) =>
            {
                return Ok(Change::None);
            }
            Some(other) if present.is_none() && kept => {
                return Err(not_a(path, "regular file", other));
            }
            Some(_) | None => {}
        }
        let written = present.is_some() && present == ours;
        if !written && !kept {
            self.notes.push(format!(
                "LeftInPlace: {path} is not what it was before, and the installation did not \
                 touch it: somebody else did"
            ));
            return Ok(Change::None);
        }
        let foreign = present.is_some_and(|found| found != sha256 && Some(found) != ours);
        if foreign {
            self.notes.push(format!(
                "ForeignContent: {path} holds neither what was there before nor what was \
                 installed: it is put back, a copy is kept"
            ));
        }
        Ok(Change::Write { path: path.to_owned(), mode, sha256, present, foreign })
    }

    /// What the transaction of the checkpoint wrote for a role.
    fn written(&self, role: CniRole) -> Option<Digest> {
        let cni = self.before.payload.as_ref()?.manifest.cni.as_ref()?;
        cni.files.get(&role).map(|file| file.sha256)
    }
}
