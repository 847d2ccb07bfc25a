//! `run`: what the pod of the `DaemonSet` does.

use super::Exit;
use super::chore;
use super::options::Options;
use super::show::{self, UsageError};
use crate::host_command::HostTools;
use crate::journal::Journal;
use crate::{node, reconcile};
use pointsman_core::error::Reasoned;
use std::path::PathBuf;

pub(super) fn run(options: &Options) -> Result<Exit, Box<dyn Reasoned>> {
    let usage = |message: String| -> Box<dyn Reasoned> { Box::new(UsageError(message)) };
    // first of all, whatever else is wrong: the node may be half moved
    let journal = Journal::open(&show::state_dir(options)).map_err(show::boxed)?;
    chore::recover(options, &journal)?;
    if options.config.is_none() {
        return Err(usage("--config is missing: the profiles are in it".into()));
    }
    let settings = show::settings(options)?;
    let executor = show::executor(options, &settings)?;
    if executor.tools == HostTools::Scratch {
        return Err(usage(format!(
            "{} is given as the host's root, but process 1 lives in this process's own mount \
             namespace: the pod needs hostPID",
            options.root.display()
        )));
    }
    let name = environment("NODE_NAME")
        .ok_or_else(|| usage("NODE_NAME is not set: the name of this node's Node object".into()))?;
    let kubeconfig = environment("KUBECONFIG").map(PathBuf::from);
    let node = node::Options { kubeconfig, ..node::Options::in_cluster(name) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| usage(format!("could not start the runtime: {error}")))?;
    runtime.block_on(reconcile::run(settings, executor, journal, node)).map_err(show::boxed)?;
    Ok(Exit::Done)
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
