//! `enter-host`: joins the mount namespace of process 1 and becomes the named tool.
//!
//! Not for people: [`crate::host_command`] runs host tools through it when the agent
//! lives in a pod, because a tool wants the host's own libraries and configuration. Anywhere
//! else it is `end-with-agent`, which does the rest: a tool does not outlive its agent.

use crate::host_command::SEARCH_PATH;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use pointsman_core::error::Reasoned;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use thiserror::Error;

#[derive(Debug, Error)]
#[error("{operation} to run `{command}` on the host")]
struct EnterError {
    operation: &'static str,
    command: String,
    #[source]
    source: io::Error,
}

impl Reasoned for EnterError {
    fn reason(&self) -> &'static str {
        "HostToolMissing"
    }

    fn is_transient(&self) -> bool {
        false
    }
}

/// Returns only when it failed. `enter`: the host's mount namespace.
pub(super) fn become_tool(argv: &[OsString], enter: bool) -> Box<dyn Reasoned> {
    let command = argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    match try_become(argv, enter) {
        Ok(never) => match never {},
        Err((operation, source)) => Box::new(EnterError { operation, command, source }),
    }
}

fn try_become(
    argv: &[OsString],
    enter: bool,
) -> Result<std::convert::Infallible, (&'static str, io::Error)> {
    end_with_the_agent().map_err(|error| ("end with the agent", error))?;
    if enter {
        let namespace = File::open("/proc/1/ns/mnt")
            .map_err(|error| ("open /proc/1/ns/mnt (does the pod have hostPID?)", error))?;
        setns(namespace, CloneFlags::CLONE_NEWNS).map_err(|errno| ("enter", errno.into()))?;
        std::env::set_current_dir("/").map_err(|error| ("change to /", error))?;
    }
    let words: Vec<CString> = argv
        .iter()
        .map(|word| CString::new(word.clone().into_vec()))
        .collect::<Result<_, _>>()
        .map_err(|error| ("read the arguments", error.into()))?;
    let name = argv.first().ok_or(("read the arguments", io::Error::other("none given")))?;
    let program = find(name).ok_or_else(|| ("find the program", io::ErrorKind::NotFound.into()))?;
    // not execvp: the C library's hands a file that the kernel refuses to a shell
    nix::unistd::execv(&program, &words).map_err(|errno| ("start the program", errno.into()))
}

/// A tool whose agent was killed would work against the way back. Kept by the tool that this
/// process becomes (prctl(2), `PR_SET_PDEATHSIG`).
fn end_with_the_agent() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // one that ended before it was asked for sends nothing
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe"));
    let parent = program(&nix::unistd::getppid().to_string());
    if parent.ok() != program("self").ok() {
        return Err(io::Error::other("the agent has ended"));
    }
    Ok(())
}

/// The first file of that name on the search path, which is the one that host tools are run with.
fn find(name: &OsString) -> Option<CString> {
    let path = Path::new(name);
    let found = if path.components().count() > 1 {
        Some(path.to_owned())
    } else {
        SEARCH_PATH.split(':').map(|folder| Path::new(folder).join(path)).find(|at| at.is_file())
    };
    CString::new(found?.into_os_string().into_vec()).ok()
}
