//! Packets in all directions, the whole time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::UdpSocket;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use ::bed::protocol::Ended;
use ::bed::summary::{Probe, Stream};

use super::error::{Result, VmError};
use super::network::{
    DEFAULT_ROUTE_TARGET, ECHO_PORT, NODE_V4, NODE_V4_SECOND, NODE_V6, PEER_NETNS, PEER_ROUTED_V4,
    PEER_ROUTED_V6, socket,
};
use super::{Command, Running, Vm};

/// One stream of numbered packets.
struct Flow {
    label: &'static str,
    /// Sent by the peer, or else by the node.
    from_peer: bool,
    source: Option<&'static str>,
    target: &'static str,
    pps: u32,
}

const FLOWS: [Flow; 6] = [
    inward("in4", None, NODE_V4, 1000),
    inward("in4r", Some(PEER_ROUTED_V4), NODE_V4_SECOND, 100),
    inward("in6", None, NODE_V6, 100),
    outward("out4", PEER_ROUTED_V4),
    outward("out4d", DEFAULT_ROUTE_TARGET),
    outward("out6", PEER_ROUTED_V6),
];

const fn inward(
    label: &'static str,
    source: Option<&'static str>,
    target: &'static str,
    pps: u32,
) -> Flow {
    Flow { label, from_peer: true, source, target, pps }
}

const fn outward(label: &'static str, target: &'static str) -> Flow {
    Flow { label, from_peer: false, source: None, target, pps: 100 }
}

/// Traffic of a VM that has its [`Vm::node_network`]:
///
/// | label | way |
/// |---|---|
/// | `in4` | peer on the wire → the node's first address, 1000 packets per second |
/// | `in4r` | peer's routed address → the node's second address, back by the pinned route; 100, as all below |
/// | `in6` | peer on the wire → the node's IPv6 address |
/// | `out4` | node → peer by the route pinned to the second address |
/// | `out4d` | node → this machine by the IPv4 default route |
/// | `out6` | node → peer by the IPv6 default route |
/// | `tcp` | one connection, peer → the node's first address, 200 messages per second |
#[derive(Debug)]
pub struct Traffic<'a> {
    vm: &'a Vm,
    probes: Vec<(&'static str, Running<'a>)>,
    stream: Running<'a>,
}

impl<'a> Traffic<'a> {
    /// Starts all of it.
    pub fn start(vm: &'a Vm) -> Result<Self> {
        serve_default_route_target()?;
        vm.sh("rm -f /run/traffic-*.json")?;
        let stream = Command::new([
            "bed",
            "tcp-stream",
            "--to",
            &socket(NODE_V4),
            "--pps",
            "200",
            "--label",
            "tcp",
            "--out",
            &result_file("tcp"),
        ]);
        let stream = vm.spawn(&stream.netns(PEER_NETNS))?;
        let probes = FLOWS
            .iter()
            .map(|flow| Ok((flow.label, vm.spawn(&command(flow))?)))
            .collect::<Result<_>>()?;
        Ok(Self { vm, probes, stream })
    }

    /// Stops, waits for stragglers and tells what was lost.
    pub fn stop(self) -> Result<Report> {
        for program in self.programs() {
            program.signal(nix::libc::SIGTERM)?;
        }
        for program in self.programs() {
            let ended = program.wait(Duration::from_secs(60))?;
            if ended != Ended::Code(0) {
                let log = program.log().unwrap_or_default();
                return Err(VmError::new(format!("a probe ended with {ended:?}: {log}")));
            }
        }
        let mut report = Report { probes: BTreeMap::new(), tcp: self.result("tcp")? };
        for (label, _) in &self.probes {
            report.probes.insert((*label).to_owned(), self.result(label)?);
        }
        Ok(report)
    }

    fn programs(&self) -> impl Iterator<Item = &Running<'a>> {
        self.probes.iter().map(|(_, program)| program).chain([&self.stream])
    }

    fn result<T: serde::de::DeserializeOwned>(&self, label: &str) -> Result<T> {
        serde_json::from_slice(&self.vm.get(&result_file(label))?)
            .map_err(|e| VmError::new(format!("result of {label}: {e}")))
    }
}

fn command(flow: &Flow) -> Command {
    let mut argv = vec!["bed".to_owned(), "probe".to_owned()];
    let (to, pps) = (socket(flow.target), flow.pps.to_string());
    let out = result_file(flow.label);
    for (name, value) in
        [("--to", &*to), ("--pps", &*pps), ("--label", flow.label), ("--out", &*out)]
    {
        argv.extend([name.to_owned(), value.to_owned()]);
    }
    if let Some(source) = flow.source {
        argv.extend(["--from".to_owned(), source.to_owned()]);
    }
    let command = Command::new(argv);
    if flow.from_peer { command.netns(PEER_NETNS) } else { command }
}

fn result_file(label: &str) -> String {
    format!("/run/traffic-{label}.json")
}

/// Answers on this side of QEMU's user network, which forwards what leaves by the
/// default route to where this process can send: its own namespace.
fn serve_default_route_target() -> Result<()> {
    static SERVING: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    SERVING.get_or_init(|| start_echo().map_err(|e| e.to_string())).clone().map_err(VmError::new)
}

fn start_echo() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // An address is added below: never to a network that is not the test's own.
    let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
    if devices.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:")) {
        return Err(
            "this is no private network namespace: run by way of scripts/private-net".into()
        );
    }
    let address = format!("{DEFAULT_ROUTE_TARGET}/32");
    super::bed::stdout(
        std::process::Command::new("ip").args(["address", "replace", &address, "dev", "lo"]),
    )?;
    let echo = UdpSocket::bind((DEFAULT_ROUTE_TARGET, ECHO_PORT))?;
    thread::spawn(move || {
        let mut packet = [0; 2048];
        loop {
            if let Ok((length, from)) = echo.recv_from(&mut packet) {
                // A VM that has ended: its probe is gone too.
                drop(echo.send_to(&packet[..length], from));
            }
        }
    });
    Ok(())
}

/// What was lost; its `Display` form is a table.
#[derive(Clone, Debug)]
pub struct Report {
    /// By label.
    pub probes: BTreeMap<String, Probe>,
    /// The TCP connection.
    pub tcp: Stream,
}

impl Report {
    /// Packets lost by all probes together.
    pub fn lost(&self) -> u64 {
        self.probes.values().map(|probe| probe.lost).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<6} {:>7} {:>6} {:>5} {:>9} {:>11} {:>13}  seen as",
            "probe", "sent", "lost", "dup", "gap ms", "silence ms", "send stall ms"
        )?;
        for (label, p) in &self.probes {
            writeln!(
                f,
                "{label:<6} {:>7} {:>6} {:>5} {:>9.1} {:>11.1} {:>13.1}  {}",
                p.sent,
                p.lost,
                p.duplicates,
                p.longest_gap_ms,
                p.longest_silence_ms,
                p.longest_send_stall_ms,
                p.seen_as.join(" ")
            )?;
        }
        let tcp = &self.tcp;
        let end = if tcp.broken { tcp.error.as_deref().unwrap_or("broken") } else { "whole" };
        writeln!(
            f,
            "{:<6} {:>7} {:>6} longest stall {:.1} ms, {end}",
            tcp.label,
            tcp.sent,
            tcp.sent.saturating_sub(tcp.received),
            tcp.longest_stall_ms
        )
    }
}
