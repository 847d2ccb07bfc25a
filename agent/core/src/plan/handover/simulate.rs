//! What the kernel makes of a step, as far as planning depends on it.

use super::addresses::{NODAD, connected, left_out, network_of, same_key};
use super::compare::{canonical, exact, legs, place};
use super::routes::{MAIN, group, is_connected};
use super::shadow::OWN_PROTOCOL;
use super::step::Step;
use crate::model::{Address, Neighbour, Network, Nexthop, Observed, Route, Rule};
use std::collections::{BTreeMap, BTreeSet};

/// The effect on an observation.
pub fn simulate(observed: &mut Observed, step: &Step) {
    let network = &mut observed.network;
    match step {
        Step::SetRpFilter { link, value } => {
            change_link(network, link, |link| link.rp_filter = Some(*value));
        }
        Step::SetSysctl { link, key, value } => {
            change_link(network, link, |link| link.sysctls.extend([(key.clone(), *value)]));
        }
        Step::SetMtu { link, mtu } => change_link(network, link, |link| link.mtu = *mtu),
        Step::SetUp { link } => change_link(network, link, |link| link.up = true),
        Step::AddAddress(address) => add_address(network, address),
        Step::DeleteAddress(address) => delete_address(network, address),
        Step::SettleAddress(address) => {
            let mine = |a: &&mut Address| a.link == address.link && same_key(a, address);
            if let Some(found) = network.addresses.iter_mut().find(mine) {
                found.flags = address.flags;
            }
        }
        // of what is said nothing is left behind
        Step::AskGateways { .. } | Step::Announce { .. } => {}
        Step::SetNeighbour(neighbour) => {
            forget_neighbour(network, neighbour);
            network.neighbours.push(neighbour.clone());
        }
        Step::DeleteNeighbour(neighbour) => forget_neighbour(network, neighbour),
        Step::AddRoutes { routes } => add_routes(network, routes),
        Step::ReplaceRoutes { routes } => replace_routes(network, routes),
        Step::PrependRoutes { routes } => prepend_routes(network, routes),
        Step::DeleteRoutes { routes } => {
            split(network);
            let gone: Vec<_> = legs(routes).collect();
            let gone: BTreeSet<_> = gone.iter().map(|route| exact(route)).collect();
            network.routes.retain(|found| !gone.contains(&exact(found)));
        }
        Step::SetNexthops { nexthops } => set_nexthops(network, nexthops),
        Step::AddRules { rules } => {
            for rule in rules {
                add_rule(network, rule.clone());
            }
        }
        Step::DeleteRules { rules } => {
            for rule in rules {
                if let Some(at) = network.rules.iter().position(|found| found == rule) {
                    network.rules.remove(at);
                }
            }
        }
        Step::AddShadowRule { family, priority, table } => {
            add_rule(network, shadow_rule(*family, *priority, *table));
        }
        Step::DeleteShadowRule { family, priority, table } => network.rules.retain(|rule| {
            (rule.family, rule.priority, rule.table) != (*family, *priority, Some(*table))
        }),
        Step::RaiseShield { .. } => (network.shield.table, network.shield.links) = (true, true),
        Step::LowerShield => network.shield.table = false,
        Step::DeleteShieldLinks => network.shield.links = false,
    }
}

fn change_link(network: &mut Network, name: &str, change: impl FnOnce(&mut crate::model::Link)) {
    if let Some(link) = network.links.iter_mut().find(|link| link.name == name) {
        change(link);
    }
}

fn add_address(network: &mut Network, address: &Address) {
    let mut added = address.clone();
    let mine = |a: &Address| a.link == address.link && a.ip.is_ipv4() == address.ip.is_ipv4();
    let twin = |a: &Address| mine(a) && same_key(a, address);
    if network.addresses.iter().any(twin) {
        return;
    }
    let at = if address.ip.is_ipv6() {
        added.flags |= NODAD;
        // newest first
        network.addresses.iter().position(mine)
    } else {
        // primaries first, by scope; a second one of a network is secondary and comes last
        let secondary = network.addresses.iter().any(|a| mine(a) && same_network(a, address));
        let behind = |(i, a): (usize, &Address)| {
            let primary = !is_secondary(network, i);
            (mine(a) && primary && address.scope <= a.scope).then_some(i + 1)
        };
        let last_of_all = network.addresses.iter().rposition(mine).map(|i| i + 1);
        let last_primary = network.addresses.iter().enumerate().filter_map(behind).next_back();
        if secondary {
            last_of_all
        } else {
            last_primary.or(network.addresses.iter().position(mine))
        }
    };
    network.addresses.insert(at.unwrap_or(network.addresses.len()), added);
    let secondary = address.ip.is_ipv4()
        && network
            .addresses
            .iter()
            .any(|a| mine(a) && !same_key(a, address) && same_network(a, address));
    let up = network.link(&address.link).is_some_and(|link| link.up);
    if let Some(route) = connected(address).filter(|_| up && !secondary) {
        add_routes(network, &[route]);
    }
}

fn same_network(a: &Address, b: &Address) -> bool {
    let of = |a: &Address| network_of(a.peer.unwrap_or(a.ip), a.prefix_len);
    a.prefix_len == b.prefix_len && of(a) == of(b)
}

/// Whether an address of the same network comes before it on its link.
fn is_secondary(network: &Network, position: usize) -> bool {
    let Some(address) = network.addresses.get(position) else { return false };
    let earlier = network.addresses.get(..position).unwrap_or_default();
    address.ip.is_ipv4()
        && earlier
            .iter()
            .any(|a| a.link == address.link && a.ip.is_ipv4() && same_network(a, address))
}

