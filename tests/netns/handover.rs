//! Whole moves, with a real Open vSwitch on the user-space datapath.

use super::{BRIDGE, NIC, OTHER, enter, executor, give_addresses, give_routes, ip, read};
use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::model::{Address, Network, Observed, Route};
use pointsman_core::plan::Plan;
use pointsman_core::plan::handover::{Owner, Want, canonical, plan_handover};
use std::collections::BTreeSet;
use support::ovs::OvsFixture;

/// A node with everything on the uplink, and a bridge that waits: of the user-space
/// datapath, which a plan does not make.
fn node() -> OvsFixture {
    enter();
    let ovs = OvsFixture::start_here();
    ovs.vsctl(&["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]);
    ovs.vsctl(&["set", "bridge", BRIDGE, "fail_mode=standalone"]);
    give_addresses();
    give_routes();
    ip("neighbour add 10.77.0.66 lladdr 02:00:00:00:77:66 dev eth1 nud permanent");
    ip("neighbour add 10.77.0.1 lladdr 02:00:00:00:77:aa dev eth1 nud reachable");
    ovs
}

fn observe(ovs: &OvsFixture) -> Observed {
    let ovs = pointsman::observe::ovs::observe(&ovs.socket(), &pointsman::disk::HostRoot::new("/"))
        .unwrap();
    let mut network = read();
    pointsman::observe::sysctl::read(&mut network, &[NIC, BRIDGE]).unwrap();
    Observed { network, ovs, ..Observed::default() }
}

fn want(to: Owner) -> Want {
    Want { uplink: NIC.into(), bridge: BRIDGE.into(), to, delete_bridge: false }
}

pub fn plan(ovs: &OvsFixture, to: Owner, way_back: Option<&Checkpoint>) -> Plan {
    plan_handover(&want(to), &observe(ovs), way_back).unwrap()
}

/// The first so many steps of a plan.
pub fn carry_out(ovs: &OvsFixture, plan: &Plan, steps: usize) {
    let executor = executor(&ovs.socket());
    for step in plan.steps().take(steps) {
        executor.apply(step).unwrap_or_else(|error| {
            panic!(
                "{}\n{plan}\n{}",
                pointsman_core::error::chain(&error),
                ip("-d route show table all")
            )
        });
    }
}

pub fn move_to(ovs: &OvsFixture, to: Owner, way_back: Option<&Checkpoint>) {
    let steps = plan(ovs, to, way_back);
    carry_out(ovs, &steps, usize::MAX);
    let again = plan(ovs, to, way_back);
    assert!(again.is_empty(), "not empty after\n{steps}\nbut\n{again}");
}

/// Addresses in order, routes without order; the link's name and the time left taken out.
fn carried(network: &Network, owner: &str) -> (Vec<Address>, BTreeSet<Route>) {
    let own = |link: &str| if link == owner { "owner".to_owned() } else { link.to_owned() };
    let addresses = network
        .addresses
        .iter()
        .filter(|a| {
            [NIC, BRIDGE].contains(&a.link.as_str()) && !a.ip.to_string().starts_with("fe80")
        })
        .map(|a| Address {
            link: own(&a.link),
            label: a.label.as_ref().map(|label| label.replace(owner, "owner")),
            valid_lft: a.valid_lft.div_ceil(1000),
            preferred_lft: a.preferred_lft.div_ceil(1000),
            ..a.clone()
        })
        .collect();
    let routes = canonical(&network.routes)
        .filter(|route| route.protocol != 2 || !route.destination.to_string().starts_with("fe80"))
        .map(|mut route| {
            route.link = route.link.as_deref().map(own);
            for hop in &mut route.hops {
                hop.link = own(&hop.link);
            }
            route.attributes.retain(|attribute| attribute.kind != 23);
            route
        })
        .collect();
    (addresses, routes)
}

#[track_caller]
fn assert_carried(found: &Network, owner: &str, expected: &(Vec<Address>, BTreeSet<Route>)) {
    let found = carried(found, owner);
    assert_eq!(found.0, expected.0);
    let more: Vec<_> = found.1.difference(&expected.1).collect();
    let less: Vec<_> = expected.1.difference(&found.1).collect();
    assert!(more.is_empty() && less.is_empty(), "too much {more:#?}, lost {less:#?}");
}

/// What `ip` says of other links, and of what is not a link's.
fn others() -> [String; 4] {
    let rest = |text: String| -> String {
        let mut lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.contains(NIC) && !line.contains("table local"))
            .collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    [
        rest(ip("route show dev eth0 table all")),
        rest(ip("-6 route show dev eth0 table all")),
        ip("rule show"),
        ip("-6 rule show"),
    ]
}

#[test]
fn there_and_back_everything_is_as_it_was() {
    let ovs = node();
    let start = observe(&ovs);
    let (original, other_links) = (carried(&start.network, NIC), others());
    move_to(&ovs, Owner::Bridge, None);
    let moved = observe(&ovs);
    assert_carried(&moved.network, BRIDGE, &original);
    assert_eq!(others(), other_links);
    assert!(moved.ovs.bridge(BRIDGE).unwrap().port(NIC).unwrap().ofport.is_some());
    assert_eq!(ip("-4 address show dev eth1"), "");
    assert_eq!(moved.network.link(BRIDGE).unwrap().mac, start.network.link(NIC).unwrap().mac);
    assert!(moved.network.neighbours.iter().any(|n| n.permanent && n.link == BRIDGE));
    move_to(&ovs, Owner::Uplink, None);
    let home = observe(&ovs);
    assert_carried(&home.network, NIC, &original);
    assert_eq!(others(), other_links);
    assert!(home.ovs.bridge(BRIDGE).unwrap().port(NIC).is_none());
    assert_eq!(ip("-4 address show dev br-int"), "");
    assert!(home.network.neighbours.iter().all(|n| !n.permanent || n.link == NIC));
}

#[test]
fn strict_reverse_path_filters_are_strict_again() {
    let ovs = node();
    let set = |link: &str| {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "1").unwrap();
    };
    ["all", NIC].into_iter().for_each(set);
    let start = observe(&ovs);
    assert_eq!(start.network.link(BRIDGE).unwrap().rp_filter, Some(0));
    let steps = plan(&ovs, Owner::Bridge, None).to_string();
    assert!(
        steps.contains("rp_filter of eth1 to 2") && steps.contains("rp_filter of br-int to 2"),
        "{steps}"
    );
    move_to(&ovs, Owner::Bridge, None);
    let moved = read();
    assert_eq!(moved.link(NIC).unwrap().rp_filter, Some(1));
    assert_eq!(moved.link(BRIDGE).unwrap().rp_filter, Some(1), "as the uplink's");
}

/// Killed after each step: the move can be finished, and it can be taken back.
#[test]
fn from_every_interruption_both_ends_are_reached() {
    let ovs = node();
    let start = observe(&ovs);
    let back =
        Checkpoint { schema: CHECKPOINT_SCHEMA, transaction: "t".into(), before: start.clone() };
    let (original, other_links) = (carried(&start.network, NIC), others());
    let steps = plan(&ovs, Owner::Bridge, None).steps().count();
    assert!(steps > 25, "{steps}");
    for interrupted in 1..steps {
        for to in [Owner::Uplink, Owner::Bridge] {
            let forward = plan(&ovs, Owner::Bridge, Some(&back));
            carry_out(&ovs, &forward, interrupted);
            move_to(&ovs, to, Some(&back));
            let owner = if to == Owner::Bridge { BRIDGE } else { NIC };
            assert_carried(&read(), owner, &original);
            assert_eq!(others(), other_links, "after {interrupted} steps, to {to:?}");
        }
        let backward = plan(&ovs, Owner::Uplink, Some(&back));
        carry_out(&ovs, &backward, interrupted);
        move_to(
            &ovs,
            if interrupted % 2 == 0 { Owner::Bridge } else { Owner::Uplink },
            Some(&back),
        );
        move_to(&ovs, Owner::Uplink, Some(&back));
        assert_carried(&read(), NIC, &original);
    }
}

/// With vswitchd its user-space datapath and the bridge's device are gone, and with that
/// device all that it owned.
#[test]
fn a_bridge_that_vanished_gives_back_what_the_checkpoint_holds() {
    let mut ovs = node();
    let start = observe(&ovs);
    let back =
        Checkpoint { schema: CHECKPOINT_SCHEMA, transaction: "t".into(), before: start.clone() };
    let (original, other_links) = (carried(&start.network, NIC), others());
    move_to(&ovs, Owner::Bridge, None);
    ovs.kill_vswitchd();
    // vswitchd makes its taps persistent; a kernel datapath takes its devices along
    ip("link del br-int");
    assert!(!ip("route show dev eth0").contains("10.11.0.0/16"), "the kernel dropped it");
    // other vswitchds may run on this machine, and none is ours
    let now = Observed {
        ovs: pointsman_core::model::Ovs { vswitchd: false, ..observe(&ovs).ovs },
        ..observe(&ovs)
    };
    let steps = plan_handover(&want(Owner::Uplink), &now, Some(&back)).unwrap();
    let executor = executor(&ovs.socket());
    for step in steps.steps().filter(|step| matches!(step, pointsman_core::plan::Step::Handover(_)))
    {
        executor.apply(step).unwrap();
    }
    assert_carried(&read(), NIC, &original);
    assert_eq!(others(), other_links);
    assert!(read().links.iter().any(|link| link.name == OTHER));
}

/// Every change is asked for in batches: this many routes take no noticeable time more.
#[test]
fn ten_thousand_routes_are_moved() {
    const MANY: u32 = 10_000;
    let ovs = node();
    let batch: String = (0..MANY)
        .map(|i| {
            format!(
                "route add {}/24 via 10.77.0.1 dev eth1 table {}\n",
                std::net::Ipv4Addr::from(0x0b00_0000 + (i << 8)),
                254 - i % 5
            )
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    ip(&format!("-batch {}", file.path().display()));
    let original = carried(&read(), NIC);
    assert!(original.1.len() > MANY as usize);
    let steps = plan(&ovs, Owner::Bridge, None);
    let start = std::time::Instant::now();
    carry_out(&ovs, &steps, usize::MAX);
    println!("{MANY} routes moved in {:?}", start.elapsed());
    assert!(plan(&ovs, Owner::Bridge, None).is_empty());
    assert_carried(&read(), BRIDGE, &original);
}
