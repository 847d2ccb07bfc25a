//! Nodes of many kinds, out of a seed. Built by simulated steps, so that each is one that a
//! kernel could be in.

use super::super::{Step, simulate};
use crate::model::{
    Address, Attribute, Bridge, Hop, Link, Member, Neighbour, Network, Nexthop, Observed, Ovs,
    OvsDatabase, Port, Route, Rule,
};
use std::net::IpAddr;

pub(super) const NIC: &str = "eth1";
pub(super) const BRIDGE: &str = "br-int";
pub(super) const OTHER: &str = "eth0";
pub(super) const MAC: &str = "02:00:00:00:77:02";

/// George Marsaglia's xorshift64: enough to vary, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.below(2);
        }
        random
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }

    pub(super) fn yes(&mut self) -> bool {
        self.below(2) == 0
    }

    fn some<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        all.iter().filter(|_| self.yes()).cloned().collect()
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn address(link: &str, text: &str) -> Address {
    let (local, len) = text.split_once('/').unwrap();
    let v4 = ip(local).is_ipv4();
    Address {
        link: link.into(),
        ip: ip(local),
        prefix_len: len.parse().unwrap(),
        peer: None,
        broadcast: None,
        label: v4.then(|| link.to_owned()),
        scope: 0,
        flags: 0,
        valid_lft: u32::MAX,
        preferred_lft: u32::MAX,
        protocol: 0,
        metric: None,
        attributes: Vec::new(),
    }
}

/// `DESTINATION [via GATEWAY] dev LINK`, protocol static, in `main`.
pub(super) fn route(destination: &str, via: Option<&str>, link: &str) -> Route {
    let (network, len) = destination.split_once('/').unwrap();
    let v4 = ip(network).is_ipv4();
    Route {
        table: 254,
        destination: ip(network),
        prefix_len: len.parse().unwrap(),
        source_len: 0,
        kind: 1,
        protocol: 4,
        scope: if v4 && via.is_none() { 253 } else { 0 },
        tos: 0,
        metric: (!v4).then_some(1024),
        prefsrc: None,
        gateway: via.map(ip),
        link: Some(link.into()),
        flags: 0,
        hops: Vec::new(),
        attributes: Vec::new(),
    }
}

pub(super) fn multipath(destination: &str, legs: &[(&str, &str, u8)]) -> Route {
    let hop = |(via, link, hops): &(&str, &str, u8)| Hop {
        gateway: Some(ip(via)),
        link: (*link).into(),
        hops: *hops,
        flags: 0,
        attributes: Vec::new(),
    };
    let hops = legs.iter().map(hop).collect();
    Route { link: None, scope: 0, hops, ..route(destination, None, NIC) }
}

pub(super) fn rule(family: u8, priority: u32, table: u32) -> Rule {
    Rule {
        family,
        priority,
        action: 1,
        flags: 0,
        tos: 0,
        source_len: 0,
        destination_len: 0,
        table: Some(table),
        protocol: 2,
        iif: None,
        oif: None,
        attributes: Vec::new(),
    }
}

fn link(index: u32, name: &str, mac: &str) -> Link {
    Link {
        index,
        name: name.into(),
        kind: None,
        mac: Some(mac.into()),
        mtu: 1500,
        up: true,
        master: None,
        rp_filter: Some(0),
        ..Link::default()
    }
}

/// Open vSwitch running and without bridges; a NIC and another link, up.
pub(super) fn bare() -> Observed {
    let links = vec![
        link(1, "lo", "00:00:00:00:00:00"),
        link(2, OTHER, "02:00:00:00:77:01"),
        link(3, NIC, MAC),
    ];
    let rules = [(4, 0, 255), (4, 32766, 254), (4, 32767, 253), (6, 0, 255), (6, 32766, 254)];
    Observed {
        network: Network {
            links,
            rules: rules.iter().map(|(family, at, table)| rule(*family, *at, *table)).collect(),
            ..Network::default()
        },
        ovs: Ovs {
            database: Some(OvsDatabase::default()),
            vswitchd: true,
            ovsdb_server: true,
            ..Ovs::default()
        },
        ..Observed::default()
    }
}

