//! systemd-boot: `loader.conf` and the loader's EFI variables (systemd-boot(7), loader.conf(5)).

use super::entries::{Entry, PARTITIONS, menu};
use super::text;
use crate::disk::HostRoot;
use pointsman_core::model::NextBoot;
use std::path::Path;

const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Where the variables say that systemd-boot started this system.
pub(super) fn running(root: &HostRoot) -> Option<NextBoot> {
    let loader = variable(root, "LoaderInfo")?;
    loader.starts_with("systemd-boot").then(|| of(root))
}

/// Where a `loader.conf` is there.
pub(super) fn configured(root: &HostRoot) -> Option<NextBoot> {
    conf(root).map(|_| of(root))
}

fn of(root: &HostRoot) -> NextBoot {
    let entries = menu(root);
    // each overrules those behind it
    let named = [
        ("LoaderEntryOneShot", variable(root, "LoaderEntryOneShot")),
        ("LoaderEntryDefault", variable(root, "LoaderEntryDefault")),
        ("`default` of loader.conf", conf(root).and_then(|text| default(&text))),
    ];
    let wanted = named.into_iter().find_map(|(by, value)| Some((by, value?)));
    if let Some((by, pattern)) = &wanted {
        // a pattern that fits no entry is passed over, except for a name that is told at run time
        let chosen = entries.iter().find(|entry| fits(pattern, &entry.id));
        if let Some(entry) = chosen {
            return told(entry, &format!("by {by}, entry {}", entry.id));
        }
        let image =
            Path::new(pattern).extension().is_some_and(|end| end.eq_ignore_ascii_case("efi"));
        if !by.starts_with('`') || pattern.starts_with('@') || image {
            let how = format!("{by} names `{pattern}`, which is no entry file of this host");
            return NextBoot::unknown(how);
        }
    }
    match entries.first() {
        Some(entry) => {
            told(entry, &format!("by the first entry of systemd-boot's menu, {}", entry.id))
        }
        None => NextBoot::unknown("systemd-boot has no entry files that could be read"),
    }
}

fn told(entry: &Entry, how: &str) -> NextBoot {
    match entry.release() {
        Some(release) => NextBoot::is(release, how),
        None => NextBoot::unknown(format!("{how}, which names no kernel release")),
    }
}

fn conf(root: &HostRoot) -> Option<String> {
    PARTITIONS.iter().find_map(|partition| text(root, &format!("{partition}/loader/loader.conf")))
}

fn default(conf: &str) -> Option<String> {
    let value = |line: &str| {
        let (key, value) = line.trim().split_once(char::is_whitespace)?;
        (key == "default").then(|| value.trim().to_owned())
    };
    conf.lines().filter_map(value).next_back()
}

/// A shell pattern with `*` and `?`; an id may be given with `.conf`.
fn fits(pattern: &str, id: &str) -> bool {
    let pattern = pattern.strip_suffix(".conf").unwrap_or(pattern);
    let (pattern, id): (Vec<char>, Vec<char>) = (pattern.chars().collect(), id.chars().collect());
    // ends[n]: whether the pattern so far fits the first n letters
    let mut ends = vec![false; id.len().saturating_add(1)];
    if let Some(first) = ends.first_mut() {
        *first = true;
    }
    for letter in pattern {
        let mut next = vec![false; ends.len()];
        let mut any = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = ends.get(at).copied().unwrap_or(false);
            let before = at.checked_sub(1);
            let fit = before.is_some_and(|at| {
                let same = letter == '?' || id.get(at) == Some(&letter);
                same && ends.get(at).copied().unwrap_or(false)
            });
            any |= here;
            *slot = if letter == '*' { any } else { fit };
        }
        ends = next;
    }
    ends.last().copied().unwrap_or(false)
}

/// A variable's text: four bytes of attributes, then UTF-16 with a NUL at its end.
fn variable(root: &HostRoot, name: &str) -> Option<String> {
    let path = format!("/sys/firmware/efi/efivars/{name}-{VENDOR}");
    let bytes = root.read(&path, 64 << 10).ok()?;
    let units = bytes.get(4..)?.as_chunks::<2>().0.iter().map(|two| u16::from_le_bytes(*two));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16(&units).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_the_shells() {
        for (pattern, id, expected) in [
            ("debian-*", "debian-6.1.0", true),
            ("debian-*.conf", "debian-6.1.0", true),
            ("*6.1?0*", "debian-6.1.0", true),
            ("debian", "debian-6.1.0", false),
            ("*-6.2*", "debian-6.1.0", false),
            ("", "x", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, id), expected, "{pattern} {id}");
        }
    }

    #[test]
    fn the_last_default_of_the_file_counts() {
        assert_eq!(default("timeout 3\ndefault a\n default  b* \n").as_deref(), Some("b*"));
        assert_eq!(default("#default a\n"), None);
    }
}
