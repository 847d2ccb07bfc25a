//! The handover on a real kernel: dumps, steps, whole moves with a real Open vSwitch on the
//! user-space datapath. Each test has a network namespace of its own; `ip` is the second witness.

mod announce;
mod dumps;
mod handover;
mod lossless;
mod matrix;
mod owners;
mod probe;
mod shield;
mod split;
mod steps;

use nix::sched::{CloneFlags, unshare};
use pointsman::apply::{ApplyError, Executor};
use pointsman::disk::HostRoot;
use pointsman::host_command::HostTools;
use pointsman_core::model::Network;
use pointsman_core::plan::Step;
use pointsman_core::plan::handover::Step as HandoverStep;
use std::path::Path;
use support::ovs::command;

pub const NIC: &str = "eth1";
pub const OTHER: &str = "eth0";
pub const BRIDGE: &str = "br-int";

/// Moves the calling thread into a network namespace of its own, with two NICs: ends of veth
/// pairs, whose other ends are up.
fn enter() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: tests run as root");
    ip("link set lo up");
    for (name, mac) in [(OTHER, "02:00:00:00:77:01"), (NIC, "02:00:00:00:77:02")] {
        ip(&format!("link add {name} address {mac} type veth peer {name}-peer"));
        ip(&format!("link set {name}-peer up"));
        ip(&format!("link set {name} up"));
    }
}

/// `ip`, whose failure is the test's; gives what it printed.
fn ip(arguments: &str) -> String {
    let mut argv = vec!["ip"];
    argv.extend(arguments.split_whitespace());
    command(&argv)
}

/// What `ip -j` prints, decoded.
fn ip_json(arguments: &str) -> serde_json::Value {
    serde_json::from_str(&ip(&format!("-j {arguments}"))).unwrap()
}

fn read() -> Network {
    pointsman::observe::network::read().unwrap()
}

fn executor(socket: &Path) -> Executor {
    Executor {
        root: HostRoot::new("/"),
        tools: HostTools::Here,
        payload: "/nonexistent".into(),
        store: "/nonexistent".into(),
        ovsdb: socket.to_owned(),
    }
}

fn apply(step: HandoverStep) -> Result<(), ApplyError> {
    executor(Path::new("/nonexistent")).apply(&Step::Handover(step))
}

/// The same node for every test: several networks, secondaries, labels, lifetimes, IPv6.
fn give_addresses() {
    for address in [
        "10.77.0.2/24 brd 10.77.0.255",
        "10.77.0.3/24 label eth1:vip",
        "10.88.0.2/16 metric 300 noprefixroute",
        "10.66.0.2 peer 10.66.0.1/32",
        "10.55.0.2/24 scope link valid_lft 3000 preferred_lft 2000",
        "fd00:77::2/64 nodad",
        "fd00:77::3/64 nodad",
        "fd00:88::2/64 nodad noprefixroute",
        "fd00:99::2/128 nodad valid_lft 3000 preferred_lft 2000",
    ] {
        ip(&format!("address add {address} dev {NIC}"));
    }
    ip(&format!("address add 192.168.9.2/24 dev {OTHER}"));
    ip(&format!("address add fd00:9::2/64 dev {OTHER} nodad"));
}

/// Routes of all kinds, in several tables, and some on the other NIC that use our address.
fn give_routes() {
    for route in [
        "default via 10.77.0.1 dev eth1 proto static",
        "default via 10.77.0.9 dev eth1 metric 500",
        "10.88.0.0/16 dev eth1 proto static scope link src 10.88.0.2 metric 300",
        "10.1.0.0/16 via 10.77.0.1 dev eth1 src 10.77.0.3",
        "10.2.0.0/16 via 192.168.9.1 dev eth0 src 10.77.0.3",
        "10.11.0.0/16 via 192.168.9.1 dev eth0 src 10.77.0.2",
        "10.3.0.0/16 via 10.77.0.1 dev eth1 mtu lock 1400 advmss 1300 initcwnd 20",
        "10.4.0.0/16 via 203.0.113.1 dev eth1 onlink",
        "10.5.0.0/16 nexthop via 10.77.0.1 dev eth1 weight 3 nexthop via 192.168.9.1 dev eth0",
        "10.6.0.0/16 via 10.77.0.1 dev eth1 table 100",
        "10.7.0.0/16 dev eth1 src 10.77.0.2 table 70000",
        "10.8.0.0/16 via inet6 fd00:77::1 dev eth1",
        "blackhole 10.9.0.0/16",
        "unreachable 10.10.0.0/16 metric 7",
        "default via fd00:77::1 dev eth1 metric 1024",
        "fd00:1::/64 via fd00:77::1 dev eth1 src fd00:77::2",
        "fd00:2::/64 via fd00:9::1 dev eth0 src fd00:77::2",
        "fd00:3::/64 dev eth1 expires 3000",
        "fd00:4::/64 nexthop via fd00:77::1 dev eth1 weight 2 nexthop via fd00:9::1 dev eth0",
        "fd00:5::/64 via fd00:77::1 dev eth1 table 100 pref high",
        "fd00:6::/64 via fe80::1 dev eth1",
        "blackhole fd00:7::/64",
    ] {
        let family = if route.contains("fd00:") && !route.contains("inet6") { "-6" } else { "-4" };
        ip(&format!("{family} route add {route}"));
    }
}
