//! The daemons as processes: found by pid file or in `/proc`, never signalled.

use std::fs;
use std::path::{Path, PathBuf};

/// A running daemon, with the process that watches over it where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// `ovs-vswitchd` or `ovsdb-server`.
    pub name: &'static str,
    /// Its process, then its monitor's (`--monitor`: the parent, the same executable).
    pub pids: Vec<u32>,
}

/// The daemon that a pid file of a run directory names, if that process lives and is one.
///
/// A pid file outlives a killed daemon, and its number is used again.
pub fn daemon_of_run_directory(run: &Path, name: &'static str) -> Option<Daemon> {
    let text = fs::read_to_string(run.join(format!("{name}.pid"))).ok()?;
    let pid: u32 = text.trim().parse().ok()?;
    if !is_alive(pid) || command_name(pid)? != name {
        return None;
    }
    let mut pids = vec![pid];
    let parent = status(pid)?.parent;
    if executable(parent).is_some_and(|parent| Some(parent) == executable(pid)) {
        pids.push(parent);
    }
    Some(Daemon { name, pids })
}

/// Processes of that name in this thread's network namespace, which is the host's.
pub fn living(name: &str) -> Vec<u32> {
    let here = fs::read_link("/proc/thread-self/ns/net").ok();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| command_name(*pid).is_some_and(|found| found == name))
        .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok() == here)
        .filter(|pid| is_alive(*pid))
        .collect();
    pids.sort_unstable();
    pids
}

/// Whether a process is there and has not ended.
pub fn is_alive(pid: u32) -> bool {
    status(pid).is_some_and(|status| !matches!(status.state, 'Z' | 'X'))
}

/// Whether a process is in the control group of one of these units of the host's systemd.
pub fn runs_in_one_of(pid: u32, units: &[&str]) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut parts = groups.lines().flat_map(|line| line.split('/'));
    parts.any(|part| units.contains(&part))
}

struct Status {
    state: char,
    parent: u32,
}

fn status(pid: u32) -> Option<Status> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name in parentheses may hold anything, parentheses too
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Status { state, parent: fields.next()?.parse().ok()? })
}

fn command_name(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(text.trim_end_matches('\n').to_owned())
}

fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_counts_only_while_it_names_the_daemon() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(daemon_of_run_directory(run.path(), "ovs-vswitchd"), None);
        let file = run.path().join("ovs-vswitchd.pid");
        for text in ["", "x", "4194305", &std::process::id().to_string()] {
            fs::File::create(&file).unwrap();
            std::os::unix::fs::FileExt::write_all_at(
                &fs::OpenOptions::new().write(true).open(&file).unwrap(),
                text.as_bytes(),
                0,
            )
            .unwrap();
            assert_eq!(daemon_of_run_directory(run.path(), "ovs-vswitchd"), None, "{text}");
        }
        assert!(is_alive(std::process::id()));
    }
}
