//! `nsxBuildVersion`: dotted numbers, compared part by part.
//!
//! Version crates do not fit: semantic versions have three parts, NCP's have five,
//! and a build number such as `22596735999` is larger than 32 bits.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use thiserror::Error;

/// Longer texts are no versions.
const LONGEST: usize = 64;

/// Dotted numbers of any count, 64 bits each.
///
/// Missing parts count as zero, so `4.1` equals `4.1.0`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    text: String,
    /// Without the zeros at the end, which say nothing.
    parts: Vec<u64>,
}

/// Text that is no version: it can be neither older nor newer than one.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no version: numbers joined by dots are expected")]
pub struct BadVersion(String);

impl Version {
    /// Reads a version; blanks around it do not count.
    pub fn parse(text: &str) -> Result<Self, BadVersion> {
        let text = text.trim();
        let bad = || BadVersion(text.chars().take(LONGEST).collect());
        if text.len() > LONGEST {
            return Err(bad());
        }
        let mut parts =
            text.split('.').map(number).collect::<Option<Vec<u64>>>().ok_or_else(bad)?;
        while parts.last() == Some(&0) {
            parts.pop();
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

/// `u64::from_str` would take a sign too.
fn number(part: &str) -> Option<u64> {
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // a longer one has a last part above zero, so comparing as lists pads with zeros
        self.parts.cmp(&other.parts)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Version {}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.hash(state);
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.text
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;

    fn try_from(text: String) -> Result<Self, BadVersion> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn parts_are_compared_as_numbers() {
        for (older, newer) in [
            ("4.1.2", "4.1.10"),
            ("3.9", "4"),
            ("4.1", "4.1.0.0.1"),
            // equal to a crate that stores 32 bits
            ("4.1.2.3.22596735", "4.1.2.3.9999999999"),
            ("0", "18446744073709551615"),
        ] {
            assert!(version(older) < version(newer), "{older} < {newer}");
            assert!(version(newer) > version(older), "{newer} > {older}");
        }
    }

    #[test]
    fn missing_parts_are_zero_and_the_text_is_kept() {
        assert_eq!(version("4.1"), version("4.1.0.0"));
        assert_eq!(version("04.1"), version("4.1"));
        assert_eq!(version("0.0"), version("0"));
        assert_eq!(version(" 4.1.0\n").to_string(), "4.1.0");
    }

    #[test]
    fn other_text_is_no_version() {
        let long = "1".to_owned() + &".1".repeat(32);
        for bad in [
            "",
            ".",
            "4.",
            ".4",
            "4..1",
            "v4.1",
            "4.1-rc1",
            "+4",
            "4.1 beta",
            "٤.1",
            "18446744073709551616",
            &long,
        ] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
        assert!(Version::parse(&"1".repeat(19)).is_ok());
        assert!(Version::parse(long.strip_suffix(".1").unwrap()).is_ok());
    }
}
