//! The host's own addresses while the kernel splits its tables.
//!
//! Until a network namespace has its first IPv4 policy rule, the kernel keeps the table `local`
//! inside of `main` and asks `main` alone. The rule makes it take them apart: it empties `main` of
//! what is `local`, the highest address first, and only then asks by rules (`fib_unmerge` and
//! `fib4_rule_configure` in net/ipv4). A packet in between, for whatever address of this host and
//! by whatever link, finds no route and is dropped: for microseconds on an idle host with few
//! routes, for 15 ms with 100,000. So `main` gets local routes of its own before, which the kernel
//! leaves there. Routes by the loopback suffice: a local route's link is not looked at.

use super::addresses::{Addresses, network_of};
use super::routes::{self, MAIN};
use super::shadow::OWN_PROTOCOL;
use super::{Case, Step};
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

#[derive(Default)]
pub(super) struct Split {
    /// Before the first rule.
    pub(super) before: Vec<Step>,
    /// Right after the rules: what is local in `main` would stay so when its address has gone.
    pub(super) after: Vec<Step>,
}

impl Split {
    /// `rules` are the steps that add some. An address that somebody else adds between the look
    /// and the rule has no stand-in, and neither has a broadcast address.
    pub(super) fn of(case: &Case<'_>, addresses: &Addresses, rules: &[&[Step]]) -> Self {
        let network = &case.now.network;
        let standing: Vec<Route> =
            network.routes.iter().filter(|route| is_stand_in(route)).cloned().collect();
        let place = |route: &Route| (route.destination, route.prefix_len);
        let there: BTreeSet<_> = standing.iter().map(place).collect();
        let mut missing = Vec::new();
        if rules.iter().copied().flatten().any(adds_v4_rule) {
            missing = stand_ins(network, &addresses.carried);
            missing.retain(|route| !there.contains(&place(route)));
        }
        let all = [standing, missing.clone()].concat();
        Self { before: routes::append(missing), after: routes::delete(all) }
    }
}

/// Whether a step adds an IPv4 rule.
pub(super) fn adds_v4_rule(step: &Step) -> bool {
    let shadow = matches!(step, Step::AddShadowRule { family: 4, .. });
    let v4 = |rules: &Vec<Rule>| rules.iter().any(|rule| rule.family == 4);
    shadow || matches!(step, Step::AddRules { rules } if v4(rules))
}

/// What has to be in `main` before a rule is added, for what there is and for the addresses that
/// `come` before it; nothing where the tables are apart for certain.
fn stand_ins(network: &Network, come: &[Address]) -> Vec<Route> {
    if network.rules.iter().any(is_custom) {
        return Vec::new();
    }
    // a VRF has a table of its own
    let in_vrf = |address: &Address| {
        let master = network.link(&address.link).and_then(|link| link.master.as_deref());
        let master = master.and_then(|name| network.link(name));
        master.is_some_and(|link| link.kind.as_deref() == Some("vrf"))
    };
    let addresses = network.addresses.iter().chain(come);
    let addresses = addresses.filter(|a| a.ip.is_ipv4() && !in_vrf(a));
    let made = addresses.flat_map(|address| {
        // the kernel makes a whole network of the loopback's local
        let whole = (address.link == LOOPBACK)
            .then(|| (network_of(address.ip, address.prefix_len), address.prefix_len));
        [Some((address.ip, 32)), whole].into_iter().flatten()
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
