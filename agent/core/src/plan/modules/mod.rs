//! Kernel modules: which set lies on disk, which the index chooses, which is loaded.
//!
//! The set lies where NCP puts it, in `weak-updates/openvswitch` of the kernel's tree, the
//! user's earlier files of that directory in `nsx/usr-ovs-kmod-backup`. depmod prefers
//! neither by itself, so an override file names the winner and the index is asked
//! whether it agrees.
//!
//! The order is: copies first, then the user's backup, then the set, then depmod's
//! configuration, then the index. Every file is written whole, and the set changes as a
//! whole (`exchange`). A crash between two steps is recovered by planning again, with the
//! checkpoint of the unfinished transaction, toward either end.

mod disk;
mod exchange;
mod goal;
mod learn;
mod live;
mod origin;
mod overrides;
mod preflight;
mod state;
#[cfg(test)]
mod tests;
mod winner;

pub use exchange::staging;
pub use learn::is_info;
pub(super) use learn::learn;
pub use live::{Loaded, loaded, reboot_pending};
pub use origin::{HOMES, parse_info};
pub use overrides::{
    OTHER_DIRECTORIES, OVERRIDE_FILE, SET_DIRECTORY, is_conf, is_release, parse_depmod,
};
pub use preflight::readiness;
pub(crate) use preflight::stale_copy;
pub(crate) use state::owner;
pub use state::{dangling, which_set};

use crate::checkpoint::Checkpoint;
use crate::config::{Activate, Paths};
use crate::model::{
    Attributes, Digest, Identity, Index, IndexEntry, LoadedModule, Observed, loaded_name,
};
use crate::plan::file::{self, Source};
use crate::plan::{Plan, Refusal};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use winner::Winners;

/// Which set is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The payload's set for the kernel.
    Payload,
    /// The user's own set where the user had one, else the kernel's own.
    InTree,
    /// What the checkpoint holds.
    Before,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Release of the kernel whose tree is changed.
    pub kernel: String,
    /// Which set.
    pub target: Target,
    /// Whether the loaded module is exchanged too, or left for the next boot.
    pub activate: Activate,
}

/// A change that is more than a file, or a check of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// Put a module file in place as [`file::Step::Write`] does, with owner and label set before
    /// the rename.
    Put {
        /// Which file.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Owner and label; without a label it gets what its directory gives.
        attributes: Attributes,
        /// Where the contents come from.
        source: Source,
        /// What they must be.
        sha256: Digest,
    },
    /// Make the directory that a set is put together in, with the mode, owner and label that it
    /// is to have in its place. It must not be there.
    MakeStaging {
        /// Which one: a sibling of the kernels' trees, where depmod does not look.
        path: String,
        /// Of the directory.
        attributes: Attributes,
    },
    /// Sync a directory and exchange it with the one that it is to replace, in one rename.
    ///
    /// Only trying tells whether the file system can (overlayfs cannot move what its lower layer
    /// has, two mounts have nothing in common, old file systems know no such rename). Where it
    /// cannot, the files are written one by one, each whole, and the staged ones removed.
    Exchange {
        /// The set's place.
        path: String,
        /// Where its successor was put together.
        staged: String,
        /// The names in the set's place; any other fails the step, so that nobody's file is
        /// carried away.
        leaves: BTreeSet<String>,
        /// The names of its successor; any other fails the step.
        brings: BTreeSet<String>,
    },
    /// See that nothing but the named modules holds a loaded module. Changes nothing.
    CheckUnheld {
        /// Of the module, underscores in place of hyphens.
        name: String,
        /// Loaded modules that are going to be unloaded before it.
        holders: Vec<String>,
    },
    /// Index the modules of a kernel, and see that the index was written whole.
    RunDepmod {
        /// Its release.
        kernel: String,
        /// Parent of the kernels' trees.
        modules: String,
        /// Where depmod looks for configuration first.
        depmod: String,
    },
    /// See that the index chooses what it should. Changes nothing.
    CheckIndex {
        /// Release of the kernel.
        kernel: String,
        /// Parent of the kernels' trees.
        modules: String,
        /// By stem, the files below the kernel's directory of which one must be chosen; the
        /// index must not know a stem that has none.
        expect: BTreeMap<String, BTreeSet<String>>,
        /// By such a file, the modules that it needs, underscores in place of hyphens: one that
        /// the index lacks is one that the kernel's tree lacks.
        depends: BTreeMap<String, Vec<String>>,
    },
    /// Take a module out of the running kernel; fails at once where anything holds it.
    UnloadModule {
        /// Of the module.
        name: String,
    },
    /// Load a module by name, so that it is the index that chooses the file.
    LoadModule {
        /// Of the module.
        name: String,
        /// What it may be: one per file that the index may choose.
        expect: Vec<Identity>,
    },
    /// See that the loaded module is of the wanted build. Changes nothing.
    CheckLoaded {
        /// Of the module.
        name: String,
        /// What it may be.
        expect: Vec<Identity>,
    },
    /// See that the loaded modules work: in a network namespace of its own a datapath with a
    /// Geneve port is made, and deleted again. Leaves nothing.
    ProveDatapath,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { path, mode, attributes, source, sha256 } => {
                let (path, mode, source, sha256) = (path.clone(), *mode, source.clone(), *sha256);
                file::Step::Write { path, mode, source, sha256 }.fmt(f)?;
                match &attributes.label {
                    Some(label) => write!(f, ", labelled {label}"),
                    None => Ok(()),
                }
            }
            Self::MakeStaging { path, .. } => {
                write!(f, "make the directory {path}, where depmod does not look")
            }
            Self::Exchange { path, staged, .. } => write!(
                f,
                "exchange {path} with {staged}, all at once (file by file where the file system \
                 cannot)"
            ),
            Self::CheckUnheld { name, .. } => {
                write!(f, "check that nothing holds the loaded module {name}")
            }
            Self::RunDepmod { kernel, .. } => write!(f, "index the modules of the kernel {kernel}"),
            Self::CheckIndex { kernel, expect, .. } => {
                let chosen = expect.get("openvswitch").and_then(BTreeSet::first);
                let chosen = chosen.map_or("no openvswitch", String::as_str);
                write!(
                    f,
                    "check that the index of the kernel {kernel} chooses {chosen} and its set"
                )
            }
            Self::UnloadModule { name } => write!(f, "unload the module {name}"),
            Self::LoadModule { name, .. } => write!(f, "load the module {name}"),
            Self::CheckLoaded { name, expect } => {
                let expect: Vec<String> = expect.iter().map(Identity::to_string).collect();
                write!(f, "check that the loaded {name} is the one with {}", expect.join(" or "))
            }
            Self::ProveDatapath => f.write_str(
                "make and delete a datapath with a Geneve port in a network namespace of its own: \
                 what is loaded has to work",
            ),
        }
    }
}

