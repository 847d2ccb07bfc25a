use super::Digest;
use serde::{Deserialize, Serialize};

/// One directory entry as it was found. Absence is the map's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FileState {
    /// A regular file.
    Regular {
        /// Permission bits, `0o7777` of `st_mode`.
        mode: u32,
        /// Length in bytes.
        size: u64,
        /// SHA-256 of the contents.
        sha256: Digest,
    },
    /// A symbolic link, not followed.
    Symlink {
        /// What it holds, verbatim.
        target: String,
    },
    /// A directory.
    Directory,
    /// A device, socket or pipe: never ours.
    Other,
}

impl FileState {
    /// The contents' digest; none for anything but a regular file.
    pub fn sha256(&self) -> Option<Digest> {
        match self {
            Self::Regular { sha256, .. } => Some(*sha256),
            Self::Symlink { .. } | Self::Directory | Self::Other => None,
        }
    }
}
