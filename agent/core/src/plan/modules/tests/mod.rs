mod copies;
mod exchange;
mod labels;
mod refusals;

use super::*;
use crate::checkpoint::CHECKPOINT_SCHEMA;
use crate::model::*;
use crate::payload::{Manifest, ModuleFile, ModuleSet, Payload};
use crate::plan::simulate as simulate_step;

const KERNEL: &str = "6.1.0-1+b-amd64";
const OTHER: &str = "6.1.0-2-amd64";
const TREE: &str = "/lib/modules/6.1.0-1+b-amd64";

/// A host whose steps are checked as the executor checks them, and its store.
#[derive(Clone, Debug)]
struct Machine {
    observed: Observed,
    store: BTreeSet<Digest>,
}

fn regular(sha256: Digest) -> FileState {
    FileState::Regular { mode: 0o644, size: 0, sha256 }
}

fn digest(set: &str, stem: &str) -> Digest {
    Digest::of(format!("{set} {stem}").as_bytes())
}

impl Machine {
    fn directory(&mut self, path: &str) {
        self.observed.files.insert(path.into(), FileState::Directory);
    }

    /// A module file whose build id is `SET-STEM`.
    fn module(&mut self, path: &str, set: &str, stem: &str) {
        self.learn(set, stem);
        self.observed.files.insert(path.into(), regular(digest(set, stem)));
    }

    fn learn(&mut self, set: &str, stem: &str) {
        let identity = Identity { build_id: Some(format!("{set}-{stem}")), ..Identity::default() };
        let depends = if stem == "openvswitch" { vec![] } else { vec!["openvswitch".into()] };
        let (name, vermagic) = (Some(loaded_name(stem)), Some("6 mod".into()));
        let facts = ModuleFacts { name, identity, vermagic, depends, fault: None };
        self.observed.modules.facts.insert(digest(set, stem), facts);
    }

    fn in_tree() -> Self {
        let mut machine = Self { observed: Observed::default(), store: BTreeSet::new() };
        machine.observed.host.kernel = KERNEL.into();
        machine.observed.host.boot_id = "boot".into();
        for release in [KERNEL, OTHER] {
            for stem in ["openvswitch", "vport-geneve", "vport-gre", "vport-vxlan"] {
                let path = format!("/lib/modules/{release}/kernel/net/openvswitch/{stem}.ko");
                machine.module(&path, "own", stem);
            }
            machine.observed.modules.kernels.push(KernelModules {
                release: release.into(),
                running: release == KERNEL,
                builtin: Vec::new(),
                vermagic: Some("6 mod".into()),
                index: Index::Missing,
            });
        }
        let files = MODULE_STEMS.map(|stem| {
            machine.learn("nsx", stem);
            let path = format!("modules/{stem}.ko");
            let build_id = format!("nsx-{stem}");
            (stem.into(), ModuleFile { path, sha256: digest("nsx", stem), build_id })
        });
        let kernels = vec![KERNEL.into(), OTHER.into()];
        let set = ModuleSet { version: "2".into(), kernels, files: files.into() };
        let manifest = Manifest { modules: vec![set], cni: None };
        machine.observed.payload = Some(Payload { manifest, faults: BTreeMap::new() });
        machine.boot();
        machine
    }

    /// The user's own set in NCP's place, chosen by the user's own configuration.
    fn user() -> Self {
        let mut machine = Self::in_tree();
        for directory in ["weak-updates", "weak-updates/openvswitch"] {
            machine.directory(&format!("{TREE}/{directory}"));
        }
        for stem in ["openvswitch", "vport-geneve", "vport-gre", "vport-vxlan"] {
            machine.module(&format!("{TREE}/weak-updates/openvswitch/{stem}.ko"), "user", stem);
        }
        machine.module(&format!("{TREE}/weak-updates/openvswitch/other.ko"), "user", "other");
        machine.directory("/etc/depmod.d");
        let text = "search weak-updates updates built-in\n";
        let sha256 = Digest::of(text.as_bytes());
        machine.observed.files.insert("/etc/depmod.d/user.conf".into(), regular(sha256));
        machine.observed.modules.depmod.insert(sha256, parse_depmod(text));
        machine.boot();
        machine
    }

    /// The same, with nobody else's file beside it.
    fn user_alone() -> Self {
        let mut machine = Self::user();
        machine.observed.files.remove(&format!("{TREE}/weak-updates/openvswitch/other.ko"));
        machine.boot();
        machine
    }

    fn nsx(from: Self) -> Self {
        let mut machine = from;
        machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
        machine.boot();
        machine
    }

