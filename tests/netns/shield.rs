//! The ingress shield on a real kernel; `nft` and `ip` are the second witnesses.

use super::{NIC, apply, enter, ip, ip_json, read};
use pointsman_core::model::{SHIELD_ENTRY, SHIELD_EXIT, SHIELD_TABLE, Shield};
use pointsman_core::plan::handover::Step;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use support::netns::Peer;
use support::ovs::command;

const MAC: &str = "02:00:00:00:77:02";

fn raise() {
    apply(Step::RaiseShield { uplink: NIC.into(), mac: MAC.into(), mtu: 1500 }).unwrap();
}

fn take_away() {
    apply(Step::LowerShield).unwrap();
    apply(Step::DeleteShieldLinks).unwrap();
}

fn raised() -> Shield {
    Shield { table: true, links: true, refused: None }
}

/// Chain and rules as `nft -j` reads them back, without the numbers that the kernel gives.
fn ruleset() -> Vec<Value> {
    let text = command(&["nft", "-j", "list", "ruleset"]);
    let whole: Value = serde_json::from_str(&text).unwrap();
    let mut all = whole["nftables"].as_array().unwrap().clone();
    all.retain(|object| object.get("metainfo").is_none());
    for object in all.iter_mut().flat_map(|object| object.as_object_mut().unwrap().values_mut()) {
        object.as_object_mut().unwrap().remove("handle");
    }
    all
}

fn set(key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{key}"), value).unwrap();
}

fn get(key: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap().trim().to_owned()
}

