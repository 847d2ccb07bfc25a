//! Which routes are carried, and what is missing or too much.

use super::addresses::{Addresses, connected};
use super::{Case, Step};
use crate::model::{Network, Route};
use crate::plan::Refusal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// `RT_TABLE_MAIN`.
pub(super) const MAIN: u32 = 254;
/// `RTPROT_KERNEL`.
const KERNEL: u8 = 2;
/// `RTPROT_RA`.
const RA: u8 = 9;
const RTA_SRC: u16 = 2;
const RTA_VIA: u16 = 18;
const RTA_EXPIRES: u16 = 23;
const RTA_NH_ID: u16 = 30;

pub(super) struct Routes {
    /// Carried routes as they are to be, each IPv6 leg by itself.
    pub(super) wanted: Vec<Route>,
    pub(super) steps: Vec<Step>,
    /// Whether `main` changes, for IPv4 and for IPv6.
    pub(super) main: [bool; 2],
    pub(super) notes: Vec<String>,
}

impl Routes {
    pub(super) fn of(case: &Case<'_>, addresses: &Addresses) -> Result<Self, Refusal> {
        let wanted = wanted(case, addresses)?;
        let network = &case.now.network;
        let have: Vec<Route> =
            canonical(&network.routes).filter(|route| route.table != super::SHADOW_TABLE).collect();
        let wanted_keys: BTreeSet<Route> = wanted.iter().map(key).collect();
        let have_keys: BTreeSet<Route> = have.iter().map(key).collect();
        let mut add: Vec<Route> =
            wanted.iter().filter(|route| !have_keys.contains(&key(route))).cloned().collect();
        add.sort_by_key(by_need);
        let taken: BTreeSet<Route> = add.iter().map(identity).collect();
        let is_first =
            |route: &Route| taken.contains(&identity(route)) && !wanted_keys.contains(&key(route));
        let first: Vec<Route> = have.iter().filter(|route| is_first(route)).cloned().collect();
        let mut remove: Vec<Route> = have
            .iter()
            .filter(|route| is_movable(case, route, network) && !is_first(route))
            .filter(|route| !wanted_keys.contains(&key(route)))
            .cloned()
            .collect();
        remove.sort_by_key(|route| !has_gateway(route));
        let touches = |v4: bool| {
            let mut all = add.iter().chain(&first).chain(&remove);
            all.any(|route| route.table == MAIN && route.destination.is_ipv4() == v4)
        };
        let main = [touches(true), touches(false)];
        let notes = notes(case, &have, &wanted);
        // IPv6 takes no second route that differs in less than its identity
        let steps = [delete(first), append(add), delete(remove)].concat();
        Ok(Self { wanted, steps, main, notes })
    }
}

pub(super) fn append(routes: Vec<Route>) -> Vec<Step> {
    if routes.is_empty() { Vec::new() } else { vec![Step::AddRoutes { routes }] }
}

pub(super) fn delete(routes: Vec<Route>) -> Vec<Step> {
    if routes.is_empty() { Vec::new() } else { vec![Step::DeleteRoutes { routes }] }
}

/// What uplink and bridge have or had; and what other links had for a carried address, since
/// the kernel drops that with the address's last copy.
fn wanted(case: &Case<'_>, addresses: &Addresses) -> Result<Vec<Route>, Refusal> {
    let mut found: BTreeMap<Route, usize> = BTreeMap::new();
    let mut wanted = Vec::new();
    let links = &case.now.network;
    for network in case.networks() {
        let is_before = case.before.is_some_and(|before| std::ptr::eq(before, network));
        for route in canonical(&network.routes) {
            if route.table == super::SHADOW_TABLE {
                continue;
            }
            let movable = is_movable(case, &route, network);
            let pinned = is_before
                && !touches(case, &route)
                && route.prefsrc.is_some_and(|ip| addresses.carries(ip))
                && links_of(&route).all(|link| links.link(link).is_some());
            if !movable && !pinned {
                continue;
            }
            if movable && route.attributes.iter().any(|a| a.kind & 0x3fff == RTA_NH_ID) {
                return Err(nexthop_object(&route));
            }
            let route = on(case, route);
            let position = found.len();
            if found.insert(identity(&route), position).is_none() {
                wanted.push(route);
            }
        }
    }
    Ok(wanted)
}

/// Whether a route goes by uplink or bridge and is a person's: not made by the kernel for
/// an address, nor of a router advertisement.
fn is_movable(case: &Case<'_>, route: &Route, network: &Network) -> bool {
    let link_local = match route.destination {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => {
            route.protocol == KERNEL && (ip.is_unicast_link_local() || ip.is_multicast())
        }
    };
    let shadow = route.table == super::SHADOW_TABLE;
    touches(case, route)
        && route.protocol != RA
        && !link_local
        && !shadow
        && !is_connected(route, network)
}

