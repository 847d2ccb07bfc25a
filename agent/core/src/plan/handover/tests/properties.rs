//! What holds for every node, at every interruption.

use super::super::addresses::left_out;
use super::super::compare::canonical;
use super::super::{Owner, Want, normal, plan_salvage};
use super::generator::{BRIDGE, NIC, OTHER, Random, node};
use super::{after, checkpoint, planned, to_bridge, to_uplink, want};
use crate::model::{Network, Observed, Route};
use crate::plan;
use std::collections::{BTreeMap, BTreeSet};

const NODES: u64 = 300;

/// A route without the time that it has left.
pub(super) fn timeless(mut route: Route) -> Route {
    route.attributes.retain(|attribute| attribute.number() != 23);
    route.attributes.sort();
    route
}

/// What a person would compare: everything but learnt neighbours and the order of routes.
fn state(observed: &Observed) -> (Network, BTreeSet<Route>, crate::model::Ovs) {
    let mut network = observed.network.clone();
    let routes = canonical(&network.routes).map(timeless).collect();
    network.routes.clear();
    network.neighbours.retain(|neighbour| neighbour.permanent || neighbour.proxy);
    network.neighbours.sort_by(|a, b| (&a.link, a.ip).cmp(&(&b.link, b.ip)));
    // stable: the order on a link counts, but not that to addresses which stay
    network.addresses.sort_by_key(|a| (a.link.clone(), a.ip.is_ipv6(), left_out(a)));
    // a bridge that was made ready stays so
    for bridge in network.links.iter_mut().filter(|link| link.name == BRIDGE) {
        (bridge.mac, bridge.mtu, bridge.up) = (None, 0, true);
        // only the way back takes these from a bridge again
        (bridge.rp_filter, bridge.sysctls) = (None, BTreeMap::new());
    }
    let mut ovs = observed.ovs.clone();
    for bridge in ovs.database.iter_mut().flat_map(|database| &mut database.bridges) {
        bridge.hwaddr = None;
    }
    (network, routes, ovs)
}

#[track_caller]
fn assert_same(found: &Observed, expected: &Observed, seed: u64) {
    let (found, expected) = (state(found), state(expected));
    assert_eq!(found.0, expected.0, "seed {seed}");
    let more: Vec<_> = found.1.difference(&expected.1).collect();
    let less: Vec<_> = expected.1.difference(&found.1).collect();
    assert!(more.is_empty() && less.is_empty(), "seed {seed}: too much {more:?}, lost {less:?}");
    assert_eq!(found.2, expected.2, "seed {seed}");
}

/// The targets of a node: the bridge; the uplink, with the bridge kept or not.
fn targets() -> [Want; 3] {
    [to_bridge(), to_uplink(), want(Owner::Uplink, true)]
}

#[test]
fn what_was_applied_needs_nothing_more() {
    for seed in 0..NODES {
        let start = node(&mut Random::new(seed));
        let own_address = start.network.addresses.iter().any(|a| a.link == BRIDGE);
        assert_eq!(planned(&to_uplink(), &start, None).is_empty(), !own_address, "seed {seed}");
        let moved = after(&start, &planned(&to_bridge(), &start, None));
        let again = planned(&to_bridge(), &moved, None);
        assert!(again.is_empty(), "seed {seed}: {again}");
        assert_eq!(moved.network.shield, start.network.shield, "seed {seed}");
        let back = after(&moved, &planned(&to_uplink(), &moved, None));
        let again = planned(&to_uplink(), &back, None);
        assert!(again.is_empty(), "seed {seed}: {again}");
    }
}

