//! The shape of the text, and its way to [`Settings`].

use super::schema;
use super::{
    Activate, AddressesChoice, BadConfig, BootUnit, CniChoice, FlowsChoice, Guard, ModulesChoice,
    Node, OvsRunner, Paths, Profile, Settings, Switch,
};
use crate::plan::handover::coexistence;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
struct Fragment {
    default_profile: Option<String>,
    payload: Option<String>,
    #[serde(default)]
    node: NodeFragment,
    #[serde(default)]
    paths: PathsFragment,
    #[serde(default)]
    switch: SwitchFragment,
    #[serde(default)]
    guard: GuardFragment,
    #[serde(default)]
    profiles: BTreeMap<String, ProfileFragment>,
}

#[derive(Debug, Default, Deserialize)]
struct NodeFragment {
    uplink: Option<String>,
    bridge: Option<String>,
    ovsdb: Option<String>,
    #[serde(default)]
    accept: Vec<String>,
    #[serde(default)]
    companions: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct PathsFragment {
    cni_bin: Option<String>,
    cni_conf: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct SwitchFragment {
    activate: Option<Activate>,
    confirm_timeout: Option<String>,
    boot_unit: Option<BootUnit>,
}

#[derive(Debug, Default, Deserialize)]
struct GuardFragment {
    grace: Option<String>,
}

impl GuardFragment {
    fn into_guard(self) -> Result<Guard, BadConfig> {
        let Some(text) = self.grace else { return Ok(Guard::default()) };
        Ok(Guard { grace: seconds("guard.grace", text)? })
    }
}

impl SwitchFragment {
    fn into_switch(self) -> Result<Switch, BadConfig> {
        let defaults = Switch::default();
        Ok(Switch {
            activate: self.activate.unwrap_or(defaults.activate),
            confirm_timeout: match self.confirm_timeout {
                Some(text) => seconds("switch.confirm_timeout", text)?,
                None => defaults.confirm_timeout,
            },
            boot_unit: self.boot_unit.unwrap_or_default(),
        })
    }
}

#[derive(Debug, Deserialize)]
struct ProfileFragment {
    modules: Option<ModulesChoice>,
    cni: Option<CniChoice>,
    addresses: Option<AddressesChoice>,
    ovs: Option<OvsRunner>,
    flows: Option<FlowsChoice>,
}

impl Settings {
    /// Reads and checks a configuration file.
    pub fn parse(text: &str) -> Result<Self, BadConfig> {
        let table: toml::Table = toml::from_str(text).map_err(BadConfig::Syntax)?;
        schema::check(&table)?;
        // from the text again, so that an error points at its line
        let fragment: Fragment = toml::from_str(text).map_err(BadConfig::Value)?;
        fragment.into_settings()
    }
}

impl Fragment {
    fn into_settings(self) -> Result<Settings, BadConfig> {
        let Self { default_profile, payload, node, paths, switch, guard, profiles } = self;
        let defaults = Paths::default();
        let paths = Paths {
            cni_bin: path("paths.cni_bin", paths.cni_bin, &defaults.cni_bin)?,
            cni_conf: path("paths.cni_conf", paths.cni_conf, &defaults.cni_conf)?,
            ..defaults
        };
        let profiles = profiles
            .into_iter()
            .map(|(name, fragment)| Ok((profile_name(&name)?, fragment.into_profile(&name)?)))
            .collect::<Result<BTreeMap<_, _>, BadConfig>>()?;
        if let Some(name) = default_profile.as_ref().filter(|name| !profiles.contains_key(*name)) {
            return Err(BadConfig::Wrong {
                key: "default_profile".into(),
                found: name.clone(),
                expected: format!("the name of a profile is expected: {}", known(&profiles)),
            });
        }
        Ok(Settings {
            default_profile,
            payload: path("payload", payload, super::PAYLOAD)?,
            node: node.into_node()?,
            paths,
            switch: switch.into_switch()?,
            guard: guard.into_guard()?,
            profiles,
        })
    }
}

fn known(profiles: &BTreeMap<String, Profile>) -> String {
    if profiles.is_empty() {
        return "there is none".into();
    }
    profiles.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl NodeFragment {
    fn into_node(self) -> Result<Node, BadConfig> {
        let Self { uplink, bridge, ovsdb, accept, companions } = self;
        let uplink = uplink.ok_or_else(|| BadConfig::Missing {
            key: "node.uplink".into(),
            expected: "the name of the NIC that holds the node's addresses".into(),
        })?;
        let node = Node {
            uplink: link("node.uplink", uplink)?,
            bridge: link("node.bridge", bridge.unwrap_or_else(|| super::BRIDGE.into()))?,
            ovsdb: ovsdb.unwrap_or_else(|| super::OVSDB.into()),
            accept: accept.into_iter().map(reason).collect::<Result<_, _>>()?,
            companions,
        };
        if node.uplink == node.bridge {
            return Err(BadConfig::Wrong {
                key: "node.bridge".into(),
                found: node.bridge,
                expected: "another name than the uplink's is expected".into(),
            });
        }
        if node.ovsdb_path().is_none() {
            return Err(BadConfig::Wrong {
                key: "node.ovsdb".into(),
                found: node.ovsdb,
                expected: "`unix:` and an absolute path are expected".into(),
            });
        }
        Ok(node)
    }
}

impl ProfileFragment {
    fn into_profile(self, name: &str) -> Result<Profile, BadConfig> {
        let Self { modules, cni, addresses, ovs, flows } = self;
        let missing = |key: &str, choices: &str| BadConfig::Missing {
            key: format!("profiles.{name}.{key}"),
            expected: format!("one of {choices}"),
        };
        Ok(Profile {
            modules: modules.ok_or_else(|| missing("modules", "`payload`, `in-tree`, `leave`"))?,
            cni: cni.ok_or_else(|| missing("cni", "`payload`, `absent`, `leave`"))?,
            addresses: addresses
                .ok_or_else(|| missing("addresses", "`bridge`, `uplink`, `leave`"))?,
            ovs: ovs.unwrap_or(OvsRunner::Host),
            flows: flows.unwrap_or_default(),
        })
    }
}

/// A reason that can be accepted.
fn reason(word: String) -> Result<String, BadConfig> {
    let known = coexistence::acceptable();
    if known.contains(&word.as_str()) {
        return Ok(word);
    }
    Err(BadConfig::Wrong {
        key: "node.accept".into(),
        found: word,
        expected: format!("reasons of this list are expected: `{}`", known.join("`, `")),
    })
}

/// `30s`, `2m`: from one second to an hour.
fn seconds(key: &str, found: String) -> Result<u32, BadConfig> {
    let number = |digits: &str, unit: u32| digits.parse::<u32>().ok()?.checked_mul(unit);
    let value = match (found.strip_suffix('s'), found.strip_suffix('m')) {
        (Some(digits), _) => number(digits, 1),
        (None, Some(digits)) => number(digits, 60),
        (None, None) => None,
    };
    value.filter(|seconds| (1..=3600).contains(seconds)).ok_or_else(|| BadConfig::Wrong {
        key: key.into(),
        found,
        expected: "a time from `1s` to `60m` is expected".into(),
    })
}

/// The kernel's rule for device names: `dev_valid_name` in net/core/dev.c.
fn link(key: &str, name: String) -> Result<String, BadConfig> {
    let good = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if good {
        return Ok(name);
    }
    Err(BadConfig::Wrong {
        key: key.into(),
        found: name,
        expected:
            "the name of a network device is expected: 1 to 15 bytes, no blank, no `/`, no `:`"
                .into(),
    })
}

fn path(key: &str, value: Option<String>, default: &str) -> Result<String, BadConfig> {
    let value = value.unwrap_or_else(|| default.into());
    let good = value.starts_with('/')
        && value.len() > 1
        && !value.ends_with('/')
        && value.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    if good {
        return Ok(value);
    }
    Err(BadConfig::Wrong {
        key: key.into(),
        found: value,
        expected: "an absolute path without `.`, `..` or a closing `/` is expected".into(),
    })
}

/// Profile names are annotation values and label-like: `[a-z0-9]([a-z0-9._-]*[a-z0-9])?`, at most 63 bytes.
fn profile_name(name: &str) -> Result<String, BadConfig> {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let good = name.len() <= 63
        && end(name.chars().next())
        && end(name.chars().last())
        && name.chars().all(inner);
    if good {
        return Ok(name.to_owned());
    }
    Err(BadConfig::Wrong {
        key: "profiles".into(),
        found: name.to_owned(),
        expected: "a profile's name has at most 63 lower-case letters, digits, `.`, `_`, `-`, \
                   and starts and ends with a letter or digit"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    const GOOD: &str = "default_profile = \"nsx-ovs\"\n[node]\nuplink = \"eth1\"\n\
        [profiles.nsx-ovs]\nmodules = \"payload\"\ncni = \"payload\"\naddresses = \"bridge\"\n";

    #[test]
    fn defaults_are_filled_in() {
        let settings = Settings::parse(GOOD).unwrap();
        assert_eq!(settings.node.bridge, "br-int");
        assert_eq!(settings.node.ovsdb_path(), Some("/var/run/openvswitch/db.sock"));
        assert_eq!(settings.switch.activate, Activate::Reboot);
        assert_eq!(settings.profiles["nsx-ovs"].ovs, OvsRunner::Host);
    }

    #[test]
    fn every_rejection_says_what_was_found_and_expected() {
        let cases = [
            (
                "uplink",
                "uplnk",
                "the configuration has the unknown key `node.uplnk`; did you mean `node.uplink`?",
            ),
            ("[node]", "[nood]", "the configuration has the unknown key `nood`"),
            (
                "\"eth1\"",
                "\"a/b\"",
                "the configuration's `node.uplink` is `a/b`: the name of a network device is expected: 1 to 15 bytes, no blank, no `/`, no `:`",
            ),
            (
                "\"eth1\"",
                "\"br-int\"",
                "the configuration's `node.bridge` is `br-int`: another name than the uplink's is expected",
            ),
            (
                "uplink = \"eth1\"",
                "",
                "the configuration lacks `node.uplink`: the name of the NIC that holds the node's addresses",
            ),
            (
                "modules = \"payload\"\n",
                "",
                "the configuration lacks `profiles.nsx-ovs.modules`: one of `payload`, `in-tree`, `leave`",
            ),
            (
                "= \"nsx-ovs\"",
                "= \"other\"",
                "the configuration's `default_profile` is `other`: the name of a profile is expected: `nsx-ovs`",
            ),
            (
                "[profiles.nsx-ovs]",
                "[profiles.Nsx]",
                "the configuration's `profiles` is `Nsx`: a profile's name has at most 63 lower-case letters, digits, `.`, `_`, `-`, and starts and ends with a letter or digit",
            ),
        ];
        for (from, to, expected) in cases {
            let error = Settings::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(chain(&error), expected);
        }
        for (text, words) in [("0s", "`0s`"), ("2h", "`2h`"), ("61m", "`61m`"), ("30", "`30`")] {
            let text = format!("{GOOD}[switch]\nconfirm_timeout = \"{text}\"\n");
            let error = chain(&Settings::parse(&text).unwrap_err());
            assert!(error.contains(&format!("`switch.confirm_timeout` is {words}: ")), "{error}");
        }
        let text = format!("{GOOD}[switch]\nconfirm_timeout = \"2m\"\n");
        assert_eq!(Settings::parse(&text).unwrap().switch.confirm_timeout, 120);
        let error = Settings::parse(&GOOD.replace("\"bridge\"", "\"brige\"")).unwrap_err();
        assert!(chain(&error).contains("unknown variant `brige`"), "{}", chain(&error));
        let error = Settings::parse("= 3").unwrap_err();
        assert!(chain(&error).starts_with("the configuration is not TOML: "), "{}", chain(&error));
    }
}
