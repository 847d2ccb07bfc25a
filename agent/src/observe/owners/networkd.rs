//! systemd-networkd: what it says of a link in `/run/systemd/netif/links/IFINDEX`
//! (src/network/networkd-state-file.c) and how it treats what is not its own.

use super::files::{Files, ini, value};
use super::{Place, claim};
use pointsman_core::model::{Claim, Holder};

pub(super) fn claims(place: &Place<'_>, files: &mut Files<'_>) -> Vec<Claim> {
    if !place.runs("systemd-networkd") {
        return Vec::new();
    }
    place.links().flat_map(|(link, index)| of(files, link, index)).collect()
}

fn of(files: &mut Files<'_>, link: &str, index: u32) -> Vec<Claim> {
    let path = format!("/run/systemd/netif/links/{index}");
    let Some(text) = files.text(&path) else { return away(files, link, &path) };
    let state = ini(&text);
    let of = |key: &str| value(&state, "", key);
    match of("ADMIN_STATE") {
        None | Some("unmanaged" | "initialized" | "pending") => return away(files, link, &path),
        Some(_) => {}
    }
    let file = of("NETWORK_FILE").unwrap_or("a .network file");
    let mut found = vec![claim(Holder::Networkd, link, format!("{path} says NETWORK_FILE={file}"))];
    let lease = format!("/run/systemd/netif/leases/{index}");
    if files.exists(&lease) {
        found.push(claim(Holder::Dhcp, link, format!("systemd-networkd has {lease}")));
    }
    found
}

/// It does nothing to the link; to policy rules it may.
fn away(files: &mut Files<'_>, link: &str, path: &str) -> Vec<Claim> {
    let directories = ["/etc/systemd/networkd.conf.d", "/run/systemd/networkd.conf.d"];
    let mut all: Vec<(String, String)> = files
        .text("/etc/systemd/networkd.conf")
        .map(|text| (String::new(), text))
        .into_iter()
        .collect();
    all.extend(files.layered(&directories, ".conf"));
    let lines: Vec<_> = all.iter().flat_map(|(_, text)| ini(text)).collect();
    let off = |key| matches!(value(&lines, "Network", key), Some("no" | "false" | "off" | "0"));
    if off("ManageForeignRoutingPolicyRules") {
        return Vec::new();
    }
    vec![claim(Holder::NetworkdAway, link, format!("{path} says unmanaged"))]
}