#[test]
fn there_and_back_is_where_it_was() {
    for seed in 0..NODES {
        let start = node(&mut Random::new(seed));
        let moved = after(&start, &planned(&to_bridge(), &start, None));
        let had_bridge = start.ovs.bridge(BRIDGE).is_some();
        // a bridge of its own address keeps that nowhere: without a checkpoint all goes to the uplink
        let back = checkpoint(&start);
        let home = want(Owner::Uplink, !had_bridge);
        let home = after(&moved, &planned(&home, &moved, Some(&back)));
        let own = |o: &Observed| o.network.addresses.iter().any(|a| a.link == BRIDGE);
        if had_bridge {
            assert!(!own(&home), "seed {seed}");
            continue;
        }
        let mut expected = start.clone();
        expected.ovs.datapaths = home.ovs.datapaths.clone();
        assert_same(&home, &expected, seed);
    }
}

#[test]
fn every_interruption_can_be_finished_and_taken_back() {
    for seed in 0..NODES / 20 {
        let mut random = Random::new(seed);
        let start = node(&mut random);
        let moved = after(&start, &planned(&to_bridge(), &start, None));
        for (from, wants) in
            [(&start, [to_bridge(), to_bridge(), to_bridge()]), (&moved, targets())]
        {
            let back = checkpoint(from);
            for want in wants {
                let plan = planned(&want, from, Some(&back));
                let mut crashed = from.clone();
                for step in plan.steps() {
                    plan::simulate(&mut crashed, step);
                    for target in targets() {
                        converge(from, &crashed, &target, seed);
                    }
                }
            }
        }
    }
}

/// From an interrupted state and from the start, a target is the same state.
fn converge(start: &Observed, crashed: &Observed, target: &Want, seed: u64) {
    let back = checkpoint(start);
    let gone = crashed.network.link(BRIDGE).is_none();
    let plan = planned(target, crashed, Some(&back));
    let found = after(crashed, &plan);
    let again = planned(target, &found, Some(&back));
    assert!(again.is_empty(), "seed {seed}: {again}");
    let expected = after(start, &planned(target, start, Some(&back)));
    if gone == expected.network.link(BRIDGE).is_none()
        && crashed.ovs.bridge(BRIDGE).is_some() == start.ovs.bridge(BRIDGE).is_some()
    {
        assert_same(&found, &expected, seed);
    } else {
        // the bridge came or went: its links and rows differ, what the node is told by not
        let routes = |o: &Observed| state(o).1;
        assert_eq!(routes(&found), routes(&expected), "seed {seed}");
        let nic = |o: &Observed, name: &str| {
            state(o).0.addresses.into_iter().filter(|a| a.link == name).collect::<Vec<_>>()
        };
        for link in [NIC, BRIDGE, OTHER] {
            assert_eq!(nic(&found, link), nic(&expected, link), "seed {seed}");
        }
    }
}

#[test]
fn interrupted_again_and_again_it_still_arrives() {
    for seed in 0..NODES {
        let mut random = Random::new(seed);
        let start = node(&mut random);
        let back = checkpoint(&start);
        let mut now = start.clone();
        for _ in 0..4 {
            let target = &targets()[random.below(3)];
            let plan = planned(target, &now, Some(&back));
            let steps = random.below(plan.steps().count() + 1);
            for step in plan.steps().take(steps) {
                plan::simulate(&mut now, step);
            }
        }
        let target = if random.yes() { to_bridge() } else { to_uplink() };
        let end = after(&now, &planned(&target, &now, Some(&back)));
        let again = planned(&target, &end, Some(&back));
        assert!(again.is_empty(), "seed {seed}: {again}");
        let expected = after(&start, &planned(&target, &start, Some(&back)));
        assert_eq!(state(&end).1, state(&expected).1, "seed {seed}");
    }
}

/// With a bound address on no link for one moment the kernel would drop these.
#[test]
fn what_other_links_have_is_never_touched() {
    for seed in 0..NODES {
        let start = node(&mut Random::new(seed));
        let others = |o: &Observed| -> Vec<Route> {
            let other = |route: &Route| {
                route.link.as_deref() == Some(OTHER) && route.table != super::super::SHADOW_TABLE
            };
            canonical(&o.network.routes).filter(other).collect()
        };
        let mut now = start.clone();
        for want in [to_bridge(), to_uplink()] {
            for step in planned(&want, &now.clone(), None).steps() {
                plan::simulate(&mut now, step);
                assert_eq!(others(&now), others(&start), "seed {seed}: {step}");
            }
        }
    }
}

