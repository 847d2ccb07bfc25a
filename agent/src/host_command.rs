//! The host's own tools: run in the host's namespaces, with a timeout, never the image's copies.

use crate::disk::HostRoot;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pointsman_core::error::Reasoned;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Where host tools are looked for, on the host.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a tool's output is kept, bytes.
const OUTPUT_LIMIT: usize = 1 << 20;
/// How long a pipe that is silent is waited for after the tool itself has ended.
const AFTER_THE_END: Duration = Duration::from_millis(500);
/// How long one is that is not.
const AT_MOST: Duration = Duration::from_secs(5);

/// How long a program that has just been written may be busy. libcni waits as long for a plugin.
const BUSY: Duration = Duration::from_secs(5);

/// Where host tools find the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostTools {
    /// This process is in the host's mount namespace: run them as they are.
    Here,
    /// In a pod with `hostPID`: enter the mount namespace of process 1 first.
    OfInit,
    /// A scratch tree, not a running system: tools get its path by their own
    /// option (`depmod -b`), and nothing that touches the kernel may run.
    Scratch,
}

/// A tool that could not be run or did not succeed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// Not started.
    #[error("run `{command}`")]
    Start {
        /// With its arguments.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Ended by another status than 0.
    #[error("`{command}` ended with {status}: {output}")]
    Failed {
        /// With its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed to standard error, the last kibibyte of it.
        output: String,
    },
    /// Killed because it took too long.
    #[error("`{command}` did not end within {} s and was killed", limit.as_secs())]
    TimedOut {
        /// With its arguments.
        command: String,
        /// How long it had.
        limit: Duration,
    },
}

impl Reasoned for CommandError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Start { .. } => "HostToolMissing",
            Self::Failed { .. } => "HostToolFailed",
            Self::TimedOut { .. } => "HostToolTimedOut",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}

impl CommandError {
    /// In the host's namespaces it is the entering process that meets the busy file, and tells it.
    fn is_busy(&self) -> bool {
        match self {
            Self::Start { source, .. } => source.kind() == io::ErrorKind::ExecutableFileBusy,
            Self::Failed { output, .. } => output.contains("Text file busy"),
            Self::TimedOut { .. } => false,
        }
    }
}

/// Runs a program that has just been written, again while it is busy (`ETXTBSY`): another
/// thread's child holds what this process has open for writing between fork and exec.
pub(crate) fn while_busy<T>(
    mut run: impl FnMut() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let start = Instant::now();
    loop {
        match run() {
            Err(error) if error.is_busy() && start.elapsed() < BUSY => {
                std::thread::sleep(Duration::from_millis(20));
            }
            ended => return ended,
        }
    }
}

/// Whether this process is the program that has `enter-host`, and not a test of its parts.
static HAS_ENTER_HOST: AtomicBool = AtomicBool::new(false);

/// From now on a tool ends when this process does: one that an agent which was killed left
/// behind would work against the way back. (A daemon that a tool starts does not end.)
pub fn tools_end_with_this_program() {
    HAS_ENTER_HOST.store(true, Ordering::Relaxed);
}

