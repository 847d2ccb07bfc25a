use super::{Digest, Ledger};
use crate::version::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The largest CNI configuration that is read, in bytes.
pub const CNI_CONFIG_LIMIT: u64 = 1 << 20;

/// What CNI configuration files say. Which files there are is [`super::Observed::files`]' business.
///
/// Kept by digest, not by path, so that a planned write of known contents needs no
/// second source of truth: what a path says is what the contents it holds say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cni {
    /// Digest of the contents → what they say: the installed `10-nsx.conflist` and
    /// `10-nsx.conf`, and the payload's conflist.
    pub readings: BTreeMap<Digest, CniReading>,
    /// Digest of the contents → the contents: of the conflists that may have to be merged, the
    /// installed one and the payload's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub texts: BTreeMap<Digest, String>,
    /// What is Pointsman's own; none where it has never changed a CNI file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// What is wrong with installed plugins, as far as their files tell: path → plain words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, String>,
    /// Attachments to our network that a runtime still has to undo: names in libcni's cache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<String>,
}

/// What the contents of a CNI configuration file say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum CniReading {
    /// A configuration.
    Config(CniConfig),
    /// Nothing that a runtime could load.
    Garbled {
        /// What is wrong with it.
        why: String,
    },
}

/// A CNI configuration, as far as a plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniConfig {
    /// Whether it is a list (`plugins`), as a `.conflist` must be, and not one plugin.
    pub list: bool,
    /// Of the network; empty where it has none.
    pub name: String,
    /// `cniVersion`; none means `0.1.0` (libcni).
    pub cni_version: Option<String>,
    /// The `type` of each plugin, in order; never empty.
    pub plugins: Vec<String>,
    /// Version of the NSX plugin.
    pub version: VersionTag,
}

/// `nsxBuildVersion`, at the top level or in a plugin of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "tag")]
pub enum VersionTag {
    /// There is none: older than any.
    Missing,
    /// There is one, and it is no version, or there are two that differ.
    Unknown {
        /// As written.
        found: String,
    },
    /// A version.
    Known {
        /// Which.
        version: Version,
    },
}

impl CniConfig {
    /// The plugin that makes the interface; the others are chained behind it.
    pub fn first_plugin(&self) -> &str {
        self.plugins.first().map_or("", String::as_str)
    }

    /// `cniVersion` with libcni's default.
    pub fn cni_version(&self) -> &str {
        self.cni_version.as_deref().unwrap_or("0.1.0")
    }
}

impl CniReading {
    /// Reads a `.conflist` or a `.conf` as libcni does, and never fails: garbage is a reading too.
    pub fn of(contents: &[u8]) -> Self {
        match read(contents) {
            Ok(config) => Self::Config(config),
            Err(why) => Self::Garbled { why },
        }
    }

    /// The configuration, if it is one.
    pub fn config(&self) -> Option<&CniConfig> {
        match self {
            Self::Config(config) => Some(config),
            Self::Garbled { .. } => None,
        }
    }
}

fn read(contents: &[u8]) -> Result<CniConfig, String> {
    if u64::try_from(contents.len()).unwrap_or(u64::MAX) > CNI_CONFIG_LIMIT {
        return Err(format!("it is larger than {CNI_CONFIG_LIMIT} bytes"));
    }
    if contents.is_empty() {
        return Err("it is empty".into());
    }
    let whole: Value = serde_json::from_slice(contents).map_err(|e| format!("no JSON: {e}"))?;
    let Value::Object(whole) = whole else {
        return Err("its JSON is no object".into());
    };
    if let Some(key) = super::json::twice(contents) {
        return Err(format!("its key `{key}` is there twice in one object"));
    }
    if let Some(name) = whole.get("name").and_then(Value::as_str)
        && !is_network_name(name)
    {
        return Err("its `name` is none that a runtime takes".into());
    }
    let text = |key: &str| match whole.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("its `{key}` is no string")),
    };
    let (name, cni_version) = (text("name")?.unwrap_or_default(), text("cniVersion")?);
    let list = whole.contains_key("plugins");
    let plugins = match whole.get("plugins") {
        None => vec![text("type")?.ok_or("it has neither `plugins` nor `type`")?],
        Some(Value::Array(plugins)) => plugins.iter().map(type_of).collect::<Result<_, _>>()?,
        Some(_) => return Err("its `plugins` is no list".into()),
    };
    if plugins.is_empty() {
        return Err("its `plugins` is empty".into());
    }
    // libcni refuses a list without a name, and takes a single plugin without one
    if list && name.is_empty() {
        return Err("its list has no `name`".into());
    }
    let inner = whole.get("plugins").and_then(Value::as_array).into_iter().flatten();
    let tags: Vec<&Value> = std::iter::once(whole.get("nsxBuildVersion"))
        .chain(inner.map(|plugin| plugin.get("nsxBuildVersion")))
        .flatten()
        .collect();
    Ok(CniConfig { list, name, cni_version, plugins, version: tag_of(&tags) })
}

