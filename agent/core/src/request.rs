//! What a Node's annotations ask for.

use crate::error::Reasoned;
use crate::keys::{Annotations, DESIRED_PROFILE, RETRY};
use crate::model::Digest;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Longest profile name and longest `retry` value, bytes; the limit of a Kubernetes label value.
const NAME_LIMIT: usize = 63;
/// Fewest digits that pin a profile: 48 bits, as far as two profiles may meet by accident.
const PIN_FROM: usize = 12;
/// Digits of a whole SHA-256.
const PIN_TO: usize = 64;
/// How much of a bad value an error repeats, characters.
const SHOWN: usize = 80;

/// A profile's name, and what its content must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// `[a-z0-9]([a-z0-9._-]*[a-z0-9])?`, at most 63 bytes.
    pub name: String,
    /// The first 12 to 64 hexadecimal digits of the content's SHA-256; none for any content.
    pub pin: Option<String>,
}

/// A profile whose content is known: `name@sha256:<64 hex>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileId {
    /// As configured.
    pub name: String,
    /// Of the canonical profile and the payload's manifest; the same on every node.
    pub content: Digest,
}

/// What is wanted of the node, sampled once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The request word for word, as every report that answers it repeats it.
    pub observed: String,
    /// The profile to take the node to.
    pub wanted: Wanted,
    /// Whether a person asked. Without one the default profile holds, and only as
    /// far as its plan disrupts nothing.
    pub explicit: bool,
}

/// A request that cannot be meant.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadRequest {
    /// Not a profile's name.
    #[error(
        "`{found}` is no profile name: 1 to 63 of `a-z`, `0-9`, `.`, `_`, `-` are expected, \
         with a letter or digit at both ends"
    )]
    Name {
        /// As written.
        found: String,
    },
    /// What follows the `@` pins nothing.
    #[error(
        "`{found}` pins no content: `name@sha256:` and 12 to 64 lower-case hexadecimal digits \
         are expected"
    )]
    Pin {
        /// As written, with the name.
        found: String,
    },
    /// Not a value of `retry`.
    #[error(
        "the annotation {RETRY} holds `{found}`: 1 to 63 of `A-Z`, `a-z`, `0-9`, `.`, `_`, `-` \
         are expected"
    )]
    Retry {
        /// As written.
        found: String,
    },
    /// The profile of this name has another content here.
    #[error(
        "the profile `{name}` is sha256:{actual} on this node, but sha256:{pinned} is asked for: \
         its configuration or payload differs from what the request was made for"
    )]
    ProfileDigestMismatch {
        /// Of the profile.
        name: String,
        /// As asked for.
        pinned: String,
        /// What this node has.
        actual: Digest,
    },
}

impl Reasoned for BadRequest {
    fn reason(&self) -> &'static str {
        match self {
            Self::Name { .. } | Self::Pin { .. } | Self::Retry { .. } => "BadRequest",
            Self::ProfileDigestMismatch { .. } => "ProfileDigestMismatch",
        }
    }

    fn is_transient(&self) -> bool {
        false
    }
}

/// The request word for word, `<desired-profile>[;retry=<value>]`; empty where nobody
/// asks. A report is fresh only while it repeats exactly this.
pub fn verbatim(annotations: &Annotations) -> String {
    let desired = annotations.get(DESIRED_PROFILE).map_or("", String::as_str);
    match annotations.get(RETRY) {
        Some(retry) => format!("{desired};retry={retry}"),
        None => desired.to_owned(),
    }
}

impl Request {
    /// What the annotations of a Node ask for, or the configured default where they
    /// name no profile; none where there is no default either.
    pub fn read(
        annotations: &Annotations,
        default_profile: Option<&str>,
    ) -> Result<Option<Self>, BadRequest> {
        if let Some(retry) = annotations.get(RETRY)
            && !is_retry(retry)
        {
            return Err(BadRequest::Retry { found: shown(retry) });
        }
        let asked = annotations.get(DESIRED_PROFILE).map(String::as_str);
        let Some(text) = asked.or(default_profile) else { return Ok(None) };
        Ok(Some(Self {
            observed: verbatim(annotations),
            wanted: Wanted::parse(text)?,
            explicit: asked.is_some(),
        }))
    }
}

impl Wanted {
    /// Reads `name` or `name@sha256:<12+ hex>`.
    pub fn parse(text: &str) -> Result<Self, BadRequest> {
        let (name, pin) = match text.split_once('@') {
            Some((name, pin)) => (name, Some(pin)),
            None => (text, None),
        };
        if !is_name(name) {
            return Err(BadRequest::Name { found: shown(name) });
        }
        let pin = match pin {
            None => None,
            Some(pin) => match pin.strip_prefix("sha256:").filter(|digits| is_pin(digits)) {
                Some(digits) => Some(digits.to_owned()),
                None => return Err(BadRequest::Pin { found: shown(text) }),
            },
        };
        Ok(Self { name: name.to_owned(), pin })
    }

