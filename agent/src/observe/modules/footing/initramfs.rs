//! Copies of the set's modules in a kernel's initramfs, and whether they are loaded from there.
//!
//! An initramfs is one or more cpio archives behind each other, the last one compressed as a
//! rule (Documentation/driver-api/early-userspace/buffer-format.rst). Read as a stream, since
//! it may unpack to hundreds of megabytes; the answer stands until the file changes.

use super::super::{ModuleSources, module_facts};
use crate::disk::HostRoot;
use pointsman_core::model::{Initramfs, InitramfsCopy, MODULE_STEMS, loaded_name, module_stem};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// An archive that unpacks to more is given up.
const LARGEST: u64 = 2 << 30;
/// A module or a list of names that is larger is not looked into.
const LARGEST_FILE: u64 = 32 << 20;
/// Of an entry, with its name.
const HEADER: usize = 110;
const LONGEST_NAME: usize = 4096;
const LAST: &str = "TRAILER!!!";
/// Answers that are remembered, one per installed kernel.
const REMEMBERED: usize = 32;
/// Listing unpacks the whole archive.
const TOOL: Duration = Duration::from_secs(60);

type Key = (PathBuf, u64, u64, i64, i64);

static MEMORY: Mutex<BTreeMap<Key, Initramfs>> = Mutex::new(BTreeMap::new());

