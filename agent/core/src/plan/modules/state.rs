//! Whose modules a kernel will load.

use super::overrides::{SET_DIRECTORY, our_pins};
use crate::config::Paths;
use crate::model::{MODULE_STEMS, ModuleState, Observed};
use std::collections::BTreeSet;

/// Whose the set is that the index of a kernel chooses.
///
/// By contents, not by place: a file is the payload's where its digest or its build id
/// is one of the manifest's, or where our override made it win.
pub fn which_set(observed: &Observed, paths: &Paths, kernel: &str) -> ModuleState {
    let Some(found) = observed.modules.kernel(kernel) else { return ModuleState::None };
    let owners: BTreeSet<&str> = MODULE_STEMS
        .iter()
        .filter_map(|stem| found.winner(stem))
        .map(|entry| owner(observed, paths, kernel, &entry.path).word())
        .collect();
    let openvswitch = found.winner("openvswitch").is_some();
    let builtin = found.builtin.iter().any(|stem| stem == "openvswitch");
    match owners.first() {
        Some(_) if owners.len() > 1 => ModuleState::Mixed,
        Some(&"nsx") if openvswitch => ModuleState::Nsx,
        Some(&"user") if openvswitch => ModuleState::User,
        Some(&"in-tree") if openvswitch => ModuleState::InTree,
        Some(_) | None if builtin => ModuleState::InTree,
        Some(_) | None => ModuleState::None,
    }
}

fn owner(observed: &Observed, paths: &Paths, kernel: &str, inside: &str) -> ModuleState {
    let path = format!("{}/{kernel}/{inside}", paths.modules);
    if is_payloads(observed, &path) {
        return ModuleState::Nsx;
    }
    if inside.starts_with("kernel/") {
        return ModuleState::InTree;
    }
    let in_place = inside.strip_prefix(SET_DIRECTORY).is_some_and(|rest| rest.starts_with('/'));
    if in_place && our_pins(observed, paths).kernels.contains_key(kernel) {
        return ModuleState::Nsx;
    }
    ModuleState::User
}

/// Whether the contents at a path are of a set of the payload.
pub(crate) fn is_payloads(observed: &Observed, path: &str) -> bool {
    let (Some(digest), Some(payload)) = (observed.contents_at(path), &observed.payload) else {
        return false;
    };
    let build_id = observed.module_at(path).and_then(|facts| facts.identity.build_id.as_ref());
    let sets = &payload.manifest.modules;
    sets.iter()
        .flat_map(|set| set.files.values())
        .any(|file| file.sha256 == digest || Some(&file.build_id) == build_id)
}
