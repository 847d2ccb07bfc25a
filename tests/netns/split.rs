//! The first policy rule of a network namespace makes the kernel split the table `local` from
//! `main`. Meanwhile no packet for this node may be lost, by whatever link it comes.

use super::handover::{carry_out, move_to, plan};
use super::{BRIDGE, NIC, OTHER, enter, ip};
use pointsman_core::plan::handover::Owner;
use std::fmt::Write as _;
use std::fs;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use support::netns::Peer;
use support::ovs::{OvsFixture, command};

/// They come before the node's address in the table, and so the kernel goes through them after
/// it has taken that address out: some 10 ms.
const ROUTES: u32 = 80_000;
/// On the link that nobody moves.
const HERE: &str = "10.160.0.2";

/// Packets that found no route although they were for an address of this namespace.
fn unrouted() -> u64 {
    let snmp = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut ip = snmp.lines().filter(|line| line.starts_with("Ip:")).map(str::split_whitespace);
    let column = ip.next().unwrap().position(|name| name == "InAddrErrors").unwrap();
    ip.next().unwrap().nth(column).unwrap().parse().unwrap()
}

fn many_routes() {
    let mut batch = String::new();
    for n in 0..ROUTES {
        let [_, a, b, c] = n.to_be_bytes();
        writeln!(batch, "route add 1.{a}.{b}.{c} via 10.160.0.1 dev {OTHER}").unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, batch).unwrap();
    command(&["ip", "-batch", file.path().to_str().unwrap()]);
}

#[test]
fn a_handover_is_no_moment_without_local_addresses() {
    enter();
    let ovs = OvsFixture::start_here();
    ovs.vsctl(&["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]);
    ip(&format!("address add 10.77.0.2/24 dev {NIC}"));
    ip("route add default via 10.77.0.1");
    let peer = Peer::start();
    peer.takes("eth0-peer");
    ip(&format!("address add {HERE}/24 dev {OTHER}"));
    peer.ip("address add 10.160.0.1/24 dev eth0-peer");
    assert!(peer.pings(HERE));
    many_routes();
    let there = plan(&ovs, Owner::Bridge, None);
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
    let flood = peer.run(move || {
        let socket = Arc::new(UdpSocket::bind("10.160.0.1:0").unwrap());
        let flood = move || {
            while !stopped.load(Ordering::Relaxed) {
                // refused once in a while, as nobody listens
                drop(socket.send_to(b"x", (HERE, 9)));
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        // more than one: the kernel may keep a processor to itself
        [thread::spawn(flood.clone()), thread::spawn(flood)]
    });
    let before = unrouted();
    carry_out(&ovs, &there, usize::MAX);
    let lost = unrouted() - before;
    stop.store(true, Ordering::Relaxed);
    for thread in flood {
        thread.join().unwrap();
    }
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent > 10_000, "{sent} packets are no flood");
    assert_eq!(lost, 0, "of {sent} packets, with\n{there}");
    move_to(&ovs, Owner::Uplink, None);
    assert_eq!(ip("route show table main type local"), "");
}
