//! The table of owners, decided on: each row proceeds or refuses as it says, and no way back
//! is refused.

use super::super::coexistence::{Decision, TABLE, acceptable, happened, plan_beside};
use super::super::{OWN_PROTOCOL, Owner, Step, Want};
use super::generator::{BRIDGE, NIC, add, add_bridge, add_route, address, bare, route};
use super::{checkpoint, want};
use crate::config::Node;
use crate::error::Reasoned as _;
use crate::model::{
    Bond, Claim, Holder, Link, Observed, Owners, Persisted, PersistedAddress, Port, Writer,
};
use crate::plan::{self, Plan, Refusal};

fn node(accept: &[&str]) -> Node {
    let accept = accept.iter().map(|word| (*word).to_owned()).collect();
    let (uplink, bridge) = (NIC.into(), BRIDGE.into());
    Node { uplink, bridge, ovsdb: String::new(), accept, companions: Vec::new() }
}

/// A node that was looked at, with an address that comes back at boot.
fn ready() -> Observed {
    let mut observed = bare();
    add(&mut observed, address(NIC, "10.77.0.2/24"));
    let own = PersistedAddress { ip: "10.77.0.2".parse().unwrap(), prefix_len: Some(24) };
    let file = Persisted {
        writer: Writer::Ifupdown,
        file: "/etc/network/interfaces".into(),
        at_boot: true,
        automatic: false,
        addresses: vec![own],
        names: vec![own.ip],
    };
    observed.owners = Some(Owners { persisted: vec![file], ..Owners::default() });
    observed
}

fn nic(observed: &mut Observed) -> &mut Link {
    observed.network.links.iter_mut().find(|link| link.name == NIC).unwrap()
}

fn above(observed: &mut Observed, kind: &str) {
    let (kind, parent) = (Some(kind.into()), Some(NIC.into()));
    let link = Link { index: 90, name: "above0".into(), kind, parent, ..Link::default() };
    observed.network.links.push(link);
}

fn mastered(observed: &mut Observed, kind: &str) {
    let kind = Some(kind.into());
    observed.network.links.push(Link { index: 91, name: "m0".into(), kind, ..Link::default() });
    nic(observed).master = Some("m0".into());
}

/// Makes a host on which the row's holder is found, as its observer would say it.
fn with(holder: Holder) -> Observed {
    let mut observed = ready();
    let bond = |mode, fail_over_mac| Some(Bond { mode, fail_over_mac });
    match holder {
        Holder::BondOfManyMacs => {
            let link = nic(&mut observed);
            (link.kind, link.bond) = (Some("bond".into()), bond(6, 0));
        }
        Holder::BondChangingMac => {
            let link = nic(&mut observed);
            (link.kind, link.bond) = (Some("bond".into()), bond(1, 1));
        }
        Holder::Bond => {
            let link = nic(&mut observed);
            (link.kind, link.bond) = (Some("bond".into()), bond(1, 2));
        }
        Holder::Team => nic(&mut observed).kind = Some("team".into()),
        Holder::Vlan => nic(&mut observed).kind = Some("vlan".into()),
        Holder::VlanAbove => above(&mut observed, "vlan"),
        Holder::MacvlanAbove => above(&mut observed, "macvlan"),
        Holder::Vrf => mastered(&mut observed, "vrf"),
        Holder::Port => mastered(&mut observed, "bond"),
        Holder::NetworkManager
        | Holder::NetworkManagerAway
        | Holder::Networkd
        | Holder::NetworkdAway
        | Holder::Ifupdown
        | Holder::Netplan
        | Holder::CloudInit
        | Holder::Dhcp
        | Holder::Keepalived
        | Holder::KubeVip
        | Holder::LinkDns => {
            let claim = Claim { holder, link: NIC.into(), evidence: "seen DNS 9.9.9.9".into() };
            observed.owners.as_mut().unwrap().claims.push(claim);
        }
    }
    observed
}

fn beside(observed: &Observed, accept: &[&str], to: Owner) -> Result<Plan, Refusal> {
    plan_beside(&node(accept), &want(to, false), observed, None)
}

#[test]
fn every_row_decides_as_it_says() {
    for row in TABLE {
        let observed = with(row.holder);
        let plan = beside(&observed, &[], Owner::Bridge);
        match row.decision {
            Decision::Proceed => {
                let notes = plan.unwrap().notes.join("\n");
                assert!(notes.contains(row.title), "{row:?}: {notes}");
            }
            Decision::Refuse(reason) => {
                let refusal = plan.unwrap_err();
                assert_eq!((refusal.reason(), refusal.is_transient()), (reason, false), "{row:?}");
                for word in [row.title, NIC, "nothing was changed", "node.accept"] {
                    assert!(refusal.message.contains(word), "{word} is not in {refusal}");
                }
                for placeholder in ["UPLINK", "BRIDGE", "SERVERS"] {
                    assert!(!refusal.message.contains(placeholder), "{refusal}");
                }
                let notes = beside(&observed, &[reason], Owner::Bridge).unwrap().notes.join("\n");
                assert!(notes.contains("accepted: "), "{notes}");
            }
            Decision::Never(reason) => {
                assert_eq!(plan.unwrap_err().reason(), reason, "{row:?}");
                let all = acceptable();
                assert_eq!(beside(&observed, &all, Owner::Bridge).unwrap_err().reason(), reason);
            }
        }
    }
}

