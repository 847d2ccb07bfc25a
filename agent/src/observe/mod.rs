//! Reads what the host is; changes nothing.

mod boot;
pub mod boot_loader;
mod cni;
mod host;
pub mod modules;
pub mod network;
pub mod ovs;
pub mod owners;
mod payload;
mod persistence;
mod plugin;
mod shield;
pub mod sysctl;

pub use cni::{observe_cni, observe_ledger};
pub use host::observe_host;
pub use payload::{NoPayload, observe_payload, read_payload};

use crate::apply::{Executor, flows};
use crate::namespaces::datapaths_elsewhere;
use pointsman_core::config::Settings;
use pointsman_core::error::Reasoned;
use pointsman_core::model::{Host, OBSERVED_SCHEMA, Observed, PackageDatabase};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

/// A part of the host that could not be read.
#[derive(Debug)]
pub struct ObserveError {
    noun: &'static str,
    source: Box<dyn Reasoned>,
}

impl fmt::Display for ObserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {}", self.noun)
    }
}

impl Error for ObserveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

impl Reasoned for ObserveError {
    fn reason(&self) -> &'static str {
        self.source.reason()
    }

    fn is_transient(&self) -> bool {
        self.source.is_transient()
    }
}

fn of<E: Reasoned>(noun: &'static str) -> impl FnOnce(E) -> ObserveError {
    move |source| ObserveError { noun, source: Box::new(source) }
}

/// The package managers' databases as they are now, by path.
pub fn package_databases(executor: &Executor) -> BTreeMap<String, PackageDatabase> {
    modules::databases(&executor.root)
}

/// The machine alone.
pub fn host(executor: &Executor) -> Result<Host, ObserveError> {
    observe_host(&executor.root).map_err(of("the host"))
}

/// What the way to the safe harbour depends on, and nothing else: neither a module tree nor
/// a CNI directory that cannot be read may stand in that way.
///
/// `known` is the file of Open vSwitch's database, where an earlier look saw it: of a server that is
/// dead nobody else tells.
pub fn reachability(
    executor: &Executor,
    settings: &Settings,
    known: Option<&str>,
) -> Result<Observed, ObserveError> {
    let mut observed = Observed {
        schema: OBSERVED_SCHEMA,
        host: host(executor)?,
        ovs: ovs::observe(&executor.ovsdb, &executor.root).map_err(of("Open vSwitch"))?,
        ..Observed::default()
    };
    ovs::read_stopped(executor, &mut observed.ovs, known);
    observed.ovs.saved = flows::saved(executor, &observed.ovs);
    // after Open vSwitch, whose answer may take seconds: the network is what moves
    observed.network = network::read().map_err(of("the network"))?;
    sysctl::read(&mut observed.network, &[&settings.node.uplink, &settings.node.bridge])
        .map_err(of("the network"))?;
    Ok(observed)
}

/// Everything.
pub fn observe(executor: &Executor, settings: &Settings) -> Result<Observed, ObserveError> {
    observe_knowing(executor, settings, None)
}

/// [`observe`], with what is [known](reachability) of the database's file.
pub fn observe_knowing(
    executor: &Executor,
    settings: &Settings,
    known: Option<&str>,
) -> Result<Observed, ObserveError> {
    let mut observed = reachability(executor, settings, known)?;
    observed.host.kubelet = Some(host::runs_kubelet());
    boot::observe_boot(&executor.root, &mut observed.files).map_err(of("the unit for a boot"))?;
    observed.owners = Some(owners::observe(&executor.root, &settings.node, &observed.network));
    observed.boot_loader = Some(boot_loader::observe(&executor.root, &settings.paths.modules));
    observe_payload(&mut observed, &executor.payload);
    observe_ledger(&mut observed, &executor.store).map_err(of("what is Pointsman's own"))?;
    observe_cni(&mut observed, &executor.root, &settings.paths, &executor.payload)
        .map_err(of("the CNI files"))?;
    let manifest = observed.payload.as_ref().map(|payload| payload.manifest.clone());
    let sources = modules::ModuleSources {
        root: &executor.root,
        tools: &executor.tools,
        paths: &settings.paths,
        running: &observed.host.kernel,
        payload: manifest.as_ref().map(|manifest| (executor.payload.as_path(), manifest)),
    };
    observed.modules =
        modules::observe_modules(&sources, &mut observed.files).map_err(of("the modules"))?;
    if observed.modules.loaded("openvswitch").is_some() {
        observed.ovs.elsewhere = datapaths_elsewhere(&executor.root);
    }
    Ok(observed)
}