/// The kernel adds without `nodad` what a person adds so.
pub(super) fn add(observed: &mut Observed, address: Address) {
    simulate(observed, &Step::AddAddress(address.clone()));
    simulate(observed, &Step::SettleAddress(address));
}

pub(super) fn add_route(observed: &mut Observed, route: Route) {
    simulate(observed, &Step::AddRoutes { routes: vec![route] });
}

/// A bridge that is there already, of the kernel's datapath, with an address of its own.
pub(super) fn add_bridge(observed: &mut Observed, own_address: bool) {
    let port = Port {
        name: BRIDGE.into(),
        kind: "internal".into(),
        ofport: Some(65534),
        ..Port::default()
    };
    let bridge = Bridge { name: BRIDGE.into(), ports: vec![port], ..Bridge::default() };
    observed.ovs.database.as_mut().unwrap().bridges.push(bridge);
    let kind = Some("openvswitch".into());
    observed.network.links.push(Link { kind: kind.clone(), ..link(4, "ovs-system", MAC) });
    observed.network.links.push(Link { kind, ..link(5, BRIDGE, "02:00:00:00:77:99") });
    observed.ovs.datapaths =
        vec![crate::model::Datapath { name: "ovs-system".into(), vports: vec![BRIDGE.into()] }];
    if own_address {
        add(observed, address(BRIDGE, "172.16.0.1/24"));
    }
}

/// A node with its addresses on the uplink.
pub(super) fn node(random: &mut Random) -> Observed {
    let mut observed = bare();
    let network = &mut observed.network;
    network.rp_filter_all = u8::try_from(random.below(3)).unwrap();
    network.links[2].rp_filter = Some(u8::try_from(random.below(3)).unwrap());
    network.links[2].mtu = if random.yes() { 1500 } else { 9000 };
    if random.yes() {
        let own_address = random.yes();
        add_bridge(&mut observed, own_address);
    }
    add(&mut observed, address(OTHER, "192.168.9.2/24"));
    add(&mut observed, address(OTHER, "fd00:9::2/64"));
    for address in addresses(random) {
        add(&mut observed, address);
    }
    add_routes(&mut observed, random);
    observed.network.shield.refused = (random.below(4) == 0).then(|| "no nf_tables".into());
    add_nexthops(&mut observed, random);
    add_rules(&mut observed, random);
    set_sysctls(&mut observed, random);
    for (at, permanent) in [("10.77.0.1", false), ("fe80::1", false), ("10.77.0.66", true)] {
        if random.yes() {
            observed.network.neighbours.push(Neighbour {
                link: NIC.into(),
                ip: ip(at),
                mac: Some("02:00:00:00:77:aa".into()),
                permanent,
                proxy: false,
                flags: 0,
                protocol: 0,
            });
        }
    }
    observed
}

