//! What a module set would stand on: asked before anything changes.
//!
//! What cannot be read is not known, and what is not known refuses nothing: the executor's
//! checks stand behind it.

mod abi;
mod busy;
mod modprobe;
mod policy;
mod symvers;
mod tree;

pub use symvers::parse_symvers;

use super::{ModuleSources, is_signed};
use crate::disk::HostRoot;
use pointsman_core::model::{Digest, Footing, KernelFooting, KernelModules};
use pointsman_core::payload::ModuleSet;
use std::collections::BTreeMap;

/// The files of a set that are there, by stem.
type SetFiles = BTreeMap<String, Vec<u8>>;

/// Reads all of it.
pub(super) fn observe(sources: &ModuleSources<'_>, kernels: &[KernelModules]) -> Footing {
    let root = sources.root;
    let mut footing = Footing {
        policy: policy::read(root),
        prevented: modprobe::read(root),
        read_only: tree::read_only(root, &sources.paths.modules),
        elsewhere: tree::elsewhere(root, &sources.paths.modules),
        busy: busy::find(root),
        ..Footing::default()
    };
    for kernel in kernels {
        let set = sources.payload.and_then(|(_, manifest)| manifest.module_set(&kernel.release));
        let files = set.map(|set| set_files(sources, set)).unwrap_or_default();
        let signed = files.values().filter(|bytes| is_signed(bytes));
        footing.signed.extend(signed.map(|bytes| Digest::of(bytes)));
        let found = of_kernel(sources, kernel, &files);
        footing.kernels.insert(kernel.release.clone(), found);
    }
    footing
}

fn set_files(sources: &ModuleSources<'_>, set: &ModuleSet) -> SetFiles {
    let Some((directory, _)) = sources.payload else { return SetFiles::new() };
    let root = HostRoot::new(directory);
    let read = |path: &str| root.read(&format!("/{path}"), super::LIMIT).ok();
    set.files.iter().filter_map(|(stem, file)| Some((stem.clone(), read(&file.path)?))).collect()
}

fn of_kernel(
    sources: &ModuleSources<'_>,
    kernel: &KernelModules,
    files: &SetFiles,
) -> KernelFooting {
    let (root, parent) = (sources.root, sources.paths.modules.as_str());
    let set = files.values().map(|bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX)).sum();
    KernelFooting {
        missing: tree::missing(root, parent, kernel),
        linked: tree::linked(root, parent, &kernel.release),
        room: tree::room(root, parent, &kernel.release, set),
        signed_only: policy::signed_only(root, parent, &kernel.release),
        abi: abi::compare(root, parent, &kernel.release, files),
    }
}
