//! Back to the files that a checkpoint, or the ledger, holds.

use super::ledger::note;
use super::places::{Places, directories_for, not_a};
use super::{Consent, Toward, absent, install};
use crate::checkpoint::Checkpoint;
use crate::model::{Digest, FileState, Observed};
use crate::plan::file::Source;
use crate::plan::{Plan, Refusal, Step, file};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn plan(
    places: &Places,
    (toward, consent): (Toward, Consent),
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
    let there = match toward {
        Toward::Payload => install::plan(places, consent, before),
        Toward::Absent => absent::plan(places, consent, before),
    };
    let origin = Origin::of_way(places, before, &there.unwrap_or_default());
    let mut back = Back::new(observed, &origin);
    let changes = Changes::of(places, &mut back)?;
    let mut plan = changes.into_plan(places, observed, back)?;
    if observed.cni.ledger != before.cni.ledger {
        plan.push("Note what is restored", vec![note(before.cni.ledger.clone())]);
    }
    Ok(plan)
}

/// Where a way back leads, and what may be changed on it.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// What was there.
    pub(super) before: BTreeMap<String, FileState>,
    /// What of it is in the store. What a way there leaves alone is not ours to put back.
    pub(super) kept: BTreeSet<String>,
    /// What was written, by path.
    pub(super) ours: BTreeMap<String, Vec<Digest>>,
    pub(super) manner: Manner,
}

/// What becomes of what others have written since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// The way back of a transaction: it goes where the transaction had a part in it; a copy stays.
    #[default]
    Transaction,
    /// It stays.
    Undo,
    /// It goes; a copy stays.
    ForcedUndo,
}

impl Origin {
    /// Of a transaction: what was before it, and what it keeps and writes.
    fn of_way(places: &Places, before: &Observed, there: &Plan) -> Self {
        let mut origin = Self::default();
        for path in places.all() {
            if let Some(state) = before.files.get(path) {
                origin.before.insert(path.to_owned(), state.clone());
            }
        }
        for step in there.steps() {
            if let Step::File(file::Step::Keep { path, .. }) = step {
                origin.kept.insert(path.clone());
            } else if let Step::File(file::Step::Write { path, sha256, .. }) = step {
                origin.ours.entry(path.clone()).or_default().push(*sha256);
            }
        }
        origin
    }
}

/// What happens to each file.
pub(super) struct Changes {
    pub(super) loopback_conf: Change,
    pub(super) legacy: Change,
    pub(super) conflist: Change,
    pub(super) nsx: Change,
    pub(super) loopback: Change,
}

impl Changes {
    pub(super) fn of(places: &Places, back: &mut Back<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            loopback_conf: back.change(&places.loopback_conf)?,
            legacy: back.change(&places.legacy)?,
            conflist: back.change(&places.conflist)?,
            nsx: back.change(&places.nsx)?,
            loopback: back.change(&places.loopback)?,
        })
    }

    pub(super) fn all(&self) -> [&Change; 5] {
        [&self.loopback_conf, &self.legacy, &self.conflist, &self.nsx, &self.loopback]
    }

    /// The mirror of the installation: no configuration names a binary that is gone, and the
    /// loopback's is gone before it could become the default network.
    pub(super) fn into_plan(
        self,
        places: &Places,
        observed: &Observed,
        back: Back<'_>,
    ) -> Result<Plan, Refusal> {
        let mut plan = Plan { stages: Vec::new(), notes: back.notes };
        plan.push("Sweep what an interrupted run left", places.sweep(observed));
        plan.push("Make the directories", directories(&self.all(), observed)?);
        let kept = self.all().into_iter().filter_map(Change::keep);
        plan.push("Keep what goes", kept.collect());
        let Self { loopback_conf, legacy, conflist, nsx, loopback } = self;
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
}

/// What happens to one file.
pub(super) enum Change {
    None,
    /// `keeps`: its contents go to the store first.
    Remove {
        path: String,
        sha256: Digest,
        keeps: bool,
    },
    Write {
        path: String,
        mode: u32,
        sha256: Digest,
        present: Option<Digest>,
        keeps: bool,
    },
}

