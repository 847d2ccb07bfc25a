//! The files of a module set: put together where depmod does not look, exchanged as a whole.

use super::file::{boxed, expect};
use super::{Applied, Executor};
use crate::attributes;
use crate::disk::{self, DiskError};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use pointsman_core::error::Reasoned;
use pointsman_core::model::{Attributes, Digest, FileState};
use pointsman_core::plan::file::Source;
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
enum SetError {
    #[error(
        "{path} holds {found} where {expected} was expected: somebody changed it meanwhile; it was \
         left as it is"
    )]
    Changed { path: String, expected: String, found: String },
    #[error("{operation} {path}")]
    Failed {
        operation: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Reasoned for SetError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "ContentMismatch",
            Self::Failed { .. } => "FileOperationFailed",
        }
    }

    fn is_transient(&self) -> bool {
        false
    }
}

fn failed(operation: &'static str, path: &str) -> impl FnOnce(io::Error) -> Box<dyn Reasoned> {
    let path = path.to_owned();
    move |source| boxed(SetError::Failed { operation, path, source })
}

impl Executor {
    pub(super) fn put_module(
        &self,
        path: &str,
        mode: u32,
        attributes: &Attributes,
        source: &Source,
        sha256: Digest,
    ) -> Applied {
        let contents = self.contents(source, sha256).map_err(boxed)?;
        expect(path, &contents, sha256)?;
        let at = self.root.locate(path).map_err(boxed)?;
        disk::write_whole_as(&at, mode, attributes, &contents).map_err(boxed)
    }

    pub(super) fn make_staging(&self, path: &str, attributes: &Attributes) -> Applied {
        let at = self.root.locate(path).map_err(boxed)?;
        let created = fs::DirBuilder::new().mode(0o700).create(&at);
        created.map_err(failed("make the directory", path))?;
        let dressed = (|| {
            let directory = File::open(&at)?;
            attributes::set(&directory, attributes)?;
            directory.set_permissions(Permissions::from_mode(attributes.mode.unwrap_or(0o755)))
        })();
        dressed.map_err(failed("set owner, label and mode of", path))?;
        disk::sync_directory_of(&at).map_err(boxed)
    }

    pub(super) fn exchange(
        &self,
        path: &str,
        staged: &str,
        leaves: &BTreeSet<String>,
        brings: &BTreeSet<String>,
    ) -> Applied {
        let at = self.root.locate(path).map_err(boxed)?;
        let from = self.root.locate(staged).map_err(boxed)?;
        holds(&from, staged, brings)?;
        File::open(&from).and_then(|f| f.sync_all()).map_err(failed("sync", staged))?;
        holds(&at, path, leaves)?;
        match renameat2(AT_FDCWD, &from, AT_FDCWD, &at, RenameFlags::RENAME_EXCHANGE) {
            Ok(()) => {}
            Err(errno @ (Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP)) => {
                tracing::info!(%path, %errno, "no exchange on this file system: file by file");
                file_by_file(&at, &from, leaves, brings).map_err(boxed)?;
            }
            Err(errno) => return Err(failed("exchange the set in", path)(errno.into())),
        }
        disk::sync_directory_of(&at).map_err(boxed)?;
        disk::sync_directory_of(&from).map_err(boxed)
    }
}

/// That a directory has these entries and no others.
fn holds(at: &Path, path: &str, expected: &BTreeSet<String>) -> Applied {
    let found = names(at).map_err(failed("list", path))?;
    if found == *expected {
        return Ok(());
    }
    let words = |names: &BTreeSet<String>| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let (path, expected, found) = (path.to_owned(), words(expected), words(&found));
    Err(boxed(SetError::Changed { path, expected, found }))
}

fn names(at: &Path) -> io::Result<BTreeSet<String>> {
    let name =
        |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    fs::read_dir(at)?.map(name).collect()
}

/// The staged files written over those in place, each whole, and what is staged removed: all
/// that the exchange would have brought, one after the other.
fn file_by_file(
    at: &Path,
    from: &Path,
    leaves: &BTreeSet<String>,
    brings: &BTreeSet<String>,
) -> Result<(), DiskError> {
    for name in brings {
        copy_whole(&from.join(name), &at.join(name))?;
    }
    let gone = leaves.difference(brings).map(|name| at.join(name));
    let staged = brings.iter().map(|name| from.join(name));
    for path in gone.chain(staged).collect::<Vec<PathBuf>>() {
        match fs::remove_file(&path) {
            // the leftover of a write, which one of these writes took up
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(disk::failed("remove", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    disk::sync(at)
}

fn copy_whole(from: &Path, to: &Path) -> Result<(), DiskError> {
    match disk::state_of(from)? {
        Some(FileState::Symlink { target }) => disk::link_whole(to, &target),
        Some(FileState::Regular { mode, .. }) => {
            let contents = fs::read(from).map_err(disk::failed("read", from))?;
            disk::write_whole_as(to, mode, &attributes::of(from)?, &contents)
        }
        _ => Err(disk::failed("copy", from)(io::ErrorKind::InvalidInput.into())),
    }
}
