//! Why a module set cannot be exchanged: asked before anything changes.

use super::goal::Places;
use super::overrides::SET_DIRECTORY;
use super::winner::{Winners, copies};
use super::{Target, Want};
use crate::config::Paths;
use crate::model::{FileState, KernelModules, MODULE_STEMS, Observed, loaded_name, module_stem};
use crate::payload::{ModuleSet, Payload};
use crate::plan::Refusal;
use std::collections::BTreeSet;

/// The kernel that is meant.
pub(super) fn kernel<'a>(
    want: &Want,
    observed: &'a Observed,
) -> Result<&'a KernelModules, Refusal> {
    observed.modules.kernel(&want.kernel).ok_or_else(|| {
        let installed = list(observed.modules.kernels.iter().map(|k| k.release.as_str()));
        let message = format!(
            "the kernel {} is not installed: the module trees here are {installed}",
            want.kernel
        );
        Refusal::new("KernelMissing", message)
    })
}

/// The payload's set for a kernel, whole and fit for it.
pub(super) fn payload_set<'a>(
    kernel: &KernelModules,
    observed: &'a Observed,
) -> Result<&'a ModuleSet, Refusal> {
    let payload = observed.payload.as_ref().ok_or_else(|| {
        let why = observed.payload_fault.as_deref().unwrap_or("there is no payload directory");
        let message =
            format!("there is no module set to install: {why}; name the payload's directory");
        Refusal::new("NoPayload", message)
    })?;
    let release = &kernel.release;
    let set = payload.manifest.module_set(release).ok_or_else(|| {
        let sets = &payload.manifest.modules;
        let brought = list(sets.iter().flat_map(|set| set.kernels.iter().map(String::as_str)));
        let message = format!(
            "the payload has no module set for the kernel {release}: it has sets for {brought}"
        );
        Refusal::new("NoPayloadForKernel", message)
    })?;
    whole(set, payload, observed)?;
    fits(set, kernel, observed)?;
    Ok(set)
}

fn whole(set: &ModuleSet, payload: &Payload, observed: &Observed) -> Result<(), Refusal> {
    let corrupt = |message: String| Err(Refusal::new("PayloadCorrupt", message));
    let stems: Vec<&str> = set.files.keys().map(String::as_str).collect();
    if stems != MODULE_STEMS {
        return corrupt(format!(
            "the payload's set {} holds {}: exactly {} make a set",
            set.version,
            list(stems),
            MODULE_STEMS.join(", ")
        ));
    }
    for (stem, file) in &set.files {
        let path = &file.path;
        if let Some(fault) = payload.faults.get(path) {
            return corrupt(format!("the payload's {path} is not what its manifest says: {fault}"));
        }
        let Some(facts) = observed.modules.facts.get(&file.sha256) else {
            return corrupt(format!("the payload's {path} was not read"));
        };
        if let Some(fault) = &facts.fault {
            return corrupt(format!("the payload's {path} is no kernel module: {fault}"));
        }
        if facts.name.as_deref() != Some(loaded_name(stem).as_str()) {
            let name = facts.name.as_deref().unwrap_or("nothing");
            return corrupt(format!(
                "the payload's {path} calls itself {name} where {} was expected",
                loaded_name(stem)
            ));
        }
        if facts.identity.build_id.as_ref() != Some(&file.build_id) {
            return corrupt(format!(
                "the payload's {path} has {} where the manifest names build id {}",
                facts.identity, file.build_id
            ));
        }
    }
    Ok(())
}

/// The whole text of vermagic must agree: whether another release's module would do
/// is told by symbol checksums only, and those are not compared.
fn fits(set: &ModuleSet, kernel: &KernelModules, observed: &Observed) -> Result<(), Refusal> {
    let Some(expected) = &kernel.vermagic else {
        let message = format!(
            "no module of the kernel {} could be read (compressed modules are not supported yet), \
             so nothing says whether the payload's fit it",
            kernel.release
        );
        return Err(Refusal::new("VermagicUnknown", message));
    };
    for file in set.files.values() {
        let facts = observed.modules.facts.get(&file.sha256);
        let found = facts.and_then(|facts| facts.vermagic.as_ref());
        if found != Some(expected) {
            let found = found.map_or("none", String::as_str).trim();
            let message = format!(
                "the payload's {} was built for `{found}`, the modules of the kernel {} for `{}`: \
                 the kernel would not load it",
                file.path,
                kernel.release,
                expected.trim()
            );
            return Err(Refusal::new("VermagicMismatch", message));
        }
    }
    Ok(())
}

/// Modules that are compiled in can neither be replaced nor unloaded.
pub(super) fn not_builtin(kernel: &KernelModules) -> Result<(), Refusal> {
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
pub(super) fn plain_files(want: &Want, observed: &Observed, paths: &Paths) -> Result<(), Refusal> {
    let places = Places::of(&want.kernel, paths);
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

/// What depmod will choose must be one set.
pub(super) fn one_set(
    want: &Want,
    after: &Observed,
    winners: &Winners,
    paths: &Paths,
) -> Result<(), Refusal> {
    match want.target {
        Target::Payload => payload_wins(want, winners),
        Target::InTree => upstream_wins(want, after, winners, paths),
        Target::Before => Ok(()),
    }
}

fn payload_wins(want: &Want, winners: &Winners) -> Result<(), Refusal> {
    for (stem, chosen) in winners {
        let wanted = format!("{SET_DIRECTORY}/{stem}.ko");
        if let Some(other) = chosen.iter().find(|path| **path != wanted) {
            return Err(competing(want, stem, other, "the payload's"));
        }
    }
    Ok(())
}

fn upstream_wins(
    want: &Want,
    after: &Observed,
    winners: &Winners,
    paths: &Paths,
) -> Result<(), Refusal> {
    let own = |path: &String| path.starts_with("kernel/");
    if copies(after, paths, &want.kernel).get("openvswitch").is_none_or(BTreeSet::is_empty) {
        let message = format!(
            "the kernel {} would be left without openvswitch: it has none of its own below \
             {}/{}/kernel, and there is no copy of the user's. Install the package with the \
             kernel's extra modules",
            want.kernel, paths.modules, want.kernel
        );
        return Err(Refusal::new("UpstreamMissing", message));
    }
    let place = |path: &String| -> String {
        if own(path) { "kernel".into() } else { parent(path).to_owned() }
    };
    let places: BTreeSet<String> = winners.values().flatten().map(place).collect();
    if places.len() <= 1 {
        return Ok(());
    }
    // the user's own files in the set's place are put back as they were, mixed or not; any
    // other copy, even one that only ties, would make the set a matter of luck
    let strange = |path: &&String| !own(path) && parent(path) != SET_DIRECTORY;
    for (stem, chosen) in winners {
        if let Some(other) = chosen.iter().find(strange) {
            return Err(competing(want, stem, other, "the rest of the set"));
        }
    }
    Ok(())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn competing(want: &Want, stem: &str, other: &str, instead: &str) -> Refusal {
    let message = format!(
        "depmod would choose {other} of the kernel {} for {stem}, not {instead}: remove that copy, \
         or the depmod configuration that prefers it",
        want.kernel
    );
    Refusal::new("CompetingCopy", message)
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}
