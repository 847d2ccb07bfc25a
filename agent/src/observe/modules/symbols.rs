//! Which symbols a module needs and exports, with the checksums of their types.
//!
//! The kernel's side of it is `kernel/module/version.c`: `__versions` holds pairs of a
//! checksum as wide as a `long` and a name of 64 bytes less that; newer kernels may add
//! `__version_ext_crcs` (32 bits each) and `__version_ext_names` (each ended by a NUL) for
//! longer names. A module tells what it exports by `__crc_NAME`: a value by itself in older
//! kernels, a place in a section `__kcrctab*` since Linux 5.19.

use super::compressed::{LARGEST, plain};
use object::read::{ReadCache, ReadRef};
use object::{Endian as _, File, Object as _, ObjectKind, ObjectSection as _, ObjectSymbol as _};
use object::{SectionIndex, SymbolSection};
use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _};

/// `struct modversion_info` of a 64-bit kernel.
const PAIR: usize = 64;
/// The end of a signed module (`MODULE_SIG_STRING`).
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// What a module needs and exports, by symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// With the checksum that it was built for.
    pub needs: BTreeMap<String, u32>,
    /// With the checksum; none where the module tells none.
    pub exports: BTreeMap<String, Option<u32>>,
}

/// Whether the contents of a module end in a signature; whose it is, is not looked at.
pub fn is_signed(bytes: &[u8]) -> bool {
    plain(bytes).is_ok_and(|plain| plain.ends_with(SIGNED))
}

/// Reads a module's symbols; what cannot be read is an error, never a panic.
pub fn symbols(bytes: &[u8]) -> Result<Symbols, String> {
    let plain = plain(bytes)?;
    let file = parse(&*plain)?;
    Ok(Symbols { needs: needs(&file)?, exports: exports(&file) })
}

/// What a module needs alone. Of a plain file only the headers and the checksums are read.
pub fn needed_symbols(mut file: std::fs::File) -> Result<BTreeMap<String, u32>, String> {
    let unreadable = |error: std::io::Error| format!("unreadable: {error}");
    let mut start = [0; 4];
    file.read_exact(&mut start).map_err(unreadable)?;
    if start == *b"\x7fELF" {
        return needs(&parse(&ReadCache::new(file))?);
    }
    file.rewind().map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(unreadable)?;
    needs(&parse(&*plain(&bytes)?)?)
}

fn parse<'a, R: ReadRef<'a>>(bytes: R) -> Result<File<'a, R>, String> {
    let file = File::parse(bytes).map_err(|error| format!("no ELF file: {error}"))?;
    if file.kind() != ObjectKind::Relocatable || !file.is_64() {
        return Err("no relocatable 64-bit ELF file".into());
    }
    Ok(file)
}

fn data<'a, R: ReadRef<'a>>(file: &File<'a, R>, section: &str) -> Result<&'a [u8], String> {
    let Some(section_found) = file.section_by_name(section) else { return Ok(&[]) };
    section_found.data().map_err(|error| format!("unreadable {section}: {error}"))
}

fn needs<'a, R: ReadRef<'a>>(file: &File<'a, R>) -> Result<BTreeMap<String, u32>, String> {
    let order = file.endianness();
    let mut needs = BTreeMap::new();
    for pair in data(file, "__versions")?.as_chunks::<PAIR>().0 {
        let (crc, name) = pair.split_at(8);
        let crc = <[u8; 8]>::try_from(crc).map(|crc| order.read_u64(crc));
        if let (Ok(Ok(crc)), Some(name)) = (crc.map(u32::try_from), text(name)) {
            needs.insert(name.to_owned(), crc);
        }
    }
    let crcs = data(file, "__version_ext_crcs")?.as_chunks::<4>().0;
    let names = data(file, "__version_ext_names")?.split(|byte| *byte == 0);
    for (crc, name) in crcs.iter().zip(names) {
        if let Some(name) = text(name) {
            needs.insert(name.to_owned(), order.read_u32(*crc));
        }
    }
    Ok(needs)
}

fn text(bytes: &[u8]) -> Option<&str> {
    let name = bytes.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
}

fn exports(file: &File<'_>) -> BTreeMap<String, Option<u32>> {
    let mut exports = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| !symbol.is_undefined()) {
        let Ok(name) = symbol.name() else { continue };
        if let Some(name) = name.strip_prefix("__ksymtab_") {
            exports.entry(name.to_owned()).or_insert(None);
        } else if let Some(name) = name.strip_prefix("__crc_") {
            let crc = match symbol.section() {
                SymbolSection::Absolute => u32::try_from(symbol.address()).ok(),
                SymbolSection::Section(index) => crc_at(file, index, symbol.address()),
                _ => None,
            };
            exports.insert(name.to_owned(), crc);
        }
    }
    exports
}

fn crc_at(file: &File<'_>, section: SectionIndex, offset: u64) -> Option<u32> {
    let data = file.section_by_index(section).ok()?.data().ok()?;
    let four = data.get(usize::try_from(offset).ok()?..)?.first_chunk()?;
    Some(file.endianness().read_u32(*four))
}
