//! The payload's set: whole, and what its manifest says.

use super::{abi, list};
use crate::model::{KernelModules, MODULE_STEMS, Observed, loaded_name};
use crate::payload::{ModuleSet, Payload};
use crate::plan::Refusal;

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
    abi::fits(set, kernel, observed)?;
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
