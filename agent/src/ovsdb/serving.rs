//! Which file a living ovsdb-server has its database in.

use super::process::{daemon_of_run_directory, living};
use crate::disk::HostRoot;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A standalone and a clustered database begin so (ovsdb(5)), and name the schema soon after.
const MAGIC: [&[u8]; 2] = [b"OVSDB JSON ", b"OVSDB CLUSTER "];
const SCHEMA: &[u8] = br#""Open_vSwitch""#;
/// The schema is the first record, and its name is among the first of its keys.
const HEAD: u64 = 64 << 10;

/// The file, as the host sees it; links on the way to it are resolved.
///
/// Asked is what the server has open. Its arguments say less: they may be relative to a directory
/// that it has left, name no file where it has a default, and lack what `ovsdb-server/add-db` added.
/// None where no server lives, where several have one, and where the file is not the host's own.
pub fn served_file(run: &Path, root: &HostRoot) -> Option<String> {
    let pids = match daemon_of_run_directory(run, "ovsdb-server") {
        Some(daemon) => daemon.pids,
        None => living("ovsdb-server"),
    };
    let mut files: Vec<String> =
        pids.into_iter().flat_map(|pid| open_databases(pid, root)).collect();
    files.sort_unstable();
    files.dedup();
    match files.as_slice() {
        [file] => Some(file.clone()),
        _ => None,
    }
}

fn open_databases(pid: u32, root: &HostRoot) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let open = entries.flatten().map(|entry| entry.path());
    open.filter(|fd| is_database(fd)).filter_map(|fd| on_host(&fd, root)).collect()
}

fn is_database(fd: &Path) -> bool {
    // a socket or a pipe is not to be opened
    if !fs::metadata(fd).is_ok_and(|meta| meta.is_file()) {
        return false;
    }
    let mut head = Vec::new();
    let read = File::open(fd).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.is_ok()
        && MAGIC.iter().any(|magic| head.starts_with(magic))
        && head.windows(SCHEMA.len()).any(|window| window == SCHEMA)
}

/// The path of an open file, if the host has the very file there: in a pod's mounts it may not.
fn on_host(fd: &Path, root: &HostRoot) -> Option<String> {
    let named = fs::read_link(fd).ok()?;
    // as this process sees it, where it sees the mount; else as the server does
    let below = named.strip_prefix(root.path()).unwrap_or(&named);
    let path: PathBuf = Path::new("/").join(below);
    let same = |at: &Path| {
        let (one, other) = (fs::metadata(fd).ok()?, fs::metadata(at).ok()?);
        Some((one.dev(), one.ino()) == (other.dev(), other.ino()))
    };
    let at = root.locate_directory(&path).ok()?;
    same(&at)?.then(|| path.to_str().map(str::to_owned))?
}
