//! What a set would stand on: each reason to refuse, made on a tree and seen by the plan,
//! with nothing changed.

use super::bench::{Bench, differences, mount_memory, parts, run};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::mount::{MsFlags, mount};
use pointsman::observe::modules::{module_facts, symbols};
use pointsman_core::model::{Digest, MODULE_STEMS, ModuleState};
use pointsman_core::payload::Manifest;
use pointsman_core::plan::Refusal;
use pointsman_core::plan::modules::{Target, plan_modules, readiness};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Refused with a reason and a word, by the plan and by the readiness alike; nothing changed.
pub fn assert_refused(bench: &Bench, target: Target, reason: &str, word: &str) {
    let start = bench.snapshot();
    let observed = bench.observe();
    let refusal = plan_modules(&bench.want(target), &observed, None, &bench.paths).unwrap_err();
    assert_eq!(refusal.reason, reason, "{refusal}");
    assert!(refusal.message.contains(word), "{refusal}");
    let all = readiness(&observed, &bench.paths, &bench.kernel, target);
    if refusal.transient {
        assert_eq!(all, Ok(()), "a reason of the moment says nothing of the kernel");
    } else {
        assert!(all.unwrap_err().contains(&refusal), "{refusal}");
    }
    assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
}

pub fn put(bench: &Bench, inside: &str, contents: &str) {
    let at = bench.at(inside);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, contents).unwrap();
}

/// The manifest of the payload as it lies there.
fn manifest_of(bench: &Bench) -> Manifest {
    let mut manifest = bench.manifest(&[&bench.kernel]);
    for (stem, file) in &mut manifest.modules[0].files {
        file.sha256 = Digest::of(&fs::read(bench.payload_file(stem)).unwrap());
    }
    manifest
}

/// Rewrites a section of a payload's module.
fn rewrite(bench: &Bench, stem: &str, section: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let module = bench.payload_file(stem);
    let part = bench.at("section");
    let (path, part_path) = (module.to_str().unwrap(), part.to_str().unwrap());
    run("objcopy", &["--dump-section", &format!("{section}={part_path}"), path, "/dev/null"]);
    fs::write(&part, change(fs::read(&part).unwrap())).unwrap();
    run("objcopy", &["--update-section", &format!("{section}={part_path}"), path]);
    fs::remove_file(part).unwrap();
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("what is replaced");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

pub fn refusal_of(bench: &Bench) -> Result<Vec<String>, Refusal> {
    let observed = bench.observe_with(manifest_of(bench));
    let want = bench.want(Target::Payload);
    plan_modules(&want, &observed, None, &bench.paths).map(|plan| plan.notes)
}

/// All that the kernel's modules need, as `Module.symvers` would list it.
fn symvers(bench: &Bench) -> String {
    let mut text = String::new();
    for stem in ["openvswitch", "vport-geneve", "vport-gre", "vport-vxlan"] {
        let file = bench.tree(&format!("kernel/net/openvswitch/{stem}.ko"));
        for (name, crc) in symbols(&fs::read(file).unwrap()).unwrap().needs {
            writeln!(text, "{crc:#010x}\t{name}\tvmlinux\tEXPORT_SYMBOL_GPL\t").unwrap();
        }
    }
    text
}

#[test]
fn compressed_modules_are_read_as_plain_ones_and_switched() {
    for (tool, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let directory = tempfile::tempdir().unwrap();
        let bench = Bench::new(directory.path());
        let own = bench.tree("kernel/net/openvswitch");
        let plain = module_facts(&fs::read(own.join("openvswitch.ko")).unwrap());
        for entry in fs::read_dir(&own).unwrap() {
            let path = entry.unwrap().path();
            run(tool, &["-q", path.to_str().unwrap()]);
            drop(fs::remove_file(path));
        }
        let packed = fs::read(own.join(format!("openvswitch.ko.{suffix}"))).unwrap();
        assert_eq!(module_facts(&packed), plain, "{suffix}");
        for end in (0..packed.len()).step_by(packed.len() / 40) {
            assert!(module_facts(&packed[..end]).fault.is_some(), "{suffix} cut at {end}");
        }
        bench.depmod(&bench.kernel);
        let known = fs::read_to_string(bench.tree("modules.dep")).unwrap();
        if !known.contains("openvswitch.ko.") {
            // Debian's depmod was built without zlib
            assert_eq!(suffix, "gz");
            continue;
        }
        let start = bench.snapshot();
        assert_eq!(bench.set(), ModuleState::InTree, "{suffix}");
        bench.go(Target::Payload, None);
        assert_eq!(bench.set(), ModuleState::Nsx);
        assert_eq!(
            bench.modprobe_chooses("openvswitch"),
            "weak-updates/openvswitch/openvswitch.ko"
        );
        bench.go(Target::InTree, None);
        let chosen = format!("kernel/net/openvswitch/openvswitch.ko.{suffix}");
        assert_eq!(bench.modprobe_chooses("openvswitch"), chosen);
        assert_eq!(differences(&start, &bench.snapshot()), Vec::<String>::new());
    }
}

#[test]
fn a_symbol_of_another_kernel_is_named_before_anything_changes() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let needs = symbols(&fs::read(bench.payload_file("openvswitch")).unwrap()).unwrap().needs;
    assert!(needs.len() > 50, "{needs:?}");
    assert_eq!(refusal_of(&bench), Ok(Vec::new()), "the set as it was built");
    let layout = needs["module_layout"];
    rewrite(&bench, "openvswitch", "__versions", |bytes| {
        replaced(&bytes, &layout.to_le_bytes(), &(layout ^ 1).to_le_bytes())
    });
    let by_modules = refusal_of(&bench).unwrap_err();
    let symvers = symvers(&bench);
    put(&bench, &format!("lib/modules/{}/build/Module.symvers", bench.kernel), &symvers);
    let by_list = refusal_of(&bench).unwrap_err();
    for (refusal, witness) in [(by_modules, "own modules"), (by_list, "Module.symvers")] {
        assert_eq!(refusal.reason, "AbiMismatch", "{refusal}");
        for word in ["module_layout", "openvswitch", witness] {
            assert!(refusal.message.contains(word), "{refusal}");
        }
    }
}