/// What is said of a kernel's initramfs; none where it has none.
pub(super) fn find(sources: &ModuleSources<'_>, release: &str) -> Option<Initramfs> {
    let root = sources.root;
    let (path, at) = places(root, &sources.paths.modules, release)
        .into_iter()
        .find_map(|path| Some((root.locate_directory(Path::new(&path)).ok()?, path)))
        .map(|(at, path)| (path, at))?;
    let meta = fs::metadata(&at).ok().filter(fs::Metadata::is_file)?;
    let key = (at.clone(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    let remembered = || MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = remembered().get(&key) {
        return Some(known.clone());
    }
    let found = look(sources, &at, path);
    let mut memory = remembered();
    if memory.len() >= REMEMBERED {
        memory.clear();
    }
    memory.insert(key, found.clone());
    Some(found)
}

/// Debian, Red Hat, SUSE, and kernel-install(8).
fn places(root: &HostRoot, modules: &str, release: &str) -> Vec<String> {
    let mut places = vec![
        format!("/boot/initrd.img-{release}"),
        format!("/boot/initramfs-{release}.img"),
        format!("/boot/initrd-{release}"),
        format!("{modules}/{release}/initrd"),
    ];
    let boot = root.locate_directory(Path::new("/boot")).ok();
    let entries = boot.and_then(|boot| fs::read_dir(boot).ok()).into_iter().flatten().flatten();
    let tokens = entries.filter_map(|entry| entry.file_name().into_string().ok());
    places.extend(tokens.map(|token| format!("/boot/{token}/{release}/initrd")));
    places
}

fn look(sources: &ModuleSources<'_>, at: &Path, path: String) -> Initramfs {
    let mut found = Found::default();
    let read = File::open(at).and_then(|file| found.read(Box::new(BufReader::new(file)), 0));
    let copy = |(path, bytes): (String, Vec<u8>)| InitramfsCopy {
        identity: Some(module_facts(&bytes).identity),
        path,
    };
    let Err(error) = read else {
        let copies = found.modules.into_iter().map(copy).collect();
        return Initramfs { path, copies, loads: found.loads, unread: None };
    };
    // the host's own tool knows more forms, and tells names alone
    let listed = ["lsinitramfs", "lsinitrd"].into_iter().find_map(|tool| {
        let said = sources.tools.run(&[tool, at.to_str()?], TOOL).ok()?;
        Some(said.stdout)
    });
    let words = listed.as_deref().unwrap_or_default().split_whitespace();
    let names = words.filter(|word| is_of_set(word));
    let copies =
        names.map(|name| InitramfsCopy { path: name.to_owned(), identity: None }).collect();
    let unread = Some(error.to_string());
    Initramfs { path, copies, loads: BTreeSet::new(), unread }
}

fn is_of_set(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    module_stem(name).is_some_and(|stem| MODULE_STEMS.contains(&stem))
}

/// Whether a file lists modules that are loaded before the root is mounted: initramfs-tools(7),
/// modules-load.d(5).
fn is_list(path: &str) -> bool {
    let listed = path.contains("modules-load.d/")
        && Path::new(path).extension().is_some_and(|suffix| suffix == "conf");
    path == "conf/modules" || listed
}

#[derive(Default)]
struct Found {
    modules: Vec<(String, Vec<u8>)>,
    loads: BTreeSet<String>,
}

impl Found {
    fn read(&mut self, mut input: Box<dyn BufRead + '_>, depth: u8) -> io::Result<()> {
        loop {
            if !past_zeros(&mut *input)? {
                return Ok(());
            }
            let mut head = [0; 6];
            input.read_exact(&mut head)?;
            if head == *b"070701" || head == *b"070702" {
                self.archive(&mut *input)?;
                continue;
            }
            if depth > 0 {
                return Err(io::Error::other("it is compressed twice"));
            }
            let whole = BufReader::new(io::Cursor::new(head).chain(input));
            let plain: Box<dyn Read + '_> = if head.starts_with(&[0x1f, 0x8b]) {
                Box::new(flate2::bufread::MultiGzDecoder::new(whole))
            } else if head == *b"\xfd7zXZ\0" {
                Box::new(lzma_rust2::XzReader::new(whole, true))
            } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
                let decoder = ruzstd::decoding::StreamingDecoder::new(whole);
                Box::new(decoder.map_err(io::Error::other)?)
            } else {
                return Err(io::Error::other("it is packed in a form that is not known here"));
            };
            return self.read(Box::new(BufReader::new(plain.take(LARGEST))), depth + 1);
        }
    }

    /// The entries of an archive, behind the mark of the first.
    fn archive(&mut self, input: &mut dyn BufRead) -> io::Result<()> {
        loop {
            let mut header = [0; HEADER - 6];
            input.read_exact(&mut header)?;
            let number = |field: usize| -> io::Result<u64> {
                let digits = header.get(field * 8..field * 8 + 8).unwrap_or_default();
                let digits = std::str::from_utf8(digits).map_err(io::Error::other)?;
                u64::from_str_radix(digits, 16).map_err(io::Error::other)
            };
            let (mode, size, length) = (number(1)?, number(6)?, number(11)?);
            let length = usize::try_from(length).ok().filter(|l| (1..=LONGEST_NAME).contains(l));
            let length = length.ok_or_else(|| io::Error::other("a name has an odd length"))?;
            let mut name = vec![0; length];
            input.read_exact(&mut name)?;
            skip(input, u64::try_from((HEADER + length).wrapping_neg() % 4).unwrap_or(0))?;
            let name = String::from_utf8_lossy(&name);
            let name = name.trim_end_matches('\0').trim_start_matches("./").trim_start_matches('/');
            if name == LAST {
                return Ok(());
            }
            let regular = mode & 0o170_000 == 0o100_000;
            if regular && size <= LARGEST_FILE && (is_of_set(name) || is_list(name)) {
                let mut bytes = Vec::new();
                input.take(size).read_to_end(&mut bytes)?;
                self.keep(name, bytes);
            } else {
                skip(input, size)?;
            }
            skip(input, size.wrapping_neg() % 4)?;
            let mut mark = [0; 6];
            input.read_exact(&mut mark)?;
            if mark != *b"070701" && mark != *b"070702" {
                return Err(io::Error::other("an entry does not begin where it should"));
            }
        }
    }

    fn keep(&mut self, name: &str, bytes: Vec<u8>) {
        if is_of_set(name) {
            self.modules.push((name.to_owned(), bytes));
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        let words = text.lines().filter_map(|line| line.split_whitespace().next());
        let known = |name: &String| MODULE_STEMS.iter().any(|stem| loaded_name(stem) == *name);
        self.loads.extend(words.map(loaded_name).filter(known));
    }
}

/// Whether anything follows the zeros between two archives.
fn past_zeros(input: &mut dyn BufRead) -> io::Result<bool> {
    loop {
        let waiting = input.fill_buf()?;
        if waiting.is_empty() {
            return Ok(false);
        }
        let zeros = waiting.iter().take_while(|byte| **byte == 0).count();
        let all = zeros == waiting.len();
        input.consume(zeros);
        if !all {
            return Ok(true);
        }
    }
}

fn skip(input: &mut dyn BufRead, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(bytes), &mut io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        let entry = |size: &str, length: &str| {
            let zeros = "0".repeat(8);
            let mut fields = vec![zeros.clone(); 13];
            (fields[1], fields[6], fields[11]) = ("000081a4".into(), size.into(), length.into());
            format!("070701{}conf/modules\0", fields.concat())
        };
        for text in [
            String::from("070701"),
            "x".repeat(200),
            entry("ffffffff", "0000000d"),
            entry("00000004", "ffffffff"),
            entry("00000004", "00000000"),
            entry("0000000z", "0000000d"),
            format!("{}\0openXXXXXX", entry("00000004", "0000000d")),
        ] {
            let mut found = Found::default();
            assert!(found.read(Box::new(text.as_bytes()), 0).is_err(), "{text:?}");
        }
        assert!(Found::default().read(Box::new(&[0_u8; 900][..]), 0).is_ok());
    }
}
