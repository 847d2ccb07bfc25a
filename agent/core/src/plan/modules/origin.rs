//! What of a kernel's tree is the user's, and where it came from.

use super::disk::is_leftover;
use super::goal::{Places, Wanted};
use super::overrides::{Pins, entries, our_pins};
use super::state::is_nsx;
use crate::config::Paths;
use crate::model::{Attributes, Digest, FileState, MODULE_STEMS, Observed, module_stem};
use crate::plan::file::Source;
use std::collections::{BTreeMap, BTreeSet};

/// NCP's record of where the files of its backup lay.
pub(super) const INFO: &str = "INFO";

/// Directories below the kernel's that modules are installed into by others; files go back
/// into no other but the set's.
pub const HOMES: [&str; 4] = ["updates", "updates/dkms", "extra", "extra/openvswitch"];

/// A directory entry that can be put elsewhere and back as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Contents, mode, owner and label.
    File(Digest, u32, Attributes),
    /// weak-modules makes links into another kernel's tree.
    Link(String),
}

impl Held {
    pub(super) fn at(observed: &Observed, path: &str) -> Option<Self> {
        match observed.files.get(path)? {
            FileState::Regular { mode, sha256, .. } => {
                Some(Self::File(*sha256, *mode, observed.attributes_at(path)))
            }
            FileState::Symlink { target } => Some(Self::Link(target.clone())),
            FileState::Directory | FileState::Other => None,
        }
    }

    pub(super) fn wanted(&self) -> Wanted {
        match self {
            Self::File(sha256, mode, attributes) => {
                let (sha256, mode, attributes) = (*sha256, *mode, Some(attributes.clone()));
                Wanted::File { sha256, mode, source: Source::Store, attributes }
            }
            Self::Link(target) => Wanted::Link { target: target.clone() },
        }
    }
}

/// By name of the file.
pub(super) type Files = BTreeMap<String, Held>;

/// The module files of the set's names in a directory, whatever their suffix.
pub(super) fn set_files(observed: &Observed, directory: &str) -> Files {
    let of_set = |name: &str| module_stem(name).is_some_and(|stem| MODULE_STEMS.contains(&stem));
    entries(observed, directory)
        .filter(|(name, _)| of_set(name))
        .filter_map(|(name, _)| {
            Some((name.to_owned(), Held::at(observed, &format!("{directory}/{name}"))?))
        })
        .collect()
}

/// The paths that a record names; none where it is none of NCP's.
pub(super) fn named<'a>(observed: &'a Observed, info: &str) -> &'a [String] {
    let sha256 = observed.files.get(info).and_then(FileState::sha256);
    let paths = sha256.and_then(|sha256| observed.modules.footing.origins.get(&sha256));
    paths.map(Vec::as_slice).unwrap_or_default()
}

/// Reads the record: every absolute path of a module of the set in it counts, whatever
/// stands around it, because its form is nowhere written down.
pub fn parse_info(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || "=,;:\"'()[]{}".contains(c));
    let of_set = |word: &&str| {
        let name = word.rsplit('/').next().and_then(module_stem);
        let plain = !word.split('/').any(|part| part == "..");
        plain && word.starts_with('/') && name.is_some_and(|name| MODULE_STEMS.contains(&name))
    };
    words.filter(of_set).map(str::to_owned).collect()
}

/// What of a kernel's tree is the user's and what was made for the set.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) users: Files,
    pub(super) pins: Pins,
    /// Directories below the kernel's that were made for the set.
    pub(super) made: Vec<String>,
    /// Where the files of a backup lay, by name, if not in the set's place.
    homes: BTreeMap<String, String>,
    /// The same without a record.
    replaced: BTreeMap<String, String>,
    /// NSX's files in the places of [`HOMES`], by path.
    pub(super) copies: Files,
    /// The record that is there.
    record: Option<Held>,
}

impl Origin {
    /// `origin` is the state before an unfinished transaction, or the present one.
    ///
    /// Where NCP's backup directory is there, it tells the user's files, and what lies in
    /// the set's place is NSX's; where our override is there, the same. Otherwise the
    /// files in the set's place are the user's, unless the payload brought them.
    pub(super) fn read(origin: &Observed, kernel: &str, places: &Places, paths: &Paths) -> Self {
        let pins = our_pins(origin, paths);
        let pinned = pins.kernels.get(kernel).cloned();
        let info = places.info();
        let recorded = named(origin, &info);
        let kept = set_files(origin, &places.backup);
        let kept_nothing = kept.is_empty();
        let users = if !kept_nothing || is_ncps(origin, places, recorded) {
            kept
        } else if pinned.is_some() {
            Files::new()
        } else {
            let mut files = set_files(origin, &places.set);
            files.retain(|name, _| !is_nsx(origin, &format!("{}/{name}", places.set)));
            files
        };
        let absent = |path: &&String| !origin.files.contains_key(*path);
        let made = pinned.unwrap_or_else(|| {
            [&places.weak_updates, &places.set].into_iter().filter(absent).cloned().collect()
        });
        let record = Held::at(origin, &info).filter(|_| !recorded.is_empty());
        let tree = format!("{}/{kernel}", paths.modules);
        let copies = copies(origin, &tree);
        let homes = homes(origin, recorded, &tree);
        let unrecorded = !kept_nothing && recorded.is_empty();
        let replaced = unrecorded.then(|| replaced(origin, &users, &copies, places));
        let replaced = replaced.unwrap_or_default();
        Self { users, pins, made, homes, replaced, copies, record }
    }