/// What a tool printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl HostTools {
    /// How tools are run for a root, seen from a process that may be in a pod.
    pub fn for_root(root: &HostRoot, in_pod: bool) -> Self {
        match (root.is_slash(), in_pod) {
            (true, _) => Self::Here,
            (false, true) => Self::OfInit,
            (false, false) => Self::Scratch,
        }
    }

    /// Runs a tool to its end; any end but success is an error.
    pub fn run(&self, argv: &[&str], limit: Duration) -> Result<Output, CommandError> {
        succeeded(argv, self.run_unchecked(argv, limit)?)
    }

    /// Runs a tool to its end and leaves the judgement to the caller.
    pub fn run_unchecked(&self, argv: &[&str], limit: Duration) -> Result<Output, CommandError> {
        self.run_with(argv, &[], limit)
    }

    /// [`Self::run_unchecked`] with variables added to the environment.
    pub fn run_with(
        &self,
        argv: &[&str],
        environment: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Output, CommandError> {
        self.run_fed(argv, environment, "", limit)
    }

    /// [`Self::run_with`] and a text of at most a pipe's 64 KiB on standard input.
    pub fn run_fed(
        &self,
        argv: &[&str],
        environment: &[(&str, &str)],
        input: &str,
        limit: Duration,
    ) -> Result<Output, CommandError> {
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        self.run_between(argv, environment, (stdin, input, Stdio::piped()), limit)
    }

    /// Runs a tool to its end, any end but success being an error, with a file for standard
    /// input or output: of any length, and opened here, wherever the tool runs.
    pub fn run_on(
        &self,
        argv: &[&str],
        input: Option<File>,
        output: Option<File>,
        limit: Duration,
    ) -> Result<Output, CommandError> {
        let stdin = input.map_or_else(Stdio::null, Stdio::from);
        let stdout = output.map_or_else(Stdio::piped, Stdio::from);
        succeeded(argv, self.run_between(argv, &[], (stdin, "", stdout), limit)?)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that starts a process")]
    fn run_between(
        &self,
        argv: &[&str],
        environment: &[(&str, &str)],
        (stdin, input, stdout): (Stdio, &str, Stdio),
        limit: Duration,
    ) -> Result<Output, CommandError> {
        let start = |source| CommandError::Start { command: argv.join(" "), source };
        let mut words: Vec<&str> = Vec::new();
        if *self == Self::OfInit {
            words.extend(["/proc/self/exe", "enter-host"]);
        } else if HAS_ENTER_HOST.load(Ordering::Relaxed) {
            words.extend(["/proc/self/exe", "end-with-agent"]);
        }
        words.extend(argv);
        let (program, arguments) =
            words.split_first().ok_or_else(|| start(io::Error::other("no program named")))?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("LC_ALL", "C")
            .envs(environment.iter().copied())
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(start)?;
        if let Some(mut pipe) = child.stdin.take() {
            // who does not want to read it does not have to
            drop(pipe.write_all(input.as_bytes()));
        }
        let mut stdout = drain(child.stdout.take()).map_err(start)?;
        let mut stderr = drain(child.stderr.take()).map_err(start)?;
        let Some(status) = wait(&mut child, limit).map_err(start)? else {
            return Err(CommandError::TimedOut { command: argv.join(" "), limit });
        };
        stdout.tool_ended();
        stderr.tool_ended();
        Ok(Output { status, stdout: stdout.text(), stderr: stderr.text() })
    }
}

fn succeeded(argv: &[&str], output: Output) -> Result<Output, CommandError> {
    if output.status.success() {
        return Ok(output);
    }
    let skip = output.stderr.chars().count().saturating_sub(1024);
    let tail: String = output.stderr.trim_end().chars().skip(skip).collect();
    Err(CommandError::Failed { command: argv.join(" "), status: output.status, output: tail })
}

/// What comes out of a pipe.
struct Drain {
    /// Closed when the tool has ended.
    running: Option<PipeWriter>,
    all: Receiver<Vec<u8>>,
}

impl Drain {
    /// From now on the pipe may be one that only a daemon holds.
    fn tool_ended(&mut self) {
        self.running = None;
    }

    /// All that the tool has written: how long that takes, the reader decides, who has looked.
    fn text(mut self) -> String {
        self.tool_ended();
        // a reader that is gone has nothing to tell
        String::from_utf8_lossy(&self.all.recv().unwrap_or_default()).into_owned()
    }
}

/// Reads a pipe to its end, or until it is silent for [`AFTER_THE_END`] of the tool: what the
/// tool wrote is in the pipe by then. A daemon that it started may hold the pipe for ever, and
/// is read on, so that it is not ended by what it prints, but not waited for.
fn drain(pipe: Option<impl Read + AsFd + Send + 'static>) -> io::Result<Drain> {
    let (ended, running) = io::pipe()?;
    let (tell, all) = channel();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut kept = Vec::new();
        let mut end = None;
        while more_to_come(&pipe, &ended, &mut end) && read_some(&mut pipe, &mut kept) {}
        // who does not wait any more does not want it
        drop(tell.send(kept));
        let mut unwanted = vec![0; OUTPUT_LIMIT];
        while read_some(&mut pipe, &mut unwanted) {}
    });
    Ok(Drain { running: Some(running), all })
}