/// Whoever is found: what stands at the bridge gets back to the uplink, and a transaction
/// that was begun can be finished.
#[test]
fn no_way_back_is_refused() {
    for row in TABLE.iter().filter(|row| !matches!(row.holder, Holder::Vrf | Holder::Port)) {
        let before = with(row.holder);
        let mut moved = ready();
        add_bridge(&mut moved, true);
        moved.network.addresses.retain(|address| address.link != NIC);
        add(&mut moved, address(BRIDGE, "10.77.0.2/24"));
        moved.owners.clone_from(&before.owners);
        let owners = moved.owners.as_mut().unwrap();
        owners.unread.push("read /etc/x: permission denied".into());
        owners.persisted.clear();
        assert!(!beside(&moved, &[], Owner::Uplink).unwrap().is_empty(), "{row:?}");
        let back = checkpoint(&before);
        for to in [Owner::Bridge, Owner::Uplink] {
            let planned = plan_beside(&node(&[]), &want(to, false), &before, Some(&back));
            assert!(planned.is_ok(), "{row:?} to {to:?}: {planned:?}");
        }
    }
}

#[test]
fn an_address_that_does_not_come_back_at_boot() {
    let mut observed = ready();
    add(&mut observed, address(NIC, "10.77.0.3/24"));
    add(&mut observed, address(NIC, "fd77::2/64"));
    add_route(&mut observed, route("0.0.0.0/0", Some("10.77.0.1"), NIC));
    let refusal = beside(&observed, &[], Owner::Bridge).unwrap_err();
    assert_eq!(refusal.reason(), "UplinkNotPersistent");
    for word in ["10.77.0.3/24, fd77::2/64", "/etc/network/interfaces: 10.77.0.2", "node.accept"] {
        assert!(refusal.message.contains(word), "{word} is not in {refusal}");
    }
    assert!(beside(&observed, &["UplinkNotPersistent"], Owner::Bridge).is_ok());
    assert!(beside(&observed, &[], Owner::Uplink).is_ok());
    observed.owners = None;
    assert!(beside(&observed, &[], Owner::Bridge).is_ok(), "nobody looked");
}

#[test]
fn thousands_of_routes_do_not_make_a_refusal_that_nobody_reads() {
    let mut observed = ready();
    add(&mut observed, address(NIC, "10.77.0.3/24"));
    for number in 0..5_000 {
        let to = format!("11.{}.{}.0/24", number / 256, number % 256);
        add_route(&mut observed, route(&to, Some("10.77.0.1"), NIC));
    }
    add_route(&mut observed, route("0.0.0.0/0", Some("10.77.0.1"), NIC));
    let refusal = beside(&observed, &[], Owner::Bridge).unwrap_err();
    assert!(refusal.message.len() < 2_000, "{} bytes", refusal.message.len());
    for word in ["[Route]\nGateway=10.77.0.1", "4989 more routes", "ip route show dev eth1"] {
        assert!(refusal.message.contains(word), "{word} is not in {refusal}");
    }
}

#[test]
fn each_writers_lines_hold_addresses_and_routes() {
    let writers = [
        (
            Writer::Ifupdown,
            vec!["auto eth1", "iface eth1 inet6 static", "route add default via 10.77.0.1"],
        ),
        (
            Writer::Ifcfg,
            vec!["IPADDR0=10.77.0.3", "IPV6ADDR=fd77::2/64", "route-eth1:\ndefault via 10.77.0.1"],
        ),
        (
            Writer::Netplan,
            vec!["addresses: [\"10.77.0.3/24\", \"fd77::2/64\"]", "via: \"10.77.0.1\""],
        ),
        (
            Writer::Keyfile,
            vec!["address1=10.77.0.3/24", "route1=0.0.0.0/0,10.77.0.1", "address1=fd77::2/64"],
        ),
        (Writer::Networkd, vec!["Name=eth1", "Address=fd77::2/64", "Gateway=10.77.0.1"]),
    ];
    for (writer, words) in writers {
        let mut observed = bare();
        add(&mut observed, address(NIC, "10.77.0.3/24"));
        add(&mut observed, address(NIC, "fd77::2/64"));
        add_route(&mut observed, route("0.0.0.0/0", Some("10.77.0.1"), NIC));
        observed.owners = Some(Owners { writer: Some(writer), ..Owners::default() });
        let refusal = beside(&observed, &[], Owner::Bridge).unwrap_err();
        for word in words {
            assert!(refusal.message.contains(word), "{word} is not in {refusal}");
        }
    }
}

