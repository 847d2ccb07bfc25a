//! When two routes are the same, without a copy of either: a node may have 100,000.

use crate::model::{Attribute, Hop, Route};
use std::borrow::Cow;
use std::net::IpAddr;

const RTA_SRC: u16 = 2;
const RTA_VIA: u16 = 18;
const RTA_EXPIRES: u16 = 23;
const RTA_NH_ID: u16 = 30;

/// What two routes are compared by; borrows from the route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key<'a> {
    to: (u32, IpAddr, u8, u8, u8, Option<u32>),
    hop: (Option<IpAddr>, Option<&'a str>),
    nature: (u8, u8, u8, Option<IpAddr>, u32),
    hops: &'a [Hop],
    attributes: Vec<&'a Attribute>,
}

/// Equal for routes that are equal but for the time left.
pub fn exact(route: &Route) -> Key<'_> {
    let mut attributes: Vec<&Attribute> =
        route.attributes.iter().filter(|attribute| attribute.number() != RTA_EXPIRES).collect();
    attributes.sort();
    Key {
        to: to(route),
        hop: (route.gateway, route.link.as_deref()),
        nature: (route.kind, route.protocol, route.scope, route.prefsrc, route.flags),
        hops: &route.hops,
        attributes,
    }
}

/// Equal for routes of which the kernel keeps only one. For IPv4 that is [`exact`]; IPv6 knows
/// a route by destination, source, metric and next hop.
pub fn place(route: &Route) -> Key<'_> {
    if route.destination.is_ipv4() {
        return exact(route);
    }
    let telling = [RTA_SRC, RTA_VIA, RTA_NH_ID];
    let mut attributes: Vec<&Attribute> =
        route.attributes.iter().filter(|a| telling.contains(&a.number())).collect();
    attributes.sort();
    let (hop, hops) = match route.hops.as_slice() {
        [hop] => ((hop.gateway, Some(hop.link.as_str())), Default::default()),
        hops => ((route.gateway, route.link.as_deref()), hops),
    };
    Key { to: to(route), hop, nature: (0, 0, 0, None, 0), hops, attributes }
}

fn to(route: &Route) -> (u32, IpAddr, u8, u8, u8, Option<u32>) {
    let Route { table, destination, prefix_len, source_len, tos, metric, .. } = route;
    (*table, *destination, *prefix_len, *source_len, *tos, *metric)
}

/// Routes with each leg of an IPv6 multipath route by itself, as the kernel keeps them: two
/// IPv6 routes of one destination and metric join, and either can be deleted alone.
pub fn legs(routes: &[Route]) -> impl Iterator<Item = Cow<'_, Route>> {
    routes.iter().flat_map(|route| {
        let single = route.destination.is_ipv6() || route.hops.len() == 1;
        let split = if single { route.hops.as_slice() } else { &[] };
        let whole = split.is_empty().then_some(Cow::Borrowed(route));
        whole.into_iter().chain(split.iter().map(move |hop| Cow::Owned(leg(route, hop))))
    })
}

fn leg(route: &Route, hop: &Hop) -> Route {
    if hop.hops == 0 && hop.attributes.is_empty() {
        let flags = route.flags | u32::from(hop.flags);
        let (gateway, link) = (hop.gateway, Some(hop.link.clone()));
        Route { gateway, link, flags, hops: Vec::new(), ..route.clone() }
    } else {
        Route { hops: vec![hop.clone()], ..route.clone() }
    }
}

/// [`legs`], each a copy.
pub fn canonical(routes: &[Route]) -> impl Iterator<Item = Route> {
    legs(routes).map(Cow::into_owned)
}
