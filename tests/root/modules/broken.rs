//! Damage and failure: each is an error with a reason, and the tree stays or comes back.

use super::bench::{Bench, differences, mount_memory, parts, without_index};
use pointsman::observe::modules::module_facts;
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::{Digest, Identity, Index, ModuleState};
use pointsman_core::plan::Step;
use pointsman_core::plan::modules::{Step as ModuleStep, Target, plan_modules};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

#[test]
fn a_damaged_payload_is_refused_before_anything_changes() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let start = bench.snapshot();
    let file = bench.payload_file("vport-gre");
    let whole = fs::read(&file).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole[..64], &[]] {
        fs::write(&file, damaged).unwrap();
        let refusal = bench.try_plan(Target::Payload, None).unwrap_err();
        assert_eq!(refusal.reason, "PayloadCorrupt", "{refusal}");
        // and where the manifest was made from the damaged file
        let mut manifest = bench.manifest(&[&bench.kernel]);
        manifest.modules[0].files.get_mut("vport-gre").unwrap().sha256 = Digest::of(damaged);
        let observed = bench.observe_with(manifest);
        let want = bench.want(Target::Payload);
        let refusal = plan_modules(&want, &observed, None, &bench.paths).unwrap_err();
        assert_eq!(refusal.reason, "PayloadCorrupt", "{refusal}");
        assert!(refusal.message.contains("no kernel module"), "{refusal}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(bench.try_plan(Target::Payload, None).unwrap_err().reason, "PayloadCorrupt");
    assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
}

#[test]
fn a_payload_that_changes_behind_the_plan_is_not_installed() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let plan = bench.plan(Target::Payload, None);
    fs::write(bench.payload_file("openvswitch"), "other").unwrap();
    let failed = plan.steps().find_map(|step| bench.apply(step).err()).unwrap();
    assert_eq!(failed.reason(), "ContentMismatch", "{}", chain(&failed));
    assert!(!bench.tree("weak-updates/openvswitch/openvswitch.ko").exists());
}

#[test]
fn no_cut_of_a_module_is_a_panic() {
    let whole = fs::read(parts().vendor.join("vport-gre.ko")).unwrap();
    for end in (0..whole.len()).step_by(97) {
        drop(module_facts(&whole[..end]));
    }
    for at in (0..whole.len()).step_by(53) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        drop(module_facts(&bytes));
    }
}

#[test]
fn a_damaged_index_is_told_and_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let start = bench.snapshot();
    let at = bench.tree("modules.dep.bin");
    let whole = fs::read(&at).unwrap();
    let cut = &whole[..whole.len() / 2];
    for garbled in [&b""[..], b"garbage that is longer than a header", cut] {
        fs::write(&at, garbled).unwrap();
        let observed = bench.observe();
        let index = &observed.modules.kernel(&bench.kernel).unwrap().index;
        assert!(matches!(index, Index::Unreadable { .. }), "{index:?}");
        assert_eq!(bench.set(), ModuleState::None);
        let check = Step::Modules(ModuleStep::CheckIndex {
            kernel: bench.kernel.clone(),
            modules: "/lib/modules".into(),
            expect: BTreeMap::new(),
            depends: BTreeMap::new(),
        });
        let error = bench.apply(&check).unwrap_err();
        assert_eq!(error.reason(), "IndexUnreadable", "{}", chain(&error));
        bench.go(Target::InTree, None);
        assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
    }
}

#[test]
fn an_index_that_chooses_otherwise_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let plan = bench.plan(Target::Payload, None);
    let mut failed = None;
    for step in plan.steps() {
        // somebody's configuration arrives behind ours, and the index is made by it
        if matches!(step, Step::Modules(ModuleStep::CheckIndex { .. })) {
            bench.configure("zzz.conf", "override vport-gre * kernel/net/openvswitch\n");
        }
        failed = bench.apply(step).err();
    }
    let error = failed.expect("the check to fail");
    assert_eq!(error.reason(), "IndexMismatch");
    assert!(chain(&error).contains("kernel/net/openvswitch/vport-gre.ko"), "{}", chain(&error));
}

#[test]
fn a_set_that_needs_what_the_kernel_lacks_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    fs::remove_file(bench.tree("kernel/net/nsh/nsh.ko")).unwrap();
    let plan = bench.plan(Target::Payload, None);
    let failed = plan.steps().find_map(|step| bench.apply(step).err()).unwrap();
    assert_eq!(failed.reason(), "DependencyMissing", "{}", chain(&failed));
    assert!(chain(&failed).contains("no module nsh"), "{}", chain(&failed));
}

