//! Files: kept in the store before they are replaced, written whole or not at all.

use crate::model::{Digest, FileState, Observed};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where contents come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from", content = "at")]
pub enum Source {
    /// A file of the payload directory, by its path in there.
    Payload(String),
    /// The store of replaced files in the state directory, by the contents' digest.
    Store,
    /// Spelled out.
    Inline(String),
}

/// A change to files. Paths are absolute on the host, below its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// Copy the present contents into the store, so that they can be put back.
    Keep {
        /// Which file.
        path: String,
        /// What it must hold; anything else fails the step.
        sha256: Digest,
    },
    /// Put a file in place: temporary file in the same directory, contents and mode,
    /// fsync, check of the digest, rename over the old one, fsync of the directory.
    Write {
        /// Which file.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Where the contents come from.
        source: Source,
        /// What they must be.
        sha256: Digest,
    },
    /// Make a directory and fsync its parent; one that is there is left as it is.
    MakeDirectory {
        /// Which one. Its parent must be there.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Put a symbolic link in place, whole, and fsync its directory.
    Link {
        /// Which one. Its directory must be there.
        path: String,
        /// What it holds, verbatim.
        target: String,
    },
    /// Remove one file and fsync its directory.
    Remove {
        /// Which file.
        path: String,
        /// What it must hold; a symbolic link has none.
        sha256: Option<Digest>,
    },
    /// Remove a directory that is empty; one that is not stays, and the step fails.
    RemoveDirectory {
        /// Which one.
        path: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep { path, .. } => write!(f, "keep a copy of {path} in the store"),
            Self::Write { path, mode, source, sha256 } => {
                let short: String = sha256.to_string().chars().take(12).collect();
                match source {
                    Source::Payload(at) => {
                        write!(
                            f,
                            "write {path} (mode {mode:04o}, sha256 {short}) from the payload's {at}"
                        )
                    }
                    Source::Store => {
                        write!(
                            f,
                            "put {path} back (mode {mode:04o}, sha256 {short}) from the store"
                        )
                    }
                    Source::Inline(_) => {
                        write!(f, "write {path} (mode {mode:04o}, sha256 {short})")
                    }
                }
            }
            Self::MakeDirectory { path, .. } => write!(f, "make the directory {path}"),
            Self::Link { path, target } => write!(f, "link {path} to {target}"),
            Self::Remove { path, .. } => write!(f, "remove {path}"),
            Self::RemoveDirectory { path } => write!(f, "remove the empty directory {path}"),
        }
    }
}

/// The temporary name that a write of a path uses, beside it.
///
/// A killed write leaves it behind; whoever looks for leftovers asks for this name.
/// It starts with a dot and ends in `.tmp`: no reader of directories takes it for its own.
pub fn staged_beside(path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{directory}/.{name}.pointsman.tmp")
}

/// The effect on the observed files.
pub fn simulate(observed: &mut Observed, step: &Step) {
    match step {
        Step::Keep { .. } => {}
        Step::Write { path, mode, source, sha256 } => {
            let size = match source {
                Source::Inline(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
                Source::Payload(_) | Source::Store => 0,
            };
            let state = FileState::Regular { mode: *mode, size, sha256: *sha256 };
            observed.files.insert(path.clone(), state);
        }
        Step::MakeDirectory { path, .. } => {
            observed.files.entry(path.clone()).or_insert(FileState::Directory);
        }
        Step::Link { path, target } => {
            observed.files.insert(path.clone(), FileState::Symlink { target: target.clone() });
        }
        Step::Remove { path, .. } | Step::RemoveDirectory { path } => {
            observed.files.remove(path);
        }
    }
}
