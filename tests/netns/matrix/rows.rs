//! The rows of the table of features, each by itself.

use super::super::ip;
use super::{BRIDGE, FOLDERS, NIC, Node, Owner, Witness, sysctls};
use pointsman_core::plan::handover::{LEFT_OUT_SYSCTLS, SYSCTLS};
use std::fs;
use std::path::Path;

/// What every node has: addresses to reach gateways by.
pub const BASE: &[&str] = &[
    "address add 10.77.0.2/24 brd 10.77.0.255 dev eth1",
    "address add fd00:77::2/64 dev eth1 nodad",
    "route add default via 10.77.0.1 dev eth1 proto static",
    "-6 route add default via fd00:77::1 dev eth1 metric 1024",
];

/// Name, and what makes it; each goes with all others.
pub const ROWS: &[(&str, &[&str])] = &[
    (
        "several addresses and networks",
        &[
            "address add 10.77.0.3/24 dev eth1",
            "address add 10.77.0.4/24 dev eth1",
            "address add 10.88.0.2/16 dev eth1",
            "address add 10.99.0.9/32 dev eth1",
            "address add fd00:77::3/64 dev eth1 nodad",
            "address add fd00:88::2/64 dev eth1 nodad",
            "address add fd00:aa::2/128 dev eth1 nodad",
        ],
    ),
    (
        "secondaries that a primary would take along",
        &[
            "ipv4/conf/eth1/promote_secondaries = 0",
            "ipv4/conf/all/promote_secondaries = 0",
            "address add 10.77.0.33/24 dev eth1",
            "address add 10.77.0.34/24 dev eth1",
            "route add 10.20.0.0/16 via 10.77.0.1 dev eth1 src 10.77.0.34",
        ],
    ),
    ("label", &["address add 10.77.0.5/24 label eth1:vip dev eth1"]),
    (
        "lifetimes",
        &[
            "address add 10.55.0.2/24 valid_lft 3000 preferred_lft 2000 dev eth1",
            "address add fd00:99::2/64 nodad valid_lft 3000 preferred_lft 2000 dev eth1",
            "address add fd00:99::3/64 nodad valid_lft 3000 preferred_lft 0 dev eth1",
        ],
    ),
    (
        "flags, scope, peer, broadcast",
        &[
            "address add 10.66.0.2 peer 10.66.0.1/32 dev eth1",
            "address add 10.67.0.2/24 scope link dev eth1",
            "address add 10.68.0.2/24 brd 10.68.0.127 noprefixroute dev eth1",
            "address add fd00:66::2 peer fd00:66::1/128 nodad dev eth1",
            "address add fd00:67::2/64 nodad noprefixroute home dev eth1",
        ],
    ),
    (
        "metric and protocol of an address",
        &[
            "address add 10.69.0.2/24 metric 300 dev eth1",
            "address add fd00:69::2/64 nodad metric 300 dev eth1",
            "IFAPROT 10.71.0.2/24 85",
            "IFAPROT fd00:71::2/64 85",
        ],
    ),
    ("prefix for temporary addresses", &["address add fd00:6a::2/64 nodad mngtmpaddr dev eth1"]),
    (
        "metric, protocol, onlink, source",
        &[
            "route add default via 10.77.0.9 dev eth1 metric 500",
            "route add 10.1.0.0/16 via 10.77.0.1 dev eth1 src 10.77.0.2 proto bird metric 70",
            "route add 10.4.0.0/16 via 203.0.113.1 dev eth1 onlink",
            "route add 10.44.0.0/16 via 10.77.0.1 dev eth1 tos 0x10",
            "-6 route add fd00:1::/64 via fd00:77::1 dev eth1 src fd00:77::2 proto bird",
            "-6 route add fd00:b::/64 via fd00:ffff::1 dev eth1 onlink metric 70 pref high",
        ],
    ),
    (
        "metrics of a path",
        &[
            "route add 10.3.0.0/16 via 10.77.0.1 dev eth1 mtu lock 1400 advmss 1300 initcwnd 20",
            "route add 10.33.0.0/16 via 10.77.0.1 dev eth1 rtt 200ms quickack 1 congctl cubic",
            "-6 route add fd00:c::/64 via fd00:77::1 dev eth1 mtu lock 1400 hoplimit 9",
        ],
    ),
    (
        "other tables",
        &[
            "route add 10.6.0.0/16 via 10.77.0.1 dev eth1 table 100",
            "route add 10.77.0.0/24 dev eth1 table 100",
            "route add 10.7.0.0/16 dev eth1 src 10.77.0.2 table 70000",
            "-6 route add fd00:5::/64 via fd00:77::1 dev eth1 table 100",
            "route add local 10.70.0.0/16 dev eth1 table local",
            "route add default via 10.77.0.1 dev eth1 table default",
        ],
    ),
    (
        "multipath",
        &[
            "route add 10.5.0.0/16 nexthop via 10.77.0.1 dev eth1 weight 3 nexthop via 192.168.9.1 dev eth0",
            "route add 10.50.0.0/16 nexthop via 10.77.0.1 dev eth1 nexthop via 10.77.0.9 dev eth1",
            "-6 route add fd00:4::/64 nexthop via fd00:77::1 dev eth1 weight 2 nexthop via fd00:9::1 dev eth0",
            "-6 route add fd00:40::/64 nexthop via fd00:77::1 dev eth1 nexthop via fd00:77::9 dev eth1",
        ],
    ),
    ("a gateway of the other family", &["route add 10.8.0.0/16 via inet6 fd00:77::1 dev eth1"]),
    (
        "encapsulation",
        &[
            "route add 10.21.0.0/16 encap ip id 7 dst 10.77.0.99 ttl 9 dev eth1",
            "-6 route add fd00:21::/64 encap seg6 mode encap segs fd00:77::a,fd00:77::b dev eth1",
            "-6 route add fd00:22::/64 encap ip6 id 7 dst fd00:77::c dev eth1",
        ],
    ),
    (
        "a time to live of IPv6 routes",
        &["-6 route add fd00:3::/64 via fd00:77::1 dev eth1 expires 3000"],
    ),
    (
        "a source as selector",
        &["-6 route add fd00:e::/64 from fd00:77::/64 via fd00:77::1 dev eth1"],
    ),
    (
        "routes without a device",
        &[
            "route add blackhole 10.9.0.0/16",
            "route add unreachable 10.10.0.0/16 metric 7",
            "-6 route add blackhole fd00:7::/64",
            "-6 route add unreachable fd00:8::/64 metric 7",
        ],
    ),
    (
        "routes of another device by a moved source",
        &[
            "route add 10.2.0.0/16 via 192.168.9.1 dev eth0 src 10.77.0.2",
            "route add 10.11.0.0/16 via 192.168.9.1 dev eth0 src 10.77.0.2 table 100",
            "-6 route add fd00:2::/64 via fd00:9::1 dev eth0 src fd00:77::2",
        ],
    ),
    (
        "before and behind a route of another device",
        &[
            "route add 10.30.0.0/16 via 10.77.0.1 dev eth1",
            "route append 10.30.0.0/16 via 192.168.9.1 dev eth0",
            "route add 10.31.0.0/16 via 192.168.9.1 dev eth0",
            "route append 10.31.0.0/16 via 10.77.0.1 dev eth1",
            "route append 10.77.0.0/24 dev eth0 scope link",
        ],
    ),
    (
        "rules that name the device",
        &[
            "rule add from 10.1.0.0/16 lookup 100 priority 90",
            "rule add from 10.2.0.0/16 iif eth1 lookup 100 priority 90",
            "rule add from 10.3.0.0/16 lookup 101 priority 90",
            "rule add oif eth1 fwmark 0x7/0xff lookup 70000 priority 91 protocol static",
            "rule add not iif eth1 ipproto tcp dport 80-90 lookup 100 priority 92",
            "rule add iif eth1 goto 32766 priority 93",
            "rule add iif eth1 prohibit priority 94 uidrange 7-8",
            "rule add iif eth0 lookup 100 priority 94",
            "-6 rule add iif eth1 lookup 100 priority 90",
            "-6 rule add iif lo oif eth1 lookup main suppress_prefixlength 0 priority 91",
        ],
    ),
    (
        "static and proxy neighbours",
        &[
            "neighbour add 10.77.0.66 lladdr 02:00:00:00:77:66 dev eth1 nud permanent protocol static",
            "neighbour add proxy 10.77.0.68 dev eth1",
            "neighbour add fd00:77::66 lladdr 02:00:00:00:77:66 dev eth1 nud permanent router",
            "neighbour add proxy fd00:77::68 dev eth1 protocol bird",
            "ipv4/conf/eth1/proxy_arp = 1",
            "ipv6/conf/eth1/proxy_ndp = 1",
        ],
    ),
    (
        "nexthop objects",
        &[
            "nexthop add id 11 via 10.77.0.1 dev eth1 proto static",
            "nexthop add id 12 via 192.168.9.1 dev eth0",
            "nexthop add id 13 group 11,3/12",
            "nexthop add id 14 via fd00:77::1 dev eth1",
            "nexthop add id 15 blackhole",
            "nexthop add id 16 via 203.0.113.1 dev eth1 onlink",
            "nexthop add id 17 group 11/12 type resilient buckets 8 idle_timer 60",
            "nexthop add id 18 dev eth1",
            "nexthop add id 19 encap ip id 7 dst 10.77.0.99 dev eth1",
            "nexthop add id 20 via 10.77.0.77 fdb",
            "route add 10.40.0.0/16 nhid 11 proto static metric 9",
            "route add 10.41.0.0/16 nhid 13 src 10.77.0.2",
            "route add 10.42.0.0/16 nhid 14",
            "route add 10.43.0.0/16 nhid 15",
            "route add 10.45.0.0/16 nhid 16 table 100",
            "route add 10.46.0.0/16 nhid 17",
            "route add 10.47.0.0/16 nhid 18",
            "route add 10.48.0.0/16 nhid 19",
            "-6 route add fd00:41::/64 nhid 14 src fd00:77::2",
        ],
    ),
    (
        "sysctls",
        &[
            "ipv4/conf/eth1/rp_filter = 2",
            "ipv4/conf/eth1/forwarding = 1",
            "ipv4/conf/eth1/arp_ignore = 1",
            "ipv4/conf/eth1/arp_announce = 2",
            "ipv4/conf/eth1/arp_filter = 1",
            "ipv4/conf/eth1/arp_accept = 1",
            "ipv4/conf/eth1/accept_local = 1",
            "ipv4/conf/eth1/route_localnet = 1",
            "ipv4/conf/eth1/src_valid_mark = 1",
            "ipv4/conf/eth1/send_redirects = 0",
            "ipv4/conf/eth1/accept_redirects = 0",
            "ipv4/conf/eth1/log_martians = 1",
            "ipv6/conf/eth1/accept_ra = 2",
            "ipv6/conf/eth1/autoconf = 0",
            "ipv6/conf/eth1/accept_dad = 2",
            "ipv6/conf/eth1/use_tempaddr = 2",
            "ipv6/conf/eth1/keep_addr_on_down = 1",
            "ipv6/conf/eth1/hop_limit = 70",
            "ipv6/conf/eth1/addr_gen_mode = 1",
            "ipv6/conf/eth1/forwarding = 1",
            "ipv6/conf/eth1/disable_policy = 1",
            "ipv6/conf/eth1/ra_defrtr_metric = 300",
            "ipv4/neigh/eth1/ucast_solicit = 7",
            "ipv4/neigh/eth1/gc_stale_time = 33",
            "ipv4/neigh/eth1/base_reachable_time_ms = 12000",
            "ipv4/neigh/eth1/retrans_time_ms = 700",
            "ipv4/neigh/eth1/unres_qlen_bytes = 400000",
            "ipv6/neigh/eth1/mcast_solicit = 9",
            "ipv6/neigh/eth1/delay_first_probe_time = 2",
            "ipv6/neigh/eth1/proxy_delay = 40",
        ],
    ),
];

