//! The set changes as a whole where the file system can, and file by file where it cannot.

use super::OWN;
use super::bench::{Bench, differences, mount_memory, parts, run, without_index};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::mount::{MsFlags, mount};
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::{MODULE_STEMS, ModuleState};
use pointsman_core::plan::Step;
use pointsman_core::plan::modules::{Step as ModuleStep, Target};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const SET: &str = "weak-updates/openvswitch";

fn is_exchange(step: &Step) -> bool {
    matches!(step, Step::Modules(ModuleStep::Exchange { .. }))
}

/// A kernel with the user's own set where NCP puts its own.
fn with_user_set(directory: &Path) -> Bench {
    let bench = Bench::new(directory);
    bench.add_user_set(SET);
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    bench
}

/// What lies in the set's place, by name.
fn set_of(bench: &Bench) -> BTreeMap<String, (u32, String, String)> {
    let prefix = format!("lib/modules/{}/{SET}/", bench.kernel);
    let name = |(path, entry): (String, _)| Some((path.strip_prefix(&prefix)?.to_owned(), entry));
    bench.snapshot().into_iter().filter_map(name).collect()
}

fn there_and_back(bench: &Bench) {
    let start = without_index(bench.snapshot());
    bench.go(Target::Payload, None);
    assert_eq!(bench.set(), ModuleState::Nsx);
    let chosen = format!("{SET}/openvswitch.ko");
    assert_eq!(bench.modprobe_chooses("openvswitch"), chosen);
    bench.go(Target::InTree, None);
    assert_eq!(bench.set(), ModuleState::User);
    assert_eq!(differences(&start, &without_index(bench.snapshot())), Vec::<String>::new());
}

#[test]
fn between_any_two_steps_the_set_is_whole_and_nothing_else_can_be_indexed() {
    let directory = tempfile::tempdir().unwrap();
    mount_memory(directory.path(), 128);
    let bench = with_user_set(directory.path());
    for target in [Target::Payload, Target::InTree] {
        let plan = bench.plan(target, None);
        assert_eq!(plan.steps().filter(|step| is_exchange(step)).count(), 1, "{plan}");
        let old = set_of(&bench);
        let mut exchanged = None;
        for step in plan.steps() {
            bench.apply(step).unwrap();
            let set = set_of(&bench);
            if is_exchange(step) {
                assert_eq!(set.len(), MODULE_STEMS.len());
                assert!(MODULE_STEMS.iter().all(|stem| {
                    let file = format!("{stem}.ko");
                    set[&file].1 != old[&file].1
                }));
                exchanged = Some(set);
                continue;
            }
            assert_eq!(set, *exchanged.as_ref().unwrap_or(&old), "{step}");
            if matches!(
                step,
                Step::Modules(ModuleStep::Put { .. } | ModuleStep::MakeStaging { .. })
            ) {
                // whoever runs depmod now
                bench.depmod(&bench.kernel);
                let index = fs::read_to_string(bench.tree("modules.dep")).unwrap();
                assert!(!index.contains("pointsman"), "{step}");
            }
        }
    }
}

/// Its owner may be writing it: no copy of ours is the file that he has open.
#[test]
fn a_file_of_somebody_elses_is_not_carried_along() {
    let directory = tempfile::tempdir().unwrap();
    let bench = with_user_set(directory.path());
    let strangers = bench.tree(&format!("{SET}/notes.txt"));
    fs::write(&strangers, "mine").unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&strangers).unwrap());
    let before = inode();
    assert!(!bench.plan(Target::Payload, None).steps().any(is_exchange));
    there_and_back(&bench);
    assert_eq!(inode(), before);
}

#[test]
fn a_file_that_comes_behind_the_plan_is_not_carried_away() {
    let directory = tempfile::tempdir().unwrap();
    let bench = with_user_set(directory.path());
    let way_back = bench.checkpoint();
    let strangers = bench.tree(&format!("{SET}/e1000.ko"));
    let plan = bench.plan(Target::Payload, None);
    let mut failed = None;
    for step in plan.steps() {
        if is_exchange(step) {
            fs::write(&strangers, "somebody's").unwrap();
        }
        failed = bench.apply(step).err();
        if failed.is_some() {
            break;
        }
    }
    let error = failed.expect("the exchange to fail");
    assert_eq!(error.reason(), "ContentMismatch", "{}", chain(&error));
    assert!(chain(&error).contains("e1000.ko"), "{}", chain(&error));
    assert_eq!(fs::read_to_string(&strangers).unwrap(), "somebody's");
    fs::remove_file(&strangers).unwrap();
    bench.go(Target::Before, Some(&way_back));
    assert_eq!(bench.set(), ModuleState::User);
    assert_no_leftover(&bench);
}

fn assert_no_leftover(bench: &Bench) {
    let left: Vec<String> =
        bench.snapshot().into_keys().filter(|path| path.contains("pointsman.tmp")).collect();
    assert_eq!(left, Vec::<String>::new());
}

