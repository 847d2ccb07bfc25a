//! What a kernel and a network would not stand: checked before each simulated step.

use super::super::addresses::left_out;
use super::super::compare::{canonical, place};
use super::super::routes::{MAIN, group, links_of};
use super::super::split::{adds_v4_rule, is_stand_in};
use super::super::{OWN_PROTOCOL, SHADOW_TABLE, Step};
use super::generator::{BRIDGE, NIC, route};
use crate::model::{Address, Network, Nexthop, Observed, Route};
use crate::plan::{self, ovs};

/// Panics with what is wrong with carrying out a step here.
pub(super) fn check(observed: &Observed, step: &plan::Step) {
    let network = &observed.network;
    match step {
        plan::Step::Handover(step) => check_handover(network, step),
        plan::Step::Ovs(ovs::Step::AddPort { .. }) => shielded(observed, NIC),
        plan::Step::Ovs(ovs::Step::RemovePort { .. } | ovs::Step::RemoveVport { .. }) => {
            if matches!(step, plan::Step::Ovs(ovs::Step::RemovePort { .. })) {
                shielded(observed, BRIDGE);
            }
            for route in egress(network) {
                let by_bridge = links_of(&route).any(|link| link == BRIDGE);
                assert!(!by_bridge || own(network, BRIDGE), "wire taken from under {route}");
            }
        }
        plan::Step::Ovs(ovs::Step::DeleteBridge { .. }) => {
            assert!(!own(network, BRIDGE), "{BRIDGE} still owns addresses");
        }
        plan::Step::Ovs(_) | plan::Step::Modules(_) | plan::Step::Cni(_) | plan::Step::File(_) => {}
    }
}

/// What arrives while a living vswitchd takes or lets go of the uplink would be lost.
fn shielded(observed: &Observed, owner: &str) {
    let network = &observed.network;
    let addressed = network.addresses.iter().any(|a| a.link == owner && left_out(a).is_none());
    if addressed && observed.ovs.vswitchd && network.shield.refused.is_none() {
        assert!(network.shield.table && network.shield.links, "no shield");
    }
}

/// A shadow rule looks into a table that is full.
fn check_rule(network: &Network, step: &Step) {
    if !matches!(step, Step::AddRules { .. }) {
        assert!(network.routes.iter().any(|r| r.table == SHADOW_TABLE), "an empty shadow");
    }
    if adds_v4_rule(step) {
        check_split(network);
    }
}

/// The first rule of all has the kernel forget for a moment which addresses are its own.
fn check_split(network: &Network) {
    let first = network.rules.iter().filter(|rule| rule.family == 4).count() <= 3;
    for address in network.addresses.iter().filter(|a| first && a.ip.is_ipv4()) {
        let stands = |route: &Route| is_stand_in(route) && route.destination == address.ip;
        assert!(network.routes.iter().any(stands), "{address} is not local for a moment");
    }
}

/// A bridge's own addresses are no business of the uplink's.
fn own(network: &Network, link: &str) -> bool {
    network.addresses.iter().any(|a| a.link == link)
        && !network.addresses.iter().any(|a| a.link == NIC && a.ip.is_ipv4())
}

/// The routes that packets take now.
fn egress(network: &Network) -> Vec<Route> {
    let shadowed = network.rules.iter().any(|rule| rule.table == Some(SHADOW_TABLE));
    let table = if shadowed { SHADOW_TABLE } else { MAIN };
    let of_a_person =
        |route: &Route| route.table == table && (route.gateway.is_some() || !route.hops.is_empty());
    canonical(&network.routes).filter(of_a_person).filter(|route| route.protocol != 9).collect()
}

