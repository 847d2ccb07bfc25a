//! Which files a target wants: paths and contents, nothing of how to get there.

use super::Target;
use super::disk::is_leftover;
use super::exchange::{is_ours, staging};
use super::origin::Files;
use super::origin::{self, Held, INFO, Origin, set_files};
use super::overrides::{OVERRIDE_FILE, Pins, SET_DIRECTORY, entries};
use crate::config::Paths;
use crate::model::{Attributes, Digest, FileState, MODULE_STEMS, Observed, module_stem};
use crate::payload::ModuleSet;
use crate::plan::file::Source;
use std::collections::BTreeMap;

/// What is wanted at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Directory,
    /// Without attributes it is root's, and has the label that its directory gives.
    File {
        sha256: Digest,
        mode: u32,
        source: Source,
        attributes: Option<Attributes>,
    },
    Link {
        target: String,
    },
    Absent,
}

/// What is wanted at each path that this noun decides about; every other path stays as it is.
#[derive(Debug)]
pub(super) struct Goal {
    pub(super) wanted: BTreeMap<String, Wanted>,
    pub(super) places: Places,
    /// Of the set's directory, should it be made anew.
    pub(super) directory: Attributes,
}

/// The places of one kernel, absolute on the host.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) weak_updates: String,
    /// Where NCP puts its set.
    pub(super) set: String,
    /// Where a set is put together, and what it replaced ends.
    pub(super) staged: String,
    /// NCP's own directory.
    pub(super) nsx: String,
    /// Where NCP keeps the user's files of [`Self::set`].
    pub(super) backup: String,
    conf_directory: String,
    conf: String,
}

impl Places {
    pub(super) fn of(kernel: &str, paths: &Paths) -> Self {
        let tree = format!("{}/{kernel}", paths.modules);
        Self {
            weak_updates: format!("{tree}/weak-updates"),
            set: format!("{tree}/{SET_DIRECTORY}"),
            staged: staging(&paths.modules, kernel),
            nsx: format!("{tree}/nsx"),
            backup: format!("{tree}/nsx/usr-ovs-kmod-backup"),
            conf_directory: paths.depmod.clone(),
            conf: format!("{}/{OVERRIDE_FILE}", paths.depmod),
        }
    }

    /// Where the files of the backup came from, by NCP's own hand.
    pub(super) fn info(&self) -> String {
        format!("{}/{INFO}", self.backup)
    }

    fn directories(&self) -> [&String; 4] {
        [&self.weak_updates, &self.set, &self.nsx, &self.backup]
    }
}

impl Goal {
    /// The goal for a kernel. `set` is there for [`Target::Payload`] only, `before` for
    /// [`Target::Before`].
    pub(super) fn new(
        target: Target,
        kernel: &str,
        observed: &Observed,
        before: Option<&Observed>,
        set: Option<&ModuleSet>,
        paths: &Paths,
    ) -> Self {
        let places = Places::of(kernel, paths);
        let origin = before.unwrap_or(observed);
        let directory = origin.attributes_at(&places.set);
        let mut goal = Self { wanted: BTreeMap::new(), places: places.clone(), directory };
        goal.clear(observed, &places);
        match (target, set) {
            (Target::Payload, Some(set)) => goal.payload(kernel, origin, set, &places, paths),
            (Target::InTree | Target::Payload, _) => goal.in_tree(kernel, origin, &places, paths),
            (Target::Before, _) => goal.before(kernel, origin, &places, paths),
        }
        goal
    }

    /// Everything of ours away: where each goal starts from.
    fn clear(&mut self, observed: &Observed, places: &Places) {
        for directory in [&places.set, &places.backup] {
            for (name, _) in entries(observed, directory) {
                let of_set = module_stem(name).is_some_and(|stem| MODULE_STEMS.contains(&stem));
                if of_set || is_leftover(name) {
                    self.wanted.insert(format!("{directory}/{name}"), Wanted::Absent);
                }
            }
        }
        if is_ours(observed, &places.staged) {
            for (name, _) in entries(observed, &places.staged) {
                self.wanted.insert(format!("{}/{name}", places.staged), Wanted::Absent);
            }
        }
        if !origin::named(observed, &places.info()).is_empty() {
            self.wanted.insert(places.info(), Wanted::Absent);
        }
        for (name, _) in entries(observed, &places.conf_directory) {
            if is_leftover(name) && name.contains(OVERRIDE_FILE) {
                self.wanted.insert(format!("{}/{name}", places.conf_directory), Wanted::Absent);
            }
        }
        self.wanted.insert(places.conf.clone(), Wanted::Absent);
        self.wanted.insert(places.nsx.clone(), Wanted::Absent);
        self.wanted.insert(places.backup.clone(), Wanted::Absent);
    }

    fn put(&mut self, directory: &str, files: &Files) {
        for (name, held) in files {
            self.wanted.insert(format!("{directory}/{name}"), held.wanted());
        }
    }

    fn directory(&mut self, path: &str) {
        self.wanted.insert(path.to_owned(), Wanted::Directory);
    }

