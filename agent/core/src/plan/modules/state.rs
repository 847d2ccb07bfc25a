//! Whose modules a kernel will load.

use super::overrides::{SET_DIRECTORY, our_pins};
use crate::config::Paths;
use crate::model::{FileState, MODULE_STEMS, ModuleState, Observed};
use std::collections::BTreeSet;

/// Whose the set is that the index of a kernel chooses.
///
/// By contents, not by place: a file is the payload's where its digest or its build id
/// is one of the manifest's, or where our override made it win. A file that the index names
/// and that is gone is none; of two payload sets, or of two versions of the user's, it is
/// mixed.
pub fn which_set(observed: &Observed, paths: &Paths, kernel: &str) -> ModuleState {
    let Some(found) = observed.modules.kernel(kernel) else { return ModuleState::None };
    let gone = dangling(observed, paths, kernel);
    let chosen: Vec<(&str, &str)> = MODULE_STEMS
        .iter()
        .filter_map(|stem| Some((*stem, found.winner(stem)?.path.as_str())))
        .filter(|(_, path)| !gone.iter().any(|gone| gone == path))
        .collect();
    let owner = |(_, path): &(&str, &str)| owner(observed, paths, kernel, path);
    let owners: BTreeSet<&str> = chosen.iter().map(owner).map(ModuleState::word).collect();
    let openvswitch = chosen.iter().any(|(stem, _)| *stem == "openvswitch");
    let builtin = found.builtin.iter().any(|stem| stem == "openvswitch");
    let places = chosen.iter().map(|(_, path)| format!("{}/{kernel}/{path}", paths.modules));
    match owners.first() {
        Some(_) if owners.len() > 1 => ModuleState::Mixed,
        Some(&("nsx" | "user")) if openvswitch && !is_one(observed, places.clone()) => {
            ModuleState::Mixed
        }
        Some(&"nsx") if openvswitch => ModuleState::Nsx,
        Some(&"user") if openvswitch => ModuleState::User,
        Some(&"in-tree") if openvswitch => ModuleState::InTree,
        Some(_) | None if builtin => ModuleState::InTree,
        Some(_) | None => ModuleState::None,
    }
}

/// The chosen files of one owner that are no longer there, below the kernel's directory:
/// who deletes without depmod leaves the index naming what is gone.
pub fn dangling(observed: &Observed, paths: &Paths, kernel: &str) -> Vec<String> {
    let Some(found) = observed.modules.kernel(kernel) else { return Vec::new() };
    let winners = MODULE_STEMS.iter().filter_map(|stem| found.winner(stem));
    let gone = |inside: &String| {
        let path = format!("{}/{kernel}/{inside}", paths.modules);
        match observed.files.get(&path) {
            None | Some(FileState::Directory | FileState::Other) => true,
            Some(FileState::Regular { .. }) => false,
            Some(FileState::Symlink { .. }) => !observed.modules.links.contains_key(&path),
        }
    };
    winners.map(|entry| entry.path.clone()).filter(gone).collect()
}

/// Whether files are of one build: none of another version than the others, and of the
/// payload's one set.
fn is_one(observed: &Observed, places: impl Iterator<Item = String>) -> bool {
    let (mut versions, mut sets) = (BTreeSet::new(), None::<BTreeSet<usize>>);
    for path in places {
        let version = observed.module_at(&path).and_then(|f| f.identity.version.as_deref());
        versions.extend(version);
        let of: BTreeSet<usize> = sets_with(observed, &path).collect();
        if !of.is_empty() {
            sets = Some(sets.map_or(of.clone(), |sets| &sets & &of));
        }
    }
    versions.len() <= 1 && sets.is_none_or(|sets| !sets.is_empty())
}

/// Whose a file of a kernel's tree is.
pub(crate) fn owner(observed: &Observed, paths: &Paths, kernel: &str, inside: &str) -> ModuleState {
    let path = format!("{}/{kernel}/{inside}", paths.modules);
    if is_payloads(observed, &path) {
        return ModuleState::Nsx;
    }
    if inside.starts_with("kernel/") {
        return ModuleState::InTree;
    }
    if is_nsx(observed, &path) {
        return ModuleState::Nsx;
    }
    let in_place = inside.strip_prefix(SET_DIRECTORY).is_some_and(|rest| rest.starts_with('/'));
    if in_place && our_pins(observed, paths).kernels.contains_key(kernel) {
        return ModuleState::Nsx;
    }
    ModuleState::User
}

/// Whether the contents at a path are of a set of the payload.
pub(crate) fn is_payloads(observed: &Observed, path: &str) -> bool {
    sets_with(observed, path).next().is_some()
}

/// Whether the contents at a path are NSX's: of a set of the payload, or of the same version and
/// another build.
///
/// A version is a witness only with NSX's build in it, as in `2.17.2.22596735`: the user may
/// have built an Open vSwitch of the same three numbers.
pub(crate) fn is_nsx(observed: &Observed, path: &str) -> bool {
    let versions = || observed.payload.iter().flat_map(|payload| &payload.manifest.modules);
    let version = observed.module_at(path).and_then(|facts| facts.identity.version.as_deref());
    is_payloads(observed, path)
        || version.is_some_and(|version| {
            has_build(version) && versions().any(|set| set.version == version)
        })
}

/// Four numbers or more: Open vSwitch itself has three.
fn has_build(version: &str) -> bool {
    let parts: Vec<&str> = version.split(['.', '-']).collect();
    let number = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    parts.len() > 3 && parts.iter().take(4).all(number)
}

/// Which sets of the payload have the contents at a path, by number.
fn sets_with(observed: &Observed, path: &str) -> impl Iterator<Item = usize> {
    let digest = observed.contents_at(path);
    let build_id = observed.module_at(path).and_then(|facts| facts.identity.build_id.as_ref());
    let sets = observed.payload.iter().flat_map(|payload| &payload.manifest.modules);
    sets.enumerate().filter_map(move |(number, set)| {
        let same = |file: &crate::payload::ModuleFile| {
            digest.is_some() && (Some(file.sha256) == digest || Some(&file.build_id) == build_id)
        };
        set.files.values().any(same).then_some(number)
    })
}
