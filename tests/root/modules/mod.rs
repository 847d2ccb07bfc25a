//! The module switch on scratch trees with the real depmod, modprobe and modinfo.

mod bench;
mod broken;
mod copies;
mod exchange;
mod footing;
mod fuzz;
mod initramfs;
mod kernels;
mod killed;
mod labels;
mod rivals;
mod signature;

use bench::{Bench, differences, mount_memory, parts, run, without_index};
use pointsman::observe::modules::{IndexFile, module_facts};
use pointsman_core::config::{Activate, Paths};
use pointsman_core::model::{MODULE_STEMS, ModuleState, loaded_name};
use pointsman_core::plan::modules::{Target, Want, plan_modules, which_set};
use std::fs;
use std::os::unix::fs::symlink;

const OWN: [&str; 4] = ["openvswitch", "vport-geneve", "vport-gre", "vport-vxlan"];

fn assert_chosen(bench: &Bench, stems: &[&str], directory: &str) {
    for stem in stems {
        assert_eq!(bench.modprobe_chooses(stem), format!("{directory}/{stem}.ko"));
    }
}

/// There, twice, and back: each end seen by modprobe too, the tree as it was in the end.
fn there_and_back(bench: &Bench, state: ModuleState, before: &str, stems: &[&str]) {
    assert_eq!(bench.set(), state);
    assert_chosen(bench, stems, before);
    let start = bench.snapshot();
    bench.go(Target::Payload, None);
    assert_eq!(bench.set(), ModuleState::Nsx);
    assert_chosen(bench, &MODULE_STEMS, "weak-updates/openvswitch");
    bench.go(Target::InTree, None);
    assert_eq!(bench.set(), state);
    assert_chosen(bench, stems, before);
    assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
}

#[test]
fn from_the_kernels_own_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    there_and_back(&bench, ModuleState::InTree, "kernel/net/openvswitch", &OWN);
    assert!(!bench.tree("nsx").exists());
    assert!(!bench.at("etc/depmod.d").exists());
}

#[test]
fn from_the_users_own_in_the_same_place_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("weak-updates/openvswitch");
    fs::write(bench.tree("weak-updates/openvswitch/notes.txt"), "mine").unwrap();
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    there_and_back(&bench, ModuleState::User, "weak-updates/openvswitch", &MODULE_STEMS);
}

#[test]
fn the_users_files_lie_in_ncps_backup_meanwhile_and_do_not_win() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("weak-updates/openvswitch");
    bench.depmod(&bench.kernel);
    let start = bench.snapshot();
    bench.go(Target::Payload, None);
    assert_chosen(&bench, &MODULE_STEMS, "weak-updates/openvswitch");
    let there = bench.snapshot();
    for stem in MODULE_STEMS {
        let tree = format!("lib/modules/{}", bench.kernel);
        let backup = &there[&format!("{tree}/nsx/usr-ovs-kmod-backup/{stem}.ko")];
        let original = &start[&format!("{tree}/weak-updates/openvswitch/{stem}.ko")];
        assert_eq!(backup, original);
        assert!(bench.executor.store.join(&original.1).is_file(), "{stem} is not in the store");
    }
}

#[test]
fn a_red_hat_search_order_and_copies_elsewhere_do_not_win() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("extra/mine");
    bench.configure("dist.conf", "search updates extra built-in weak-updates\n");
    there_and_back(&bench, ModuleState::User, "extra/mine", &MODULE_STEMS);
}

#[test]
fn dkms_copies_do_not_win() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("updates/dkms");
    bench.depmod(&bench.kernel);
    there_and_back(&bench, ModuleState::User, "updates/dkms", &MODULE_STEMS);
}

/// What weak-modules makes: links into another directory, or another kernel's tree.
#[test]
fn links_lie_in_the_backup_meanwhile_and_are_put_back_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("extra/openvswitch");
    let set = bench.tree("weak-updates/openvswitch");
    fs::create_dir_all(&set).unwrap();
    let link = |stem: &str| format!("../../extra/openvswitch/{stem}.ko");
    for stem in MODULE_STEMS {
        symlink(link(stem), set.join(format!("{stem}.ko"))).unwrap();
    }
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    there_and_back(&bench, ModuleState::User, "weak-updates/openvswitch", &MODULE_STEMS);
    bench.go(Target::Payload, None);
    let backup = bench.tree("nsx/usr-ovs-kmod-backup");
    for stem in MODULE_STEMS {
        let file = format!("{stem}.ko");
        assert_eq!(fs::read_link(backup.join(&file)).unwrap().to_str().unwrap(), link(stem));
        assert!(fs::symlink_metadata(set.join(&file)).unwrap().is_file());
    }
    bench.go(Target::InTree, None);
    for stem in MODULE_STEMS {
        let file = set.join(format!("{stem}.ko"));
        assert_eq!(fs::read_link(file).unwrap().to_str().unwrap(), link(stem));
    }
}

