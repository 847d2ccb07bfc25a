//! What a handover loses, beside a person's script and beside nothing at all.

use crate::failed;
use crate::phases::Phases;
use crate::table::{self, Spread, row};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use support::node::Node;
use support::vm::{Command, Report, Result, Traffic};

/// What a person types, addresses and routes known by heart: the port moves to the
/// bridge, and from then on the node is dark until the last route is back. `nodad`
/// spares it a second of IPv6 that the node's own configuration spares it too. IPv6
/// routes outlive their addresses and are to be removed by themselves.
const BY_HAND_TO_BRIDGE: &str = "
set -e
ovs-vsctl --timeout=30 add-br br-int
ovs-vsctl --timeout=30 add-port br-int eth1
ip address flush dev eth1 scope global
ip route del ::/0 dev eth1
ip link set br-int up
ip address add 10.0.2.15/24 brd + dev br-int
ip address add 10.0.2.16/24 brd + dev br-int
ip address add fd77::15/64 dev br-int nodad
ip route add default via 10.0.2.2 dev br-int
ip route add 10.88.0.0/24 via 10.0.2.77 dev br-int src 10.0.2.16
ip route add ::/0 via fd77::77 dev br-int
";
const BY_HAND_TO_UPLINK: &str = "
set -e
ip address flush dev br-int scope global
ip route del ::/0 dev br-int
ovs-vsctl --timeout=30 del-port br-int eth1
ip address add 10.0.2.15/24 brd + dev eth1
ip address add 10.0.2.16/24 brd + dev eth1
ip address add fd77::15/64 dev eth1 nodad
ip route add default via 10.0.2.2 dev eth1
ip route add 10.88.0.0/24 via 10.0.2.77 dev eth1 src 10.0.2.16
ip route add ::/0 via fd77::77 dev eth1
ovs-vsctl --timeout=30 del-br br-int
";

const STOP_OVS: &str = "/usr/share/openvswitch/scripts/ovs-ctl stop";

/// Before, so that every probe runs, and after, so that every probe had the time to
/// come back: TCP sends again after 0.2, 0.6 and 1.4 s.
const LEAD: Duration = Duration::from_secs(1);
const TAIL: Duration = Duration::from_secs(3);

/// Who is measured beside needs no more: that nothing is lost is claimed of Pointsman only.
const RUNS_BESIDE: usize = 5;

#[derive(Clone, Copy)]
enum Mover {
    Pointsman,
    ByHand,
    Nobody,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToBridge,
    ToUplink,
}

/// Of one mover in one direction.
#[derive(Default)]
struct Losses {
    rate: BTreeMap<String, u64>,
    lost: BTreeMap<String, Spread>,
    gap_ms: BTreeMap<String, Spread>,
    all_lost: Spread,
    took_ms: Spread,
    runs: usize,
    lossless: usize,
    broken: usize,
    phases: Phases,
}

pub(crate) fn measure(runs: usize) -> Result<()> {
    let mut idle = Losses::default();
    let mut ours = [Losses::default(), Losses::default()];
    let mut hand = [Losses::default(), Losses::default()];
    for run in 1..=runs {
        eprintln!("losses: run {run} of {runs}");
        // a new node for each: what one mover leaves behind is not the next one's loss
        let mut movers = vec![(Mover::Pointsman, &mut ours)];
        if run <= RUNS_BESIDE {
            idle.add(&Node::start()?, Mover::Nobody, Direction::ToBridge)?;
            movers.push((Mover::ByHand, &mut hand));
        }
        for (mover, losses) in movers {
            let node = Node::start()?;
            let [to_bridge, to_uplink] = losses;
            to_bridge.add(&node, mover, Direction::ToBridge)?;
            to_uplink.add(&node, mover, Direction::ToUplink)?;
        }
    }
    for ((ours, hand), words) in
        ours.iter().zip(&hand).zip(["uplink -> bridge", "bridge -> uplink"])
    {
        show(words, ours, hand, &idle);
    }
    Ok(())
}