    /// Where a file of the user's belongs.
    pub(super) fn home(&self, name: &str, places: &Places) -> String {
        let home = self.homes.get(name).or_else(|| self.replaced.get(name));
        home.cloned().unwrap_or_else(|| format!("{}/{name}", places.set))
    }

    /// Where files belong that do not belong into the set's place, and their neighbours of
    /// the set: one of NCP's own sets lies in those places.
    pub(super) fn homes(&self, places: &Places) -> impl Iterator<Item = String> {
        let directories: BTreeSet<&str> =
            self.homes.values().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
        let names = |directory: &str| {
            let directory = directory.to_owned();
            MODULE_STEMS.map(move |stem| format!("{directory}/{stem}.ko"))
        };
        let paths: BTreeSet<String> = directories.into_iter().flat_map(names).collect();
        let set = format!("{}/", places.set);
        let all: BTreeSet<String> = paths.into_iter().chain(self.homes.values().cloned()).collect();
        all.into_iter().filter(move |path| !path.starts_with(&set))
    }

    /// The path of NCP's record, where there is one.
    pub(super) fn recorded(&self, places: &Places) -> Option<String> {
        self.record.as_ref().map(|_| places.info())
    }

    /// What NCP put where it took the user's files from.
    pub(super) fn strays(&self, origin: &Observed, places: &Places) -> Vec<String> {
        self.homes(places).filter(|path| origin.files.contains_key(path)).collect()
    }

    /// The record to leave with the backup: the one that is there, else one of our own.
    pub(super) fn info(&self, places: &Places) -> Option<Wanted> {
        if let Some(record) = &self.record {
            return Some(record.wanted());
        }
        if self.users.is_empty() {
            return None;
        }
        let lines: Vec<String> = self.users.keys().map(|name| self.home(name, places)).collect();
        let text = lines.join("\n") + "\n";
        let sha256 = Digest::of(text.as_bytes());
        let source = Source::Inline(text);
        Some(Wanted::File { sha256, mode: 0o644, source, attributes: None })
    }
}

/// Whether a backup directory without a module is NCP's, made where the user had none. One
/// that holds strangers alone is what a way back could not remove: then the files in the set's
/// place may be the user's again.
fn is_ncps(origin: &Observed, places: &Places, recorded: &[String]) -> bool {
    let stranger = |name: &str| (name != INFO || recorded.is_empty()) && !is_leftover(name);
    origin.files.contains_key(&places.backup)
        && !entries(origin, &places.backup).any(|(name, _)| stranger(name))
}

/// By name, the recorded places that a file can go back to.
fn homes(origin: &Observed, recorded: &[String], tree: &str) -> BTreeMap<String, String> {
    let home = |path: &String| {
        let inside = path.strip_prefix("/usr").unwrap_or(path).strip_prefix(tree)?;
        let (directory, name) = inside.strip_prefix('/')?.rsplit_once('/')?;
        let at = format!("{tree}/{directory}");
        let there = origin.files.get(&at) == Some(&FileState::Directory);
        (there && HOMES.contains(&directory)).then(|| (name.to_owned(), format!("{at}/{name}")))
    };
    recorded.iter().filter_map(home).collect()
}

/// By path, the files of NSX in the places that modules are installed into by others: Debian
/// and Ubuntu have them in `updates/dkms`, where they win without an override, and nobody but
/// their own build says whose they are.
fn copies(origin: &Observed, tree: &str) -> Files {
    let directories = HOMES.map(|home| format!("{tree}/{home}"));
    let found = directories.iter().flat_map(|directory| {
        let files = set_files(origin, directory).into_iter();
        files.map(move |(name, held)| (format!("{directory}/{name}"), held))
    });
    found.filter(|(path, _)| is_nsx(origin, path)).collect()
}

/// Where NCP left no record: its own file lies where it took the user's from, unless that is the
/// set's place.
fn replaced(
    origin: &Observed,
    users: &Files,
    copies: &Files,
    places: &Places,
) -> BTreeMap<String, String> {
    let home = |name: &String| {
        let same = |path: &&String| path.rsplit('/').next() == Some(name.as_str());
        let mut found = copies.keys().filter(same);
        let path = found.next().filter(|_| found.next().is_none())?;
        let in_place = origin.files.contains_key(&format!("{}/{name}", places.set));
        (!in_place).then(|| (name.clone(), path.clone()))
    };
    users.keys().filter_map(home).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_whatever_its_form() {
        let geneve = "/lib/modules/6.1/updates/dkms/vport-geneve.ko";
        for text in [
            geneve.to_owned(),
            format!("vport-geneve.ko: {geneve}\n"),
            format!("{{\"vport-geneve.ko\": \"{geneve}\"}}"),
            format!("# moved\nvport-geneve.ko={geneve}\r\n/etc/passwd\n"),
        ] {
            assert_eq!(parse_info(&text), [geneve], "{text}");
        }
        let others =
            "not ours, updates/vport-gre.ko /lib/modules/../../etc/vport-gre.ko /a/e1000.ko";
        assert_eq!(parse_info(others), Vec::<String>::new());
    }
}
