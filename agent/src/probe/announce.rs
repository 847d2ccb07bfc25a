//! Frames that say who answers for an address now. Nobody answers them.

use super::gateway::{ADVERTISEMENT, ProbeError, Wire, arp, icmpv6};
use std::net::{IpAddr, Ipv6Addr};

/// `ff02::1`: all nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
/// Option "target link-layer address", in units of eight bytes.
const TARGET_MAC: [u8; 2] = [2, 1];

/// Says each of them once, and waits for nothing: who misses it learns from the next packet.
pub(crate) fn announce(link: &str, addresses: &[IpAddr], router: bool) -> Result<(), ProbeError> {
    let wire = Wire::open(link)?;
    for address in addresses {
        for frame in frames(wire.mac(), *address, router) {
            wire.say(&frame)?;
        }
    }
    Ok(())
}

fn frames(mac: [u8; 6], address: IpAddr, router: bool) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(own) => {
            // a request asks for no MAC (RFC 5227, 1.1); a reply is gratuitous, and taken in spite of
            // what was learnt a moment ago, when it is to its sender (`arp_is_garp` of the kernel)
            let (from, open) = ((mac, own), ([0; 6], own));
            vec![arp(REQUEST, from, open), arp(REPLY, from, from)]
        }
        IpAddr::V6(own) => {
            let flags = if router { ROUTER | OVERRIDE } else { OVERRIDE };
            let mut message = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
            message.extend(own.octets());
            message.extend(TARGET_MAC);
            message.extend(mac);
            vec![icmpv6((mac, own), (ALL_NODES_MAC, ALL_NODES), message)]
        }
    }
}
