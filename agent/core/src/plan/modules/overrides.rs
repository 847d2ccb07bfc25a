//! depmod's configuration: the file that makes the payload's set win, for one kernel at a time.
//!
//! Facts about depmod (kmod 30) that its manual does not tell:
//! * The kernel of an `override` is a POSIX regular expression that is not anchored, and
//!   the parser eats backslashes: special characters are spelled as bracket expressions.
//! * The first word is the stem of the file (`vport-geneve`), not the module's name.
//! * The override that is read last is asked first; files are read by name, and a name in an
//!   earlier directory hides the same name in a later one.

use crate::config::Paths;
use crate::model::{DepmodConf, DepmodOverride, FileState, MODULE_STEMS, Observed};
use std::collections::BTreeMap;

/// Sorts behind the names that distributions use, so that its overrides are asked first.
pub const OVERRIDE_FILE: &str = "zz-pointsman-ovs.conf";

/// Where the payload's set lies, below a kernel's directory.
pub const SET_DIRECTORY: &str = "weak-updates/openvswitch";

/// Where depmod looks beside the configured directory, first one first.
pub const OTHER_DIRECTORIES: [&str; 4] =
    ["/run/depmod.d", "/usr/local/lib/depmod.d", "/usr/lib/depmod.d", "/lib/depmod.d"];

const HEADER: &str = "\
# Written by pointsman: for the kernels below, the set in weak-updates/openvswitch
# is chosen, whatever else there is. `pointsman modules apply --to in-tree` removes it.
";
const MADE: &str = "# made ";

/// Characters of a kernel release: none of them is special inside brackets.
pub fn is_release(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    !text.is_empty() && !text.starts_with(['.', '-']) && text.chars().all(fits)
}

/// What our file is to hold: which kernels, and which directories were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// Kernel releases, each with the directories that were made in its tree.
    pub(crate) kernels: BTreeMap<String, Vec<String>>,
    /// Directories that were made for the file itself.
    pub(crate) made: Vec<String>,
}

impl Pins {
    /// The file's text; none where there is nothing to say.
    pub(crate) fn render(&self) -> Option<String> {
        if self.kernels.is_empty() {
            return None;
        }
        let mut text = String::from(HEADER);
        for directory in self.made.iter().chain(self.kernels.values().flatten()) {
            text.push_str(MADE);
            text.push_str(directory);
            text.push('\n');
        }
        for kernel in self.kernels.keys() {
            let pattern = anchored(kernel);
            for stem in MODULE_STEMS {
                text.extend(["override ", stem, " ", &pattern, " ", SET_DIRECTORY, "\n"]);
            }
        }
        Some(text)
    }

    /// What a file of ours says, whoever touched it since.
    pub(crate) fn of(conf: &DepmodConf, paths: &Paths) -> Self {
        let mut pins = Self::default();
        for line in &conf.overrides {
            if line.directory == SET_DIRECTORY
                && let Some(kernel) = release_of(&line.kernel)
            {
                pins.kernels.entry(kernel).or_default();
            }
        }
        for directory in &conf.made {
            let kernel = directory
                .strip_prefix(paths.modules.as_str())
                .and_then(|below| below.trim_start_matches('/').split('/').next())
                .and_then(|kernel| pins.kernels.get_mut(kernel));
            kernel.unwrap_or(&mut pins.made).push(directory.clone());
        }
        pins
    }
}

/// Reads the commands that decide between copies; others are skipped as depmod does.
pub fn parse_depmod(text: &str) -> DepmodConf {
    let mut conf = DepmodConf::default();
    for line in text.replace("\\\n", " ").lines() {
        if let Some(directory) = line.strip_prefix(MADE) {
            conf.made.push(directory.to_owned());
            continue;
        }
        let mut words = line.split_whitespace();
        match words.next() {
            Some("search") => conf.search.extend(words.map(str::to_owned)),
            Some("override") => {
                if let (Some(stem), Some(kernel), Some(directory)) =
                    (words.next(), words.next(), words.next())
                {
                    // depmod drops backslashes before it reads the words
                    let [stem, kernel, directory] =
                        [stem, kernel, directory].map(|word| word.replace('\\', ""));
                    conf.overrides.push(DepmodOverride { stem, kernel, directory });
                }
            }
            Some(_) | None => {}
        }
    }
    conf
}

/// Whether depmod reads a file of this name. It minds the case.
#[expect(clippy::case_sensitive_file_extension_comparisons, reason = "as depmod compares")]
pub fn is_conf(name: &str) -> bool {
    name.ends_with(".conf")
}

/// Our file's path.
pub(crate) fn our_file(paths: &Paths) -> String {
    format!("{}/{OVERRIDE_FILE}", paths.depmod)
}

/// What our file says; nothing where it is not there.
pub(crate) fn our_pins(observed: &Observed, paths: &Paths) -> Pins {
    conf_at(observed, &our_file(paths)).map(|conf| Pins::of(conf, paths)).unwrap_or_default()
}

/// The configuration files in the order in which depmod reads them: path and content.
pub(crate) fn in_order<'a>(observed: &'a Observed, paths: &Paths) -> Vec<(String, &'a DepmodConf)> {
    let mut by_name: BTreeMap<String, (String, &DepmodConf)> = BTreeMap::new();
    let directories = std::iter::once(paths.depmod.as_str()).chain(OTHER_DIRECTORIES);
    for directory in directories {
        let prefix = format!("{directory}/");
        for path in observed.files.keys() {
            let Some(name) = path.strip_prefix(&prefix) else { continue };
            if name.starts_with('.') || name.contains('/') || !is_conf(name) {
                continue;
            }
            if let Some(conf) = conf_at(observed, path) {
                by_name.entry(name.to_owned()).or_insert_with(|| (path.clone(), conf));
            }
        }
    }
    by_name.into_values().collect()
}

