//! systemd-networkd: what it says of a link in `/run/systemd/netif/links/IFINDEX`
//! (src/network/networkd-state-file.c), and the leases it keeps beside.

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
    let Some(text) = files.text(&path) else {
        return vec![claim(Holder::NetworkdAway, link, format!("{path} is not there"))];
    };
    let state = ini(&text);
    let of = |key: &str| value(&state, "", key);
    match of("ADMIN_STATE") {
        None | Some("unmanaged" | "initialized" | "pending") => {
            return vec![claim(Holder::NetworkdAway, link, format!("{path} says unmanaged"))];
        }
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
