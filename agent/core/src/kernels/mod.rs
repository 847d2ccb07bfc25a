//! Every installed kernel: what it would load, and which module sets it can have.
//!
//! Whether a set fits is not judged here: the planner of the modules is asked, as for a
//! switch of that kernel, so a kernel that is called ready is one that a switch takes.

mod loaded;
#[cfg(test)]
mod tests;
mod words;

pub use loaded::{LoadedFrom, Witness, loaded_from};

use crate::config::{Activate, ModulesChoice, Paths};
use crate::model::{Index, KernelModules, ModuleState, NextBoot, Observed};
use crate::plan::Refusal;
use crate::plan::modules::{Target, Want, dangling, plan_modules, stale_copy, which_set};
use serde::Serialize;

/// All installed kernels, and which boots next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kernels {
    /// By release, in the order of the module trees' names.
    pub kernels: Vec<Kernel>,
    /// Which boots next, and what told it.
    pub next: NextBoot,
}

/// One installed kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// Whether it is the running one.
    pub running: bool,
    /// Whether it boots next; none where nothing tells which does.
    pub next: Option<bool>,
    /// Whether it is only the module tree of a kernel that was removed.
    pub leftover: bool,
    /// Whose set it would load, as its index is now.
    pub set: ModuleState,
    /// In one word.
    pub ready: Ready,
    /// Whether it can run the payload's set.
    pub nsx: Fitness,
    /// Whether it can run its own set, or the user's.
    pub upstream: Fitness,
    /// What is wrong with its index or its initramfs.
    pub faults: Vec<Why>,
    /// Of the running kernel: what is loaded, and of which set it is.
    pub loaded: Vec<LoadedFrom>,
}

/// A stable `CamelCase` word, and plain ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The word.
    pub reason: String,
    /// What was found, and what to do.
    pub message: String,
}

/// Whether a kernel can run a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Fitness {
    /// Its next boot loads the set as the disk is now.
    OnDisk,
    /// A switch would be taken, and change this many things.
    Stageable {
        /// Steps of the plan.
        steps: usize,
    },
    /// A switch would be refused.
    Unfit(Why),
    /// It cannot be told now.
    Unknown(Why),
}

/// Which sets a kernel is ready for: on disk now, or after a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// The payload's and upstream's.
    Both,
    /// The payload's alone.
    Nsx,
    /// Its own, or the user's, alone.
    Upstream,
    /// None.
    Neither,
    /// None for certain.
    Unknown,
}

/// Refusals that say that something could not be found out, not that it does not fit.
const UNPROVEN: [&str; 4] =
    ["VermagicUnknown", "AbiUnproven", "IdentityUnproven", "SignatureUnproven"];

impl Fitness {
    fn of(planned: Result<usize, Refusal>) -> Self {
        match planned {
            Ok(0) => Self::OnDisk,
            Ok(steps) => Self::Stageable { steps },
            Err(refusal) => {
                let unknown = refusal.transient || UNPROVEN.contains(&refusal.reason);
                let why = Why::new(refusal.reason, refusal.message);
                if unknown { Self::Unknown(why) } else { Self::Unfit(why) }
            }
        }
    }

    /// Whether the set can be had, now or by a switch.
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::OnDisk | Self::Stageable { .. })
    }

    /// Why not, or why nobody knows.
    pub fn why(&self) -> Option<&Why> {
        match self {
            Self::Unfit(why) | Self::Unknown(why) => Some(why),
            Self::OnDisk | Self::Stageable { .. } => None,
        }
    }
}

impl Ready {
    fn of(nsx: &Fitness, upstream: &Fitness) -> Self {
        let unknown = |fitness: &Fitness| matches!(fitness, Fitness::Unknown(_));
        match (nsx.is_yes(), upstream.is_yes()) {
            (true, true) => Self::Both,
            (true, false) => Self::Nsx,
            (false, true) => Self::Upstream,
            (false, false) if unknown(nsx) || unknown(upstream) => Self::Unknown,
            (false, false) => Self::Neither,
        }
    }
}

impl Why {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

impl Kernels {
    /// The kernels of an observation.
    pub fn of(observed: &Observed, paths: &Paths) -> Self {
        // who is at work in this moment says nothing of what a kernel is ready for
        let quiet = observed.modules.footing.busy.is_some().then(|| {
            let mut quiet = observed.clone();
            quiet.modules.footing.busy = None;
            quiet
        });
        let observed = quiet.as_ref().unwrap_or(observed);
        let next = match &observed.boot_loader {
            Some(found) => found.next.clone(),
            None => NextBoot::unknown("nobody looked"),
        };
        let row = |kernel| Kernel::of(kernel, observed, paths, &next);
        let kernels = observed.modules.kernels.iter().map(row).collect();
        Self { kernels, next }
    }

