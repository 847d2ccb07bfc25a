//! The decision table of the CNI files: folders that play a host's root, before and after, and
//! what the commands say that lead from the one to the other.
//!
//! `in/` is the root, `commands` one command line each; `lay` puts `edits/` over the root, as
//! somebody else would. `expected` holds what each prints and its exit code, `out/` what is in
//! `/etc` and `/opt` then. `scripts/golden-update` writes both; review the difference.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use walkdir::WalkDir;

/// By path: `link to …`, or whether it can be executed and its contents.
type Tree = BTreeMap<String, (u32, Vec<u8>)>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cni")
}

/// Nothing where there is no folder: git keeps none that is empty.
fn tree(root: &Path) -> Tree {
    if !root.exists() {
        return Tree::new();
    }
    let entries = WalkDir::new(root).into_iter().map(Result::unwrap);
    let entry = |entry: walkdir::DirEntry| {
        let path = entry.path().strip_prefix(root).unwrap().display().to_string();
        if entry.path_is_symlink() {
            let target = fs::read_link(entry.path()).unwrap().display().to_string();
            return Some((path, (0o777, format!("-> {target}").into_bytes())));
        }
        let mode = entry.metadata().unwrap().permissions().mode();
        // git knows no other bit
        let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
        entry.file_type().is_file().then(|| (path, (mode, fs::read(entry.path()).unwrap())))
    };
    entries.filter_map(entry).collect()
}

/// What a plan may change.
fn changed(root: &Path) -> Tree {
    let mut tree = tree(root);
    tree.retain(|path, _| path.starts_with("etc/") || path.starts_with("opt/"));
    tree
}

fn lay(tree: &Tree, root: &Path) {
    for (path, (mode, contents)) in tree {
        let at = root.join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        drop(fs::remove_file(&at));
        if let Some(target) = contents.strip_prefix(b"-> ") {
            std::os::unix::fs::symlink(String::from_utf8(target.to_vec()).unwrap(), &at).unwrap();
            continue;
        }
        fs::write(&at, contents).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).unwrap();
    }
}

/// The payload of all cases, with its manifest: version 4.2.
fn payload(to: &Path) {
    lay(&tree(&folder().join("payload")), to);
    let mut manifest = "[cni]\nversion = \"4.2\"\n".to_owned();
    for (role, name, mode) in [
        ("nsx", "nsx", "0755"),
        ("loopback", "loopback", "0755"),
        ("conflist", "10-nsx.conflist", "0644"),
        ("loopback-conf", "99-loopback.conf", "0644"),
    ] {
        let sha256 = Sha256::digest(fs::read(to.join(name)).unwrap());
        let sha256 = sha256.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        writeln!(
            manifest,
            "[cni.files.{role}]\npath = \"{name}\"\nmode = \"{mode}\"\nsha256 = \"{sha256}\""
        )
        .unwrap();
    }
    fs::write(to.join("manifest.toml"), manifest).unwrap();
}

fn run(line: &str, root: &Path, payload: &Path) -> String {
    let mut command = Command::new(support::program::pointsman());
    command.args(line.split_whitespace());
    command.arg("--root").arg(root).arg("--payload").arg(payload).args(["--uplink", "nic0"]);
    let output = command.output().unwrap();
    let mut text = String::from_utf8(output.stdout).unwrap();
    if output.status.code() == Some(1) {
        text.push_str(&String::from_utf8(output.stderr).unwrap());
    }
    let text = text.replace(root.to_str().unwrap(), "");
    format!("$ {line}\n{text}exit: {}\n", output.status.code().expect("ended by a signal"))
}

/// What is printed, and what is there then.
fn case(case: &Path) -> (String, Tree) {
    let bed = tempfile::tempdir().unwrap();
    let (root, brought) = (bed.path().join("root"), bed.path().join("payload"));
    fs::create_dir_all(root.join("etc")).unwrap();
    payload(&brought);
    // what the plugins of these cases are run by
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/sh"), "").unwrap();
    lay(&tree(&case.join("in")), &root);
    let mut told = String::new();
    for line in fs::read_to_string(case.join("commands")).unwrap().lines() {
        if line == "lay" {
            told.push_str("$ lay\n");
            lay(&tree(&case.join("edits")), &root);
        } else {
            told.push_str(&run(line, &root, &brought));
        }
    }
    (told, changed(&root))
}

#[test]
fn every_row_of_the_decision_table_is_as_it_is_told() {
    let mut wrong = Vec::new();
    let mut folders: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.join("commands").exists());
    folders.sort();
    assert!(folders.len() > 20, "{}", folders.len());
    for path in folders {
        let (told, after) = case(&path);
        let (out, expected) = (path.join("out"), path.join("expected"));
        if std::env::var_os("GOLDEN_UPDATE").is_some() {
            drop(fs::remove_dir_all(&out));
            lay(&after, &out);
            fs::write(&expected, &told).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- found\n{told}", path.display()));
        }
        let wanted = changed(&out);
        if after != wanted {
            let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>().join(" ");
            let words = format!("expected {} found {}", names(&wanted), names(&after));
            wrong.push(format!("{}: another tree: {words}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
