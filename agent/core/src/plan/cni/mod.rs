//! CNI files: installed by comparing `nsxBuildVersion`, the configuration last.
//!
//! The order is what a runtime can see at each instant. Forward: directories, copies
//! of what goes, a trial run of each new binary, the binaries, the conflist (the commit
//! point: the version lies in it, so whatever is cut short before it starts over), the
//! legacy configuration's removal, `99-loopback.conf`. A configuration never names a
//! binary that is not there, and `99-loopback.conf`, which a runtime takes for the
//! default network where nothing sorts before it, never comes first. Back: the reverse.
//! Directories are never removed: containerd ends itself when its directory goes.

mod absent;
mod conflist;
mod fate;
mod install;
mod ledger;
mod merge;
mod offer;
mod places;
mod restore;
#[cfg(test)]
mod tests;

pub use fate::{Fate, fates};
pub use places::{Places, first_config, installed_version, is_config_name};

use crate::checkpoint::Checkpoint;
use crate::config::Paths;
use crate::model::{CniReading, Digest, Ledger, Observed};
use crate::plan::file::Source;
use crate::plan::{Plan, Refusal, file};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which files a profile, or a person, wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Toward {
    /// The payload's, where the installed version is not newer.
    #[default]
    Payload,
    /// What was there before Pointsman's first installation; nothing where nothing was.
    Absent,
}

/// Where a plan leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// There.
    To(Toward),
    /// To what the checkpoint of a transaction toward there holds.
    Before(Toward),
}

/// What a person has said yes to beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// An older version may replace a newer one.
    #[serde(default)]
    pub downgrade: bool,
    /// The loopback plugin and its configuration may be replaced where they are there.
    #[serde(default)]
    pub loopback: bool,
    /// [`Toward::Absent`] may remove a plugin that attached pods still need, and what others
    /// have changed since it was written.
    #[serde(default)]
    pub force: bool,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which files.
    pub target: Target,
    /// Where the host keeps them.
    pub paths: Paths,
    /// What was said yes to.
    pub consent: Consent,
}

impl Want {
    /// Of a target, without any consent.
    pub fn plainly(target: Target, paths: Paths) -> Self {
        Self { target, paths, consent: Consent::default() }
    }
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
    /// Write down, in the state directory, which files are Pointsman's own and what was there
    /// before them: before the first change, and again when the configuration is committed.
    Note {
        /// The whole of it; none: nothing is Pointsman's own any more.
        ledger: Option<Ledger>,
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
            Self::Note { ledger: Some(ledger) } if !ledger.files.is_empty() => {
                let name = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
                let names: Vec<String> = ledger.files.keys().map(name).collect();
                let version = &ledger.version;
                write!(f, "note what is Pointsman's own of version {version}: {}", names.join(", "))
            }
            Self::Note { .. } => f.write_str("note that nothing is Pointsman's own"),
        }
    }
}

/// The steps from what is to what is wanted.
///
/// A refusal's reason is one of `NoPayload`, `PayloadCorrupt`, `BadPayloadVersion`,
/// `TargetNotAFile`, `ConflistNotOurs`, `NoCheckpoint`, `UndoOutdated`, and `ConflictingWriter`
/// where a configuration changed while it was looked at.
pub fn plan_cni(
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let places = Places::of(&want.paths);
    match want.target {
        Target::To(Toward::Payload) => install::plan(&places, want.consent, observed),
        Target::To(Toward::Absent) => absent::plan(&places, want.consent, observed),
        Target::Before(toward) => {
            restore::plan(&places, (toward, want.consent), observed, way_back)
        }
    }
}

/// The effect on an observation.
pub fn simulate(observed: &mut Observed, step: &Step) {
    match step {
        // a trial leaves nothing behind
        Step::ProbePlugin { .. } => {}
        Step::Note { ledger } => observed.cni.ledger.clone_from(ledger),
    }
}

/// What a file that is written says, where a plan depends on it.
pub fn learn(observed: &mut Observed, step: &file::Step) {
    if let file::Step::Write { path, source: Source::Inline(text), sha256, .. } = step
        && path.ends_with(CONFLIST)
    {
        observed.cni.readings.insert(*sha256, CniReading::of(text.as_bytes()));
        observed.cni.texts.insert(*sha256, text.clone());
    }
}

/// The name of the configuration.
const CONFLIST: &str = "/10-nsx.conflist";
