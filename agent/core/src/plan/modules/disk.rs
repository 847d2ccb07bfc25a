//! The files of a set: what is wanted where, and the steps that bring it about.

use super::exchange;
use super::goal::{Goal, Wanted};
use super::{Step as ModuleStep, Target};
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
    let exchange = exchange::plan(observed, goal);
    let mut found =
        DiskSteps { keep: keep(observed, goal, exchange.is_some()), ..DiskSteps::default() };
    let (conf, tree): (Vec<_>, Vec<_>) =
        goal.wanted.iter().partition(|(path, _)| path.starts_with(&paths.depmod));
    let apart = |path: &str| {
        exchange.is_some() && exchange::is_within(goal, path) || exchange::is_staged(goal, path)
    };
    let single: Vec<_> = tree.iter().copied().filter(|(path, _)| !apart(path)).collect();
    found.put.extend(exchange::sweep(observed, goal));
    for (path, _) in single.iter().filter(|(path, wanted)| makes(observed, path, wanted)) {
        found.put.push(make_directory(path));
    }
    found.put.extend(single.iter().filter_map(|(path, wanted)| write(observed, path, wanted)));
    found.clear.extend(single.iter().filter_map(|(path, wanted)| remove(observed, path, wanted)));
    if let Some(exchange) = exchange {
        found.put.extend(exchange.put);
        found.clear.extend(exchange.clear);
    }
    clear_directories(observed, goal, &single, &mut found);
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
/// from the store and lies elsewhere. An exchange writes every file of the set anew.
fn keep(observed: &Observed, goal: &Goal, exchanged: bool) -> Vec<Step> {
    let anew = |path: &str, wanted: &Wanted| {
        write(observed, path, wanted).is_some() || exchanged && exchange::is_within(goal, path)
    };
    let mut needed: BTreeSet<Digest> = goal
        .wanted
        .iter()
        .filter(|(path, wanted)| anew(path, wanted))
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

/// Puts a file or a link in place that is not there as it is wanted.
pub(super) fn write(observed: &Observed, path: &str, wanted: &Wanted) -> Option<Step> {
    match (wanted, observed.files.get(path)) {
        (Wanted::Link { target }, Some(FileState::Symlink { target: is })) if is == target => None,
        (Wanted::Link { target }, _) => Some(link(path, target)),
        (
            Wanted::File { sha256, mode, attributes, .. },
            Some(FileState::Regular { mode: is, sha256: holds, .. }),
        ) if (is, holds) == (mode, sha256)
            && attributes.as_ref().is_none_or(|a| observed.attributes_at(path).fits(a)) =>
        {
            None
        }
        (wanted, _) => put(path, wanted),
    }
}

/// Puts a wanted file in place, whatever is there.
pub(super) fn put(path: &str, wanted: &Wanted) -> Option<Step> {
    let Wanted::File { sha256, mode, source, attributes } = wanted else { return None };
    let (path, mode, source, sha256) = (path.to_owned(), *mode, source.clone(), *sha256);
    Some(match attributes.clone() {
        Some(attributes) => {
            Step::Modules(ModuleStep::Put { path, mode, attributes, source, sha256 })
        }
        None => Step::File(file::Step::Write { path, mode, source, sha256 }),
    })
}

pub(super) fn link(path: &str, target: &str) -> Step {
    let (path, target) = (path.to_owned(), target.to_owned());
    Step::File(file::Step::Link { path, target })
}

pub(super) fn remove_directory(path: &str) -> Step {
    Step::File(file::Step::RemoveDirectory { path: path.to_owned() })
}

pub(super) fn remove(observed: &Observed, path: &str, wanted: &Wanted) -> Option<Step> {
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
                found.clear.push(remove_directory(path));
            }
            strangers => {
                let what = strangers.join(", ");
                found.notes.push(format!("{path} stays: {what} in it is not ours"));
            }
        }
    }
}
