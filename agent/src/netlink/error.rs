use pointsman_core::error::Reasoned;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// A netlink operation that failed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The socket itself.
    #[error("{operation} on the netlink socket")]
    Socket {
        /// Which call.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel said no. Its own words are in the text where it had any.
    #[error("{operation}{}", said(explanation.as_deref()))]
    Kernel {
        /// What was asked for.
        operation: String,
        /// `NLMSGERR_ATTR_MSG`.
        explanation: Option<String>,
        /// The error number.
        #[source]
        source: io::Error,
    },
    /// One of a batch failed; the others of its datagram were carried out.
    #[error("{operation} ({failed} of {of} in this batch failed, this one first)")]
    Batch {
        /// What the first one that failed asked for.
        operation: String,
        /// How many failed.
        failed: usize,
        /// How many were sent.
        of: usize,
        /// Why.
        #[source]
        source: Box<NetlinkError>,
    },
    /// No answer.
    #[error("{operation}: no answer from the kernel in {} s", limit.as_secs())]
    TimedOut {
        /// What was asked for.
        operation: String,
        /// How long was waited.
        limit: Duration,
    },
    /// What was dumped changed under the dump, each time.
    #[error("{operation}: changed while it was read, {tries} times in a row")]
    Interrupted {
        /// What was dumped.
        operation: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The kernel could not keep all answers.
    #[error("{operation}: the kernel lost answers, the receive buffer being full")]
    Overrun {
        /// What was asked for.
        operation: String,
    },
    /// An answer that is not understood, so nothing built on it can be trusted.
    #[error("{operation}: cannot decode an answer: {detail} (message type {kind}: {bytes})")]
    Undecodable {
        /// What was asked for.
        operation: String,
        /// What is wrong with it.
        detail: String,
        /// `nlmsg_type`.
        kind: u16,
        /// The start of the message in hexadecimal.
        bytes: String,
    },
    /// A name that no link has.
    #[error("{operation}: there is no network device {link}")]
    NoSuchLink {
        /// What was asked for.
        operation: String,
        /// The name.
        link: String,
    },
    /// A model value that has no netlink form.
    #[error("{operation}: {detail}")]
    Invalid {
        /// What was asked for.
        operation: String,
        /// What is wrong with it.
        detail: String,
    },
}

fn said(explanation: Option<&str>) -> String {
    explanation.map_or_else(String::new, |text| format!(": the kernel says \"{text}\""))
}

impl NetlinkError {
    /// The kernel's error number, where the kernel said no.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error(),
            Self::Batch { source, .. } => source.errno(),
            _ => None,
        }
    }
}

impl Reasoned for NetlinkError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Socket { .. } => "NetlinkUnavailable",
            Self::Kernel { .. } | Self::Batch { .. } => "NetlinkRefused",
            Self::TimedOut { .. } => "NetlinkTimedOut",
            Self::Interrupted { .. } | Self::Overrun { .. } => "NetworkUnsteady",
            Self::Undecodable { .. } => "NetlinkUndecodable",
            Self::NoSuchLink { .. } => "LinkMissing",
            Self::Invalid { .. } => "NetlinkInvalid",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Interrupted { .. } | Self::Overrun { .. })
    }
}
