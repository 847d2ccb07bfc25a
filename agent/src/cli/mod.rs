//! The command line: the only reader of arguments and environment, the only writer of
//! standard output.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod chore;
mod deadman;
mod enter_host;
mod kernels;
mod options;
mod run;
mod show;

use crate::{host_command, telemetry};
use options::{Command, Options};
use pointsman_core::error::{Reasoned, chain};
use std::process::ExitCode;

/// Exit codes, as in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// `plan`: nothing to do. Anything else: done.
    Done = 0,
    /// Could not be carried out, and nothing was changed or the error says what was.
    Failed = 1,
    /// `plan`: changes are pending.
    Pending = 2,
    /// Refused; nothing was changed.
    Refused = 3,
    /// It failed, and the former state is verified back.
    RolledBack = 4,
    /// Neither the former nor the wanted state is verified.
    Degraded = 5,
}

/// Runs the command line to its end.
pub fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("pointsman: {error}\n\n{}", options::USAGE);
            return ExitCode::from(Exit::Failed as u8);
        }
    };
    match dispatch(&options) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            if options.json {
                let text = serde_json::json!({
                    "error": { "reason": error.reason(), "message": chain(&*error),
                               "retry": error.is_transient() }
                });
                println!("{text}");
            } else {
                eprintln!("pointsman: {}: {}", error.reason(), chain(&*error));
            }
            ExitCode::from(Exit::Failed as u8)
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn Reasoned>>;

fn dispatch(options: &Options) -> Result<Exit> {
    match &options.command {
        // these become another program, or leave one behind: no agent, and no tool of one
        Command::EnterHost(argv) => Err(enter_host::become_tool(argv, true)),
        Command::EndWithAgent(argv) => Err(enter_host::become_tool(argv, false)),
        Command::Detach(argv) => deadman::detach(argv),
        Command::Help => {
            println!("{}", options::USAGE);
            Ok(Exit::Done)
        }
        Command::Version => {
            println!("pointsman {}", env!("CARGO_PKG_VERSION"));
            Ok(Exit::Done)
        }
        Command::Observe => at_work(options, show::observe),
        Command::Status => at_work(options, show::status),
        Command::Kernels => at_work(options, kernels::kernels),
        Command::Plan(subject) => at_work(options, |options| chore::plan(options, subject)),
        Command::Apply(subject) => at_work(options, |options| chore::apply(options, subject)),
        Command::Restore => at_work(options, chore::restore),
        Command::Run => at_work(options, run::run),
        Command::Deadman(token) => at_work(options, |options| deadman::watch(options, token)),
    }
}

/// With a log, and with tools that end with this program.
fn at_work(options: &Options, work: impl FnOnce(&Options) -> Result<Exit>) -> Result<Exit> {
    host_command::tools_end_with_this_program();
    telemetry::init(options.log_format);
    work(options)
}
