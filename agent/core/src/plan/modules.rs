//! Kernel modules: which set lies on disk, which the index chooses, which is loaded.

use crate::checkpoint::Checkpoint;
use crate::config::{Activate, Paths};
use crate::model::Observed;
use crate::plan::{Plan, Refusal};
use serde::{Deserialize, Serialize};
use std::fmt;

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

/// A change that is more than a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {}

impl fmt::Display for Step {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// The steps from what is to what is wanted.
pub fn plan_modules(
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
    paths: &Paths,
) -> Result<Plan, Refusal> {
    let _ = (want, observed, paths, way_back);
    Ok(Plan::default())
}

/// The effect on an observation.
pub fn simulate(_observed: &mut Observed, step: &Step) {
    match *step {}
}

/// Stub.
pub fn touches_memory(_step: &crate::plan::Step) -> bool {
    false
}

/// Stub.
pub fn reboot_pending(
    _settings: &crate::config::Settings,
    _profile: &crate::config::Profile,
    _observed: &Observed,
) -> bool {
    false
}