/// depmod says so and ends with 0.
#[test]
fn a_complaint_of_depmod_fails_the_step() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    fs::create_dir_all(bench.tree("extra")).unwrap();
    let whole = fs::read(parts().vendor.join("vport-gre.ko")).unwrap();
    fs::write(bench.tree("extra/half.ko"), &whole[..whole.len() / 2]).unwrap();
    let plan = bench.plan(Target::Payload, None);
    let failed = plan.steps().find_map(|step| bench.apply(step).err()).unwrap();
    assert_eq!(failed.reason(), "DepmodFailed", "{}", chain(&failed));
    assert!(chain(&failed).contains("half.ko"), "{}", chain(&failed));
}

#[test]
fn a_full_disk_fails_depmod_and_the_way_back_works() {
    let directory = tempfile::tempdir().unwrap();
    mount_memory(directory.path(), 64);
    let bench = Bench::new(directory.path());
    let way_back = bench.checkpoint();
    let start = without_index(bench.snapshot());
    let plan = bench.plan(Target::Payload, None);
    let filler = directory.path().join("filler");
    let mut failed = None;
    for step in plan.steps() {
        if matches!(step, Step::Modules(ModuleStep::RunDepmod { .. })) {
            let mut file = fs::File::create(&filler).unwrap();
            while file.write_all(&[0; 4096]).is_ok() {}
        }
        if let Err(error) = bench.apply(step) {
            failed = Some(error);
            break;
        }
    }
    let error = failed.expect("depmod to fail on a full disk");
    assert!(
        ["HostToolFailed", "DepmodFailed", "IndexUnreadable"].contains(&error.reason()),
        "{}",
        chain(&error)
    );
    fs::remove_file(&filler).unwrap();
    bench.go(Target::Before, Some(&way_back));
    assert_eq!(bench.set(), ModuleState::InTree);
    let left = differences(&start, &without_index(bench.snapshot()));
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_scratch_tree_neither_loads_nor_unloads() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let name = || "openvswitch".to_owned();
    for step in [
        ModuleStep::UnloadModule { name: name() },
        ModuleStep::LoadModule { name: name(), expect: Vec::new() },
    ] {
        let error = bench.apply(&Step::Modules(step)).unwrap_err();
        assert_eq!(error.reason(), "ScratchRoot");
    }
}

#[test]
fn the_loaded_module_is_known_by_its_build() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let sys = bench.at("sys/module/openvswitch");
    fs::create_dir_all(sys.join("notes")).unwrap();
    fs::create_dir_all(sys.join("holders/vport_gre")).unwrap();
    fs::write(sys.join("initstate"), "live\n").unwrap();
    fs::write(sys.join("refcnt"), "1\n").unwrap();
    let note = [&[4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0\xbb\x00"].concat();
    fs::write(sys.join("notes/.note.gnu.build-id"), note).unwrap();
    let check = |identity: Identity| {
        let (name, expect) = ("openvswitch".into(), vec![identity]);
        let step = Step::Modules(ModuleStep::CheckLoaded { name, expect });
        bench.apply(&step).map_err(|error| error.reason())
    };
    let build = |id: &str| Identity { build_id: Some(id.into()), ..Identity::default() };
    assert_eq!(check(build("bb00")), Ok(()));
    assert_eq!(check(build("bb01")), Err("LoadedModuleMismatch"));
    let version = Identity { version: Some("2.17".into()), ..Identity::default() };
    assert_eq!(check(version), Err("IdentityUnproven"));
    let held = |holders: &[&str]| {
        let holders = holders.iter().map(|name| (*name).to_owned()).collect();
        let step = Step::Modules(ModuleStep::CheckUnheld { name: "openvswitch".into(), holders });
        bench.apply(&step).map_err(|error| error.reason())
    };
    assert_eq!(held(&["vport_gre"]), Ok(()));
    assert_eq!(held(&[]), Err("ModuleInUse"));
    fs::write(sys.join("refcnt"), "2\n").unwrap();
    assert_eq!(held(&["vport_gre"]), Err("ModuleInUse"));
    fs::write(sys.join("initstate"), "going\n").unwrap();
    assert_eq!(held(&["vport_gre"]), Err("ModuleStuck"));
}
