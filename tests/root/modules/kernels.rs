//! What is said of several installed kernels, against trees that the real depmod indexed.

use super::bench::{Bench, parts, run};
use pointsman::observe::boot_loader;
use pointsman_core::config::{ModulesChoice, Paths};
use pointsman_core::kernels::Kernels;
use pointsman_core::model::MODULE_STEMS;
use pointsman_core::plan::modules::Target;
use std::fs;

/// With a set of the payload's.
const OTHER: &str = "6.1.0-0+other";

fn kernels(bench: &Bench) -> Kernels {
    let mut observed = bench.observe();
    observed.boot_loader = Some(boot_loader::observe(&bench.executor.root, "/lib/modules"));
    Kernels::of(&observed, &Paths::default())
}

/// The annotation's line of a kernel, its release left out.
fn line(bench: &Bench, release: &str) -> String {
    let text = kernels(bench).annotation();
    let of = text.lines().find_map(|line| line.strip_prefix(&format!("{release} ")));
    of.unwrap_or_else(|| panic!("no {release} in:\n{text}")).to_owned()
}

fn image(bench: &Bench, release: &str) {
    fs::create_dir_all(bench.at("boot")).unwrap();
    fs::write(bench.at("boot").join(format!("vmlinuz-{release}")), "an image").unwrap();
}

/// The file that modprobe would load for openvswitch, where it would load any.
fn modprobe_chooses(bench: &Bench, release: &str) -> Option<String> {
    let root = bench.at("");
    let script = format!(
        "modprobe -d '{}' -S '{release}' --show-depends openvswitch 2>/dev/null | tail -n 1",
        root.display()
    );
    let shown = run("sh", &["-c", &script]);
    let path = shown.trim().split_once(&format!("/lib/modules/{release}/"))?.1;
    // it names what the index names, there or not
    let there = bench.at("lib/modules").join(release).join(path).exists();
    there.then(|| path.to_owned())
}

#[test]
fn each_kernel_is_told_as_modprobe_would_load_it() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let (running, bare, user, gone) =
        (bench.kernel.clone(), "6.1.0-2-bare", "6.1.0-3-user", "6.1.0-4-gone");
    for release in [OTHER, bare, user, gone] {
        bench.add_kernel(release);
    }
    for release in [&running, OTHER, bare, user] {
        image(&bench, release);
    }
    let tree = |release: &str| bench.at("lib/modules").join(release);
    fs::remove_dir_all(tree(bare).join("kernel/net/openvswitch")).unwrap();
    let dkms = tree(user).join("updates/dkms");
    fs::create_dir_all(&dkms).unwrap();
    for stem in MODULE_STEMS {
        let file = format!("{stem}.ko");
        fs::copy(parts().user.join(&file), dkms.join(&file)).unwrap();
    }
    [bare, user].iter().for_each(|release| bench.depmod(release));
    bench.go(Target::Payload, None);
    fs::create_dir_all(bench.at("boot/grub")).unwrap();
    let entry =
        |release: &str| format!("menuentry '{release}' {{\nlinux /boot/vmlinuz-{release}\n}}\n");
    fs::write(bench.at("boot/grub/grub.cfg"), format!("set default=\"0\"\n{}", entry(user)))
        .unwrap();

    for (release, said, place) in [
        (&*running, "ready=both set=nsx boot=running", Some("weak-updates/")),
        (OTHER, "ready=both set=in-tree", Some("kernel/")),
        (bare, "ready=neither set=none nsx=NoPayloadForKernel upstream=UpstreamMissing", None),
        (user, "ready=upstream set=user boot=next nsx=NoPayloadForKernel", Some("updates/dkms/")),
        (
            gone,
            "ready=neither set=in-tree boot=leftover nsx=KernelImageMissing \
             upstream=KernelImageMissing",
            Some("kernel/"),
        ),
    ] {
        assert_eq!(line(&bench, release), said, "{release}");
        let chosen = modprobe_chooses(&bench, release);
        assert_eq!(chosen.is_some(), place.is_some(), "{release}: {chosen:?}");
        let fits = chosen.zip(place).is_none_or(|(chosen, place)| chosen.starts_with(place));
        assert!(fits, "{release}");
    }
    let warned = kernels(&bench).warning(ModulesChoice::Payload).unwrap().message;
    assert!(warned.contains(user) && warned.contains("NoPayloadForKernel"), "{warned}");
    assert_eq!(kernels(&bench).warning(ModulesChoice::InTree), None);
}

/// What the ten steps that people take by hand leave: files deleted, and no depmod.
#[test]
fn an_index_that_names_deleted_files_loads_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let kernel = bench.kernel.clone();
    bench.go(Target::Payload, None);
    fs::remove_dir_all(bench.tree("weak-updates/openvswitch")).unwrap();
    let said = "ready=both set=none boot=running,next index=IndexStale";
    image(&bench, &kernel);
    assert_eq!(line(&bench, &kernel), said);
    assert_eq!(modprobe_chooses(&bench, &kernel), None);
    // and the planner puts it right, toward either set
    bench.go(Target::InTree, None);
    assert_eq!(line(&bench, &kernel), "ready=both set=in-tree boot=running,next");
    assert!(modprobe_chooses(&bench, &kernel).unwrap().starts_with("kernel/"));
}

/// A set that is staged for the kernel that boots next, from the one that runs.
#[test]
fn staging_the_next_kernel_takes_the_warning_away() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_kernel(OTHER);
    image(&bench, &bench.kernel);
    image(&bench, OTHER);
    std::os::unix::fs::symlink(format!("boot/vmlinuz-{OTHER}"), bench.at("vmlinuz")).unwrap();
    let warned = kernels(&bench).warning(ModulesChoice::Payload).unwrap().message;
    assert!(warned.contains(&format!("--to payload --kernel {OTHER}")), "{warned}");
    let mut want = bench.want(Target::Payload);
    want.kernel = OTHER.into();
    let plan = pointsman_core::plan::modules::plan_modules(
        &want,
        &bench.observe(),
        None,
        &Paths::default(),
    );
    bench.take(&plan.unwrap());
    assert_eq!(line(&bench, OTHER), "ready=both set=nsx boot=next");
    assert_eq!(line(&bench, &bench.kernel), "ready=both set=in-tree boot=running");
    assert_eq!(kernels(&bench).warning(ModulesChoice::Payload), None);
}
