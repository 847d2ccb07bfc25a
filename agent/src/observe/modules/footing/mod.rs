//! What a module set would stand on: asked before anything changes.
//!
//! What cannot be read is not known, and what is not known refuses nothing: the executor's
//! checks stand behind it.

mod abi;
mod busy;
mod initramfs;
mod intent;
mod modprobe;
mod packages;
mod policy;
mod signer;
mod symvers;
mod tree;

pub(in crate::observe) use packages::databases;
pub use signer::signer;
pub use symvers::parse_symvers;

use super::{ModuleSources, is_signed};
use crate::disk::HostRoot;
use pointsman_core::model::{Busy, Digest, Footing, KernelFooting, KernelModules, PackageDatabase};
use pointsman_core::payload::ModuleSet;
use std::collections::BTreeMap;

/// The files of a set that are there, by stem.
type SetFiles = BTreeMap<String, Vec<u8>>;

/// Who may change the trees, asked before they are read.
pub(super) struct Others {
    busy: Option<Busy>,
    databases: BTreeMap<String, PackageDatabase>,
}

impl Others {
    pub(super) fn of(root: &HostRoot) -> Self {
        Self { busy: busy::find(root), databases: databases(root) }
    }

    /// Who is, or was, at work while the trees were read: what was read may be of both sides.
    fn meanwhile(self, now: &Self) -> Option<Busy> {
        let changed =
            now.databases.iter().find(|(path, now)| self.databases.get(*path) != Some(now));
        let ended = changed.map(|(path, database)| Busy {
            pid: None,
            name: format!("{}, which has just changed packages,", database.by),
            lock: Some(path.clone()),
        });
        now.busy.clone().or(self.busy).or(ended)
    }
}

/// Reads all of it.
pub(super) fn observe(
    sources: &ModuleSources<'_>,
    kernels: &[KernelModules],
    before: Others,
) -> Footing {
    let root = sources.root;
    let others = Others::of(root);
    let releases: Vec<&str> = kernels.iter().map(|kernel| kernel.release.as_str()).collect();
    let mut footing = Footing {
        policy: policy::read(root),
        prevented: modprobe::read(root),
        read_only: tree::read_only(root, &sources.paths.modules),
        elsewhere: tree::elsewhere(root, &sources.paths.modules),
        busy: before.meanwhile(&others),
        keys: signer::keys(root),
        owned: packages::owned(sources, &releases, &others.databases),
        intent: intent::read(root),
        databases: others.databases,
        ..Footing::default()
    };
    for kernel in kernels {
        let set = sources.payload.and_then(|(_, manifest)| manifest.module_set(&kernel.release));
        let files = set.map(|set| set_files(sources, set)).unwrap_or_default();
        let signed = files.values().filter(|bytes| is_signed(bytes));
        footing.signed.extend(signed.map(|bytes| Digest::of(bytes)));
        let signers = files.values().filter_map(|bytes| Some((Digest::of(bytes), signer(bytes)?)));
        footing.signers.extend(signers);
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
        initramfs: initramfs::find(sources, &kernel.release),
        indexed: tree::indexed(root, parent, &kernel.release),
    }
}
