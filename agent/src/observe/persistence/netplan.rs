//! `/etc/netplan/*.yaml`: each file adds to those before it.

use super::yaml::{Yaml, parse};
use super::{Uplink, address, names};
use crate::observe::owners::files::{Files, matches};
use pointsman_core::model::{Persisted, Writer};

const DIRECTORIES: [&str; 3] = ["/etc/netplan", "/usr/lib/netplan", "/lib/netplan"];
const KINDS: [&str; 4] = ["ethernets", "bonds", "vlans", "dummy-devices"];

/// Whether the host has such files at all.
pub(super) fn read(files: &mut Files<'_>, uplink: &Uplink<'_>, found: &mut Vec<Persisted>) -> bool {
    let all = files.layered(&DIRECTORIES, ".yaml");
    for (path, text) in &all {
        let yaml = match parse(text) {
            Ok(yaml) => yaml,
            Err(error) => {
                files.not_understood(path, &error);
                continue;
            }
        };
        let kinds = KINDS.iter().filter_map(|kind| yaml.get("network")?.get(kind));
        let devices = kinds.flat_map(Yaml::pairs).filter(|(id, device)| is_of(id, device, uplink));
        found.extend(devices.map(|(_, device)| persisted(device, path)));
    }
    !all.is_empty()
}

fn is_of(id: &str, device: &Yaml, uplink: &Uplink<'_>) -> bool {
    let text = |yaml: Option<&Yaml>| yaml.and_then(Yaml::text).map(str::to_owned);
    if let Some(name) = text(device.get("set-name")) {
        return name == uplink.name;
    }
    let Some(by) = device.get("match") else { return id == uplink.name };
    let name = text(by.get("name"));
    let mac = text(by.get("macaddress"));
    (name.is_some() || mac.is_some())
        && name.is_none_or(|pattern| matches(&pattern, uplink.name))
        && mac.is_none_or(|mac| uplink.has_mac(&mac))
}

fn persisted(device: &Yaml, file: &str) -> Persisted {
    let is = |key: &str| {
        let word = device.get(key).and_then(Yaml::text).unwrap_or_default();
        matches!(word, "true" | "yes" | "on" | "y")
    };
    let list = device.get("addresses").map(Yaml::items).unwrap_or_default();
    let own = |item: &Yaml| match item {
        Yaml::Map(pairs) => address(&pairs.first()?.0),
        other => address(other.text()?),
    };
    let mode = device.get("activation-mode").and_then(Yaml::text);
    Persisted {
        writer: Writer::Netplan,
        file: file.to_owned(),
        at_boot: !matches!(mode, Some("manual" | "off")),
        automatic: is("dhcp4"),
        addresses: list.iter().filter_map(own).collect(),
        names: names(&device.words().join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::HostRoot;
    use crate::observe::owners::files::put;

    #[test]
    fn devices_by_name_and_by_match() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let write = |name: &str, text: &str| put(&root, &format!("/etc/netplan/{name}"), text);
        write("01.yaml", "network:\n  ethernets:\n    eth1:\n      addresses: [10.0.2.15/24]\n");
        write(
            "02.yaml",
            "network:\n  ethernets:\n    any:\n      match: {macaddress: \"52:54:00:00:02:15\"}\n      \
             addresses:\n      - fd77::15/64:\n          label: a\n      routes: [{to: default, via: 10.0.2.2}]\n    \
             other:\n      match: {name: \"ens*\"}\n      dhcp4: true\n",
        );
        let mut files = Files::below(&root);
        let mut found = Vec::new();
        let uplink = Uplink { name: "eth1", mac: Some("52:54:00:00:02:15") };
        assert!(read(&mut files, &uplink, &mut found));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].gives("10.0.2.15".parse().unwrap(), 24));
        assert!(found[1].gives("fd77::15".parse().unwrap(), 64));
        assert!(found[1].names.contains(&"10.0.2.2".parse().unwrap()));
        write("03.yaml", "network: &x\n");
        read(&mut files, &uplink, &mut found);
        let unread = files.into_unread();
        assert!(unread[0].contains("/etc/netplan/03.yaml: line 1 is not understood"), "{unread:?}");
    }
}
