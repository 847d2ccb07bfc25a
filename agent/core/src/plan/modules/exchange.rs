//! The set's directory exchanged as a whole: its successor is put together beside the kernels'
//! trees, and takes its place by one rename.
//!
//! Between any two steps the set's place has the whole old set or the whole new one. A directory
//! of our own beside the trees is where depmod does not look: below a kernel's own it takes every
//! `.ko`, whatever the directories are called. What was replaced lies there for a moment, and is
//! removed last; a crash leaves it, and every plan removes it.
//!
//! Files of others in the set's directory are not carried along: their owner may be writing them
//! in that very moment, and no copy of ours is the file that he has open. Then the set changes
//! file by file, each whole.

use super::disk::{link, put, remove, remove_directory, write};
use super::goal::{Goal, Wanted};
use super::learn::follow;
use super::overrides::entries;
use super::{SET_DIRECTORY, Step};
use crate::model::{Attributes, FileState, Observed};
use crate::plan::Step as AnyStep;
use std::collections::{BTreeMap, BTreeSet};

/// Where a set is put together for a kernel: on the file system of its tree, and below none.
///
/// It starts with a dot, so that nobody takes it for a kernel's tree.
pub fn staging(modules: &str, kernel: &str) -> String {
    let name = SET_DIRECTORY.rsplit('/').next().unwrap_or(SET_DIRECTORY);
    format!("{modules}/.{kernel}.{name}.pointsman.tmp")
}

/// The steps that replace [`disk`](super::disk)'s own for the files of the set's place.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Puts the new set together, and exchanges it with the old one.
    pub(super) put: Vec<AnyStep>,
    /// Removes what was replaced.
    pub(super) clear: Vec<AnyStep>,
}

/// What a former run left beside the trees: first of all away.
pub(super) fn sweep(observed: &Observed, goal: &Goal) -> Vec<AnyStep> {
    let staged = &goal.places.staged;
    if !observed.files.contains_key(staged) || !is_ours(observed, staged) {
        return Vec::new();
    }
    let paths = entries(observed, staged).map(|(name, _)| format!("{staged}/{name}"));
    let mut steps: Vec<AnyStep> =
        paths.filter_map(|path| remove(observed, &path, &Wanted::Absent)).collect();
    steps.push(remove_directory(staged));
    steps
}

