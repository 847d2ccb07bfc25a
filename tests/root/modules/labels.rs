//! `SELinux` labels, owners and modes: as attributes on a real file system. Whether a policy
//! lets the kernel load what has them is not seen here.

use super::bench::{Bench, differences, label_of, set_label};
use pointsman_core::model::{MODULE_STEMS, ModuleState};
use pointsman_core::plan::modules::Target;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use walkdir::WalkDir;

const MODULES: &str = "system_u:object_r:modules_object_t:s0";
const MINE: &str = "user_u:object_r:mine_t:s0";

fn labelled(bench: &Bench) {
    for entry in WalkDir::new(bench.at("lib")) {
        set_label(entry.unwrap().path(), MODULES);
    }
}

fn of(bench: &Bench, inside: &str) -> String {
    label_of(&bench.tree(inside)).trim_end_matches('\0').to_owned()
}

#[test]
fn labels_owners_and_modes_go_with_the_files_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("weak-updates/openvswitch");
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    labelled(&bench);
    let (set, odd) = ("weak-updates/openvswitch", "weak-updates/openvswitch/vport-gre.ko");
    set_label(&bench.tree(odd), MINE);
    chown(bench.tree(odd), Some(7), Some(8)).unwrap();
    chown(bench.tree(set), Some(9), Some(10)).unwrap();
    fs::set_permissions(bench.tree(set), Permissions::from_mode(0o2750)).unwrap();
    let start = bench.snapshot();
    let way_back = bench.checkpoint();
    bench.go(Target::Payload, None);
    for stem in MODULE_STEMS {
        let expected = if stem == "vport-gre" { MINE } else { MODULES };
        assert_eq!(of(&bench, &format!("{set}/{stem}.ko")), expected, "{stem}");
    }
    let backup = "nsx/usr-ovs-kmod-backup/vport-gre.ko";
    assert_eq!(of(&bench, backup), MINE);
    let there = bench.snapshot();
    let entry = |inside: &str| there[&format!("lib/modules/{}/{inside}", bench.kernel)].clone();
    assert!(entry(odd).2.starts_with("0:0 "), "{:?}", entry(odd));
    assert!(entry(backup).2.starts_with("7:8 "), "{:?}", entry(backup));
    assert_eq!((entry(set).0 & 0o7777, &entry(set).2[..5]), (0o2750, "9:10 "));
    // by the files of the backup alone
    bench.go(Target::InTree, None);
    assert_eq!(bench.set(), ModuleState::User);
    assert_files_are(&bench, &start);
    // and by the checkpoint
    bench.go(Target::Payload, None);
    bench.go(Target::Before, Some(&way_back));
    assert_files_are(&bench, &start);
}

/// depmod writes its files anew, without a label: a policy's own business.
fn assert_files_are(bench: &Bench, start: &super::bench::Snapshot) {
    let without = super::bench::without_index;
    assert_eq!(
        differences(&without(start.clone()), &without(bench.snapshot())),
        Vec::<String>::new()
    );
}

/// One file goes alone where somebody else's lies beside it.
#[test]
fn file_by_file_they_are_set_before_the_rename_too() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("weak-updates/openvswitch");
    fs::write(bench.tree("weak-updates/openvswitch/notes.txt"), "mine").unwrap();
    labelled(&bench);
    chown(bench.tree("weak-updates/openvswitch/vport-stt.ko"), Some(7), Some(8)).unwrap();
    let start = bench.snapshot();
    for step in bench.plan(Target::Payload, None).steps() {
        bench.apply(step).unwrap();
        for entry in fs::read_dir(bench.tree("weak-updates/openvswitch")).unwrap() {
            let path = entry.unwrap().path();
            assert_ne!(label_of(&path), "", "{}: {step}", path.display());
        }
    }
    bench.go(Target::InTree, None);
    assert_files_are(&bench, &start);
}

#[test]
fn the_kernels_own_tell_the_label_where_the_user_had_no_set() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    labelled(&bench);
    let start = bench.snapshot();
    bench.go(Target::Payload, None);
    for stem in MODULE_STEMS {
        assert_eq!(of(&bench, &format!("weak-updates/openvswitch/{stem}.ko")), MODULES, "{stem}");
    }
    bench.go(Target::InTree, None);
    assert_files_are(&bench, &start);
}

/// What relabels files knows better than a neighbour, but not than the state to go back to.
#[test]
fn a_label_that_somebody_changed_is_put_right_while_the_way_back_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    labelled(&bench);
    let way_back = bench.checkpoint();
    bench.go(Target::Payload, None);
    let file = bench.tree("weak-updates/openvswitch/vport-stt.ko");
    set_label(&file, "system_u:object_r:tmp_t:s0");
    let label = |at: &Path| label_of(at).trim_end_matches('\0').to_owned();
    assert!(bench.plan(Target::Payload, None).is_empty());
    bench.go(Target::Payload, Some(&way_back));
    assert_eq!(label(&file), MODULES);
}
