//! Single steps: what the kernel makes of them, by `ip`.

use super::{BRIDGE, NIC, OTHER, apply, enter, give_addresses, ip, ip_json, read};
use pointsman_core::error::chain;
use pointsman_core::model::{Address, Network};
use pointsman_core::plan::handover::{OWN_PROTOCOL, SHADOW_TABLE, Step};

/// A stand-in for the bridge's internal port: these tests are about netlink alone.
fn make_stand_in() {
    ip("link add br-int type veth peer br-int-peer");
    ip("link set br-int-peer up");
    ip("link set br-int up");
}

/// In the order in which the kernel tells them.
fn addresses(network: &Network, link: &str) -> Vec<Address> {
    let mine = network
        .addresses
        .iter()
        .filter(|a| a.link == link && !a.ip.to_string().starts_with("fe80"));
    mine.map(|a| Address {
        link: String::new(),
        label: None,
        flags: a.flags & !2,
        valid_lft: 0,
        preferred_lft: 0,
        ..a.clone()
    })
    .collect()
}

fn on_bridge(address: &Address) -> Address {
    let label = address.label.as_ref().map(|label| label.replace(NIC, BRIDGE));
    Address { link: BRIDGE.into(), label, ..address.clone() }
}

/// The addresses of a link in the order of adding.
fn in_order(network: &Network, link: &str) -> Vec<Address> {
    let mine = |v4: bool| {
        let all = network.addresses.iter().filter(move |a| a.link == link && a.ip.is_ipv4() == v4);
        all.filter(|a| !a.ip.to_string().starts_with("fe80")).cloned().collect::<Vec<_>>()
    };
    let v6: Vec<Address> = mine(false).into_iter().rev().collect();
    [mine(true), v6].concat()
}

