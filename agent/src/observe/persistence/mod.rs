//! What the host's own configuration gives the uplink at boot: one file per syntax.
//!
//! Read are the files that a distribution's programs read at boot. What lies below `/run` is
//! gone then, and is not counted.

mod ifcfg;
mod interfaces;
mod keyfile;
mod netplan;
mod networkd;
mod yaml;

use super::owners::files::Files;
use super::owners::network_manager::unmanaged;
use pointsman_core::model::{Persisted, PersistedAddress, Writer};
use std::net::IpAddr;

/// The link that files are read for.
struct Uplink<'a> {
    name: &'a str,
    mac: Option<&'a str>,
}

impl Uplink<'_> {
    fn has_mac(&self, mac: &str) -> bool {
        self.mac.is_some_and(|own| own.eq_ignore_ascii_case(mac.trim()))
    }
}

/// Everything that names the link, and what this host's network is written in.
pub(super) fn observe(
    files: &mut Files<'_>,
    name: &str,
    mac: Option<&str>,
    runs: &dyn Fn(&str) -> bool,
) -> (Vec<Persisted>, Option<Writer>) {
    let uplink = Uplink { name, mac };
    let manager = runs("NetworkManager") || files.exists("/usr/sbin/NetworkManager");
    let enabled = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service";
    let networkd = runs("systemd-networkd") || files.exists(enabled);
    let ifupdown = ["/usr/sbin/ifup", "/sbin/ifup"].iter().any(|path| files.exists(path));
    let mut found = Vec::new();
    let netplan = netplan::read(files, &uplink, &mut found);
    let legacy = ifcfg::read(files, &uplink, &mut found);
    if ifupdown {
        found.extend(interfaces::read(files, &uplink));
    }
    if manager {
        keyfile::read(files, &uplink, &mut found);
    }
    if networkd {
        found.extend(networkd::read(files, &uplink));
    }
    let of = |there: bool, writer: Writer| there.then_some(writer);
    // a program that is told to leave the link alone gives it nothing
    let away = |writer| found.iter().any(|file| file.writer == writer && !file.at_boot);
    let manager = manager && unmanaged(files, name).is_none();
    let networkd = networkd && !away(Writer::Networkd);
    let writer = of(netplan, Writer::Netplan)
        .or(of(manager, Writer::Keyfile))
        .or(of(networkd, Writer::Networkd))
        .or(of(legacy, Writer::Ifcfg))
        .or(of(ifupdown, Writer::Ifupdown));
    (found, writer)
}

/// `10.0.0.1/24`, or `10.0.0.1`.
fn address(text: &str) -> Option<PersistedAddress> {
    let text = text.trim().trim_matches(['"', '\'']);
    match text.split_once('/') {
        None => Some(PersistedAddress { ip: text.parse().ok()?, prefix_len: None }),
        Some((ip, bits)) => {
            Some(PersistedAddress { ip: ip.parse().ok()?, prefix_len: Some(bits.parse().ok()?) })
        }
    }
}

/// The bits of `255.255.255.0`, or of `24`.
fn bits(mask: &str) -> Option<u8> {
    let mask = mask.trim().trim_matches(['"', '\'']);
    if let Ok(bits) = mask.parse() {
        return Some(bits);
    }
    let mask: std::net::Ipv4Addr = mask.parse().ok()?;
    u8::try_from(u32::from(mask).leading_ones()).ok()
}

/// Every word of a text that is an address.
fn names(text: &str) -> Vec<IpAddr> {
    let words = text.split(|c: char| c.is_whitespace() || ",;=\"'[]{}()#".contains(c));
    let mut found: Vec<IpAddr> = words
        .filter_map(|word| word.split('/').next()?.trim_end_matches(':').parse().ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// A shell's word without its quotes.
fn unquoted(value: &str) -> &str {
    value.trim().trim_matches(['"', '\''])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_masks() {
        let own = address("\"10.0.0.1/24\"").unwrap();
        assert_eq!((own.ip.to_string().as_str(), own.prefix_len), ("10.0.0.1", Some(24)));
        assert_eq!(address("fd00::1").unwrap().prefix_len, None);
        assert_eq!(address("dhcp"), None);
        assert_eq!(bits("255.255.252.0"), Some(22));
        assert_eq!(bits("64"), Some(64));
    }

    #[test]
    fn words_that_are_addresses() {
        let found = names("up ip route add 10.1.0.0/16 via 10.0.0.1 dev eth1\nGateway=fd00::1");
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["10.0.0.1", "10.1.0.0", "fd00::1"]);
    }
}
