//! NSX's files in `updates/dkms`, where Debian and Ubuntu have modules, without a record of NCP's.

use super::bench::{Bench, differences, parts, without_index};
use pointsman_core::model::{MODULE_STEMS, ModuleState};
use pointsman_core::plan::modules::Target;
use std::fs;

/// NCP's own set there, which wins without an override.
fn ncps(bench: &Bench) {
    let home = bench.tree("updates/dkms");
    fs::create_dir_all(&home).unwrap();
    for stem in MODULE_STEMS {
        let file = format!("{stem}.ko");
        fs::copy(parts().vendor.join(&file), home.join(&file)).unwrap();
    }
    bench.depmod(&bench.kernel);
}

#[test]
fn they_do_not_win_over_the_kernels_own_and_come_back_with_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    ncps(&bench);
    assert_eq!(bench.set(), ModuleState::Nsx);
    assert_eq!(bench.modprobe_chooses("openvswitch"), "updates/dkms/openvswitch.ko");
    let start = without_index(bench.snapshot());
    let way_back = bench.checkpoint();
    bench.go(Target::InTree, None);
    assert_eq!(bench.set(), ModuleState::InTree);
    assert_eq!(bench.modprobe_chooses("openvswitch"), "kernel/net/openvswitch/openvswitch.ko");
    bench.go(Target::Before, Some(&way_back));
    assert_eq!(bench.set(), ModuleState::Nsx);
    assert_eq!(differences(&start, &without_index(bench.snapshot())), Vec::<String>::new());
}

#[test]
fn they_do_not_win_after_the_set_was_put_where_it_belongs() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    ncps(&bench);
    bench.go(Target::Payload, None);
    assert_eq!(bench.modprobe_chooses("vport-stt"), "weak-updates/openvswitch/vport-stt.ko");
    bench.go(Target::InTree, None);
    assert_eq!(bench.set(), ModuleState::InTree);
    assert_eq!(bench.modprobe_chooses("openvswitch"), "kernel/net/openvswitch/openvswitch.ko");
}

#[test]
fn the_users_files_of_the_backup_go_back_to_where_ncps_lie() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("updates/dkms");
    bench.depmod(&bench.kernel);
    let start = without_index(bench.snapshot());
    let (home, backup) = (bench.tree("updates/dkms"), bench.tree("nsx/usr-ovs-kmod-backup"));
    fs::create_dir_all(&backup).unwrap();
    for stem in MODULE_STEMS {
        let file = format!("{stem}.ko");
        fs::rename(home.join(&file), backup.join(&file)).unwrap();
    }
    ncps(&bench);
    bench.go(Target::InTree, None);
    assert_eq!(bench.set(), ModuleState::User);
    assert_eq!(differences(&start, &without_index(bench.snapshot())), Vec::<String>::new());
}
