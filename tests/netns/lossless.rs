//! Not one packet lost on the user-space datapath, whose bridge is a tap and whose uplink is
//! read through a packet socket.

use super::handover::move_to;
use super::{BRIDGE, NIC, enter, ip, ip_json};
use bed::summary::{Probe, Stream};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_core::plan::handover::Owner;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use support::netns::Peer;
use support::ovs::{OvsFixture, command};
use support::program;
use tempfile::TempDir;

const LEAD: Duration = Duration::from_millis(500);
const TAIL: Duration = Duration::from_secs(2);
/// A machine that starves vswitchd loses packets in its queues whoever moves what; such a run
/// says nothing, and another one is taken. The kernel counts these losses.
const TRIES: usize = 8;
const RUNS: usize = 3;

/// Label, from the peer, source, target, packets per second: what a queue of 208 KiB holds
/// for more than half a second.
const FLOWS: [(&str, bool, Option<&str>, &str, u32); 6] = [
    ("in4", true, None, "10.77.0.2", 200),
    ("in4r", true, Some("10.88.0.1"), "10.77.0.3", 50),
    ("in6", true, None, "[fd00:77::2]", 50),
    ("out4", false, None, "10.88.0.1", 50),
    ("out4d", false, None, "10.99.0.1", 50),
    ("out6", false, None, "[fd88::1]", 50),
];

struct Wire {
    peer: Peer,
    bed: String,
    results: TempDir,
    _echoes: Programs,
}

/// They end with this.
struct Programs(Vec<Child>);

impl Drop for Programs {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Wire {
    /// Several networks, secondaries, a route pinned to a source, and the settings of a host
    /// that is strict; the peer at the other end of the uplink.
    fn lay() -> Self {
        let peer = Peer::start();
        peer.takes("eth1-peer");
        // a frame whose checksum is left to the device is one that a tap delivers broken
        command(&["ethtool", "-K", NIC, "tx", "off"]);
        peer.run(|| command(&["ethtool", "-K", "eth1-peer", "tx", "off"]));
        for address in ["10.77.0.2/24", "10.77.0.3/24", "10.66.0.2/24", "fd00:77::2/64 nodad"] {
            ip(&format!("address add {address} dev eth1"));
        }
        for what in [
            "address add 10.77.0.1/24 dev eth1-peer",
            "address add fd00:77::1/64 dev eth1-peer nodad",
            "address add 10.88.0.1/32 dev lo",
            "address add 10.99.0.1/32 dev lo",
            "address add fd88::1/128 dev lo",
        ] {
            peer.ip(what);
        }
        ip("route add default via 10.77.0.1");
        ip("route add 10.88.0.0/24 via 10.77.0.1 src 10.77.0.3");
        ip("-6 route add default via fd00:77::1");
        for link in ["all", "default", NIC] {
            for (key, value) in
                [("rp_filter", "1"), ("arp_ignore", "1"), ("promote_secondaries", "0")]
            {
                fs::write(format!("/proc/sys/net/ipv4/conf/{link}/{key}"), value).unwrap();
            }
        }
        let bed = program::release("bed").unwrap().to_str().unwrap().to_owned();
        let here = Command::new(&bed).args(["echo", "--listen", "[::]:7007"]).spawn().unwrap();
        let mut argv = vec![bed.as_str(), "echo"];
        for at in [
            "10.77.0.1:7007",
            "10.88.0.1:7007",
            "10.99.0.1:7007",
            "[fd00:77::1]:7007",
            "[fd88::1]:7007",
        ] {
            argv.extend(["--listen", at]);
        }
        let there = peer.spawn(&argv);
        for target in ["10.77.0.2", "10.77.0.3", "fd00:77::2"] {
            assert!(peer.pings(target), "{target} before anything");
        }
        Self {
            peer,
            bed,
            results: tempfile::tempdir().unwrap(),
            _echoes: Programs(vec![here, there]),
        }
    }

    fn result(&self, label: &str) -> String {
        self.results.path().join(label).to_str().unwrap().to_owned()
    }

