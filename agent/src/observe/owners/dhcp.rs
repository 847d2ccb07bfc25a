//! DHCP clients of the uplink: dhclient, dhcpcd, udhcpc. Those inside of `NetworkManager` and
//! systemd-networkd are seen with them, and any other by an address that has an end.

use super::{Place, claim};
use pointsman_core::model::{Claim, Holder};

const CLIENTS: [&str; 4] = ["dhclient", "dhcpcd", "dhcpcd5", "udhcpc"];

pub(super) fn claims(place: &Place<'_>) -> Vec<Claim> {
    let clients = place.processes.iter().filter(|process| CLIENTS.contains(&process.name()));
    clients
        .filter(|process| {
            // one that names no link of the host takes them all
            let named = place.network.links.iter().any(|link| process.says(&link.name));
            process.says(place.uplink) || !named
        })
        .map(|process| {
            let evidence = format!("process {}: {}", process.pid, process.arguments.join(" "));
            claim(Holder::Dhcp, place.uplink, evidence)
        })
        .take(1)
        .collect()
}
