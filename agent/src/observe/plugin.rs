//! Whether an installed plugin can be run, as far as its file tells: a look, not a trial, since
//! it is taken every half minute and what is looked at may be anybody's.

use crate::disk::HostRoot;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endian as _, Endianness};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Headers are at the beginning.
const HEAD: u64 = 64 << 10;

/// What is wrong with it, in plain words; none where nothing is, or it is not there.
pub(super) fn fault(root: &HostRoot, path: &str) -> Option<String> {
    let at = root.locate_directory(Path::new(path)).ok()?;
    let mut file = File::open(at).ok()?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).ok()?;
    if head.is_empty() {
        return Some("is empty".into());
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let interpreter = line.split_whitespace().next().unwrap_or_default().to_owned();
        let there = root.locate_directory(Path::new(&interpreter)).is_ok();
        return (!there).then(|| format!("needs {interpreter}, which is not there"));
    }
    if !head.starts_with(b"\x7fELF") {
        return Some("is no program".into());
    }
    elf_fault(&head, size)
}

/// Of a 64-bit ELF file; others are not judged.
fn elf_fault(head: &[u8], size: u64) -> Option<String> {
    let header = FileHeader64::<Endianness>::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let expected = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
    let machine = header.e_machine(endian);
    if endian.is_big_endian() || machine != expected {
        return Some(format!("is for another kind of machine (ELF machine {machine})"));
    }
    let segments = header.program_headers(endian, head).ok()?;
    let end = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD)
        .map(|segment| segment.p_offset(endian).saturating_add(segment.p_filesz(endian)))
        .max()?;
    (end > size).then(|| format!("is cut short: {size} bytes of at least {end}"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes files of its own")]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_is_found_by_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let of = |contents: &[u8]| {
            std::fs::write(dir.path().join("loopback"), contents).unwrap();
            fault(&root, "/loopback")
        };
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(of(&own), None);
        let cut = of(&own[..100_000]).unwrap();
        assert!(cut.starts_with("is cut short"), "{cut}");
        let mut other = own.clone();
        other[18..20].copy_from_slice(&2_u16.to_le_bytes());
        assert!(of(&other).unwrap().contains("another kind of machine"));
        assert_eq!(of(b"").unwrap(), "is empty");
        assert_eq!(of(b"hello").unwrap(), "is no program");
        assert!(of(b"#!/no/such/python3 -u\n").unwrap().contains("/no/such/python3"));
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::write(dir.path().join("bin/sh"), "").unwrap();
        assert_eq!(of(b"#! /bin/sh -e\n"), None);
        assert_eq!(fault(&root, "/no/such"), None);
    }
}
