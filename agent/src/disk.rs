//! Files below a root: read without following a link out of it, written whole or not at all.

use crate::attributes;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use pointsman_core::error::Reasoned;
use pointsman_core::model::{Attributes, Digest, FileState};
use rustix::fs::{IFlags, ioctl_getflags};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A failed operation on a file.
#[derive(Debug, Error)]
#[error("{operation} {}", path.display())]
pub struct DiskError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl DiskError {
    /// Whether the file or a directory above it is not there, or what is above it is no directory.
    pub fn is_not_found(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl Reasoned for DiskError {
    fn reason(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "NoSpace",
            io::ErrorKind::ReadOnlyFilesystem => "HostReadOnly",
            io::ErrorKind::PermissionDenied => "PermissionDenied",
            io::ErrorKind::InvalidData => "ContentMismatch",
            _ => "FileOperationFailed",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::Interrupted
        )
    }
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError { operation, path, source }
}

/// The host's root directory as the agent sees it: `/`, or `/host` in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoot(PathBuf);

impl HostRoot {
    /// The root itself must be an absolute path.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The root itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether the agent sees the host's files where the host sees them.
    pub fn is_slash(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where an absolute path of the host is for this process, its directory's links
    /// resolved as on the host (an absolute link stays below the root); the last
    /// component is not followed. The directory must be there.
    pub fn locate(&self, path: &str) -> Result<PathBuf, DiskError> {
        let wanted = Path::new(path);
        let (Some(parent), Some(name)) = (wanted.parent(), wanted.file_name()) else {
            return Ok(self.0.clone());
        };
        Ok(self.locate_directory(parent)?.join(name))
    }

    /// Like [`Self::locate`], with the last component resolved too.
    pub fn locate_directory(&self, path: &Path) -> Result<PathBuf, DiskError> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let error = || failed("open", path);
        let root =
            open(&self.0, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(io::Error::from)
                .map_err(failed("open the root", &self.0))?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let fd: OwnedFd = openat2(&root, inside, how).map_err(io::Error::from).map_err(error())?;
        // without /proc nobody knows, which must not pass for a file that is not there
        fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map_err(|source| error()(io::Error::other(source)))
    }

    /// The contents of a file of at most `limit` bytes.
    pub fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, DiskError> {
        let at = self.locate_directory(Path::new(path))?;
        let error = || failed("read", Path::new(path));
        let file = File::open(at).map_err(error())?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(error())?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            let source = io::Error::other(format!("the file is larger than {limit} bytes"));
            return Err(error()(source));
        }
        Ok(bytes)
    }

    /// What a path is, a link not followed; none where there is nothing.
    pub fn state(&self, path: &str) -> Result<Option<FileState>, DiskError> {
        let at = match self.locate(path) {
            Ok(at) => at,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        state_of(&at)
    }

    /// Writes a file whole: temporary file beside it, mode, fsync, rename, fsync of the directory.
    ///
    /// The temporary name starts with a dot and ends in `.tmp`, which neither depmod
    /// nor a CNI runtime nor `apparmor_parser` takes for its own.
    pub fn write(&self, path: &str, mode: u32, contents: &[u8]) -> Result<(), DiskError> {
        write_whole(&self.locate(path)?, mode, contents)
    }

    /// Puts a symbolic link in place whole, by the temporary name of [`Self::write`]. What it
    /// leads to is not looked at.
    pub fn link(&self, path: &str, target: &str) -> Result<(), DiskError> {
        link_whole(&self.locate(path)?, target)
    }
}

/// [`HostRoot::link`] of a path that this process sees.
pub(crate) fn link_whole(at: &Path, target: &str) -> Result<(), DiskError> {
    let staged = temporary_beside(at);
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the leftover", &staged)(error));
        }
        Ok(()) | Err(_) => {}
    }
    symlink(target, &staged).map_err(failed("make the link", &staged))?;
    publish(&staged, at)
}

/// [`HostRoot::state`] of a path that this process sees.
pub fn state_of(at: &Path) -> Result<Option<FileState>, DiskError> {
    let meta = match fs::symlink_metadata(at) {
        Ok(meta) => meta,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed("look at", at)(error)),
    };
    let kind = meta.file_type();
    Ok(Some(if kind.is_symlink() {
        let target = fs::read_link(at).map_err(failed("read the link", at))?;
        FileState::Symlink { target: target.to_string_lossy().into_owned() }
    } else if kind.is_dir() {
        FileState::Directory
    } else if kind.is_file() {
        let mode = meta.permissions().mode() & 0o7777;
        FileState::Regular { mode, size: meta.len(), sha256: digest_of(at)? }
    } else {
        FileState::Other
    }))
}

/// The digest of a file's contents, read piece by piece.
pub fn digest_of(at: &Path) -> Result<Digest, DiskError> {
    let error = || failed("read", at);
    let mut file = File::open(at).map_err(error())?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).map_err(error())?;
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// The temporary name that [`write_whole`] uses beside `at`.
///
/// One name per target: a leftover of a killed process is overwritten by the next try.
pub fn temporary_beside(at: &Path) -> PathBuf {
    let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
    at.with_file_name(format!(".{name}.pointsman.tmp"))
}

