//! The loaded modules: which are the wanted build's, and how they become so.

use super::winner::{Winners, winners};
use super::{Step, Target, Want};
use crate::config::{Activate, Paths};
use crate::model::{
    Identity, LoadedModule, MODULE_STEMS, ModuleFacts, Observed, Sameness, loaded_name,
};
use crate::plan::Refusal;
use std::collections::BTreeSet;

/// How the loaded modules stand to the files that the index chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// Each loaded one is the file's build.
    Right,
    /// openvswitch is not loaded.
    Absent,
    /// These are of another build.
    Differs(Vec<String>),
    /// Nothing tells what these are.
    Unproven(Vec<String>),
}

/// Steps on the running kernel.
#[derive(Debug, Default)]
pub(super) struct LiveSteps {
    /// Taken before any change.
    pub(super) first: Vec<Step>,
    pub(super) exchange: Vec<Step>,
}

/// Compares what is loaded with what the index chooses; another kernel than the running
/// one has nothing loaded.
pub fn loaded(observed: &Observed, paths: &Paths, kernel: &str) -> Loaded {
    let Some(found) = observed.modules.kernel(kernel).filter(|kernel| kernel.running) else {
        return Loaded::Absent;
    };
    if observed.modules.loaded("openvswitch").is_none() {
        return Loaded::Absent;
    }
    let (mut differs, mut unproven) = (Vec::new(), Vec::new());
    for stem in MODULE_STEMS {
        let Some(module) = observed.modules.loaded(stem) else { continue };
        let path = found.winner(stem).map(|entry| entry.path.clone());
        let expected = identities(observed, paths, kernel, path.iter());
        match sameness(module, &expected) {
            Sameness::Proven | Sameness::Likely => {}
            Sameness::Different => differs.push(module.name.clone()),
            Sameness::Unproven => unproven.push(module.name.clone()),
        }
    }
    match (differs.is_empty(), unproven.is_empty()) {
        (false, _) => Loaded::Differs(differs),
        (true, false) => Loaded::Unproven(unproven),
        (true, true) => Loaded::Right,
    }
}

/// Whether the disk holds one set and memory another, so that a reboot is what is left.
pub fn reboot_pending(want: &Want, observed: &Observed, paths: &Paths) -> bool {
    matches!(loaded(observed, paths, &want.kernel), Loaded::Differs(_))
}

/// No file to be like is another build, not an unknown one.
fn sameness(module: &LoadedModule, expected: &[Identity]) -> Sameness {
    let mut best = Sameness::Different;
    for identity in expected {
        match module.identity.sameness(identity) {
            Sameness::Proven => return Sameness::Proven,
            Sameness::Likely => best = Sameness::Likely,
            Sameness::Unproven if best == Sameness::Different => best = Sameness::Unproven,
            Sameness::Different | Sameness::Unproven => {}
        }
    }
    best
}

fn identities<'a>(
    observed: &Observed,
    paths: &Paths,
    kernel: &str,
    inside: impl Iterator<Item = &'a String>,
) -> Vec<Identity> {
    let facts = |path: &String| {
        let facts = observed.module_at(&format!("{}/{kernel}/{path}", paths.modules));
        facts.map(|facts: &ModuleFacts| facts.identity.clone()).unwrap_or_default()
    };
    inside.map(facts).collect()
}

/// The exchange of the loaded modules.
///
/// `after` is the observation with the files as they will be, `winners` what depmod will choose.
pub(super) fn steps(
    want: &Want,
    observed: &Observed,
    after: &Observed,
    before: Option<&Observed>,
    paths: &Paths,
    winners: &Winners,
) -> Result<LiveSteps, Refusal> {
    if want.activate == Activate::Reboot {
        return Ok(LiveSteps::default());
    }
    let running = observed.modules.kernel(&want.kernel).is_some_and(|kernel| kernel.running);
    if !running && want.target == Target::Before {
        return Ok(LiveSteps::default());
    }
    if !running {
        let message = format!(
            "{} is not the running kernel ({}): its modules can be exchanged with `--activate reboot`",
            want.kernel, observed.host.kernel
        );
        return Err(Refusal::new("KernelNotRunning", message));
    }
    let expected = |stem: &str| {
        let chosen = winners.get(stem).into_iter().flatten();
        identities(after, paths, &want.kernel, chosen)
    };
    let wanted = wanted_loaded(want, observed, before, winners);
    let unload = unload(observed, &wanted, &expected)?;
    for stem in &unload {
        settled(observed, stem)?;
    }
    let mut found = LiveSteps::default();
    if unload.contains(&"openvswitch") {
        free(observed)?;
        let holders = unload.iter().map(|stem| loaded_name(stem)).collect();
        found.first.push(Step::CheckUnheld { name: "openvswitch".into(), holders });
    }
    found.exchange.extend(unload.iter().map(|stem| Step::UnloadModule { name: loaded_name(stem) }));
    for stem in wanted.iter().copied() {
        if observed.modules.loaded(stem).is_some() && !unload.contains(&stem) {
            continue;
        }
        let expect = expected(stem);
        if expect.iter().any(Identity::is_empty) {
            return Err(unproven(stem, &want.kernel));
        }
        let name = loaded_name(stem);
        found.exchange.push(Step::LoadModule { name: name.clone(), expect: expect.clone() });
        found.exchange.push(Step::CheckLoaded { name, expect });
    }
    Ok(found)
}

