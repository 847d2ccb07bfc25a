//! Whether the kernel would take the payload's modules, by its own rule.
//!
//! `same_magic` of `kernel/module/version.c`: a kernel with modversions passes over the
//! release at the start of vermagic, and the checksums of the symbols decide; one without
//! compares the whole text.

use crate::model::{AbiProof, KernelModules, Observed};
use crate::payload::ModuleSet;
use crate::plan::Refusal;

/// How many symbols a message names.
const NAMED: usize = 5;

pub(super) fn fits(
    set: &ModuleSet,
    kernel: &KernelModules,
    observed: &Observed,
) -> Result<(), Refusal> {
    let same_release = vermagic(set, kernel, observed)?;
    let release = &kernel.release;
    let footing = observed.modules.footing.kernels.get(release);
    let proof = footing.and_then(|footing| footing.abi.as_ref());
    match proof {
        Some(proof) if !proof.clashes.is_empty() => Err(mismatch(set, release, proof)),
        Some(proof) if same_release || proof.is_whole() => Ok(()),
        None if same_release => Ok(()),
        proof => Err(unproven(set, release, proof)),
    }
}

/// What is not proven although nothing speaks against it.
pub(super) fn note(kernel: &KernelModules, observed: &Observed) -> Option<String> {
    let footing = observed.modules.footing.kernels.get(&kernel.release)?;
    let proof = footing.abi.as_ref().filter(|proof| !proof.is_whole())?;
    Some(format!(
        "AbiUnproven: {} of the {} symbols that the set needs are known by {}, and all of them \
         agree; vermagic is the kernel's own",
        proof.proven, proof.needed, proof.witness
    ))
}

/// Whether the set was built for this very release; a refusal where its vermagic does not fit.
fn vermagic(set: &ModuleSet, kernel: &KernelModules, observed: &Observed) -> Result<bool, Refusal> {
    let Some(expected) = &kernel.vermagic else {
        let message = format!(
            "no module of the kernel {} could be read, so nothing says whether the payload's fit it",
            kernel.release
        );
        return Err(Refusal::new("VermagicUnknown", message));
    };
    let mut same_release = true;
    for file in set.files.values() {
        let facts = observed.modules.facts.get(&file.sha256);
        let found = facts.and_then(|facts| facts.vermagic.as_ref());
        if found == Some(expected) {
            continue;
        }
        same_release = false;
        if !found.is_some_and(|found| same_but_for_release(found, expected)) {
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
    Ok(same_release)
}

fn same_but_for_release(one: &str, two: &str) -> bool {
    let options = |text: &str| text.split_once(' ').map(|(_, options)| options.to_owned());
    let modversions = |text: &str| text.split_whitespace().any(|word| word == "modversions");
    modversions(one) && modversions(two) && options(one) == options(two)
}

fn mismatch(set: &ModuleSet, release: &str, proof: &AbiProof) -> Refusal {
    let mut named: Vec<String> = proof
        .clashes
        .iter()
        .take(NAMED)
        .map(|clash| {
            let has = clash.has.map_or("nothing".into(), |has| format!("{has:#010x}"));
            format!("{} ({} needs {:#010x}, has {has})", clash.symbol, clash.module, clash.needs)
        })
        .collect();
    if let Some(more) = proof.clashes.len().checked_sub(NAMED).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    let message = format!(
        "the payload's set {} was built for other symbols than the kernel {release} has, by {}: \
         {}. The kernel would not load it; a set built for this kernel is needed",
        set.version,
        proof.witness,
        named.join(", ")
    );
    Refusal::new("AbiMismatch", message)
}

fn unproven(set: &ModuleSet, release: &str, proof: Option<&AbiProof>) -> Refusal {
    let share = proof.map_or("no symbol could be compared".to_owned(), |proof| {
        format!("{} of {} symbols agree, by {}", proof.proven, proof.needed, proof.witness)
    });
    let message = format!(
        "the payload's set {} was built for another release than {release}, and {share}: that the \
         kernel would load it is not proven. Install the kernel's headers (Module.symvers), or \
         bring a set that was built for it",
        set.version
    );
    Refusal::new("AbiUnproven", message)
}
