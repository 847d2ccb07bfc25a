//! Of which set a loaded module is: by what it says of its build, never by its name.

use crate::config::Paths;
use crate::model::{
    Identity, LoadedModule, MODULE_STEMS, ModuleState, Observed, Sameness, loaded_name, module_stem,
};
use crate::plan::modules::owner;
use serde::Serialize;
use std::collections::BTreeSet;

/// A loaded module, and where it is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadedFrom {
    /// Underscores in place of hyphens.
    pub name: String,
    /// What it says of its build.
    pub identity: Identity,
    /// Whose it is; none where it is no file's build, or nothing tells.
    pub set: Option<ModuleState>,
    /// What told it.
    pub witness: Witness,
}

/// What tells the build of a loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// Its build id is one file's.
    BuildId,
    /// It has no build id to compare; its srcversion is one set's.
    Srcversion,
    /// It has neither to compare; its version is one set's.
    Version,
    /// It says what it is, and every file that could be it says that it is another.
    Foreign,
    /// `IdentityUnproven`: it says nothing, or what it says is true of several sets.
    Unproven,
}

impl Witness {
    /// The word of the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::BuildId => "build id",
            Self::Srcversion => "srcversion",
            Self::Version => "version",
            Self::Foreign => "of no file here",
            Self::Unproven => "IdentityUnproven",
        }
    }
}

/// The loaded modules of the set's names.
pub fn loaded_from(observed: &Observed, paths: &Paths) -> Vec<LoadedFrom> {
    let loaded =
        MODULE_STEMS.into_iter().filter_map(|stem| Some((stem, observed.modules.loaded(stem)?)));
    loaded.map(|(stem, module)| judge(stem, module, observed, paths)).collect()
}

fn judge(stem: &str, module: &LoadedModule, observed: &Observed, paths: &Paths) -> LoadedFrom {
    let (mut proven, mut likely) = (BTreeSet::new(), BTreeSet::new());
    let (mut compared, mut silent) = (false, false);
    for (state, identity) in candidates(stem, observed, paths) {
        match module.identity.sameness(&identity) {
            Sameness::Proven => drop(proven.insert(state.word())),
            Sameness::Likely => drop(likely.insert(state.word())),
            Sameness::Different => compared = true,
            // a file that cannot be read may be the one
            Sameness::Unproven => silent = true,
        }
    }
    let weak =
        if module.identity.srcversion.is_some() { Witness::Srcversion } else { Witness::Version };
    let (set, witness) = match (only(&proven), only(&likely)) {
        (Some(set), _) => (Some(set), Witness::BuildId),
        // the same build in two places: it is neither's alone
        (None, _) if !proven.is_empty() => (None, Witness::Unproven),
        (None, Some(set)) => (Some(set), weak),
        (None, None) if likely.is_empty() && compared && !silent => (None, Witness::Foreign),
        (None, None) => (None, Witness::Unproven),
    };
    let (name, identity) = (module.name.clone(), module.identity.clone());
    LoadedFrom { name, identity, set, witness }
}

fn only(words: &BTreeSet<&'static str>) -> Option<ModuleState> {
    let states = [ModuleState::InTree, ModuleState::User, ModuleState::Nsx];
    let word = words.first().filter(|_| words.len() == 1)?;
    states.into_iter().find(|state| state.word() == *word)
}

/// The files that may have been loaded, each with whose it is: the payload's, and those of
/// the running kernel's tree.
fn candidates(stem: &str, observed: &Observed, paths: &Paths) -> Vec<(ModuleState, Identity)> {
    let sets = observed.payload.iter().flat_map(|payload| &payload.manifest.modules);
    let mut found: Vec<(ModuleState, Identity)> = sets
        .filter_map(|set| set.files.get(stem))
        .map(|file| {
            let facts = observed.modules.facts.get(&file.sha256);
            let mut identity = facts.map(|facts| facts.identity.clone()).unwrap_or_default();
            identity.build_id = Some(file.build_id.clone());
            (ModuleState::Nsx, identity)
        })
        .collect();
    let kernel = &observed.host.kernel;
    let prefix = format!("{}/{kernel}/", paths.modules);
    let below = observed.files.range(prefix.clone()..);
    for (path, _) in below.take_while(|(path, _)| path.starts_with(&prefix)) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let named = module_stem(name).is_some_and(|name| loaded_name(name) == loaded_name(stem));
        let (Some(inside), Some(facts)) = (path.strip_prefix(&prefix), observed.module_at(path))
        else {
            continue;
        };
        if named {
            found.push((owner(observed, paths, kernel, inside), facts.identity.clone()));
        }
    }
    found
}