#[test]
fn a_list_that_lacks_a_symbol_refuses_and_modules_that_lack_it_only_tell() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let (symvers, path) = (symvers(&bench), format!("boot/symvers-{}.gz", bench.kernel));
    let without: String = symvers.lines().filter(|line| !line.contains("\tnsh_push\t")).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    );
    assert!(without.len() < symvers.len());
    let plain = path.trim_end_matches(".gz");
    put(&bench, plain, &without);
    run("gzip", &[bench.at(plain).to_str().unwrap()]);
    let refusal = refusal_of(&bench).unwrap_err();
    assert_eq!(refusal.reason, "AbiMismatch");
    assert!(refusal.message.contains("nsh_push"), "{refusal}");
    assert!(refusal.message.contains(".gz"), "{refusal}");
    fs::remove_file(bench.at(&path)).unwrap();
    fs::remove_file(bench.tree("kernel/net/openvswitch/openvswitch.ko")).unwrap();
    let notes = refusal_of(&bench).unwrap();
    assert!(notes.iter().any(|note| note.starts_with("AbiUnproven: ")), "{notes:?}");
}

/// With modversions the kernel passes over the release and compares the checksums.
#[test]
fn a_set_of_another_release_is_taken_where_every_symbol_is_proven() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    for stem in MODULE_STEMS {
        rewrite(&bench, stem, ".modinfo", |bytes| {
            replaced(&bytes, b"vermagic=6.1.", b"vermagic=6.9.")
        });
    }
    let symvers = symvers(&bench);
    assert_eq!(refusal_of(&bench), Ok(Vec::new()));
    fs::remove_file(bench.tree("kernel/net/openvswitch/openvswitch.ko")).unwrap();
    let refusal = refusal_of(&bench).unwrap_err();
    assert_eq!(refusal.reason, "AbiUnproven", "{refusal}");
    put(&bench, &format!("usr/src/linux-headers-{}/Module.symvers", bench.kernel), &symvers);
    assert_eq!(refusal_of(&bench), Ok(Vec::new()));
    rewrite(&bench, "vport-gre", ".modinfo", |bytes| {
        replaced(&bytes, b" modversions ", b" mysteriouss ")
    });
    assert_eq!(refusal_of(&bench).unwrap_err().reason, "VermagicMismatch");
}