    /// Whether the content that this node has under the name is the one asked for.
    pub fn check(&self, actual: Digest) -> Result<(), BadRequest> {
        match &self.pin {
            Some(pin) if !actual.to_string().starts_with(pin.as_str()) => {
                let (name, pinned) = (self.name.clone(), pin.clone());
                Err(BadRequest::ProfileDigestMismatch { name, pinned, actual })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a profile is what was asked for: by name, and by content where pinned.
    pub fn is_met_by(&self, profile: &ProfileId) -> bool {
        self.name == profile.name && self.check(profile.content).is_ok()
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pin {
            Some(pin) => write!(f, "{}@sha256:{pin}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl ProfileId {
    /// Reads what its [`fmt::Display`] writes; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digits) = text.split_once("@sha256:")?;
        let content = Digest::try_from(digits.to_owned()).ok()?;
        is_name(name).then(|| Self { name: name.to_owned(), content })
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@sha256:{}", self.name, self.content)
    }
}

fn is_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=NAME_LIMIT).contains(&text.len())
        && text.chars().all(|c| edge(c) || matches!(c, '.' | '_' | '-'))
        && text.starts_with(edge)
        && text.ends_with(edge)
}

fn is_pin(digits: &str) -> bool {
    (PIN_FROM..=PIN_TO).contains(&digits.len())
        && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn is_retry(text: &str) -> bool {
    (1..=NAME_LIMIT).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// A value as an error repeats it: short, and on one line.
fn shown(text: &str) -> String {
    let mut line: String = text.escape_debug().take(SHOWN).collect();
    if text.escape_debug().nth(SHOWN).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_profile_is_asked_for_by_name() {
        for name in ["a", "0", "nsx-ovs", "a.b_c-d", &"a".repeat(63)] {
            let request = Request::read(&annotated(&[(DESIRED_PROFILE, name)]), Some("other"));
            let request = request.unwrap().unwrap();
            assert_eq!(request.wanted, Wanted { name: name.to_owned(), pin: None });
            assert_eq!(request.observed, name);
            assert!(request.explicit);
        }
    }

    #[test]
    fn other_names_are_refused_and_repeated() {
        let long = "a".repeat(64);
        for name in ["", "-a", "a-", ".", "A", "a b", "a/b", "a;retry=b", "é", " a", &long] {
            let error = Wanted::parse(name).unwrap_err();
            assert_eq!(error.reason(), "BadRequest");
            let text = error.to_string();
            assert!(text.contains(&format!("`{name}`")), "{text}");
            assert!(text.contains("1 to 63"), "{text}");
        }
    }

    #[test]
    fn a_long_or_odd_value_is_cut_to_one_line() {
        let text = Wanted::parse(&"é\n".repeat(10_000)).unwrap_err().to_string();
        assert!(text.len() < 400 && !text.contains('\n') && text.contains('…'), "{text}");
    }

    #[test]
    fn a_pin_holds_the_content_fast() {
        let content = Digest::of(b"abc");
        let hex = content.to_string();
        for digits in [hex.get(..12).unwrap(), hex.get(..40).unwrap(), &hex] {
            let wanted = Wanted::parse(&format!("p@sha256:{digits}")).unwrap();
            assert_eq!(wanted.to_string(), format!("p@sha256:{digits}"));
            assert_eq!(wanted.check(content), Ok(()));
            let error = wanted.check(Digest::of(b"abd")).unwrap_err();
            assert_eq!(error.reason(), "ProfileDigestMismatch");
            assert!(error.to_string().contains(digits), "{error}");
            assert!(error.to_string().contains(&Digest::of(b"abd").to_string()), "{error}");
        }
        assert_eq!(Wanted::parse("p").unwrap().check(content), Ok(()));
    }

    #[test]
    fn other_pins_are_refused() {
        let long = "a".repeat(65);
        for pin in ["", "sha256:", "sha256:abcdef01234", "sha256:ABCDEF012345", "md5:abcdef012345"]
            .into_iter()
            .chain([format!("sha256:{long}").as_str(), "sha256:abcdef012345@", "abcdef012345"])
        {
            let text = Wanted::parse(&format!("p@{pin}")).unwrap_err().to_string();
            assert!(text.contains("12 to 64"), "{text}");
        }
    }

    #[test]
    fn the_request_is_kept_word_for_word() {
        let both = annotated(&[(DESIRED_PROFILE, "p@sha256:abcdef012345"), (RETRY, "3.b_C-d")]);
        let request = Request::read(&both, None).unwrap().unwrap();
        assert_eq!(request.observed, "p@sha256:abcdef012345;retry=3.b_C-d");
        assert_eq!(verbatim(&annotated(&[(RETRY, "x")])), ";retry=x");
        assert_eq!(verbatim(&annotated(&[])), "");
    }

    #[test]
    fn without_a_request_the_default_holds() {
        let none = annotated(&[]);
        assert_eq!(Request::read(&none, None), Ok(None));
        let request = Request::read(&none, Some("nsx-ovs")).unwrap().unwrap();
        assert_eq!((request.observed.as_str(), request.explicit), ("", false));
        assert_eq!(request.wanted.name, "nsx-ovs");
        // written empty is written: the default does not stand in for it
        assert!(Request::read(&annotated(&[(DESIRED_PROFILE, "")]), Some("nsx-ovs")).is_err());
    }

    #[test]
    fn a_retry_that_blurs_the_request_is_refused() {
        for retry in ["", "a;b", "a=b", "a b", &"r".repeat(64)] {
            let error = Request::read(&annotated(&[(RETRY, retry)]), None).unwrap_err();
            assert!(error.to_string().contains(RETRY), "{error}");
        }
    }

    #[test]
    fn a_profile_id_survives_its_text() {
        let id = ProfileId { name: "a".into(), content: Digest::of(b"") };
        assert_eq!(ProfileId::parse(&id.to_string()), Some(id));
        for bad in ["", "a", "a@sha256:abcdef012345", "A@sha256:", "@sha256:"] {
            assert_eq!(ProfileId::parse(bad), None, "{bad}");
        }
    }
}
