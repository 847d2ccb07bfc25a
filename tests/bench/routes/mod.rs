//! Routes per second: ours beside raw batched netlink, `ip -batch`, and the rtnetlink crate one
//! request at a time, side by side in one run; memory per route; and a whole handover of many.

mod movers;
mod raw;
mod whole;

use crate::failed;
use crate::table::{self, Spread, row};
use movers::{Mover, Work};
use std::fs;
use support::ovs::command;
use support::vm::Result;

const SIZES: [u32; 3] = [1_000, 10_000, 100_000];

/// In the network namespace that `scripts/bench` has made.
pub(crate) fn measure(runs: usize) -> Result<()> {
    if cfg!(debug_assertions) {
        return Err(failed("routes are measured with the release build: use scripts/bench"));
    }
    for (link, address) in [("ra", "10.200.0.2/16"), ("rb", "10.200.0.3/16")] {
        ip(&format!("link add {link} type veth peer {link}-peer"));
        ip(&format!("link set {link}-peer up"));
        ip(&format!("link set {link} up"));
        ip(&format!("address add {address} dev {link}"));
    }
    for work in [Work::Add, Work::Move] {
        let mut rows = vec![heading()];
        for size in SIZES {
            rows.push(compare(work, size, runs)?);
        }
        table::print(&format!("routes per second, {work}"), &rows);
    }
    let mut rows = vec![row([&"routes", &"bytes per route"])];
    for size in SIZES {
        rows.push(memory(size)?);
    }
    table::print("memory: the network read twice, and a plan to move it", &rows);
    ["ra", "rb"].into_iter().for_each(|link| ip(&format!("link del {link}")));
    whole::measure(runs)
}

fn heading() -> Vec<String> {
    let mut cells = vec!["routes".to_owned()];
    cells.extend(Mover::ALL.iter().map(ToString::to_string));
    cells.extend(["ours/raw", "ours/ip", "ours/crate"].map(ToOwned::to_owned));
    cells
}

/// Every mover once in each run, so that the load of others meets all of them.
fn compare(work: Work, size: u32, runs: usize) -> Result<Vec<String>> {
    let movers = Mover::ALL;
    let mut rates = vec![Spread::default(); movers.len()];
    for run in 1..=runs {
        eprintln!("routes: {work}, {size}, run {run} of {runs}");
        for (mover, rate) in movers.iter().zip(&mut rates) {
            let took = mover.go(work, size)?;
            rate.push(f64::from(size) / took.as_secs_f64());
        }
    }
    let median = |mover: Mover| {
        let at = movers.iter().position(|other| *other == mover);
        at.and_then(|at| rates.get(at)).map_or(f64::NAN, Spread::median)
    };
    let ours = median(Mover::Ours);
    let mut cells = vec![size.to_string()];
    cells.extend(rates.iter().map(ToString::to_string));
    let others = [Mover::Raw, Mover::IpBatch, Mover::Crate];
    cells.extend(others.map(|other| format!("{:.2}", ours / median(other))));
    Ok(cells)
}

/// The most memory that reading and planning takes, by route.
fn memory(size: u32) -> Result<Vec<String>> {
    raw::routes(raw::Change::Append, "ra", size)?;
    // resets VmHWM (proc_pid_clear_refs(5))
    fs::write("/proc/self/clear_refs", "5").map_err(failed)?;
    let before = kib("VmRSS")?;
    let plan = whole::plan_here("ra", "rb")?;
    let used = kib("VmHWM")? - before;
    let steps = plan.steps().count();
    raw::routes(raw::Change::Delete, "ra", size)?;
    let bytes = Spread::from_iter([used * 1024.0 / f64::from(size)]);
    if steps < 5 {
        return Err(failed(format!("a plan of {steps} steps moves no routes:\n{plan}")));
    }
    Ok(row([&size, &bytes]))
}

fn kib(field: &str) -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").map_err(failed)?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    value.ok_or_else(|| failed(format!("no {field} in\n{status}")))
}

fn ip(arguments: &str) {
    let mut argv = vec!["ip"];
    argv.extend(arguments.split_whitespace());
    command(&argv);
}
