//! Which addresses are carried, and in what order.

use super::routes::MAIN;
use super::unknown::{self, Noun};
use super::{Case, Step};
use crate::model::{Address, Network, Route};
use crate::plan::Refusal;
use std::net::IpAddr;

/// `IFA_F_TEMPORARY`, for IPv6.
const TEMPORARY: u32 = 0x01;
pub(super) const NODAD: u32 = 0x02;
/// `IFA_F_MANAGETEMPADDR`: the kernel makes temporary ones of its prefix; on what it made of a
/// router advertisement, and where a person asked for it.
const MANAGES_TEMPORARY: u32 = 0x100;
pub(super) const NO_PREFIX_ROUTE: u32 = 0x200;
/// `IFAPROT_KERNEL_RA`.
const KERNEL_RA: u8 = 2;
/// `IFNAMSIZ` without the NUL.
const LABEL_LIMIT: usize = 15;

pub(super) struct Addresses {
    /// As the target is to have them, in the order of adding.
    pub(super) carried: Vec<Address>,
    pub(super) add: Vec<Step>,
    pub(super) delete: Vec<Step>,
    pub(super) settle: Vec<Step>,
    /// Whether IPv4 addresses, IPv6 addresses come or go.
    pub(super) change: [bool; 2],
    pub(super) notes: Vec<String>,
}

impl Addresses {
    pub(super) fn of(case: &Case<'_>) -> Result<Self, Refusal> {
        let network = &case.now.network;
        let carried = carried(case);
        let mut notes = notes(case);
        for address in &carried {
            match unknown::attribute(Noun::Address, &address.attributes) {
                Some(number) if !case.salvage => return Err(unknown::refuse(address, number)),
                _ => {}
            }
        }
        let there = |address: &Address| {
            network
                .addresses
                .iter()
                .find(|found| found.link == case.target && same_key(found, address))
        };
        let (mut add, mut settle) = (Vec::new(), Vec::new());
        let mut change = [false; 2];
        let mut touch = |v6: bool| {
            let [four, six] = &mut change;
            *(if v6 { six } else { four }) = true;
        };
        for address in &carried {
            let v6 = address.ip.is_ipv6();
            match there(address) {
                Some(found)
                    if (found.prefix_len, found.peer) != (address.prefix_len, address.peer) =>
                {
                    if !case.salvage {
                        return Err(conflict(found, address));
                    }
                    notes.push(format!("{found} stays as it is, and {address} is not added to it"));
                }
                Some(found) if v6 && found.flags != address.flags => {
                    settle.push(Step::SettleAddress(address.clone()));
                }
                Some(_) => {}
                None => {
                    touch(v6);
                    add.push(Step::AddAddress(address.clone()));
                    if v6 && address.flags & NODAD == 0 {
                        settle.push(Step::SettleAddress(address.clone()));
                    }
                }
            }
        }
        // last first: without promote_secondaries a primary takes its secondaries along
        let delete = addition_order(network, case.source)
            .into_iter()
            .rev()
            .filter(|address| left_out(address).is_none())
            .inspect(|address| touch(address.ip.is_ipv6()))
            .map(|address| Step::DeleteAddress(address.clone()))
            .collect();
        Ok(Self { carried, add, delete, settle, change, notes })
    }

    /// Whether an address is among the carried.
    pub(super) fn carries(&self, ip: IpAddr) -> bool {
        self.carried.iter().any(|address| address.ip == ip)
    }
}

/// What uplink and bridge have or had, as the target is to have it. The first record of an
/// address counts, with the lifetimes that the kernel tells now.
fn carried(case: &Case<'_>) -> Vec<Address> {
    let now = &case.now.network;
    let mut carried: Vec<Address> = Vec::new();
    let (uplink, bridge) = (case.want.uplink.as_str(), case.want.bridge.as_str());
    let before = case.before.into_iter().flat_map(|before| [(before, uplink), (before, bridge)]);
    for (network, link) in before.chain([(now, case.source), (now, case.target)]) {
        for address in addition_order(network, link) {
            let known = carried.iter().any(|known| same_key(known, address));
            if left_out(address).is_none() && !known {
                carried.push(on(address, case.target));
            }
        }
    }
    for address in &mut carried {
        let live = now.addresses.iter().find(|a| case.is_ours(&a.link) && same_key(a, address));
        if let Some(live) = live {
            (address.valid_lft, address.preferred_lft) = (live.valid_lft, live.preferred_lft);
        }
    }
    carried
}

