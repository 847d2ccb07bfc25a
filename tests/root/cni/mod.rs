//! CNI files on scratch roots, with Debian's plugins under NCP's names.

mod containerd;
mod crash;
mod faults;
mod fuzz;
mod killed;
mod likeness;
mod probe;
mod runtime;
mod undo;

use pointsman::apply::{ApplyError, Executor};
use pointsman::disk::HostRoot;
use pointsman::host_command::HostTools;
use pointsman::observe::{observe_cni, observe_ledger, observe_payload};
use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::config::Paths;
use pointsman_core::model::{Digest, Observed};
use pointsman_core::plan::cni::{Target, Toward, Want, plan_cni};
use pointsman_core::plan::{Plan, Refusal};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use walkdir::WalkDir;

/// Where Debian's containernetworking-plugins puts them.
const PLUGINS: &str = "/usr/lib/cni";

pub const CONF: &str = "/etc/cni/net.d";
pub const BIN: &str = "/opt/cni/bin";
pub const LEGACY: &str = r#"{"cniVersion":"0.3.1","name":"nsx-cni","type":"nsx"}"#;
const LOOPBACK_CONF: &str = r#"{"cniVersion":"0.3.1","name":"lo","type":"loopback"}"#;

pub fn conflist(version: &str) -> String {
    format!(
        "{{\"cniVersion\":\"1.0.0\",\"name\":\"nsx-cni\",\"nsxBuildVersion\":\"{version}\",\
         \"plugins\":[{{\"type\":\"nsx\"}}]}}\n"
    )
}

pub fn plugin(name: &str) -> Vec<u8> {
    let at = Path::new(PLUGINS).join(name);
    fs::read(&at).unwrap_or_else(|error| panic!("{}: {error}: run scripts/setup", at.display()))
}

/// A file: permission bits and contents.
pub type Entry = (u32, Digest);
/// By path.
pub type Files = BTreeMap<String, Entry>;

/// A scratch root, a payload of version 4.2 and a store.
pub struct Host {
    dir: TempDir,
    pub executor: Executor,
}

impl Host {
    /// An empty root; the payload's `nsx` is Debian's `bridge`.
    pub fn new() -> Self {
        Self::with_plugin(&plugin("bridge"))
    }

    pub fn with_plugin(nsx: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| -> PathBuf {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (root, payload, store) = (at("root"), at("payload"), at("store"));
        let root = HostRoot::new(root);
        let tools = HostTools::for_root(&root, false);
        assert_eq!(tools, HostTools::Scratch);
        let executor = Executor { root, tools, payload, store, ovsdb: PathBuf::new() };
        let host = Self { dir, executor };
        host.bring_payload(nsx);
        host
    }

    fn bring_payload(&self, nsx: &[u8]) {
        let (loopback, conflist) = (plugin("loopback"), conflist("4.2"));
        let files: [(&str, &str, &str, &[u8]); 4] = [
            ("nsx", "nsx", "0755", nsx),
            ("loopback", "loopback", "0755", &loopback),
            ("conflist", "10-nsx.conflist", "0644", conflist.as_bytes()),
            ("loopback-conf", "99-loopback.conf", "0644", LOOPBACK_CONF.as_bytes()),
        ];
        let mut manifest = "[cni]\nversion = \"4.2\"\n".to_owned();
        for (role, name, mode, contents) in files {
            fs::write(self.payload().join(name), contents).unwrap();
            let sha256 = Digest::of(contents);
            manifest += &format!(
                "[cni.files.{role}]\npath = \"{name}\"\nmode = \"{mode}\"\nsha256 = \"{sha256}\"\n"
            );
        }
        fs::write(self.payload().join("manifest.toml"), manifest).unwrap();
    }

    pub fn payload(&self) -> PathBuf {
        self.dir.path().join("payload")
    }

    /// Where an absolute path of the host is here.
    pub fn at(&self, path: &str) -> PathBuf {
        self.executor.root.path().join(path.trim_start_matches('/'))
    }

    /// Puts a file there, with its directories.
    pub fn put(&self, path: &str, mode: u32, contents: &[u8]) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, contents).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn observe(&self) -> Observed {
        let mut observed = Observed::default();
        observe_payload(&mut observed, &self.payload());
        observe_ledger(&mut observed, &self.executor.store).unwrap();
        let root = &self.executor.root;
        observe_cni(&mut observed, root, &Paths::default(), &self.payload()).unwrap();
        observed
    }

