//! The three-way merge of a conflist: what the user changed since it was written survives a new
//! version, what the payload changed comes in, and where both changed the same the payload wins.
//!
//! Objects are merged key by key; plugins are told apart by their `type`; any other list is one
//! value. The user's order of keys stays, and so do the digits of each number.

use crate::version::Version;
use serde_json::{Map, Value};

/// The key that is always the payload's, `4.2.0` for `4.2` excepted.
const TAG: &str = "nsxBuildVersion";

/// What became of two changes to one text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Merged {
    pub(super) value: Value,
    /// Where the user's change is kept, as `plugins[nsx].mtu`.
    pub(super) kept: Vec<String>,
    /// Where both changed the same, and the payload's is taken.
    pub(super) conflicts: Vec<String>,
}

/// `base` is what was written, `theirs` what is there now, `ours` what is to be there.
pub(super) fn merge(base: &Value, theirs: &Value, ours: &Value) -> Merged {
    let mut merged = Merged { value: Value::Null, kept: Vec::new(), conflicts: Vec::new() };
    merged.value = merged.three(Some(base), Some(theirs), Some(ours), "").unwrap_or_default();
    merged
}

impl Merged {
    fn three(
        &mut self,
        base: Option<&Value>,
        theirs: Option<&Value>,
        ours: Option<&Value>,
        at: &str,
    ) -> Option<Value> {
        if theirs == base || theirs == ours {
            return ours.cloned();
        }
        if at.ends_with(TAG) {
            let version = |tag: Option<&Value>| Version::parse(tag?.as_str()?).ok();
            let same = version(theirs).is_some() && version(theirs) == version(ours);
            return if same { theirs.cloned() } else { ours.cloned() };
        }
        match (theirs, ours) {
            (Some(Value::Object(theirs)), Some(Value::Object(ours))) => {
                let none = Map::new();
                let base = base.and_then(Value::as_object).unwrap_or(&none);
                return Some(Value::Object(self.objects(base, theirs, ours, at)));
            }
            (Some(Value::Array(theirs)), Some(Value::Array(ours))) if at == "plugins" => {
                let base = base.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let merged = self.objects(&by_type(base), &by_type(theirs), &by_type(ours), at);
                return Some(Value::Array(merged.into_iter().map(|(_, plugin)| plugin).collect()));
            }
            _ => {}
        }
        if ours == base {
            self.kept.push(at.to_owned());
            return theirs.cloned();
        }
        self.conflicts.push(at.to_owned());
        ours.cloned()
    }

    fn objects(
        &mut self,
        base: &Map<String, Value>,
        theirs: &Map<String, Value>,
        ours: &Map<String, Value>,
        at: &str,
    ) -> Map<String, Value> {
        let new = ours.keys().filter(|key| !theirs.contains_key(*key));
        let mut merged = Map::new();
        for key in theirs.keys().chain(new) {
            let at = match at {
                "" => key.clone(),
                "plugins" => format!("plugins[{key}]"),
                at => format!("{at}.{key}"),
            };
            if let Some(value) = self.three(base.get(key), theirs.get(key), ours.get(key), &at) {
                merged.insert(key.clone(), value);
            }
        }
        merged
    }
}

