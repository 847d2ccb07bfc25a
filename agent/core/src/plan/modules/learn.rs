//! What the files that steps write and link mean to depmod, for the simulation of what follows.

use super::{parse_depmod, parse_info};
use crate::model::{Digest, FileState, Observed};
use crate::plan::file::{self, Source};
use crate::plan::modules::is_conf;

/// What a written file says to depmod, for the simulation of the steps behind it.
pub(in crate::plan) fn learn(observed: &mut Observed, step: &file::Step) {
    match step {
        file::Step::Write { path, source: Source::Inline(text), .. } if is_conf(path) => {
            observed.modules.depmod.insert(Digest::of(text.as_bytes()), parse_depmod(text));
        }
        file::Step::Write { path, source: Source::Inline(text), .. } if is_info(path) => {
            let origins = &mut observed.modules.footing.origins;
            origins.insert(Digest::of(text.as_bytes()), parse_info(text));
        }
        file::Step::Link { path, .. } => follow(observed, path),
        file::Step::Write { path, .. }
        | file::Step::Remove { path, .. }
        | file::Step::RemoveDirectory { path } => {
            observed.modules.links.remove(path);
            observed.modules.attributes.remove(path);
        }
        file::Step::Keep { .. } | file::Step::MakeDirectory { .. } => {}
    }
}

/// Whether a path is that of a backup's record of origins.
pub fn is_info(path: &str) -> bool {
    path.ends_with("/nsx/usr-ovs-kmod-backup/INFO")
}

/// Looks anew where the link at a path leads.
pub(super) fn follow(observed: &mut Observed, path: &str) {
    observed.modules.links.remove(path);
    let Some(FileState::Symlink { target }) = observed.files.get(path) else { return };
    let target = target.clone();
    if let Some(sha256) = behind(observed, path, &target) {
        observed.modules.links.insert(path.to_owned(), sha256);
    }
}

/// What a link of a module would lead to: a file that was seen, or what another link of the
/// same target leads to.
fn behind(observed: &Observed, path: &str, target: &str) -> Option<Digest> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let at = parts.join("/");
    let at = if at.starts_with('/') { at } else { format!("/{at}") };
    let same = |other: &&String| {
        target.starts_with('/')
            && matches!(observed.files.get(*other), Some(FileState::Symlink { target: t }) if t == target)
    };
    observed.contents_at(&at).or_else(|| {
        let other = observed.modules.links.keys().find(same)?;
        observed.modules.links.get(other).copied()
    })
}
