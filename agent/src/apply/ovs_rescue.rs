//! Open vSwitch that is dead or hangs: what its daemons cannot be asked for any more.

use super::{Applied, Executor};
use crate::apply::ovs::wait_until;
use crate::ovsdb::{self, OvsdbError, is_alive, living};
use crate::process::{Identity, Process};
use pointsman_core::error::Reasoned;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// `ovsdb-tool`, on a database of a few thousand rows.
const TOOL: Duration = Duration::from_secs(20);
/// The kernel takes a killed process down at once, unless a driver holds it.
const ENDING: Duration = Duration::from_secs(10);
/// `systemctl --no-block` only leaves a message.
const SYSTEMCTL: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
#[error("end {name} (process {pid})")]
struct EndError {
    name: &'static str,
    pid: u32,
    #[source]
    source: io::Error,
}

impl Reasoned for EndError {
    fn reason(&self) -> &'static str {
        "OvsStillRunning"
    }

    fn is_transient(&self) -> bool {
        true
    }
}

fn boxed<E: Reasoned>(error: E) -> Box<dyn Reasoned> {
    Box::new(error)
}

impl Executor {
    pub(super) fn forget_port(&self, bridge: &str, port: &str) -> Applied {
        let mut client = self.ovsdb_client()?;
        ovsdb::remove_port(&mut client, bridge, port).map(drop).map_err(boxed)
    }

    /// A file that is not there is no success: the row that is in it somewhere would have the
    /// device taken again.
    pub(super) fn forget_port_on_disk(
        &self,
        (bridge, port): (&str, &str),
        file: Option<&str>,
    ) -> Applied {
        let found = match file {
            Some(file) => ovsdb::is_file(&self.root, file).then(|| file.to_owned()),
            None => ovsdb::database_file(&self.root),
        };
        let found = found.ok_or_else(|| {
            let (bridge, port) = (bridge.to_owned(), port.to_owned());
            boxed(OvsdbError::FileMissing { bridge, port, sought: ovsdb::sought(file) })
        })?;
        ovsdb::remove_port_from_file(&self.tools, &found, (bridge, port), TOOL).map_err(boxed)
    }

    /// By SIGKILL, the process that watches over it first; and systemd is told not to start
    /// it again. A process that is none of the run directory's is only taken where it is the
    /// one of its name: Open vSwitch in a pod writes numbers of the pod's.
    pub(super) fn end_daemon(&self, name: &'static str) -> Applied {
        let ours = self.host_daemons().into_iter().find(|daemon| daemon.name == name);
        let mut pids = match ours {
            Some(daemon) => daemon.pids,
            None => Some(living(name)).filter(|pids| pids.len() == 1).unwrap_or_default(),
        };
        pids.reverse();
        for pid in &pids {
            let failed = |source| boxed(EndError { name, pid: *pid, source });
            let Some(identity) = Identity::of(*pid) else { continue };
            if let Some(process) = Process::open(identity).map_err(failed)? {
                process.kill().map_err(failed)?;
            }
        }
        if let Ok(Some(_)) = self.ovs_unit() {
            let unit = format!("{name}.service");
            let told = self.tools.run(&["systemctl", "--no-block", "stop", &unit], SYSTEMCTL);
            if let Err(error) = told {
                tracing::warn!(%error, "systemd may start it again");
            }
        }
        wait_until(&format!("the end of {name}"), ENDING, || {
            let again = self.host_daemons().iter().any(|daemon| daemon.name == name);
            Ok(!again && !pids.iter().any(|pid| is_alive(*pid)))
        })
    }
}
