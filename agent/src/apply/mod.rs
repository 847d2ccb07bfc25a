//! One function per step. Decides nothing: a step says all.

mod cni;
mod file;
pub(crate) mod flows;
mod handover;
mod internal_port;
mod module_set;
mod modules;
mod ovs;
mod ovs_daemons;
mod ovs_rescue;
mod shield;

use crate::disk::HostRoot;
use crate::host_command::HostTools;
use pointsman_core::config::Settings;
use pointsman_core::error::Reasoned;
use pointsman_core::plan::Step;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// What steps are carried out on.
#[derive(Clone, Debug)]
pub struct Executor {
    /// The host's files.
    pub root: HostRoot,
    /// The host's tools.
    pub tools: HostTools,
    /// The payload directory, as this process sees it.
    pub payload: PathBuf,
    /// Contents of replaced files, by digest; as this process sees it.
    pub store: PathBuf,
    /// The socket of ovsdb-server, as this process sees it.
    pub ovsdb: PathBuf,
}

impl Executor {
    /// For a host seen below `root`, as the settings place its parts.
    pub fn new(root: HostRoot, tools: HostTools, store: PathBuf, settings: &Settings) -> Self {
        let mut executor =
            Self { root, tools, payload: PathBuf::new(), store, ovsdb: PathBuf::new() };
        executor.place(settings);
        executor
    }

    /// The same host, as other settings place its parts: those of a transaction that was
    /// begun before the present ones.
    #[must_use]
    pub fn placed(&self, settings: &Settings) -> Self {
        let mut executor = self.clone();
        executor.place(settings);
        executor
    }

    fn place(&mut self, settings: &Settings) {
        let ovsdb = settings.node.ovsdb_path().unwrap_or_default();
        // an absolute link on the way, as Debian's /var/run, leads to the host's
        self.ovsdb = self
            .root
            .locate(ovsdb)
            .unwrap_or_else(|_| self.root.path().join(ovsdb.trim_start_matches('/')));
        self.payload = PathBuf::from(&settings.payload);
    }
}

/// A step that failed.
#[derive(Debug)]
pub struct ApplyError {
    /// The step in plain words.
    pub step: String,
    /// What failed.
    pub source: Box<dyn Reasoned>,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.step)
    }
}

impl Error for ApplyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

impl Reasoned for ApplyError {
    fn reason(&self) -> &'static str {
        self.source.reason()
    }

    fn is_transient(&self) -> bool {
        self.source.is_transient()
    }
}

/// The result of one step's function.
type Applied = Result<(), Box<dyn Reasoned>>;

impl Executor {
    /// Carries out one step.
    pub fn apply(&self, step: &Step) -> Result<(), ApplyError> {
        self.apply_noting(step, &mut Vec::new())
    }

    /// [`Self::apply`]; a step that came to nothing and stands in nobody's way says in `notes`
    /// why, and what that costs.
    pub fn apply_noting(&self, step: &Step, notes: &mut Vec<String>) -> Result<(), ApplyError> {
        let applied = match step {
            Step::File(step) => self.apply_file(step),
            Step::Handover(step) => self.apply_handover(step, notes),
            Step::Ovs(step) => self.apply_ovs(step),
            Step::Modules(step) => self.apply_modules(step),
            Step::Cni(step) => self.apply_cni(step),
        };
        applied.map_err(|source| ApplyError { step: step.to_string(), source })
    }
}