/// Whether a step exchanges what the kernel runs, which needs Open vSwitch at rest.
pub fn touches_memory(step: &crate::plan::Step) -> bool {
    matches!(step, crate::plan::Step::Modules(Step::UnloadModule { .. } | Step::LoadModule { .. }))
}

/// The steps from what is to what is wanted.
///
/// `way_back` is the checkpoint of an unfinished transaction, and must be given where
/// there is one: it tells the user's files from the payload's in a half-changed tree.
/// [`Target::Before`] needs it; without one there is nothing to go back to.
pub fn plan_modules(
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
    paths: &Paths,
) -> Result<Plan, Refusal> {
    let Parts { first, disk, exchange, proof } = plan_parts(want, observed, way_back, paths)?;
    Ok([first, disk, exchange, proof].into_iter().fold(Plan::default(), Plan::then))
}

/// [`plan_modules`] by parts, for a plan that has others between them.
pub(super) fn plan_parts(
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
    paths: &Paths,
) -> Result<Parts, Refusal> {
    let kernel = preflight::kernel(want, observed)?;
    let before = way_back.map(|checkpoint| &checkpoint.before);
    if want.target == Target::Before && before.is_none() {
        let message = "there is no checkpoint, so there is no earlier state to go back to";
        return Err(Refusal::new("NoCheckpoint", message));
    }
    let set = preflight::check(want, kernel, observed, paths)?;
    let goal = goal::Goal::new(want.target, &want.kernel, observed, before, set, paths);
    let disk = disk::steps(observed, &goal, want.target, paths);
    let mut after = observed.clone();
    disk.all().for_each(|step| super::simulate(&mut after, step));
    let winners = winner::winners(&after, paths, &want.kernel);
    preflight::one_set(want, &after, &winners, paths)?;
    let stale = !disk.is_empty() || !index_agrees(&after, &want.kernel, &winners, paths);
    let settled = if stale { winners.clone() } else { chosen(&after, &want.kernel, &winners) };
    let live = live::steps(want, observed, &after, before, paths, &settled)?;
    if want.target != Target::Before && !live.exchange.is_empty() {
        preflight::may_exchange(observed)?;
    }
    if stale || !live.exchange.is_empty() {
        preflight::begin(want, set, observed, &after)?;
    }
    let index = stale.then(|| {
        let depends = depends(&after, &want.kernel, &winners, paths);
        let (kernel, modules) = (want.kernel.clone(), paths.modules.clone());
        Step::CheckIndex { kernel, modules, expect: winners, depends }
    });
    let mut parts = assemble(want, paths, disk, index, live);
    parts.disk.notes.extend(preflight::notes(want, set, kernel, observed));
    Ok(parts)
}

/// What an exchange consists of, in order.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// See that nothing holds the loaded module.
    pub(super) first: Plan,
    /// The files, and their index: nothing of the running kernel.
    pub(super) disk: Plan,
    /// The running kernel.
    pub(super) exchange: Plan,
    /// See that what was loaded works.
    pub(super) proof: Plan,
}