/// Whether a path is of a file of the set's place, which an exchange brings or takes along.
pub(super) fn is_within(goal: &Goal, path: &str) -> bool {
    path.strip_prefix(&goal.places.set).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a path is where a set is put together: [`sweep`]'s business.
pub(super) fn is_staged(goal: &Goal, path: &str) -> bool {
    path.starts_with(&goal.places.staged)
}

/// The exchange that brings the wanted set; none where it is there, or where files of others
/// are in the way.
pub(super) fn plan(observed: &Observed, goal: &Goal) -> Option<Exchange> {
    let (set, staged) = (&goal.places.set, &goal.places.staged);
    let wanted: BTreeMap<&str, &Wanted> = goal
        .wanted
        .iter()
        .filter_map(|(path, wanted)| Some((path.strip_prefix(set)?.strip_prefix('/')?, wanted)))
        .collect();
    let at = |name: &str| format!("{set}/{name}");
    let changes = wanted.iter().any(|(name, wanted)| {
        write(observed, &at(name), wanted).is_some()
            || remove(observed, &at(name), wanted).is_some()
    });
    let known = entries(observed, set).all(|(name, _)| wanted.contains_key(name));
    if !changes || !known || !is_flat(observed, set) || !is_ours(observed, staged) {
        return None;
    }
    let leaves: BTreeSet<String> =
        entries(observed, set).map(|(name, _)| name.to_owned()).collect();
    let there = |wanted: &Wanted| matches!(wanted, Wanted::File { .. } | Wanted::Link { .. });
    let brings: BTreeMap<&str, &Wanted> =
        wanted.into_iter().filter(|(_, wanted)| there(wanted)).collect();
    let own = |step: Step| AnyStep::Modules(step);
    let attributes = goal.directory.clone();
    let mut steps = vec![own(Step::MakeStaging { path: staged.clone(), attributes })];
    for (name, wanted) in &brings {
        let path = format!("{staged}/{name}");
        steps.extend(match wanted {
            Wanted::Link { target } => Some(link(&path, target)),
            Wanted::File { .. } | Wanted::Directory | Wanted::Absent => put(&path, wanted),
        });
    }
    let names = brings.keys().map(|name| (*name).to_owned()).collect();
    let (path, beside) = (set.clone(), staged.clone());
    let clear = old(observed, set, staged);
    steps.push(own(Step::Exchange { path, staged: beside, leaves, brings: names }));
    Some(Exchange { put: steps, clear })
}

/// Removes what the exchange took out of the set's place.
fn old(observed: &Observed, set: &str, staged: &str) -> Vec<AnyStep> {
    let removed = entries(observed, set).filter_map(|(name, state)| {
        let sha256 = match state {
            FileState::Regular { sha256, .. } => Some(*sha256),
            FileState::Symlink { .. } => None,
            FileState::Directory | FileState::Other => return None,
        };
        let path = format!("{staged}/{name}");
        Some(AnyStep::File(crate::plan::file::Step::Remove { path, sha256 }))
    });
    removed.chain([remove_directory(staged)]).collect()
}

/// Whether a directory that is there holds files and links, and nothing below them.
fn is_flat(observed: &Observed, directory: &str) -> bool {
    let plain =
        |state: &FileState| matches!(state, FileState::Regular { .. } | FileState::Symlink { .. });
    matches!(observed.files.get(directory), None | Some(FileState::Directory))
        && below(observed, directory).all(|(_, state)| plain(state))
}

/// Whether there is nothing where a set is put together, or a directory with files alone. Anything
/// else is not by our hand, and stays.
pub(super) fn is_ours(observed: &Observed, staged: &str) -> bool {
    is_flat(observed, staged)
}

fn below<'a>(
    observed: &'a Observed,
    directory: &str,
) -> impl Iterator<Item = (&'a String, &'a FileState)> {
    let prefix = format!("{directory}/");
    let from = observed.files.range(prefix.clone()..);
    from.take_while(move |(path, _)| path.starts_with(&prefix))
}

/// The effect on the observed files.
pub(super) fn simulate(observed: &mut Observed, step: &Step) {
    match step {
        Step::Put { path, mode, attributes, sha256, .. } => {
            let state = FileState::Regular { mode: *mode, size: 0, sha256: *sha256 };
            observed.files.insert(path.clone(), state);
            note(observed, path, attributes);
        }
        Step::MakeStaging { path, attributes } => {
            observed.files.insert(path.clone(), FileState::Directory);
            note(observed, path, attributes);
        }
        Step::Exchange { path, staged, .. } => {
            let old = take(observed, path);
            let new = take(observed, staged);
            give(observed, staged, old);
            give(observed, path, new);
        }
        Step::CheckUnheld { .. }
        | Step::RunDepmod { .. }
        | Step::CheckIndex { .. }
        | Step::UnloadModule { .. }
        | Step::LoadModule { .. }
        | Step::CheckLoaded { .. }
        | Step::ProveDatapath => {}
    }
}

fn note(observed: &mut Observed, path: &str, attributes: &Attributes) {
    if *attributes == Attributes::default() {
        observed.modules.attributes.remove(path);
    } else {
        observed.modules.attributes.insert(path.to_owned(), attributes.clone());
    }
}

/// By what follows the directory's path: state and attributes.
type Taken = Vec<(String, FileState, Attributes)>;

fn take(observed: &mut Observed, directory: &str) -> Taken {
    let inside = below(observed, directory).map(|(path, _)| path.clone());
    let paths: Vec<String> = inside.chain([directory.to_owned()]).collect();
    let one = |path: String| {
        let state = observed.files.remove(&path)?;
        let attributes = observed.modules.attributes.remove(&path).unwrap_or_default();
        observed.modules.links.remove(&path);
        Some((path.strip_prefix(directory)?.to_owned(), state, attributes))
    };
    paths.into_iter().filter_map(one).collect()
}

fn give(observed: &mut Observed, directory: &str, taken: Taken) {
    let mut paths = Vec::new();
    for (rest, state, attributes) in taken {
        let path = format!("{directory}{rest}");
        observed.files.insert(path.clone(), state);
        note(observed, &path, &attributes);
        paths.push(path);
    }
    for path in paths {
        follow(observed, &path);
    }
}