    pub fn plan(&self) -> Result<Plan, Refusal> {
        plan_cni(&want(Target::To(Toward::Payload)), &self.observe(), None)
    }

    pub fn plan_back(&self, before: &Observed) -> Plan {
        let (transaction, before) = ("t".into(), before.clone());
        let back = Checkpoint { schema: CHECKPOINT_SCHEMA, transaction, before };
        plan_cni(&want(Target::Before(Toward::Payload)), &self.observe(), Some(&back)).unwrap()
    }

    pub fn apply(&self, plan: &Plan) -> Result<(), ApplyError> {
        plan.steps().try_for_each(|step| self.executor.apply(step))
    }

    pub fn install(&self) -> Plan {
        let plan = self.plan().unwrap();
        self.apply(&plan).unwrap();
        plan
    }

    pub fn undo(&self, before: &Observed) {
        self.apply(&self.plan_back(before)).unwrap();
    }

    /// Every file below the root, with mode and digest.
    pub fn files(&self) -> Files {
        let root = self.executor.root.path();
        let entries = WalkDir::new(root).into_iter().map(Result::unwrap);
        let file = |entry: walkdir::DirEntry| {
            let path = format!("/{}", entry.path().strip_prefix(root).unwrap().display());
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            (path, (mode, Digest::of(&fs::read(entry.path()).unwrap())))
        };
        entries.filter(|entry| entry.file_type().is_file()).map(file).collect()
    }

    /// What a write of any kind would change: inode, times, of every entry of root and store.
    pub fn witness(&self) -> Vec<(PathBuf, u64, i64, i64, i64)> {
        let entries = WalkDir::new(self.dir.path()).sort_by_file_name().into_iter();
        let stamp = |entry: walkdir::DirEntry| {
            let m = entry.metadata().unwrap();
            (
                entry.into_path(),
                m.ino(),
                m.mtime() * 1_000_000_000 + m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
            )
        };
        entries.map(Result::unwrap).map(stamp).collect()
    }
}

fn want(target: Target) -> Want {
    Want::plainly(target, Paths::default())
}

/// Hosts to install on, by name. None has the payload's version.
pub fn hosts() -> Vec<(&'static str, Host)> {
    let older = |nsx: u32| {
        let host = Host::new();
        host.put(&format!("{BIN}/nsx"), nsx, &plugin("host-local"));
        host.put(&format!("{CONF}/10-nsx.conflist"), 0o640, conflist("4.1.9").as_bytes());
        host
    };
    let with_pair = older(0o750);
    with_pair.put(&format!("{BIN}/loopback"), 0o700, b"#!/bin/sh\nexit 0\n");
    with_pair.put(&format!("{CONF}/99-loopback.conf"), 0o600, b"{\"type\":\"loopback\"}");
    let legacy = Host::new();
    legacy.put(&format!("{BIN}/nsx"), 0o755, &plugin("host-local"));
    legacy.put(&format!("{CONF}/10-nsx.conf"), 0o600, LEGACY.as_bytes());
    let garbled = older(0o755);
    garbled.put(&format!("{CONF}/10-nsx.conflist"), 0o644, b"{\"plugins\":[");
    vec![
        ("nothing", Host::new()),
        ("older", older(0o755)),
        ("older with a user's loopback pair", with_pair),
        ("legacy", legacy),
        ("garbled", garbled),
    ]
}
