//! What the kernel lets in, and what keeps modprobe from asking it.

use super::list;
use crate::model::{KernelModules, Observed, Prevented};
use crate::payload::ModuleSet;
use crate::plan::Refusal;

/// Without these no bridge carries a tunnel; the others of the set may be kept out on purpose.
const NEEDED: [&str; 2] = ["openvswitch", "vport_geneve"];

/// Unsigned modules are refused by a kernel that enforces signatures or is locked down.
pub(super) fn signature(
    set: &ModuleSet,
    kernel: &KernelModules,
    observed: &Observed,
) -> Result<(), Refusal> {
    let footing = &observed.modules.footing;
    let unsigned: Vec<&str> = set
        .files
        .values()
        .filter(|file| !footing.signed.contains(&file.sha256))
        .map(|file| file.path.as_str())
        .collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    let policy = &footing.policy;
    let by_itself = footing.kernels.get(&kernel.release).is_some_and(|kernel| kernel.signed_only);
    // Secure Boot outlasts the reboot into another kernel, and so does a command line
    let secure = policy.secure_boot == Some(true);
    let unsigned = list(unsigned);
    if let Some(mode) = policy.lockdown.as_ref().filter(|_| kernel.running || secure) {
        let message = format!(
            "the kernel is locked down ({mode}{}) and takes signed modules only, and the payload \
             brings without a signature: {unsigned}. Sign them with a key that the machine knows",
            if secure { ", Secure Boot" } else { "" }
        );
        return Err(Refusal::new("LockedDown", message));
    }
    if by_itself || policy.sig_enforce {
        let message = format!(
            "the kernel {} takes signed modules only ({}), and the payload brings without a \
             signature: {unsigned}. Sign them with a key that the kernel knows",
            kernel.release,
            if by_itself { "CONFIG_MODULE_SIG_FORCE" } else { "module.sig_enforce" }
        );
        return Err(Refusal::new("SignatureRejected", message));
    }
    Ok(())
}

/// Loading and unloading may be switched off until the next boot.
pub(in crate::plan::modules) fn may_exchange(observed: &Observed) -> Result<(), Refusal> {
    if !observed.modules.footing.policy.modules_disabled {
        return Ok(());
    }
    let message = "the running kernel loads and unloads no module until it is booted anew \
                   (kernel.modules_disabled): use `--activate reboot`";
    Err(Refusal::new("ModulesDisabled", message))
}

/// `install` and `blacklist` lines, and the kernel's command line.
pub(super) fn modprobe(observed: &Observed) -> Result<(), Refusal> {
    let needed = |line: &&Prevented| NEEDED.contains(&line.name.as_str());
    let Some(line) = observed.modules.footing.prevented.iter().find(needed) else { return Ok(()) };
    let message = format!(
        "`{}` in {} keeps modprobe from loading {}: remove it first",
        line.by, line.path, line.name
    );
    Err(Refusal::new("ModprobeOverridden", message))
}

/// Lines that keep out what may be missed.
pub(super) fn notes(observed: &Observed) -> Vec<String> {
    let lines = observed.modules.footing.prevented.iter();
    lines
        .filter(|line| !NEEDED.contains(&line.name.as_str()))
        .map(|line| format!("{} is not loaded: `{}` in {}", line.name, line.by, line.path))
        .collect()
}
