//! Module files as distributions ship them: plain, or compressed as gzip, xz or zstd.
//!
//! The first bytes decide, as they do for kmod (`libkmod/libkmod-file.c`), not the name.

use std::borrow::Cow;
use std::io::{self, Read};

/// No module is larger: nvidia's are around 100 MiB with all their debug information, the
/// kernel's own stay below ten.
pub(crate) const LARGEST: u64 = 128 << 20;
/// Memory for a dictionary: `xz -9` takes 64 MiB.
const DICTIONARY_KIB: u32 = 80 << 10;

/// The contents, decompressed. A file that would grow beyond [`LARGEST`] is an error: it may
/// be anybody's.
pub(crate) fn plain(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let (form, contents) = if bytes.starts_with(&[0x1f, 0x8b]) {
        ("gzip", limited(flate2::bufread::MultiGzDecoder::new(bytes)))
    } else if bytes.starts_with(b"\xfd7zXZ\0") {
        ("xz", limited(lzma_rust2::XzReader::new_mem_limit(bytes, true, DICTIONARY_KIB)))
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        ("zstd", zstd(bytes))
    } else {
        return Ok(Cow::Borrowed(bytes));
    };
    contents.map(Cow::Owned).map_err(|error| format!("no {form} file: {error}"))
}

fn limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    reader.take(LARGEST.saturating_add(1)).read_to_end(&mut contents)?;
    if u64::try_from(contents.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(io::Error::other(format!("it grows beyond {LARGEST} bytes")));
    }
    Ok(contents)
}

fn zstd(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let decoder = ruzstd::decoding::StreamingDecoder::new(&mut bytes).map_err(io::Error::other)?;
    limited(decoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_not_compressed_is_passed_on() {
        assert!(matches!(plain(b"\x7fELF"), Ok(Cow::Borrowed(b"\x7fELF"))));
        assert!(matches!(plain(b""), Ok(Cow::Borrowed(b""))));
    }

    #[test]
    fn a_bomb_is_an_error_and_not_a_full_memory() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for _ in 0..(LARGEST >> 20) {
            packed.write_all(&vec![0; 1 << 20]).unwrap();
        }
        packed.write_all(b"x").unwrap();
        let error = plain(&packed.finish().unwrap()).unwrap_err();
        assert!(error.contains("it grows beyond"), "{error}");
    }

    #[test]
    fn a_cut_is_an_error() {
        for magic in [&b"\x1f\x8b\x08"[..], b"\xfd7zXZ\0\0", b"\x28\xb5\x2f\xfd\x04"] {
            assert!(plain(magic).is_err(), "{magic:?}");
        }
    }
}
