//! Files of the host that somebody else writes, read with no expectation of what is there.

use crate::disk::HostRoot;
use pointsman_core::error::chain;
use std::fs;
use std::path::Path;

/// Configuration has a few kibibytes.
const LIMIT: u64 = 1 << 20;

/// Reads, and remembers what is there and cannot be read.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    root: &'a HostRoot,
    unread: Vec<String>,
}

impl<'a> Files<'a> {
    /// Below a root.
    pub(crate) fn below(root: &'a HostRoot) -> Self {
        Self { root, unread: Vec::new() }
    }

    /// What could not be read.
    pub(crate) fn into_unread(self) -> Vec<String> {
        self.unread
    }

    /// A file's text; none where there is no file.
    pub(crate) fn text(&mut self, path: &str) -> Option<String> {
        match self.root.read(path, LIMIT) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                self.unread.push(chain(&error));
                None
            }
        }
    }

    /// Remembers a file whose text nobody here can read.
    pub(crate) fn not_understood(&mut self, path: &str, why: &str) {
        self.unread.push(format!("{path}: {why}"));
    }

    /// Whether something is there.
    pub(crate) fn exists(&self, path: &str) -> bool {
        matches!(self.root.state(path), Ok(Some(_)))
    }

    /// The names in a directory, sorted; none where there is no directory.
    pub(crate) fn names(&mut self, directory: &str) -> Vec<String> {
        let at = match self.root.locate_directory(Path::new(directory)) {
            Ok(at) => at,
            Err(error) if error.is_not_found() => return Vec::new(),
            Err(error) => {
                self.unread.push(chain(&error));
                return Vec::new();
            }
        };
        let entries = match fs::read_dir(at) {
            Ok(entries) => entries,
            Err(error) => {
                self.unread.push(format!("list {directory}: {error}"));
                return Vec::new();
            }
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Files of some directories that end in `suffix`, by name: one of an earlier directory
    /// hides those of the same name in later ones, as systemd, netplan and `NetworkManager` do.
    pub(crate) fn layered(&mut self, directories: &[&str], suffix: &str) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for directory in directories {
            for name in self.names(directory) {
                if name.ends_with(suffix) && !found.iter().any(|(known, _)| *known == name) {
                    found.push((name.clone(), format!("{directory}/{name}")));
                }
            }
        }
        found.sort();
        let mut texts = Vec::new();
        for (_, path) in found {
            if let Some(text) = self.text(&path) {
                texts.push((path, text));
            }
        }
        texts
    }
}

/// Lines of an ini file as section, key and value; comments start with `#` or `;`.
pub(crate) fn ini(text: &str) -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            found.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// The last value of a key.
pub(crate) fn value<'a>(
    ini: &'a [(String, String, String)],
    section: &str,
    key: &str,
) -> Option<&'a str> {
    let mut own = ini.iter().filter(|(s, k, _)| s == section && k == key);
    own.next_back().map(|(_, _, value)| value.as_str())
}

/// Shell patterns of device names: `*`, `?` and `[…]`, as systemd and `NetworkManager` take them.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    glob(&pattern, &name)
}

fn glob(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|at| glob(rest, name.get(at..).unwrap_or(&[]))),
        Some(('[', rest)) => {
            let Some(end) = rest.iter().position(|c| *c == ']') else { return false };
            let (set, rest) = (rest.get(..end).unwrap_or(&[]), rest.get(end + 1..).unwrap_or(&[]));
            name.split_first().is_some_and(|(first, tail)| in_set(set, *first) && glob(rest, tail))
        }
        Some((wanted, rest)) => name
            .split_first()
            .is_some_and(|(first, tail)| (*wanted == '?' || wanted == first) && glob(rest, tail)),
    }
}

fn in_set(set: &[char], letter: char) -> bool {
    let (inverted, set) = match set.split_first() {
        Some(('!' | '^', rest)) => (true, rest),
        _ => (false, set),
    };
    let within = set.windows(3).any(|w| matches!(w, [a, '-', b] if (*a..=*b).contains(&letter)));
    (within || set.contains(&letter)) != inverted
}

/// Puts a file where a test wants it.
#[cfg(test)]
pub(crate) fn put(root: &HostRoot, path: &str, text: &str) {
    let directory = Path::new(path).parent().unwrap();
    fs::create_dir_all(root.path().join(directory.strip_prefix("/").unwrap())).unwrap();
    root.write(path, 0o644, text.as_bytes()).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        for (pattern, name, is) in [
            ("eth1", "eth1", true),
            ("eth*", "eth1", true),
            ("e?h[0-3]", "eth1", true),
            ("eth[!1]", "eth1", false),
            ("*", "br-int", true),
            ("en*", "eth1", false),
            ("eth", "eth1", false),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn ini_files() {
        let found = ini("# no\n[a b]\nk = v=w\n;x=y\n[c]\nk=\n");
        assert_eq!(value(&found, "a b", "k"), Some("v=w"));
        assert_eq!(value(&found, "c", "k"), Some(""));
        assert_eq!(value(&found, "c", "x"), None);
    }

    #[test]
    fn an_earlier_directory_hides_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        for (path, text) in
            [("/etc/b.x", "1"), ("/etc/c.y", "2"), ("/run/b.x", "3"), ("/run/a.x", "4")]
        {
            put(&root, path, text);
        }
        let mut files = Files::below(&root);
        let found = files.layered(&["/etc", "/run", "/none"], ".x");
        let expected = [("/run/a.x", "4"), ("/etc/b.x", "1")];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        fs::create_dir(dir.path().join("etc/d.x")).unwrap();
        files.layered(&["/etc"], ".x");
        assert_eq!(files.into_unread().len(), 1, "a directory is no file");
    }
}
