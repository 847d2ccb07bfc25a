//! The files of a set: what is wanted where, and the steps that bring it about.

use super::Target;
use super::goal::{Goal, Wanted};
use crate::config::Paths;
use crate::model::{Digest, FileState, Observed};
use crate::plan::Step;
use crate::plan::file::{self, Source};
use std::collections::BTreeSet;

/// Steps on files, in the order in which they are to be taken.
#[derive(Debug, Default)]
pub(super) struct DiskSteps {
    /// Copies into the store: nothing is replaced or removed that is not there.
    pub(super) keep: Vec<Step>,
    /// Directories, then files, the user's backup before the set itself.
    pub(super) put: Vec<Step>,
    /// Files, then directories that become empty.
    pub(super) clear: Vec<Step>,
    /// depmod's configuration: last, because a choice without files is worse than files
    /// without a choice.
    pub(super) choose: Vec<Step>,
    /// What stays although it is in the way.
    pub(super) notes: Vec<String>,
}

impl DiskSteps {
    pub(super) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Step> {
        self.keep.iter().chain(&self.put).chain(&self.clear).chain(&self.choose)
    }
}

/// The name that an unfinished write leaves behind: ours by its form.
pub(super) fn is_leftover(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".pointsman.tmp")
}

/// The difference between what is and the goal.
pub(super) fn steps(observed: &Observed, goal: &Goal, target: Target, paths: &Paths) -> DiskSteps {
    let mut found = DiskSteps { keep: keep(observed, goal), ..DiskSteps::default() };
    let (conf, tree): (Vec<_>, Vec<_>) =
        goal.wanted.iter().partition(|(path, _)| path.starts_with(&paths.depmod));
    for (path, _) in tree.iter().filter(|(path, wanted)| makes(observed, path, wanted)) {
        found.put.push(make_directory(path));
    }
    found.put.extend(tree.iter().filter_map(|(path, wanted)| write(observed, path, wanted)));
    found.clear.extend(tree.iter().filter_map(|(path, wanted)| remove(observed, path, wanted)));
    clear_directories(observed, goal, &tree, &mut found);
    for (path, _) in conf.iter().filter(|(path, wanted)| makes(observed, path, wanted)) {
        found.choose.push(make_directory(path));
    }
    found.choose.extend(conf.iter().filter_map(|(path, wanted)| write(observed, path, wanted)));
    found.choose.extend(conf.iter().filter_map(|(path, wanted)| remove(observed, path, wanted)));
    let mut last = DiskSteps::default();
    clear_directories(observed, goal, &conf, &mut last);
    found.choose.append(&mut last.clear);
    if target == Target::Before {
        found.notes.append(&mut last.notes);
    }
    found
}

/// A copy of everything that is to be replaced or removed, and of what is to be written
/// from the store and lies elsewhere.
fn keep(observed: &Observed, goal: &Goal) -> Vec<Step> {
    let mut needed: BTreeSet<Digest> = goal
        .wanted
        .iter()
        .filter(|(path, wanted)| write(observed, path, wanted).is_some())
        .filter_map(|(_, wanted)| match wanted {
            Wanted::File { sha256, source: Source::Store, .. } => Some(*sha256),
            Wanted::File { .. } | Wanted::Link { .. } | Wanted::Directory | Wanted::Absent => None,
        })
        .collect();
    let mut steps = Vec::new();
    for (path, wanted) in &goal.wanted {
        let Some(sha256) = observed.files.get(path).and_then(FileState::sha256) else { continue };
        let name = path.rsplit('/').next().unwrap_or(path);
        let replaced = match wanted {
            Wanted::File { sha256: other, .. } => *other != sha256,
            Wanted::Absent => !is_leftover(name),
            Wanted::Link { .. } => true,
            Wanted::Directory => false,
        };
        if needed.remove(&sha256) || replaced {
            steps.push(Step::File(file::Step::Keep { path: path.clone(), sha256 }));
        }
    }
    steps
}

fn makes(observed: &Observed, path: &str, wanted: &Wanted) -> bool {
    matches!(wanted, Wanted::Directory) && !observed.files.contains_key(path)
}

fn make_directory(path: &str) -> Step {
    Step::File(file::Step::MakeDirectory { path: path.to_owned(), mode: 0o755 })
}

fn write(observed: &Observed, path: &str, wanted: &Wanted) -> Option<Step> {
    let (sha256, mode, source) = match wanted {
        Wanted::File { sha256, mode, source } => (sha256, mode, source),
        Wanted::Link { target } => return link(observed, path, target),
        Wanted::Directory | Wanted::Absent => return None,
    };
    if let Some(FileState::Regular { mode: is, sha256: holds, .. }) = observed.files.get(path)
        && (is, holds) == (mode, sha256)
    {
        return None;
    }
    let (path, mode, source, sha256) = (path.to_owned(), *mode, source.clone(), *sha256);
    Some(Step::File(file::Step::Write { path, mode, source, sha256 }))
}

fn link(observed: &Observed, path: &str, target: &str) -> Option<Step> {
    if let Some(FileState::Symlink { target: is }) = observed.files.get(path)
        && is == target
    {
        return None;
    }
    let (path, target) = (path.to_owned(), target.to_owned());
    Some(Step::File(file::Step::Link { path, target }))
}

fn remove(observed: &Observed, path: &str, wanted: &Wanted) -> Option<Step> {
    if !matches!(wanted, Wanted::Absent) {
        return None;
    }
    let sha256 = match observed.files.get(path)? {
        FileState::Regular { sha256, .. } => Some(*sha256),
        FileState::Symlink { .. } => None,
        FileState::Directory | FileState::Other => return None,
    };
    Some(Step::File(file::Step::Remove { path: path.to_owned(), sha256 }))
}

/// Removes directories that are wanted away and become empty, deepest first.
fn clear_directories(
    observed: &Observed,
    goal: &Goal,
    part: &[(&String, &Wanted)],
    found: &mut DiskSteps,
) {
    for (path, wanted) in part.iter().rev() {
        let directory = observed.files.get(*path) == Some(&FileState::Directory);
        if !directory || !matches!(wanted, Wanted::Absent) {
            continue;
        }
        let prefix = format!("{path}/");
        let strangers: Vec<&str> = observed
            .files
            .range(prefix.clone()..)
            .map(|(path, _)| path.as_str())
            .take_while(|path| path.starts_with(&prefix))
            .filter(|path| !matches!(goal.wanted.get(*path), Some(Wanted::Absent)))
            .collect();
        match strangers.as_slice() {
            [] => {
                let path = (*path).clone();
                found.clear.push(Step::File(file::Step::RemoveDirectory { path }));
            }
            strangers => {
                let what = strangers.join(", ");
                found.notes.push(format!("{path} stays: {what} in it is not ours"));
            }
        }
    }
}
