//! What names the uplink and stays with it: the kernel's rules, and sockets.

use super::Place;
use crate::netlink;
use std::fs;

/// Only while the uplink owns addresses: it is asked for by a plan to move them.
pub(super) fn of(place: &Place<'_>) -> Vec<String> {
    let owns = |address: &pointsman_core::model::Address| {
        address.link == place.uplink && address.scope == 0
    };
    let Some(index) = place.index(place.uplink) else { return Vec::new() };
    if !place.network.addresses.iter().any(owns) {
        return Vec::new();
    }
    let mut found = netlink::mentions::of(place.uplink, index);
    let packet = fs::read_to_string("/proc/thread-self/net/packet").unwrap_or_default();
    found.extend(packet_sockets(&packet, index).map(|protocol| {
        format!(
            "a packet socket for protocol 0x{protocol} listens on {} and hears nothing there once it is a port",
            place.uplink
        )
    }));
    found.dedup();
    found
}

/// `sk RefCnt Type Proto Iface …` of packet(7), after a line of headings.
fn packet_sockets(text: &str, index: u32) -> impl Iterator<Item = String> {
    text.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace().skip(3);
        let (protocol, link) = (words.next()?, words.next()?);
        (link.parse() == Ok(index)).then(|| protocol.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_one_link() {
        let text = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
            0000000000000000 3      3    0003   5     1 0      0      23456\n\
            0000000000000000 3      3    0800   6     1 0      0      23457\n";
        let found: Vec<String> = packet_sockets(text, 5).collect();
        assert_eq!(found, ["0003"]);
    }
}