/// What NCP leaves on Ubuntu: its set where the user's was, the user's in the backup with
/// a record of where it came from.
#[test]
fn files_go_back_to_where_ncps_record_says() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("updates/dkms");
    bench.depmod(&bench.kernel);
    let start = bench.snapshot();
    let (home, backup) = (bench.tree("updates/dkms"), bench.tree("nsx/usr-ovs-kmod-backup"));
    fs::create_dir_all(&backup).unwrap();
    let mut record = String::new();
    for stem in MODULE_STEMS {
        let file = format!("{stem}.ko");
        fs::rename(home.join(&file), backup.join(&file)).unwrap();
        fs::copy(parts().vendor.join(&file), home.join(&file)).unwrap();
        record += &format!("/lib/modules/{}/updates/dkms/{file}\n", bench.kernel);
    }
    fs::write(backup.join("INFO"), record).unwrap();
    bench.depmod(&bench.kernel);
    assert_eq!(bench.set(), ModuleState::Nsx);
    let (way_back, ncps) = (bench.checkpoint(), without_index(bench.snapshot()));
    bench.go(Target::Payload, None);
    assert_chosen(&bench, &MODULE_STEMS, "weak-updates/openvswitch");
    bench.go(Target::Before, Some(&way_back));
    assert_eq!(differences(&ncps, &without_index(bench.snapshot())), Vec::<String>::new());
    bench.go(Target::InTree, None);
    assert_eq!(bench.set(), ModuleState::User);
    assert_chosen(&bench, &MODULE_STEMS, "updates/dkms");
    assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
}

#[test]
fn our_backup_has_a_record_too() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("weak-updates/openvswitch");
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    let start = bench.snapshot();
    bench.go(Target::Payload, None);
    let record = fs::read_to_string(bench.tree("nsx/usr-ovs-kmod-backup/INFO")).unwrap();
    let line = format!("/lib/modules/{}/weak-updates/openvswitch/vport-stt.ko", bench.kernel);
    assert!(record.lines().any(|other| other == line), "{record}");
    bench.go(Target::InTree, None);
    assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
}

#[test]
fn strangers_in_the_nsx_directory_stay() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.go(Target::Payload, None);
    fs::write(bench.tree("nsx/usr-ovs-kmod-backup/INFO"), "not ours").unwrap();
    let plan = bench.plan(Target::InTree, None);
    assert!(plan.notes.iter().any(|note| note.contains("INFO")), "{plan}");
    bench.take(&plan);
    assert!(bench.plan(Target::InTree, None).is_empty());
    assert_eq!(bench.set(), ModuleState::InTree);
    assert!(bench.tree("nsx/usr-ovs-kmod-backup/INFO").exists());
}

/// The directory that stays must not make the user's files look like NCP's.
#[test]
fn strangers_do_not_cost_the_user_his_files() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("weak-updates/openvswitch");
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    bench.go(Target::Payload, None);
    fs::write(bench.tree("nsx/usr-ovs-kmod-backup/README"), "mine").unwrap();
    bench.go(Target::InTree, None);
    assert_eq!(bench.set(), ModuleState::User);
    let there = bench.snapshot();
    bench.go(Target::Payload, None);
    bench.go(Target::InTree, None);
    assert_eq!(differences(&there, &bench.snapshot()), Vec::<String>::new());
}

#[test]
fn a_stranger_that_depmod_would_index_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.go(Target::Payload, None);
    fs::create_dir(bench.tree("nsx/old")).unwrap();
    fs::copy(parts().user.join("openvswitch.ko"), bench.tree("nsx/old/openvswitch.ko")).unwrap();
    let start = bench.snapshot();
    let refusal = bench.try_plan(Target::InTree, None).unwrap_err();
    assert_eq!(refusal.reason, "CompetingCopy");
    assert!(refusal.message.contains("nsx/old/openvswitch.ko"), "{refusal}");
    assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
}