fn exchange_of(bench: &Bench, one: &Path, other: &Path) -> Result<(), Errno> {
    let (one, other) = (bench.tree(one.to_str().unwrap()), bench.tree(other.to_str().unwrap()));
    renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE)
}

/// Mounts the scratch root as the lower layer of an overlay over itself.
fn cover(directory: &Path) {
    let [root, upper, work] = ["root", "upper", "work"].map(|name| directory.join(name));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let [lower, up, aside] = [&root, &upper, &work].map(|path| path.display().to_string());
    let options = format!("lowerdir={lower},upperdir={up},workdir={aside},redirect_dir=off");
    let flags = MsFlags::empty();
    mount(Some("overlay"), &root, Some("overlay"), flags, Some(options.as_str())).unwrap();
}

#[test]
fn on_an_overlay_the_files_go_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    mount_memory(directory.path(), 192);
    let bench = with_user_set(directory.path());
    cover(directory.path());
    let own = Path::new("kernel/net/openvswitch");
    assert_eq!(exchange_of(&bench, Path::new(SET), own), Err(Errno::EXDEV));
    there_and_back(&bench);
    assert_no_leftover(&bench);
}

/// Crashed behind each of the files that go one by one.
#[test]
fn a_crash_in_the_middle_of_them_leads_on_and_back() {
    let directory = tempfile::tempdir().unwrap();
    mount_memory(directory.path(), 192);
    let bench = with_user_set(directory.path());
    cover(directory.path());
    let start = without_index(bench.snapshot());
    let way_back = bench.checkpoint();
    let plan = bench.plan(Target::Payload, None);
    for (count, goal) in [(1, Target::Before), (3, Target::Payload), (5, Target::Before)] {
        plan.steps()
            .take_while(|step| !is_exchange(step))
            .for_each(|step| bench.apply(step).unwrap());
        for stem in &MODULE_STEMS[..count] {
            let file = format!("{stem}.ko");
            fs::copy(parts().vendor.join(&file), bench.tree(SET).join(&file)).unwrap();
        }
        fs::write(bench.tree(&format!("{SET}/.vport-stt.ko.pointsman.tmp")), "half").unwrap();
        bench.go(goal, Some(&way_back));
        assert_no_leftover(&bench);
        let set = if goal == Target::Before { ModuleState::User } else { ModuleState::Nsx };
        assert_eq!(bench.set(), set);
        bench.take(&bench.plan(Target::Before, Some(&way_back)));
        assert_eq!(differences(&start, &without_index(bench.snapshot())), Vec::<String>::new());
    }
}

#[test]
fn a_kernels_tree_on_a_mount_of_its_own_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    mount_memory(directory.path(), 64);
    let bench = with_user_set(directory.path());
    let tree = bench.tree("");
    let aside = directory.path().join("aside");
    run("cp", &["-a", tree.to_str().unwrap(), aside.to_str().unwrap()]);
    mount(Some("tmpfs"), &tree, Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
    run("cp", &["-aT", aside.to_str().unwrap(), tree.to_str().unwrap()]);
    there_and_back(&bench);
    assert_no_leftover(&bench);
}

/// The user's set may be compressed: it comes back bit for bit. Debian's depmod was built
/// without zlib and passes over .gz: there they tie with the kernel's own of four names.
#[test]
fn compressed_sets_go_and_come_back_whole() {
    for (tool, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let directory = tempfile::tempdir().unwrap();
        mount_memory(directory.path(), 64);
        let bench = Bench::new(directory.path());
        bench.add_user_set(SET);
        for stem in MODULE_STEMS {
            let file = bench.tree(&format!("{SET}/{stem}.ko"));
            if suffix == "gz" && !OWN.contains(&stem) {
                fs::remove_file(file).unwrap();
                continue;
            }
            run(tool, &["-q", file.to_str().unwrap()]);
            drop(fs::remove_file(file));
        }
        bench.depmod(&bench.kernel);
        let (start, before) = (without_index(bench.snapshot()), bench.set());
        let plan = bench.plan(Target::Payload, None);
        assert_eq!(plan.steps().filter(|step| is_exchange(step)).count(), 1, "{suffix}");
        bench.go(Target::Payload, None);
        assert_eq!(bench.set(), ModuleState::Nsx, "{suffix}");
        assert_eq!(bench.modprobe_chooses("vport-gre"), format!("{SET}/vport-gre.ko"));
        let kept = format!("nsx/usr-ovs-kmod-backup/vport-gre.ko.{suffix}");
        assert!(bench.tree(&kept).is_file(), "{suffix}");
        bench.go(Target::InTree, None);
        assert_eq!(bench.set(), before, "{suffix}");
        let left = differences(&start, &without_index(bench.snapshot()));
        assert_eq!(left, Vec::<String>::new(), "{suffix}");
    }
}
