//! `modules.dep.bin`: what modprobe and the kernel's autoload go by.
//!
//! A trie over names, all numbers big-endian (kmod, `libkmod/libkmod-index.c`, "Index file
//! searching"): magic, version, offset of the root. The upper four bits of an offset say what
//! the node has: a prefix (letters up to a NUL), children (first and last letter, then one
//! offset for each letter between), values (a count, then a priority and a line each).
//! In that order.

use std::collections::BTreeSet;
use thiserror::Error;

const MAGIC: u32 = 0xB007_F457;
/// Major and minor; a new minor adds, a new major breaks.
const MAJOR: u32 = 2;
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0FFF_FFFF;

/// An index that cannot be trusted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadIndex {
    /// The first words are others.
    #[error("it is no index of kmod's (magic {0:#010x})")]
    Magic(u32),
    /// Of a format that this reader does not know.
    #[error("it has the unknown version {0:#010x}")]
    Version(u32),
    /// A node or a line lies beyond the end.
    #[error("it ends before offset {0}, which it refers to")]
    Truncated(usize),
    /// Text that is no UTF-8.
    #[error("the text at offset {0} is no UTF-8")]
    Text(usize),
}

/// An index, its header checked.
#[derive(Clone, Copy, Debug)]
pub struct IndexFile<'a> {
    bytes: &'a [u8],
    root: u32,
}

impl<'a> IndexFile<'a> {
    /// Checks the header.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadIndex> {
        let mut reader = Reader { bytes, at: 0 };
        let magic = reader.number()?;
        if magic != MAGIC {
            return Err(BadIndex::Magic(magic));
        }
        let version = reader.number()?;
        if version >> 16 != MAJOR {
            return Err(BadIndex::Version(version));
        }
        let root = reader.number()?;
        Ok(Self { bytes, root })
    }

    /// The line of one name: in `modules.dep.bin`, `path: dependency…`.
    ///
    /// Each node takes at least one letter of the name, so a loop in the file ends the search.
    pub fn line(&self, name: &str) -> Result<Option<&'a str>, BadIndex> {
        let mut rest = name.as_bytes();
        let mut node = self.root;
        loop {
            if node & OFFSET == 0 {
                return Ok(None);
            }
            let mut reader = Reader { bytes: self.bytes, at: place(node) };
            if node & PREFIX != 0 {
                let prefix = reader.text()?.as_bytes();
                let Some(behind) = rest.strip_prefix(prefix) else { return Ok(None) };
                rest = behind;
            }
            let letter = rest.split_first();
            if node & CHILDREN != 0 {
                let (first, last) = (reader.byte()?, reader.byte()?);
                if let Some((letter, behind)) = letter {
                    if !(first..=last).contains(letter) {
                        return Ok(None);
                    }
                    let child = usize::from(letter.abs_diff(first));
                    reader.skip(child.saturating_mul(4));
                    node = reader.number()?;
                    rest = behind;
                    continue;
                }
                let children = usize::from(last.saturating_sub(first)).saturating_add(1);
                reader.skip(children.saturating_mul(4));
            }
            if letter.is_some() || node & VALUES == 0 {
                return Ok(None);
            }
            return reader.first_value();
        }
    }

    /// Every name, for the check that the whole file can be read.
    pub fn names(&self) -> Result<BTreeSet<String>, BadIndex> {
        let mut names = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut pending = vec![(self.root, Vec::new())];
        while let Some((node, mut name)) = pending.pop() {
            // a node is reached by one way only: a second is a loop or a forgery
            if node & OFFSET == 0 || !seen.insert(node & OFFSET) {
                continue;
            }
            let mut reader = Reader { bytes: self.bytes, at: place(node) };
            if node & PREFIX != 0 {
                name.extend_from_slice(reader.text()?.as_bytes());
            }
            if node & CHILDREN != 0 {
                let (first, last) = (reader.byte()?, reader.byte()?);
                for letter in first..=last {
                    let child = reader.number()?;
                    let mut name = name.clone();
                    name.push(letter);
                    pending.push((child, name));
                }
            }
            if node & VALUES != 0 && reader.first_value()?.is_some() {
                let name = String::from_utf8(name).ok().ok_or(BadIndex::Text(place(node)))?;
                names.insert(name);
            }
        }
        Ok(names)
    }
}

