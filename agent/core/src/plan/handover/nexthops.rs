//! Nexthop objects: given the other link, all routes of an object flip in one message.
//!
//! The kernel drops an object with its link, and with it every route that names it; both come
//! back from the checkpoint.

use super::unknown::{self, Noun};
use super::{Case, Step};
use crate::model::{Attribute, Hop, Network, Nexthop, Route};
use crate::plan::Refusal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// `AF_INET`.
const INET: u8 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;
const RTN_BLACKHOLE: u8 = 6;
const RTN_THROW: u8 = 9;

pub(super) struct Nexthops {
    /// When the gateways are reached by the target.
    pub(super) set: Vec<Step>,
    /// Whether hops of IPv4, of IPv6 routes change.
    pub(super) change: [bool; 2],
    pub(super) notes: Vec<String>,
}

impl Nexthops {
    pub(super) fn of(case: &Case<'_>) -> Result<Self, Refusal> {
        let now = &case.now.network.nexthops;
        let there: BTreeSet<u32> = now.iter().map(|nexthop| nexthop.id).collect();
        let before = case.before.into_iter().flat_map(|before| &before.nexthops);
        let ours = |nexthop: &Nexthop| nexthop.link.as_deref().is_some_and(|l| case.is_ours(l));
        let lost: Vec<&Nexthop> =
            before.filter(|nexthop| ours(nexthop) && !there.contains(&nexthop.id)).collect();
        let moved = now.iter().filter(|nexthop| nexthop.link.as_deref() == Some(case.source));
        let mut nexthops = Self { set: Vec::new(), change: [false; 2], notes: Vec::new() };
        let mut wanted = Vec::new();
        for nexthop in lost.iter().copied().chain(moved) {
            let what = format!("the nexthop {nexthop}");
            match unknown::attribute(Noun::Nexthop, &nexthop.attributes) {
                Some(number) if case.salvage => nexthops.notes.push(unknown::left(&what, number)),
                Some(number) => return Err(unknown::refuse(&what, number)),
                None => {
                    wanted.push(Nexthop { link: Some(case.target.to_owned()), ..nexthop.clone() });
                }
            }
        }
        wanted.extend(groups(case, &lost.iter().map(|nexthop| nexthop.id).collect()));
        // an IPv4 route may go by an IPv6 gateway, and a group has no family
        nexthops.change = [!wanted.is_empty(), wanted.iter().any(|n| n.family != INET)];
        if !wanted.is_empty() {
            nexthops.set.push(Step::SetNexthops { nexthops: wanted });
        }
        Ok(nexthops)
    }
}

/// Groups that lost a member, or went with their last one, as they were.
fn groups(case: &Case<'_>, lost: &BTreeSet<u32>) -> Vec<Nexthop> {
    let before = case.before.into_iter().flat_map(|before| &before.nexthops);
    let now = &case.now.network.nexthops;
    before
        .filter(|group| group.members.iter().any(|member| lost.contains(&member.id)))
        .filter(|group| !now.contains(group))
        .cloned()
        .collect()
}

/// The numbers of objects that go by uplink or bridge, themselves or by a member.
pub(super) fn ours(case: &Case<'_>, network: &Network) -> BTreeSet<u32> {
    let single = network
        .nexthops
        .iter()
        .filter(|nexthop| nexthop.link.as_deref().is_some_and(|link| case.is_ours(link)))
        .map(|nexthop| nexthop.id);
    let mut ours: BTreeSet<u32> = single.collect();
    let groups = network
        .nexthops
        .iter()
        .filter(|group| group.members.iter().any(|member| ours.contains(&member.id)))
        .map(|group| group.id);
    let groups: Vec<u32> = groups.collect();
    ours.extend(groups);
    ours
}

/// A network's objects by number, for looking through them.
#[derive(Default)]
pub(super) struct Objects<'a>(BTreeMap<u32, &'a Nexthop>);

impl<'a> Objects<'a> {
    pub(super) fn of(network: &'a Network) -> Self {
        Self(network.nexthops.iter().map(|nexthop| (nexthop.id, nexthop)).collect())
    }

    /// Whether a route names no object, or one of these.
    pub(super) fn know(&self, route: &Route) -> bool {
        route.object().is_none_or(|id| self.0.contains_key(&id))
    }

    /// The same route with hops of its own. What has no such form sends the question on to the
    /// next table.
    pub(super) fn inline(&self, route: Route) -> Route {
        let Some(id) = route.object() else { return route };
        let mut inline = route;
        inline.attributes.retain(|attribute| attribute.number() != RTA_NH_ID);
        (inline.gateway, inline.link, inline.hops) = (None, None, Vec::new());
        let v4 = inline.destination.is_ipv4();
        let Some(object) = self.0.get(&id) else { return thrown(inline) };
        if has(object, NHA_BLACKHOLE) {
            return Route { kind: RTN_BLACKHOLE, ..inline };
        }
        let members: Option<Vec<Hop>> = object
            .members
            .iter()
            .map(|member| hop(self.0.get(&member.id)?, member.weight, v4))
            .collect();
        match members.as_deref() {
            Some([]) => {
                let Some(hop) = hop(object, 0, v4) else { return thrown(inline) };
                inline.flags = hop.flags.into();
                (inline.gateway, inline.link) = (hop.gateway, Some(hop.link));
                inline.attributes.extend(hop.attributes);
                inline
            }
            Some(_) => Route { hops: members.unwrap_or_default(), ..inline },
            None => thrown(inline),
        }
    }
}

fn thrown(route: Route) -> Route {
    Route { kind: RTN_THROW, prefsrc: None, flags: 0, attributes: Vec::new(), ..route }
}

fn has(nexthop: &Nexthop, number: u16) -> bool {
    nexthop.attributes.iter().any(|attribute| attribute.number() == number)
}

fn hop(nexthop: &Nexthop, weight: u16, v4: bool) -> Option<Hop> {
    if has(nexthop, NHA_FDB) {
        return None;
    }
    let encap = nexthop.attributes.iter().filter_map(|attribute| {
        let number = match attribute.number() {
            NHA_ENCAP_TYPE => RTA_ENCAP_TYPE,
            NHA_ENCAP => RTA_ENCAP,
            _ => return None,
        };
        let kind = attribute.kind & !0x3fff | number;
        Some(Attribute { kind, value: attribute.value.clone() })
    });
    let mut attributes: Vec<Attribute> = encap.collect();
    let mut gateway = nexthop.gateway;
    if let Some(IpAddr::V6(ip)) = gateway.filter(|_| v4) {
        // struct rtvia: the family in this machine's order, then the address
        let family = u16::from_be_bytes(10u16.to_ne_bytes());
        attributes.push(Attribute {
            kind: RTA_VIA,
            value: format!("{family:04x}{:032x}", u128::from(ip)),
        });
        gateway = None;
    }
    Some(Hop {
        gateway,
        link: nexthop.link.clone()?,
        hops: u8::try_from(weight).unwrap_or(u8::MAX),
        flags: u8::try_from(nexthop.flags).unwrap_or_default(),
        attributes,
    })
}