/// Without `promote_secondaries`, the stricter case.
fn delete_address(network: &mut Network, address: &Address) {
    let mine = |a: &Address| a.link == address.link && same_key(a, address);
    let Some(position) = network.addresses.iter().position(mine) else { return };
    let primary = address.ip.is_ipv4() && !is_secondary(network, position);
    let with_it = |a: &Address| {
        primary && a.link == address.link && a.ip.is_ipv4() && same_network(a, address)
    };
    let (gone, kept): (Vec<Address>, Vec<Address>) =
        network.addresses.drain(..).partition(|a| mine(a) || with_it(a));
    network.addresses = kept;
    for address in &gone {
        forget_connected(network, address);
        last_copy(network, address);
    }
    let v4_left = network.addresses.iter().any(|a| a.link == address.link && a.ip.is_ipv4());
    if address.ip.is_ipv4() && !v4_left {
        // the last IPv4 address of a link takes every route by it along, of any table
        network.routes.retain(|route| {
            !(route.destination.is_ipv4() && route.link.as_ref() == Some(&address.link))
        });
    }
}

/// The kernel deletes a connected IPv6 route only with the last address of its network, and
/// only if that one is for ever (`check_cleanup_prefix_route`); else the route stays until it
/// expires, if it does.
fn forget_connected(network: &mut Network, address: &Address) {
    let Some(route) = connected(address) else { return };
    let stays = address.ip.is_ipv6()
        && (address.valid_lft != u32::MAX
            || network
                .addresses
                .iter()
                .any(|a| a.link == address.link && a.ip.is_ipv6() && same_network(a, address)));
    if !stays {
        network.routes.retain(|found| exact(found) != exact(&route));
    }
}

/// Connected routes of a link that outlive its carried addresses.
pub(super) fn leftovers(network: &Network, link: &str) -> Vec<Route> {
    let addresses = network.addresses.iter().filter(|a| a.link == link && a.ip.is_ipv6());
    let routes = network
        .routes
        .iter()
        .filter(|route| route.link.as_deref() == Some(link) && is_connected(route, network));
    let mut small = Network {
        addresses: addresses.cloned().collect(),
        routes: routes.filter(|route| route.destination.is_ipv6()).cloned().collect(),
        ..Network::default()
    };
    // newest first, as they are deleted
    for address in small.addresses.clone().iter().filter(|a| left_out(a).is_none()) {
        delete_address(&mut small, address);
    }
    let left: Vec<Route> = small.routes.drain(..).collect();
    left.into_iter().filter(|route| !is_connected(route, &small)).collect()
}

/// An address that is nowhere any more takes along what is bound to it: IPv4 routes of
/// `main` by any link; of IPv6 routes only the binding.
fn last_copy(network: &mut Network, address: &Address) {
    if network.addresses.iter().any(|a| a.ip == address.ip) {
        return;
    }
    if address.ip.is_ipv4() {
        network.routes.retain(|r| r.table != MAIN || r.prefsrc != Some(address.ip));
    } else {
        for route in network.routes.iter_mut().filter(|r| r.prefsrc == Some(address.ip)) {
            route.prefsrc = None;
        }
    }
}

/// IPv6 routes are kept leg by leg; a planner sees no difference.
fn add_routes(network: &mut Network, routes: &[Route]) {
    split(network);
    let new: Vec<_> = legs(routes).collect();
    let mut there: BTreeSet<_> = network.routes.iter().map(place).collect();
    let new: Vec<Route> = new
        .iter()
        .filter(|route| there.insert(place(route)))
        .map(|route| route.clone().into_owned())
        .collect();
    drop(there);
    network.routes.extend(new);
}

/// The first of its destination, type of service and metric, whatever its link.
fn replace_routes(network: &mut Network, routes: &[Route]) {
    let mut new: BTreeMap<_, &Route> = routes.iter().map(|route| (group(route), route)).collect();
    for found in &mut network.routes {
        if let Some(route) = new.remove(&group(found)) {
            found.clone_from(route);
        }
    }
    network.routes.extend(new.into_values().cloned());
}

fn prepend_routes(network: &mut Network, routes: &[Route]) {
    for route in routes.iter().rev() {
        if !network.routes.iter().any(|found| place(found) == place(route)) {
            let first = network.routes.iter().position(|found| group(found) == group(route));
            network.routes.insert(first.unwrap_or(network.routes.len()), route.clone());
        }
    }
}

/// The kernel lists them by number.
fn set_nexthops(network: &mut Network, nexthops: &[Nexthop]) {
    network.nexthops.retain(|found| nexthops.iter().all(|nexthop| nexthop.id != found.id));
    network.nexthops.extend(nexthops.iter().cloned());
    network.nexthops.sort_by_key(|nexthop| nexthop.id);
}

fn split(network: &mut Network) {
    let joined = |route: &Route| route.destination.is_ipv6() && !route.hops.is_empty();
    if network.routes.iter().any(joined) {
        network.routes = canonical(&network.routes).collect();
    }
}

fn forget_neighbour(network: &mut Network, neighbour: &Neighbour) {
    network.neighbours.retain(|found| {
        (&found.link, found.ip, found.proxy) != (&neighbour.link, neighbour.ip, neighbour.proxy)
    });
}

/// Behind the others of its priority.
fn add_rule(network: &mut Network, rule: Rule) {
    let later = |found: &Rule| found.family == rule.family && found.priority > rule.priority;
    let at = network.rules.iter().position(later).unwrap_or(network.rules.len());
    network.rules.insert(at, rule);
}

fn shadow_rule(family: u8, priority: u32, table: u32) -> Rule {
    Rule {
        family,
        priority,
        action: 1,
        flags: 0,
        tos: 0,
        source_len: 0,
        destination_len: 0,
        table: Some(table),
        protocol: OWN_PROTOCOL,
        iif: None,
        oif: None,
        attributes: Vec::new(),
    }
}