#[test]
fn the_kernel_has_the_rules_as_nft_writes_them() {
    enter();
    raise();
    let (family, table, chain) = ("netdev", SHIELD_TABLE, "ingress");
    let ether = |kind: &str| {
        let left = json!({"payload": {"protocol": "ether", "field": "type"}});
        json!({"match": {"op": "==", "left": left, "right": kind}})
    };
    let is = |protocol: &str, field: &str, right: Value| {
        let left = json!({"payload": {"protocol": protocol, "field": field}});
        json!({"match": {"op": "==", "left": left, "right": right}})
    };
    let not_ours =
        json!({"match": {"op": "!=", "left": {"meta": {"key": "pkttype"}}, "right": "host"}});
    let accept = json!({"accept": null});
    let forward = json!({"fwd": {"dev": SHIELD_ENTRY}});
    let discovery = json!({"range": ["nd-router-solicit", "nd-redirect"]});
    let link_local = json!({"prefix": {"addr": "fe80::", "len": 10}});
    let expected = [
        json!({"table": {"family": family, "name": table}}),
        json!({"chain": {"family": family, "table": table, "name": chain, "type": "filter",
            "hook": "ingress", "prio": 0, "policy": "accept"}}),
    ]
    .into_iter()
    .chain(
        [
            [not_ours, accept.clone()],
            [ether("ip"), forward.clone()],
            [is("icmpv6", "type", discovery), accept.clone()],
            [is("ip6", "daddr", link_local), accept],
            [ether("ip6"), forward],
        ]
        .map(|expr| {
            json!({"rule": {"family": family, "table": table, "chain": chain, "expr": expr}})
        }),
    );
    assert_eq!(ruleset(), expected.collect::<Vec<_>>());
    let device = command(&["nft", "list", "chain", "netdev", table, chain]);
    assert!(device.contains("hook ingress device \"eth1\""), "{device}");

    // by nft itself, and compared with what nft reads back of its own
    let ours = command(&["nft", "list", "ruleset"]);
    take_away();
    assert_eq!(ruleset(), Vec::<Value>::new());
    ip(&format!("link add {SHIELD_ENTRY} type veth peer {SHIELD_EXIT}"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &ours).unwrap();
    command(&["nft", "-f", file.path().to_str().unwrap()]);
    assert_eq!(command(&["nft", "list", "ruleset"]), ours);
}

#[test]
fn a_shield_is_raised_and_taken_away_however_often() {
    enter();
    let before = links();
    assert_eq!(read().shield, Shield::default());
    for _ in 0..2 {
        raise();
        raise();
        assert_eq!(read().shield, raised());
        take_away();
        take_away();
        assert_eq!(read().shield, Shield::default());
    }
    assert_eq!(links(), before);
    assert_eq!(ruleset(), Vec::<Value>::new());
}

/// Nothing of it is left, the move goes on, and what that may cost is said.
#[test]
fn a_shield_that_fails_while_it_is_raised_is_a_note() {
    enter();
    let before = links();
    // more than a veth can have
    let step = Step::RaiseShield { uplink: NIC.into(), mac: MAC.into(), mtu: 70_000 };
    let mut notes = Vec::new();
    let executor = super::executor(std::path::Path::new("/nonexistent"));
    executor.apply_noting(&pointsman_core::plan::Step::Handover(step), &mut notes).unwrap();
    for words in ["no shield can be raised", NIC, "packets may be lost"] {
        assert!(notes.len() == 1 && notes[0].contains(words), "{words} is not in {notes:?}");
    }
    assert_eq!((links(), read().shield), (before, Shield::default()));
}

/// As a killed agent, or a person, may leave it.
#[test]
fn what_is_left_of_a_shield_is_seen_and_replaced() {
    enter();
    raise();
    apply(Step::LowerShield).unwrap();
    assert_eq!(read().shield, Shield { table: false, ..raised() });
    raise();
    ip(&format!("link del {SHIELD_EXIT}"));
    assert_eq!(read().shield, Shield { links: false, ..raised() });
    raise();
    assert_eq!(read().shield, raised());
    take_away();
    // a device of our name that is no pair
    ip(&format!("link add {SHIELD_EXIT} type bridge"));
    assert_eq!(read().shield, Shield { table: false, ..raised() });
    take_away();
    assert_eq!(read().shield, Shield::default());
}

#[test]
fn asking_whether_there_can_be_a_shield_changes_nothing() {
    enter();
    let monitor = Monitor::start();
    let before = links();
    for _ in 0..20 {
        assert_eq!(read().shield, Shield::default());
        pointsman::netlink::nftables::shield::can_be_raised().unwrap();
    }
    assert_eq!(links(), before);
    let told = monitor.until_told_of("seen");
    assert!(told.iter().all(|line| line.contains("listening")), "{told:?}");
}

/// Names and kinds; the state of a new wire changes by itself for a while.
fn links() -> Vec<(Value, Value)> {
    let links = ip_json("-d link show");
    let of = |link: &Value| (link["ifname"].clone(), link["linkinfo"]["info_kind"].clone());
    links.as_array().unwrap().iter().map(of).collect()
}

/// `nft monitor`, which ends with the test.
struct Monitor {
    child: Child,
    lines: Receiver<String>,
}

impl Monitor {
    /// It does not say when it begins to listen: so it is given changes until it tells one.
    fn start() -> Self {
        let mut child = Command::new("nft")
            .args(["-j", "monitor"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|l| tell.send(l)));
        let monitor = Self { child, lines };
        for number in 0..600 {
            command(&["nft", "add", "table", "netdev", &format!("listening{number}")]);
            if monitor.lines.recv_timeout(Duration::from_millis(100)).is_ok() {
                return monitor;
            }
        }
        panic!("nft monitor tells nothing");
    }

    /// Adds a table, and gives what was told before it.
    fn until_told_of(&self, table: &str) -> Vec<String> {
        command(&["nft", "add", "table", "netdev", table]);
        let mut told = Vec::new();
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60)).unwrap();
            if line.contains(table) {
                return told;
            }
            told.push(line);
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where the kernel refuses, nothing is left half done, and the move goes on.
#[test]
fn a_shield_that_cannot_be_raised_leaves_nothing() {
    enter();
    let before = links();
    let step =
        |uplink: &str, mtu| Step::RaiseShield { uplink: uplink.into(), mac: MAC.into(), mtu };
    apply(step("eth9", 1500)).unwrap();
    apply(step(NIC, 70_000)).unwrap();
    assert_eq!((links(), ruleset()), (before, vec![]));
    assert_eq!(read().shield, Shield::default());
}

#[test]
fn the_exit_is_like_the_uplink_and_nobody_sends_by_it() {
    enter();
    ip("address add 10.77.0.2/24 dev eth1");
    set("ipv4/conf/eth1/forwarding", "1");
    set("ipv4/conf/eth1/route_localnet", "1");
    set("ipv6/conf/eth1/forwarding", "1");
    ip("link set eth1 mtu 1400");
    apply(Step::RaiseShield { uplink: NIC.into(), mac: MAC.into(), mtu: 1400 }).unwrap();
    for key in
        ["ipv4/conf/LINK/forwarding", "ipv4/conf/LINK/route_localnet", "ipv6/conf/LINK/forwarding"]
    {
        assert_eq!(get(&key.replace("LINK", SHIELD_EXIT)), "1", "{key}");
        assert_eq!(get(&key.replace("LINK", SHIELD_ENTRY)), "0", "{key}");
    }
    assert_eq!(get(&format!("ipv4/conf/{SHIELD_EXIT}/rp_filter")), "2");
    let link = &ip_json(&format!("link show {SHIELD_EXIT}"))[0];
    assert_eq!((&link["address"], &link["mtu"]), (&json!(MAC), &json!(1400)));
    assert_eq!(link["operstate"], "UP");
    let addresses = ip(&format!("-o address show dev {SHIELD_EXIT}"));
    assert!(addresses.contains("192.0.0.8/32 scope host"), "{addresses}");
    assert_eq!(addresses.lines().count(), 1, "{addresses}");
    assert_eq!(ip(&format!("-o address show dev {SHIELD_ENTRY}")), "");
    assert!(!ip("route show").contains("pointsman"));
}

/// The uplink behind the hook swallows all that arrives: a port of a Linux bridge that is down,
/// which stands here for a datapath whose daemon does not know its port yet.
#[test]
fn what_the_port_swallows_comes_in_by_the_shield() {
    enter();
    let peer = Peer::start();
    peer.takes("eth1-peer");
    for address in ["10.77.0.2/24", "10.66.0.2/24", "fd00:77::2/64"] {
        ip(&format!(
            "address add {address} dev eth1 {}",
            if address.contains(':') { "nodad" } else { "" }
        ));
    }
    peer.ip("address add 10.77.0.1/24 dev eth1-peer");
    peer.ip("address add 10.88.0.1/32 dev lo");
    peer.ip("address add fd00:77::1/64 dev eth1-peer nodad");
    peer.ip("route add 10.66.0.0/24 dev eth1-peer src 10.88.0.1");
    ip("route add 10.88.0.0/24 via 10.77.0.1");
    for (key, value) in [("rp_filter", "1"), ("arp_ignore", "1"), ("promote_secondaries", "0")] {
        set(&format!("ipv4/conf/all/{key}"), value);
    }
    // neighbours as before a move: who has what is not the question here
    for target in ["10.77.0.2", "10.66.0.2", "fd00:77::2"] {
        peer.ip(&format!("neighbour replace {target} lladdr {MAC} dev eth1-peer nud permanent"));
    }
    let mac = peer.mac("eth1-peer");
    for gateway in ["10.77.0.1", "fd00:77::1"] {
        ip(&format!("neighbour replace {gateway} lladdr {mac} dev eth1 nud permanent"));
    }
    let answers = |target: &str| peer.pings(target);
    for target in ["10.77.0.2", "10.66.0.2", "fd00:77::2"] {
        assert!(answers(target), "{target} before");
    }
    ip("link add swallow type bridge");
    ip("link set eth1 master swallow");
    for target in ["10.77.0.2", "10.66.0.2", "fd00:77::2"] {
        assert!(!answers(target), "{target}: nothing is swallowed, so the test shows nothing");
    }
    raise();
    for target in ["10.77.0.2", "10.66.0.2", "fd00:77::2"] {
        assert!(answers(target), "{target} with the shield\n{}", ip("-s link show"));
    }
    take_away();
    for target in ["10.77.0.2", "fd00:77::2"] {
        assert!(!answers(target), "{target} after the shield");
    }
}