/// Stems that are to be loaded in the end, openvswitch first (it sorts so).
fn wanted_loaded(
    want: &Want,
    observed: &Observed,
    before: Option<&Observed>,
    winners: &Winners,
) -> BTreeSet<&'static str> {
    // after a reboot the former memory says nothing
    let before = before.filter(|before| before.host.boot_id == observed.host.boot_id);
    let has = |stem: &str| winners.get(stem).is_some_and(|chosen| !chosen.is_empty());
    let loaded = |from: &Observed, stem: &str| from.modules.loaded(stem).is_some();
    MODULE_STEMS
        .into_iter()
        .filter(|stem| has(stem))
        .filter(|stem| match (want.target, before) {
            (Target::Before, Some(before)) => loaded(before, stem),
            (Target::Before, None) => loaded(observed, stem),
            (Target::Payload | Target::InTree, before) => {
                *stem == "openvswitch"
                    || loaded(observed, stem)
                    || before.is_some_and(|before| loaded(before, stem))
            }
        })
        .collect()
}

/// Stems to unload, the vport modules before openvswitch, which they hold.
fn unload(
    observed: &Observed,
    wanted: &BTreeSet<&'static str>,
    expected: &dyn Fn(&str) -> Vec<Identity>,
) -> Result<Vec<&'static str>, Refusal> {
    let mut unload = Vec::new();
    // the last of the sorted names are the vports'
    for stem in MODULE_STEMS.into_iter().rev() {
        let Some(module) = observed.modules.loaded(stem) else { continue };
        let right = wanted.contains(stem)
            && match sameness(module, &expected(stem)) {
                Sameness::Proven | Sameness::Likely => true,
                Sameness::Different => false,
                Sameness::Unproven => return Err(unproven(stem, &observed.host.kernel)),
            };
        if !right {
            unload.push(stem);
        }
    }
    if unload.contains(&"openvswitch") {
        let there = |stem: &&str| observed.modules.loaded(stem).is_some();
        unload = MODULE_STEMS.into_iter().rev().filter(there).collect();
    }
    Ok(unload)
}

fn free(observed: &Observed) -> Result<(), Refusal> {
    let datapaths: Vec<&str> = observed.ovs.datapaths.iter().map(|dp| dp.name.as_str()).collect();
    if !datapaths.is_empty() {
        let message = format!(
            "the kernel datapath {} holds the loaded openvswitch: stop Open vSwitch and delete the \
             datapath, or take `--activate reboot`",
            datapaths.join(", ")
        );
        return Err(Refusal::new("ModuleInUse", message));
    }
    if !observed.ovs.elsewhere.is_empty() {
        let held: Vec<String> = observed.ovs.elsewhere.iter().map(ToString::to_string).collect();
        let message = format!(
            "the loaded openvswitch is held by {}: delete it there, or take `--activate reboot`; \
             nothing was changed",
            held.join(", and by ")
        );
        return Err(Refusal::new("ModuleInUse", message));
    }
    let module = observed.modules.loaded("openvswitch");
    let ours = |name: &&String| MODULE_STEMS.iter().any(|stem| loaded_name(stem) == **name);
    let foreign = module.and_then(|module| module.holders.iter().find(|name| !ours(name)));
    match foreign {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "the module {name} depends on the loaded openvswitch: unload it first, or take \
                 `--activate reboot`"
            );
            Err(Refusal::new("ModuleInUse", message))
        }
    }
}

/// A module that is coming or going for good is neither usable nor gone.
fn settled(observed: &Observed, stem: &str) -> Result<(), Refusal> {
    match observed.modules.loaded(stem) {
        Some(module) if module.state != "live" => {
            let message = format!(
                "the loaded {stem} is {}, neither usable nor gone: only a reboot helps; nothing was \
                 changed",
                module.state
            );
            Err(Refusal::new("ModuleStuck", message))
        }
        Some(_) | None => Ok(()),
    }
}

fn unproven(stem: &str, kernel: &str) -> Refusal {
    let message = format!(
        "nothing tells which build {stem} of the kernel {kernel} is, in the file or in memory: \
         a reload could not be proven. Take `--activate reboot`"
    );
    Refusal::new("IdentityUnproven", message)
}

/// What the index would have to say, for the simulation of depmod.
pub(super) fn first_choice(
    observed: &Observed,
    paths: &Paths,
    kernel: &str,
) -> Vec<(String, String)> {
    let chosen = |(stem, paths): (String, BTreeSet<String>)| {
        let own = paths.iter().find(|path| path.starts_with("kernel/"));
        let path = own.or(paths.first()).cloned()?;
        Some((stem, path))
    };
    winners(observed, paths, kernel).into_iter().filter_map(chosen).collect()
}
