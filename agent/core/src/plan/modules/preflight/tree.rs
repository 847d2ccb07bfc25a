//! The kernel's module tree: whether a set can be put into it and taken out again.

use crate::config::Paths;
use crate::model::{FileState, KernelModules, MODULE_STEMS, Observed, module_stem};
use crate::plan::Refusal;
use crate::plan::modules::goal::Places;

/// Modules that are compiled in can neither be replaced nor unloaded.
pub(in crate::plan::modules) fn not_builtin(kernel: &KernelModules) -> Result<(), Refusal> {
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

/// Links and other oddities where the set lies cannot be kept and put back.
pub(in crate::plan::modules) fn plain_files(
    kernel: &str,
    observed: &Observed,
    paths: &Paths,
) -> Result<(), Refusal> {
    let places = Places::of(kernel, paths);
    let directories = [&places.weak_updates, &places.set, &places.nsx, &places.backup];
    for (path, state) in &observed.files {
        let expected = if directories.contains(&path) {
            (!matches!(state, FileState::Directory)).then_some("a directory")
        } else {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let ours = [places.set.as_str(), places.backup.as_str()].contains(&parent)
                && module_stem(name).is_some_and(|stem| MODULE_STEMS.contains(&stem));
            (ours && !matches!(state, FileState::Regular { .. })).then_some("a regular file")
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