    /// What each start is called, and whose its set is.
    fn starts() -> Vec<(&'static str, Self, ModuleState)> {
        let mut dkms = Self::in_tree();
        dkms.directory("/etc/depmod.d");
        dkms.directory(&format!("{TREE}/weak-updates"));
        for stem in MODULE_STEMS {
            dkms.module(&format!("{TREE}/updates/dkms/{stem}.ko"), "dkms", stem);
        }
        dkms.boot();
        let mut strangers = Self::in_tree();
        strangers.directory(&format!("{TREE}/nsx"));
        let note = format!("{TREE}/nsx/README");
        strangers.observed.files.insert(note, regular(Digest::of(b"readme")));
        strangers.boot();
        // what weak-modules makes of another kernel's modules
        let mut linked = Self::user();
        for stem in ["openvswitch", "vport-geneve", "vport-gre", "vport-vxlan"] {
            linked.module(&format!("/lib/modules/{OTHER}/extra/{stem}.ko"), "user", stem);
            let path = format!("{TREE}/weak-updates/openvswitch/{stem}.ko");
            let target = format!("/lib/modules/{OTHER}/extra/{stem}.ko");
            linked.observed.modules.links.insert(path.clone(), digest("user", stem));
            linked.observed.files.insert(path, FileState::Symlink { target });
        }
        linked.boot();
        vec![
            ("in-tree", Self::in_tree(), ModuleState::InTree),
            ("user", Self::user(), ModuleState::User),
            ("user alone", Self::user_alone(), ModuleState::User),
            ("linked", linked.clone(), ModuleState::User),
            ("dkms", dkms, ModuleState::User),
            ("strangers", strangers, ModuleState::InTree),
            ("nsx", Self::nsx(Self::in_tree()), ModuleState::Nsx),
            ("nsx over links", Self::nsx(linked), ModuleState::Nsx),
            ("nsx over user", Self::nsx(Self::user()), ModuleState::Nsx),
            ("nsx over user alone", Self::nsx(Self::user_alone()), ModuleState::Nsx),
            ("labelled", labels::labelled(), ModuleState::User),
            ("nsx over labelled", Self::nsx(labels::labelled()), ModuleState::Nsx),
        ]
    }

    /// Index both kernels and load what the running one's index chooses.
    fn boot(&mut self) {
        for kernel in [KERNEL, OTHER] {
            index_anew(&mut self.observed, kernel, &Paths::default());
        }
        self.observed.modules.loaded.clear();
        for stem in ["openvswitch", "vport-geneve"] {
            let kernel = self.observed.modules.kernel(KERNEL).unwrap();
            let path = format!("{TREE}/{}", kernel.winner(stem).unwrap().path);
            let identity = self.observed.module_at(&path).unwrap().identity.clone();
            let name = loaded_name(stem);
            simulate(&mut self.observed, &Step::LoadModule { name, expect: vec![identity] });
        }
    }

    fn want(target: Target, activate: Activate) -> Want {
        Want { kernel: KERNEL.into(), target, activate }
    }

    fn try_plan(
        &self,
        target: Target,
        activate: Activate,
        way_back: Option<&Checkpoint>,
    ) -> Result<Plan, Refusal> {
        let want = Self::want(target, activate);
        plan_modules(&want, &self.observed, way_back, &Paths::default())
    }

    fn plan(&self, target: Target, activate: Activate, way_back: Option<&Checkpoint>) -> Plan {
        self.try_plan(target, activate, way_back).unwrap()
    }

    fn refusal(&self, target: Target, activate: Activate) -> Refusal {
        self.try_plan(target, activate, None).unwrap_err()
    }

    fn take(&mut self, plan: &Plan) {
        plan.steps().for_each(|step| self.step(step));
    }

    fn step(&mut self, step: &crate::plan::Step) {
        exchange::check(self, step);
        let files = &self.observed.files;
        if let crate::plan::Step::File(step) = step {
            match step {
                file::Step::Keep { path, sha256 } => {
                    assert_eq!(files[path].sha256(), Some(*sha256), "{step}");
                    self.store.insert(*sha256);
                }
                file::Step::Write { path, source: Source::Store, sha256, .. } => {
                    assert!(self.store.contains(sha256), "{step}");
                    assert!(!files.contains_key(path) || self.is_kept(path), "{step}");
                }
                file::Step::Write { path, .. } | file::Step::Link { path, .. } => {
                    assert!(!files.contains_key(path) || self.is_kept(path), "{step}");
                }
                file::Step::Remove { path, sha256 } => {
                    assert_eq!(files[path].sha256(), *sha256, "{step}");
                    let others = files.iter().filter(|(other, _)| *other != path);
                    let copied = others.filter_map(|(_, state)| state.sha256());
                    let staged = path.starts_with(&staging("/lib/modules", KERNEL));
                    let copied = staged && copied.into_iter().any(|held| Some(held) == *sha256);
                    assert!(copied || self.is_kept(path), "{step}");
                }
                file::Step::RemoveDirectory { path } => {
                    let prefix = format!("{path}/");
                    assert!(!files.keys().any(|path| path.starts_with(&prefix)), "{step}");
                }
                file::Step::MakeDirectory { path, .. } => {
                    let parent = path.rsplit_once('/').unwrap().0;
                    let known = [TREE, "/etc"].contains(&parent);
                    assert!(known || files.contains_key(parent), "{step}");
                }
            }
        }
        if let crate::plan::Step::Modules(Step::CheckIndex { kernel, expect, .. }) = step {
            let kernel = self.observed.modules.kernel(kernel).unwrap();
            for (stem, allowed) in expect {
                let found = kernel.winner(stem).map(|entry| &entry.path);
                assert!(found.map_or(allowed.is_empty(), |p| allowed.contains(p)), "{stem}");
            }
        }
        simulate_step(&mut self.observed, step);
    }

