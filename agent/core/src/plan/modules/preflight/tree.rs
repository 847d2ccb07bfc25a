//! The kernel's module tree: whether a set can be put into it and taken out again.

use crate::config::Paths;
use crate::model::{FileState, KernelModules, MODULE_STEMS, Observed, module_stem};
use crate::plan::Refusal;
use crate::plan::modules::Target;
use crate::plan::modules::goal::Places;
use crate::plan::modules::overrides::entries;
use crate::plan::modules::state::is_payloads;

/// Modules that are compiled in can neither be replaced nor unloaded.
pub(super) fn not_builtin(kernel: &KernelModules) -> Result<(), Refusal> {
    match kernel.builtin.first() {
        None => Ok(()),
        Some(stem) => {
            let message = format!(
                "{stem} is compiled into the kernel {} and cannot be replaced: another kernel is needed",
                kernel.release
            );
            Err(Refusal::new("ModuleBuiltin", message))
        }
    }
}

/// Directories and devices where the set lies cannot be kept and put back.
pub(super) fn plain_files(kernel: &str, observed: &Observed, paths: &Paths) -> Result<(), Refusal> {
    let places = Places::of(kernel, paths);
    let directories = [&places.weak_updates, &places.set, &places.nsx, &places.backup];
    for (path, state) in &observed.files {
        let expected = if directories.contains(&path) {
            (!matches!(state, FileState::Directory)).then_some("a directory")
        } else {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let ours = [places.set.as_str(), places.backup.as_str()].contains(&parent)
                && module_stem(name).is_some_and(|stem| MODULE_STEMS.contains(&stem));
            let kept = matches!(state, FileState::Regular { .. } | FileState::Symlink { .. });
            (ours && !kept).then_some("a regular file or a link")
        };
        if let Some(expected) = expected {
            let message = format!(
                "{path} is not {expected}: it could not be put back as it was. Move it away first"
            );
            return Err(Refusal::new("NotRegular", message));
        }
    }
    Ok(())
}

/// A backup that holds the payload's own files would be put back as the user's.
pub(super) fn backup(
    kernel: &KernelModules,
    observed: &Observed,
    paths: &Paths,
    target: Target,
) -> Result<(), Refusal> {
    let places = Places::of(&kernel.release, paths);
    let files =
        entries(observed, &places.backup).map(|(name, _)| format!("{}/{name}", places.backup));
    let Some(path) = files.into_iter().find(|path| is_payloads(observed, path)) else {
        return Ok(());
    };
    if target != Target::InTree {
        return Ok(());
    }
    let message = format!(
        "{path}, in the place of the user's own files, is the payload's: putting it back would \
         leave NSX's module in place. Remove it first"
    );
    Err(Refusal::new("BackupIsNsx", message))
}
