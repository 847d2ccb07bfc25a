//! Whether anything changed that a kernel's modules follow from: the module trees, depmod's
//! configuration, the boot loader's, what is loaded.
//!
//! By looking again at every directory below the trees and at the few files that count, some
//! hundred calls of lstat(2) per kernel. Notifications would need a watch on each of the same
//! directories, and miss what happens in one between its making and its watching.

use super::Workshop;
use crate::disk::HostRoot;
use crate::observe::boot_loader::WATCHED;
use pointsman_core::config::Paths;
use pointsman_core::model::{MODULE_STEMS, loaded_name, module_stem};
use pointsman_core::plan::modules::OTHER_DIRECTORIES;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use walkdir::WalkDir;

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// A package manager works for minutes: so long is its work let settle, and no longer.
const LONGEST: Duration = Duration::from_secs(5);
/// Files of a tree that tell what the kernel will load, beside the set's own.
const INDEXES: [&str; 3] = ["modules.dep", "modules.dep.bin", "modules.builtin"];

/// What an entry was at the last look; none where there was none.
type Stamp = Option<(u64, u64, i64, i64)>;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Trees {
    seen: BTreeMap<PathBuf, Stamp>,
    /// The first change that nobody was told of yet.
    changed: Option<Instant>,
}

impl Trees {
    /// Whether to look at the host again: a change has settled, or goes on for long.
    ///
    /// The first look tells of nothing.
    pub(super) fn look(&mut self, root: &HostRoot, paths: &Paths, now: Instant) -> bool {
        let quiet = self.seen.iter().all(|(path, stamp)| stamp_of(path) == *stamp);
        if !quiet || self.seen.is_empty() {
            let first = self.seen.is_empty();
            self.seen = survey(root, paths);
            if !first {
                self.changed.get_or_insert(now);
            }
        }
        let tell = self
            .changed
            .is_some_and(|since| quiet || now.saturating_duration_since(since) >= LONGEST);
        if tell {
            self.changed = None;
        }
        tell
    }
}

impl Workshop {
    /// [`Trees::look`] of the host.
    pub(super) fn trees_changed(&self) -> bool {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.look(&self.executor.root, &self.settings.paths, Instant::now())
    }
}

/// Every entry that counts, as it is now.
fn survey(root: &HostRoot, paths: &Paths) -> BTreeMap<PathBuf, Stamp> {
    let mut seen = BTreeMap::new();
    let mut add = |path: PathBuf| {
        let stamp = stamp_of(&path);
        seen.insert(path, stamp);
    };
    let directories = std::iter::once(paths.depmod.as_str()).chain(OTHER_DIRECTORIES);
    for directory in directories.chain(WATCHED) {
        let at = place(root, directory);
        entries(&at).for_each(&mut add);
        add(at);
    }
    for stem in MODULE_STEMS {
        add(place(root, &format!("/sys/module/{}", loaded_name(stem))));
    }
    let parent = place(root, &paths.modules);
    let walk = WalkDir::new(&parent).min_depth(1).into_iter().flatten();
    walk.filter(|entry| entry.file_type().is_dir() || counts(entry.path()))
        .for_each(|entry| add(entry.into_path()));
    add(parent);
    seen
}

fn counts(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    INDEXES.contains(&name) || module_stem(name).is_some_and(|stem| MODULE_STEMS.contains(&stem))
}

/// Where a path of the host is; where it is not there, where it would be.
fn place(root: &HostRoot, path: &str) -> PathBuf {
    let at = root.locate(path).ok().filter(|at| at.symlink_metadata().is_ok());
    // a directory behind a link is what changes
    let behind = root.locate_directory(Path::new(path)).ok().filter(|at| at.is_dir());
    behind.or(at).unwrap_or_else(|| root.path().join(path.trim_start_matches('/')))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn stamp_of(path: &Path) -> Stamp {
    let found = path.symlink_metadata().ok()?;
    // times of sysfs are those of its cache
    let times = !path.components().any(|part| part.as_os_str() == "sys");
    let (seconds, nanos) = if times { (found.ctime(), found.ctime_nsec()) } else { (0, 0) };
    Some((found.ino(), found.size(), seconds, nanos))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes a host of its own")]
mod tests {
    use super::*;

    /// A change, the looks after it, and whether the last tells of it.
    fn told_after(trees: &mut Trees, root: &HostRoot, looks: u64) -> Vec<bool> {
        let start = Instant::now();
        let paths = Paths::default();
        let at = |look| start + LOOK * u32::try_from(look).unwrap();
        (0..looks).map(|look| trees.look(root, &paths, at(look))).collect()
    }

    #[test]
    fn each_change_is_told_once_when_it_has_settled() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::new(directory.path());
        let at = |path: &str| directory.path().join(path);
        let kernel = at("lib/modules/6.1.0");
        fs::create_dir_all(kernel.join("kernel/net/openvswitch")).unwrap();
        fs::create_dir_all(kernel.join("kernel/drivers/other")).unwrap();
        fs::write(kernel.join("modules.dep.bin"), "1").unwrap();
        fs::create_dir_all(at("boot")).unwrap();
        let mut trees = Trees::default();
        assert_eq!(told_after(&mut trees, &root, 3), [false; 3]);
        let changes: [(&str, &dyn Fn()); 9] = [
            ("a new set", &|| {
                fs::create_dir_all(kernel.join("weak-updates/openvswitch")).unwrap();
            }),
            ("a file in it", &|| {
                fs::write(kernel.join("weak-updates/openvswitch/openvswitch.ko"), "x").unwrap();
            }),
            ("its contents", &|| {
                fs::write(kernel.join("weak-updates/openvswitch/openvswitch.ko"), "y").unwrap();
            }),
            ("its end", &|| {
                fs::remove_file(kernel.join("weak-updates/openvswitch/openvswitch.ko")).unwrap();
            }),
            ("depmod", &|| fs::write(kernel.join("modules.dep.bin"), "22").unwrap()),
            ("any directory", &|| {
                fs::write(kernel.join("kernel/drivers/other/driver.ko"), "x").unwrap();
            }),
            ("another kernel", &|| fs::create_dir_all(at("lib/modules/6.2.0")).unwrap()),
            ("depmod's configuration", &|| {
                fs::create_dir_all(at("etc/depmod.d")).unwrap();
                fs::write(at("etc/depmod.d/x.conf"), "search built-in").unwrap();
            }),
            ("an image", &|| fs::write(at("boot/vmlinuz-6.2.0"), "x").unwrap()),
        ];
        for (what, change) in changes {
            change();
            assert_eq!(told_after(&mut trees, &root, 4), [false, true, false, false], "{what}");
        }
    }

    #[test]
    fn what_goes_on_changing_is_told_of_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::new(directory.path());
        let tree = directory.path().join("lib/modules/6.1.0");
        fs::create_dir_all(&tree).unwrap();
        let (mut trees, paths, start) = (Trees::default(), Paths::default(), Instant::now());
        assert!(!trees.look(&root, &paths, start));
        let mut untold = Duration::ZERO;
        for look in 1..20_u32 {
            fs::create_dir(tree.join(look.to_string())).unwrap();
            untold += LOOK;
            if trees.look(&root, &paths, start + LOOK * look) {
                untold = Duration::ZERO;
            }
            assert!(untold < Duration::from_secs(9), "{untold:?}");
        }
    }
}
