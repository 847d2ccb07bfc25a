//! What keeps modprobe from loading a module of the set: its configuration, and the kernel's
//! command line.

use crate::disk::HostRoot;
use pointsman_core::model::{MODULE_STEMS, Prevented, loaded_name};
use pointsman_core::plan::modules::is_conf;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const LIMIT: u64 = 4 << 20;
/// In the order in which a name hides the same name in a later one (modprobe.d(5)).
const DIRECTORIES: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];
const COMMAND_LINE: &str = "/proc/cmdline";

pub(super) fn read(root: &HostRoot) -> Vec<Prevented> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for directory in DIRECTORIES {
        let at = root.locate_directory(Path::new(directory));
        let listed = at.ok().and_then(|at| fs::read_dir(at).ok());
        for entry in listed.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_conf(&name) && !name.starts_with('.') {
                files.entry(name.clone()).or_insert_with(|| format!("{directory}/{name}"));
            }
        }
    }
    let text = |path: &str| {
        let bytes = root.read(path, LIMIT).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut found = Vec::new();
    for path in files.values() {
        let Some(text) = text(path) else { continue };
        found.extend(of_conf(&text).map(|(name, by)| prevented(name, by, path)));
    }
    let words = text(COMMAND_LINE).unwrap_or_default();
    found.extend(of_command_line(&words).map(|(name, by)| prevented(name, by, COMMAND_LINE)));
    found
}

fn prevented(name: String, by: String, path: &str) -> Prevented {
    Prevented { name, by, path: path.to_owned() }
}

fn of_set(name: &str) -> bool {
    MODULE_STEMS.iter().any(|stem| loaded_name(stem) == name)
}

/// `install NAME command` and `blacklist NAME`; modprobe takes either spelling of a name.
fn of_conf(text: &str) -> impl Iterator<Item = (String, String)> {
    let text = text.replace("\\\n", " ");
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let command = words.next().filter(|word| matches!(*word, "install" | "blacklist"));
        let name = command.and_then(|_| words.next()).map(loaded_name)?;
        of_set(&name).then(|| (name, line.trim().to_owned()))
    };
    let lines: Vec<_> = text.lines().filter_map(line).collect();
    lines.into_iter()
}

/// `module_blacklist=` is the kernel's own and final; `modprobe.blacklist=` is modprobe's.
fn of_command_line(text: &str) -> impl Iterator<Item = (String, String)> {
    let words = text.split_whitespace().filter_map(|word| {
        let names = word
            .strip_prefix("module_blacklist=")
            .or_else(|| word.strip_prefix("modprobe.blacklist="))?;
        Some((word, names))
    });
    words.flat_map(|(word, names)| {
        let names = names.split(',').map(loaded_name).filter(|name| of_set(name));
        names.map(|name| (name, word.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_words_that_keep_a_module_out() {
        let text = "# blacklist openvswitch\nblacklist vport-gre\n install openvswitch \\\n /bin/true\n\
                    options openvswitch x=1\nblacklist e1000\n";
        let found: Vec<String> = of_conf(text).map(|(name, _)| name).collect();
        assert_eq!(found, ["vport_gre", "openvswitch"]);
        let line =
            "quiet module_blacklist=e1000,openvswitch modprobe.blacklist=vport-stt blacklist=x";
        let found: Vec<String> = of_command_line(line).map(|(name, _)| name).collect();
        assert_eq!(found, ["openvswitch", "vport_stt"]);
    }

    #[test]
    fn a_name_in_etc_hides_the_same_name_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let root = HostRoot::new(directory.path());
        for (at, text) in [("etc", ""), ("usr/lib", "blacklist openvswitch\n")] {
            let at = format!("{at}/modprobe.d");
            fs::create_dir_all(directory.path().join(&at)).unwrap();
            root.write(&format!("/{at}/ovs.conf"), 0o644, text.as_bytes()).unwrap();
        }
        assert_eq!(read(&root), []);
        fs::remove_file(directory.path().join("etc/modprobe.d/ovs.conf")).unwrap();
        assert_eq!(read(&root)[0].path, "/usr/lib/modprobe.d/ovs.conf");
    }
}
