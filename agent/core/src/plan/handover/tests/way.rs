//! The order of a plan, and the ways that start from something broken.

use super::super::simulate;
use super::super::{Owner, Step};
use super::generator::{BRIDGE, NIC, OTHER, add, address, bare, ip, multipath, node, route};
use super::generator::{Random, add_route};
use super::{after, checkpoint, planned, to_bridge, to_uplink, want};
use crate::model::{Observed, Route};
use crate::plan::{self, Plan, ovs};

fn simple() -> Observed {
    let mut observed = bare();
    observed.network.rp_filter_all = 1;
    add(&mut observed, address(NIC, "10.77.0.2/24"));
    add(&mut observed, address(NIC, "10.77.0.3/24"));
    add(&mut observed, address(NIC, "fd00:77::2/64"));
    add(&mut observed, address(NIC, "fd00:77::3/64"));
    add_route(&mut observed, route("0.0.0.0/0", Some("10.77.0.1"), NIC));
    add_route(&mut observed, route("::/0", Some("fd00:77::1"), NIC));
    observed
}

fn position(plan: &Plan, words: &str) -> usize {
    let all: Vec<String> = plan.steps().map(ToString::to_string).collect();
    let at = all.iter().position(|step| step.contains(words));
    at.unwrap_or_else(|| panic!("{words:?} is not in\n{plan}"))
}

#[track_caller]
fn in_order(plan: &Plan, words: &[&str]) {
    let at: Vec<usize> = words.iter().map(|words| position(plan, words)).collect();
    assert!(at.is_sorted(), "{at:?} in\n{plan}");
}

#[test]
fn to_the_bridge_make_before_break() {
    let plan = planned(&to_bridge(), &simple(), None);
    in_order(
        &plan,
        &[
            "make the bridge br-int",
            "set br-int up",
            "rp_filter of eth1 to 2",
            "rp_filter of br-int to 2",
            "add 10.77.0.2/24 on br-int",
            "add 10.77.0.3/24 on br-int",
            "add fd00:77::2/64 on br-int",
            "add fd00:77::3/64 on br-int",
            "routes of the shadow table",
            "raise the shield: IP packets for this node that arrive on eth1 come in by pointsman-s1",
            "make eth1 a port of br-int",
            "add an IPv4 rule",
            "add an IPv6 rule",
            "lower the shield",
            "move in place 2 routes: 0.0.0.0/0 via 10.77.0.1 dev br-int; ::/0 via fd00:77::1 dev br-int",
            "delete fd00:77::3/64 on eth1",
            "delete fd00:77::2/64 on eth1",
            "delete 10.77.0.3/24 on eth1",
            "delete 10.77.0.2/24 on eth1",
            "delete the IPv4 rule",
            "rp_filter of eth1 back to 0",
            "delete the shield's devices",
        ],
    );
}

#[test]
fn to_the_uplink_send_first_then_let_go() {
    let moved = after(&simple(), &planned(&to_bridge(), &simple(), None));
    let plan = planned(&want(Owner::Uplink, true), &moved, None);
    in_order(
        &plan,
        &[
            "add 10.77.0.2/24 on eth1",
            "routes of the shadow table",
            "add an IPv4 rule",
            "move in place 2 routes: ",
            "raise the shield",
            "take eth1 out of br-int",
            "lower the shield",
            "delete 10.77.0.3/24 on br-int",
            "delete the IPv4 rule",
            "delete the bridge br-int",
        ],
    );
}

fn ovs_steps(plan: &Plan) -> Vec<&ovs::Step> {
    plan.steps()
        .filter_map(|step| if let plan::Step::Ovs(step) = step { Some(step) } else { None })
        .collect()
}

#[test]
fn a_dead_vswitchd_is_gone_around() {
    let mut moved = after(&simple(), &planned(&to_bridge(), &simple(), None));
    moved.ovs.vswitchd = false;
    let plan = planned(&want(Owner::Uplink, true), &moved, None);
    let (datapath, port) = ("ovs-system".to_owned(), NIC.to_owned());
    let (bridge, row) = (BRIDGE.to_owned(), NIC.to_owned());
    assert_eq!(
        ovs_steps(&plan),
        [&ovs::Step::RemoveVport { datapath, port }, &ovs::Step::RemovePort { bridge, port: row }]
    );
    assert!(plan.notes.iter().any(|note| note.contains("not deleted")), "{:?}", plan.notes);
    let home = after(&moved, &plan);
    assert!(planned(&want(Owner::Uplink, true), &home, None).is_empty());
}

#[test]
fn a_dead_database_is_gone_around() {
    let mut moved = after(&simple(), &planned(&to_bridge(), &simple(), None));
    (moved.ovs.database, moved.ovs.vswitchd) = (None, false);
    let plan = planned(&to_uplink(), &moved, None);
    assert!(matches!(ovs_steps(&plan)[..], [ovs::Step::RemoveVport { .. }]), "{plan}");
    assert!(plan.notes.iter().any(|note| note.contains("does not answer")), "{:?}", plan.notes);
    let home = after(&moved, &plan);
    assert!(planned(&to_uplink(), &home, None).is_empty());
}

