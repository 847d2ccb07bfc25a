//! What is refused before anything changes, and what only has to be said.

use super::super::{SHADOW_TABLE, plan_handover, plan_salvage};
use super::generator::{NIC, add, add_bridge, add_route, address, bare, route};
use super::{after, checkpoint, planned, to_bridge, to_uplink};
use crate::error::Reasoned as _;
use crate::model::{Attribute, Bridge, Observed, Port, Route};

/// A node ready for the bridge.
fn ready() -> Observed {
    let mut observed = bare();
    add(&mut observed, address(NIC, "10.77.0.2/24"));
    observed
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Observed), reason: &str, transient: bool, words: &[&str]) {
    let mut observed = ready();
    assert!(plan_handover(&to_bridge(), &observed, None).is_ok());
    change(&mut observed);
    let refusal = plan_handover(&to_bridge(), &observed, None).unwrap_err();
    assert_eq!((refusal.reason(), refusal.is_transient()), (reason, transient), "{refusal}");
    for word in words.iter().chain(&["nothing was changed"]) {
        assert!(refusal.message.contains(word), "{word:?} is not in {refusal}");
    }
}

#[test]
fn an_uplink_that_is_not_there() {
    let gone = |o: &mut Observed| o.network.links.retain(|link| link.name != NIC);
    refused(gone, "UplinkMissing", false, &["eth1", "there are lo, eth0", "node.uplink"]);
    let mut observed = ready();
    gone(&mut observed);
    assert!(plan_handover(&to_uplink(), &observed, None).is_err());
}

#[test]
fn a_bridge_that_is_something_else() {
    refused(
        |o| {
            let kind = Some("bridge".into());
            let link = o.network.links[1].clone();
            o.network.links.push(crate::model::Link { name: "br-int".into(), kind, ..link });
        },
        "BridgeNotOvs",
        false,
        &["br-int", "kind bridge"],
    );
}

#[test]
fn an_open_vswitch_that_does_not_work() {
    refused(
        |o| {
            o.ovs.database = None;
            o.ovs.database_error = Some("connection refused".into());
        },
        "OvsUnavailable",
        true,
        &["connection refused"],
    );
    refused(|o| o.ovs.vswitchd = false, "OvsUnavailable", true, &["ovs-vswitchd"]);
    let wait = |o: &mut Observed| o.ovs.database.as_mut().unwrap().flow_restore_wait = true;
    refused(wait, "FlowRestoreWait", true, &["flow-restore-wait"]);
}

#[test]
fn an_uplink_in_other_hands() {
    refused(
        |o| {
            let port = Port { name: NIC.into(), ..Port::default() };
            let bridge = Bridge { name: "br-ex".into(), ports: vec![port], ..Bridge::default() };
            o.ovs.database.as_mut().unwrap().bridges.push(bridge);
        },
        "UplinkEnslaved",
        false,
        &["eth1", "br-ex"],
    );
    let bond = |o: &mut Observed| o.network.links[2].master = Some("bond0".into());
    refused(bond, "UplinkEnslaved", false, &["bond0"]);
}

#[test]
fn an_uplink_that_no_bridge_can_serve() {
    refused(|o| o.network.links[2].mac = None, "UplinkNotEthernet", false, &["MAC"]);
    refused(
        |o| {
            add(o, address(NIC, "fd00:77::2/64"));
            o.network.links[2].mtu = 1000;
        },
        "UplinkMtuTooSmall",
        false,
        &["1000", "1280"],
    );
}

#[test]
fn a_table_that_is_not_ours() {
    let taken = Route { table: SHADOW_TABLE, ..route("10.9.0.0/16", None, NIC) };
    refused(|o| add_route(o, taken), "ShadowTableTaken", false, &["10.9.0.0/16"]);
    refused(
        |o| o.network.rules[0].table = Some(SHADOW_TABLE),
        "ShadowTableTaken",
        false,
        &["rule of priority 0"],
    );
}

