//! The host's Open vSwitch daemons, by the host's own means.

use super::ovs::{PASS, wait_for_vswitchd, wait_until};
use super::{Applied, Executor};
use crate::ovsdb::{self, Changed, Daemon, daemon_of_run_directory, is_alive, runs_in_one_of};
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::FileState;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// Of the distributions, then of a build with Open vSwitch's own defaults.
const SCRIPTS: [&str; 2] =
    ["/usr/share/openvswitch/scripts/ovs-ctl", "/usr/local/share/openvswitch/scripts/ovs-ctl"];
/// Debian's and Ubuntu's name, then that of Red Hat's packages.
const UNITS: [&str; 2] = ["openvswitch-switch.service", "openvswitch.service"];
/// The units above only stand for these, in which the daemons are; a single unit that holds
/// both is of older packages.
const HOMES: [&str; 4] = [
    "ovs-vswitchd.service",
    "ovsdb-server.service",
    "openvswitch-switch.service",
    "openvswitch.service",
];
/// vswitchd comes first: it is a client of the other.
const DAEMONS: [&str; 2] = ["ovs-vswitchd", "ovsdb-server"];
/// `ovs-ctl stop` gives each daemon up to about a minute, SIGKILL included.
const TOOL: Duration = Duration::from_secs(120);
const ENDING: Duration = Duration::from_secs(10);
/// systemd forgets how often a unit was started, and says at once what it knows of one.
const SYSTEMCTL: Duration = Duration::from_secs(10);

/// A way to stop the daemons, and, but for the last, to start them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// A unit of the host's systemd.
    Unit(&'static str),
    /// `ovs-ctl`.
    Script(&'static str),
    /// Each daemon's own control socket.
    Control,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "systemctl, {unit}"),
            Self::Script(script) => f.write_str(script),
            Self::Control => f.write_str("its control socket"),
        }
    }
}

