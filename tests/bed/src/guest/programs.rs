//! Programs that run for the driver.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use bed::protocol::{Answer, Bytes, Ended, Program};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::Failure;

/// How one spawned program ended, once it has.
type Slot = Arc<(Mutex<Option<Ended>>, Condvar)>;

/// The programs that were left running.
#[derive(Default)]
pub struct Programs(Mutex<BTreeMap<i32, Slot>>);

/// Runs to the end or the timeout.
pub fn run(program: &Program, stdin: &[u8], timeout: Duration) -> Result<Answer, Failure> {
    // Files, not pipes: a daemon that the program leaves behind may keep them open.
    let (mut stdout, mut stderr) = (scratch(b"")?, scratch(b"")?);
    let mut command = command(program)?;
    command.stdin(scratch(stdin)?).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = command.spawn().map_err(|e| format!("start {:?}: {e}", program.argv))?;
    let group = group(&child)?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait()));
    let ended = if let Ok(status) = told.recv_timeout(timeout) {
        ended(status?)
    } else {
        // ESRCH: it ended this very moment.
        let _ = killpg(group, Signal::SIGKILL);
        drop(told.recv());
        Ended::TimedOut
    };
    Ok(Answer::Ran { ended, stdout: contents(&mut stdout)?, stderr: contents(&mut stderr)? })
}

impl Programs {
    /// Starts, and remembers how it ends.
    pub fn spawn(&self, program: &Program, log: &Path) -> Result<Answer, Failure> {
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|e| format!("open {}: {e}", log.display()))?;
        let mut command = command(program)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let mut child = command.spawn().map_err(|e| format!("start {:?}: {e}", program.argv))?;
        let pid = group(&child)?.as_raw();
        let slot = Slot::default();
        // A pid that comes again replaces the former program's slot.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pid, Arc::clone(&slot));
        thread::spawn(move || {
            let end = child.wait().map_or(Ended::Code(-1), ended);
            *slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
            slot.1.notify_all();
        });
        Ok(Answer::Spawned { pid })
    }

    pub fn wait(&self, pid: i32, timeout: Duration) -> Result<Answer, Failure> {
        let slot = self.slot(pid)?;
        let guard = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = slot
            .1
            .wait_timeout_while(guard, timeout, |end| end.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        Ok(Answer::Waited { ended: guard.unwrap_or(Ended::TimedOut) })
    }

    /// Signals the whole group; fails when the program has ended.
    pub fn signal(&self, pid: i32, signal: i32) -> Result<Answer, Failure> {
        let slot = self.slot(pid)?;
        let guard = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = *guard {
            return Err(format!("program {pid} has ended: {end:?}").into());
        }
        killpg(Pid::from_raw(pid), Signal::try_from(signal)?)?;
        Ok(Answer::Done)
    }

    fn slot(&self, pid: i32) -> Result<Slot, Failure> {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(&pid).cloned().ok_or_else(|| format!("no program {pid} was spawned").into())
    }
}

fn command(program: &Program) -> Result<Command, Failure> {
    let (first, rest) = program.argv.split_first().ok_or("an empty command")?;
    if let Some(name) = &program.netns {
        let path = Path::new("/run/netns").join(name);
        let file = File::open(&path).map_err(|e| format!("open {}: {e}", path.display()))?;
        // Of this thread, which serves one request only; its child inherits it.
        setns(file, CloneFlags::CLONE_NEWNET)?;
    }
    let mut command = Command::new(first);
    command.args(rest).envs(&program.env).process_group(0);
    Ok(command)
}

fn group(child: &Child) -> Result<Pid, Failure> {
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or(0)),
    }
}

/// A file without a name, at its beginning.
fn scratch(contents: &[u8]) -> Result<File, Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = format!("/run/bed-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    file.write_all(contents)?;
    file.rewind()?;
    Ok(file)
}

fn contents(file: &mut File) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(Bytes(bytes))
}
