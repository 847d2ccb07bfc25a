//! Kernel images, and which of them boots next: one file per boot loader's syntax.
//!
//! Nothing here fails: what cannot be read is told in words. A kernel is named only where
//! a file names it; where none does, the newest image is told as what it is, a guess
//! that a person may make too.

mod debian;
mod entries;
mod grub;
mod release;
mod systemd_boot;

use crate::disk::HostRoot;
use pointsman_core::model::{BootLoader, NextBoot};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Configurations of boot loaders have some kibibytes.
const LIMIT: u64 = 4 << 20;
/// Directories whose `vmlinuz-RELEASE` are images.
const IMAGES: [&str; 2] = ["/boot", "/boot/efi"];
/// What an image's name may begin with, by architecture.
const PREFIXES: [&str; 5] = ["vmlinuz-", "vmlinux-", "Image-", "bzImage-", "kernel-"];

/// What changes when another kernel is to boot: for whoever watches.
pub(crate) const WATCHED: [&str; 9] = [
    "/boot",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/grub/grubenv",
    "/boot/grub2/grubenv",
    "/boot/loader/loader.conf",
    "/boot/loader/entries",
    "/efi/loader/entries",
    "/vmlinuz",
];

/// Reads what the host can boot. `modules` is the parent of the kernels' trees.
pub fn observe(root: &HostRoot, modules: &str) -> BootLoader {
    let images = images(root, modules);
    let next = next(root, &images);
    BootLoader { images, next }
}

/// Asks in the order in which one overrules the other.
fn next(root: &HostRoot, images: &BTreeMap<String, String>) -> NextBoot {
    let ask: [fn(&HostRoot) -> Option<NextBoot>; 4] =
        [systemd_boot::running, grub::next, systemd_boot::configured, debian::next];
    if let Some(next) = ask.iter().find_map(|ask| ask(root)) {
        return next;
    }
    let mut releases: Vec<&String> = images.keys().collect();
    releases.sort_by(|one, two| release::compare(one, two));
    match releases.as_slice() {
        [] => NextBoot::unknown("no boot loader's configuration and no kernel image was found"),
        [only] => NextBoot::is(*only, "the only image; no boot loader's configuration was found"),
        [.., newest] => NextBoot::is(
            *newest,
            "a guess: the newest image; no boot loader's configuration was found",
        ),
    }
}

/// Images by release: in `/boot`, and in the modules' tree, where some distributions keep them.
fn images(root: &HostRoot, modules: &str) -> BTreeMap<String, String> {
    let mut images = BTreeMap::new();
    for directory in IMAGES {
        for name in names(root, directory) {
            if let Some(release) = release_of_image(&name) {
                images.entry(release.to_owned()).or_insert_with(|| format!("{directory}/{name}"));
            }
        }
    }
    for release in names(root, modules) {
        let path = format!("{modules}/{release}/vmlinuz");
        if is_there(root, &path) {
            images.entry(release).or_insert(path);
        }
    }
    images
}

/// The release in an image's name; none for `vmlinuz-0-rescue-…`, which is of no one kernel.
fn release_of_image(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let release = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let digit = release.starts_with(|c: char| c.is_ascii_digit());
    (digit && !release.starts_with("0-rescue")).then_some(release)
}

fn is_there(root: &HostRoot, path: &str) -> bool {
    root.locate_directory(Path::new(path)).is_ok_and(|at| at.is_file())
}

/// Names in a directory, in order; none where it is not there.
fn names(root: &HostRoot, directory: &str) -> Vec<String> {
    let at: Option<PathBuf> = root.locate_directory(Path::new(directory)).ok();
    let entries = at.and_then(|at| fs::read_dir(at).ok()).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn text(root: &HostRoot, path: &str) -> Option<String> {
    let bytes = root.read(path, LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes a host of its own")]
mod tests;