#[derive(Debug, Error)]
enum DaemonError {
    #[error(
        "nothing on this host starts Open vSwitch: it has neither a unit {} nor {}",
        UNITS.join(" or "),
        SCRIPTS.join(" or ")
    )]
    NoMeans,
    #[error("{name} (process {pid}) still runs, after it was told to end by {tried}")]
    StillRuns { name: &'static str, pid: u32, tried: String },
    #[error("{name} does not run after it was started by {means}")]
    NotStarted { name: &'static str, means: Means },
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

#[derive(Debug, Error)]
#[error("tell {name} to end by its control socket")]
struct ControlError {
    name: &'static str,
    #[source]
    source: io::Error,
}

impl Reasoned for ControlError {
    fn reason(&self) -> &'static str {
        "OvsControlMissing"
    }

    fn is_transient(&self) -> bool {
        false
    }
}

fn boxed<E: Reasoned>(error: E) -> Box<dyn Reasoned> {
    Box::new(error)
}

impl Executor {
    /// By each means of the host until no daemon is left: a unit that is not theirs stops
    /// nothing, a script may not know of a daemon that was started by hand.
    pub(super) fn stop_daemons(&self) -> Applied {
        let daemons = self.host_daemons();
        if daemons.is_empty() {
            return Ok(());
        }
        let left = || {
            let pids =
                daemons.iter().flat_map(|daemon| daemon.pids.iter().map(|p| (daemon.name, *p)));
            pids.filter(|(_, pid)| is_alive(*pid)).collect::<Vec<_>>()
        };
        let mut tried = Vec::new();
        for means in self.stopping_means(&daemons)? {
            match self.stop_by(means) {
                Ok(()) => tried.push(means.to_string()),
                Err(error) => tried.push(format!("{means} ({})", chain(&*error))),
            }
            // the watching parent of a daemon ends after it
            let gone = wait_until("the end of Open vSwitch", ENDING, || {
                Ok(left().is_empty() && self.host_daemons().is_empty())
            });
            if gone.is_ok() {
                return Ok(());
            }
        }
        match left().first().copied() {
            Some((name, pid)) => {
                Err(boxed(DaemonError::StillRuns { name, pid, tried: tried.join(", then ") }))
            }
            None => {
                wait_until("the end of Open vSwitch", ENDING, || Ok(self.host_daemons().is_empty()))
            }
        }
    }

    fn stop_by(&self, means: Means) -> Applied {
        match means {
            Means::Unit(unit) => self.run_tool(&["systemctl", "stop", unit]),
            Means::Script(script) => self.run_tool(&[script, "stop"]),
            Means::Control => {
                let run = self.run_directory();
                for daemon in self.host_daemons() {
                    ovsdb::tell_to_exit(run, daemon.name, ENDING)
                        .map_err(|source| boxed(ControlError { name: daemon.name, source }))?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn start_daemons(&self) -> Applied {
        let was_running = self.host_daemons().len() == DAEMONS.len();
        if !was_running {
            let means = self.starting_means()?.ok_or_else(|| boxed(DaemonError::NoMeans))?;
            self.start_by(means)?;
            let running = self.host_daemons();
            let missing =
                DAEMONS.into_iter().find(|name| !running.iter().any(|daemon| daemon.name == *name));
            if let Some(name) = missing {
                return Err(boxed(DaemonError::NotStarted { name, means }));
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

    fn start_by(&self, means: Means) -> Applied {
        match means {
            Means::Unit(unit) => {
                // a unit that was started too often in a row is refused until it is reset
                let reset = [&["systemctl", "reset-failed"][..], &HOMES].concat();
                if let Err(error) = self.tools.run_unchecked(&reset, SYSTEMCTL) {
                    tracing::debug!(error = %chain(&error), "no unit was reset");
                }
                // a unit of type oneshot counts as active when its daemons have died:
                // `start` would do nothing
                self.run_tool(&["systemctl", "restart", unit])
            }
            // `random` makes an id where the host has none, and keeps the one it has
            Means::Script(script) => self.run_tool(&[script, "start", "--system-id=random"]),
            Means::Control => Err(boxed(DaemonError::NoMeans)),
        }
    }

    fn run_directory(&self) -> &Path {
        self.ovsdb.parent().unwrap_or(Path::new("/"))
    }

    /// Those whose pid files lie beside the database's socket.
    pub(super) fn host_daemons(&self) -> Vec<Daemon> {
        let run = self.run_directory();
        DAEMONS.into_iter().filter_map(|name| daemon_of_run_directory(run, name)).collect()
    }

    /// The unit first where the daemons are in it: else stopping it would do nothing.
    fn stopping_means(&self, daemons: &[Daemon]) -> Result<Vec<Means>, Box<dyn Reasoned>> {
        let mut pids = daemons.iter().flat_map(|daemon| &daemon.pids);
        let in_units = pids.any(|pid| runs_in_one_of(*pid, &HOMES));
        let unit = if in_units { self.ovs_unit()? } else { None };
        let means =
            [unit.map(Means::Unit), self.script()?.map(Means::Script), Some(Means::Control)];
        Ok(means.into_iter().flatten().collect())
    }

    fn starting_means(&self) -> Result<Option<Means>, Box<dyn Reasoned>> {
        match self.ovs_unit()? {
            Some(unit) => Ok(Some(Means::Unit(unit))),
            None => Ok(self.script()?.map(Means::Script)),
        }
    }

    /// None: no systemd, or it does not run Open vSwitch.
    pub(super) fn ovs_unit(&self) -> Result<Option<&'static str>, Box<dyn Reasoned>> {
        if self.root.state("/run/systemd/system").map_err(boxed)? != Some(FileState::Directory) {
            return Ok(None);
        }
        for unit in UNITS {
            let show = ["systemctl", "show", "--property=LoadState", "--value", unit];
            let state = self.tools.run(&show, SYSTEMCTL).map_err(boxed)?;
            if state.stdout.trim() == "loaded" {
                return Ok(Some(unit));
            }
        }
        Ok(None)
    }

    fn script(&self) -> Result<Option<&'static str>, Box<dyn Reasoned>> {
        for script in SCRIPTS {
            if self.root.state(script).map_err(boxed)?.is_some() {
                return Ok(Some(script));
            }
        }
        Ok(None)
    }

    fn run_tool(&self, argv: &[&str]) -> Applied {
        self.tools.run(argv, TOOL).map(drop).map_err(boxed)
    }
}
