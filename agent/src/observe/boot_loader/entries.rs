//! Entries of the Boot Loader Specification, type 1: `loader/entries/ID.conf`.

use super::{names, release, release_of_image, text};
use crate::disk::HostRoot;
use std::cmp::Ordering;

/// Where a boot partition may be mounted.
pub(super) const PARTITIONS: [&str; 4] = ["/boot", "/efi", "/boot/efi", "/boot/esp"];

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The file's name without `.conf` and without the tries that are counted in it.
    pub(super) id: String,
    pub(super) title: String,
    sort_key: String,
    version: String,
    /// Path of the image.
    linux: String,
    /// Its tries are used up: a loader takes it last.
    bad: bool,
}

impl Entry {
    fn parse(file: &str, text: &str) -> Option<Self> {
        let name = file.strip_suffix(".conf")?;
        // `ID+LEFT-DONE` counts tries; a `+` that no number follows is of the release
        let (id, left) = match name.rsplit_once('+') {
            Some((id, tries)) if is_tries(tries) => (id, Some(tries)),
            Some(_) | None => (name, None),
        };
        let mut entry = Self { id: id.to_owned(), ..Self::default() };
        entry.bad = left.is_some_and(|left| left.split('-').next() == Some("0"));
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once(char::is_whitespace) else { continue };
            let value = value.trim().to_owned();
            match key {
                "title" => entry.title = value,
                "sort-key" => entry.sort_key = value,
                "version" => entry.version = value,
                "linux" => entry.linux = value,
                _ => {}
            }
        }
        Some(entry)
    }

    /// The release: of the image's name, else the version, where that is one.
    pub(super) fn release(&self) -> Option<String> {
        let version = Some(self.version.as_str()).filter(|version| !version.is_empty());
        // kernel-install names the image `/MACHINE/RELEASE/linux`
        let parent = self.linux.rsplit('/').nth(1).filter(|_| self.linux.ends_with("/linux"));
        release_of_image(&self.linux).or(parent).or(version).map(str::to_owned)
    }

    /// As systemd-boot sorts its menu: what is bad last; with sort keys by these, and newer
    /// first; without, newer file names first.
    fn in_menu(&self, other: &Self) -> Ordering {
        let newer = |one: &str, two: &str| release::compare(two, one);
        let keyed = |entry: &Self| entry.sort_key.is_empty();
        self.bad.cmp(&other.bad).then_with(|| keyed(self).cmp(&keyed(other))).then_with(|| {
            let by_key = self.sort_key.cmp(&other.sort_key);
            by_key
                .then_with(|| {
                    let both = !keyed(self) && !keyed(other);
                    if both { newer(&self.version, &other.version) } else { Ordering::Equal }
                })
                .then_with(|| newer(&self.id, &other.id))
        })
    }

    /// As GRUB sorts: newer file names first, whatever is in them.
    fn in_grub(&self, other: &Self) -> Ordering {
        release::compare(&other.id, &self.id)
    }
}

fn is_tries(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('-') {
        Some((left, done)) => number(left) && number(done),
        // a lone `+3` could end a release; loaders take it for tries, and so must this
        None => number(text),
    }
}

fn read(root: &HostRoot, partition: &str) -> Vec<Entry> {
    let directory = format!("{partition}/loader/entries");
    let entry = |name: String| Entry::parse(&name, &text(root, &format!("{directory}/{name}"))?);
    names(root, &directory).into_iter().filter_map(entry).collect()
}

/// In the order of systemd-boot's menu, of every partition that may be mounted.
pub(super) fn menu(root: &HostRoot) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        PARTITIONS.iter().flat_map(|partition| read(root, partition)).collect();
    entries.sort_by(Entry::in_menu);
    entries
}

/// In the order of GRUB's menu.
pub(super) fn grub_menu(root: &HostRoot) -> Vec<Entry> {
    let mut entries = read(root, "/boot");
    entries.sort_by(Entry::in_grub);
    entries
}
