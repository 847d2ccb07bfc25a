//! Who installs packages or writes module indexes at this moment.

use crate::disk::HostRoot;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use pointsman_core::model::Busy;
use std::fs::{self, File};
use std::path::Path;

/// Package managers lock these by `fcntl`, for as long as they change files.
const LOCKS: [&str; 5] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/usr/share/rpm/.rpm.lock",
];
/// Programs that write module files or indexes, by the name that the kernel keeps (15 letters).
const PROGRAMS: [&str; 7] = [
    "depmod",
    "dkms",
    "dracut",
    "weak-modules",
    "update-initramf",
    "mkinitramfs",
    "kernel-install",
];
/// What the container `nsx-ncp-bootstrap` runs.
const BOOTSTRAP: &[u8] = b"init_k8s_node";
/// More than a command line has.
const COMMAND_LINE: u64 = 4 << 20;
/// A process' name is short.
const NAME: u64 = 64;

pub(super) fn find(root: &HostRoot) -> Option<Busy> {
    LOCKS.iter().find_map(|lock| holder(root, lock)).or_else(|| program(root))
}

/// Who holds a lock; asking takes none.
fn holder(root: &HostRoot, lock: &str) -> Option<Busy> {
    let at = root.locate_directory(Path::new(lock)).ok()?;
    let file = File::open(at).ok()?;
    let mut wanted = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).ok()?,
        l_whence: i16::try_from(libc::SEEK_SET).ok()?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut wanted)).ok()?;
    if i32::from(wanted.l_type) == libc::F_UNLCK {
        return None;
    }
    // -1: a lock of an open file, not of a process; 0: a process of another PID namespace
    let pid = Some(wanted.l_pid).filter(|pid| *pid > 0);
    let name = pid.and_then(|pid| name_of(root, &pid.to_string()));
    let name = name.unwrap_or_else(|| "a package manager".into());
    Some(Busy { pid, name, lock: Some(lock.to_owned()) })
}

fn name_of(root: &HostRoot, pid: &str) -> Option<String> {
    let bytes = root.read(&format!("/proc/{pid}/comm"), NAME).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn program(root: &HostRoot) -> Option<Busy> {
    let at = root.locate_directory(Path::new("/proc")).ok()?;
    let entries = fs::read_dir(at).ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let Some(name) = name_of(root, &pid.to_string()) else { continue };
        if PROGRAMS.contains(&name.as_str()) {
            return Some(Busy { pid: Some(pid), name, lock: None });
        }
        if is_bootstrap(root, pid) {
            return Some(Busy { pid: Some(pid), name: "nsx-ncp-bootstrap".into(), lock: None });
        }
    }
    None
}

/// NCP's bootstrap changes the very files; its container runs this, whatever interprets it.
fn is_bootstrap(root: &HostRoot, pid: i32) -> bool {
    let Ok(line) = root.read(&format!("/proc/{pid}/cmdline"), COMMAND_LINE) else { return false };
    let names = |word: &[u8]| word.rsplit(|byte| *byte == b'/').next() == Some(BOOTSTRAP);
    line.split(|byte| *byte == 0).take(2).any(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_names_its_holder_and_asking_takes_none() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::new(directory.path());
        let at = directory.path().join("var/lib/dpkg/lock");
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let file = File::create(&at).unwrap();
        assert_eq!(find(&root), None);
        let mut lock = libc::flock {
            l_type: i16::try_from(libc::F_WRLCK).unwrap(),
            l_whence: 0,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // of this open file, so that this process' own question meets it
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        let busy = find(&root).unwrap();
        assert_eq!(busy.lock.as_deref(), Some("/var/lib/dpkg/lock"));
        assert_eq!(busy.pid, None);
        lock.l_type = i16::try_from(libc::F_UNLCK).unwrap();
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert_eq!(find(&root), None);
    }

    #[test]
    fn a_program_at_work_is_found_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::new(directory.path());
        for (pid, name) in [("7", "bash\n"), ("12", "depmod\n"), ("self", "dkms\n")] {
            fs::create_dir_all(directory.path().join("proc").join(pid)).unwrap();
            root.write(&format!("/proc/{pid}/comm"), 0o444, name.as_bytes()).unwrap();
        }
        let busy = Busy { pid: Some(12), name: "depmod".into(), lock: None };
        assert_eq!(find(&root), Some(busy));
        fs::remove_dir_all(directory.path().join("proc/12")).unwrap();
        assert_eq!(find(&root), None);
        let line = b"/usr/bin/python3\0/usr/local/bin/init_k8s_node\0";
        root.write("/proc/7/cmdline", 0o444, line).unwrap();
        assert_eq!(find(&root).unwrap().name, "nsx-ncp-bootstrap");
    }
}
