//! The lock of a state directory, which says who has it.

use super::JournalError;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The lock of a state directory, signed.
pub(super) fn lock_of(directory: &Path, who: &str) -> Result<Flock<File>, JournalError> {
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file =
        options.open(&path).map_err(|source| JournalError::Open { path: path.clone(), source })?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| {
        if errno == nix::errno::Errno::EWOULDBLOCK {
            JournalError::Locked { holder: holder(file) }
        } else {
            JournalError::Open { path: path.clone(), source: errno.into() }
        }
    })?;
    sign(&lock, who).map_err(|source| JournalError::Open { path, source })?;
    Ok(lock)
}

/// Tells whoever finds the lock taken by whom.
pub(super) fn sign(mut lock: &File, who: &str) -> io::Result<()> {
    // over what is there, and only then shorter: a full disk gives no block back that was let go
    let text = format!("{who}pid {}\n", std::process::id());
    lock.rewind()?;
    lock.write_all(text.as_bytes())?;
    lock.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

fn holder(mut file: File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        // behind the line may be more, of a longer name
        Ok(_) if !text.is_empty() => text.lines().next().unwrap_or_default().to_owned(),
        Ok(_) | Err(_) => "of unknown pid".into(),
    }
}