fn place(node: u32) -> usize {
    usize::try_from(node & OFFSET).unwrap_or(usize::MAX)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> Result<&'a [u8], BadIndex> {
        self.bytes.get(self.at..).ok_or(BadIndex::Truncated(self.at))
    }

    fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    fn byte(&mut self) -> Result<u8, BadIndex> {
        let byte = self.rest()?.first().copied().ok_or(BadIndex::Truncated(self.at))?;
        self.skip(1);
        Ok(byte)
    }

    fn number(&mut self) -> Result<u32, BadIndex> {
        let four = self.rest()?.first_chunk().copied().ok_or(BadIndex::Truncated(self.at))?;
        self.skip(4);
        Ok(u32::from_be_bytes(four))
    }

    fn text(&mut self) -> Result<&'a str, BadIndex> {
        let rest = self.rest()?;
        let end = rest.iter().position(|byte| *byte == 0).ok_or(BadIndex::Truncated(self.at))?;
        let bytes = rest.get(..end).ok_or(BadIndex::Truncated(self.at))?;
        let text = std::str::from_utf8(bytes).ok().ok_or(BadIndex::Text(self.at))?;
        self.skip(end.saturating_add(1));
        Ok(text)
    }

    fn first_value(&mut self) -> Result<Option<&'a str>, BadIndex> {
        if self.number()? == 0 {
            return Ok(None);
        }
        self.number()?; // its priority: for `modules.dep.bin` always alone
        self.text().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root with the prefix `vport_g`; `eneve` and `re` behind it.
    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [MAGIC, 0x0002_0001, 0] {
            bytes.extend(number.to_be_bytes());
        }
        let mut leaf = |prefix: &str, line: &str| {
            let at = u32::try_from(bytes.len()).unwrap();
            bytes.extend(prefix.bytes().chain([0]));
            bytes.extend(1_u32.to_be_bytes());
            bytes.extend(0_u32.to_be_bytes());
            bytes.extend(line.bytes().chain([0]));
            (at | PREFIX | VALUES).to_be_bytes()
        };
        let geneve = leaf("neve", "a/vport-geneve.ko: b/geneve.ko");
        let gre = leaf("e", "a/vport-gre.ko:");
        let root = u32::try_from(bytes.len()).unwrap() | PREFIX | CHILDREN;
        bytes.extend(*b"vport_g\0er");
        bytes.extend(geneve);
        for _ in b'f'..b'r' {
            bytes.extend(0_u32.to_be_bytes());
        }
        bytes.extend(gre);
        bytes[8..12].copy_from_slice(&root.to_be_bytes());
        bytes
    }

    #[test]
    fn names_are_found_and_others_are_not() {
        let bytes = sample();
        let index = IndexFile::parse(&bytes).unwrap();
        assert_eq!(index.line("vport_gre").unwrap(), Some("a/vport-gre.ko:"));
        assert_eq!(index.line("vport_geneve").unwrap(), Some("a/vport-geneve.ko: b/geneve.ko"));
        for other in ["", "vport_g", "vport_ge", "vport_gree", "vport_gf", "vport_gz", "x"] {
            assert_eq!(index.line(other).unwrap(), None, "{other}");
        }
        let names: Vec<String> = index.names().unwrap().into_iter().collect();
        assert_eq!(names, ["vport_geneve", "vport_gre"]);
    }

    #[test]
    fn no_damage_is_a_panic_or_an_endless_loop() {
        let whole = sample();
        for end in 0..whole.len() {
            if let Ok(index) = IndexFile::parse(&whole[..end]) {
                assert!(index.line("vport_gre").is_err(), "cut at {end}");
                assert!(index.names().is_err(), "cut at {end}");
            }
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x20, 0x7f, 0x80, 0xe0, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(index) = IndexFile::parse(&bytes) {
                    drop((index.line("vport_gre"), index.line("vport_geneve"), index.names()));
                }
            }
        }
    }

    #[test]
    fn a_node_that_leads_to_itself_ends() {
        let mut bytes = sample();
        let root: [u8; 4] = bytes[8..12].try_into().unwrap();
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&root);
        let index = IndexFile::parse(&bytes).unwrap();
        assert_eq!(index.line("vport_grvport_grvport_gre").unwrap(), None);
        assert_eq!(index.names().unwrap().len(), 1);
    }
}