/// Writes contents under the temporary name, with their mode, synced; gives that name.
///
/// Owner and `SELinux` label are those of the file that is there.
pub fn stage(at: &Path, mode: u32, contents: &[u8]) -> Result<PathBuf, DiskError> {
    stage_as(at, mode, attributes::of_file(at)?.as_ref(), contents)
}

/// [`stage`], with this owner and label: set before anybody sees the file by its name.
fn stage_as(
    at: &Path,
    mode: u32,
    attributes: Option<&Attributes>,
    contents: &[u8],
) -> Result<PathBuf, DiskError> {
    let staged = temporary_beside(at);
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the leftover", &staged)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let written = (|| {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
        file.write_all(contents)?;
        // before the mode, whose set-user-id bits a change of the owner takes away
        if let Some(wanted) = attributes {
            attributes::set(&file, wanted)?;
        }
        // not subject to the umask, and before the rename: nobody sees another mode
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    })();
    if let Err(error) = written {
        // the first error is the one to tell; the leftover is swept by the next try
        drop(fs::remove_file(&staged));
        return Err(failed("write", &staged)(error));
    }
    Ok(staged)
}

/// Renames a staged file to its name and syncs the directory.
pub fn publish(staged: &Path, at: &Path) -> Result<(), DiskError> {
    let renamed = fs::rename(staged, at);
    if let Err(error) = renamed {
        drop(fs::remove_file(staged));
        return Err(failed("rename into place", at)(explained(error, at)));
    }
    sync_directory_of(at)
}

/// Names the flag that makes root get a plain `EPERM`: `ioctl_iflags(2)`.
pub(crate) fn explained(error: io::Error, at: &Path) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let fixed = [Some(at), at.parent()].into_iter().flatten().find(|path| {
        let flags = File::open(path).ok().and_then(|file| ioctl_getflags(&file).ok());
        flags.is_some_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND))
    });
    let Some(fixed) = fixed else { return error };
    let words = format!("{error}: {} is immutable, see chattr -i", fixed.display());
    io::Error::new(error.kind(), words)
}

/// [`HostRoot::write`] of a path that this process sees.
pub fn write_whole(at: &Path, mode: u32, contents: &[u8]) -> Result<(), DiskError> {
    let staged = stage(at, mode, contents)?;
    publish(&staged, at)
}

/// [`write_whole`], with an owner and a label too.
pub(crate) fn write_whole_as(
    at: &Path,
    mode: u32,
    attributes: &Attributes,
    contents: &[u8],
) -> Result<(), DiskError> {
    publish(&stage_as(at, mode, Some(attributes), contents)?, at)
}

/// [`write_whole`] of what was somewhere else: where nothing is there, owner and `SELinux` label
/// are those of `other`, if that is there.
pub(crate) fn write_like(
    at: &Path,
    mode: u32,
    contents: &[u8],
    other: &Path,
) -> Result<(), DiskError> {
    let like = match attributes::of_file(at)? {
        None => attributes::of_file(other)?,
        there => there,
    };
    publish(&stage_as(at, mode, like.as_ref(), contents)?, at)
}

/// Makes a change of directory entries last through a power cut.
pub fn sync_directory_of(at: &Path) -> Result<(), DiskError> {
    sync(at.parent().unwrap_or(Path::new("/")))
}

/// Makes a directory's own entries last through a power cut.
pub(crate) fn sync(directory: &Path) -> Result<(), DiskError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync the directory", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_replaces_what_was_there_and_may_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        root.write("/wanted", 0o600, b"was a file").unwrap();
        // what a killed process left
        symlink("/elsewhere", dir.path().join(".wanted.pointsman.tmp")).unwrap();
        root.link("/wanted", "/no/such.service").unwrap();
        let target = "/no/such.service".to_owned();
        assert_eq!(root.state("/wanted").unwrap(), Some(FileState::Symlink { target }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_absolute_link_stays_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        symlink("/usr/lib", dir.path().join("lib")).unwrap();
        root.write("/lib/x", 0o640, b"hello").unwrap();
        assert_eq!(root.read("/usr/lib/x", 10).unwrap(), b"hello");
        let Some(FileState::Regular { mode, size, .. }) = root.state("/lib/x").unwrap() else {
            panic!("no regular file");
        };
        assert_eq!((mode, size), (0o640, 5));
        assert_eq!(fs::read_dir(dir.path().join("usr/lib")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_there_has_no_state_and_what_is_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        assert_eq!(root.state("/no/such/file").unwrap(), None);
        root.write("/big", 0o600, &[0; 11]).unwrap();
        let error = root.read("/big", 10).unwrap_err();
        assert_eq!(error.to_string(), "read /big");
    }

    #[test]
    fn the_planner_knows_the_temporary_name() {
        let staged = pointsman_core::plan::file::staged_beside("/opt/cni/bin/nsx");
        assert_eq!(temporary_beside(Path::new("/opt/cni/bin/nsx")), Path::new(&staged));
    }

    #[test]
    fn below_a_file_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        root.write("/opt", 0o600, b"").unwrap();
        assert_eq!(root.state("/opt/cni/bin/nsx").unwrap(), None);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("d");
        fs::create_dir(&at).unwrap();
        let error = write_whole(&at, 0o644, b"x").unwrap_err();
        assert_eq!(error.reason(), "FileOperationFailed");
        assert!(at.is_dir());
    }
}