    fn is_kept(&self, path: &str) -> bool {
        let link = matches!(self.observed.files[path], FileState::Symlink { .. });
        path.ends_with(".pointsman.tmp")
            || link
            || self.store.contains(&self.observed.files[path].sha256().unwrap())
    }

    fn checkpoint(&self) -> Checkpoint {
        let (schema, transaction) = (CHECKPOINT_SCHEMA, "t".into());
        Checkpoint { schema, transaction, before: self.observed.clone() }
    }

    /// Files without their sizes, which a simulation does not know.
    fn files(&self) -> BTreeMap<String, FileState> {
        let mut files = self.observed.files.clone();
        for state in files.values_mut() {
            if let FileState::Regular { size, .. } = state {
                *size = 0;
            }
        }
        files
    }

    fn set(&self) -> ModuleState {
        which_set(&self.observed, &Paths::default(), KERNEL)
    }

    fn assert_is(&self, other: &Self, label: &str) {
        assert_eq!(self.files(), other.files(), "{label}");
        let (modules, others) = (&self.observed.modules, &other.observed.modules);
        assert_eq!(modules.attributes, others.attributes, "{label}");
        assert_eq!(modules.links, others.links, "{label}");
        assert_eq!(self.observed.modules.kernels, other.observed.modules.kernels, "{label}");
        assert_eq!(self.observed.modules.loaded, other.observed.modules.loaded, "{label}");
    }
}

#[test]
fn every_crash_point_leads_to_the_target_and_back() {
    for (name, start, state) in Machine::starts() {
        assert_eq!(start.set(), state, "{name}");
        for target in [Target::Payload, Target::InTree] {
            for activate in [Activate::Reboot, Activate::Live] {
                let label = format!("{name} to {target:?}, {activate:?}");
                let way_back = start.checkpoint();
                let plan = start.plan(target, activate, None);
                let mut done = start.clone();
                done.take(&plan);
                assert!(done.plan(target, activate, None).is_empty(), "{label}");
                let steps: Vec<_> = plan.steps().collect();
                for cut in 0..=steps.len() {
                    let label = format!("{label}, cut at {cut} of {}", steps.len());
                    let mut machine = start.clone();
                    steps.iter().take(cut).for_each(|step| machine.step(step));
                    let mut forward = machine.clone();
                    forward.take(&machine.plan(target, activate, Some(&way_back)));
                    assert!(forward.plan(target, activate, Some(&way_back)).is_empty(), "{label}");
                    forward.assert_is(&done, &label);
                    machine.take(&machine.plan(Target::Before, activate, Some(&way_back)));
                    assert!(
                        machine.plan(Target::Before, activate, Some(&way_back)).is_empty(),
                        "{label}"
                    );
                    machine.assert_is(&start, &label);
                }
            }
        }
    }
}

#[test]
fn there_and_back_is_where_it_began() {
    for (name, start, state) in Machine::starts().into_iter().take(6) {
        let mut machine = start.clone();
        machine.take(&machine.plan(Target::Payload, Activate::Live, None));
        assert_eq!(machine.set(), ModuleState::Nsx, "{name}");
        let loaded = machine.observed.modules.loaded("openvswitch").unwrap();
        assert_eq!(loaded.identity.to_string(), "build id nsx-openvswitch", "{name}");
        machine.take(&machine.plan(Target::InTree, Activate::Live, None));
        assert_eq!(machine.set(), state, "{name}");
        machine.assert_is(&start, name);
    }
}

