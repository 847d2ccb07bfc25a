//! A success that stopped being true: what is put right, and what only a person may.
//!
//! What no running traffic feels is repaired by another transaction. What it would feel
//! is reported: of the modules, that is what the kernel runs.

use crate::checkpoint::Checkpoint;
use crate::config::{ModulesChoice, Paths, Profile, Settings};
use crate::kernels::{LoadedFrom, Witness, loaded_from};
use crate::model::{MODULE_STEMS, ModuleState, Observed};
use crate::plan::{Plan, Step, modules};

/// Why the node is degraded, in one word and in plain ones.
pub(crate) type Drift = (&'static str, String);

/// Whether running traffic would feel a step.
pub(crate) fn is_felt(step: &Step) -> bool {
    match step {
        Step::Handover(_) | Step::Ovs(_) => true,
        // files and the index are read when a module is loaded, and at no other time
        Step::Modules(_) => modules::touches_memory(step),
        Step::Cni(_) | Step::File(_) => false,
    }
}

/// Whether a plan puts right what a transaction with this checkpoint had reached, so that its
/// checkpoint remains what is gone back to: on its boot, or where a boot into the same kernel
/// has not made anew what the plan changes.
pub fn keeps_baseline(before: &Checkpoint, plan: &Plan, observed: &Observed) -> bool {
    let (then, now) = (&before.before.host, &observed.host);
    then.boot_id == now.boot_id || (then.kernel == now.kernel && !plan.steps().any(is_felt))
}

/// What to say of a plan that would be felt, for what was verified on this boot.
pub(crate) fn of_plan(name: &str, settings: &Settings, observed: &Observed, plan: &Plan) -> Drift {
    if plan.steps().any(modules::touches_memory) {
        let message = format!(
            "{name} was verified, and the kernel now runs other modules than its set: {}{}; to \
             exchange them would disrupt the node, so nothing was changed; reboot the node, or ask \
             again with pointsman.io/retry",
            told(&loaded_from(observed, &settings.paths)),
            likely(observed, &settings.paths)
        );
        return ("ModulesDrifted", message);
    }
    let steps: Vec<String> = plan.steps().take(3).map(Step::to_string).collect();
    let message = format!(
        "{name} was verified and is no longer what the node is; to restore it would disrupt \
         the node, so nothing was changed; ask again with pointsman.io/retry; first steps: {}",
        steps.join("; ")
    );
    ("Drifted", message)
}

/// What to say where the node was booted since the set was put on disk, and runs the other
/// kind all the same: another reboot would not help.
///
/// A build that no file has is no drift toward the kernel's own set: a package manager has
/// replaced the files of the running kernel, and a reboot loads them.
pub(crate) fn of_memory(
    name: &str,
    settings: &Settings,
    profile: &Profile,
    observed: &Observed,
) -> Option<Drift> {
    let loaded = loaded_from(observed, &settings.paths);
    let nsx = |module: &LoadedFrom| module.set == Some(ModuleState::Nsx);
    let other = match profile.modules {
        ModulesChoice::Payload => {
            loaded.iter().any(|module| !nsx(module) && module.witness != Witness::Unproven)
        }
        ModulesChoice::InTree => loaded.iter().any(nsx),
        ModulesChoice::Leave => false,
    };
    other.then(|| {
        let message = format!(
            "the files of {name} were in place before this boot, and the kernel runs other modules: {}; \
             they were exchanged since{}, or loaded from an old copy in the initramfs: make that anew, \
             and reboot the node",
            told(&loaded),
            likely(observed, &settings.paths)
        );
        ("ModulesDrifted", message)
    })
}

/// Who else may have changed a kernel's modules, as far as it can be told: who is at work now,
/// whose package a chosen file is, and who changed packages when the index was written.
pub fn rivals(observed: &Observed, paths: &Paths, kernel: &str) -> Vec<String> {
    /// A package manager writes its database before it runs its triggers, and after.
    const NEAR: u64 = 120_000_000_000;
    let footing = &observed.modules.footing;
    let mut rivals = Vec::new();
    if let Some(busy) = &footing.busy {
        rivals.push(match busy.pid {
            Some(pid) => format!("{} (process {pid})", busy.name),
            None => busy.name.clone(),
        });
    }
    let found = observed.modules.kernel(kernel);
    let chosen = |stem: &str| Some(&found?.winner(stem)?.path);
    for path in MODULE_STEMS.iter().filter_map(|stem| chosen(stem)) {
        let path = format!("{}/{kernel}/{path}", paths.modules);
        let package = footing.owned.get(&path);
        rivals.extend(package.map(|package| format!("the package {package}, which has {path}")));
    }
    let indexed = footing.kernels.get(kernel).and_then(|kernel| kernel.indexed);
    let near = |changed: u64| indexed.is_some_and(|indexed| indexed.abs_diff(changed) <= NEAR);
    let by = footing.databases.values().filter(|database| near(database.changed));
    rivals.extend(by.map(|database| {
        format!("{}, which changed packages when the modules were indexed", database.by)
    }));
    rivals.dedup();
    rivals
}

/// The same as the end of a sentence; empty where nobody is known.
fn likely(observed: &Observed, paths: &Paths) -> String {
    let rivals = rivals(observed, paths, &observed.host.kernel);
    if rivals.is_empty() { String::new() } else { format!("; likely by {}", rivals.join(" or ")) }
}

fn told(loaded: &[LoadedFrom]) -> String {
    let word = |module: &LoadedFrom| {
        let set = module.set.map_or("of no set here", ModuleState::word);
        format!("{} is {set} ({})", module.name, module.identity)
    };
    loaded.iter().map(word).collect::<Vec<_>>().join(", ")
}
