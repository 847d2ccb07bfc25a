mod absent;
mod edited;
mod table;
mod way_back;

use super::*;
use crate::checkpoint::CHECKPOINT_SCHEMA;
use crate::model::{CniReading, FileState};
use crate::payload::{CniFile, CniPayload, CniRole, Manifest, Payload};
use crate::plan::file;
use std::collections::BTreeMap;

const NSX: &str = "/opt/cni/bin/nsx";
const LOOPBACK: &str = "/opt/cni/bin/loopback";
const CONFLIST: &str = "/etc/cni/net.d/10-nsx.conflist";
const LEGACY: &str = "/etc/cni/net.d/10-nsx.conf";
const LOOPBACK_CONF: &str = "/etc/cni/net.d/99-loopback.conf";

fn conflist(version: &str) -> String {
    format!(
        r#"{{"name":"nsx-cni","cniVersion":"1.0.0","nsxBuildVersion":"{version}","plugins":[{{"type":"nsx"}}]}}"#
    )
}

/// A host under construction.
struct Scene(Observed);

impl Scene {
    /// Empty, with a payload of version 4.2 and both directories there.
    fn new() -> Self {
        let mut scene = Self(Observed::default());
        for path in ["/opt", "/opt/cni", "/opt/cni/bin", "/etc", "/etc/cni", "/etc/cni/net.d"] {
            scene.0.files.insert(path.into(), FileState::Directory);
        }
        let file = |path: &str, mode: &str, contents: &str| CniFile {
            path: path.into(),
            mode: mode.into(),
            sha256: Digest::of(contents.as_bytes()),
        };
        let files = BTreeMap::from([
            (CniRole::Nsx, file("cni/nsx", "0755", "nsx 4.2")),
            (CniRole::Loopback, file("cni/loopback", "0755", "loopback")),
            (CniRole::Conflist, file("cni/10-nsx.conflist", "0644", &conflist("4.2"))),
            (CniRole::LoopbackConf, file("cni/99-loopback.conf", "0644", "lo")),
        ]);
        let cni = Some(CniPayload { version: "4.2".into(), files });
        let manifest = Manifest { modules: Vec::new(), cni };
        scene.0.payload = Some(Payload { manifest, faults: BTreeMap::new() });
        scene.reads(&conflist("4.2"))
    }

    fn reads(mut self, contents: &str) -> Self {
        let reading = CniReading::of(contents.as_bytes());
        let sha256 = Digest::of(contents.as_bytes());
        self.0.cni.readings.insert(sha256, reading);
        self.0.cni.texts.insert(sha256, contents.to_owned());
        self
    }

    fn with(mut self, path: &str, state: FileState) -> Self {
        self.0.files.insert(path.into(), state);
        self
    }

    fn file(self, path: &str, mode: u32, contents: &str) -> Self {
        let sha256 = Digest::of(contents.as_bytes());
        let size = contents.len() as u64;
        let scene = self.with(path, FileState::Regular { mode, size, sha256 });
        if path.starts_with("/etc/cni/net.d/10-nsx") { scene.reads(contents) } else { scene }
    }

    fn without(mut self, path: &str) -> Self {
        self.0.files.remove(path);
        self
    }

    /// Version 4.2, whole.
    fn installed() -> Self {
        Self::new()
            .file(NSX, 0o755, "nsx 4.2")
            .file(LOOPBACK, 0o755, "loopback")
            .file(CONFLIST, 0o644, &conflist("4.2"))
            .file(LOOPBACK_CONF, 0o644, "lo")
    }

    /// An older version with a user's own loopback pair.
    fn older() -> Self {
        Self::new()
            .file(NSX, 0o755, "nsx 4.1")
            .file(LOOPBACK, 0o755, "user's loopback")
            .file(CONFLIST, 0o600, &conflist("4.1.9"))
            .file(LOOPBACK_CONF, 0o600, "user's lo")
    }
}

fn want(target: Target) -> Want {
    Want::plainly(target, Paths::default())
}

const TO: Target = Target::To(Toward::Payload);
const BEFORE: Target = Target::Before(Toward::Payload);

fn plan(observed: &Observed) -> Plan {
    plan_cni(&want(TO), observed, None).unwrap()
}

fn refusal(scene: &Scene) -> Refusal {
    plan_cni(&want(TO), &scene.0, None).unwrap_err()
}

fn checkpoint(before: &Observed) -> Checkpoint {
    let transaction = "t".into();
    Checkpoint { schema: CHECKPOINT_SCHEMA, transaction, before: before.clone() }
}

fn run(observed: &mut Observed, plan: &Plan) {
    plan.steps().for_each(|step| crate::plan::simulate(observed, step));
}

/// Steps in short words: `write nsx`. Notes in the state directory are not told: each plan that
/// changes a file has them.
fn steps(plan: &Plan) -> Vec<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let word = |step: &crate::plan::Step| match step {
        crate::plan::Step::Cni(Step::Note { .. }) => String::new(),
        crate::plan::Step::Cni(Step::ProbePlugin { path, .. }) => format!("probe {}", name(path)),
        crate::plan::Step::File(file::Step::Keep { path, .. }) => format!("keep {}", name(path)),
        crate::plan::Step::File(file::Step::Write { path, .. }) => format!("write {}", name(path)),
        crate::plan::Step::File(file::Step::Remove { path, .. }) => {
            format!("remove {}", name(path))
        }
        crate::plan::Step::File(file::Step::MakeDirectory { path, mode: 0o755 }) => {
            format!("mkdir {path}")
        }
        crate::plan::Step::File(_)
        | crate::plan::Step::Handover(_)
        | crate::plan::Step::Ovs(_)
        | crate::plan::Step::Modules(_) => panic!("unexpected {step}"),
    };
    plan.steps().map(word).filter(|word| !word.is_empty()).collect()
}

/// Paths of the files that matter, with mode and contents.
fn files(observed: &Observed) -> Vec<(String, Option<(u32, Digest)>)> {
    Places::of(&Paths::default())
        .all()
        .into_iter()
        .map(|path| {
            let state = observed.files.get(path).map(|state| {
                let FileState::Regular { mode, sha256, .. } = state else {
                    panic!("{path} is {state:?}");
                };
                (*mode, *sha256)
            });
            (path.to_owned(), state)
        })
        .collect()
}
