//! `deadman` and `detach`: not for people.

use super::Exit;
use super::options::Options;
use super::show;
use crate::deadman;
use nix::sched::{CloneFlags, setns};
use pointsman_core::error::Reasoned;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

const CGROUPS: &str = "/sys/fs/cgroup";

#[derive(Debug, Error)]
#[error("{operation} to leave the pod")]
struct DetachError {
    operation: String,
    #[source]
    source: io::Error,
}

impl Reasoned for DetachError {
    fn reason(&self) -> &'static str {
        "DeadmanNotArmed"
    }

    fn is_transient(&self) -> bool {
        false
    }
}

/// Watches the agent, and takes the node to the safe harbour where it has to.
pub(super) fn watch(options: &Options, token: &str) -> Result<Exit, Box<dyn Reasoned>> {
    // of nobody's terminal; under systemd it leads a session already
    match nix::unistd::setsid() {
        Ok(_) | Err(_) => {}
    }
    deadman::watch(&show::state_dir(options), token, |record| {
        show::host(options, &record.settings)
    })
    .map_err(show::boxed)?;
    Ok(Exit::Done)
}

/// Starts a program in the host's namespaces and in no pod's cgroup, and leaves it alone.
pub(super) fn detach(argv: &[OsString]) -> Result<Exit, Box<dyn Reasoned>> {
    try_detach(argv)
        .map_err(|(operation, source)| show::boxed(DetachError { operation, source }))?;
    Ok(Exit::Done)
}

type Failed = (String, io::Error);

#[expect(clippy::disallowed_methods, reason = "what it starts outlives it")]
fn try_detach(argv: &[OsString]) -> Result<(), Failed> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| ("read the arguments".to_owned(), io::Error::other("none given")))?;
    // the mount namespace last: the others are found by this one's /proc
    let kinds = [
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let mut in_pod = false;
    for (name, kind) in kinds {
        in_pod |= enter(name, kind)?;
    }
    std::env::set_current_dir("/").map_err(|error| ("change to /".to_owned(), error))?;
    match leave_cgroups() {
        // without a pod there is nobody who would end the cgroup
        Err((operation, error)) if !in_pod => {
            tracing::debug!(operation, %error, "stays in its cgroup");
        }
        other => other?,
    }
    // the last that the kernel takes when memory is short
    drop(write(Path::new("/proc/self/oom_score_adj"), "-999"));
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", crate::host_command::SEARCH_PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.map(drop).map_err(|error| (format!("start {}", program.display()), error))
}

/// Whether it was another one than the host's.
///
/// Who may not look at process 1 (`PTRACE_MODE_READ` in ptrace(2)) is in no pod that runs the
/// host's tools, for that needs the same right: it stays where it is.
fn enter(name: &str, kind: CloneFlags) -> Result<bool, Failed> {
    let path = format!("/proc/1/ns/{name}");
    let link = |path: &str| fs::read_link(path).map_err(|error| (format!("read {path}"), error));
    let host = match link(&path) {
        Err((_, error)) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        host => host?,
    };
    if host == link(&format!("/proc/self/ns/{name}"))? {
        return Ok(false);
    }
    let open = File::open(&path).map_err(|error| (format!("open {path}"), error))?;
    setns(open, kind).map_err(|errno| (format!("enter {path}"), errno.into()))?;
    Ok(true)
}

/// Into the root of each hierarchy that the host has: cgroup v2 is mounted at the top, v1
/// has a directory for each. A `0` stands for the writer.
fn leave_cgroups() -> Result<(), Failed> {
    let top = Path::new(CGROUPS);
    let mut roots: Vec<PathBuf> = vec![top.join("cgroup.procs")];
    if !top.join("cgroup.procs").exists() {
        let entries = fs::read_dir(top).into_iter().flatten().flatten();
        roots = entries.map(|entry| entry.path().join("cgroup.procs")).collect();
        roots.retain(|procs| procs.exists());
    }
    for procs in roots {
        write(&procs, "0").map_err(|error| (format!("write {}", procs.display()), error))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