/// A list of plugins as an object: `nsx`, `portmap`, a second of a type as `portmap 2`.
fn by_type(plugins: &[Value]) -> Map<String, Value> {
    let mut map = Map::new();
    for plugin in plugins {
        let name = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        let mut key = name.to_owned();
        let mut number = 1;
        while map.contains_key(&key) {
            number += 1;
            key = format!("{name} {number}");
        }
        map.insert(key, plugin.clone());
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    const BASE: &str = r#"{"cniVersion":"1.0.0","name":"nsx-cni","nsxBuildVersion":"4.1",
        "plugins":[{"type":"nsx","mtu":1500,"log":{"level":"info","old":1}},{"type":"portmap","snat":true}]}"#;
    const OURS: &str = r#"{"cniVersion":"1.0.0","name":"nsx-cni","nsxBuildVersion":"4.2",
        "plugins":[{"type":"nsx","mtu":1500,"log":{"level":"warn"},"new":[1,2]},{"type":"portmap","snat":true},{"type":"bandwidth"}]}"#;

    #[test]
    fn what_nobody_edited_becomes_ours() {
        let merged = merge(&value(BASE), &value(BASE), &value(OURS));
        assert_eq!(merged.value, value(OURS));
        assert!(merged.kept.is_empty() && merged.conflicts.is_empty());
    }

    #[test]
    fn the_users_keys_and_plugins_survive_in_their_order_with_their_numbers() {
        let theirs = r#"{"name":"nsx-cni","site":1.50e+3,"cniVersion":"1.0.0","nsxBuildVersion":"4.1",
            "plugins":[{"type":"nsx","big":12345678901234567890123,"mtu":9000,"log":{"level":"info","old":1,"mine":true}},
            {"type":"tuning","sysctl":{"a.b":"1"}},{"type":"portmap","snat":true}]}"#;
        let merged = merge(&value(BASE), &value(theirs), &value(OURS));
        let text = serde_json::to_string(&merged.value).unwrap();
        let expected = r#"{"name":"nsx-cni","site":1.50e+3,"cniVersion":"1.0.0","nsxBuildVersion":"4.2","plugins":[{"type":"nsx","big":12345678901234567890123,"mtu":9000,"log":{"level":"warn","mine":true},"new":[1,2]},{"type":"tuning","sysctl":{"a.b":"1"}},{"type":"portmap","snat":true},{"type":"bandwidth"}]}"#;
        assert_eq!(text, expected);
        let kept = ["site", "plugins[nsx].big", "plugins[nsx].mtu", "plugins[nsx].log.mine"];
        assert_eq!(merged.kept[..4], kept);
        assert_eq!(merged.kept[4..], ["plugins[tuning]"]);
        assert_eq!(merged.conflicts, Vec::<String>::new());
    }

    #[test]
    fn a_conflict_is_ours_and_a_deletion_stays() {
        let theirs = BASE.replace("\"info\"", "\"debug\"").replace(",\"snat\":true", "");
        let merged = merge(&value(BASE), &value(&theirs), &value(OURS));
        assert_eq!(merged.conflicts, ["plugins[nsx].log.level"]);
        assert_eq!(merged.kept, ["plugins[portmap].snat"]);
        let plugins = merged.value["plugins"].as_array().unwrap();
        assert_eq!(plugins[0]["log"]["level"], "warn");
        assert_eq!(plugins[1], value(r#"{"type":"portmap"}"#));
    }

    #[test]
    fn the_version_is_always_ours() {
        let theirs = BASE.replace("\"nsxBuildVersion\":\"4.1\",", "");
        let merged = merge(&value(BASE), &value(&theirs), &value(BASE));
        assert_eq!(merged.value["nsxBuildVersion"], "4.1");
        let inside = |version: &str| {
            value(&format!(
                r#"{{"name":"n","plugins":[{{"type":"nsx","nsxBuildVersion":"{version}"}}]}}"#
            ))
        };
        let merged = merge(&inside("4.1"), &inside("9"), &inside("4.1"));
        assert_eq!(merged.value, inside("4.1"));
    }

    #[test]
    fn merging_again_changes_nothing() {
        let theirs = BASE.replace("1500", "9000").replace("\"snat\":true", "\"snat\":false");
        let theirs = theirs.replace("\"info\"", "\"debug\"");
        let once = merge(&value(BASE), &value(&theirs), &value(OURS));
        assert_eq!(merge(&value(BASE), &once.value, &value(OURS)).value, once.value);
        assert_eq!(merge(&value(OURS), &once.value, &value(OURS)).value, once.value);
    }

    #[test]
    fn two_plugins_of_a_type_are_two() {
        let two = value(r#"{"plugins":[{"type":"nsx"},{"type":"x","a":1},{"type":"x","a":2}]}"#);
        let one = value(r#"{"plugins":[{"type":"nsx"}]}"#);
        assert_eq!(merge(&one, &two, &one).value, two);
    }
}
