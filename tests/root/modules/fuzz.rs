//! Damaged input by the hundred thousand: modules, indexes and lists of symbols that a fixed
//! seed mutates. Nothing but the absence of a panic, of an endless loop and of a file that
//! grows without bound is asked for.

use crate::numbers::{Numbers, mutated};

use super::bench::{Bench, parts, run};
use pointsman::observe::modules::{IndexFile, is_signed, module_facts, parse_symvers, symbols};
use pointsman_core::plan::modules::parse_depmod;
use std::fs;

/// A small module, without what a debugger reads.
fn small_module(bench: &Bench) -> Vec<u8> {
    let (from, to) = (parts().user.join("vport-gre.ko"), bench.at("small.ko"));
    let arguments = ["-g", "-R", ".BTF", from.to_str().unwrap(), to.to_str().unwrap()];
    run("objcopy", &arguments);
    fs::read(to).unwrap()
}

#[test]
fn damaged_modules_by_the_hundred_thousand() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let whole = small_module(&bench);
    assert!(module_facts(&whole).fault.is_none() && !symbols(&whole).unwrap().needs.is_empty());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut refused) = (0_u32, 0_u32);
    for _ in 0..100_000 {
        let bytes = mutated(&whole, &mut numbers);
        drop((symbols(&bytes), is_signed(&bytes)));
        if module_facts(&bytes).fault.is_none() { read += 1 } else { refused += 1 }
    }
    assert!(read > 1000 && refused > 1000, "{read} were read and {refused} refused");
}

#[test]
fn damaged_compressed_modules() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let whole = small_module(&bench);
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for (tool, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let plain = bench.at("packed.ko");
        fs::write(&plain, &whole).unwrap();
        run(tool, &["-q", "-f", "-k", plain.to_str().unwrap()]);
        let packed = fs::read(bench.at(&format!("packed.ko.{suffix}"))).unwrap();
        assert!(module_facts(&packed).fault.is_none());
        for _ in 0..500 {
            drop(module_facts(&mutated(&packed, &mut numbers)));
        }
    }
}

#[test]
fn damaged_indexes_and_lists_by_the_hundred_thousand() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    // a small tree, so that a mutation meets its structure
    for entry in fs::read_dir(bench.tree("kernel/net")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "openvswitch" {
            fs::remove_dir_all(path).unwrap();
        }
    }
    bench.depmod(&bench.kernel);
    let index = fs::read(bench.tree("modules.dep.bin")).unwrap();
    let list = "0x12345678\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n".repeat(8).into_bytes();
    let conf = b"search updates built-in\noverride a ^6[.]1$ weak-updates/x\n# made /a\n";
    let mut numbers = Numbers(0xd1b5_4a32_d192_ed03);
    let (mut read, mut refused) = (0_u32, 0_u32);
    for _ in 0..100_000 {
        let bytes = mutated(&index, &mut numbers);
        match IndexFile::parse(&bytes).and_then(|index| index.names().map(|_| index)) {
            Ok(index) => {
                // a damaged line is an error of its own
                if index.line("openvswitch").is_ok() {
                    read += 1;
                }
            }
            Err(_) => refused += 1,
        }
        drop(parse_symvers(&mutated(&list, &mut numbers)));
        drop(parse_depmod(&String::from_utf8_lossy(&mutated(conf, &mut numbers))));
    }
    assert!(read > 1000 && refused > 1000, "{read} were read and {refused} refused");
}