/// A link's addresses in the order in which adding them gives the same list: the kernel
/// lists IPv4 oldest first and IPv6 newest first.
fn addition_order<'a>(network: &'a Network, link: &str) -> Vec<&'a Address> {
    let mine = || network.addresses.iter().filter(|address| address.link == link);
    let v4 = mine().filter(|address| address.ip.is_ipv4());
    let v6 = mine().filter(|address| address.ip.is_ipv6()).rev();
    v4.chain(v6).collect()
}

/// What the kernel takes for the same address of one link.
pub(super) fn same_key(a: &Address, b: &Address) -> bool {
    let v4 = a.ip.is_ipv4();
    a.ip == b.ip && (!v4 || (a.prefix_len, a.peer) == (b.prefix_len, b.peer))
}

/// Why an address is not carried: each link makes its own.
pub(super) fn left_out(address: &Address) -> Option<&'static str> {
    let IpAddr::V6(ip) = address.ip else { return None };
    if ip.is_unicast_link_local() {
        Some("link-local, each link has its own")
    } else if address.flags & TEMPORARY != 0 {
        Some("temporary, made and dropped by the kernel")
    } else if address.protocol == KERNEL_RA
        // kernels before 5.18 do not tell who made it, but what a router gave has an end
        || (address.flags & MANAGES_TEMPORARY != 0 && address.valid_lft != u32::MAX)
    {
        Some("made of router advertisements, which the other link hears from now on")
    } else {
        None
    }
}

fn on(address: &Address, link: &str) -> Address {
    let label = address.label.as_ref().map(|label| match label.strip_prefix(&address.link) {
        Some(rest) if link.len() + rest.len() <= LABEL_LIMIT => format!("{link}{rest}"),
        Some(_) => link.to_owned(),
        None => label.clone(),
    });
    Address { link: link.to_owned(), label, ..address.clone() }
}

fn conflict(found: &Address, wanted: &Address) -> Refusal {
    Refusal::new(
        "AddressConflict",
        format!(
            "{} carries {}/{} already where {wanted} is to go; nothing was changed: delete one of the two",
            found.link, found.ip, found.prefix_len
        ),
    )
}

/// The route that the kernel makes for an address while its link is up.
pub(super) fn connected(address: &Address) -> Option<Route> {
    let v4 = address.ip.is_ipv4();
    let full = if v4 { 32 } else { 128 };
    let other = address.peer.unwrap_or(address.ip);
    let pointless = v4 && address.prefix_len == full && address.peer.is_none();
    if address.flags & NO_PREFIX_ROUTE != 0 || pointless {
        return None;
    }
    let metric = if v4 { address.metric } else { Some(address.metric.unwrap_or(256)) };
    Some(Route {
        table: MAIN,
        destination: network_of(other, address.prefix_len),
        prefix_len: address.prefix_len,
        source_len: 0,
        kind: 1,
        protocol: 2,
        scope: if v4 { 253 } else { 0 },
        tos: 0,
        metric,
        prefsrc: v4.then_some(address.ip),
        gateway: None,
        link: Some(address.link.clone()),
        flags: 0,
        hops: Vec::new(),
        attributes: Vec::new(),
    })
}

/// An address with the bits behind the prefix cleared.
pub(super) fn network_of(ip: IpAddr, prefix_len: u8) -> IpAddr {
    let bits = u32::from(prefix_len);
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

fn notes(case: &Case<'_>) -> Vec<String> {
    let mine = case.now.network.addresses.iter().filter(|address| address.link == case.source);
    mine.filter_map(|address| left_out(address).map(|why| format!("{address} stays: {why}")))
        .collect()
}
