//! What a kernel and its modules export: `Module.symvers`, wherever it is installed.

use super::super::compressed::plain;
use crate::disk::HostRoot;
use std::collections::BTreeMap;

const LIMIT: u64 = 64 << 20;

/// Where distributions keep the list: with the headers (Debian, Ubuntu), with the kernel (Red
/// Hat, SUSE).
pub(super) fn places(parent: &str, release: &str) -> Vec<String> {
    let mut places = vec![
        format!("{parent}/{release}/build/Module.symvers"),
        format!("/usr/src/linux-headers-{release}/Module.symvers"),
    ];
    for suffix in ["", ".gz", ".xz", ".zst"] {
        places.push(format!("{parent}/{release}/symvers{suffix}"));
        places.push(format!("/boot/symvers-{release}{suffix}"));
    }
    places
}

/// The first list that can be read and holds something: its place, and the checksums.
pub(super) fn find(
    root: &HostRoot,
    parent: &str,
    release: &str,
) -> Option<(String, BTreeMap<String, u32>)> {
    places(parent, release).into_iter().find_map(|place| {
        let bytes = root.read(&place, LIMIT).ok()?;
        let found = parse_symvers(&plain(&bytes).ok()?);
        // `module_layout` is exported by every kernel with checksums
        found.contains_key("module_layout").then_some((place, found))
    })
}

/// `0xCHECKSUM SYMBOL MODULE EXPORT [NAMESPACE]`, separated by tabs
/// (Documentation/kbuild/modules.rst). Lines of another form are passed over.
pub fn parse_symvers(bytes: &[u8]) -> BTreeMap<String, u32> {
    let lines =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let line = |line: &str| {
        let mut words = line.split('\t');
        let crc = u32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        let symbol = words.next().filter(|symbol| !symbol.is_empty())?;
        Some((symbol.to_owned(), crc))
    };
    lines.filter_map(line).collect()
}
