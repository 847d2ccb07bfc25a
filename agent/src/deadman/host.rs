//! Where the dead-man runs: in the host, started by the host's own init or left to it.

use super::BINARY;
use crate::apply::Executor;
use crate::disk::HostRoot;
use crate::host_command::{CommandError, HostTools, while_busy};
use pointsman_core::model::FileState;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const STARTING: Duration = Duration::from_secs(10);

/// The state directory, from both sides.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// As this process sees it.
    pub(super) directory: PathBuf,
    /// The host's root, as the host sees it.
    pub(super) root: PathBuf,
    /// The state directory below that root.
    pub(super) state_dir: String,
    /// As this process sees it: what is copied, and enters the host to start the copy.
    pub(super) program: PathBuf,
    tools: HostTools,
    host: HostRoot,
}

/// Who starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// A transient unit.
    Systemd,
    /// A process that leaves the pod's namespaces and its cgroup.
    Process,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd",
            Self::Process => "a process of its own",
        })
    }
}

/// The means of this host, the better one first. A systemd that may not run a program out of
/// the state directory (`SELinux`) is no reason to do without.
pub(super) fn means(place: &Place) -> Vec<Means> {
    let systemd = matches!(place.host.state("/run/systemd/system"), Ok(Some(FileState::Directory)));
    let systemd = systemd && place.tools != HostTools::Scratch;
    systemd.then_some(Means::Systemd).into_iter().chain([Means::Process]).collect()
}

impl Place {
    pub(super) fn of(executor: &Executor, directory: &Path, program: &Path) -> Self {
        let below = directory.strip_prefix(executor.root.path()).unwrap_or(directory);
        let root = match executor.tools {
            HostTools::OfInit => Path::new("/"),
            HostTools::Here | HostTools::Scratch => executor.root.path(),
        };
        Self {
            directory: directory.to_owned(),
            root: root.to_owned(),
            state_dir: Path::new("/").join(below).to_string_lossy().into_owned(),
            program: program.to_owned(),
            tools: executor.tools.clone(),
            host: executor.root.clone(),
        }
    }

    /// The copy, as the host sees it.
    fn binary(&self) -> String {
        let inside = self.state_dir.trim_start_matches('/');
        self.root.join(inside).join(BINARY).to_string_lossy().into_owned()
    }

    /// Whether the copy runs on the host at all.
    pub(super) fn probe(&self) -> Result<(), CommandError> {
        let tools = match self.tools {
            HostTools::OfInit => HostTools::OfInit,
            HostTools::Here | HostTools::Scratch => HostTools::Here,
        };
        while_busy(|| tools.run(&[&self.binary(), "--version"], STARTING)).map(drop)
    }

    pub(super) fn start(&self, means: Means, token: &str) -> Result<(), CommandError> {
        let (binary, root) = (self.binary(), self.root.to_string_lossy());
        let watch =
            [&binary, "deadman", token, "--root", &*root, "--state-dir", self.state_dir.as_str()];
        match means {
            Means::Systemd => {
                let unit = format!("--unit=pointsman-deadman-{token}");
                let run = ["systemd-run", "--quiet", "--collect", &unit];
                let more = ["--property=OOMScoreAdjust=-999", "--"];
                self.tools.run(&[&run[..], &more, &watch].concat(), STARTING).map(drop)
            }
            // enters the host by itself, and not by the tools' way: that one ends with the agent
            Means::Process => {
                let program = self.program.to_string_lossy();
                let argv = [&[&*program, "detach"][..], &watch].concat();
                HostTools::Here.run(&argv, STARTING).map(drop)
            }
        }
    }
}