#[test]
fn what_has_an_attribute_that_nobody_knows() {
    let unknown = || vec![Attribute { kind: 0x4063, value: "07000000".into() }];
    let odd = Route { attributes: unknown(), ..route("10.9.0.0/16", Some("10.77.0.1"), NIC) };
    refused(
        |o| add_route(o, odd),
        "AttributeUnknown",
        false,
        &["10.9.0.0/16 via 10.77.0.1", "attribute 99"],
    );
    refused(
        |o| o.network.addresses[0].attributes = unknown(),
        "AttributeUnknown",
        false,
        &["10.77.0.2/24"],
    );
    refused(
        |o| (o.network.rules[1].iif, o.network.rules[1].attributes) = (Some(NIC.into()), unknown()),
        "AttributeUnknown",
        false,
        &["IPv4 rule of priority 32766 iif eth1"],
    );
}

/// What a person would have to be asked about on the way there is left on the way back.
#[test]
fn the_way_back_is_never_refused_for_what_cannot_be_carried() {
    let mut start = ready();
    add_bridge(&mut start, false);
    add(&mut start, address(NIC, "fd00:77::2/64"));
    add_route(&mut start, route("0.0.0.0/0", Some("10.77.0.1"), NIC));
    let back = checkpoint(&start);
    let mut moved = after(&start, &planned(&to_bridge(), &start, None));
    let unknown = vec![Attribute { kind: 99, value: "07000000".into() }];
    let odd = Route { attributes: unknown, ..route("10.9.0.0/16", Some("10.77.0.1"), "br-int") };
    add_route(&mut moved, odd);
    add_route(&mut moved, Route { table: SHADOW_TABLE, ..route("10.8.0.0/16", None, "br-int") });
    add(&mut moved, address(NIC, "fd00:77::2/48"));
    assert!(plan_handover(&to_uplink(), &moved, Some(&back)).is_err());
    let plan = plan_salvage(&to_uplink(), &moved, &back).unwrap();
    let notes = plan.notes.join("\n");
    for word in ["attribute 99", "fd00:77::2/48", "table 1349478766 is in other hands"] {
        assert!(notes.contains(word), "{word} is not in {notes}");
    }
    assert!(!plan.to_string().contains("rule of priority"), "{plan}");
    let mut home = moved.clone();
    plan.steps().for_each(|step| crate::plan::simulate(&mut home, step));
    let again = plan_salvage(&to_uplink(), &home, &back).unwrap();
    assert!(again.is_empty(), "{again}");
    let by = |to: &str| {
        let to = home.network.routes.iter().find(|r| r.destination.to_string() == to).unwrap();
        to.link.clone()
    };
    assert_eq!((by("0.0.0.0"), by("10.9.0.0")), (Some(NIC.into()), Some(NIC.into())));
    let address = |a: &&crate::model::Address| a.link == NIC && a.ip.to_string() == "10.77.0.2";
    assert!(home.network.addresses.iter().any(|a| address(&a)));
}

#[test]
fn an_address_of_two_kinds() {
    refused(
        |o| {
            add_bridge(o, false);
            add(o, address(NIC, "fd00:77::2/64"));
            add(o, address("br-int", "fd00:77::2/48"));
        },
        "AddressConflict",
        false,
        &["fd00:77::2/48", "fd00:77::2/64"],
    );
}

#[test]
fn what_stays_behind_is_said() {
    let mut observed = ready();
    add(&mut observed, address(NIC, "fe80::1/64"));
    let from_router = crate::model::Address { protocol: 2, ..address(NIC, "fd00:1::5/64") };
    add(&mut observed, from_router);
    add_route(&mut observed, Route { protocol: 9, ..route("::/0", Some("fe80::9"), NIC) });
    observed.network.neighbours.push(crate::model::Neighbour {
        link: NIC.into(),
        ip: "10.77.0.9".parse().unwrap(),
        mac: Some("02:00:00:00:77:09".into()),
        permanent: false,
        proxy: false,
        flags: 0x10,
        protocol: 0,
    });
    let plan = planned(&to_bridge(), &observed, None);
    let notes = plan.notes.join("\n");
    for word in [
        "fe80::1",
        "link-local",
        "fd00:1::5",
        "router advertisements",
        "::/0 via fe80::9",
        "neighbour 10.77.0.9 on eth1",
        "masqueraded",
        "sockets bound to eth1",
    ] {
        assert!(notes.contains(word), "{word} is not in {notes}");
    }
    assert!(plan.steps().all(|step| !step.to_string().contains("fd00:1::5")), "{plan}");
}
