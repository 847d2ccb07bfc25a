//! Files: each step whole or not at all, and each checked by digest before and after.

use super::{Applied, Executor};
use crate::disk::{self, DiskError};
use pointsman_core::error::Reasoned;
use pointsman_core::model::{Digest, FileState};
use pointsman_core::plan::file::{Source, Step};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use thiserror::Error;

/// Larger files are not ours: modules and CNI binaries stay far below.
const LIMIT: u64 = 256 << 20;

#[derive(Debug, Error)]
enum FileError {
    #[error("{path} holds {found} where {expected} was expected; it was left as it is")]
    Unexpected { path: String, expected: String, found: String },
}

impl Reasoned for FileError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Unexpected { .. } => "ContentMismatch",
        }
    }

    fn is_transient(&self) -> bool {
        false
    }
}

pub(super) fn boxed<E: Reasoned>(error: E) -> Box<dyn Reasoned> {
    Box::new(error)
}

impl Executor {
    pub(super) fn apply_file(&self, step: &Step) -> Applied {
        match step {
            Step::Keep { path, sha256 } => {
                let contents = self.root.read(path, LIMIT).map_err(boxed)?;
                expect(path, &contents, *sha256)?;
                let at = self.root.locate(path).map_err(boxed)?;
                self.keep(&contents, *sha256, &at).map_err(boxed)
            }
            Step::Write { path, mode, source, sha256 } => {
                let contents = self.contents(source, *sha256).map_err(boxed)?;
                expect(path, &contents, *sha256)?;
                let at = self.root.locate(path).map_err(boxed)?;
                match source {
                    Source::Store => {
                        let kept = self.store.join(sha256.to_string());
                        disk::write_like(&at, *mode, &contents, &kept).map_err(boxed)
                    }
                    Source::Payload(_) | Source::Inline(_) => {
                        disk::write_whole(&at, *mode, &contents).map_err(boxed)
                    }
                }
            }
            Step::MakeDirectory { path, mode } => self.make_directory(path, *mode),
            Step::Link { path, target } => self.root.link(path, target).map_err(boxed),
            Step::Remove { path, sha256 } => self.remove(path, *sha256),
            Step::RemoveDirectory { path } => {
                let at = self.root.locate(path).map_err(boxed)?;
                fs::remove_dir(&at).map_err(failed("remove the directory", &at))?;
                disk::sync_directory_of(&at).map_err(boxed)
            }
        }
    }

    /// With owner and label, for the day when it is put back.
    fn keep(&self, contents: &[u8], sha256: Digest, like: &Path) -> Result<(), DiskError> {
        let at = self.store.join(sha256.to_string());
        if disk::state_of(&at)?.and_then(|state| state.sha256()) == Some(sha256) {
            return Ok(());
        }
        disk::write_like(&at, 0o600, contents, like)
    }

    /// The bytes that a [`Source`] stands for.
    pub(super) fn contents(&self, source: &Source, sha256: Digest) -> Result<Vec<u8>, DiskError> {
        let below = |directory: &Path, path: &str| {
            disk::HostRoot::new(directory).read(&format!("/{path}"), LIMIT)
        };
        match source {
            Source::Payload(path) => below(&self.payload, path),
            Source::Store => below(&self.store, &sha256.to_string()),
            Source::Inline(text) => Ok(text.clone().into_bytes()),
        }
    }

    fn make_directory(&self, path: &str, mode: u32) -> Applied {
        let at = self.root.locate(path).map_err(boxed)?;
        if at.is_dir() {
            return Ok(());
        }
        let created = fs::DirBuilder::new().mode(mode).create(&at);
        created.map_err(failed("make the directory", &at))?;
        // the umask has taken bits away
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&at, mode).map_err(failed("set the mode of", &at))?;
        disk::sync_directory_of(&at).map_err(boxed)
    }

    fn remove(&self, path: &str, sha256: Option<Digest>) -> Applied {
        let at = self.root.locate(path).map_err(boxed)?;
        match disk::state_of(&at).map_err(boxed)? {
            None => return Ok(()),
            Some(FileState::Regular { sha256: found, .. }) if Some(found) == sha256 => {}
            Some(FileState::Symlink { .. }) if sha256.is_none() => {}
            Some(found) => {
                let expected = sha256.map_or("a symbolic link".into(), |d| d.to_string());
                let found = format!("{found:?}");
                return Err(boxed(FileError::Unexpected { path: path.into(), expected, found }));
            }
        }
        fs::remove_file(&at).map_err(failed("remove", &at))?;
        disk::sync_directory_of(&at).map_err(boxed)
    }
}

fn failed(operation: &'static str, at: &Path) -> impl FnOnce(io::Error) -> Box<dyn Reasoned> {
    let at = at.to_owned();
    move |source| boxed(disk::failed(operation, &at)(disk::explained(source, &at)))
}

pub(super) fn expect(path: &str, contents: &[u8], sha256: Digest) -> Applied {
    let found = Digest::of(contents);
    if found == sha256 {
        return Ok(());
    }
    let (expected, found) = (sha256.to_string(), found.to_string());
    Err(boxed(FileError::Unexpected { path: path.into(), expected, found }))
}
