//! The ledger that a way leads through: before its first change, and behind its last.

use crate::model::{Digest, FileState, Former, Ledger, Observed, Owned};
use crate::plan::file::Step as FileStep;
use crate::plan::{Plan, Step, cni};

/// The ledger before the first change of an installation: every file's first state is in it, and
/// what is about to be written beside what was written before. The base is still the former one:
/// until the configuration is committed, the installed one was made from that.
pub(super) fn opened(observed: &Observed, way: &Plan, version: &str) -> Ledger {
    let mut ledger = observed.cni.ledger.clone().unwrap_or_default();
    version.clone_into(&mut ledger.version);
    for (path, written) in changes(way) {
        let owned = ledger.files.entry(path.to_owned()).or_insert_with(|| Owned {
            before: observed.files.get(path).and_then(former),
            written: Vec::new(),
        });
        if let Some(sha256) = written.filter(|sha256| !owned.written.contains(sha256)) {
            owned.written.push(sha256);
        }
    }
    ledger
}

/// The ledger behind the commit. `base` is none where what is installed was left as it was found:
/// nobody knows what that was made from.
pub(super) fn settled(mut opened: Ledger, way: &Plan, base: Option<&str>) -> Ledger {
    for (path, written) in changes(way) {
        if let Some(owned) = opened.files.get_mut(path) {
            owned.written = written.into_iter().collect();
        }
    }
    if let Some(base) = base {
        opened.base = Some(base.to_owned());
    }
    opened
}

pub(super) fn note(ledger: Option<Ledger>) -> Step {
    Step::Cni(cni::Step::Note { ledger })
}

/// The files that a way writes, and those that it removes.
fn changes(way: &Plan) -> impl Iterator<Item = (&str, Option<Digest>)> {
    way.steps().filter_map(|step| {
        if let Step::File(FileStep::Write { path, sha256, .. }) = step {
            Some((path.as_str(), Some(*sha256)))
        } else if let Step::File(FileStep::Remove { path, .. }) = step {
            Some((path.as_str(), None))
        } else {
            None
        }
    })
}

fn former(state: &FileState) -> Option<Former> {
    match state {
        FileState::Regular { mode, sha256, .. } => Some(Former { mode: *mode, sha256: *sha256 }),
        FileState::Symlink { .. } | FileState::Directory | FileState::Other => None,
    }
}
