//! From what is to what should be: an ordered list of steps with full operands.
//!
//! One file per noun holds that noun's planner (`plan_*`), its steps, their plain
//! words (`Display`) and their effect on an [`Observed`] (`simulate_*`).
//!
//! Planners are differences: what already is as wanted makes no step. A planner
//! refuses (by [`Refusal`]) what it cannot carry out whole, before anything changes.

pub mod boot;
pub mod cni;
pub mod file;
pub mod handover;
pub mod limit;
pub mod modules;
pub mod ovs;
mod refusal;
pub mod switch;

pub use refusal::Refusal;

use crate::model::Observed;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One change to the host, or one check of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "noun", content = "step")]
pub enum Step {
    /// Links, addresses, routes, rules, neighbours, and the bridge's ports.
    Handover(handover::Step),
    /// The Open vSwitch daemons and datapaths.
    Ovs(ovs::Step),
    /// The module index and the loaded modules.
    Modules(modules::Step),
    /// CNI binaries and configuration, beyond plain files.
    Cni(cni::Step),
    /// Files and directories.
    File(file::Step),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handover(step) => step.fmt(f),
            Self::Ovs(step) => step.fmt(f),
            Self::Modules(step) => step.fmt(f),
            Self::Cni(step) => step.fmt(f),
            Self::File(step) => step.fmt(f),
        }
    }
}

/// Steps under one heading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What these steps bring about, in plain words.
    pub title: String,
    /// In order; each starts only when the one before has succeeded.
    pub steps: Vec<Step>,
}

/// An ordered way from an observation to a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In order. Never holds a stage without steps.
    pub stages: Vec<Stage>,
    /// What the steps cannot save or prove, in plain words, for the person who decides.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether nothing is to be done: the proof that a target is reached.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Appends a stage, unless it has no steps.
    pub fn push(&mut self, title: &str, steps: Vec<Step>) {
        if !steps.is_empty() {
            self.stages.push(Stage { title: title.to_owned(), steps });
        }
    }

    /// This plan, and another one behind it.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.stages.extend(other.stages);
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self
    }

    /// Every step in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flat_map(|stage| stage.steps.iter())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            writeln!(f, "{}", stage.title)?;
            for step in &stage.steps {
                writeln!(f, "  - {step}")?;
            }
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

/// What an observation would be after a step, as far as planning depends on it.
pub fn simulate(observed: &mut Observed, step: &Step) {
    match step {
        Step::Handover(step) => handover::simulate(observed, step),
        Step::Ovs(step) => ovs::simulate(observed, step),
        Step::Modules(step) => modules::simulate(observed, step),
        Step::Cni(step) => cni::simulate(observed, step),
        Step::File(step) => {
            file::simulate(observed, step);
            cni::learn(observed, step);
            modules::learn(observed, step);
        }
    }
}
