//! `NetworkManager`'s keyfiles: nm-settings-keyfile(5).

use super::{Uplink, address, names};
use crate::observe::owners::files::{Files, ini, value};
use crate::observe::owners::network_manager::unmanaged;
use pointsman_core::model::{Persisted, Writer};

const DIRECTORIES: [&str; 2] =
    ["/etc/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections"];

pub(super) fn read(files: &mut Files<'_>, uplink: &Uplink<'_>, found: &mut Vec<Persisted>) {
    let left_alone = unmanaged(files, uplink.name).is_some();
    for (path, text) in files.layered(&DIRECTORIES, ".nmconnection") {
        let lines = ini(&text);
        let of = |section: &str, key: &str| value(&lines, section, key);
        let named = of("connection", "interface-name");
        let mac = of("ethernet", "mac-address").or_else(|| of("802-3-ethernet", "mac-address"));
        let own = match (named, mac) {
            (Some(name), _) => name == uplink.name,
            (None, Some(mac)) => uplink.has_mac(mac),
            // one of any name is not known to become this link's
            (None, None) => false,
        };
        if !own {
            continue;
        }
        let is_ip = |section: &str| matches!(section, "ipv4" | "ipv6");
        // `address1=10.0.2.15/24,10.0.2.2`; `addresses` in files of old
        let addresses = lines
            .iter()
            .filter(|(section, key, _)| is_ip(section) && key.starts_with("address"))
            .filter(|(_, key, _)| key.trim_start_matches("address").chars().all(char::is_numeric))
            .filter_map(|(_, _, value)| address(value.split([',', ';']).next()?))
            .collect();
        let no = |word: Option<&str>| matches!(word, Some("false" | "no" | "0"));
        found.push(Persisted {
            writer: Writer::Keyfile,
            file: path,
            at_boot: !left_alone && !no(of("connection", "autoconnect")),
            automatic: of("ipv4", "method").is_some_and(|method| method == "auto"),
            addresses,
            names: names(&text),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::HostRoot;
    use crate::observe::owners::files::put;

    #[test]
    fn a_profile_counts_unless_its_link_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let text = "[connection]\nid=up\ntype=ethernet\ninterface-name=eth1\n[ipv4]\nmethod=manual\n\
            address1=10.0.2.15/24,10.0.2.2\naddress2=10.0.2.16/24\nroute1=10.8.0.0/16,10.0.2.77\n\
            [ipv6]\naddress1=fd77::15/64\nmethod=manual\naddr-gen-mode=0\n";
        put(&root, "/etc/NetworkManager/system-connections/up.nmconnection", text);
        let found_now = || {
            let mut found = Vec::new();
            read(&mut Files::below(&root), &Uplink { name: "eth1", mac: None }, &mut found);
            found
        };
        let found = found_now();
        for (ip, bits) in [("10.0.2.15", 24), ("10.0.2.16", 24), ("fd77::15", 64)] {
            assert!(found[0].gives(ip.parse().unwrap(), bits), "{ip}");
        }
        assert!(found[0].names.contains(&"10.0.2.77".parse().unwrap()));
        let conf = "/etc/NetworkManager/conf.d/a.conf";
        put(&root, conf, "[keyfile]\nunmanaged-devices+=interface-name:eth1\n");
        assert!(!found_now()[0].at_boot);
    }
}
