//! What the running kernel holds: `/sys/module`.

use super::build_id_of_note;
use crate::disk::HostRoot;
use pointsman_core::model::{Identity, LoadedModule, loaded_name};
use std::fs;
use std::path::Path;

/// sysfs gives at most a page.
const PAGE: u64 = 4096;

/// A loaded module by stem or name; none where the kernel does not hold it as a module.
///
/// A module that is compiled in has a directory too, but no `initstate`.
pub(crate) fn loaded_module(root: &HostRoot, stem: &str) -> Option<LoadedModule> {
    let name = loaded_name(stem);
    let directory = format!("/sys/module/{name}");
    let text = |file: &str| {
        let bytes = root.read(&format!("{directory}/{file}"), PAGE).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    let state = text("initstate")?;
    let note = root.read(&format!("{directory}/notes/.note.gnu.build-id"), PAGE).ok();
    let identity = Identity {
        build_id: note.and_then(|note| build_id_of_note(&note)),
        srcversion: text("srcversion"),
        version: text("version"),
    };
    let refcount = text("refcnt").and_then(|count| count.parse().ok());
    let holders = holders(root, &format!("{directory}/holders"));
    Some(LoadedModule { name, identity, refcount, holders, state })
}

fn holders(root: &HostRoot, directory: &str) -> Vec<String> {
    let listed =
        root.locate_directory(Path::new(directory)).ok().and_then(|at| fs::read_dir(at).ok());
    let entries = listed.into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