#[test]
fn a_staged_set_waits_for_the_reboot() {
    let mut machine = Machine::in_tree();
    let want = Machine::want(Target::Payload, Activate::Reboot);
    let pending = |machine: &Machine| reboot_pending(&want, &machine.observed, &Paths::default());
    assert!(!pending(&machine));
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    assert!(pending(&machine));
    machine.boot();
    assert!(!pending(&machine));
    assert_eq!(loaded(&machine.observed, &Paths::default(), KERNEL), Loaded::Right);
}

#[test]
fn kernels_share_the_override_file() {
    let mut machine = Machine::in_tree();
    let start = machine.clone();
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    let other = |machine: &Machine, target| {
        let want = Want { kernel: OTHER.into(), target, activate: Activate::Reboot };
        plan_modules(&want, &machine.observed, None, &Paths::default()).unwrap()
    };
    let plan = other(&machine, Target::Payload);
    plan.steps().for_each(|step| simulate_step(&mut machine.observed, step));
    for kernel in [KERNEL, OTHER] {
        assert_eq!(which_set(&machine.observed, &Paths::default(), kernel), ModuleState::Nsx);
    }
    machine.take(&machine.plan(Target::InTree, Activate::Reboot, None));
    assert_eq!(which_set(&machine.observed, &Paths::default(), OTHER), ModuleState::Nsx);
    assert!(machine.observed.files.contains_key("/etc/depmod.d/zz-pointsman-ovs.conf"));
    let plan = other(&machine, Target::InTree);
    plan.steps().for_each(|step| simulate_step(&mut machine.observed, step));
    assert_eq!(machine.files(), start.files());
}

#[test]
fn leftovers_of_a_killed_write_are_swept() {
    let mut machine = Machine::in_tree();
    let start = machine.clone();
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    for path in [
        format!("{TREE}/weak-updates/openvswitch/.openvswitch.ko.pointsman.tmp"),
        format!("{TREE}/nsx/usr-ovs-kmod-backup/.openvswitch.ko.pointsman.tmp"),
        "/etc/depmod.d/.zz-pointsman-ovs.conf.pointsman.tmp".to_owned(),
    ] {
        machine.observed.files.insert(path, regular(Digest::of(b"half")));
    }
    machine.take(&machine.plan(Target::InTree, Activate::Reboot, None));
    assert_eq!(machine.files(), start.files());
}

/// Somebody removed the records: contents tell whose the files are.
#[test]
fn the_payloads_files_are_never_taken_for_the_users() {
    let mut machine = Machine::in_tree();
    let start = machine.clone();
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    let files = &mut machine.observed.files;
    files.retain(|path, _| !path.starts_with(&format!("{TREE}/nsx")) && !path.starts_with("/etc"));
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    let backup = format!("{TREE}/nsx/usr-ovs-kmod-backup/");
    assert!(!machine.observed.files.keys().any(|path| path.starts_with(&backup)));
    machine.take(&machine.plan(Target::InTree, Activate::Reboot, None));
    assert_eq!(machine.set(), ModuleState::InTree);
    let set = format!("{TREE}/weak-updates/openvswitch");
    machine.observed.files.retain(|path, _| *path != set && !set.starts_with(path.as_str()));
    assert_eq!(machine.files(), start.files());
}

#[test]
fn strangers_stay_and_are_named() {
    let mut machine = Machine::in_tree();
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    let stranger = format!("{TREE}/nsx/INFO");
    machine.observed.files.insert(stranger.clone(), regular(Digest::of(b"x")));
    let plan = machine.plan(Target::InTree, Activate::Reboot, None);
    assert!(plan.notes.iter().any(|note| note.contains(&stranger)), "{:?}", plan.notes);
    machine.take(&plan);
    assert!(machine.observed.files.contains_key(&stranger));
    assert!(machine.plan(Target::InTree, Activate::Reboot, None).is_empty());
}

#[test]
fn a_stale_or_damaged_index_is_written_anew() {
    let start = Machine::in_tree();
    for index in [Index::Missing, Index::Unreadable { why: "cut".into() }] {
        let mut machine = start.clone();
        machine.observed.modules.kernels[0].index = index;
        let plan = machine.plan(Target::InTree, Activate::Reboot, None);
        assert_eq!(plan.steps().count(), 2);
        machine.take(&plan);
        machine.assert_is(&start, "index");
    }
}

#[test]
fn vport_modules_leave_before_openvswitch_and_come_after_it() {
    let plan = Machine::in_tree().plan(Target::Payload, Activate::Live, None);
    let words: Vec<String> = plan
        .steps()
        .map(ToString::to_string)
        .filter(|words| words.starts_with("load ") || words.starts_with("unload "))
        .collect();
    assert_eq!(
        words,
        [
            "unload the module vport_geneve",
            "unload the module openvswitch",
            "load the module openvswitch",
            "load the module vport_geneve"
        ]
    );
}
