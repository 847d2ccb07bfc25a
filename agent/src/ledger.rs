//! The ledger on disk: which CNI files are Pointsman's own, in the state directory.

use crate::disk::{self, DiskError, HostRoot};
use pointsman_core::model::Ledger;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The base is a configuration of at most a mebibyte; the rest is a handful of lines.
const LIMIT: u64 = 8 << 20;

/// Beside the store.
fn path(store: &Path) -> PathBuf {
    store.with_file_name("cni.json")
}

/// None where nothing is Pointsman's own. One that cannot be read is an error: without it nobody
/// knows what was there before.
pub(crate) fn read(store: &Path) -> Result<Option<Ledger>, DiskError> {
    let path = path(store);
    let directory = HostRoot::new(path.parent().unwrap_or(Path::new("/")));
    let bytes = match directory.read("/cni.json", LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let ledger = serde_json::from_slice(&bytes).map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error);
        disk::failed("read the ledger", &path)(source)
    })?;
    Ok(Some(ledger))
}

pub(crate) fn write(store: &Path, ledger: Option<&Ledger>) -> Result<(), DiskError> {
    let path = path(store);
    let Some(ledger) = ledger else {
        return match fs::remove_file(&path) {
            Ok(()) => disk::sync_directory_of(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(disk::failed("remove", &path)(error)),
        };
    };
    let text = serde_json::to_vec(ledger)
        .map_err(|error| disk::failed("write", &path)(io::Error::other(error)))?;
    disk::write_whole(&path, 0o600, &text)
}
