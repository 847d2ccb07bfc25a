//! What a module file says of itself: `.modinfo` and the build id's note.

use super::compressed::plain;
use object::{Object as _, ObjectKind, ObjectSection as _};
use pointsman_core::model::{ModuleFacts, hex};
use std::str;

/// Reads a module, compressed or not. What cannot be read is told by `fault`, never by a
/// panic: the file may be anybody's.
pub fn module_facts(bytes: &[u8]) -> ModuleFacts {
    let read = plain(bytes).and_then(|plain| read(&plain));
    read.unwrap_or_else(|fault| ModuleFacts { fault: Some(fault), ..ModuleFacts::default() })
}

fn read(bytes: &[u8]) -> Result<ModuleFacts, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let file = object::File::parse(bytes).map_err(|error| format!("no ELF file: {error}"))?;
    if file.kind() != ObjectKind::Relocatable {
        return Err("no relocatable ELF file".into());
    }
    let section = file.section_by_name(".modinfo").ok_or("no section .modinfo")?;
    let modinfo = section.data().map_err(|error| format!("unreadable .modinfo: {error}"))?;
    let build_id = file.build_id().map_err(|error| format!("unreadable notes: {error}"))?;
    let mut facts = of_modinfo(modinfo);
    if facts.name.is_none() {
        return Err("its .modinfo has no name".into());
    }
    facts.identity.build_id = build_id.map(hex);
    Ok(facts)
}

/// `key=value` texts, each ended by a NUL.
fn of_modinfo(modinfo: &[u8]) -> ModuleFacts {
    let mut facts = ModuleFacts::default();
    let entries = modinfo.split(|byte| *byte == 0).filter_map(|entry| str::from_utf8(entry).ok());
    for (key, value) in entries.filter_map(|entry| entry.split_once('=')) {
        let value = value.to_owned();
        match key {
            "name" => facts.name = Some(value),
            "version" => facts.identity.version = Some(value),
            "srcversion" => facts.identity.srcversion = Some(value),
            "vermagic" => facts.vermagic = Some(value),
            "depends" => {
                facts.depends =
                    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    facts
}

/// The build id of a `/sys/module/*/notes/.note.gnu.build-id`: one ELF note.
///
/// Name size, description size and type in the machine's byte order, the name `GNU\0`,
/// then the id (elf(5)).
pub fn build_id_of_note(note: &[u8]) -> Option<String> {
    let (header, rest) = note.split_first_chunk::<12>()?;
    let mut words = header.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word));
    let (name, size, kind) = (words.next()?, words.next()?, words.next()?);
    let rest = rest.strip_prefix(b"GNU\0")?;
    let id = rest.get(..usize::try_from(size).ok()?)?;
    (name == 4 && kind == 3 && !id.is_empty()).then(|| hex(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_a_fault() {
        for (bytes, fault) in [
            (&b""[..], "the file is empty"),
            (b"#!/bin/sh", "no ELF file"),
            (b"\x7fELF\x02\x01\x01", "no ELF file"),
            (b"\xfd7zXZ\0", "no xz file"),
        ] {
            let found = module_facts(bytes).fault.unwrap();
            assert!(found.contains(fault), "{found}");
        }
    }

    #[test]
    fn the_note_of_sysfs_is_read_whole_or_not_at_all() {
        let mut note = Vec::new();
        for word in [4_u32, 3, 3] {
            note.extend(word.to_ne_bytes());
        }
        note.extend(*b"GNU\0\x01\xab\xff");
        assert_eq!(build_id_of_note(&note).as_deref(), Some("01abff"));
        for end in 0..note.len() {
            assert_eq!(build_id_of_note(&note[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn modinfo_is_split() {
        let facts = of_modinfo(b"version=1\0\0depends=a,b\0name=vport_gre\0junk\0vermagic=6 x \0");
        assert_eq!(facts.depends, ["a", "b"]);
        assert_eq!(facts.identity.version.as_deref(), Some("1"));
        assert_eq!(facts.vermagic.as_deref(), Some("6 x "));
    }
}