    /// What is wrong where another kernel than the running one boots next and would not
    /// load what a profile asks for; none while nothing tells which boots next.
    pub fn warning(&self, wanted: ModulesChoice) -> Option<Why> {
        let next = self.kernels.iter().find(|kernel| kernel.next == Some(true))?;
        let (fitness, set, option) = match wanted {
            ModulesChoice::Payload => (&next.nsx, "the payload's set", "payload"),
            ModulesChoice::InTree => (&next.upstream, "the upstream set", "in-tree"),
            ModulesChoice::Leave => return None,
        };
        if next.running {
            return None;
        }
        let (release, how) = (&next.release, &self.next.how);
        let message = match fitness {
            Fitness::OnDisk => return None,
            Fitness::Stageable { .. } => format!(
                "the kernel {release} boots next ({how}) and would load the set `{}`, not {set}; \
                 `pointsman modules apply --to {option} --kernel {release} --activate reboot` puts \
                 it there",
                next.set.word()
            ),
            Fitness::Unfit(why) => format!(
                "the kernel {release} boots next ({how}) and cannot load {set}: {}: {}; have another \
                 kernel boot, or ask for another profile before the reboot",
                why.reason, why.message
            ),
            Fitness::Unknown(why) => format!(
                "the kernel {release} boots next ({how}), and whether it can load {set} is unknown: {}: {}",
                why.reason, why.message
            ),
        };
        Some(Why::new("KernelNotReady", message))
    }
}

impl Kernel {
    fn of(kernel: &KernelModules, observed: &Observed, paths: &Paths, next: &NextBoot) -> Self {
        let release = &kernel.release;
        let boot = observed.boot_loader.as_ref();
        let leftover = !kernel.running && boot.is_some_and(|boot| boot.is_leftover(release));
        let (nsx, upstream) = if leftover {
            let why = Fitness::Unfit(Why::new(
                "KernelImageMissing",
                format!("the tree of {release} is what a removed kernel left: it has no image"),
            ));
            (why.clone(), why)
        } else {
            let ask = |target| fitness(target, kernel, observed, paths);
            (ask(Target::Payload), ask(Target::InTree))
        };
        Self {
            release: release.clone(),
            running: kernel.running,
            next: next.release.as_ref().map(|next| next == release),
            leftover,
            set: which_set(observed, paths, release),
            ready: Ready::of(&nsx, &upstream),
            nsx,
            upstream,
            faults: if leftover { Vec::new() } else { faults(kernel, observed, paths) },
            loaded: if kernel.running { loaded_from(observed, paths) } else { Vec::new() },
        }
    }
}

fn fitness(target: Target, kernel: &KernelModules, observed: &Observed, paths: &Paths) -> Fitness {
    let want = Want { kernel: kernel.release.clone(), target, activate: Activate::Reboot };
    let planned = plan_modules(&want, observed, None, paths).map(|plan| plan.steps().count());
    match planned {
        // compiled in: what there is cannot be exchanged, and is the kernel's own
        Err(refusal)
            if refusal.reason == "ModuleBuiltin"
                && target == Target::InTree
                && kernel.builtin.iter().any(|stem| stem == "openvswitch") =>
        {
            Fitness::OnDisk
        }
        planned => Fitness::of(planned),
    }
}

fn faults(kernel: &KernelModules, observed: &Observed, paths: &Paths) -> Vec<Why> {
    let release = &kernel.release;
    let say = |reason, message: String| vec![Why::new(reason, message)];
    match &kernel.index {
        Index::Missing => say(
            "IndexMissing",
            format!("{}/{release} has no modules.dep.bin: run `depmod {release}`", paths.modules),
        ),
        Index::Unreadable { why } => say(
            "IndexUnreadable",
            format!("{}/{release}/modules.dep.bin: {why}: run `depmod {release}`", paths.modules),
        ),
        Index::Present { .. } => {
            let gone = dangling(observed, paths, release);
            if gone.is_empty() {
                let is_payload = which_set(observed, paths, release) == ModuleState::Nsx;
                let stale = stale_copy(release, is_payload, observed);
                return stale.into_iter().map(|why| Why::new("InitramfsStale", why)).collect();
            }
            let message = format!(
                "the index of {release} names {}, which is not there: run `depmod {release}`",
                gone.join(", ")
            );
            say("IndexStale", message)
        }
    }
}