/// What each file that may be chosen says it needs.
fn depends(
    observed: &Observed,
    kernel: &str,
    winners: &Winners,
    paths: &Paths,
) -> BTreeMap<String, Vec<String>> {
    let needs = |path: &String| {
        let facts = observed.module_at(&format!("{}/{kernel}/{path}", paths.modules))?;
        let names = facts.depends.iter().map(|name| loaded_name(name)).collect();
        Some((path.clone(), names))
    };
    winners.values().flatten().filter_map(needs).collect()
}

fn assemble(
    want: &Want,
    paths: &Paths,
    disk: disk::DiskSteps,
    index: Option<Step>,
    live: live::LiveSteps,
) -> Parts {
    let own = |steps: Vec<Step>| steps.into_iter().map(super::Step::Modules).collect();
    let mut parts = Parts::default();
    parts.first.push("see that the loaded module can be exchanged", own(live.first));
    parts.exchange.push("exchange the loaded module", own(live.exchange));
    if parts.exchange.steps().any(touches_memory) {
        parts.proof.push("see that the loaded module works", own(vec![Step::ProveDatapath]));
    }
    let plan = &mut parts.disk;
    plan.notes = disk.notes;
    plan.push("keep copies of the module files that change", disk.keep);
    plan.push("put the module files in place", disk.put);
    plan.push("remove what does not belong to the set", disk.clear);
    plan.push("tell depmod which set to choose", disk.choose);
    if let Some(check) = index {
        let (kernel, modules) = (want.kernel.clone(), paths.modules.clone());
        let run = Step::RunDepmod { kernel, modules, depmod: paths.depmod.clone() };
        plan.push("index the modules, and check the choice", own(vec![run, check]));
    }
    parts
}

/// Whether the index chooses what depmod would choose now.
///
/// Dependencies are compared too: an index of other contents at the same paths is stale.
fn index_agrees(observed: &Observed, kernel: &str, winners: &Winners, paths: &Paths) -> bool {
    let Some(found) = observed.modules.kernel(kernel) else { return false };
    if matches!(found.index, Index::Unreadable { .. }) {
        return false;
    }
    let depends = depends(observed, kernel, winners, paths);
    winners.iter().all(|(stem, allowed)| match found.winner(stem) {
        None => allowed.is_empty(),
        Some(entry) => {
            allowed.contains(&entry.path) && entry.lacks(depends.get(&entry.path)).is_none()
        }
    })
}

/// Of equals, the one that the index chose.
fn chosen(observed: &Observed, kernel: &str, winners: &Winners) -> Winners {
    let mut winners = winners.clone();
    if let Some(found) = observed.modules.kernel(kernel) {
        for (stem, allowed) in &mut winners {
            allowed.retain(|path| found.winner(stem).is_some_and(|entry| entry.path == *path));
        }
    }
    winners
}

/// The effect on an observation.
pub fn simulate(observed: &mut Observed, step: &Step) {
    match step {
        Step::Put { .. } | Step::MakeStaging { .. } | Step::Exchange { .. } => {
            exchange::simulate(observed, step);
        }
        Step::CheckUnheld { .. }
        | Step::CheckIndex { .. }
        | Step::CheckLoaded { .. }
        | Step::ProveDatapath => {}
        Step::RunDepmod { kernel, modules, depmod } => {
            let paths =
                Paths { modules: modules.clone(), depmod: depmod.clone(), ..Paths::default() };
            index_anew(observed, kernel, &paths);
        }
        Step::UnloadModule { name } => {
            observed.modules.loaded.retain(|module| module.name != *name);
            for module in &mut observed.modules.loaded {
                module.holders.retain(|holder| holder != name);
            }
        }
        Step::LoadModule { name, expect } => {
            let identity = expect.first().cloned().unwrap_or_default();
            let (name, state) = (name.clone(), "live".to_owned());
            let module = LoadedModule { name, identity, state, ..LoadedModule::default() };
            observed.modules.loaded.push(module);
            observed.modules.loaded.sort_by(|one, two| one.name.cmp(&two.name));
        }
    }
}

fn index_anew(observed: &mut Observed, kernel: &str, paths: &Paths) {
    let entry = |(stem, path): (String, String)| {
        let facts = observed.module_at(&format!("{}/{kernel}/{path}", paths.modules));
        let depends = facts.map(|facts| facts.depends.clone()).unwrap_or_default();
        let depends = depends.iter().map(|name| loaded_name(name)).collect();
        (stem, IndexEntry { path, depends })
    };
    let winners = live::first_choice(observed, paths, kernel).into_iter().map(entry).collect();
    let found = observed.modules.kernels.iter_mut().find(|found| found.release == kernel);
    if let Some(found) = found {
        found.index = Index::Present { winners };
    }
}
