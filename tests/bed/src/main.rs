//! What runs inside the test VM (and, as `leash`, beside it).
//!
//! ```text
//! bed init                                     PID 1: mounts, then `bed guest`
//! bed guest                                    the driver's hand, over virtio-serial
//! bed echo --listen ADDR:PORT...               sends UDP packets and TCP bytes back
//! bed probe --to A:P [--from ADDR] --pps N --label L --out FILE
//! bed tcp-stream --to A:P [--from ADDR] --pps N --label L --out FILE
//! bed kill-when --file FILE --contains TEXT [--after MS] [--stop | --cut [--synced]] -- COMMAND...
//!                                              SIGKILL, SIGSTOP or a power cut when FILE has a line with TEXT
//! bed leash --remove DIR -- COMMAND...         ends COMMAND when standard input ends
//! ```
//! `probe` and `tcp-stream` run until SIGTERM and then write their summary.

mod cut;
mod echo;
mod guest;
mod init;
mod leash;
mod options;
mod probe;
mod sending;
mod stream;

use std::process::ExitCode;

use lexopt::prelude::*;
use options::Options;

/// Anything that ends a subcommand early.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("bed: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    // The kernel starts an initrd's program by this name and without arguments.
    if std::env::args().next().as_deref() == Some("/init") {
        return init::from_initrd().map(|never| match never {});
    }
    let mut args = lexopt::Parser::from_env();
    let Some(Value(command)) = args.next()? else {
        return Err(
            "usage: bed init|guest|echo|probe|tcp-stream|kill-when|leash [OPTION...]".into()
        );
    };
    match command.to_str() {
        Some("init") => init::as_pid_1()?,
        Some("guest") => guest::serve()?,
        Some("echo") => echo::serve(Options::parse(args)?.listen()?)?,
        Some("probe") => probe::run(&Options::parse(args)?.traffic()?)?,
        Some("tcp-stream") => stream::run(&Options::parse(args)?.traffic()?)?,
        Some("kill-when") => return cut::kill_when(args),
        Some("leash") => return leash::hold(args),
        _ => return Err(format!("no subcommand {}", command.display()).into()),
    }
    Ok(ExitCode::SUCCESS)
}
