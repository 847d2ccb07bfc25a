//! The wire to `bed guest`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bed::protocol::{Answer, FromGuest, Op, Request};

use super::error::{Result, VmError};

/// What the guest is given above a request's own time before it counts as dead.
const GRACE: Duration = Duration::from_secs(30);

/// Requests of several threads go side by side.
#[derive(Debug)]
pub(super) struct Channel {
    writer: Mutex<UnixStream>,
    state: Arc<Mutex<State>>,
    hello: Mutex<Receiver<String>>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    /// Dropping a sender tells its waiting caller that no answer will come.
    waiting: BTreeMap<u64, Sender<Answer>>,
    boot_expected: bool,
    surprise: Option<&'static str>,
}

impl Channel {
    /// Connects to the socket that QEMU makes; `boots`: a hello is to come; `alive`
    /// says whether QEMU still is.
    pub(super) fn connect(
        socket: &Path,
        boots: bool,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let stream = connect(socket, &mut alive)?;
        let reader =
            stream.try_clone().map_err(|e| VmError::new(format!("clone the socket: {e}")))?;
        let state = Arc::new(Mutex::new(State { boot_expected: boots, ..State::default() }));
        let (tell, hello) = mpsc::channel();
        let shared = Arc::clone(&state);
        thread::spawn(move || read(reader, &shared, &tell));
        Ok(Self { writer: Mutex::new(stream), state, hello: Mutex::new(hello) })
    }

    /// Asks and waits. `own_time` is how long the request itself may take.
    pub(super) fn call(&self, op: Op, own_time: Duration) -> Result<Answer> {
        let what = describe(&op);
        let (tell, told) = mpsc::channel();
        let id = {
            let mut state = lock(&self.state);
            if let Some(surprise) = state.surprise {
                return Err(VmError::new(format!("{what}: {surprise}")));
            }
            state.next_id += 1;
            let id = state.next_id;
            state.waiting.insert(id, tell);
            id
        };
        self.send(id, op)?;
        match told.recv_timeout(own_time + GRACE) {
            Ok(Answer::Failed { error }) => Err(VmError::new(format!("{what}: {error}"))),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                lock(&self.state).waiting.remove(&id);
                Err(VmError::new(format!("{what}: the guest did not answer")))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let why = lock(&self.state).surprise.unwrap_or("the VM was reset meanwhile");
                Err(VmError::new(format!("{what}: {why}")))
            }
        }
    }

    /// Sends what is not answered.
    pub(super) fn send(&self, id: u64, op: Op) -> Result<()> {
        let what = describe(&op);
        let fail = |e: &dyn std::fmt::Display| VmError::new(format!("send {what}: {e}"));
        // The leading newline ends what a reset may have cut off.
        let mut line = b"\n".to_vec();
        serde_json::to_writer(&mut line, &Request { id, op }).map_err(|e| fail(&e))?;
        line.push(b'\n');
        lock(&self.writer).write_all(&line).map_err(|e| fail(&e))
    }

    /// Says that the next hello is wanted: to be called before what causes it.
    pub(super) fn expect_boot(&self) {
        lock(&self.state).boot_expected = true;
    }

    /// Waits for the hello of an expected boot; its boot id.
    pub(super) fn wait_boot(&self, timeout: Duration) -> Result<String> {
        lock(&self.hello).recv_timeout(timeout).map_err(|e| match e {
            RecvTimeoutError::Timeout => VmError::new(format!("not up after {timeout:?}")),
            RecvTimeoutError::Disconnected => VmError::new("QEMU ended before the guest was up"),
        })
    }
}

fn connect(socket: &Path, alive: &mut impl FnMut() -> Result<()>) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > deadline => {
                return Err(VmError::new(format!("connect to {}: {e}", socket.display())));
            }
            Err(_) => {}
        }
        alive()?;
        thread::sleep(Duration::from_millis(10));
    }
}

fn read(stream: UnixStream, state: &Mutex<State>, hello: &Sender<String>) {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        match serde_json::from_slice(&line) {
            Ok(FromGuest::Hello { boot_id }) => {
                let mut state = lock(state);
                state.waiting.clear();
                if std::mem::take(&mut state.boot_expected) {
                    state.surprise = None;
                    // Nobody may be waiting any more.
                    drop(hello.send(boot_id));
                } else {
                    state.surprise = Some("the VM rebooted by itself, or its `bed guest` died");
                }
            }
            Ok(FromGuest::Reply { id, answer }) => {
                if let Some(tell) = lock(state).waiting.remove(&id) {
                    drop(tell.send(answer));
                }
            }
            // Empty, or cut off by a reset.
            Err(_) => {}
        }
        line.clear();
    }
    let mut state = lock(state);
    state.surprise = Some("QEMU has ended");
    state.waiting.clear();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn describe(op: &Op) -> String {
    match op {
        Op::Run { program, .. } | Op::Spawn { program, .. } => program.argv.join(" "),
        Op::Put { path, .. } => format!("put {}", path.display()),
        other => format!("{other:?}"),
    }
}
