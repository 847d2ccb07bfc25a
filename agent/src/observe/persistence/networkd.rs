//! systemd-networkd's `.network` files: systemd.network(5). The first that matches is the one.

use super::{Uplink, address, names};
use crate::observe::owners::files::{Files, ini, matches};
use pointsman_core::model::{Persisted, Writer};

const DIRECTORIES: [&str; 3] =
    ["/etc/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network"];

pub(super) fn read(files: &mut Files<'_>, uplink: &Uplink<'_>) -> Option<Persisted> {
    for (path, mut text) in files.layered(&DIRECTORIES, ".network") {
        let name = path.rsplit('/').next().unwrap_or_default();
        let drop_ins: Vec<String> = DIRECTORIES.map(|dir| format!("{dir}/{name}.d")).to_vec();
        let drop_ins: Vec<&str> = drop_ins.iter().map(String::as_str).collect();
        for (_, more) in files.layered(&drop_ins, ".conf") {
            text.push('\n');
            text.push_str(&more);
        }
        let lines = ini(&text);
        if !is_of(&lines, uplink) {
            continue;
        }
        let of = |section: &str, key: &str| {
            let own = lines.iter().filter(|(s, k, _)| s == section && k == key);
            own.map(|(_, _, value)| value.clone()).collect::<Vec<_>>()
        };
        let yes = |values: &[String]| values.last().is_some_and(|word| is_yes(word));
        let both = [of("Network", "Address"), of("Address", "Address")].concat();
        let dhcp = of("Network", "DHCP");
        return Some(Persisted {
            writer: Writer::Networkd,
            file: path,
            at_boot: !yes(&of("Link", "Unmanaged")),
            automatic: dhcp.last().is_some_and(|word| is_yes(word) || word.starts_with("ipv")),
            addresses: both.iter().filter_map(|text| address(text)).collect(),
            names: names(&text),
        });
    }
    None
}

fn is_yes(word: &str) -> bool {
    matches!(word, "yes" | "true" | "on" | "1" | "both")
}

/// Names, MACs and the type; a file that matches by anything else is taken not to.
fn is_of(lines: &[(String, String, String)], uplink: &Uplink<'_>) -> bool {
    let mut keys = lines.iter().filter(|(section, ..)| section == "Match").peekable();
    keys.peek().is_some()
        && keys.all(|(_, key, value)| match key.as_str() {
            "Name" => {
                let (not, patterns) = match value.strip_prefix('!') {
                    Some(rest) => (true, rest),
                    None => (false, value.as_str()),
                };
                patterns.split_whitespace().any(|pattern| matches(pattern, uplink.name)) != not
            }
            "MACAddress" | "PermanentMACAddress" => {
                value.split_whitespace().any(|mac| uplink.has_mac(mac))
            }
            "Type" => value.split_whitespace().any(|word| word == "ether"),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::HostRoot;
    use crate::observe::owners::files::put;

    #[test]
    fn the_first_file_that_matches() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let write =
            |name: &str, text: &str| put(&root, &format!("/etc/systemd/network/{name}"), text);
        write("05-none.network", "[Match]\nDriver=e1000\n[Network]\nAddress=10.9.9.9/24\n");
        write(
            "10-up.network",
            "[Match]\nName=eth1\n[Network]\nAddress=10.0.2.15/24\n[Address]\nAddress=10.0.2.16/24\n\
             [Route]\nGateway=10.0.2.2\n",
        );
        write("10-up.network.d/v6.conf", "[Network]\nAddress=fd77::15/64\n");
        write("20-all.network", "[Match]\nName=*\n[Network]\nDHCP=yes\n");
        let of = |name| read(&mut Files::below(&root), &Uplink { name, mac: None });
        let own = of("eth1").unwrap();
        for (ip, bits) in [("10.0.2.15", 24), ("10.0.2.16", 24), ("fd77::15", 64)] {
            assert!(own.gives(ip.parse().unwrap(), bits), "{ip}");
        }
        assert!(!own.automatic && own.names.contains(&"10.0.2.2".parse().unwrap()));
        assert!(of("eth2").unwrap().automatic);
        write("00-pointsman.network", "[Match]\nName=eth1 br-int\n[Link]\nUnmanaged=yes\n");
        assert!(!of("eth1").unwrap().at_boot);
    }
}
