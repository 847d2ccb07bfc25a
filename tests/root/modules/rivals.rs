//! Others who have a say in the module trees: packages, package managers, NCP.

use super::bench::{Bench, differences, run};
use super::footing::{assert_refused, put};
use pointsman_core::config::Settings;
use pointsman_core::decision::what_changed;
use pointsman_core::drift::rivals;
use pointsman_core::model::{Index, ModuleState};
use pointsman_core::plan::modules::{Target, plan_modules};
use std::fs;
use std::os::unix::fs::symlink;

const SET: &str = "weak-updates/openvswitch";

fn status(bench: &Bench, text: &str) {
    put(bench, "var/lib/dpkg/status", text);
}

#[test]
fn files_of_a_dpkg_package_are_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set(SET);
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    let tree = format!("/lib/modules/{}", bench.kernel);
    let list = "var/lib/dpkg/info/ovs-kmod:amd64.list";
    status(&bench, "1");
    // of the kernel's package, and beside the set: nobody touches them
    put(
        &bench,
        "var/lib/dpkg/info/linux-image.list",
        &format!("{tree}/kernel/net/openvswitch/openvswitch.ko\n"),
    );
    put(&bench, list, &format!("/.\n{tree}/extra/openvswitch.ko\n"));
    assert!(!bench.plan(Target::Payload, None).is_empty());
    // a host whose /lib leads into /usr
    put(&bench, list, &format!("/.\n/usr{tree}/{SET}/vport-gre.ko\n"));
    status(&bench, "12");
    assert_refused(&bench, Target::Payload, "OwnedByPackage", "the package ovs-kmod");
    assert_refused(&bench, Target::Payload, "OwnedByPackage", "vport-gre.ko");
    assert!(bench.plan(Target::InTree, None).is_empty(), "nothing is changed then");
    fs::remove_file(bench.at(list)).unwrap();
    status(&bench, "123");
    bench.go(Target::Payload, None);
    assert_eq!(bench.set(), ModuleState::Nsx);
}

/// A real database of rpm's, with a package that was installed there.
#[test]
fn files_of_an_rpm_package_are_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set(SET);
    bench.depmod(&bench.kernel);
    let work = tempfile::tempdir().unwrap();
    let spec = work.path().join("kmod.spec");
    let file = format!("/lib/modules/{}/{SET}/vport-gre.ko", bench.kernel);
    let text = format!(
        "Name: vendor-kmod\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n\
         %description\nx\n%install\nmkdir -p %{{buildroot}}$(dirname {file})\n\
         echo x > %{{buildroot}}{file}\n%files\n{file}\n"
    );
    fs::write(&spec, text).unwrap();
    let top = format!("_topdir {}", work.path().display());
    let raw = [
        "--define",
        &top,
        "--define",
        "__os_install_post %{nil}",
        "--define",
        "debug_package %{nil}",
    ];
    run("rpmbuild", &[&raw[..], &["-bb", "--quiet", spec.to_str().unwrap()]].concat());
    let package = work.path().join("RPMS/noarch/vendor-kmod-1-1.noarch.rpm");
    let root = bench.at("");
    let root = root.to_str().unwrap();
    fs::create_dir_all(bench.at("var/lib/rpm")).unwrap();
    run("rpm", &["--root", root, "--dbpath", "/var/lib/rpm", "--initdb"]);
    let before = bench.plan(Target::Payload, None);
    assert!(!before.is_empty(), "a database without a package of the set");
    let into = ["--root", root, "--dbpath", "/var/lib/rpm", "--justdb", "--nodeps", "-i"];
    run("rpm", &[&into[..], &[package.to_str().unwrap()]].concat());
    // a question changes nothing but what SQLite shares between processes
    let start = bench.snapshot();
    let refusal = bench.try_plan(Target::Payload, None).unwrap_err();
    assert_eq!(refusal.reason, "OwnedByPackage", "{refusal}");
    assert!(refusal.message.contains("the package vendor-kmod"), "{refusal}");
    let mut changed = differences(&start, &bench.snapshot());
    changed.retain(|line| !line.contains("rpmdb.sqlite-shm"));
    assert_eq!(changed, Vec::<String>::new());
}

#[test]
fn an_ncp_that_is_told_otherwise_is_not_worked_against() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let volume = "var/lib/kubelet/pods/1-2/volumes/kubernetes.io~configmap/config-volume";
    let tell = |word: &str| {
        let text = format!("[DEFAULT]\n[nsx_node_agent]\nuse_nsx_ovs_kernel_module = {word}\n");
        put(&bench, &format!("{volume}/..2026/ncp.ini"), &text);
    };
    tell("True");
    // as kubelet makes a volume: the file is a link, and so is what it leads through
    symlink("..2026", bench.at(&format!("{volume}/..data"))).unwrap();
    symlink("..data/ncp.ini", bench.at(&format!("{volume}/ncp.ini"))).unwrap();
    assert!(bench.plan(Target::InTree, None).is_empty(), "nothing to do asks nobody");
    bench.go(Target::Payload, None);
    assert_refused(&bench, Target::InTree, "IntentConflict", "use_nsx_ovs_kernel_module = True");
    tell("False");
    let notes = bench.plan(Target::Payload, None).notes;
    assert!(notes.iter().any(|note| note.starts_with("IntentConflict: ")), "{notes:?}");
    bench.go(Target::InTree, None);
}

#[test]
fn a_bootstrap_that_runs_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    put(&bench, "proc/77/comm", "python3\n");
    put(&bench, "proc/77/cmdline", "/usr/bin/python3\0/usr/local/bin/init_k8s_node\0");
    assert_refused(&bench, Target::Payload, "PackageManagerBusy", "nsx-ncp-bootstrap (process 77)");
}

#[test]
fn a_foreign_change_names_who_may_have_made_it() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.go(Target::Payload, None);
    let reached = bench.observe();
    assert_eq!(rivals(&reached, &bench.paths, &bench.kernel), Vec::<String>::new());
    // a package puts its own module into the place of the set, and has depmod run
    let mine = bench.tree(&format!("{SET}/openvswitch.ko"));
    fs::copy(bench.tree("kernel/net/openvswitch/openvswitch.ko"), &mine).unwrap();
    let list = format!("/lib/modules/{}/{SET}/openvswitch.ko\n", bench.kernel);
    put(&bench, "var/lib/dpkg/info/theirs.list", &list);
    status(&bench, "1");
    bench.depmod(&bench.kernel);
    let observed = bench.observe();
    assert!(matches!(observed.modules.kernels[0].index, Index::Present { .. }));
    let found = rivals(&observed, &bench.paths, &bench.kernel).join(", ");
    for word in ["the package theirs", "dpkg, which changed packages"] {
        assert!(found.contains(word), "{word} is not in {found}");
    }
    let settings = Settings::parse("[node]\nuplink = \"eth1\"\n").unwrap();
    let mut free = observed.clone();
    free.modules.footing.owned.clear();
    let plan = plan_modules(&bench.want(Target::Payload), &free, None, &bench.paths).unwrap();
    let words = what_changed(&settings, &observed, &plan);
    assert!(words.contains("likely by the package theirs"), "{words}");
}