fn addresses(random: &mut Random) -> Vec<Address> {
    let mut found = vec![Address {
        broadcast: Some(ip("10.77.0.255")),
        metric: random.yes().then_some(300),
        ..address(NIC, "10.77.0.2/24")
    }];
    let label = Some("eth1:vip".into());
    found.extend(random.some(&[
        Address { label, ..address(NIC, "10.77.0.3/24") },
        address(NIC, "10.77.0.4/24"),
        Address { flags: 0x200, ..address(NIC, "10.88.0.2/16") },
        address(NIC, "10.99.0.9/32"),
        Address { peer: Some(ip("10.66.0.1")), ..address(NIC, "10.66.0.2/32") },
        Address { scope: 253, valid_lft: 600, preferred_lft: 300, ..address(NIC, "10.55.0.2/24") },
    ]));
    if random.yes() {
        found.push(address(NIC, "fd00:77::2/64"));
        found.extend(random.some(&[
            address(NIC, "fd00:77::3/64"),
            Address { flags: 0x02, ..address(NIC, "fd00:88::2/64") },
            Address { flags: 0x200, ..address(NIC, "fd00:99::2/64") },
            address(NIC, "fd00:aa::2/128"),
            Address { valid_lft: 900, ..address(NIC, "fd00:bb::2/64") },
            Address { valid_lft: 900, ..address(NIC, "fd00:88::3/64") },
            Address { flags: 0x200, ..address(NIC, "fd00:77::4/64") },
            Address { flags: 0x100, valid_lft: 900, ..address(NIC, "fd00:77::dead/64") },
            address(NIC, "fe80::ff:fe00:7702/64"),
        ]));
    }
    found
}

fn add_routes(observed: &mut Observed, random: &mut Random) {
    let pinned = |route: Route, source: &str| Route { prefsrc: Some(ip(source)), ..route };
    let mut all = vec![
        route("0.0.0.0/0", Some("10.77.0.1"), NIC),
        pinned(route("10.1.0.0/16", Some("10.77.0.1"), NIC), "10.77.0.2"),
        pinned(route("10.2.0.0/16", None, OTHER), "10.77.0.2"),
        pinned(route("10.3.0.0/16", Some("192.168.9.1"), OTHER), "10.77.0.2"),
        Route { metric: Some(500), ..route("0.0.0.0/0", Some("10.77.0.9"), NIC) },
        Route { table: 100, ..route("0.0.0.0/0", Some("10.77.0.1"), NIC) },
        Route { table: 100, ..route("10.77.0.0/24", None, NIC) },
        Route { table: 70_000, ..pinned(route("10.4.0.0/16", None, NIC), "10.77.0.2") },
        Route { kind: 6, link: None, scope: 0, ..route("10.5.0.0/16", None, NIC) },
        Route { flags: 4, ..route("10.6.0.0/16", Some("203.0.113.1"), NIC) },
        multipath("10.7.0.0/16", &[("10.77.0.1", NIC, 0), ("10.77.0.5", NIC, 3)]),
        multipath("10.8.0.0/16", &[("10.77.0.1", NIC, 0), ("192.168.9.1", OTHER, 0)]),
        // of one destination and metric with the first of all, and behind it
        route("0.0.0.0/0", Some("192.168.9.1"), OTHER),
        route("10.77.0.0/24", None, OTHER),
        Route { table: 255, kind: 2, scope: 254, ..route("10.12.0.0/16", None, NIC) },
    ];
    if observed.network.addresses.iter().any(|a| a.link == NIC && a.ip.is_ipv6()) {
        let expires = Attribute { kind: 23, value: "78000000".into() };
        all.extend([
            route("::/0", Some("fd00:77::1"), NIC),
            route("::/0", Some("fe80::1"), OTHER),
            Route { protocol: 9, ..route("fd00:1::/64", Some("fe80::1"), NIC) },
            pinned(route("fd00:2::/64", Some("fd00:77::1"), NIC), "fd00:77::2"),
            pinned(route("fd00:3::/64", None, OTHER), "fd00:77::2"),
            Route { attributes: vec![expires], ..route("fd00:4::/64", None, NIC) },
            Route { table: 100, ..route("::/0", Some("fd00:77::1"), NIC) },
            multipath("fd00:5::/64", &[("fd00:77::1", NIC, 1), ("fd00:9::1", OTHER, 0)]),
            multipath("fd00:6::/64", &[("fd00:77::1", NIC, 0), ("fd00:77::5", NIC, 0)]),
            Route { protocol: 2, metric: Some(256), ..route("fe80::/64", None, NIC) },
        ]);
    }
    for route in random.some(&all) {
        add_route(observed, route);
    }
}

