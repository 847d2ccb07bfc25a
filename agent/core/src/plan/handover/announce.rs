//! Telling the wire which device answers for the moved addresses now.
//!
//! The MAC stays, so no neighbour has to learn it anew. But what learns from frames (a switch
//! that forgot the port, a bridge or a hypervisor beside it, a peer that watches for whom an
//! address speaks) hears it at once, and not with the next packet that happens to be sent.

use super::addresses::Addresses;
use super::coexistence::KEEPALIVED;
use super::{Case, Step};
use crate::model::Address;

/// `IFA_F_DADFAILED`, `IFA_F_TENTATIVE`: somebody else's, or nobody's yet.
const NOT_OURS: u32 = 0x08 | 0x40;
/// `RT_SCOPE_HOST`.
const HOST_SCOPE: u8 = 254;
const FORWARDING: &str = "ipv6/forwarding";

/// One step for all addresses of the families that come or go; none where nobody is to be told.
pub(super) fn announce(case: &Case<'_>, addresses: &Addresses) -> Vec<Step> {
    let [v4, v6] = addresses.change;
    // what a neighbour takes from an advertisement it must not be told wrongly: one that says
    // "no router" of a router takes it out of the lists of default routers (RFC 4861, 7.2.5)
    let uplink = case.now.network.link(&case.want.uplink);
    let router = uplink.and_then(|link| link.sysctls.get(FORWARDING)).map(|value| *value != 0);
    let told = |address: &&Address| {
        let of_family = if address.ip.is_ipv4() { v4 } else { v6 && router.is_some() };
        of_family && is_the_nodes(address)
    };
    let told: Vec<_> = addresses.carried.iter().filter(told).map(|address| address.ip).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let (link, router) = (case.target.to_owned(), router.unwrap_or_default());
    vec![Step::Announce { link, addresses: told, router }]
}

/// Not one that several nodes may hold: a virtual one is announced by whoever manages it.
fn is_the_nodes(address: &Address) -> bool {
    let full = if address.ip.is_ipv4() { 32 } else { 128 };
    let lone = address.prefix_len == full && address.peer.is_none();
    address.flags & NOT_OURS == 0
        && address.scope != HOST_SCOPE
        && address.protocol != KEEPALIVED
        && !address.ip.is_loopback()
        && !lone
}
