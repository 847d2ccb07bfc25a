//! The shipped agent, held before each thing that it says it is going to do.
//!
//! It says so on standard error right before it does it. Here that is a pipe in packet mode
//! (pipe(2), `O_DIRECT`) with room for one write: after the first word of a line was read there
//! is room for the second one only, and a line has four. So who has read the beginning of a
//! line knows that what the line speaks of has not begun, and that what the line before it
//! spoke of is over.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A machine that is shared takes its time.
const LONG_MS: u16 = 60_000;
/// One page is one slot.
const ONE_WRITE: usize = 4096;

/// It ends with this.
pub struct Held {
    pub child: Child,
    words: File,
    /// What it has said; the last line is the one that it is held in.
    pub said: Vec<String>,
}

impl Held {
    pub fn start(command: &mut Command) -> Self {
        let (read, write): (OwnedFd, OwnedFd) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT).unwrap();
        assert_eq!(fcntl_setpipe_size(&write, ONE_WRITE).unwrap(), ONE_WRITE);
        let child = command.stdout(Stdio::null()).stderr(write).spawn().unwrap();
        // the command keeps the other end until it is told otherwise
        command.stderr(Stdio::null());
        Self { child, words: read.into(), said: Vec::new() }
    }

    /// Lets it go on until it begins another line that begins so; false where it ended before.
    pub fn until(&mut self, beginning: &str) -> bool {
        loop {
            let Some(word) = self.word() else { return false };
            let begins = self.said.last().is_none_or(|line| line.ends_with('\n'));
            if begins {
                self.said.push(word);
            } else if let Some(line) = self.said.last_mut() {
                line.push_str(&word);
            }
            if begins && self.said.last().is_some_and(|line| line.starts_with(beginning)) {
                return true;
            }
        }
    }

    /// One write of it; none at its end.
    fn word(&mut self) -> Option<String> {
        let mut ready = [PollFd::new(self.words.as_fd(), PollFlags::POLLIN)];
        let answer = poll(&mut ready, PollTimeout::from(LONG_MS)).unwrap();
        assert_eq!(answer, 1, "it says nothing more after\n{}", self.said.concat());
        let mut bytes = [0; ONE_WRITE];
        let length = self.words.read(&mut bytes).unwrap();
        (length > 0).then(|| String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::take(&mut self.said)
    }

    /// Leaves it where it is, with all that it holds.
    pub fn freeze(&self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGSTOP).unwrap();
    }

    pub fn finish(mut self) -> (ExitStatus, Vec<String>) {
        assert!(!self.until("\0"));
        (self.child.wait().unwrap(), std::mem::take(&mut self.said))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
