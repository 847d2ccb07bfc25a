//! `ifcfg-*` of RHEL's network-scripts and of SUSE's wicked: assignments of a shell.

use super::{Uplink, address, bits, names, unquoted};
use crate::observe::owners::files::Files;
use pointsman_core::model::{Persisted, Writer};

const DIRECTORIES: [&str; 2] = ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"];

/// Whether the host has such files at all.
pub(super) fn read(files: &mut Files<'_>, uplink: &Uplink<'_>, found: &mut Vec<Persisted>) -> bool {
    let mut any = false;
    for directory in DIRECTORIES {
        for name in files.names(directory) {
            let Some(of) = name.strip_prefix("ifcfg-") else { continue };
            any = true;
            if of.ends_with('~') || of.contains(".bak") || of.contains(".rpm") {
                continue;
            }
            let path = format!("{directory}/{name}");
            let Some(text) = files.text(&path) else { continue };
            let lines = assignments(&text);
            if is_of(&lines, of, uplink) {
                let mut own = persisted(&lines, path);
                for routes in ["route", "route6", "ifroute"] {
                    let text = files.text(&format!("{directory}/{routes}-{of}"));
                    own.names.extend(names(&text.unwrap_or_default()));
                }
                found.push(own);
            }
        }
    }
    any
}

fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), unquoted(value).to_owned()))
        .collect()
}

fn value<'a>(lines: &'a [(String, String)], key: &str) -> Option<&'a str> {
    lines.iter().rev().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
}

fn is_of(lines: &[(String, String)], suffix: &str, uplink: &Uplink<'_>) -> bool {
    match (value(lines, "DEVICE"), value(lines, "HWADDR")) {
        (Some(device), _) => device == uplink.name,
        (None, Some(mac)) => uplink.has_mac(mac),
        (None, None) => suffix == uplink.name,
    }
}

fn persisted(lines: &[(String, String)], file: String) -> Persisted {
    let of = |key: &str| value(lines, key);
    let off = of("ONBOOT").is_some_and(|word| word.eq_ignore_ascii_case("no"))
        || matches!(of("STARTMODE"), Some("manual" | "off"));
    let automatic = of("BOOTPROTO").is_some_and(|word| word.starts_with("dhcp") || word == "bootp");
    let mut addresses = Vec::new();
    for (key, text) in lines {
        if let Some(number) = key.strip_prefix("IPADDR") {
            let Some(mut own) = address(text) else { continue };
            let mask =
                || of(&format!("PREFIX{number}")).or_else(|| of(&format!("NETMASK{number}")));
            own.prefix_len = own.prefix_len.or_else(|| bits(mask()?));
            addresses.push(own);
        } else if key == "IPV6ADDR" || key == "IPV6ADDR_SECONDARIES" {
            addresses.extend(text.split_whitespace().filter_map(address));
        }
    }
    let text: Vec<&str> = lines.iter().map(|(_, value)| value.as_str()).collect();
    let names = names(&text.join("\n"));
    Persisted { writer: Writer::Ifcfg, file, at_boot: !off, automatic, addresses, names }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::HostRoot;
    use crate::observe::owners::files::put;

    #[test]
    fn the_file_of_ncps_pages() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let put = |name: &str, text: &str| {
            put(&root, &format!("/etc/sysconfig/network-scripts/{name}"), text);
        };
        let text = "HWADDR=00:0C:29:B7:DC:6F\nTYPE=Ethernet\nBOOTPROTO=none\nIPADDR=172.10.0.2\nPREFIX=24\n\
            IPADDR1=\"172.11.0.2\"\nNETMASK1=255.255.0.0\nIPV6ADDR=fd00::2/64\nNAME=eth1\nDEVICE=eth1\nONBOOT=yes\n";
        put("ifcfg-eth1", text);
        put("ifcfg-eth2", "HWADDR=00:0c:29:b7:dc:70\nONBOOT=no\nIPADDR=10.1.1.1\n");
        put("route-eth1", "10.9.0.0/16 via 172.10.0.9\n");
        let mut found = Vec::new();
        let uplink = Uplink { name: "eth1", mac: Some("00:0c:29:b7:dc:6f") };
        assert!(read(&mut Files::below(&root), &uplink, &mut found));
        let [own] = found.as_slice() else { panic!("{found:?}") };
        for (ip, bits) in [("172.10.0.2", 24), ("172.11.0.2", 16), ("fd00::2", 64)] {
            assert!(own.gives(ip.parse().unwrap(), bits), "{ip}");
        }
        assert!(own.names.contains(&"172.10.0.9".parse().unwrap()));
        let mut found = Vec::new();
        let uplink = Uplink { name: "ens3", mac: Some("00:0c:29:b7:dc:70") };
        read(&mut Files::below(&root), &uplink, &mut found);
        assert!(!found[0].at_boot);
    }
}
