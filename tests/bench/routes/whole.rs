//! A whole handover of 10,000 routes in five tables, by the program, with a real Open vSwitch of
//! the user-space datapath.

use super::ip;
use crate::failed;
use crate::table::{self, Spread, row};
use pointsman_core::model::{Bridge, Observed, Ovs, OvsDatabase, Port};
use pointsman_core::plan::Plan;
use pointsman_core::plan::handover::{Owner, Want, plan_handover};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use support::ovs::OvsFixture;
use support::program;
use support::vm::Result;

const MANY: u32 = 10_000;
const TABLES: [u32; 5] = [254, 100, 101, 102, 70_000];

pub(super) fn measure(runs: usize) -> Result<()> {
    let mut rows = vec![row([&"", &"command", &"first flip to last route", &"steps"])];
    let mut spreads =
        [[Spread::default(), Spread::default()], [Spread::default(), Spread::default()]];
    let mut steps = [0, 0];
    let ovs = OvsFixture::start_here();
    let mac = "02:00:00:00:77:02";
    ip(&format!("link add eth1 address {mac} type veth peer eth1-peer"));
    ip("link set eth1-peer up");
    ip("link set eth1 up");
    ip("address add 10.200.0.2/16 dev eth1");
    ip("address add fd00:200::2/64 dev eth1 nodad");
    ovs.vsctl(&["add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev"]);
    fill()?;
    let state = tempfile::tempdir().map_err(failed)?;
    for run in 1..=runs {
        eprintln!("routes: a whole handover, run {run} of {runs}");
        for (way, to) in ["bridge", "uplink"].into_iter().enumerate() {
            let (command, window, many) = handover(&ovs, state.path(), to)?;
            let [whole, part] = &mut spreads[way];
            whole.push(command);
            part.push(window);
            steps[way] = many;
        }
    }
    for ((words, [command, window]), steps) in
        ["uplink -> bridge", "bridge -> uplink"].iter().zip(&spreads).zip(steps)
    {
        rows.push(row([words, command, window, &steps]));
    }
    table::print(&format!("pointsman handover apply with {MANY} routes in five tables, ms"), &rows);
    Ok(())
}

fn fill() -> Result<()> {
    let mut lines = String::new();
    for number in 0..MANY {
        let table = TABLES[number as usize % TABLES.len()];
        let to = super::raw::destination(number);
        writeln!(lines, "route add {to}/24 via 10.200.0.1 dev eth1 table {table}")
            .map_err(failed)?;
    }
    let file = tempfile::NamedTempFile::new().map_err(failed)?;
    std::fs::write(file.path(), lines).map_err(failed)?;
    ip(&format!("-batch {}", file.path().display()));
    Ok(())
}

/// Milliseconds of the command, and of the time in which routes change; and the number of steps.
fn handover(ovs: &OvsFixture, state: &Path, to: &str) -> Result<(f64, f64, usize)> {
    let mut command = Command::new(program::release("pointsman").map_err(failed)?);
    command.args(["handover", "apply", "--to", to, "--uplink", "eth1", "--bridge", "br-int"]);
    command.arg("--ovsdb").arg(format!("unix:{}", ovs.socket().display()));
    command.arg("--state-dir").arg(state);
    // the host's own files know nothing of this network
    let config = state.join("bench.toml");
    std::fs::write(&config, "[node]\naccept = [\"UplinkNotPersistent\"]\n").map_err(failed)?;
    command.arg("--config").arg(&config);
    let began = Instant::now();
    let output = command.output().map_err(failed)?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    if !output.status.success() {
        return Err(failed(format!("handover apply --to {to}: {output:?}")));
    }
    let progress = std::fs::read_to_string(state.join("progress")).map_err(failed)?;
    let begun: Vec<(f64, &str)> = progress
        .lines()
        .filter_map(|line| {
            let (ms, words) = line.trim().split_once(' ')?;
            Some((ms.parse().ok()?, words.trim()))
        })
        .collect();
    let at = |words: &str| begun.iter().position(|(_, step)| step.contains(words));
    let flip = at("looks into table").ok_or_else(|| failed(&progress))?;
    // the step behind the last that moves routes
    let moved = begun.iter().rposition(|(_, step)| step.contains("move in place"));
    let after = moved.and_then(|at| begun.get(at + 1)).ok_or_else(|| failed(&progress))?;
    Ok((took, after.0 - begun[flip].0, begun.len()))
}

/// A plan for the network as it is here, Open vSwitch being imagined.
pub(super) fn plan_here(uplink: &str, bridge: &str) -> Result<Plan> {
    let mut network = pointsman::observe::network::read().map_err(failed)?;
    for link in network.links.iter_mut().filter(|link| link.name == bridge) {
        link.kind = Some("tun".into());
    }
    let own = Port { name: bridge.into(), kind: "internal".into(), ..Port::default() };
    let row = Bridge {
        name: bridge.into(),
        datapath_type: "netdev".into(),
        ports: vec![own],
        ..Bridge::default()
    };
    let database = OvsDatabase { bridges: vec![row], ..OvsDatabase::default() };
    let ovs =
        Ovs { database: Some(database), vswitchd: true, ovsdb_server: true, ..Ovs::default() };
    let observed = Observed { network, ovs, ..Observed::default() };
    let (uplink, bridge) = (uplink.into(), bridge.into());
    let want = Want { uplink, bridge, to: Owner::Bridge, delete_bridge: false };
    plan_handover(&want, &observed, None).map_err(failed)
}
