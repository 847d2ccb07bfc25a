//! The host's Open vSwitch daemons, by the host's own means.

use super::ovs::{PASS, wait_for_vswitchd, wait_until};
use super::{Applied, Executor};
use crate::ovsdb::{self, Changed, Daemon, daemon_of_run_directory, is_alive};
use pointsman_core::error::Reasoned;
use pointsman_core::model::FileState;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

const OVS_CTL: &str = "/usr/share/openvswitch/scripts/ovs-ctl";
/// Debian's and Ubuntu's name, then that of Red Hat's packages.
const UNITS: [&str; 2] = ["openvswitch-switch.service", "openvswitch.service"];
/// vswitchd comes first: it is a client of the other.
const DAEMONS: [&str; 2] = ["ovs-vswitchd", "ovsdb-server"];
/// `ovs-ctl stop` gives each daemon up to about a minute, SIGKILL included.
const TOOL: Duration = Duration::from_secs(120);
const ENDING: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
enum DaemonError {
    #[error("the host has neither a unit {} nor {OVS_CTL}", UNITS.join(" or "))]
    NoMeans,
    #[error("{name} (process {pid}) still runs after `{command}`")]
    StillRuns { name: &'static str, pid: u32, command: String },
    #[error("{name} does not run after `{command}`")]
    NotStarted { name: &'static str, command: String },
}

impl Reasoned for DaemonError {
    fn reason(&self) -> &'static str {
        match self {
            Self::NoMeans => "OvsControlMissing",
            Self::StillRuns { .. } => "OvsStillRunning",
            Self::NotStarted { .. } => "OvsNotStarted",
        }
    }

    fn is_transient(&self) -> bool {
        false
    }
}

fn boxed<E: Reasoned>(error: E) -> Box<dyn Reasoned> {
    Box::new(error)
}

impl Executor {
    pub(super) fn stop_daemons(&self) -> Applied {
        let daemons = self.host_daemons();
        if daemons.is_empty() {
            return Ok(());
        }
        let command = match self.ovs_unit()? {
            Some(unit) => self.run_tool(&["systemctl", "stop", unit])?,
            None => self.run_tool(&[OVS_CTL, "stop"])?,
        };
        // the watching parent of a daemon ends after it
        let left =
            || daemons.iter().flat_map(|daemon| daemon.pids.iter().map(|pid| (daemon.name, *pid)));
        let gone = wait_until("the end of Open vSwitch", ENDING, || {
            Ok(!left().any(|(_, pid)| is_alive(pid)) && self.host_daemons().is_empty())
        });
        match left().find(|(_, pid)| is_alive(*pid)) {
            Some((name, pid)) => Err(boxed(DaemonError::StillRuns { name, pid, command })),
            None => gone,
        }
    }

    pub(super) fn start_daemons(&self) -> Applied {
        let was_running = self.host_daemons().len() == DAEMONS.len();
        let command = match (was_running, self.ovs_unit()?) {
            (true, _) => String::new(),
            // a unit of type oneshot counts as active when its daemons have died:
            // `start` would do nothing
            (false, Some(unit)) => self.run_tool(&["systemctl", "restart", unit])?,
            // `random` makes an id where the host has none, and keeps the one it has
            (false, None) => self.run_tool(&[OVS_CTL, "start", "--system-id=random"])?,
        };
        let running = self.host_daemons();
        for name in DAEMONS {
            if !running.iter().any(|daemon| daemon.name == name) {
                return Err(boxed(DaemonError::NotStarted { name, command }));
            }
        }
        let mut client = self.ovsdb_client()?;
        client.echo().map_err(boxed)?;
        let asked = if was_running {
            Changed::Nothing
        } else {
            ovsdb::ask_for_pass(&mut client).map_err(boxed)?
        };
        wait_for_vswitchd(&mut client, "vswitchd's first pass", PASS, |now| {
            Ok(asked.is_carried_out(now))
        })
    }

    /// Those whose pid files lie beside the database's socket.
    pub(super) fn host_daemons(&self) -> Vec<Daemon> {
        let run = self.ovsdb.parent().unwrap_or(Path::new("/"));
        DAEMONS.into_iter().filter_map(|name| daemon_of_run_directory(run, name)).collect()
    }

    /// None: no systemd, or it does not run Open vSwitch; then `ovs-ctl` is there.
    pub(super) fn ovs_unit(&self) -> Result<Option<&'static str>, Box<dyn Reasoned>> {
        let is_there = |path| self.root.state(path).map_err(boxed);
        if is_there("/run/systemd/system")? == Some(FileState::Directory) {
            for unit in UNITS {
                let show = ["systemctl", "show", "--property=LoadState", "--value", unit];
                let state = self.tools.run(&show, Duration::from_secs(10)).map_err(boxed)?;
                if state.stdout.trim() == "loaded" {
                    return Ok(Some(unit));
                }
            }
        }
        match is_there(OVS_CTL)? {
            Some(_) => Ok(None),
            None => Err(boxed(DaemonError::NoMeans)),
        }
    }

    fn run_tool(&self, argv: &[&str]) -> Result<String, Box<dyn Reasoned>> {
        self.tools.run(argv, TOOL).map_err(boxed)?;
        Ok(argv.join(" "))
    }
}