/// A rule that names a link, in each family, between others of its priority.
fn add_rules(observed: &mut Observed, random: &mut Random) {
    let source = |third: u8| Attribute { kind: 2, value: format!("0a00{third:02x}00") };
    let plain = |family, third| Rule {
        source_len: 24,
        attributes: vec![source(third)],
        ..rule(family, 100, 100)
    };
    for family in [4, 6] {
        let named = random.some(&[
            plain(family, 1),
            Rule { iif: Some(NIC.into()), ..plain(family, 2) },
            plain(family, 3),
            Rule { oif: Some(NIC.into()), iif: Some("lo".into()), ..plain(family, 4) },
            Rule { iif: Some(OTHER.into()), ..plain(family, 5) },
            Rule { priority: 90, iif: Some(NIC.into()), flags: 2, ..plain(family, 6) },
        ]);
        simulate(observed, &Step::AddRules { rules: named });
    }
}

/// Objects by the NIC and by another link, a group of both, and routes by them.
fn add_nexthops(observed: &mut Observed, random: &mut Random) {
    if !random.yes() {
        return;
    }
    let object = |id, gateway: &str, link: &str| Nexthop {
        id,
        family: if gateway.contains(':') { 10 } else { 2 },
        protocol: 4,
        flags: 0,
        link: Some(link.to_owned()),
        gateway: Some(ip(gateway)),
        members: Vec::new(),
        attributes: Vec::new(),
    };
    let members = [1, 2].map(|id| Member { id, weight: 0 }).to_vec();
    let (family, protocol, flags, link, gateway) = (0, 4, 0, None, None);
    let group =
        Nexthop { id: 3, family, protocol, flags, link, gateway, members, attributes: vec![] };
    let mut nexthops = vec![object(1, "10.77.0.1", NIC), object(2, "192.168.9.1", OTHER), group];
    let by = |id: u8, to: &str| {
        let attributes = vec![Attribute { kind: 30, value: format!("{id:02x}000000") }];
        Route { link: None, scope: 0, attributes, ..route(to, None, NIC) }
    };
    let mut routes = vec![
        by(1, "10.13.0.0/16"),
        by(3, "10.14.0.0/16"),
        Route { table: 100, ..by(1, "10.15.0.0/16") },
        Route { prefsrc: Some(ip("10.77.0.2")), ..by(2, "10.16.0.0/16") },
    ];
    if observed.network.addresses.iter().any(|a| a.link == NIC && a.ip.is_ipv6()) {
        nexthops.push(object(4, "fd00:77::1", NIC));
        routes.push(by(4, "fd00:d::/64"));
    }
    simulate(observed, &Step::SetNexthops { nexthops });
    for route in random.some(&routes) {
        add_route(observed, route);
    }
}

fn set_sysctls(observed: &mut Observed, random: &mut Random) {
    let keys = ["ipv4/arp_ignore", "ipv4/proxy_arp", "ipv6/accept_ra", "ipv6/addr_gen_mode"];
    let network = &mut observed.network;
    network.rp_filter_default = u8::try_from(random.below(3)).unwrap();
    for key in keys {
        let mut value = || i64::try_from(random.below(2)).unwrap();
        network.sysctl_defaults.insert(key.into(), value());
        for link in network.links.iter_mut().filter(|link| [NIC, BRIDGE].contains(&&*link.name)) {
            link.sysctls.insert(key.into(), value());
        }
    }
    network.sysctl_defaults.insert("ipv6/disable_ipv6".into(), 1);
    let dark = random.yes();
    for link in network.links.iter_mut().filter(|link| [NIC, BRIDGE].contains(&&*link.name)) {
        let ipv6 = network.addresses.iter().any(|a| a.link == link.name && a.ip.is_ipv6());
        link.sysctls.insert("ipv6/disable_ipv6".into(), i64::from(dark && !ipv6));
    }
}