#[test]
fn every_row_is_carried_there_and_back() {
    for (name, commands) in ROWS {
        let mut node = Node::new();
        node.set_up(BASE);
        node.set_up(commands);
        let start = node.there_and_back(name);
        // a row that nobody sees would prove nothing
        let mut bare = Node::new();
        bare.set_up(BASE);
        bare.there_and_back("nothing but the base");
        if *name != "sysctls" {
            assert_ne!(start.words(), Witness::hear(NIC).words(), "{name} leaves no trace");
        }
    }
}

/// What this kernel has for a link is carried, or stays for a reason that is written down.
#[test]
fn every_sysctl_of_a_link_is_carried_or_left_out_by_name() {
    Node::new();
    let listed: Vec<&str> =
        SYSCTLS.iter().chain(LEFT_OUT_SYSCTLS).map(|sysctl| sysctl.key).collect();
    let mut found = 0;
    for (folder, prefix) in FOLDERS {
        for file in fs::read_dir(Path::new("/proc/sys/net").join(folder).join(NIC)).unwrap() {
            let key = format!("{prefix}{}", file.unwrap().file_name().to_string_lossy());
            assert!(listed.contains(&key.as_str()), "{key} is neither carried nor left out");
            found += 1;
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn all_rows_together_are_carried() {
    let mut node = Node::new();
    node.set_up(BASE);
    ROWS.iter().for_each(|(_, commands)| node.set_up(commands));
    node.there_and_back("all");
}

/// Usable from the first moment: no address waits for duplicate address detection.
#[test]
fn no_moved_address_is_tentative() {
    let mut node = Node::new();
    node.set_up(BASE);
    node.go(Owner::Bridge, None);
    let tentative = ip("-6 address show dev br-int scope global tentative");
    assert_eq!(tentative, "", "waiting");
}

/// A bridge of the kernel's defaults: IPv6 off, as some distributions have it.
#[test]
fn a_bridge_with_ipv6_off_gets_it() {
    let mut node = Node::new();
    node.set_up(BASE);
    node.set_up(&["ipv6/conf/br-int/disable_ipv6 = 1", "ipv4/conf/br-int/arp_ignore = 8"]);
    let before = sysctls();
    let back = node.checkpoint();
    node.there_and_back("IPv6 off");
    node.go(Owner::Bridge, None);
    node.go_back(Owner::Uplink, &back);
    assert_eq!(sysctls(), before, "the way back restores the bridge's too");
}

/// With the bridge's device went its objects, their groups and all their routes.
#[test]
fn objects_that_vanished_with_the_bridge_come_back() {
    let mut node = Node::new();
    node.set_up(BASE);
    let (_, commands) = ROWS.iter().find(|(name, _)| *name == "nexthop objects").unwrap();
    node.set_up(commands);
    let (start, back) = (Witness::hear(NIC), node.checkpoint());
    node.go(Owner::Bridge, None);
    ip(&format!("link del {BRIDGE}"));
    assert!(!ip("nexthop show").contains("id 11 "), "the kernel dropped it");
    node.ovs.database = None;
    node.ovs.vswitchd = false;
    node.go_back(Owner::Uplink, &back);
    start.confirm(&Witness::hear(NIC), "home");
}