/// Links of the IPv4 routes of each destination, in order; ours by one name.
fn order(observed: &Observed) -> BTreeMap<(u32, std::net::IpAddr, u8, Option<u32>), Vec<String>> {
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let v4 = |route: &&Route| route.destination.is_ipv4();
    for route in observed.network.routes.iter().filter(v4) {
        let link = route.link.as_deref().unwrap_or("several");
        let link = if [NIC, BRIDGE].contains(&link) { "ours" } else { link };
        let group = (route.table, route.destination, route.prefix_len, route.metric);
        found.entry(group).or_default().push(link.to_owned());
    }
    found
}

#[test]
fn a_route_keeps_its_place_among_those_of_other_links() {
    let mut contested = 0;
    for seed in 0..NODES {
        let start = node(&mut Random::new(seed));
        if start.ovs.bridge(BRIDGE).is_some() {
            continue;
        }
        contested += order(&start).values().filter(|links| links.len() > 1).count();
        let moved = after(&start, &planned(&to_bridge(), &start, None));
        assert_eq!(order(&moved), order(&start), "seed {seed}");
        let home = after(&moved, &planned(&to_uplink(), &moved, None));
        assert_eq!(order(&home), order(&start), "seed {seed}");
    }
    assert!(contested > 50, "{contested}");
}

#[test]
fn the_normal_form_is_the_same_everywhere() {
    for seed in 0..NODES {
        let start = node(&mut Random::new(seed));
        if start.network.addresses.iter().any(|a| a.link == BRIDGE) {
            continue;
        }
        let expected = normal(&start.network, NIC);
        let moved = after(&start, &planned(&to_bridge(), &start, None));
        assert_eq!(normal(&moved.network, BRIDGE), expected, "seed {seed}");
        assert_ne!(normal(&moved.network, NIC), expected, "seed {seed}: nothing moved");
        let home = after(&moved, &planned(&to_uplink(), &moved, None));
        assert_eq!(normal(&home.network, NIC), expected, "seed {seed}");
    }
}

/// The way back gives a bridge its own sysctls again too.
#[test]
fn from_every_interruption_the_way_back_leads_to_the_checkpoint() {
    for seed in 0..NODES / 20 {
        let start = node(&mut Random::new(seed));
        let own = start.network.addresses.iter().any(|a| a.link == BRIDGE);
        if own {
            continue;
        }
        let back = checkpoint(&start);
        let mut crashed = start.clone();
        let had_bridge = start.ovs.bridge(BRIDGE).is_some();
        for step in planned(&to_bridge(), &start, None).steps() {
            plan::simulate(&mut crashed, step);
            let home = want(Owner::Uplink, !had_bridge && crashed.ovs.bridge(BRIDGE).is_some());
            let plan = plan_salvage(&home, &crashed, &back).unwrap();
            let home_again = after(&crashed, &plan);
            let again = plan_salvage(&home, &home_again, &back).unwrap();
            assert!(again.is_empty(), "seed {seed}: {again}");
            let sysctls = |o: &Observed| {
                let links = o.network.links.iter();
                links.map(|l| (l.name.clone(), l.rp_filter, l.sysctls.clone())).collect::<Vec<_>>()
            };
            assert_eq!(state(&home_again).1, state(&start).1, "seed {seed}");
            assert_eq!(home_again.network.rules, start.network.rules, "seed {seed}");
            assert_eq!(home_again.network.nexthops, start.network.nexthops, "seed {seed}");
            if had_bridge {
                assert_eq!(sysctls(&home_again), sysctls(&start), "seed {seed}");
            }
        }
    }
}