#[test]
fn what_the_kernel_says_of_an_address() {
    let mut observed = ready();
    let leased = crate::model::Address { valid_lft: 3000, ..address(NIC, "10.77.0.9/24") };
    add(&mut observed, leased);
    let refusal = beside(&observed, &[], Owner::Bridge).unwrap_err();
    assert_eq!(refusal.reason(), "UplinkDhcp");
    assert!(refusal.message.contains("ends in 3000 s"), "{refusal}");
    assert!(beside(&observed, &["UplinkDhcp"], Owner::Bridge).is_ok(), "a lease need not persist");
    let mut observed = ready();
    let virtual_one = crate::model::Address { protocol: 18, ..address(NIC, "10.77.0.9/32") };
    add(&mut observed, virtual_one);
    assert_eq!(beside(&observed, &[], Owner::Bridge).unwrap_err().reason(), "VipOnUplink");
}

/// Of what is finite, only a router's own stay heard behind a bridge.
#[test]
fn a_lease_of_ipv6_is_a_lease_and_a_routers_address_is_none() {
    const MANAGES_TEMPORARY: u32 = 0x100;
    let of = |protocol: u8, flags: u32| crate::model::Address {
        valid_lft: 3000,
        protocol,
        flags,
        ..address(NIC, "fd77::9/128")
    };
    let cases = [
        // dhclient, dhcpcd, NetworkManager: no protocol or their own
        (of(0, 0), true),
        (of(0, 0x200), true),
        (of(16, 0), true),
        // `IFAPROT_KERNEL_RA`, and before 5.18, where no protocol is told
        (of(2, MANAGES_TEMPORARY), false),
        (of(2, 0), false),
        (of(0, MANAGES_TEMPORARY), false),
        // temporary
        (of(0, 1), false),
    ];
    for (found, leased) in cases {
        let mut observed = ready();
        add(&mut observed, found.clone());
        let planned = beside(&observed, &[], Owner::Bridge);
        assert_eq!(planned.is_err(), leased, "{found:?}: {planned:?}");
        let Err(refusal) = planned else { continue };
        assert_eq!(refusal.reason(), "UplinkDhcp");
        assert!(refusal.message.contains("fd77::9/128 on eth1 ends in 3000 s"), "{refusal}");
        assert!(beside(&observed, &["UplinkDhcp"], Owner::Bridge).is_ok());
        assert!(beside(&observed, &[], Owner::Uplink).is_ok());
    }
}

/// What the repair of each kind of change is told as.
#[test]
fn every_change_of_a_route_a_rule_or_a_nexthop_is_named() {
    let routes = vec![route("10.8.0.0/16", Some("10.77.0.1"), BRIDGE)];
    let shadow = crate::model::Route { protocol: OWN_PROTOCOL, ..routes[0].clone() };
    let rules = vec![super::generator::rule(4, 1000, 100)];
    let nexthops = vec![crate::model::Nexthop {
        id: 7,
        family: 2,
        protocol: 4,
        flags: 0,
        link: Some(BRIDGE.into()),
        gateway: None,
        members: Vec::new(),
        attributes: Vec::new(),
    }];
    let told = [
        (Step::ReplaceRoutes { routes: routes.clone() }, "10.8.0.0/16 via 10.77.0.1 dev br-int"),
        (Step::ReplaceRoutes { routes: [vec![shadow.clone()], routes.clone()].concat() }, "br-int"),
        (Step::PrependRoutes { routes }, "10.8.0.0/16 via 10.77.0.1 dev br-int"),
        (Step::AddRules { rules: rules.clone() }, "IPv4 rule of priority 1000 lookup 100 is gone"),
        (Step::DeleteRules { rules }, "IPv4 rule of priority 1000 lookup 100 is back"),
        (Step::SetNexthops { nexthops }, "the nexthop id 7 dev br-int"),
    ];
    for (step, words) in told {
        let said = happened(&plan::Step::Handover(step.clone())).unwrap_or_default();
        assert!(said.contains(words), "{step:?}: {said:?}");
    }
    let helper = plan::Step::Handover(Step::ReplaceRoutes { routes: vec![shadow] });
    assert_eq!(happened(&helper), None);
}

#[test]
fn a_file_that_cannot_be_read() {
    let mut observed = ready();
    observed.owners.as_mut().unwrap().unread.push("read /etc/netplan/a.yaml: denied".into());
    let refusal = beside(&observed, &[], Owner::Bridge).unwrap_err();
    assert_eq!(refusal.reason(), "OwnersUnknown");
    assert!(refusal.message.contains("/etc/netplan/a.yaml"), "{refusal}");
}

