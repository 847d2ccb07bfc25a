//! The initrd: the modules that `scripts/setup` packed, and `bed` as its `/init`.
//!
//! The kernel unpacks archives that follow each other into one tree, so the root
//! image need not be made again when `bed` changes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::error::{Result, VmError};

/// Writes `modules` and after it an archive with `program` as `/init`.
pub(super) fn write(modules: &Path, program: &Path, to: &Path) -> Result<()> {
    assemble(modules, program, to).map_err(|e| VmError::new(format!("write {}: {e}", to.display())))
}

fn assemble(modules: &Path, program: &Path, to: &Path) -> io::Result<()> {
    let init = fs::read(program)?;
    let mut out = File::create(to)?;
    io::copy(&mut File::open(modules)?, &mut out)?;
    out.write_all(&entry("init", 0o100_755, &init)?)?;
    out.write_all(&entry("TRAILER!!!", 0, &[])?)
}

/// One file in cpio's "newc" form: a header of thirteen hexadecimal numbers, the
/// name and the contents, each padded to four bytes.
fn entry(name: &str, mode: u32, contents: &[u8]) -> io::Result<Vec<u8>> {
    let size = u32::try_from(contents.len()).map_err(io::Error::other)?;
    let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
    // inode, mode, uid, gid, links, mtime, size, device and special device, name size, checksum
    let fields = [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut bytes = b"070701".to_vec();
    for field in fields {
        write!(bytes, "{field:08X}")?;
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::entry;

    #[test]
    fn an_entry_is_padded_after_name_and_contents() {
        let bytes = entry("init", 0o100_755, b"12345").unwrap();
        assert_eq!(bytes.len(), (110 + 5_usize).next_multiple_of(4) + 8);
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..], b"12345\0\0\0");
    }
}
