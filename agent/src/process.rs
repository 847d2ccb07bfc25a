//! Another process, told from every later one of the same number, and its end.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Which process: its number, and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// In the PID namespace of who wrote it.
    pub pid: u32,
    /// `starttime` of `/proc/PID/stat`, clock ticks since the boot.
    pub start: u64,
}

impl Identity {
    /// Of a process that is there; none where it is not.
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // the name in parentheses may hold anything, parentheses too; proc_pid_stat(5):
        // starttime is field 22, and the state behind the name is field 3
        let (_, rest) = text.rsplit_once(')')?;
        let start = rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
        Some(Self { pid, start })
    }
}

/// A handle that stays with its process, whatever becomes of the number.
#[derive(Debug)]
pub struct Process {
    handle: OwnedFd,
}

impl Process {
    /// None where the process has ended and is buried, or another one has its number.
    pub fn open(identity: Identity) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // looked up after the handle was taken: what has this number now is what it is for
        let is_it = Identity::of(identity.pid) == Some(identity);
        Ok(is_it.then_some(Self { handle }))
    }

    /// Waits for its end; false where it lives on.
    pub fn has_ended(&self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, timeout) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// SIGKILL, which ends a stopped process too. One that has ended is killed already.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[expect(clippy::disallowed_methods, reason = "a process to end")]
    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    #[test]
    fn a_stopped_process_is_ended_and_its_number_is_not_it_any_more() {
        let mut child = sleeper();
        let identity = Identity::of(child.id()).unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        let other = Identity { start: identity.start + 1, ..identity };
        assert!(Process::open(other).unwrap().is_none());
        let process = Process::open(identity).unwrap().unwrap();
        assert!(!process.has_ended(Duration::from_millis(20)).unwrap());
        process.kill().unwrap();
        assert!(process.has_ended(Duration::from_secs(60)).unwrap());
        assert!(!child.wait().unwrap().success());
        process.kill().unwrap();
        assert!(Process::open(identity).unwrap().is_none());
    }
}
