//! The host's own addresses while the kernel splits its tables.
//!
//! Until a network namespace has its first IPv4 policy rule, the kernel keeps the table `local`
//! inside of `main` and asks `main` alone. The rule makes it take them apart: it empties `main` of
//! what is `local`, the highest address first, and only then asks by rules (`fib_unmerge` and
//! `fib4_rule_configure` in net/ipv4). A packet in between, for whatever address of this host and
//! by whatever link, finds no route and is dropped: for microseconds on an idle host with few
//! routes, for 15 ms with 100,000. So `main` gets local routes of its own before, which the kernel
//! leaves there. Routes by the loopback suffice: a local route's link is not looked at.

use super::routes::MAIN;
use super::shadow::OWN_PROTOCOL;
use crate::model::{Address, Network, Route, Rule};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// `RT_TABLE_LOCAL`.
const LOCAL: u32 = 255;
/// `RT_TABLE_DEFAULT`.
const DEFAULT: u32 = 253;
/// `RTN_LOCAL`.
const TO_HOST: u8 = 2;
/// `RT_SCOPE_HOST`.
const HOST: u8 = 254;
const LOOPBACK: &str = "lo";

/// What has to be in `main` before a rule is added, for what there is and for the addresses that
/// `come` before it; nothing where the tables are apart for certain.
pub(super) fn stand_ins(network: &Network, come: &[Address]) -> Vec<Route> {
    if network.rules.iter().any(is_custom) {
        return Vec::new();
    }
    let addresses = network.addresses.iter().chain(come).filter_map(|address| match address.ip {
        IpAddr::V4(ip) => Some((address, ip)),
        IpAddr::V6(_) => None,
    });
    let made = addresses.flat_map(|(address, ip)| {
        let whole = (address.link == LOOPBACK).then(|| network_of(address));
        [Some((ip.into(), 32)), whole].into_iter().flatten()
    });
    let by_hand = network.routes.iter().filter(|route| {
        route.table == LOCAL && route.kind == TO_HOST && route.destination.is_ipv4()
    });
    let by_hand = by_hand.map(|route| (route.destination, route.prefix_len));
    let all: BTreeSet<(IpAddr, u8)> = made.chain(by_hand).collect();
    all.into_iter().map(|(destination, prefix_len)| stand_in(destination, prefix_len)).collect()
}

/// Whether a route is one of these.
pub(super) fn is_stand_in(route: &Route) -> bool {
    route.table == MAIN && route.kind == TO_HOST && route.protocol == OWN_PROTOCOL
}

/// The kernel makes a whole network of the loopback's local.
fn network_of(address: &Address) -> (IpAddr, u8) {
    (super::addresses::network_of(address.ip, address.prefix_len), address.prefix_len)
}

fn stand_in(destination: IpAddr, prefix_len: u8) -> Route {
    Route {
        table: MAIN,
        destination,
        prefix_len,
        source_len: 0,
        kind: TO_HOST,
        protocol: OWN_PROTOCOL,
        scope: HOST,
        tos: 0,
        metric: None,
        prefsrc: None,
        gateway: None,
        link: Some(LOOPBACK.into()),
        flags: 0,
        hops: Vec::new(),
        attributes: Vec::new(),
    }
}

/// Whether an IPv4 rule is none of the three that every namespace starts with.
fn is_custom(rule: &Rule) -> bool {
    const FIRST: [(u32, u32); 3] = [(0, LOCAL), (32766, MAIN), (32767, DEFAULT)];
    let place = rule.table.map(|table| (rule.priority, table));
    rule.family == 4 && !place.is_some_and(|place| FIRST.contains(&place))
}