#[test]
fn a_set_whose_modules_are_of_two_builds_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let needs = symbols(&fs::read(bench.payload_file("vport-gre")).unwrap()).unwrap().needs;
    let own = needs["ovs_netdev_tunnel_destroy"];
    rewrite(&bench, "vport-gre", "__versions", |bytes| {
        replaced(&bytes, &own.to_le_bytes(), &(own ^ 1).to_le_bytes())
    });
    let refusal = refusal_of(&bench).unwrap_err();
    assert_eq!(refusal.reason, "AbiMismatch");
    assert!(refusal.message.contains("ovs_netdev_tunnel_destroy (vport-gre"), "{refusal}");
}

#[test]
fn unsigned_modules_and_kernels_that_take_signed_ones_only() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let enforce = "sys/module/module/parameters/sig_enforce";
    put(&bench, enforce, "Y\n");
    assert_refused(&bench, Target::Payload, "SignatureRejected", "sig_enforce");
    put(&bench, enforce, "N\n");
    let config = format!("boot/config-{}", bench.kernel);
    put(&bench, &config, "CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_FORCE=y\n");
    assert_refused(&bench, Target::Payload, "SignatureRejected", "CONFIG_MODULE_SIG_FORCE");
    put(&bench, &config, "# CONFIG_MODULE_SIG_FORCE is not set\n");
    put(&bench, "sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    assert_refused(&bench, Target::Payload, "LockedDown", "integrity");
    for stem in MODULE_STEMS {
        let mut bytes = fs::read(bench.payload_file(stem)).unwrap();
        bytes.extend(*b"PKCS#7~Module signature appended~\n");
        fs::write(bench.payload_file(stem), bytes).unwrap();
    }
    assert_eq!(refusal_of(&bench), Ok(Vec::new()), "signed modules are the kernel's to judge");
}

#[test]
fn lines_that_keep_modprobe_from_loading() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    put(&bench, "etc/modprobe.d/a.conf", "blacklist vport_stt\n");
    let plan = bench.plan(Target::Payload, None);
    assert!(plan.notes.iter().any(|note| note.contains("vport_stt")), "{:?}", plan.notes);
    put(&bench, "etc/modprobe.d/b.conf", "install openvswitch /bin/true\n");
    assert_refused(&bench, Target::Payload, "ModprobeOverridden", "/etc/modprobe.d/b.conf");
    assert_refused(&bench, Target::InTree, "ModprobeOverridden", "/bin/true");
    fs::remove_file(bench.at("etc/modprobe.d/b.conf")).unwrap();
    put(&bench, "proc/cmdline", "quiet module_blacklist=vport-geneve\n");
    assert_refused(&bench, Target::Payload, "ModprobeOverridden", "/proc/cmdline");
}

#[test]
fn a_package_manager_at_work_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    put(&bench, "var/lib/dpkg/lock-frontend", "");
    let lock = fs::OpenOptions::new().write(true).open(bench.at("var/lib/dpkg/lock-frontend"));
    let lock = lock.unwrap();
    // as dpkg takes it: a lock of a process
    let mut wanted = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&lock, FcntlArg::F_SETLK(&wanted)).unwrap();
    let own = std::process::id().to_string();
    let refusal = bench.try_plan(Target::Payload, None).unwrap_err();
    assert_eq!((refusal.reason, refusal.transient), ("PackageManagerBusy", true), "{refusal}");
    for word in [own.as_str(), "/var/lib/dpkg/lock-frontend"] {
        assert!(refusal.message.contains(word), "{refusal}");
    }
    assert!(bench.plan(Target::InTree, None).is_empty(), "nothing to do waits for nobody");
    let observed = bench.observe();
    assert_eq!(readiness(&observed, &bench.paths, &bench.kernel, Target::Payload), Ok(()));
    wanted.l_type = libc::F_UNLCK as i16;
    fcntl(&lock, FcntlArg::F_SETLK(&wanted)).unwrap();
    bench.go(Target::Payload, None);
}

