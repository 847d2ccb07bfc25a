//! CNI files: installed by comparing `nsxBuildVersion`, the configuration last.
//!
//! The order is what a runtime can see at each instant. Forward: directories, copies
//! of what goes, a trial run of each new binary, the binaries, the conflist (the commit
//! point: the version lies in it, so whatever is cut short before it starts over), the
//! legacy configuration's removal, `99-loopback.conf`. A configuration never names a
//! binary that is not there, and `99-loopback.conf`, which a runtime takes for the
//! default network where nothing sorts before it, never comes first. Back: the reverse.
//! Directories are never removed: containerd ends itself when its directory goes.

mod install;
mod places;
mod restore;
#[cfg(test)]
mod tests;

pub use places::{Places, first_config, installed_version, is_config_name};

use crate::checkpoint::Checkpoint;
use crate::config::Paths;
use crate::model::{Digest, Observed};
use crate::plan::{Plan, Refusal};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which files are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The payload's, where the installed version is not newer.
    Payload,
    /// What the checkpoint holds.
    Before,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which files.
    pub target: Target,
    /// Where the host keeps them.
    pub paths: Paths,
}

/// A change that is more than a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// Stage a plugin of the payload beside its later place, run it there with
    /// `CNI_COMMAND=VERSION` as a runtime would, and remove it. What does not run
    /// (other architecture, cut short, `noexec`, no interpreter) fails the step
    /// before anything has been replaced.
    ProbePlugin {
        /// Where the plugin is to be.
        path: String,
        /// In the payload directory.
        source: String,
        /// What it must hold.
        sha256: Digest,
        /// What it must support: `cniVersion` of the configuration that will name it.
        cni_version: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProbePlugin { path, source, cni_version, .. } => {
                let (directory, _) = path.rsplit_once('/').unwrap_or_default();
                write!(
                    f,
                    "try the payload's {source} in {directory}: it must run and support CNI {cni_version}"
                )
            }
        }
    }
}

/// The steps from what is to what is wanted.
///
/// A refusal's reason is one of `NoPayload`, `PayloadCorrupt`, `BadPayloadVersion`,
/// `TargetNotAFile`, `ConflistNotOurs`, `NoCheckpoint`, and `ConflictingWriter` where a
/// configuration changed while it was looked at.
pub fn plan_cni(
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let places = Places::of(&want.paths);
    match want.target {
        Target::Payload => install::plan(&places, observed),
        Target::Before => restore::plan(&places, observed, way_back),
    }
}

/// The effect on an observation.
pub fn simulate(_observed: &mut Observed, step: &Step) {
    match step {
        // a trial leaves nothing behind
        Step::ProbePlugin { .. } => {}
    }
}
