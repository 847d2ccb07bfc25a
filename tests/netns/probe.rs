//! Gateways, asked out of one link, over a real wire.

use crate::*;
use pointsman::probe::answering;
use pointsman_core::error::Reasoned as _;
use pointsman_core::probe::Gateway;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

fn gateway(ip: &str, source: &str) -> Gateway {
    Gateway { ip: ip.parse().unwrap(), source: source.parse().unwrap() }
}

/// The other end of the wire, in a namespace of its own: in this one its addresses would be
/// ours. The process that holds it ends with it.
struct Far(std::process::Child);

impl Far {
    fn with(device: &str) -> Self {
        let mut command = std::process::Command::new("unshare");
        let far = Self(command.args(["--net", "sleep", "1000"]).spawn().unwrap());
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let start = Instant::now();
        while namespace(&far.0.id().to_string()) == namespace("thread-self") {
            assert!(start.elapsed() < Duration::from_secs(60), "no namespace");
            std::thread::sleep(Duration::from_millis(2));
        }
        ip(&format!("link set {device} netns {}", far.0.id()));
        far
    }

    fn ip(&self, arguments: &str) {
        let pid = self.0.id().to_string();
        let mut argv = vec!["nsenter", "--net", "--target", &pid, "ip"];
        argv.extend(arguments.split_whitespace());
        command(&argv);
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn who_is_on_the_wire_answers_by_arp_and_nd_and_nobody_else() {
    enter();
    ip("address add 10.77.0.2/24 dev eth1");
    ip("address add fd00:77::2/64 dev eth1 nodad");
    let far = Far::with("eth1-peer");
    for arguments in [
        "address add 10.77.0.1/24 dev eth1-peer",
        "address add fd00:77::1/64 dev eth1-peer nodad",
        "link set eth1-peer up",
    ] {
        far.ip(arguments);
    }
    let wanted = [gateway("10.77.0.1", "10.77.0.2"), gateway("fd00:77::1", "fd00:77::2")];
    let all: Vec<IpAddr> = wanted.iter().map(|gateway| gateway.ip).collect();
    let mut heard = answering(NIC, &wanted, LIMIT).unwrap();
    heard.sort();
    assert_eq!(heard, all);
    assert_eq!(answering(NIC, &[], LIMIT).unwrap(), Vec::<IpAddr>::new());

    let more = [wanted[0].clone(), gateway("10.77.0.9", "10.77.0.2")];
    let start = Instant::now();
    assert_eq!(answering(NIC, &more, Duration::from_millis(700)).unwrap(), all[..1]);
    assert!(start.elapsed() >= Duration::from_millis(700));
    let nobody: [IpAddr; 0] = [];
    assert_eq!(answering(OTHER, &wanted, Duration::from_millis(300)).unwrap(), nobody);
    assert_eq!(answering("none0", &wanted, LIMIT).unwrap_err().reason(), "ProbeFailed");
    far.ip("link set eth1-peer down");
    assert_eq!(answering(NIC, &wanted, Duration::from_millis(300)).unwrap(), [] as [IpAddr; 0]);
}
