//! What can be wrong with a journal.

use super::JOURNAL_SCHEMA;
use crate::disk::DiskError;
use pointsman_core::error::Reasoned;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A journal that cannot be kept.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process is at work.
    #[error(
        "another pointsman ({holder}) is at work on this host; nothing was changed; wait until it ends"
    )]
    Locked {
        /// `pid N`, as that process wrote it.
        holder: String,
    },
    /// A file could not be read or written.
    #[error("keep the journal in {}", path.display())]
    Disk {
        /// The state directory or a file in it.
        path: PathBuf,
        /// What failed.
        #[source]
        source: DiskError,
    },
    /// A file could not be opened.
    #[error("open {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The journal is there and cannot be understood: a person has to look.
    #[error("the journal {} cannot be read; nothing was changed; restore it or, when the node is as it should be, move it away", path.display())]
    Garbled {
        /// Which.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer version.
    #[error("the journal {} has the version {found}, this pointsman reads {JOURNAL_SCHEMA}; nothing was changed; run the newer version", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Reasoned for JournalError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "AnotherAgentAtWork",
            Self::Disk { source, .. } => source.reason(),
            Self::Open { .. } => "StateDirUnusable",
            Self::Garbled { .. } | Self::Newer { .. } => "JournalUnreadable",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }
}