#[test]
fn addresses_keep_their_order_and_their_nature() {
    enter();
    give_addresses();
    make_stand_in();
    let before = read();
    for address in in_order(&before, NIC) {
        apply(Step::AddAddress(on_bridge(&address))).unwrap();
        // a second time it is there exactly so
        apply(Step::AddAddress(on_bridge(&address))).unwrap();
    }
    let after = read();
    assert_eq!(addresses(&after, BRIDGE), addresses(&before, NIC));
    let label = ip_json("-4 address show dev br-int")[0]["addr_info"][2]["label"].clone();
    let labels: Vec<&str> = after.addresses.iter().filter_map(|a| a.label.as_deref()).collect();
    assert!(labels.contains(&"br-int:vip"), "{labels:?} {label}");
    let names = |link: &str| -> Vec<String> {
        let shown = ip_json(&format!("address show dev {link}"));
        let info = shown[0]["addr_info"].as_array().unwrap().clone();
        let global = info.iter().filter(|a| a["scope"] != "link" || a["family"] == "inet");
        global.map(|a| a["local"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(BRIDGE), names(NIC), "by ip");
    let tentative = ip("-6 address show dev br-int tentative");
    assert!(!tentative.contains("fd00"), "usable at once: {tentative}");
    for address in in_order(&before, NIC) {
        apply(Step::SettleAddress(on_bridge(&address))).unwrap();
    }
    assert!(read().addresses.iter().filter(|a| a.link == BRIDGE).all(|a| {
        let original = before.addresses.iter().find(|b| b.ip == a.ip);
        original.is_none_or(|b| b.flags == a.flags)
    }));
}

#[test]
fn an_address_that_differs_is_no_success() {
    enter();
    ip("address add 10.77.0.2/24 dev eth1 label eth1:a");
    let there = read().addresses.iter().find(|a| a.ip.is_ipv4() && a.link == NIC).unwrap().clone();
    apply(Step::AddAddress(there.clone())).unwrap();
    let other = Address { label: Some("eth1:b".into()), ..there.clone() };
    let error = apply(Step::AddAddress(other)).unwrap_err();
    assert!(chain(&error).contains("differs from what was wanted"), "{}", chain(&error));
    apply(Step::DeleteAddress(there.clone())).unwrap();
    apply(Step::DeleteAddress(there)).unwrap();
    assert_eq!(ip("-4 address show dev eth1"), "");
}

/// The kernel drops the routes of a vanished address, of other links too; not while another link has it.
#[test]
fn a_route_of_another_link_survives_the_move_of_its_source() {
    enter();
    ip("address add 10.77.0.2/24 dev eth1");
    ip("address add fd00:77::2/64 dev eth1 nodad");
    ip("address add 192.168.9.2/24 dev eth0");
    ip("address add fd00:9::2/64 dev eth0 nodad");
    ip("route add 10.2.0.0/16 via 192.168.9.1 dev eth0 src 10.77.0.2");
    ip("-6 route add fd00:2::/64 via fd00:9::1 dev eth0 src fd00:77::2");
    make_stand_in();
    let before = [ip("route show dev eth0"), ip("-6 route show dev eth0")];
    let addresses = in_order(&read(), NIC);
    for address in &addresses {
        apply(Step::AddAddress(on_bridge(address))).unwrap();
    }
    for address in addresses.iter().rev() {
        apply(Step::DeleteAddress(address.clone())).unwrap();
    }
    assert_eq!([ip("route show dev eth0"), ip("-6 route show dev eth0")], before);
    // and the witness that it matters: the last copy takes the route along
    for address in &addresses {
        apply(Step::DeleteAddress(on_bridge(address))).unwrap();
    }
    assert!(!ip("route show dev eth0").contains("10.2.0.0/16"));
    assert!(read().routes.iter().all(|r| r.link.as_deref() != Some(OTHER)
        || r.prefsrc.is_none_or(|s| s.to_string() != "fd00:77::2")));
}

#[test]
fn a_batch_that_fails_names_the_route() {
    enter();
    ip("address add 10.77.0.2/24 dev eth1");
    ip("route add 10.1.0.0/16 via 10.77.0.1 dev eth1");
    let good = read().routes.iter().find(|r| r.gateway.is_some()).unwrap().clone();
    let routes: Vec<_> = (0..700u32)
        .map(|i| {
            let destination = std::net::Ipv4Addr::from(0x0b00_0000 + (i << 8)).into();
            let gateway = if i == 613 { "203.0.113.7" } else { "10.77.0.1" };
            pointsman_core::model::Route {
                destination,
                prefix_len: 24,
                gateway: Some(gateway.parse().unwrap()),
                ..good.clone()
            }
        })
        .collect();
    let error = apply(Step::AddRoutes { routes: routes.clone() }).unwrap_err();
    let text = chain(&error);
    for words in [
        "11.2.101.0/24 via 203.0.113.7",
        "1 of 200 in this batch",
        "Nexthop has invalid gateway",
        "Network is unreachable",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let added = read().routes.len();
    assert!(added >= 699, "the others of the batch are there: {added}");
    let rest: Vec<_> =
        routes.iter().enumerate().filter(|(i, _)| *i != 613).map(|(_, r)| r.clone()).collect();
    apply(Step::AddRoutes { routes: rest.clone() }).unwrap();
    apply(Step::DeleteRoutes { routes: rest }).unwrap();
    assert_eq!(read().routes.iter().filter(|r| r.gateway.is_some()).count(), 1);
}

/// A delete without a metric is taken for any metric by the kernel.
#[test]
fn only_the_route_that_is_named_is_deleted() {
    enter();
    ip("address add 10.77.0.2/24 dev eth1");
    ip("route add 10.1.0.0/16 via 10.77.0.1 dev eth1");
    let route = read().routes.iter().find(|r| r.gateway.is_some()).unwrap().clone();
    ip("route add 10.1.0.0/16 via 10.77.0.1 dev eth1 metric 100");
    apply(Step::DeleteRoutes { routes: vec![route.clone()] }).unwrap();
    apply(Step::DeleteRoutes { routes: vec![route] }).unwrap();
    assert_eq!(
        ip("route show 10.1.0.0/16").trim(),
        "10.1.0.0/16 via 10.77.0.1 dev eth1 metric 100"
    );
}

#[test]
fn the_kernels_own_words_are_in_the_error() {
    enter();
    let mut address = pointsman_core::model::Address {
        link: NIC.into(),
        ip: "10.77.0.2".parse().unwrap(),
        prefix_len: 24,
        peer: None,
        broadcast: None,
        label: None,
        scope: 0,
        flags: 0,
        valid_lft: 10,
        preferred_lft: 20,
        protocol: 0,
        metric: None,
        attributes: Vec::new(),
    };
    let error = apply(Step::AddAddress(address.clone())).unwrap_err();
    assert!(chain(&error).contains("Invalid argument"), "{}", chain(&error));
    address.link = "no-such".into();
    let error = apply(Step::AddAddress(address)).unwrap_err();
    assert!(chain(&error).contains("there is no network device no-such"), "{}", chain(&error));
}

#[test]
fn a_rule_comes_last_before_main_and_goes() {
    enter();
    ip("rule add lookup 77 priority 32765");
    for family in [4, 6] {
        let (priority, table) = (32765, SHADOW_TABLE);
        let add = Step::AddShadowRule { family, priority, table };
        apply(add.clone()).unwrap();
        apply(add).unwrap();
    }
    let rules = ip_json("-d rule show");
    let shadow = SHADOW_TABLE.to_string();
    let tables: Vec<&str> =
        rules.as_array().unwrap().iter().map(|r| r["table"].as_str().unwrap()).collect();
    assert_eq!(tables, ["local", "77", &SHADOW_TABLE.to_string(), "main", "default"]);
    let ours = rules.as_array().unwrap().iter().find(|r| r["table"] == shadow.as_str()).unwrap();
    assert_eq!(ours["protocol"], OWN_PROTOCOL.to_string());
    for family in [4, 6] {
        let (priority, table) = (32765, SHADOW_TABLE);
        let delete = Step::DeleteShadowRule { family, priority, table };
        apply(delete.clone()).unwrap();
        apply(delete).unwrap();
    }
    assert!(ip("rule show").contains("lookup 77"));
    assert!(!ip("rule show").contains(&shadow) && !ip("-6 rule show").contains(&shadow));
}

#[test]
fn links_neighbours_and_sysctls_are_set() {
    enter();
    make_stand_in();
    ip("link set br-int down");
    apply(Step::SetUp { link: NIC.into() }).unwrap();
    apply(Step::SetMtu { link: BRIDGE.into(), mtu: 1400 }).unwrap();
    apply(Step::SetRpFilter { link: BRIDGE.into(), value: 2 }).unwrap();
    let network = read();
    let link = network.link(BRIDGE).unwrap();
    assert_eq!((link.mtu, link.rp_filter), (1400, Some(2)));
    assert_eq!(ip_json("link show dev br-int")[0]["mtu"], 1400);
    for permanent in [false, true] {
        let neighbour = pointsman_core::model::Neighbour {
            link: NIC.into(),
            ip: "10.77.0.1".parse().unwrap(),
            mac: Some("02:00:00:00:77:aa".into()),
            permanent,
            proxy: false,
            flags: 0,
            protocol: 0,
        };
        apply(Step::SetNeighbour(neighbour.clone())).unwrap();
        let state = if permanent { "PERMANENT" } else { "REACHABLE" };
        assert_eq!(ip_json("neighbour show dev eth1")[0]["state"][0], state);
        apply(Step::DeleteNeighbour(neighbour.clone())).unwrap();
        apply(Step::DeleteNeighbour(neighbour)).unwrap();
    }
}

#[test]
fn a_link_without_carrier_is_not_waited_for_for_ever() {
    enter();
    ip("link set eth1-peer down");
    ip("link set eth1 down");
    let error = apply(Step::SetUp { link: NIC.into() }).unwrap_err();
    assert!(chain(&error).contains("no carrier"), "{}", chain(&error));
}