#[test]
fn what_names_the_uplink_is_said() {
    let mut observed = ready();
    observed.owners.as_mut().unwrap().mentions.push("a tc qdisc clsact on eth1".into());
    let plan = beside(&observed, &[], Owner::Bridge).unwrap();
    assert!(plan.notes.contains(&"a tc qdisc clsact on eth1".to_owned()), "{plan}");
}

/// The bridge owns the addresses and has these ports beside, each `(name, type)`.
fn with_ports(ports: &[(&str, &str)]) -> Observed {
    let mut observed = ready();
    add_bridge(&mut observed, true);
    let rows = &mut observed.ovs.database.as_mut().unwrap().bridges;
    let row = rows.iter_mut().find(|row| row.name == BRIDGE).unwrap();
    for (name, kind) in ports {
        row.ports.push(Port { name: (*name).into(), kind: (*kind).into(), ..Port::default() });
    }
    observed
}

#[test]
fn a_port_of_somebody_else_keeps_its_bridge() {
    let want = Want { delete_bridge: true, ..want(Owner::Uplink, true) };
    let kinds = ["internal", "vxlan", "geneve", "patch", "tap", "system", ""];
    for kind in kinds {
        let observed = with_ports(&[("storage0", kind)]);
        let refusal = plan_beside(&node(&[]), &want, &observed, None).unwrap_err();
        assert_eq!(refusal.reason(), "ForeignBridge", "{kind}");
        assert!(refusal.message.contains("storage0"), "{kind}: {refusal}");
        assert!(refusal.message.contains("nothing was changed"), "{kind}: {refusal}");
        let named = Node { companions: vec!["storage0".into()], ..node(&[]) };
        let plan = plan_beside(&named, &want, &observed, None).unwrap().to_string();
        assert!(plan.contains("delete the bridge br-int"), "{kind}: {plan}");
        let back = checkpoint(&ready());
        let plan = plan_beside(&node(&[]), &want, &observed, Some(&back)).unwrap().to_string();
        assert!(!plan.contains("delete the bridge"), "{kind}: {plan}");
        assert!(plan.contains("storage0"), "{kind}: {plan}");
    }
    // each by its name, in one refusal
    let all = [("vx0", "vxlan"), ("to-ex", "patch"), ("eth9", "")];
    let refusal = plan_beside(&node(&[]), &want, &with_ports(&all), None).unwrap_err();
    for (name, _) in all {
        assert!(refusal.message.contains(name), "{refusal}");
    }
    // the bridge's own port and the uplink are nobody else's
    let plan = plan_beside(&node(&[]), &want, &with_ports(&[]), None).unwrap().to_string();
    assert!(plan.contains("delete the bridge br-int"), "{plan}");
}

/// A bridge of somebody else that forwards by its flows alone.
fn secure(gateway: bool) -> Observed {
    let mut observed = ready();
    add_bridge(&mut observed, false);
    let rows = &mut observed.ovs.database.as_mut().unwrap().bridges;
    rows.iter_mut().find(|row| row.name == BRIDGE).unwrap().fail_mode = Some("secure".into());
    if gateway {
        add_route(&mut observed, route("0.0.0.0/0", Some("10.77.0.1"), NIC));
    }
    observed
}

#[test]
fn a_secure_bridge_that_nobody_can_prove_is_refused_unless_accepted() {
    const REASON: &str = "SecureBridgeUnproven";
    let unproven = secure(false);
    let refusal = beside(&unproven, &[], Owner::Bridge).unwrap_err();
    assert_eq!(refusal.reason(), REASON);
    for words in [BRIDGE, "secure", "nothing was changed", "node.accept"] {
        assert!(refusal.message.contains(words), "{words}: {refusal}");
    }
    assert!(acceptable().contains(&REASON));
    let notes = beside(&unproven, &[REASON], Owner::Bridge).unwrap().notes.join("\n");
    assert!(notes.contains("secure"), "{notes}");
    // nobody has looked for other owners: that is no reason to ask less
    let mut alone = unproven.clone();
    alone.owners = None;
    assert_eq!(beside(&alone, &[], Owner::Bridge).unwrap_err().reason(), REASON);
    // asked before the first change
    let back = checkpoint(&unproven);
    let again = plan_beside(&node(&[]), &want(Owner::Bridge, false), &unproven, Some(&back));
    assert!(again.unwrap().notes.join("\n").contains("secure"));
    assert!(beside(&unproven, &[], Owner::Uplink).is_ok());
    let plan = beside(&secure(true), &[], Owner::Bridge).unwrap().to_string();
    assert!(plan.contains("10.77.0.1"), "{plan}");
}
