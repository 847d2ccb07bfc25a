//! Why a module set cannot be exchanged: asked before anything changes.

mod abi;
mod choice;
mod host;
mod initramfs;
mod intent;
mod owned;
mod payload;
mod policy;
mod signature;
mod tree;
mod userspace;

pub(crate) use initramfs::stale_copy;
pub(super) use policy::may_exchange;

use super::winner::Winners;
use super::{Target, Want};
use crate::config::{Activate, Paths};
use crate::model::{KernelModules, Observed};
use crate::payload::ModuleSet;
use crate::plan::Refusal;

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

/// Every reason why a target cannot be put into an installed kernel's tree for its next boot;
/// the reasons of this very moment (a package manager at work) are not among them.
///
/// [`Target::Before`] asks nothing: the way back is never refused for what it leads to.
pub fn readiness(
    observed: &Observed,
    paths: &Paths,
    kernel: &str,
    target: Target,
) -> Result<(), Vec<Refusal>> {
    let want = Want { kernel: kernel.to_owned(), target, activate: Activate::Reboot };
    let found = self::kernel(&want, observed).map_err(|refusal| vec![refusal])?;
    let mut refusals = standing(found, observed, paths, target);
    if target == Target::Payload {
        match payload::payload_set(found, observed) {
            Ok(set) => {
                refusals.extend(policy::signature(set, found, observed).err());
                refusals.extend(signature::known(set, found, observed).err());
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    if refusals.is_empty() {
        // what depmod would choose is known when everything else is as it should be
        refusals.extend(super::plan_modules(&want, observed, None, paths).err());
        refusals.retain(|refusal| !refusal.transient);
    }
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

/// What must hold of the host and of the kernel's tree, whatever set is wanted.
fn standing(
    kernel: &KernelModules,
    observed: &Observed,
    paths: &Paths,
    target: Target,
) -> Vec<Refusal> {
    if target == Target::Before {
        return Vec::new();
    }
    let checks = [
        host::writable(observed),
        tree::not_builtin(kernel),
        host::whole_tree(kernel, observed),
        tree::plain_files(&kernel.release, observed, paths),
        policy::modprobe(observed),
        tree::backup(kernel, observed, paths, target),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

/// The first reason not to go on; with the payload as the target, its set for the kernel.
pub(super) fn check<'a>(
    want: &Want,
    kernel: &KernelModules,
    observed: &'a Observed,
    paths: &Paths,
) -> Result<Option<&'a ModuleSet>, Refusal> {
    if let Some(refusal) = standing(kernel, observed, paths, want.target).into_iter().next() {
        return Err(refusal);
    }
    match want.target {
        Target::Payload => {
            let set = payload::payload_set(kernel, observed)?;
            policy::signature(set, kernel, observed)?;
            signature::known(set, kernel, observed)?;
            Ok(Some(set))
        }
        Target::InTree | Target::Before => Ok(None),
    }
}

/// What depmod will choose must be one set, and one that Open vSwitch can live with.
pub(super) fn one_set(
    want: &Want,
    after: &Observed,
    winners: &Winners,
    paths: &Paths,
) -> Result<(), Refusal> {
    choice::one_set(want, after, winners, paths)?;
    userspace::ports(want.target, after, winners)
}

/// Not now, or not against others: asked where there is something to do, and never of a way
/// back. What the plan leads to tells which files it changes.
pub(super) fn begin(
    want: &Want,
    set: Option<&ModuleSet>,
    observed: &Observed,
    after: &Observed,
) -> Result<(), Refusal> {
    if want.target == Target::Before {
        return Ok(());
    }
    host::quiet(observed)?;
    intent::agrees(want.target, observed)?;
    owned::untouched(observed, after)?;
    initramfs::loads_none(want, set, observed)
}

/// What is worth knowing and stands in nobody's way.
pub(super) fn notes(
    want: &Want,
    set: Option<&ModuleSet>,
    kernel: &KernelModules,
    observed: &Observed,
) -> Vec<String> {
    let mut notes = Vec::new();
    if want.target == Target::Payload {
        notes.extend(abi::note(kernel, observed));
        notes.extend(set.and_then(|set| signature::note(set, kernel, observed)));
    }
    if want.target != Target::Before {
        notes.extend(initramfs::note(want, set, observed));
        notes.extend(intent::note(want.target, observed));
        notes.extend(userspace::note(want.target, observed));
        notes.extend(policy::notes(observed));
    }
    notes
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}
