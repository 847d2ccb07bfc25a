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
            return ExitCode::from(1);
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
            ExitCode::from(1)
        }
    }
}

fn dispatch(options: &Options) -> Result<Exit, Box<dyn Reasoned>> {
    if let Command::EnterHost(argv) | Command::EndWithAgent(argv) = &options.command {
        let enter = matches!(options.command, Command::EnterHost(_));
        return Err(enter_host::become_tool(argv, enter));
    }
    if let Command::Detach(argv) = &options.command {
        return deadman::detach(argv);
    }
    host_command::tools_end_with_this_program();
    telemetry::init(options.log_format);
    match &options.command {
        Command::Help => {
            println!("{}", options::USAGE);
            Ok(Exit::Done)
        }
        Command::Version => {
            println!("pointsman {}", env!("CARGO_PKG_VERSION"));
            Ok(Exit::Done)
        }
        Command::Observe => show::observe(options),
        Command::Status => show::status(options),
        Command::Kernels => kernels::kernels(options),
        Command::Plan(subject) => chore::plan(options, subject),
        Command::Apply(subject) => chore::apply(options, subject),
        Command::Restore => chore::restore(options),
        Command::Run => run::run(options),
        Command::Deadman(token) => deadman::watch(options, token),
        Command::EnterHost(_) | Command::EndWithAgent(_) | Command::Detach(_) => Ok(Exit::Failed),
    }
}