    fn start(&self) -> Programs {
        let out = self.result("tcp");
        let tcp = [
            "tcp-stream",
            "--to",
            "10.77.0.2:7007",
            "--pps",
            "100",
            "--label",
            "tcp",
            "--out",
            &out,
        ];
        let mut running =
            Programs(vec![self.peer.spawn(&[&[self.bed.as_str()], &tcp[..]].concat())]);
        for (label, from_peer, source, target, pps) in FLOWS {
            let (to, pps, out) = (format!("{target}:7007"), pps.to_string(), self.result(label));
            let mut argv = vec![self.bed.as_str(), "probe", "--to", &to, "--pps", &pps];
            argv.extend(["--label", label, "--out", &out]);
            argv.extend(source.into_iter().flat_map(|source| ["--from", source]));
            running.0.push(if from_peer {
                self.peer.spawn(&argv)
            } else {
                Command::new(argv[0]).args(&argv[1..]).spawn().unwrap()
            });
        }
        running
    }

    /// What was lost during a change, and whether queues overflowed meanwhile.
    fn lost_by(&self, change: impl FnOnce()) -> (u64, bool) {
        let before = overflows(&self.peer);
        let sampler = Sampler::start();
        let mut running = self.start();
        thread::sleep(LEAD);
        change();
        thread::sleep(TAIL);
        for child in &mut running.0 {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
            assert!(child.wait().unwrap().success());
        }
        let starved = sampler.stop() || overflows(&self.peer) != before;
        let read = |label: &str| fs::read(Path::new(&self.result(label))).unwrap();
        let tcp: Stream = serde_json::from_slice(&read("tcp")).unwrap();
        assert!(!tcp.broken && tcp.sent > 20, "{tcp:?}");
        let mut lost = tcp.sent - tcp.received;
        for (label, ..) in FLOWS {
            let probe: Probe = serde_json::from_slice(&read(label)).unwrap();
            println!("{label}: {} lost of {}, {} twice", probe.lost, probe.sent, probe.duplicates);
            assert!(probe.sent > 50, "{probe:?}");
            lost += probe.lost;
        }
        (lost, starved)
    }
}

/// Packets that found a queue full: of receiving sockets here and there, of the processors
/// (of the whole machine), of the tap.
fn overflows(peer: &Peer) -> Vec<String> {
    let sockets = || {
        let snmp = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let snmp6 = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
        let v4 = snmp.lines().filter(|line| line.starts_with("Udp:")).nth(1).unwrap();
        let columns: Vec<&str> = v4.split_whitespace().collect();
        let v6 = snmp6.lines().find(|line| line.starts_with("Udp6RcvbufErrors")).unwrap();
        // InErrors is beside: a packet refused for its checksum is no overflow
        format!("{} {v6}", columns[5])
    };
    let backlog: String = fs::read_to_string("/proc/net/softnet_stat")
        .unwrap()
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
        .collect();
    vec![sockets(), peer.run(sockets), backlog]
}

/// Watches vswitchd's packet sockets, which take their counts along when they close, and the tap.
struct Sampler {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Sampler {
    fn start() -> Self {
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, highest) = (Arc::clone(&stop), Arc::clone(&most));
        let first = drops();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                highest.fetch_max(drops().saturating_sub(first), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, most, thread }
    }

    fn stop(self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.most.load(Ordering::Relaxed) > 0
    }
}

fn drops() -> u64 {
    let sockets = command(&["ss", "-0", "-m", "-n", "-H"]);
    let of_sockets = sockets
        .split(",d")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok());
    let tap = &ip_json("-s link show")
        .as_array()
        .unwrap()
        .iter()
        .find(|link| link["ifname"] == BRIDGE)
        .map_or(0, |link| link["stats64"]["tx"]["dropped"].as_u64().unwrap());
    of_sockets.sum::<u64>() + tap
}

#[test]
fn there_and_back_not_a_packet_is_lost() {
    enter();
    let wire = Wire::lay();
    let mut ovs = OvsFixture::start_here();
    let mut whole = [0; 2];
    for _ in 0..TRIES {
        ovs.vsctl(&["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]);
        let there = wire.lost_by(|| move_to(&ovs, Owner::Bridge, None));
        let back = wire.lost_by(|| {
            move_to(&ovs, Owner::Uplink, None);
            ovs.vsctl(&["del-br", BRIDGE]);
            ovs.kill_vswitchd();
        });
        for ((way, (lost, starved)), whole) in
            [("to the bridge", there), ("to the uplink", back)].into_iter().zip(&mut whole)
        {
            println!("{way}: {lost} lost{}", if starved { ", queues overflowed" } else { "" });
            assert!(lost == 0 || starved, "{way}: {lost} lost, and no queue was full");
            *whole += usize::from(lost == 0);
        }
        if whole.iter().all(|whole| *whole >= RUNS) {
            return;
        }
        ovs.start_vswitchd();
    }
    panic!("{whole:?} whole runs of {RUNS} each way: this machine starves its queues");
}
