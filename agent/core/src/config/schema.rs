//! Every key there is, once: unknown keys are found, and the reference is checked, by this list.

use super::BadConfig;
use toml::Table;

/// One key of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// With its tables; `*` stands for a name that the user gives.
    pub path: &'static str,
    /// What it holds, and its default.
    pub about: &'static str,
}

const fn key(path: &'static str, about: &'static str) -> Key {
    Key { path, about }
}

const KEYS: &[Key] = &[
    key(
        "default_profile",
        "profile of a node that no annotation asks anything of; none by default",
    ),
    key("payload", "directory that the image brings; `/payload`"),
    key("node.uplink", "the NIC whose addresses are moved; required"),
    key("node.bridge", "the Open vSwitch bridge; `br-int`"),
    key("node.ovsdb", "socket of ovsdb-server on the host; `unix:/var/run/openvswitch/db.sock`"),
    key(
        "node.accept",
        "reasons that do not stop a move to the bridge, e.g. `[\"UplinkDhcp\"]`; none by default",
    ),
    key(
        "node.companions",
        "other bridges, internal ports and datapaths that may go down with the bridge; none by default",
    ),
    key("paths.cni_bin", "directory of the CNI binaries on the host; `/opt/cni/bin`"),
    key("paths.cni_conf", "directory of the CNI configuration on the host; `/etc/cni/net.d`"),
    key(
        "switch.activate",
        "`reboot` (default) or `live`: when a new module set becomes the loaded one",
    ),
    key(
        "switch.confirm_timeout",
        "how long gateways and API server may take to answer after a move; `30s`",
    ),
    key(
        "switch.boot_unit",
        "`install` (default) or `none`: the host unit that makes the node reachable after a reboot",
    ),
    key(
        "guard.grace",
        "how long Open vSwitch may be gone, and the gateway silent, before the addresses go to the uplink; `3s`",
    ),
    key("profiles.*.modules", "`payload`, `in-tree` or `leave`; required"),
    key("profiles.*.cni", "`payload`, `absent` or `leave`; required"),
    key("profiles.*.addresses", "`bridge`, `uplink` or `leave`; required"),
    key("profiles.*.ovs", "who runs Open vSwitch: `host` (default) or `none`"),
    key(
        "profiles.*.flows",
        "who brings the flows back after a live exchange: `save` (default) or `controller`",
    ),
];

/// Every key, in the order of the reference.
pub fn keys() -> &'static [Key] {
    KEYS
}

/// The first key that is not in the list is an error.
pub(super) fn check(table: &Table) -> Result<(), BadConfig> {
    walk(table, "")
}

fn walk(table: &Table, above: &str) -> Result<(), BadConfig> {
    for (name, value) in table {
        let path = join(above, name);
        if KEYS.iter().any(|key| fits(key.path, &path)) {
            continue;
        }
        let inner = value.as_table().filter(|_| KEYS.iter().any(|key| leads(key.path, &path)));
        let Some(inner) = inner else {
            return Err(BadConfig::UnknownKey { nearest: nearest(&path), key: path });
        };
        walk(inner, &path)?;
    }
    Ok(())
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
}

fn fits(known: &str, path: &str) -> bool {
    let (known, path) = (known.split('.'), path.split('.'));
    known.clone().count() == path.clone().count()
        && known.zip(path).all(|(k, p)| k == "*" || k == p)
}

/// Whether `path` is a table on the way to `known`.
fn leads(known: &str, path: &str) -> bool {
    let (known, path) = (known.split('.'), path.split('.'));
    known.clone().count() > path.clone().count() && known.zip(path).all(|(k, p)| k == "*" || k == p)
}

/// The known key with the fewest edits, if they are few; the user's own names are kept.
fn nearest(path: &str) -> Option<String> {
    let spelled = |known: &str| {
        let parts = known.split('.').zip(path.split('.').chain(std::iter::repeat("*")));
        parts.map(|(k, p)| if k == "*" { p } else { k }).collect::<Vec<_>>().join(".")
    };
    let candidates = KEYS.iter().map(|key| spelled(key.path));
    let best = candidates.min_by_key(|candidate| distance(candidate, path))?;
    (distance(&best, path) <= 3).then_some(best)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *cell;
            *cell = replaced.min(left + 1).min(*cell + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn the_nearest_key_keeps_the_users_names() {
        assert_eq!(nearest("node.uplnk").as_deref(), Some("node.uplink"));
        assert_eq!(nearest("profiles.a.module").as_deref(), Some("profiles.a.modules"));
        assert_eq!(nearest("entirely.different"), None);
    }
}
