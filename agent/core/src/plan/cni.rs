//! CNI files: installed by comparing `nsxBuildVersion`, the configuration last.

use crate::checkpoint::Checkpoint;
use crate::config::Paths;
use crate::model::Observed;
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
pub enum Step {}

impl fmt::Display for Step {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// The steps from what is to what is wanted.
pub fn plan_cni(
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let _ = (want, observed, way_back);
    Ok(Plan::default())
}

/// The effect on an observation.
pub fn simulate(_observed: &mut Observed, step: &Step) {
    match *step {}
}