    fn pins(&mut self, pins: &Pins, places: &Places) {
        if let Some(text) = pins.render() {
            self.directory(&places.conf_directory);
            let sha256 = Digest::of(text.as_bytes());
            let source = Source::Inline(text);
            let file = Wanted::File { sha256, mode: 0o644, source, attributes: None };
            self.wanted.insert(places.conf.clone(), file);
        } else if pins.made.contains(&places.conf_directory) {
            self.wanted.insert(places.conf_directory.clone(), Wanted::Absent);
        }
    }

    fn payload(
        &mut self,
        kernel: &str,
        origin: &Observed,
        set: &ModuleSet,
        places: &Places,
        paths: &Paths,
    ) {
        let was = Origin::read(origin, kernel, places, paths);
        for directory in places.directories() {
            self.directory(directory);
        }
        self.put(&places.backup, &was.users);
        if let Some(info) = was.info(places) {
            self.wanted.insert(places.info(), info);
        }
        for (stem, file) in &set.files {
            let source = Source::Payload(file.path.clone());
            let label = label(origin, places, stem);
            let attributes = Some(Attributes { label, ..Attributes::default() });
            let wanted = Wanted::File { sha256: file.sha256, mode: 0o644, source, attributes };
            self.wanted.insert(format!("{}/{stem}.ko", places.set), wanted);
        }
        let mut pins = was.pins;
        note_made(&mut pins, origin, places);
        pins.kernels.insert(kernel.to_owned(), was.made);
        self.pins(&pins, places);
    }

    fn in_tree(&mut self, kernel: &str, origin: &Observed, places: &Places, paths: &Paths) {
        let was = Origin::read(origin, kernel, places, paths);
        for made in &was.made {
            self.wanted.insert(made.clone(), Wanted::Absent);
        }
        for path in was.copies.keys() {
            self.wanted.insert(path.clone(), Wanted::Absent);
        }
        if !was.users.is_empty() {
            for path in was.strays(origin, places) {
                self.wanted.insert(path, Wanted::Absent);
            }
            for (name, held) in &was.users {
                let path = was.home(name, places);
                if path.starts_with(&format!("{}/", places.set)) {
                    self.directory(&places.weak_updates);
                    self.directory(&places.set);
                }
                self.wanted.insert(path, held.wanted());
            }
        }
        let mut pins = was.pins;
        note_made(&mut pins, origin, places);
        pins.kernels.remove(kernel);
        self.pins(&pins, places);
    }

    fn before(&mut self, kernel: &str, before: &Observed, places: &Places, paths: &Paths) {
        let directories = places.directories();
        for directory in directories.into_iter().chain([&places.conf_directory]) {
            let wanted = match before.files.get(directory) {
                Some(FileState::Directory) => Wanted::Directory,
                Some(_) => continue,
                None => Wanted::Absent,
            };
            self.wanted.insert(directory.clone(), wanted);
        }
        self.put(&places.set, &set_files(before, &places.set));
        self.put(&places.backup, &set_files(before, &places.backup));
        let was = Origin::read(before, kernel, places, paths);
        for (path, held) in &was.copies {
            self.wanted.insert(path.clone(), held.wanted());
        }
        for path in was.homes(places).chain(was.recorded(places)) {
            match Held::at(before, &path) {
                Some(held) => self.wanted.insert(path, held.wanted()),
                None => self.wanted.insert(path, Wanted::Absent),
            };
        }
        if let Some(FileState::Regular { mode, sha256, .. }) = before.files.get(&places.conf) {
            let (mode, sha256, source) = (*mode, *sha256, Source::Store);
            let conf = Wanted::File { sha256, mode, source, attributes: None };
            self.wanted.insert(places.conf.clone(), conf);
        }
    }
}

/// Notes a configuration directory that is to be made, so that it is removed with the file.
fn note_made(pins: &mut Pins, origin: &Observed, places: &Places) {
    let there = origin.files.contains_key(&places.conf_directory);
    if !there && !pins.made.contains(&places.conf_directory) {
        pins.made.push(places.conf_directory.clone());
    }
}

/// The label of a file that is to be the set's: of the file that it replaces, else of its
/// neighbours, else of the kernel's own.
fn label(origin: &Observed, places: &Places, stem: &str) -> Option<String> {
    let tree = places.weak_updates.trim_end_matches("weak-updates");
    let directories = [places.set.clone(), format!("{tree}kernel/net/openvswitch")];
    let mut found = directories.iter().flat_map(|directory| {
        let modules =
            entries(origin, directory).filter_map(|(name, _)| Some((module_stem(name)?, name)));
        let (same, others): (Vec<_>, Vec<_>) = modules.partition(|(other, _)| *other == stem);
        let names = same.into_iter().chain(others).map(|(_, name)| name);
        names.map(|name| format!("{directory}/{name}")).collect::<Vec<_>>()
    });
    found.find_map(|path| origin.attributes_at(&path).label)
}