/// Killed behind each step, and inside the next write: the target and the way back. In
/// memory, where the hundreds of syncs cost nothing.
#[test]
fn every_crash_point_leads_to_the_target_and_back() {
    let directory = tempfile::tempdir().unwrap();
    mount_memory(directory.path(), 256);
    for (first, target) in [(None, Target::Payload), (Some(Target::Payload), Target::InTree)] {
        let inside = directory.path().join(format!("{target:?}"));
        let bench = Bench::new(&inside);
        bench.add_user_set("weak-updates/openvswitch");
        bench.configure("user.conf", "search weak-updates updates built-in\n");
        if let Some(first) = first {
            bench.go(first, None);
        }
        let start = without_index(bench.snapshot());
        let way_back = bench.checkpoint();
        let plan = bench.plan(target, None);
        bench.take(&plan);
        let done = without_index(bench.snapshot());
        bench.take(&bench.plan(Target::Before, Some(&way_back)));
        for cut in 0..plan.steps().count() {
            for (goal, end) in [(target, &done), (Target::Before, &start)] {
                for step in plan.steps().take(cut) {
                    bench.apply(step).unwrap();
                }
                let set = bench.tree("weak-updates/openvswitch");
                fs::write(set.join(".vport-stt.ko.pointsman.tmp"), "half").unwrap();
                bench.go(goal, Some(&way_back));
                let left = differences(end, &without_index(bench.snapshot()));
                assert_eq!(left, Vec::<String>::new(), "cut at {cut} to {goal:?}");
                if goal == target {
                    bench.take(&bench.plan(Target::Before, Some(&way_back)));
                }
            }
        }
    }
}

#[test]
fn two_kernels_share_one_override_file() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let other = "6.1.0-0+other";
    bench.add_kernel(other);
    let start = bench.snapshot();
    let go = |kernel: &str, target| {
        let want = Want { kernel: kernel.into(), target, activate: Activate::Reboot };
        let plan = || plan_modules(&want, &bench.observe(), None, &Paths::default()).unwrap();
        bench.take(&plan());
        assert!(plan().is_empty());
    };
    go(&bench.kernel, Target::Payload);
    go(other, Target::Payload);
    let set = |kernel: &str| which_set(&bench.observe(), &Paths::default(), kernel);
    assert_eq!((set(&bench.kernel), set(other)), (ModuleState::Nsx, ModuleState::Nsx));
    go(&bench.kernel, Target::InTree);
    assert_eq!((set(&bench.kernel), set(other)), (ModuleState::InTree, ModuleState::Nsx));
    // what a package of that kernel would do
    bench.depmod(other);
    assert_eq!(set(other), ModuleState::Nsx);
    go(other, Target::InTree);
    assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
}

#[test]
fn the_index_is_read_as_kmod_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let bytes = fs::read(bench.tree("modules.dep.bin")).unwrap();
    let index = IndexFile::parse(&bytes).unwrap();
    let text = fs::read_to_string(bench.tree("modules.dep")).unwrap();
    let mut names = 0;
    for line in text.lines() {
        let file = line.split(':').next().unwrap().rsplit('/').next().unwrap();
        let name = loaded_name(file.trim_end_matches(".ko"));
        assert_eq!(index.line(&name).unwrap(), Some(line.trim_end()), "{name}");
        names += 1;
    }
    assert!(names > 50, "a tree of {names} modules proves little");
    assert_eq!(index.names().unwrap().len(), names);
    assert_eq!(index.line("no_such_module").unwrap(), None);
}

#[test]
fn a_module_is_read_as_modinfo_reads_it() {
    let parts = parts();
    for set in [&parts.vendor, &parts.user, &parts.tree.join("kernel/net/openvswitch")] {
        for stem in OWN {
            let path = set.join(format!("{stem}.ko"));
            let path = path.to_str().unwrap();
            let facts = module_facts(&fs::read(path).unwrap());
            let modinfo = |field| {
                let text = run("modinfo", &["-F", field, path]);
                Some(text.trim_end_matches('\n').to_owned()).filter(|text| !text.is_empty())
            };
            assert_eq!(facts.fault, None);
            assert_eq!(facts.name, modinfo("name"));
            assert_eq!(facts.vermagic, modinfo("vermagic"));
            assert_eq!(facts.identity.version, modinfo("version"));
            assert_eq!(facts.depends.join(","), modinfo("depends").unwrap_or_default());
            let notes = run("readelf", &["-n", path]);
            let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
            assert_eq!(facts.identity.build_id.as_deref(), id);
        }
    }
}
