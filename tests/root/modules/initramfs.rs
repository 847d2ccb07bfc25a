//! Copies in an initramfs, packed by the tools that distributions pack with.

use super::bench::{Bench, parts, run};
use super::footing::{assert_refused, put};
use pointsman_core::kernels::Kernels;
use pointsman_core::model::Initramfs;
use pointsman_core::plan::modules::Target;
use std::fs;
use std::path::Path;

/// An archive of the files below a directory, behind one that is not compressed, as with a
/// processor's microcode.
fn pack(bench: &Bench, from: &Path, filter: &str) {
    let early = bench.at("early/kernel/x86");
    fs::create_dir_all(&early).unwrap();
    fs::write(early.join("microcode.bin"), vec![7; 3001]).unwrap();
    let to = bench.at(&format!("boot/initrd.img-{}", bench.kernel));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let script = format!(
        "(cd '{}' && find . | cpio -o -H newc --quiet) > '{to}'; head -c 700 /dev/zero >> '{to}'; \
         (cd '{}' && find . | cpio -o -H newc --quiet) | {filter} >> '{to}'",
        bench.at("early").display(),
        from.display(),
        to = to.display()
    );
    run("bash", &["-o", "pipefail", "-c", &script]);
    fs::remove_dir_all(bench.at("early")).unwrap();
}

fn found(bench: &Bench) -> Initramfs {
    let observed = bench.observe();
    observed.modules.footing.kernels[&bench.kernel].initramfs.clone().unwrap()
}

fn note(bench: &Bench, target: Target) -> Option<String> {
    let notes = bench.plan(target, None).notes;
    notes.into_iter().find(|note| note.starts_with("InitramfsStale: "))
}

/// A directory with a kernel's part of an initramfs, the kernel's own openvswitch in it.
fn contents(bench: &Bench) -> tempfile::TempDir {
    let files = tempfile::tempdir().unwrap();
    let net = files.path().join(format!("usr/lib/modules/{}/kernel/net/openvswitch", bench.kernel));
    fs::create_dir_all(&net).unwrap();
    fs::create_dir_all(files.path().join("conf")).unwrap();
    fs::write(files.path().join("conf/modules"), "# none\ndm-mod\n").unwrap();
    fs::copy(
        parts().tree.join("kernel/net/openvswitch/openvswitch.ko"),
        net.join("openvswitch.ko"),
    )
    .unwrap();
    fs::write(files.path().join("odd"), vec![1; 4097]).unwrap();
    files
}

#[test]
fn a_copy_of_another_build_is_told_and_refused_where_it_would_win() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let files = contents(&bench);
    for filter in ["cat", "gzip -1", "xz -0 --check=crc32", "zstd -q -1"] {
        pack(&bench, files.path(), filter);
        let found = found(&bench);
        assert_eq!((found.unread.as_deref(), found.copies.len()), (None, 1), "{filter}: {found:?}");
        assert!(found.loads.is_empty());
        let words = note(&bench, Target::Payload).expect(filter);
        assert!(words.contains("nothing loads from there"), "{words}");
        assert_eq!(note(&bench, Target::InTree), None, "it is the kernel's own");
    }
    fs::write(files.path().join("conf/modules"), "# all\nopenvswitch\n").unwrap();
    pack(&bench, files.path(), "gzip -1");
    assert_refused(&bench, Target::Payload, "InitramfsStale", "update-initramfs -u -k");
    assert!(bench.plan(Target::InTree, None).is_empty());
    let net = files.path().join(format!("usr/lib/modules/{}/kernel/net/openvswitch", bench.kernel));
    fs::copy(parts().vendor.join("openvswitch.ko"), net.join("openvswitch.ko")).unwrap();
    pack(&bench, files.path(), "gzip -1");
    assert_eq!(note(&bench, Target::Payload), None, "it is the payload's");
    bench.go(Target::Payload, None);
    assert_refused(&bench, Target::InTree, "InitramfsStale", "would win at the next boot");
    // made without it, it is of no concern
    fs::remove_dir_all(net).unwrap();
    pack(&bench, files.path(), "gzip -1");
    bench.go(Target::InTree, None);
}

#[test]
fn what_cannot_be_read_refuses_nothing_and_a_row_tells_of_what_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let files = contents(&bench);
    pack(&bench, files.path(), "lz4 -q -l");
    let unread = found(&bench);
    assert!(unread.unread.is_some(), "{unread:?}");
    pack(&bench, files.path(), "gzip -1");
    let whole = fs::read(bench.at(&format!("boot/initrd.img-{}", bench.kernel))).unwrap();
    for end in (0..whole.len()).step_by(whole.len() / 25) {
        put(&bench, "boot/cut", "");
        fs::write(bench.at(&format!("boot/initrd.img-{}", bench.kernel)), &whole[..end]).unwrap();
        drop(bench.plan(Target::Payload, None));
    }
    fs::write(bench.at(&format!("boot/initrd.img-{}", bench.kernel)), &whole).unwrap();
    bench.go(Target::Payload, None);
    let kernels = Kernels::of(&bench.observe(), &bench.paths);
    let annotation = kernels.annotation();
    assert!(annotation.contains(" initramfs=InitramfsStale"), "{annotation}");
}
