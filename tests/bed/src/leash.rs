//! Holds a program that must not outlive the one who started it.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lexopt::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Failure;

/// Runs a command until it ends by itself or standard input does, which is the
/// read end of a pipe that the owner holds: the kernel closes it however the
/// owner dies. Then the command is killed and `--remove DIR` deleted. Should this
/// process itself be killed, the kernel kills the command (setpriv).
pub fn hold(mut args: lexopt::Parser) -> Result<ExitCode, Failure> {
    let mut remove: Option<PathBuf> = None;
    let mut command: Vec<OsString> = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Long("remove") => remove = Some(args.value()?.into()),
            Value(first) => {
                command.push(first);
                command.extend(args.raw_args()?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(&command)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| format!("start setpriv: {e}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let let_go = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&let_go);
    thread::spawn(move || {
        // Nothing is ever written to the pipe; an error is the end of it too.
        drop(io::stdin().read_to_end(&mut Vec::new()));
        seen.store(true, Ordering::SeqCst);
        // The child is not reaped before it is dead, so the pid is still its own.
        let _ = kill(pid, Signal::SIGKILL);
    });
    let status = child.wait()?;
    if let_go.load(Ordering::SeqCst)
        && let Some(dir) = remove
    {
        fs::remove_dir_all(&dir).map_err(|e| format!("remove {}: {e}", dir.display()))?;
    } else {
        eprintln!("bed leash: the program ended: {status}");
    }
    Ok(ExitCode::from(u8::from(!status.success())))
}
