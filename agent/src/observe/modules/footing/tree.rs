//! The module trees as places to write to.

use crate::disk::HostRoot;
use nix::sys::statvfs::{FsFlags, statvfs};
use pointsman_core::model::{KernelModules, Room};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Distributions whose module trees belong to an image (`ID` of os-release(5)).
const IMAGES: [&str; 2] = ["bottlerocket", "talos"];
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
const LIMIT: u64 = 1 << 20;

/// Why the trees cannot be written to.
pub(super) fn read_only(root: &HostRoot, parent: &str) -> Option<String> {
    let at = root.locate_directory(Path::new(parent)).ok()?;
    if root.locate("/run/ostree-booted").is_ok_and(|marker| marker.exists()) {
        return Some("this host was booted from an ostree image".into());
    }
    let text = OS_RELEASE.iter().find_map(|path| root.read(path, LIMIT).ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let id = text.lines().find_map(|line| line.strip_prefix("ID=")).unwrap_or_default();
    let id = id.trim_matches('"');
    if IMAGES.contains(&id) {
        return Some(format!("this host runs {id}, whose modules belong to its image"));
    }
    let flags = statvfs(&at).ok()?.flags();
    flags
        .contains(FsFlags::ST_RDONLY)
        .then(|| format!("the file system of {parent} is mounted read-only"))
}

/// Where the parent really is, unless `/lib` is a link to `/usr/lib`, as it should be.
pub(super) fn elsewhere(root: &HostRoot, parent: &str) -> Option<String> {
    let at = root.locate_directory(Path::new(parent)).ok()?;
    let base = root.locate_directory(Path::new("/")).ok()?;
    let found = Path::new("/").join(at.strip_prefix(base).ok()?);
    let found = found.to_str()?;
    (found != parent && found != format!("/usr{parent}")).then(|| found.to_owned())
}

/// What an installed kernel has and this one has not.
pub(super) fn missing(root: &HostRoot, parent: &str, kernel: &KernelModules) -> Vec<String> {
    let tree = format!("{parent}/{}", kernel.release);
    let is = |path: &str| root.locate_directory(Path::new(path)).is_ok();
    let mut missing: Vec<String> = ["kernel", "modules.builtin"]
        .into_iter()
        .filter(|part| !is(&format!("{tree}/{part}")))
        .map(str::to_owned)
        .collect();
    if !kernel.running && !bootable(root, &tree, &kernel.release) {
        missing.push("vmlinuz".into());
    }
    missing
}

/// Whether there is an image to boot a kernel with. A host that keeps none of its images
/// where they are looked for tells nothing.
fn bootable(root: &HostRoot, tree: &str, release: &str) -> bool {
    let Ok(boot) = root.locate_directory(Path::new("/boot")) else { return true };
    let listed = fs::read_dir(&boot).into_iter().flatten().flatten();
    let names: Vec<String> =
        listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let images: Vec<&String> =
        names.iter().filter(|name| name.starts_with("vmlinu") && name.contains('-')).collect();
    // `vmlinuz-6.1.0-1-amd64`; `/boot/TOKEN/6.1.0-1-amd64/linux` (kernel-install(8))
    let of_release = |name: &&&String| name.split_once('-').is_some_and(|(_, of)| of == release);
    images.is_empty()
        || images.iter().any(|name| of_release(&name))
        || root.locate(&format!("{tree}/vmlinuz")).is_ok_and(|image| image.exists())
        || names.iter().any(|name| boot.join(name).join(release).is_dir())
}

/// Directories on the way to modules that are links.
pub(super) fn linked(root: &HostRoot, parent: &str, release: &str) -> BTreeMap<String, String> {
    let tree = format!("{parent}/{release}");
    let parts = ["kernel", "kernel/net", "kernel/net/openvswitch"];
    let link = |part: &str| {
        let path = format!("{tree}/{part}");
        let target = fs::read_link(root.locate(&path).ok()?).ok()?;
        Some((path, target.to_string_lossy().into_owned()))
    };
    parts.into_iter().filter_map(link).collect()
}

/// Room on the tree's file system.
pub(super) fn room(root: &HostRoot, parent: &str, release: &str, set: u64) -> Option<Room> {
    let at = root.locate_directory(&Path::new(parent).join(release)).ok()?;
    let found = statvfs(&at).ok()?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    // btrfs counts none
    let inodes = (found.files() > 0).then(|| found.files_available());
    let index = fs::read_dir(&at)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("modules."))
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum();
    Some(Room { free, inodes, set, index })
}

/// When the index was written, nanoseconds since 1970.
pub(super) fn indexed(root: &HostRoot, parent: &str, release: &str) -> Option<u64> {
    let index = Path::new(parent).join(release).join("modules.dep.bin");
    let written = fs::metadata(root.locate_directory(&index).ok()?).ok()?.modified().ok()?;
    let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}
