//! Which routes are carried, and what is missing or too much.

use super::addresses::{Addresses, connected};
use super::compare::{exact, legs, place};
use super::nexthops;
use super::order::Order;
use super::unknown::{self, Noun};
use super::{Case, Step};
use crate::model::{Network, Route};
use crate::plan::Refusal;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// `RT_TABLE_MAIN`.
pub(super) const MAIN: u32 = 254;
/// `RTPROT_KERNEL`.
const KERNEL: u8 = 2;
/// `RTPROT_RA`.
const RA: u8 = 9;
const RTA_VIA: u16 = 18;

pub(super) struct Routes {
    /// Carried routes as they are to be, each IPv6 leg by itself.
    pub(super) wanted: Vec<Route>,
    /// What is missing, but for routes by nexthop objects.
    pub(super) add: Vec<Step>,
    /// Routes by nexthop objects, for after those.
    pub(super) add_by_object: Vec<Step>,
    pub(super) delete: Vec<Step>,
    /// Whether `main` changes, for IPv4 and for IPv6.
    pub(super) main: [bool; 2],
    /// Whether anything changes.
    pub(super) change: bool,
    pub(super) notes: Vec<String>,
}

impl Routes {
    pub(super) fn of(case: &Case<'_>, addresses: &Addresses) -> Result<Self, Refusal> {
        let mut notes = Vec::new();
        let wanted = wanted(case, addresses, &mut notes)?;
        let network = &case.now.network;
        let order = Order::of(case, addresses, &wanted);
        let have: Vec<Cow<'_, Route>> =
            legs(&network.routes).filter(|route| route.table != super::SHADOW_TABLE).collect();
        let wanted_keys: BTreeSet<_> = wanted.iter().map(exact).collect();
        let have_keys: BTreeSet<_> = have.iter().map(|route| exact(route)).collect();
        let put_first: BTreeSet<_> = order.first.iter().map(exact).collect();
        let mut add: Vec<&Route> = wanted
            .iter()
            .filter(|route| {
                let key = exact(route);
                !have_keys.contains(&key) && !put_first.contains(&key)
            })
            .collect();
        let taken: BTreeSet<_> = add.iter().map(|route| place(route)).collect();
        let (mut away_first, mut remove) = (Vec::new(), Vec::new());
        for route in &have {
            let key = exact(route);
            if put_first.contains(&key) {
                away_first.push(route.clone().into_owned());
            } else if wanted_keys.contains(&key) {
            } else if taken.contains(&place(route)) {
                away_first.push(route.clone().into_owned());
            } else if is_movable(case, route, network) {
                remove.push(route.clone().into_owned());
            }
        }
        // those that the kernel makes for an address that is still to come
        away_first.extend(comes_by_itself(addresses, &order, &have_keys));
        remove.sort_by_key(|route| !has_gateway(route));
        let replace = in_place(addresses, &have, &mut add, &mut remove);
        let (mut by_object, mut add): (Vec<Route>, Vec<Route>) =
            add.into_iter().cloned().partition(|route| route.object().is_some());
        add.sort_by_key(by_need);
        by_object.sort_by_key(by_need);
        let touches = |v4: bool| {
            let gone = away_first.iter().chain(&remove);
            let mut all = gone.chain(&add).chain(&by_object).chain(&replace);
            all.any(|route| route.table == MAIN && route.destination.is_ipv4() == v4)
        };
        let main = [touches(true), touches(false)];
        notes.extend(from_routers(case, &have));
        notes.extend(order.notes);
        let mut first = order.first;
        first.sort_by_key(by_need);
        // IPv6 takes no second route that differs in less than its place
        let add = [delete(away_first), prepend(first), append(add), replaced(replace)].concat();
        let (add_by_object, delete) = (append(by_object), delete(remove));
        let change = [&add, &add_by_object, &delete].iter().any(|steps| !steps.is_empty());
        Ok(Self { wanted, add, add_by_object, delete, main, change, notes })
    }
}