fn conf_at<'a>(observed: &'a Observed, path: &str) -> Option<&'a DepmodConf> {
    observed.modules.depmod.get(&observed.contents_at(path)?)
}

/// Entries of a directory that are not below it deeper, as `(name, state)`.
pub(crate) fn entries<'a>(
    observed: &'a Observed,
    directory: &str,
) -> impl Iterator<Item = (&'a str, &'a FileState)> {
    let prefix = format!("{directory}/");
    observed.files.iter().filter_map(move |(path, state)| {
        let name = path.strip_prefix(&prefix)?;
        (!name.contains('/')).then_some((name, state))
    })
}

/// A release as a pattern that matches nothing else.
fn anchored(kernel: &str) -> String {
    let body: String = kernel
        .chars()
        .map(|c| if matches!(c, '.' | '+') { format!("[{c}]") } else { c.to_string() })
        .collect();
    format!("^{body}$")
}

/// The release behind a pattern of [`anchored`]; none for any other pattern.
fn release_of(pattern: &str) -> Option<String> {
    let body = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let release = body.replace("[.]", ".").replace("[+]", "+");
    (is_release(&release) && anchored(&release) == pattern).then_some(release)
}

/// Whether an override's kernel fits a release; none where the pattern is beyond this
/// reader: then either is possible.
pub(crate) fn fits(pattern: &str, kernel: &str) -> Option<bool> {
    if pattern == "*" {
        return Some(true);
    }
    let atoms = atoms(pattern.trim_start_matches('^').trim_end_matches('$'))?;
    let letters: Vec<char> = kernel.chars().collect();
    let matches = |window: &[char]| {
        window.iter().zip(&atoms).all(|(letter, atom)| atom.is_none_or(|atom| atom == *letter))
    };
    if letters.len() < atoms.len() {
        return Some(false);
    }
    let last = letters.len() - atoms.len();
    let starts = match (pattern.starts_with('^'), pattern.ends_with('$')) {
        (true, true) if last > 0 => return Some(false),
        (true, _) => 0..=0,
        (false, true) => last..=last,
        (false, false) => 0..=last,
    };
    let mut windows =
        starts.filter_map(|start| letters.get(start..start.saturating_add(atoms.len())));
    Some(windows.any(matches))
}

/// One entry per letter, none for any letter; no list for what is more than letters.
fn atoms(pattern: &str) -> Option<Vec<Option<char>>> {
    let mut atoms = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '.' => atoms.push(None),
            '[' => {
                let inside = letters.next().filter(|c| *c != '^' && *c != ']')?;
                atoms.push(Some(inside));
                letters.next().filter(|c| *c == ']')?;
            }
            '*' | '+' | '?' | '{' | '(' | '|' | ')' | '\\' | '^' | '$' => return None,
            plain => atoms.push(Some(plain)),
        }
    }
    Some(atoms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "6.12.113+deb12-amd64";

    #[test]
    fn the_file_says_what_is_pinned_and_is_read_back() {
        let paths = Paths::default();
        let mut pins = Pins::default();
        assert_eq!(pins.render(), None);
        pins.made.push("/etc/depmod.d".into());
        pins.kernels.insert(KERNEL.into(), vec![format!("/lib/modules/{KERNEL}/weak-updates")]);
        pins.kernels.insert("6.1.0-1-amd64".into(), Vec::new());
        let text = pins.render().unwrap();
        assert!(text.contains(
            "\noverride vport-geneve ^6[.]12[.]113[+]deb12-amd64$ weak-updates/openvswitch\n"
        ));
        let conf = parse_depmod(&text);
        assert_eq!(conf.overrides.len(), 12);
        assert_eq!(Pins::of(&conf, &paths), pins);
    }

    #[test]
    fn patterns_are_matched_as_depmod_does() {
        let cases = [
            ("*", Some(true)),
            ("^6[.]12[.]113[+]deb12-amd64$", Some(true)),
            ("6.12.113", Some(true)),
            ("deb12-amd64$", Some(true)),
            ("^6[.]12$", Some(false)),
            ("^6[.]1[.]", Some(false)),
            ("6.1.0-1-amd64", Some(false)),
            ("", Some(true)),
            ("6.12.113+deb12-amd64", None),
            ("[0-9]", None),
            ("^deb", Some(false)),
        ];
        for (pattern, expected) in cases {
            assert_eq!(fits(pattern, KERNEL), expected, "{pattern}");
        }
        assert_eq!(fits("[^", KERNEL), None);
        assert_eq!(fits("[", KERNEL), None);
    }

    #[test]
    fn a_release_is_safe_in_a_pattern_and_in_a_path() {
        for bad in ["", ".", "..", "a/b", "a b", "a\n", "^", "-C", "é"] {
            assert!(!is_release(bad), "{bad}");
        }
        assert!(is_release(KERNEL));
    }

    #[test]
    fn backslashes_are_eaten_and_lines_continued() {
        let conf =
            parse_depmod("override a ^6\\.1$ x\nsearch updates \\\n built-in\nsearch extra\n");
        assert_eq!(conf.overrides[0].kernel, "^6.1$");
        assert_eq!(conf.search, ["updates", "built-in", "extra"]);
    }
}
