//! Who is announced by which device, and who is not.

use super::super::{Owner, Step};
use super::generator::{BRIDGE, NIC, add, add_bridge, address, bare};
use super::{after, checkpoint, planned, want};
use crate::model::{Address, Observed};
use crate::plan::{self, Plan};
use std::net::IpAddr;

fn announced(plan: &Plan) -> Vec<(String, Vec<String>, bool)> {
    let steps = plan.steps().filter_map(|step| {
        let plan::Step::Handover(Step::Announce { link, addresses, router }) = step else {
            return None;
        };
        let addresses = addresses.iter().map(IpAddr::to_string).collect();
        Some((link.clone(), addresses, *router))
    });
    steps.collect()
}

fn node(forwarding: Option<i64>) -> Observed {
    let mut observed = bare();
    let nic = observed.network.links.iter_mut().find(|link| link.name == NIC).unwrap();
    nic.sysctls.extend(forwarding.map(|value| ("ipv6/forwarding".to_owned(), value)));
    let of = |text, flags, protocol| Address { flags, protocol, ..address(NIC, text) };
    for found in [
        of("10.77.0.2/24", 0, 0),
        of("10.77.0.3/24", 1, 0),
        of("10.77.0.100/32", 0, 0),
        of("10.77.0.101/24", 0, 18),
        of("fd77::100/128", 0, 0),
        of("fd77::8/64", 0x08, 0),
        of("fd77::4/64", 0x40, 0),
        of("fd77::2/64", 0, 0),
    ] {
        add(&mut observed, found);
    }
    observed
}

#[test]
fn the_nodes_own_are_announced_by_their_owner_and_nobody_elses() {
    let start = node(Some(1));
    let there = planned(&want(Owner::Bridge, false), &start, None);
    let own = ["10.77.0.2", "10.77.0.3", "fd77::2"].map(str::to_owned).to_vec();
    assert_eq!(announced(&there), [(BRIDGE.into(), own.clone(), true)]);
    let text = there.to_string();
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words} not in {text}"));
    assert!(at("before main: every route flips at once") < at("announce 3 addresses"), "{text}");
    assert!(at("delete 10.77.0.2/24 on eth1") < at("announce 3 addresses"), "{text}");
    assert!(text.contains("announce 3 addresses: 10.77.0.2; 10.77.0.3; fd77::2 out of br-int"));

    let moved = after(&start, &there);
    let again = planned(&want(Owner::Bridge, false), &moved, Some(&checkpoint(&start)));
    assert_eq!(announced(&again), [], "said once");
    let home = planned(&want(Owner::Uplink, false), &moved, None);
    assert_eq!(announced(&home), [(NIC.into(), own, true)]);
}

/// A wrong "no router" would take the node out of its neighbours' lists of routers.
#[test]
fn ipv6_is_announced_with_what_is_known_of_forwarding_or_not_at_all() {
    let told = |forwarding| {
        announced(&planned(&want(Owner::Bridge, false), &node(forwarding), None)).remove(0)
    };
    assert!(told(Some(0)).1.contains(&"fd77::2".to_owned()) && !told(Some(0)).2);
    assert_eq!(told(None).1, ["10.77.0.2", "10.77.0.3"]);
}

#[test]
fn nobody_is_told_where_nothing_moves() {
    let mut lone = bare();
    add(&mut lone, address(NIC, "10.77.0.100/32"));
    assert_eq!(announced(&planned(&want(Owner::Bridge, false), &lone, None)), []);
    let mut home = node(Some(0));
    add_bridge(&mut home, false);
    assert_eq!(announced(&planned(&want(Owner::Uplink, false), &home, None)), []);
}