/// The part of a route by which the kernel knows which one is to be replaced.
pub(super) type Group = (u32, IpAddr, u8, u8, Option<u32>);

pub(super) fn group(route: &Route) -> Group {
    (route.table, route.destination, route.prefix_len, route.tos, route.metric)
}

/// Routes that stand alone with their destination and metric, and do so after the move: one
/// message moves each, at no moment is there none, and nothing is left to delete. Of IPv6 those by
/// a gateway: others may be an address's own, which the kernel takes away with it.
///
/// Where two IPv6 routes by gateways stand together the kernel makes them one of two ways, and
/// one that is deleted from under a packet that is choosing sends that packet's processor round
/// for ever, before Linux 6.13 (`fib6_select_path`, fixed by d9ccb18f83ea).
fn in_place(
    addresses: &Addresses,
    have: &[Cow<'_, Route>],
    add: &mut Vec<&Route>,
    remove: &mut Vec<Route>,
) -> Vec<Route> {
    let mut crowd: BTreeMap<Group, [usize; 2]> = BTreeMap::new();
    let connected: Vec<Route> = addresses.carried.iter().filter_map(connected).collect();
    for route in have.iter().map(AsRef::as_ref).chain(&connected) {
        let [there, _] = crowd.entry(group(route)).or_default();
        *there += 1;
    }
    for route in add.iter().filter(|route| route.object().is_none()) {
        let [_, coming] = crowd.entry(group(route)).or_default();
        *coming += 1;
    }
    let goes: BTreeSet<Group> = remove.iter().map(group).collect();
    let alone = |route: &Route| {
        let key = group(route);
        route.object().is_none()
            && (route.destination.is_ipv4() || has_gateway(route))
            && goes.contains(&key)
            && crowd.get(&key) == Some(&[1, 1])
    };
    let mut replace: Vec<Route> =
        add.iter().filter(|route| alone(route)).map(|route| (*route).clone()).collect();
    add.retain(|route| !alone(route));
    let moved: BTreeSet<Group> = replace.iter().map(group).collect();
    remove.retain(|route| !moved.contains(&group(route)));
    replace.sort_by_key(by_need);
    replace
}

fn replaced(routes: Vec<Route>) -> Vec<Step> {
    if routes.is_empty() { Vec::new() } else { vec![Step::ReplaceRoutes { routes }] }
}

/// Connected routes that come last with their address and are to be first.
fn comes_by_itself(
    addresses: &Addresses,
    order: &Order,
    have: &BTreeSet<super::compare::Key<'_>>,
) -> Vec<Route> {
    let added = addresses.add.iter().filter_map(|step| {
        if let Step::AddAddress(address) = step { connected(address) } else { None }
    });
    let made: Vec<Route> = added.collect();
    let made: BTreeSet<_> = made.iter().map(exact).collect();
    let coming = |route: &&Route| made.contains(&exact(route)) && !have.contains(&exact(route));
    order.first.iter().filter(coming).cloned().collect()
}

pub(super) fn append(routes: Vec<Route>) -> Vec<Step> {
    if routes.is_empty() { Vec::new() } else { vec![Step::AddRoutes { routes }] }
}

fn prepend(routes: Vec<Route>) -> Vec<Step> {
    if routes.is_empty() { Vec::new() } else { vec![Step::PrependRoutes { routes }] }
}

pub(super) fn delete(routes: Vec<Route>) -> Vec<Step> {
    if routes.is_empty() { Vec::new() } else { vec![Step::DeleteRoutes { routes }] }
}

/// What uplink and bridge have or had; and what other links had for a carried address, since
/// the kernel drops that with the address's last copy.
fn wanted(
    case: &Case<'_>,
    addresses: &Addresses,
    notes: &mut Vec<String>,
) -> Result<Vec<Route>, Refusal> {
    let mut wanted = Vec::new();
    let links = &case.now.network;
    for network in case.networks() {
        let is_before = case.before.is_some_and(|before| std::ptr::eq(before, network));
        let objects = if is_before { nexthops::ours(case, network) } else { BTreeSet::new() };
        for route in legs(&network.routes).filter(|route| route.table != super::SHADOW_TABLE) {
            let movable = is_movable(case, &route, network);
            let lost = is_before
                && !movable
                && !touches(case, &route)
                && (route.prefsrc.is_some_and(|ip| addresses.carries(ip))
                    || route.object().is_some_and(|id| objects.contains(&id)))
                && links_of(&route).all(|link| links.link(link).is_some());
            if movable || lost {
                wanted.push(on(case, route.into_owned()));
            }
        }
    }
    let mut found = BTreeSet::new();
    let mut is_new =
        wanted.iter().map(|route| found.insert(place(route))).collect::<Vec<bool>>().into_iter();
    drop(found);
    wanted.retain(|_| is_new.next().unwrap_or_default());
    know_attributes(case, &mut wanted, notes)?;
    Ok(wanted)
}

/// Refuses what would be carried with an attribute that is not known; on the way back it goes
/// without, unless it is there already.
fn know_attributes(
    case: &Case<'_>,
    wanted: &mut [Route],
    notes: &mut Vec<String>,
) -> Result<(), Refusal> {
    for route in wanted {
        let hops = route.hops.iter().flat_map(|hop| &hop.attributes);
        let all: Vec<_> = route.attributes.iter().chain(hops).cloned().collect();
        let Some(number) = unknown::attribute(Noun::Route, &all) else { continue };
        if !case.salvage {
            return Err(unknown::refuse(&format!("the route {route}"), number));
        }
        if !legs(&case.now.network.routes).any(|there| exact(&there) == exact(route)) {
            notes.push(format!(
                "the route {route} goes without its netlink attribute {number}, which is not known"
            ));
            route
                .attributes
                .retain(|a| unknown::attribute(Noun::Route, std::slice::from_ref(a)).is_none());
            for hop in &mut route.hops {
                hop.attributes
                    .retain(|a| unknown::attribute(Noun::Route, std::slice::from_ref(a)).is_none());
            }
        }
    }
    Ok(())
}

/// Whether a route goes by uplink or bridge and is a person's: not made by the kernel for
/// an address, nor of a router advertisement.
fn is_movable(case: &Case<'_>, route: &Route, network: &Network) -> bool {
    let shadow = route.table == super::SHADOW_TABLE;
    touches(case, route)
        && route.object().is_none()
        && !is_of_link(route)
        && !shadow
        && !is_connected(route, network)
}

/// Whether each link has a route like this of its own: made for a link-local address, for
/// multicast, or of a router advertisement.
pub(super) fn is_of_link(route: &Route) -> bool {
    let link_local = match route.destination {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
    };
    route.protocol == RA || (route.protocol == KERNEL && link_local)
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

fn has_gateway(route: &Route) -> bool {
    let via = |a: &crate::model::Attribute| a.number() == RTA_VIA;
    let hop = |hop: &crate::model::Hop| hop.gateway.is_some() || hop.attributes.iter().any(via);
    route.gateway.is_some()
        || route.object().is_some()
        || route.attributes.iter().any(via)
        || route.hops.iter().any(hop)
}

/// What a gateway is reached by comes before the gateway; stable beyond that.
pub(super) fn by_need(route: &Route) -> (bool, u8) {
    (has_gateway(route), u8::MAX - route.scope)
}

/// What will not be exactly as before.
fn from_routers(case: &Case<'_>, have: &[Cow<'_, Route>]) -> Vec<String> {
    have.iter()
        .filter(|route| route.protocol == RA && touches(case, route))
        .map(|route| format!("the route {route} stays: made of router advertisements"))
        .collect()
}
