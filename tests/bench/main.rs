//! Measures what a person asks first: what does a handover lose, how long does a switch
//! take, how many routes a second does it move, what does the agent cost while it has nothing
//! to do. It prints and judges nothing.
//!
//! To be run by `scripts/bench`, which says how.

mod losses;
mod machine;
mod memory;
mod modules;
mod peers;
mod phases;
mod routes;
mod switch;
mod table;

use std::process::ExitCode;
use std::time::Instant;
use support::vm::{Result, VmError};

const USAGE: &str = "usage: scripts/bench [--runs N | --quick] [losses] [handover] [switch] [modules] [memory] [routes]";
const RUNS: usize = 5;
const QUICK_RUNS: usize = 2;

type Measurement = fn(usize) -> Result<()>;

const ALL: [(&str, Measurement); 6] = [
    ("losses", losses::measure),
    ("handover", peers::measure),
    ("switch", switch::measure),
    ("modules", modules::measure),
    ("memory", memory::measure),
    ("routes", routes::measure),
];

fn main() -> ExitCode {
    let (runs, chosen) = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    match measure(runs, &chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn measure(runs: usize, chosen: &[Measurement]) -> Result<()> {
    let began = Instant::now();
    machine::print(runs)?;
    for measurement in chosen {
        measurement(runs)?;
    }
    println!("\ntook {} s", began.elapsed().as_secs());
    Ok(())
}

fn options(
    arguments: impl Iterator<Item = String>,
) -> std::result::Result<(usize, Vec<Measurement>), String> {
    let mut arguments = arguments;
    let (mut runs, mut names) = (RUNS, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => runs = QUICK_RUNS,
            "--runs" => {
                let value = arguments.next().unwrap_or_default();
                let number = value.parse().ok().filter(|n| *n > 0);
                runs = number.ok_or(format!("--runs {value:?}: a number above zero is missing"))?;
            }
            name if ALL.iter().any(|(known, _)| *known == name) => names.push(argument),
            other => return Err(format!("unknown argument {other:?}")),
        }
    }
    let chosen = |name: &str| names.is_empty() || names.iter().any(|given| given == name);
    Ok((runs, ALL.iter().filter(|(name, _)| chosen(name)).map(|(_, run)| *run).collect()))
}

/// An error that is not the VM's own.
fn failed(error: impl std::fmt::Display) -> VmError {
    VmError::new(error.to_string())
}
