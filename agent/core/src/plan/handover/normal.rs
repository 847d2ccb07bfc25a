//! What is the same before and after a handover, whoever owns the addresses.

use super::addresses::left_out;
use super::compare::canonical;
use super::routes::{is_connected, is_of_link};
use super::split::is_stand_in;
use super::{OWN_PROTOCOL, SHADOW_TABLE};
use crate::model::{Address, Link, Neighbour, Network, Nexthop, Route, Rule};

const RTA_EXPIRES: u16 = 23;
/// Stands for the link that owns the addresses. No device can have this name.
const OWNER: &str = "the owner";

/// A network as a handover has to preserve it: two networks are the same for a handover when
/// their normal forms are equal.
///
/// The link that owns the addresses is called by one word, in labels too, and is told of by its
/// sysctls alone. Left out, as each link has its own or the kernel makes them anew: the number
/// of the link; link-local, temporary and router-made addresses and routes; the link-local and
/// multicast routes of a link; learnt neighbours and those of a program; the time that is left
/// (it runs); the order of IPv6 routes (the kernel tells none) and of IPv4 routes of different
/// destinations; and Pointsman's own shadow table and stand-ins.
pub fn normal(network: &Network, owner: &str) -> Network {
    let own = |link: &str| if link == owner { OWNER.to_owned() } else { link.to_owned() };
    let addresses = network.addresses.iter().filter(|a| a.link == owner && left_out(a).is_none());
    let mut addresses: Vec<Address> = addresses.map(|address| renamed(address, owner)).collect();
    // stable: within a family the order counts
    addresses.sort_by_key(|address| address.ip.is_ipv6());
    let [made, carried] = [true, false].map(|made| {
        let all = network.addresses.iter().filter(|a| left_out(a).is_some() == made);
        Network { addresses: all.cloned().collect(), ..Network::default() }
    });
    let of_a_router = |r: &Route| is_connected(r, &made) && !is_connected(r, &carried);
    let mut routes: Vec<Route> = canonical(&network.routes)
        .filter(|route| route.table != SHADOW_TABLE && !is_stand_in(route))
        .filter(|route| !is_of_link(route) && !of_a_router(route))
        .map(|route| on(route, &own))
        .collect();
    // stable: routes to one destination keep their order where it counts
    routes.sort_by(|a, b| {
        let place = |r: &Route| (r.table, r.destination, r.prefix_len, r.tos, r.metric);
        let by_kind = if a.destination.is_ipv6() { a.cmp(b) } else { std::cmp::Ordering::Equal };
        place(a).cmp(&place(b)).then(by_kind)
    });
    let rules = network.rules.iter().filter(|rule| rule.protocol != OWN_PROTOCOL);
    let neighbours = network.neighbours.iter().filter(|neighbour| {
        let fixed = neighbour.permanent || neighbour.proxy;
        neighbour.link == owner && fixed && neighbour.flags & 0x10 == 0
    });
    let mut neighbours: Vec<Neighbour> =
        neighbours.map(|n| Neighbour { link: own(&n.link), ..n.clone() }).collect();
    neighbours.sort_by_key(|neighbour| (neighbour.ip, neighbour.proxy));
    let sysctls = network.link(owner).map(|link| link.sysctls.clone()).unwrap_or_default();
    Network {
        links: vec![Link { name: OWNER.into(), sysctls, ..Link::default() }],
        addresses,
        routes,
        rules: rules
            .map(|rule| Rule {
                iif: rule.iif.as_deref().map(own),
                oif: rule.oif.as_deref().map(own),
                ..rule.clone()
            })
            .collect(),
        nexthops: network
            .nexthops
            .iter()
            .map(|n| Nexthop { link: n.link.as_deref().map(own), ..n.clone() })
            .collect(),
        neighbours,
        ..Network::default()
    }
}

fn renamed(address: &Address, owner: &str) -> Address {
    let label = address.label.as_ref().map(|label| match label.strip_prefix(owner) {
        Some(rest) => format!("{OWNER}{rest}"),
        None => label.clone(),
    });
    let (valid_lft, preferred_lft) = (0, 0);
    Address { link: OWNER.into(), label, valid_lft, preferred_lft, ..address.clone() }
}

fn on(mut route: Route, own: &dyn Fn(&str) -> String) -> Route {
    route.link = route.link.as_deref().map(own);
    for hop in &mut route.hops {
        hop.link = own(&hop.link);
    }
    route.attributes.retain(|attribute| attribute.number() != RTA_EXPIRES);
    route.attributes.sort();
    route
}
