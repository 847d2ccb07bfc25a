//! The dead-man: a process in the host, in no pod, that takes the node to the safe harbour
//! when the agent dies or makes no progress in the middle of a move.
//!
//! ```text
//!   agent:    copy, probe, write armed.T ──► start ──► wait for watching.T ──► steps … ──► rename armed.T disarmed
//!   dead-man:                                 watch: agent's pidfd, deadline.T, armed.T ──► rename armed.T fired
//! ```
//! Only one of the two renames can succeed, and who succeeds owns the host: the agent may say
//! that it is done, or the dead-man kills it, waits for its end, takes its lock and plans the
//! way to the harbour like anybody else. `T` is another word for each arming, so that a
//! dead-man of a former one has nothing to fire.

mod arm;
mod fire;
mod host;
mod watch;

pub use arm::DeadMan;
pub use watch::watch;

use crate::disk::DiskError;
use crate::host_command::CommandError;
use crate::process::Identity;
use nix::time::{ClockId, clock_gettime};
use pointsman_core::error::Reasoned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// The reason of a transaction that the dead-man took back.
pub const FIRED: &str = "DeadmanFired";
/// The binary's copy in the state directory.
pub const BINARY: &str = "pointsman";

/// What a dead-man watches: the file `armed.T`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// The checkpoint's.
    pub transaction: String,
    /// The boot that it is for.
    pub boot_id: String,
    /// Whose end, or standstill, fires it.
    pub agent: Identity,
    /// The host's root, as the host sees it.
    pub root: PathBuf,
    /// The state directory below that root.
    pub state_dir: String,
    /// ovsdb-server's socket below that root.
    pub ovsdb: String,
}

/// No dead-man, or one that has fired.
#[derive(Debug, Error)]
pub enum DeadmanError {
    /// Its files.
    #[error("keep the dead-man's files")]
    Disk(#[source] DiskError),
    /// A file of its own, by hand.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The copy does not run on the host: `noexec`, a policy, another architecture.
    #[error("run the dead-man's copy of this program on the host")]
    Probe(#[source] CommandError),
    /// Started, and not heard of.
    #[error("the dead-man did not begin to watch within {} s: {tried}", limit.as_secs())]
    Silent {
        /// How long was waited for each way to start it.
        limit: Duration,
        /// What was tried, and what came of it.
        tried: String,
    },
    /// It fired, and this process is about to be killed.
    #[error("the dead-man has fired and owns the host now")]
    Fired,
}

impl Reasoned for DeadmanError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Disk(source) => source.reason(),
            Self::File { .. } | Self::Probe(_) | Self::Silent { .. } => "DeadmanNotArmed",
            Self::Fired => FIRED,
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Disk(source) => source.is_transient(),
            Self::Silent { .. } => true,
            Self::File { .. } | Self::Probe(_) | Self::Fired => false,
        }
    }
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DeadmanError {
    let path = path.to_owned();
    move |source| DeadmanError::File { operation, path, source }
}

/// The files of one arming.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    directory: PathBuf,
    token: String,
}

impl Files {
    fn armed(&self) -> PathBuf {
        self.directory.join(format!("armed.{}", self.token))
    }

    /// Its two numbers: when the step, and when the whole, should be over.
    fn deadline(&self) -> PathBuf {
        self.directory.join(format!("deadline.{}", self.token))
    }

    /// There once the dead-man watches.
    fn watching(&self) -> PathBuf {
        self.directory.join(format!("watching.{}", self.token))
    }

    /// What is left of other armings: path and whether it is an `armed` file.
    fn others(&self) -> Vec<(PathBuf, bool)> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Vec::new() };
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((kind, token)) = name.split_once('.') else { continue };
            if token != self.token && matches!(kind, "armed" | "deadline" | "watching") {
                found.push((entry.path(), kind == "armed"));
            }
        }
        found
    }

    /// Who succeeds, of agent and dead-man, owns the host.
    fn claim(&self, as_what: &str) -> io::Result<bool> {
        match std::fs::rename(self.armed(), self.directory.join(as_what)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How a former arming ended.
    fn forget_former(&self) {
        remove([self.directory.join("disarmed"), self.directory.join("fired")]);
    }

    fn sweep(&self) {
        remove([self.deadline(), self.watching()]);
    }
}

fn remove(paths: [PathBuf; 2]) {
    for path in paths {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "could not remove");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Since the boot, suspension included: no clock that anybody sets.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests;