impl Losses {
    fn add(&mut self, node: &Node, mover: Mover, direction: Direction) -> Result<()> {
        let before = node.ip_state()?;
        let traffic = Traffic::start(&node.vm)?;
        thread::sleep(LEAD);
        let began = Instant::now();
        mover.go(node, direction)?;
        let took = began.elapsed();
        if let (Mover::Pointsman | Mover::ByHand, Direction::ToUplink) = (mover, direction) {
            // the bridge is gone: nothing may depend on its daemons any more
            run(node, STOP_OVS)?;
        }
        thread::sleep(TAIL);
        let report = traffic.stop()?;
        // a mover that loses nothing because it moves nothing would look good here
        let expected = match (mover, direction) {
            (Mover::Nobody, _) => before,
            (_, Direction::ToBridge) => before.replace("eth1", "br-int"),
            (_, Direction::ToUplink) => before.replace("br-int", "eth1"),
        };
        let after = node.ip_state()?;
        if after != expected {
            return Err(failed(format!("{after}\nis not what was to come out:\n{expected}")));
        }
        self.took_ms.push(took.as_secs_f64() * 1000.0);
        if let Mover::Pointsman = mover {
            self.phases.add(node)?;
        }
        self.count(&report);
        Ok(())
    }

    fn count(&mut self, report: &Report) {
        for (label, probe) in &report.probes {
            self.lost.entry(label.clone()).or_default().push(count(probe.lost));
            self.gap_ms.entry(label.clone()).or_default().push(probe.longest_gap_ms);
            self.rate.insert(label.clone(), if label == "in4" { 1000 } else { 100 });
        }
        let tcp = &report.tcp;
        let unanswered = tcp.sent.saturating_sub(tcp.received);
        self.lost.entry("tcp".into()).or_default().push(count(unanswered));
        self.gap_ms.entry("tcp".into()).or_default().push(tcp.longest_stall_ms);
        self.rate.insert("tcp".into(), 200);
        self.all_lost.push(count(report.lost()));
        self.runs += 1;
        self.lossless += usize::from(report.lost() == 0 && unanswered == 0 && !tcp.broken);
        self.broken += usize::from(tcp.broken);
    }
}

impl Mover {
    fn go(self, node: &Node, direction: Direction) -> Result<()> {
        match (self, direction) {
            (Self::Pointsman, Direction::ToBridge) => {
                node.agent("handover apply --to bridge").map(drop)
            }
            (Self::Pointsman, Direction::ToUplink) => {
                node.agent("handover apply --to uplink --delete-bridge").map(drop)
            }
            (Self::ByHand, Direction::ToBridge) => run(node, BY_HAND_TO_BRIDGE),
            (Self::ByHand, Direction::ToUplink) => run(node, BY_HAND_TO_UPLINK),
            (Self::Nobody, _) => {
                thread::sleep(LEAD);
                Ok(())
            }
        }
    }
}

fn run(node: &Node, script: &str) -> Result<()> {
    node.vm.run(&Command::sh(script).within(Duration::from_secs(120)))?.succeeded()
}

fn show(words: &str, ours: &Losses, hand: &Losses, idle: &Losses) {
    let mut rows = vec![
        row([&"", &"", &"pointsman", &"", &"by hand", &"", &"nobody moves", &""]),
        row([&"probe", &"pps", &"lost", &"gap ms", &"lost", &"gap ms", &"lost", &"gap ms"]),
    ];
    for (label, rate) in &ours.rate {
        let mut cells = vec![label.clone(), rate.to_string()];
        for losses in [ours, hand, idle] {
            cells.push(losses.lost[label].to_string());
            cells.push(losses.gap_ms[label].to_string());
        }
        rows.push(cells);
    }
    let dash = &"";
    rows.push(row([
        &"all but tcp",
        dash,
        &ours.all_lost,
        dash,
        &hand.all_lost,
        dash,
        &idle.all_lost,
        dash,
    ]));
    let lossless = |of: &Losses| format!("{} of {}", of.lossless, of.runs);
    rows.push(row([
        &"runs without loss",
        dash,
        &lossless(ours),
        dash,
        &lossless(hand),
        dash,
        &lossless(idle),
        dash,
    ]));
    rows.push(row([
        &"tcp broken",
        dash,
        &ours.broken,
        dash,
        &hand.broken,
        dash,
        &idle.broken,
        dash,
    ]));
    rows.push(row([&"command, ms", dash, &ours.took_ms, dash, &hand.took_ms, dash, &"", dash]));
    table::print(
        &format!("packets lost and longest gap, {words} (tcp: messages unanswered, longest stall)"),
        &rows,
    );
    let (median, other) = (ours.all_lost.median(), hand.all_lost.median());
    if median > 0.0 {
        println!("  by hand loses {:.1} times as many", other / median);
    } else {
        println!("  by hand loses {other:.0}, pointsman none (medians)");
    }
    ours.phases.show(&format!("pointsman handover apply, {words}: milliseconds by stage"));
}

fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