/// Waits until there is something to read; not for long once the tool has ended, the time of
/// which is kept in `end`.
fn more_to_come(pipe: &impl AsFd, ended: &PipeReader, end: &mut Option<Instant>) -> bool {
    loop {
        let (pipe, ended) = (pipe.as_fd(), ended.as_fd());
        let waited = match end {
            None => {
                let mut both =
                    [PollFd::new(pipe, PollFlags::POLLIN), PollFd::new(ended, PollFlags::POLLIN)];
                let waited = poll(&mut both, PollTimeout::NONE);
                let [pipe, ended] = both.map(|one| one.any().unwrap_or(true));
                if ended {
                    *end = Some(Instant::now());
                }
                if waited.is_ok() && !pipe {
                    continue;
                }
                waited
            }
            // a daemon that never stops printing
            Some(end) if end.elapsed() >= AT_MOST => return false,
            Some(_) => {
                // the kernel looks once more when the time is over
                let limit = PollTimeout::try_from(AFTER_THE_END).unwrap_or(PollTimeout::MAX);
                poll(&mut [PollFd::new(pipe, PollFlags::POLLIN)], limit)
            }
        };
        match waited {
            Ok(0) => return false,
            Err(Errno::EINTR) => {}
            // a pipe that cannot be waited for can be read
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Not at the end of it. An unreadable pipe means less to tell, not another outcome.
fn read_some(pipe: &mut impl Read, kept: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 4096];
    match pipe.read(&mut chunk) {
        Ok(length @ 1..) => {
            // the rest is read too, so that the tool does not block, but not kept
            if kept.len() < OUTPUT_LIMIT {
                kept.extend(chunk.iter().take(length));
            }
            true
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
        Ok(_) | Err(_) => false,
    }
}

/// None where the child had to be killed.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
            // with what it started
            if let Err(errno) = killpg(group, Signal::SIGKILL) {
                tracing::debug!(%errno, "the tool had ended by itself");
            }
            // one that the kernel does not let die (modprobe in an uninterruptible sleep) is
            // left behind: the way back must not wait for it
            for _ in 0..20 {
                if child.try_wait()?.is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_core::error::chain;
    use std::os::fd::BorrowedFd;

    #[test]
    fn a_tool_is_run_and_judged() {
        let limit = Duration::from_secs(10);
        let output = HostTools::Here.run(&["sh", "-c", "echo a"], limit).unwrap();
        assert_eq!(output.stdout, "a\n");
        let error = HostTools::Here.run(&["sh", "-c", "echo why >&2; exit 3"], limit).unwrap_err();
        assert!(chain(&error).contains("exit status: 3: why"), "{error}");
        let error = HostTools::Here.run(&["/no/such/tool"], limit).unwrap_err();
        assert_eq!(error.reason(), "HostToolMissing");
    }

    #[test]
    fn a_tool_is_fed() {
        let limit = Duration::from_secs(10);
        let feed = |argv: &[&str]| HostTools::Here.run_fed(argv, &[("A", "b")], "text", limit);
        assert_eq!(feed(&["sh", "-c", "cat; echo $A"]).unwrap().stdout, "textb\n");
        assert!(feed(&["true"]).unwrap().status.success());
    }

    #[test]
    fn a_daemon_that_keeps_the_pipes_open_is_not_waited_for() {
        let start = Instant::now();
        let limit = Duration::from_secs(10);
        let output = HostTools::Here.run(&["sh", "-c", "sleep 30 & echo a"], limit).unwrap();
        assert_eq!(output.stdout, "a\n");
        assert!(start.elapsed() < limit);
    }

    /// A thread that the machine lets wait for longer than a daemon's pipe is waited for.
    #[test]
    fn what_a_tool_has_written_is_not_lost_on_a_machine_under_load() {
        struct Late(PipeReader);
        impl Read for Late {
            fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(2 * AFTER_THE_END);
                self.0.read(chunk)
            }
        }
        impl AsFd for Late {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        let (pipe, mut tool) = io::pipe().unwrap();
        tool.write_all(b"all of it").unwrap();
        drop(tool);
        assert_eq!(drain(Some(Late(pipe))).unwrap().text(), "all of it");
        // and one that a daemon holds open, which writes no more
        let (pipe, mut tool) = io::pipe().unwrap();
        tool.write_all(b"as much").unwrap();
        assert_eq!(drain(Some(Late(pipe))).unwrap().text(), "as much");
        drop(tool);
    }

    #[test]
    fn more_output_than_is_kept_does_not_block_the_tool() {
        let argv = ["head", "-c", "3000000", "/dev/zero"];
        let output = HostTools::Here.run(&argv, Duration::from_secs(10)).unwrap();
        assert!((OUTPUT_LIMIT..2_000_000).contains(&output.stdout.len()));
    }

    #[test]
    fn a_tool_that_hangs_is_killed() {
        let error = HostTools::Here.run(&["sleep", "100"], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.reason(), "HostToolTimedOut");
    }
}
