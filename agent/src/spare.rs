//! Room kept free for what has to be written on a full disk: the record of a way back, and what
//! its dead-man goes by.
//!
//! A spare is a file with blocks of its own in the state directory. It is written in place and
//! renamed, so that nobody else can take its room in between, as somebody could the room of a
//! file that was removed first.

use crate::disk::{self, DiskError};
use nix::fcntl::posix_fallocate;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What the names of all begin with.
const PREFIX: &str = "spare.";
/// For a record.
const RECORD: &str = "spare.record";
/// For small files: two for each arming of a dead-man.
const SMALL: [&str; 4] = ["spare.1", "spare.2", "spare.3", "spare.4"];
/// A file system's block.
const SMALL_SIZE: u64 = 4096;
/// A retreat's record holds the one before it, and one more look at the host.
const TIMES: u64 = 3;
const MORE: u64 = 64 << 10;

/// Keeps room in a directory for a record that follows one of `length` bytes.
pub(crate) fn keep(directory: &Path, length: usize) -> io::Result<()> {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    make(&directory.join(RECORD), length.saturating_mul(TIMES).saturating_add(MORE))?;
    SMALL.iter().try_for_each(|name| make(&directory.join(name), SMALL_SIZE))
}

/// [`disk::write_whole`]; on a full disk into a spare of the same directory.
pub(crate) fn write_whole(at: &Path, mode: u32, contents: &[u8]) -> Result<(), DiskError> {
    let full = match disk::write_whole(at, mode, contents) {
        Err(error) if error.is_full() => error,
        other => return other,
    };
    let Some(spare) = smallest(at, contents.len()) else { return Err(full) };
    fill(&spare, mode, contents)
        .and_then(|()| fs::rename(&spare, at))
        .map_err(disk::failed("write into a spare", &spare))?;
    disk::sync_directory_of(at)
}

/// The smallest spare beside a file that has room for so many bytes.
fn smallest(at: &Path, length: usize) -> Option<PathBuf> {
    let wanted = u64::try_from(length).ok()?;
    let entries = fs::read_dir(at.parent()?).ok()?.flatten();
    let spares = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let sized = spares.filter_map(|entry| Some((entry.metadata().ok()?.len(), entry.path())));
    sized.filter(|(size, _)| *size >= wanted).min().map(|(_, path)| path)
}

fn fill(spare: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(spare)?;
    file.write_all_at(contents, 0)?;
    file.set_len(u64::try_from(contents.len()).unwrap_or(u64::MAX))?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// One that is large enough is left as it is. Half of one is none.
fn make(path: &Path, size: u64) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() >= size) {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let made = allocate(&file, size).and_then(|()| file.sync_all());
    if made.is_err() {
        drop(fs::remove_file(path));
    }
    made
}

/// With blocks, not with a hole: where the file system cannot promise them, by writing them.
fn allocate(mut file: &File, size: u64) -> io::Result<()> {
    let length = i64::try_from(size).map_err(io::Error::other)?;
    match posix_fallocate(file, 0, length).map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            io::copy(&mut io::Read::take(io::repeat(0), size), &mut file)?;
            file.flush()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_spare_has_blocks_and_grows_with_the_record() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), 1000).unwrap();
        let record = dir.path().join(RECORD);
        let size = || fs::metadata(&record).unwrap().len();
        assert_eq!(size(), 3000 + MORE);
        assert!(fs::metadata(&record).unwrap().blocks() * 512 >= size());
        keep(dir.path(), 10).unwrap();
        assert_eq!(size(), 3000 + MORE, "what is large enough stays");
        keep(dir.path(), 100_000).unwrap();
        assert_eq!(size(), 300_000 + MORE);
        assert_eq!(names(dir.path()), [&SMALL[..], &[RECORD]].concat());
    }

    #[test]
    fn the_smallest_spare_that_suffices_becomes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), 1000).unwrap();
        let at = dir.path().join("armed.t");
        let small = smallest(&at, 300).unwrap();
        assert!(SMALL.iter().any(|name| small.ends_with(name)), "{small:?}");
        assert!(smallest(&at, 5000).unwrap().ends_with(RECORD));
        assert_eq!(smallest(&at, 1 << 20), None);
        fill(&small, 0o640, b"hello").unwrap();
        let meta = fs::metadata(&small).unwrap();
        assert_eq!((fs::read(&small).unwrap(), meta.mode() & 0o777), (b"hello".to_vec(), 0o640));
    }
}
