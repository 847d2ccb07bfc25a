//! A payload's set against a kernel, symbol by symbol, before anything changes.
//!
//! The kernel's side is told by `Module.symvers` where that is installed. Otherwise by what
//! the kernel's own modules need: they load, so what they need is what the kernel has. That
//! knows most symbols, not all.
//!
//! Measured on Debian's 6.1 (processor time, a set that needs 255 symbols): 0.01 s by its
//! `Module.symvers` of 14,415 lines, and by an own openvswitch; without both, 0.07 s for its 1,121
//! modules, 0.13 s for the first 2,000 of 4,042. Once for each installed kernel and set: an answer is
//! remembered until one of the files changes.

use super::{SetFiles, symvers};
use crate::disk::HostRoot;
use crate::observe::modules::{Symbols, needed_symbols, symbols};
use pointsman_core::model::{AbiProof, Clash, Digest, module_stem};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use walkdir::WalkDir;

/// How much of compressed modules is looked into, bytes as they unpack: a fifth of a second of
/// xz. Decompressing a distribution's four thousand takes half a minute.
const COMPRESSED: u64 = 12 << 20;
/// How many modules are looked into: an eighth of a second. A generic kernel has four thousand,
/// and what the first thousand do not need of it, the others hardly do.
const MODULES: usize = 2000;
/// Comparisons that are remembered, one per installed kernel and set.
const REMEMBERED: usize = 32;
/// Where modules lie that need what a set of Open vSwitch needs, the likeliest first.
const FIRST: [&str; 5] =
    ["net/openvswitch", "net", "drivers/net/geneve", "drivers/net/vxlan", "drivers/net"];

type Checksums = BTreeMap<String, u32>;
/// Everything that a comparison depends on: what identifies each file, without its contents.
type Key = (PathBuf, Vec<Option<(u64, u64, i64, i64)>>, Vec<Digest>);

static MEMORY: Mutex<BTreeMap<Key, AbiProof>> = Mutex::new(BTreeMap::new());

/// The comparison; none where there is no set or where it tells no checksums.
pub(super) fn compare(
    root: &HostRoot,
    parent: &str,
    release: &str,
    files: &SetFiles,
) -> Option<AbiProof> {
    if files.is_empty() {
        return None;
    }
    let key = key(root, parent, release, files)?;
    let remembered = || MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(proof) = remembered().get(&key) {
        return Some(proof.clone());
    }
    let proof = read(root, parent, release, files)?;
    let mut memory = remembered();
    if memory.len() >= REMEMBERED {
        memory.clear();
    }
    memory.insert(key, proof.clone());
    Some(proof)
}

fn key(root: &HostRoot, parent: &str, release: &str, files: &SetFiles) -> Option<Key> {
    let tree = root.locate_directory(&Path::new(parent).join(release)).ok()?;
    let stamp = |path: PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    };
    let located = |place: &String| root.locate_directory(Path::new(place)).ok().and_then(stamp);
    let mut stamps: Vec<_> = symvers::places(parent, release).iter().map(located).collect();
    // whoever installs modules of the kernel writes the index anew
    stamps.push(stamp(tree.join("modules.dep.bin")));
    stamps.push(stamp(tree.join("kernel/net/openvswitch")));
    Some((tree, stamps, files.values().map(|bytes| Digest::of(bytes)).collect()))
}

fn read(root: &HostRoot, parent: &str, release: &str, files: &SetFiles) -> Option<AbiProof> {
    let set: BTreeMap<&str, Symbols> = files
        .iter()
        .filter_map(|(stem, bytes)| Some((stem.as_str(), symbols(bytes).ok()?)))
        .collect();
    if set.values().all(|symbols| symbols.needs.is_empty()) {
        return None;
    }
    if let Some((place, checksums)) = symvers::find(root, parent, release) {
        return Some(judge(&set, place, true, &checksums));
    }
    let tree = root.locate_directory(&Path::new(parent).join(release)).ok()?;
    let checksums = of_modules(&tree.join("kernel"), &set);
    Some(judge(&set, "what the kernel's own modules need".into(), false, &checksums))
}