/// `ValidateNetworkName` of containernetworking/cni: `^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`. Without a
/// name is another matter.
fn is_network_name(name: &str) -> bool {
    let first = name.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn type_of(plugin: &Value) -> Result<String, String> {
    match plugin.get("type").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err("one of its `plugins` has no `type`".into()),
    }
}

fn tag_of(tags: &[&Value]) -> VersionTag {
    let Some((first, others)) = tags.split_first() else {
        return VersionTag::Missing;
    };
    let parse = |tag: &Value| tag.as_str().and_then(|text| Version::parse(text).ok());
    match parse(first) {
        Some(version) if others.iter().all(|tag| parse(tag).as_ref() == Some(&version)) => {
            VersionTag::Known { version }
        }
        // a number such as 4.10 has lost digits already: it is no version
        _ => {
            let written: Vec<String> = tags.iter().map(ToString::to_string).collect();
            VersionTag::Unknown { found: written.join(", ").chars().take(128).collect() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> CniConfig {
        let reading = CniReading::of(text.as_bytes());
        reading.config().unwrap_or_else(|| panic!("{reading:?}")).clone()
    }

    fn known(text: &str) -> VersionTag {
        VersionTag::Known { version: Version::parse(text).unwrap() }
    }

    #[test]
    fn a_version_is_found_at_the_top_and_in_a_plugin() {
        let top = config(
            r#"{"name":"n","cniVersion":"1.0.0","nsxBuildVersion":"4.1","plugins":[{"type":"nsx"}]}"#,
        );
        assert_eq!((top.version, top.list, top.plugins), (known("4.1"), true, vec!["nsx".into()]));
        let inside = config(
            r#"{"name":"n","plugins":[{"type":"nsx","nsxBuildVersion":"4.1.2.3.9999999999"},{"type":"portmap"}]}"#,
        );
        assert_eq!(inside.version, known("4.1.2.3.9999999999"));
        assert_eq!((inside.first_plugin(), inside.cni_version()), ("nsx", "0.1.0"));
    }

    #[test]
    fn a_tag_that_is_no_version_is_told_from_none() {
        let tagged = |tag: &str| {
            config(&format!(
                r#"{{"name":"n","nsxBuildVersion":{tag},"plugins":[{{"type":"nsx"}}]}}"#
            ))
            .version
        };
        for bad in ["4.10", "\"v4\"", "null", "[]", "\"\""] {
            assert_eq!(tagged(bad), VersionTag::Unknown { found: bad.into() });
        }
        let none = config(r#"{"name":"n","plugins":[{"type":"nsx"}]}"#);
        assert_eq!(none.version, VersionTag::Missing);
        let two = config(
            r#"{"name":"n","nsxBuildVersion":"4.1","plugins":[{"type":"nsx","nsxBuildVersion":"4.2"}]}"#,
        );
        assert_eq!(two.version, VersionTag::Unknown { found: "\"4.1\", \"4.2\"".into() });
    }

    #[test]
    fn one_plugin_is_read_too() {
        let one = config(r#"{"type":"nsx"}"#);
        assert!(!one.list);
        assert_eq!(one.first_plugin(), "nsx");
    }

    #[test]
    fn garbage_is_a_reading() {
        let deep = "[".repeat(100_000);
        let large = " ".repeat(usize::try_from(CNI_CONFIG_LIMIT).unwrap() + 1);
        for (text, why) in [
            ("", "empty"),
            ("{", "no JSON"),
            ("{} {}", "no JSON"),
            ("[]", "no object"),
            ("{}", "neither"),
            (r#"{"name":7,"type":"nsx"}"#, "`name` is no string"),
            (r#"{"name":"n","plugins":{}}"#, "no list"),
            (r#"{"name":"n","plugins":[]}"#, "empty"),
            (r#"{"name":"n","plugins":[7]}"#, "no `type`"),
            (r#"{"name":"n","plugins":[{"type":""}]}"#, "no `type`"),
            (r#"{"plugins":[{"type":"nsx"}]}"#, "no `name`"),
            (r#"{"name":"../n","plugins":[{"type":"nsx"}]}"#, "a runtime takes"),
            (
                r#"{"name":"n","plugins":[{"type":"nsx","a":[{"b":1,"b":2}]}]}"#,
                "`b` is there twice",
            ),
            ("\u{feff}{}", "no JSON"),
            (deep.as_str(), "no JSON"),
            (large.as_str(), "larger"),
        ] {
            let CniReading::Garbled { why: found } = CniReading::of(text.as_bytes()) else {
                panic!("{text} was read");
            };
            assert!(found.contains(why), "{found}");
        }
    }

    #[test]
    fn every_prefix_and_every_flipped_byte_of_a_configuration_is_read() {
        let text = br#"{"name":"n","cniVersion":"1.0.0","nsxBuildVersion":"4.1","plugins":[{"type":"nsx"}]}"#;
        for end in 0..text.len() {
            assert_eq!(CniReading::of(&text[..end]).config(), None, "{end}");
            for bit in 0..8 {
                let mut other = text.to_vec();
                other[end] ^= 1 << bit;
                // whatever it says, it says it without a panic
                drop(CniReading::of(&other));
            }
        }
    }
}