impl Change {
    pub(super) fn is_removal(&self) -> bool {
        matches!(self, Self::Remove { .. })
    }

    fn is_addition(&self) -> bool {
        matches!(self, Self::Write { present: None, .. })
    }

    fn keep(&self) -> Option<Step> {
        match self {
            Self::Write { path, present: Some(sha256), keeps: true, .. }
            | Self::Remove { path, sha256, keeps: true } => {
                Some(Step::File(file::Step::Keep { path: path.clone(), sha256: *sha256 }))
            }
            Self::None | Self::Remove { .. } | Self::Write { .. } => None,
        }
    }

    fn into_steps(self) -> Vec<Step> {
        match self {
            Self::None => Vec::new(),
            Self::Remove { path, sha256, .. } => {
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

/// A way back in the making.
pub(super) struct Back<'a> {
    pub(super) observed: &'a Observed,
    pub(super) origin: &'a Origin,
    /// What is left, by path, and other remarks.
    pub(super) notes: Vec<String>,
    /// What is somebody else's by now.
    pub(super) left: BTreeSet<String>,
}

impl<'a> Back<'a> {
    pub(super) fn new(observed: &'a Observed, origin: &'a Origin) -> Self {
        Self { observed, origin, notes: Vec::new(), left: BTreeSet::new() }
    }

    fn leave(&mut self, path: &str, why: &str) -> Change {
        self.notes.push(format!("LeftInPlace: {path} {why}"));
        self.left.insert(path.to_owned());
        Change::None
    }

    fn is_ours(&self, path: &str, sha256: Digest) -> bool {
        self.origin.ours.get(path).is_some_and(|ours| ours.contains(&sha256))
    }

    fn is_forced(&self, path: &str) -> bool {
        self.origin.manner == Manner::ForcedUndo && self.origin.ours.contains_key(path)
    }

    fn change(&mut self, path: &str) -> Result<Change, Refusal> {
        let now = self.observed.files.get(path);
        match (self.origin.before.get(path), now) {
            (None, Some(FileState::Regular { sha256, .. }))
                if self.is_ours(path, *sha256) || self.is_forced(path) =>
            {
                // the way back of an undo needs what it removes
                let keeps = self.origin.manner != Manner::Transaction;
                Ok(Change::Remove { path: path.to_owned(), sha256: *sha256, keeps })
            }
            // the ledger says nothing of it
            (None, Some(_))
                if self.origin.manner != Manner::Transaction
                    && !self.origin.ours.contains_key(path) =>
            {
                Ok(Change::None)
            }
            (None, Some(_)) => Ok(self.leave(
                path,
                "was not there before and does not hold what was installed: it is somebody else's",
            )),
            (Some(FileState::Regular { mode, sha256, .. }), now) => {
                self.restore(path, (*mode, *sha256), now)
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
    ) -> Result<Change, Refusal> {
        let kept = self.origin.kept.contains(path);
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
        let written = present.is_some_and(|present| self.is_ours(path, present));
        if !written && !kept {
            return Ok(self.leave(
                path,
                "is not what it was before, and the installation did not touch it: somebody else did",
            ));
        }
        let foreign = present.is_some_and(|found| found != sha256 && !self.is_ours(path, found));
        if foreign && self.origin.manner == Manner::Undo {
            return Ok(self.leave(
                path,
                "holds neither what was there before nor what was installed: it is somebody else's; \
                 `pointsman undo --force` puts back what was there",
            ));
        }
        if foreign {
            self.notes.push(format!(
                "ForeignContent: {path} holds neither what was there before nor what was \
                 installed: it is put back, a copy is kept"
            ));
        }
        let keeps = foreign || self.origin.manner != Manner::Transaction;
        Ok(Change::Write { path: path.to_owned(), mode, sha256, present, keeps })
    }
}
