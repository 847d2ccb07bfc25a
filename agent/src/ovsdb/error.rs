use pointsman_core::error::Reasoned;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// A conversation with Open vSwitch that did not bring what was asked for.
#[derive(Debug, Error)]
pub enum OvsdbError {
    /// No connection, no answer in time, or a connection that broke. Nothing is known of
    /// the fate of a transaction that was on its way.
    #[error("{operation} ovsdb-server at {}", socket.display())]
    Unavailable {
        /// `connect to`, `write to`, `read from`.
        operation: &'static str,
        /// As this process sees it.
        socket: PathBuf,
        /// Why; `TimedOut` where the deadline passed.
        #[source]
        source: io::Error,
    },
    /// The peer does not speak OVSDB, or not as RFC 7047 says.
    #[error("what answers at {} is no ovsdb-server: {what}", socket.display())]
    Nonsense {
        /// As this process sees it.
        socket: PathBuf,
        /// What it sent.
        what: String,
    },
    /// The database's file, which no server has, could not be read or changed.
    #[error("use the database's file {}: {what}", file.display())]
    FileFailed {
        /// On the host.
        file: PathBuf,
        /// What the tool said.
        what: String,
    },
    /// The database's file, which may list a port that nobody is to attach, is not there.
    #[error(
        "the Open vSwitch database is not at {sought}, so {port} could not be taken out of {bridge} there, and the next start of Open vSwitch would attach it: find the file that ovsdb-server is started with, and before ovs-vswitchd starts run `ovs-vsctl --no-wait del-port {bridge} {port}`"
    )]
    FileMissing {
        /// That would attach it.
        bridge: String,
        /// The device.
        port: String,
        /// Where it was looked for.
        sought: String,
    },
    /// The server refused a transaction; nothing of it was done.
    #[error("ovsdb-server did not {operation}: {error}: {details}")]
    TransactionFailed {
        /// In plain words.
        operation: String,
        /// OVSDB's word: `constraint violation`, `timed out` for an assertion, …
        error: String,
        /// OVSDB's explanation; empty where it gives none.
        details: String,
    },
    /// Somebody else changed the same rows during every try.
    #[error("the rows changed during each of {tries} tries to {operation}")]
    Contended {
        /// In plain words.
        operation: String,
        /// How often it was tried.
        tries: u32,
    },
    /// No such bridge in the database.
    #[error("there is no bridge {bridge}")]
    BridgeMissing {
        /// Its name.
        bridge: String,
    },
    /// Something of that name is there, and is not what the step makes.
    #[error("{what} is {found} where {expected} was expected; it was left as it is")]
    Unexpected {
        /// Which property of what.
        what: String,
        /// What is there.
        found: String,
        /// What the step would make.
        expected: String,
    },
    /// vswitchd tried and failed: its own words.
    #[error("vswitchd could not make the port {port}: {error}")]
    PortFailed {
        /// The device.
        port: String,
        /// `Interface.error`.
        error: String,
    },
    /// The configuration is in the database, and vswitchd does not run.
    #[error("no ovs-vswitchd runs that could bring {awaited} about")]
    VswitchdGone {
        /// What was waited for.
        awaited: String,
    },
    /// What a step asked for is not so yet: vswitchd, or the kernel, has not carried it out.
    #[error("{awaited} did not come about within {} s", limit.as_secs())]
    NotCarriedOut {
        /// What was waited for.
        awaited: String,
        /// How long.
        limit: Duration,
    },
}

impl OvsdbError {
    /// Whether somebody is there and said nothing in time.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable { source, .. } if source.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether an assertion of a transaction did not hold any more.
    pub(super) fn is_conflict(&self) -> bool {
        // RFC 7047 section 5.2.6: a `wait` whose timeout passed, which for 0 ms means at once
        matches!(self, Self::TransactionFailed { error, .. } if error == "timed out")
    }
}

impl Reasoned for OvsdbError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "OvsUnavailable",
            Self::Nonsense { .. } => "OvsProtocolError",
            Self::FileFailed { .. } => "OvsDatabaseFileFailed",
            Self::FileMissing { .. } => "OvsDatabaseFileMissing",
            Self::TransactionFailed { .. } => "OvsTransactionFailed",
            Self::Contended { .. } => "OvsContended",
            Self::BridgeMissing { .. } => "OvsBridgeMissing",
            Self::Unexpected { .. } => "OvsStateUnexpected",
            Self::PortFailed { .. } => "OvsPortFailed",
            Self::VswitchdGone { .. } => "OvsVswitchdGone",
            Self::NotCarriedOut { .. } => "OvsVswitchdSilent",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Contended { .. }
                | Self::VswitchdGone { .. }
                | Self::NotCarriedOut { .. }
        )
    }
}