/// Whether the kernel made a route for an address: it comes and goes with that.
pub(super) fn is_connected(route: &Route, network: &Network) -> bool {
    let plain = route.protocol == KERNEL
        && route.kind == 1
        && route.table == MAIN
        && route.gateway.is_none()
        && route.hops.is_empty();
    let v4 = route.destination.is_ipv4();
    plain
        && network
            .addresses
            .iter()
            .filter(|address| {
                Some(&address.link) == route.link.as_ref() && address.ip.is_ipv4() == v4
            })
            .filter_map(connected)
            .any(|made| {
                (made.destination, made.prefix_len) == (route.destination, route.prefix_len)
                    && (!v4 || made.prefsrc == route.prefsrc)
            })
}

fn touches(case: &Case<'_>, route: &Route) -> bool {
    links_of(route).any(|link| case.is_ours(link))
}

pub(super) fn links_of(route: &Route) -> impl Iterator<Item = &str> {
    route.link.as_deref().into_iter().chain(route.hops.iter().map(|hop| hop.link.as_str()))
}

/// The same route by the target.
pub(super) fn on(case: &Case<'_>, mut route: Route) -> Route {
    let links = route.link.iter_mut().chain(route.hops.iter_mut().map(|hop| &mut hop.link));
    for link in links.filter(|link| case.is_ours(link)) {
        case.target.clone_into(link);
    }
    route
}

/// Routes with each leg of an IPv6 multipath route by itself, as the kernel keeps them: two
/// IPv6 routes of one destination and metric join, and either can be deleted alone.
pub fn canonical(routes: &[Route]) -> impl Iterator<Item = Route> {
    routes.iter().flat_map(|route| {
        let single = route.destination.is_ipv6() || route.hops.len() == 1;
        if route.hops.is_empty() || !single {
            return vec![route.clone()];
        }
        let leg = |hop: &crate::model::Hop| {
            if hop.hops == 0 && hop.attributes.is_empty() {
                let flags = route.flags | u32::from(hop.flags);
                let (gateway, link) = (hop.gateway, Some(hop.link.clone()));
                Route { gateway, link, flags, hops: Vec::new(), ..route.clone() }
            } else {
                Route { hops: vec![hop.clone()], ..route.clone() }
            }
        };
        route.hops.iter().map(leg).collect()
    })
}

/// What makes two routes equal: everything but the time left.
pub fn key(route: &Route) -> Route {
    let mut key = route.clone();
    key.attributes.retain(|attribute| attribute.kind & 0x3fff != RTA_EXPIRES);
    key.attributes.sort();
    key
}

/// What no two routes can have in common. For IPv4 that is everything; IPv6 knows a route by
/// destination, source, metric and next hop.
pub fn identity(route: &Route) -> Route {
    let mut identity = key(route);
    if route.destination.is_ipv6() {
        identity.attributes.retain(|a| [RTA_SRC, RTA_VIA].contains(&(a.kind & 0x3fff)));
        if let [hop] = route.hops.as_slice() {
            (identity.gateway, identity.link) = (hop.gateway, Some(hop.link.clone()));
            identity.hops = Vec::new();
        }
        identity.protocol = 0;
        identity.scope = 0;
        identity.kind = 0;
        identity.prefsrc = None;
        identity.flags = 0;
    }
    identity
}

fn has_gateway(route: &Route) -> bool {
    let via = |a: &crate::model::Attribute| a.kind & 0x3fff == RTA_VIA;
    let hop = |hop: &crate::model::Hop| hop.gateway.is_some() || hop.attributes.iter().any(via);
    route.gateway.is_some() || route.attributes.iter().any(via) || route.hops.iter().any(hop)
}

/// What a gateway is reached by comes before the gateway; stable beyond that.
pub(super) fn by_need(route: &Route) -> (bool, u8) {
    (has_gateway(route), u8::MAX - route.scope)
}

fn nexthop_object(route: &Route) -> Refusal {
    Refusal::new(
        "NexthopObject",
        format!(
            "the route {route} uses a nexthop object, which this version cannot carry over; nothing was changed: give the route its gateway and device directly"
        ),
    )
}

/// What will not be exactly as before.
fn notes(case: &Case<'_>, have: &[Route], wanted: &[Route]) -> Vec<String> {
    let group = |r: &Route| (r.table, r.destination, r.prefix_len, r.tos, r.metric);
    let others: BTreeSet<_> = have
        .iter()
        .filter(|route| route.destination.is_ipv4() && !touches(case, route))
        .map(group)
        .collect();
    let mut notes: Vec<String> = have
        .iter()
        .filter(|route| touches(case, route) && route.protocol == RA)
        .map(|route| format!("the route {route} stays: made of router advertisements"))
        .collect();
    notes.extend(wanted.iter().filter(|route| others.contains(&group(route))).map(|route| {
        format!("another link has a route like {route}; the moved one will come second to it")
    }));
    notes
}
