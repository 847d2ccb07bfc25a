//! Whether the kernel would take the payload's modules.

use crate::model::{KernelModules, Observed};
use crate::payload::ModuleSet;
use crate::plan::Refusal;

/// The whole text of vermagic must agree: whether another release's module would do
/// is told by symbol checksums only, and those are not compared.
pub(super) fn fits(
    set: &ModuleSet,
    kernel: &KernelModules,
    observed: &Observed,
) -> Result<(), Refusal> {
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
