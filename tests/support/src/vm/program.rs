//! Programs inside the VM.

use std::collections::BTreeMap;
use std::time::Duration;

use ::bed::protocol::{Answer, Bytes, Ended, Op, Program};

use super::error::{Result, VmError};
use super::{Vm, unexpected};

/// What to run, in the manner of [`std::process::Command`].
#[derive(Clone, Debug)]
pub struct Command {
    program: Program,
    stdin: Vec<u8>,
    timeout: Duration,
}

impl Command {
    /// A program and its arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        let program = Program { argv, env: BTreeMap::new(), netns: None };
        Self { program, stdin: Vec::new(), timeout: Duration::from_secs(60) }
    }

    /// A shell script.
    pub fn sh(script: &str) -> Self {
        Self::new(["sh", "-c", script])
    }

    /// What it reads from standard input; nothing otherwise.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Adds to its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.program.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Runs it in a named network namespace of the VM.
    #[must_use]
    pub fn netns(mut self, name: &str) -> Self {
        self.program.netns = Some(name.to_owned());
        self
    }

    /// After which it is killed, with all that it started; 60 s otherwise.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn to_op(&self) -> Op {
        Op::Run {
            program: self.program.clone(),
            stdin: Bytes(self.stdin.clone()),
            timeout_ms: millis(self.timeout),
        }
    }
}

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    command: String,
    /// How it ended.
    pub ended: Ended,
    /// Its standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

impl Output {
    pub(super) fn new(command: &Command, ended: Ended, stdout: &[u8], stderr: &[u8]) -> Self {
        Self {
            command: command.program.argv.join(" "),
            ended,
            stdout: String::from_utf8_lossy(stdout).into_owned(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }

    /// The exit code; absent after a signal or the timeout.
    pub fn code(&self) -> Option<i32> {
        match self.ended {
            Ended::Code(code) => Some(code),
            Ended::Signal(_) | Ended::TimedOut => None,
        }
    }

    /// An error that shows everything, unless the exit code is zero.
    pub fn succeeded(&self) -> Result<()> {
        if self.code() == Some(0) {
            return Ok(());
        }
        let Self { command, ended, stdout, stderr } = self;
        Err(VmError::new(format!("$ {command}\n{ended:?}\n{stdout}{stderr}")))
    }
}

/// A program that was left running.
#[derive(Debug)]
pub struct Running<'a> {
    vm: &'a Vm,
    /// Its process id, which is its group's too.
    pub pid: i32,
    log: String,
}

impl<'a> Running<'a> {
    pub(super) fn start(vm: &'a Vm, command: &Command) -> Result<Self> {
        let name = command.program.argv.first().map_or("", |p| p.rsplit('/').next().unwrap_or(p));
        let stamp = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let log = format!("/run/{name}-{stamp}.log");
        let op = Op::Spawn { program: command.program.clone(), log: log.clone().into() };
        match vm.ask(op, Duration::from_secs(30))? {
            Answer::Spawned { pid } => Ok(Self { vm, pid, log }),
            other => Err(vm.explain(unexpected(&other))),
        }
    }

    /// Signals its process group, e.g. 15 for SIGTERM; fails when it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.vm.ask(Op::Signal { pid: self.pid, signal }, Duration::from_secs(30)).map(drop)
    }

    /// Waits for its end, or says [`Ended::TimedOut`] and leaves it running.
    pub fn wait(&self, timeout: Duration) -> Result<Ended> {
        let op = Op::Wait { pid: self.pid, timeout_ms: millis(timeout) };
        match self.vm.ask(op, timeout)? {
            Answer::Waited { ended } => Ok(ended),
            other => Err(self.vm.explain(unexpected(&other))),
        }
    }

    /// What it has printed so far, on both outputs.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.vm.get(&self.log)?).into_owned())
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