/// What the set exports itself counts before what the kernel has by the same name.
fn judge(
    set: &BTreeMap<&str, Symbols>,
    witness: String,
    complete: bool,
    kernels: &Checksums,
) -> AbiProof {
    let own: BTreeMap<&str, Option<u32>> = set
        .values()
        .flat_map(|symbols| &symbols.exports)
        .map(|(name, crc)| (name.as_str(), *crc))
        .collect();
    let mut proof = AbiProof { witness, complete, ..AbiProof::default() };
    let mut proven: BTreeMap<&str, bool> = BTreeMap::new();
    for (module, symbols) in set {
        for (symbol, needs) in &symbols.needs {
            let (has, known) = match own.get(symbol.as_str()) {
                Some(crc) => (*crc, true),
                None => (kernels.get(symbol).copied(), complete),
            };
            let agrees = has == Some(*needs);
            // an export of the set without a checksum is one of a build without them
            let differs =
                has.map_or(known && !own.contains_key(symbol.as_str()), |has| has != *needs);
            if differs {
                let (symbol, module) = (symbol.clone(), (*module).to_owned());
                proof.clashes.push(Clash { symbol, module, needs: *needs, has });
            }
            let all = proven.entry(symbol).or_insert(true);
            *all = *all && agrees;
        }
    }
    proof.needed = proven.len();
    proof.proven = proven.values().filter(|agrees| **agrees).count();
    proof
}

/// What the kernel's own modules need of it, until everything that is asked for is known.
fn of_modules(kernel: &Path, set: &BTreeMap<&str, Symbols>) -> Checksums {
    let mut wanted: BTreeSet<&str> =
        set.values().flat_map(|symbols| symbols.needs.keys()).map(String::as_str).collect();
    for name in set.values().flat_map(|symbols| symbols.exports.keys()) {
        wanted.remove(name.as_str());
    }
    let mut found = Checksums::new();
    let mut budget = COMPRESSED;
    for path in in_order(kernel).into_iter().take(MODULES) {
        if wanted.is_empty() {
            break;
        }
        if path.extension().is_some_and(|suffix| suffix != "ko") {
            // they shrink to a quarter and less
            let size = fs::metadata(&path).map_or(0, |meta| meta.len()).saturating_mul(4);
            let Some(left) = budget.checked_sub(size) else { break };
            budget = left;
        }
        let Some(needs) = File::open(&path).ok().and_then(|file| needed_symbols(file).ok()) else {
            continue;
        };
        for (name, crc) in needs {
            if wanted.remove(name.as_str()) {
                found.insert(name, crc);
            }
        }
    }
    found
}

/// The kernel's own modules, those first that need most of the same.
fn in_order(kernel: &Path) -> Vec<PathBuf> {
    let walk = WalkDir::new(kernel).sort_by_file_name().into_iter().flatten();
    let is_module = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).and_then(module_stem).is_some()
    };
    let files = walk.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let mut files: Vec<PathBuf> = files.filter(is_module).collect();
    let rank = |path: &PathBuf| {
        let inside = path.strip_prefix(kernel).unwrap_or(path);
        FIRST.iter().position(|directory| inside.starts_with(directory)).unwrap_or(FIRST.len())
    };
    files.sort_by_key(rank);
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(needs: &[(&str, u32)], exports: &[(&str, Option<u32>)]) -> Symbols {
        Symbols {
            needs: needs.iter().map(|(name, crc)| ((*name).to_owned(), *crc)).collect(),
            exports: exports.iter().map(|(name, crc)| ((*name).to_owned(), *crc)).collect(),
        }
    }

    fn verdict(complete: bool, kernels: &[(&str, u32)], tunnel: u32) -> AbiProof {
        let set = BTreeMap::from([
            ("openvswitch", symbols(&[("printk", 1), ("kfree", 2)], &[("ovs_alloc", Some(7))])),
            ("vport-gre", symbols(&[("ovs_alloc", tunnel), ("printk", 1)], &[])),
        ]);
        let kernels = kernels.iter().map(|(name, crc)| ((*name).to_owned(), *crc)).collect();
        judge(&set, "test".into(), complete, &kernels)
    }

    #[test]
    fn a_set_that_fits_is_whole() {
        let proof = verdict(true, &[("printk", 1), ("kfree", 2), ("ovs_alloc", 99)], 7);
        assert!(proof.is_whole(), "{proof:?}");
        assert_eq!((proof.needed, proof.proven), (3, 3));
    }

    #[test]
    fn another_checksum_is_a_clash_wherever_it_comes_from() {
        for (complete, kernels, tunnel, symbol) in [
            (true, vec![("printk", 3), ("kfree", 2)], 7, "printk"),
            (false, vec![("kfree", 3)], 7, "kfree"),
            (true, vec![("printk", 1), ("kfree", 2)], 8, "ovs_alloc"),
            (true, vec![("printk", 1)], 7, "kfree"),
        ] {
            let proof = verdict(complete, &kernels, tunnel);
            assert!(proof.clashes.iter().all(|clash| clash.symbol == symbol), "{proof:?}");
            assert!(!proof.clashes.is_empty(), "{symbol}");
        }
    }

    #[test]
    fn what_an_incomplete_witness_does_not_know_is_not_proven_and_no_clash() {
        let proof = verdict(false, &[("printk", 1)], 7);
        assert_eq!((proof.needed, proof.proven, proof.clashes.len()), (3, 2, 0));
        assert!(!proof.is_whole());
    }
}