/// The datapath was deleted, or its module unloaded: with the device went all that it had.
#[test]
fn a_bridge_that_vanished_left_everything_in_the_checkpoint() {
    for seed in 0..200 {
        let start = node(&mut Random::new(seed));
        let moved = after(&start, &planned(&to_bridge(), &start, None));
        let back = checkpoint(&moved);
        let expected = after(&moved, &planned(&to_uplink(), &moved, Some(&back)));
        let mut gone = moved.clone();
        let addresses = gone.network.addresses.clone();
        for address in addresses.into_iter().filter(|address| address.link == BRIDGE) {
            simulate(&mut gone, &Step::DeleteAddress(address));
        }
        let datapath = "ovs-system".into();
        plan::simulate(&mut gone, &plan::Step::Ovs(ovs::Step::DeleteDatapath { datapath }));
        (gone.ovs.database, gone.ovs.vswitchd) = (None, false);
        assert!(gone.network.link(BRIDGE).is_none());
        let home = after(&gone, &planned(&to_uplink(), &gone, Some(&back)));
        let routes = |o: &Observed| {
            let mut routes: Vec<Route> = super::super::canonical(&o.network.routes)
                .map(super::properties::timeless)
                .collect();
            routes.sort();
            routes
        };
        let nic = |o: &Observed| {
            let all = o.network.addresses.iter();
            all.filter(|a| a.link == NIC).cloned().collect::<Vec<_>>()
        };
        assert_eq!(nic(&home), nic(&expected), "seed {seed}");
        assert_eq!(routes(&home), routes(&expected), "seed {seed}");
        assert!(planned(&to_uplink(), &home, Some(&back)).is_empty(), "seed {seed}");
    }
}

#[test]
fn what_an_interrupted_flip_left_is_cleaned_up() {
    let start = simple();
    let plan = planned(&to_bridge(), &start, None);
    let end = after(&start, &plan);
    let mut left = start.clone();
    for step in plan.steps() {
        plan::simulate(&mut left, step);
        if matches!(step, plan::Step::Handover(Step::DeleteAddress(a)) if a.ip == ip("10.77.0.2")) {
            break;
        }
    }
    let rest = planned(&to_bridge(), &left, Some(&checkpoint(&start)));
    in_order(&rest, &["delete the IPv4 rule", "delete the IPv6 rule", "shadow table"]);
    // two flags, two rp_filters, the shield's devices
    assert_eq!(rest.steps().count(), 3 + 2 + 2 + 1, "{rest}");
    assert_eq!(after(&left, &rest), end);
}

#[test]
fn a_half_made_ipv6_default_is_no_multipath_route() {
    let start = simple();
    let back = checkpoint(&start);
    let mut half = after(&start, &planned(&to_bridge(), &start, None));
    // as the kernel shows two default routes of one metric
    half.network.routes.retain(|r| !(r.destination.is_ipv6() && r.prefix_len == 0));
    let both = multipath("::/0", &[("fd00:77::1", BRIDGE, 0), ("fd00:77::1", NIC, 0)]);
    half.network.routes.push(both);
    let plan = planned(&to_bridge(), &half, Some(&back));
    in_order(&plan, &["delete 1 route: ::/0 via fd00:77::1 dev eth1"]);
    assert!(!plan.to_string().contains("add 1 route:"), "{plan}");
}

#[test]
fn a_source_that_was_stripped_is_put_back() {
    let mut start = simple();
    let pinned = Route { prefsrc: Some(ip("fd00:77::2")), ..route("fd00:3::/64", None, OTHER) };
    add_route(&mut start, pinned.clone());
    let back = checkpoint(&start);
    let mut stripped = start.clone();
    let lost = Step::DeleteAddress(address(NIC, "fd00:77::2/64"));
    simulate(&mut stripped, &lost);
    let plan = planned(&to_uplink(), &stripped, Some(&back));
    in_order(&plan, &["add fd00:77::2/64 on eth1", "delete 1 route: fd00:3::/64", "add 1 route"]);
    assert!(after(&stripped, &plan).network.routes.contains(&pinned));
}

#[test]
fn a_plan_is_told_in_plain_words() {
    let text = planned(&to_bridge(), &simple(), None).to_string();
    assert!(!text.contains('{') && !text.contains("Some("), "{text}");
    assert!(
        text.contains("Give br-int everything that eth1 has; eth1 keeps it\n  - add 10.77.0.2/24")
    );
}

#[test]
fn a_plan_survives_being_written_down() {
    let plan = planned(&to_bridge(), &simple(), None);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

/// Planning must stay far below the time of the move itself.
#[test]
fn ten_thousand_routes_are_planned_at_once() {
    let mut observed = simple();
    let via = |i: u32| Route {
        destination: std::net::Ipv4Addr::from(0x0b00_0000 + (i << 8)).into(),
        prefix_len: 24,
        ..route("10.0.0.0/8", Some("10.77.0.1"), NIC)
    };
    let routes = (0..10_000).map(via).collect();
    simulate(&mut observed, &Step::AddRoutes { routes });
    let plan = planned(&to_bridge(), &observed, None);
    assert!(plan.to_string().contains("move in place 10002 routes"), "{plan}");
    let mut moved = observed.clone();
    for step in plan.steps() {
        plan::simulate(&mut moved, step);
    }
    assert!(planned(&to_bridge(), &moved, None).is_empty());
}
