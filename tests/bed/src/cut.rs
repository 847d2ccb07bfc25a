//! Kills a program at a chosen moment of its work.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use lexopt::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};

use crate::Failure;

/// Between two looks at the file.
const PAUSE: Duration = Duration::from_micros(200);

/// Runs a command and sends it SIGKILL as soon as a line of a file that it appends to
/// contains a text, or `--after` milliseconds later. The file is removed first: what a former run wrote does not count.
/// With `--stop` it is SIGSTOP, and the stopped command is left behind; its number is the
/// first word of what is printed.
///
/// With `--cut` the whole machine is reset instead, without a sync, as by a power cut: what
/// only was in memory is lost. Then nobody returns from here. With `--synced` the command is
/// stopped and the disk synced before: a database that syncs when it likes has done so.
///
/// Prints the file's last line at the kill, and ends well; fails where the command
/// ended before such a line.
pub fn kill_when(mut args: lexopt::Parser) -> Result<ExitCode, Failure> {
    let (mut file, mut text): (Option<PathBuf>, Option<String>) = (None, None);
    let mut after = Duration::ZERO;
    let mut stop = false;
    let (mut cut, mut synced) = (false, false);
    let mut command: Vec<OsString> = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Long("file") => file = Some(args.value()?.into()),
            Long("contains") => text = Some(args.value()?.string()?),
            Long("stop") => stop = true,
            Long("cut") => cut = true,
            Long("synced") => synced = true,
            Long("after") => after = Duration::from_millis(args.value()?.parse()?),
            Value(first) => {
                command.push(first);
                command.extend(args.raw_args()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let file = file.ok_or("--file is missing")?;
    let text = text.ok_or("--contains is missing")?;
    let (program, arguments) = command.split_first().ok_or("the command is missing")?;
    match fs::remove_file(&file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(format!("remove {}: {e}", file.display()).into());
        }
        Ok(()) | Err(_) => {}
    }
    let mut child = Command::new(program).args(arguments).spawn()?;
    loop {
        // Whole lines only: the last may be half written.
        let seen = fs::read_to_string(&file).unwrap_or_default();
        let whole = seen.rfind('\n').map_or("", |end| &seen[..end]);
        if whole.lines().any(|line| line.contains(&text)) {
            thread::sleep(after);
            if stop {
                kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGSTOP)?;
                println!("{}", child.id());
                return Ok(ExitCode::SUCCESS);
            }
            if synced {
                kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGSTOP)?;
                sync();
            }
            if cut {
                // `emergency_restart`: Documentation/admin-guide/sysrq.rst
                fs::write("/proc/sysrq-trigger", "b")?;
            }
            child.kill()?;
            let status = child.wait()?;
            let now = fs::read_to_string(&file).unwrap_or_default();
            println!("killed at: {}", now.lines().next_back().unwrap_or_default());
            let killed = status.code().is_none();
            return Ok(ExitCode::from(u8::from(!killed)));
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("the command ended by itself before `{text}`: {status}").into());
        }
        thread::sleep(PAUSE);
    }
}