#[test]
fn hosts_whose_trees_are_not_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    put(&bench, "etc/os-release", "NAME=Bottlerocket\nID=bottlerocket\n");
    assert_refused(&bench, Target::Payload, "HostReadOnly", "bottlerocket");
    fs::remove_file(bench.at("etc/os-release")).unwrap();
    put(&bench, "run/ostree-booted", "");
    assert_refused(&bench, Target::InTree, "HostReadOnly", "ostree");
    fs::remove_file(bench.at("run/ostree-booted")).unwrap();
    let own = bench.tree("kernel/net/openvswitch");
    fs::rename(&own, bench.tree("kernel/net/elsewhere")).unwrap();
    symlink("elsewhere", &own).unwrap();
    assert_refused(&bench, Target::Payload, "PathNotCanonical", "elsewhere");
    fs::remove_file(&own).unwrap();
    fs::rename(bench.tree("kernel/net/elsewhere"), &own).unwrap();
    let modules = bench.at("lib/modules");
    fs::rename(&modules, bench.at("opt")).unwrap();
    symlink("/opt", &modules).unwrap();
    assert_refused(&bench, Target::Payload, "PathNotCanonical", "/opt");
}

#[test]
fn lib_may_be_a_link_into_usr() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    fs::create_dir(bench.at("usr")).unwrap();
    fs::rename(bench.at("lib"), bench.at("usr/lib")).unwrap();
    symlink("usr/lib", bench.at("lib")).unwrap();
    bench.go(Target::Payload, None);
    assert_eq!(bench.set(), ModuleState::Nsx);
}

#[test]
fn a_read_only_file_system_and_a_full_one() {
    let directory = tempfile::tempdir().unwrap();
    mount_memory(directory.path(), 64);
    let bench = Bench::new(directory.path());
    let filler = directory.path().join("filler");
    let free = nix::sys::statvfs::statvfs(directory.path()).unwrap();
    let free = free.blocks_available() * free.fragment_size();
    fs::write(&filler, vec![1; usize::try_from(free).unwrap() - (256 << 10)]).unwrap();
    assert_refused(&bench, Target::Payload, "NoSpace", "KiB left");
    fs::remove_file(&filler).unwrap();
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, directory.path(), None::<&str>, again, None::<&str>).unwrap();
    assert_refused(&bench, Target::Payload, "HostReadOnly", "read-only");
}

#[test]
fn what_a_removed_kernel_left() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let other = "6.1.0-0+other";
    bench.add_kernel(other);
    let ready = |bench: &Bench| readiness(&bench.observe(), &bench.paths, other, Target::InTree);
    assert_eq!(ready(&bench), Ok(()));
    put(&bench, &format!("boot/vmlinuz-{}", bench.kernel), "");
    let reasons = ready(&bench).unwrap_err();
    assert_eq!(reasons[0].reason, "KernelTreeIncomplete");
    assert!(reasons[0].message.contains("vmlinuz"), "{}", reasons[0]);
    put(&bench, &format!("boot/vmlinuz-{other}"), "");
    assert_eq!(ready(&bench), Ok(()));
    fs::remove_dir_all(bench.at("lib/modules").join(other).join("kernel")).unwrap();
    let reasons = ready(&bench).unwrap_err();
    assert!(reasons[0].message.contains("lacks kernel"), "{}", reasons[0]);
}

#[test]
fn a_backup_that_is_the_payloads_is_not_put_back() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.go(Target::Payload, None);
    let backup = bench.tree("nsx/usr-ovs-kmod-backup/openvswitch.ko");
    fs::copy(parts().vendor.join("openvswitch.ko"), backup).unwrap();
    assert_refused(&bench, Target::InTree, "BackupIsNsx", "usr-ovs-kmod-backup/openvswitch.ko");
}

/// An empty file is a module for depmod, which says nothing and ends with 0.
#[test]
fn an_empty_file_that_would_win_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    bench.add_user_set("weak-updates/openvswitch");
    fs::write(bench.tree("weak-updates/openvswitch/vport-gre.ko"), "").unwrap();
    bench.configure("user.conf", "search weak-updates updates built-in\n");
    assert_eq!(bench.depmod_chose("vport-gre"), "weak-updates/openvswitch/vport-gre.ko");
    assert_refused(&bench, Target::InTree, "SetCorrupt", "vport-gre.ko");
    bench.go(Target::Payload, None);
    assert_eq!(bench.set(), ModuleState::Nsx);
    assert!(Path::new(&bench.tree("nsx/usr-ovs-kmod-backup/vport-gre.ko")).exists());
}
