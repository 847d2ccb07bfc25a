//! Packages: which files are a package's, and when packages were changed last.
//!
//! dpkg keeps a list of files for each package, which is read; rpm keeps a database of its
//! own, so rpm is asked. Both answers stand until the database changes.

use super::super::ModuleSources;
use crate::disk::HostRoot;
use crate::host_command::HostTools;
use pointsman_core::model::{MODULE_STEMS, PackageDatabase, module_stem};
use pointsman_core::plan::modules::{OVERRIDE_FILE, SET_DIRECTORY};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where dpkg keeps its lists (dpkg-query(1), `--control-path`).
const LISTS: &str = "/var/lib/dpkg/info";
/// Written anew by every transaction: the file, and whose it is.
const DATABASES: [(&str, &str); 6] = [
    ("/var/lib/dpkg/status", "dpkg"),
    ("/var/lib/rpm/rpmdb.sqlite", "rpm"),
    ("/var/lib/rpm/Packages", "rpm"),
    ("/var/lib/rpm/Packages.db", "rpm"),
    ("/usr/lib/sysimage/rpm/rpmdb.sqlite", "rpm"),
    ("/usr/lib/sysimage/rpm/Packages.db", "rpm"),
];
/// A kernel's list has a quarter of a megabyte.
const LIMIT: u64 = 16 << 20;
/// rpm answers in tens of milliseconds.
const TOOL: Duration = Duration::from_secs(10);

type Databases = BTreeMap<String, PackageDatabase>;
type Owned = BTreeMap<String, String>;
/// The root, its databases, and the files that rpm was asked of.
type Key = (PathBuf, Databases, Vec<String>);

static MEMORY: Mutex<Option<(Key, Owned)>> = Mutex::new(None);

/// The databases that are there, as they are now.
pub(in crate::observe) fn databases(root: &HostRoot) -> Databases {
    let stamp = |(path, by): (&str, &str)| {
        let found = fs::metadata(root.locate_directory(Path::new(path)).ok()?).ok()?;
        let changed = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        let changed = u64::try_from(changed).ok()?;
        Some((path.to_owned(), PackageDatabase { by: by.to_owned(), changed, size: found.size() }))
    };
    DATABASES.into_iter().filter_map(stamp).collect()
}

/// By path below `/lib/modules` or of depmod's configuration, the package that a file of a set
/// is of; files of the kernel's own directory, which nobody changes here, are left out.
pub(super) fn owned(sources: &ModuleSources<'_>, kernels: &[&str], databases: &Databases) -> Owned {
    if databases.is_empty() {
        return Owned::new();
    }
    let files = candidates(sources, kernels);
    let key = (sources.root.path().to_owned(), databases.clone(), files);
    let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, owned)) = memory.as_ref().filter(|(known, _)| *known == key) {
        return owned.clone();
    }
    let dpkg = databases.values().any(|database| database.by == "dpkg");
    let mut owned = if dpkg { of_dpkg(sources.root) } else { Owned::new() };
    if let Some((database, _)) = databases.iter().find(|(_, database)| database.by == "rpm") {
        let ask = |path: &String| Some((path.clone(), of_rpm(sources, database, path)?));
        owned.extend(key.2.iter().filter_map(ask));
    }
    *memory = Some((key, owned.clone()));
    owned
}

/// The files that a switch would replace or move.
fn candidates(sources: &ModuleSources<'_>, kernels: &[&str]) -> Vec<String> {
    let paths = sources.paths;
    let mut files = Vec::new();
    for kernel in kernels {
        let set = format!("{}/{kernel}/{SET_DIRECTORY}", paths.modules);
        let at = sources.root.locate_directory(Path::new(&set));
        let entries = at.ok().and_then(|at| fs::read_dir(at).ok()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        files.extend(names.map(|name| format!("{set}/{name}")));
    }
    let pins = format!("{}/{OVERRIDE_FILE}", paths.depmod);
    files.extend(sources.root.locate(&pins).is_ok_and(|at| at.exists()).then_some(pins));
    files.sort();
    files
}

fn of_dpkg(root: &HostRoot) -> Owned {
    let mut owned = Owned::new();
    let Ok(at) = root.locate_directory(Path::new(LISTS)) else { return owned };
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(package) = name.strip_suffix(".list") else { continue };
        // with an architecture where a package may be installed for several
        let package = package.split_once(':').map_or(package, |(package, _)| package);
        let Ok(bytes) = root.read(&format!("{LISTS}/{name}"), LIMIT) else { continue };
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Some(path) = std::str::from_utf8(line).ok().and_then(of_set) {
                owned.insert(path, package.to_owned());
            }
        }
    }
    owned
}

/// A path that a switch may change, without the `/usr` of a host whose `/lib` is a link.
fn of_set(line: &str) -> Option<String> {
    let path = line.strip_prefix("/usr").filter(|rest| rest.starts_with("/lib/")).unwrap_or(line);
    let name = path.rsplit('/').next()?;
    let own = path.strip_prefix("/lib/modules/").and_then(|rest| rest.split_once('/'));
    let module = module_stem(name).is_some_and(|stem| MODULE_STEMS.contains(&stem));
    let in_tree = module && own.is_some_and(|(_, inside)| !inside.starts_with("kernel/"));
    (in_tree || path.strip_suffix(OVERRIDE_FILE).is_some_and(|rest| rest.ends_with("/depmod.d/")))
        .then(|| path.to_owned())
}

/// None of no package, and where rpm does not tell.
fn of_rpm(sources: &ModuleSources<'_>, database: &str, path: &str) -> Option<String> {
    let (directory, _) = database.rsplit_once('/')?;
    let root = sources.root.path().to_str()?;
    let mut argv = vec!["rpm"];
    if *sources.tools == HostTools::Scratch {
        argv.extend(["--root", root]);
    }
    argv.extend(["--dbpath", directory, "-qf", "--qf", "%{NAME}\\n", path]);
    let said = sources.tools.run(&argv, TOOL).ok()?;
    said.stdout.lines().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_switch_may_change_counts() {
        let set = "/lib/modules/6.1/weak-updates/openvswitch/vport-gre.ko";
        assert_eq!(of_set(set).as_deref(), Some(set));
        assert_eq!(of_set(&format!("/usr{set}")).as_deref(), Some(set));
        assert!(of_set("/lib/modules/6.1/extra/openvswitch.ko.xz").is_some());
        let pins = format!("/etc/depmod.d/{OVERRIDE_FILE}");
        assert_eq!(of_set(&pins), Some(pins));
        for other in [
            "/lib/modules/6.1/kernel/net/openvswitch/openvswitch.ko",
            "/lib/modules/6.1/weak-updates/openvswitch",
            "/lib/modules/6.1/extra/vxlan.ko",
            "/usr/share/doc/openvswitch.ko",
            "",
        ] {
            assert_eq!(of_set(other), None, "{other}");
        }
    }
}