fn check_handover(network: &Network, step: &Step) {
    match step {
        Step::AddRoutes { routes } | Step::PrependRoutes { routes } => {
            let mut network = network.clone();
            for route in routes {
                addable(&network, route);
                network.routes.push(route.clone());
            }
        }
        Step::ReplaceRoutes { routes } => check_replaced(network, routes),
        Step::DeleteRoutes { routes } => {
            for route in routes {
                let there = canonical(&network.routes).any(|r| place(&r) == place(route));
                assert!(there, "{route} is not there to be deleted");
            }
        }
        Step::AddAddress(address) => {
            assert!(network.link(&address.link).is_some_and(|link| link.up), "{address}: down");
            let there =
                network.addresses.iter().any(|a| a.link == address.link && a.ip == address.ip);
            assert!(!there, "{address} is there already");
        }
        Step::DeleteAddress(address) => {
            let other = if address.link == NIC { BRIDGE } else { NIC };
            let safe = network.addresses.iter().any(|a| a.link == other && a.ip == address.ip);
            assert!(safe, "the last copy of {address}");
        }
        Step::DeleteShadowRule { .. } | Step::AddShadowRule { .. } | Step::AddRules { .. } => {
            check_rule(network, step);
        }
        Step::SetRpFilter { link, .. } | Step::SetMtu { link, .. } | Step::SetUp { link } => {
            assert!(network.link(link).is_some(), "there is no {link}");
        }
        Step::SettleAddress(address) => {
            let there = |a: &Address| a.link == address.link && a.ip == address.ip;
            assert!(network.addresses.iter().any(there), "{address} is not there");
        }
        Step::RaiseShield { uplink, .. } => {
            assert!(network.link(uplink).is_some_and(|link| link.up), "{uplink}: not up");
            assert!(network.shield.refused.is_none(), "the kernel can carry no shield");
        }
        Step::LowerShield => assert!(network.shield.table, "no shield is up"),
        Step::DeleteShieldLinks => {
            assert!(!network.shield.table, "the shield sends packets to what is deleted");
            assert!(network.shield.links, "there are no devices of a shield");
        }
        Step::SetSysctl { link, key, value } => {
            assert!(network.link(link).is_some(), "there is no {link}");
            let dark = key == "ipv6/disable_ipv6" && *value == 1;
            assert!(!dark || !has_ipv6(network, link), "{link} would lose its IPv6 addresses");
        }
        Step::SetNexthops { nexthops } => check_nexthops(network, nexthops),
        Step::DeleteRules { rules } => {
            assert!(rules.iter().all(|rule| network.rules.contains(rule)), "no rule there");
        }
        Step::Announce { link, addresses, .. } => {
            let has = |ip| network.addresses.iter().any(|a| a.link == *link && a.ip == ip);
            assert!(addresses.iter().all(|ip| has(*ip)), "{link} has not what it announces");
        }
        Step::AskGateways { .. } | Step::SetNeighbour(_) | Step::DeleteNeighbour(_) => {}
    }
}

fn has_ipv6(network: &Network, link: &str) -> bool {
    let carried = |a: &Address| a.link == link && a.ip.is_ipv6() && left_out(a).is_none();
    network.addresses.iter().any(carried)
}

fn check_replaced(network: &Network, routes: &[Route]) {
    for route in routes {
        let same = |found: &&Route| group(found) == group(route);
        let alone = network.routes.iter().filter(same).count() == 1;
        assert!(alone, "{route} replaces none or any");
        let source = |ip| network.addresses.iter().any(|a| a.ip == ip);
        assert!(route.prefsrc.is_none_or(source), "{route}: its source is nowhere");
        let added = [&network.routes[..], routes].concat();
        reachable(&Network { routes: added, ..network.clone() }, route);
    }
}

fn check_nexthops(network: &Network, nexthops: &[Nexthop]) {
    let mut known: Vec<u32> = network.nexthops.iter().map(|nexthop| nexthop.id).collect();
    for nexthop in nexthops {
        assert!(nexthop.members.iter().all(|m| known.contains(&m.id)), "{nexthop}");
        known.push(nexthop.id);
        let Some(gateway) = nexthop.gateway else { continue };
        let by = nexthop.link.clone();
        let route = Route { gateway: Some(gateway), link: by, ..route("0.0.0.0/0", None, NIC) };
        reachable(network, &route);
    }
}

fn addable(network: &Network, route: &Route) {
    let own = route.table == SHADOW_TABLE || is_stand_in(route);
    assert_eq!(own, route.protocol == OWN_PROTOCOL, "{route}");
    let there = canonical(&network.routes).any(|found| place(&found) == place(route));
    assert!(!there, "{route} is there already");
    let source = route.prefsrc.is_none_or(|ip| network.addresses.iter().any(|a| a.ip == ip));
    assert!(source, "{route}: its source address is nowhere");
    for link in links_of(route) {
        assert!(network.link(link).is_some_and(|link| link.up), "{route}: {link} is not up");
    }
    if let Some(id) = route.object() {
        assert!(network.nexthops.iter().any(|nexthop| nexthop.id == id), "{route}: no such object");
    }
    reachable(network, route);
}

fn reachable(network: &Network, route: &Route) {
    let hops = route.hops.iter().map(|hop| (hop.gateway, Some(&hop.link)));
    let legs = hops.chain([(route.gateway, route.link.as_ref())]);
    for (gateway, link) in legs.filter(|_| route.flags & 4 == 0) {
        let Some(gateway) = gateway else { continue };
        let reached = network.routes.iter().any(|r| {
            r.link.as_ref() == link
                && r.gateway.is_none()
                && super::super::addresses::network_of(gateway, r.prefix_len) == r.destination
        });
        let link_local = matches!(gateway, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local());
        assert!(reached || link_local, "{route}: its gateway is not reached by {link:?}");
    }
}
