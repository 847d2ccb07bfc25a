//! The same move by the orders of other projects, on the same node, in the same run: what each
//! loses while it moves, and what it loses for good.
//!
//! The scripts in `peers/` are written from descriptions of those orders, not from their code,
//! and start a process for each command: their times are not those of the projects, the
//! order of what they do is. What is lost for good does not depend on time at all.

use crate::failed;
use crate::table::{self, Spread, row};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};
use support::node::Node;
use support::vm::{Command, Result, Traffic};

const COMMON: &str = include_str!("peers/order.sh");
const PEERS: [(&str, &str); 4] = [
    ("Antrea's order", include_str!("peers/antrea.sh")),
    ("Kube-OVN's order", include_str!("peers/kube-ovn.sh")),
    ("OVN-Kubernetes' order", include_str!("peers/ovn-kubernetes.sh")),
    ("plain ip", include_str!("peers/plain-ip.sh")),
];

/// Device names aside, what of it there is.
const STATE: &str = "
{ ip -o address show scope global | sed 's/^[0-9]*: //; s/ *\\\\.*//; s/valid_lft.*//'
  ip -o -4 route show table main; ip -o -6 route show table main | grep -v '^fe80\\|^multicast'
  ip -o -4 route show table 100; ip rule; ip neighbour show nud permanent; } |
  sed 's/eth1~\\|eth1\\|br-int/DEVICE/g; s/ pref medium//; s/ linkdown//; s/[ \\t]*$//; s/  */ /g' | sort -u
";

const LEAD: Duration = Duration::from_secs(1);
const TAIL: Duration = Duration::from_secs(3);
const DIRECTIONS: [&str; 2] = ["uplink -> bridge", "bridge -> uplink"];

/// Of one mover.
struct Tally {
    name: &'static str,
    script: Option<&'static str>,
    ways: [Way; 2],
}

/// Of one mover in one direction.
#[derive(Default)]
struct Way {
    lost: Spread,
    worst_gap_ms: Spread,
    took_ms: Spread,
    broken: usize,
    for_good: BTreeSet<String>,
}

pub(crate) fn measure(runs: usize) -> Result<()> {
    let tally = |name, script| Tally { name, script, ways: [Way::default(), Way::default()] };
    let mut tallies = vec![tally("pointsman", None)];
    tallies.extend(PEERS.iter().map(|(name, script)| tally(name, Some(*script))));
    for run in 1..=runs {
        eprintln!("handover: run {run} of {runs}");
        for tally in &mut tallies {
            // a new node for each: what one mover leaves behind is not the next one's loss
            let node = Node::start()?;
            node.grow()?;
            every_probe_answers(&node)?;
            let before = state(&node)?;
            for way in 0..2 {
                tally.go(&node, way, &before)?;
            }
        }
    }
    show(&tallies);
    Ok(())
}

impl Tally {
    fn go(&mut self, node: &Node, way: usize, before: &BTreeSet<String>) -> Result<()> {
        let traffic = Traffic::start(&node.vm)?;
        thread::sleep(LEAD);
        let began = Instant::now();
        match self.script {
            None => {
                drop(node.agent(["handover apply --to bridge", "handover apply --to uplink"][way])?)
            }
            Some(script) => {
                let function = ["to_bridge", "to_uplink"][way];
                let text = format!("{COMMON}\n{script}\n{function}\n");
                let command = Command::new(["bash", "-c", &text]).within(Duration::from_secs(120));
                node.vm.run(&command)?.succeeded()?;
            }
        }
        let took = began.elapsed();
        thread::sleep(TAIL);
        let report = traffic.stop()?;
        let now = state(node)?;
        let Some(into) = self.ways.get_mut(way) else { return Err(failed("a third way")) };
        let gaps = report.probes.values().map(|probe| probe.longest_gap_ms);
        into.worst_gap_ms.push(gaps.fold(0.0, f64::max));
        into.lost.push(f64::from(u32::try_from(report.lost()).unwrap_or(u32::MAX)));
        into.took_ms.push(took.as_secs_f64() * 1000.0);
        into.broken += usize::from(report.tcp.broken);
        into.for_good.extend(before.difference(&now).cloned());
        Ok(())
    }
}

/// A path that is dark before anybody moves anything would be counted as somebody's loss.
fn every_probe_answers(node: &Node) -> Result<()> {
    let traffic = Traffic::start(&node.vm)?;
    thread::sleep(LEAD);
    let report = traffic.stop()?;
    match report.probes.iter().find(|(_, probe)| probe.lost * 2 > probe.sent) {
        None => Ok(()),
        Some((label, _)) => Err(failed(format!("{label} is dark before any move\n{report}"))),
    }
}

fn state(node: &Node) -> Result<BTreeSet<String>> {
    Ok(node.vm.sh(STATE)?.lines().map(str::to_owned).collect())
}

fn show(tallies: &[Tally]) {
    for (way, words) in DIRECTIONS.iter().enumerate() {
        let heading = format!("the same move by other orders, {words}");
        let mut rows =
            vec![row([&"mover", &"lost", &"worst gap ms", &"ms", &"tcp broken", &"lost for good"])];
        for tally in tallies {
            let Some(of) = tally.ways.get(way) else { continue };
            let good = of.for_good.len();
            rows.push(row([
                &tally.name,
                &of.lost,
                &of.worst_gap_ms,
                &of.took_ms,
                &of.broken,
                &good,
            ]));
        }
        table::print(&heading, &rows);
    }
    let mut text = String::from("\nlost for good, after both ways (as `ip` tells it):\n");
    for tally in tallies {
        let lost: BTreeSet<&String> = tally.ways.iter().flat_map(|way| &way.for_good).collect();
        let words = if lost.is_empty() { " nothing" } else { "" };
        writeln!(text, "  {}:{words}", tally.name).unwrap_or_default();
        for line in lost {
            writeln!(text, "    {line}").unwrap_or_default();
        }
    }
    print!("{text}");
}
