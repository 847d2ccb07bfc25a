use super::error::OvsdbError;
use super::framing::Framer;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A connection to one ovsdb-server.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    stream: UnixStream,
    framer: Framer,
    patience: Duration,
    last_id: u64,
}

impl Client {
    /// Connects. `patience` is how long this, and later each call, may take.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self, OvsdbError> {
        let deadline = Instant::now() + patience;
        let stream = connect_by(socket, deadline).map_err(|source| OvsdbError::Unavailable {
            operation: "connect to",
            socket: socket.to_owned(),
            source,
        })?;
        let framer = Framer::default();
        Ok(Self { socket: socket.to_owned(), stream, framer, patience, last_id: 0 })
    }

    /// Asks the server whether it lives.
    pub fn echo(&mut self) -> Result<(), OvsdbError> {
        let sent = json!(["pointsman"]);
        let got = self.call("echo", &sent)?;
        if got == sent { Ok(()) } else { Err(self.nonsense("its echo is not what was sent")) }
    }

    /// Carries out operations on the database `Open_vSwitch`, all or none; gives one
    /// result for each. `operation` says in plain words what for.
    pub fn transact(
        &mut self,
        operation: &str,
        operations: Vec<Value>,
    ) -> Result<Vec<Value>, OvsdbError> {
        let expected = operations.len();
        let mut params = vec![json!("Open_vSwitch")];
        params.extend(operations);
        let Value::Array(results) = self.call("transact", &Value::Array(params))? else {
            return Err(self.nonsense("the result of a transaction is no array"));
        };
        // RFC 7047 section 4.1.3: the failed operation's element carries the error; a
        // failed commit carries it in one element more
        for result in &results {
            if let Some(error) = result.get("error") {
                return Err(transaction_failed(operation, error, result.get("details")));
            }
        }
        if results.len() < expected {
            return Err(self.nonsense("a transaction has fewer results than operations"));
        }
        Ok(results)
    }

    /// An error about this server's words.
    pub(super) fn nonsense(&self, what: impl Into<String>) -> OvsdbError {
        OvsdbError::Nonsense { socket: self.socket.clone(), what: what.into() }
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value, OvsdbError> {
        let deadline = Instant::now() + self.patience;
        self.last_id += 1;
        let id = json!(self.last_id);
        let request = json!({"method": method, "params": params, "id": id});
        self.send(&request, deadline)?;
        loop {
            let message = self.receive(deadline)?;
            match message.get("method").and_then(Value::as_str) {
                Some("echo") => self.answer_echo(&message, deadline)?,
                Some(_) => {} // a notification that nobody asked for
                None if message.get("id") == Some(&id) => return self.result_of(method, message),
                None => return Err(self.nonsense("it answered what was not asked")),
            }
        }
    }

    fn result_of(&self, method: &str, mut message: Value) -> Result<Value, OvsdbError> {
        match message.get("error") {
            None | Some(Value::Null) => {}
            Some(error) => {
                let (word, details) = match error.get("error") {
                    Some(word) => (word, error.get("details")),
                    None => (error, None),
                };
                return Err(transaction_failed(method, word, details));
            }
        }
        message
            .get_mut("result")
            .map(Value::take)
            .ok_or_else(|| self.nonsense("its answer has neither result nor error"))
    }

    /// The server asks after some idle seconds, and hangs up on who does not answer.
    fn answer_echo(&mut self, message: &Value, deadline: Instant) -> Result<(), OvsdbError> {
        let (id, params) = (message.get("id"), message.get("params"));
        self.send(&json!({"id": id, "result": params, "error": null}), deadline)
    }

    fn send(&mut self, message: &Value, deadline: Instant) -> Result<(), OvsdbError> {
        let text = message.to_string();
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let written = remaining(deadline)
                .and_then(|left| self.stream.set_write_timeout(Some(left)))
                .and_then(|()| self.stream.write(rest))
                .and_then(|written| match written {
                    0 => Err(io::ErrorKind::WriteZero.into()),
                    written => Ok(written),
                });
            match written {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unavailable("write to", error)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Value, OvsdbError> {
        let mut chunk = [0; 16384];
        loop {
            if let Some(bytes) = self.framer.next().map_err(|what| self.nonsense(what))? {
                // a flood of whole messages is no reason to stay either
                remaining(deadline).map_err(|error| self.unavailable("read from", error))?;
                return serde_json::from_slice(&bytes)
                    .map_err(|error| self.nonsense(format!("it sent broken JSON: {error}")));
            }
            let read = remaining(deadline)
                .and_then(|left| self.stream.set_read_timeout(Some(left)))
                .and_then(|()| self.stream.read(&mut chunk));
            match read {
                Ok(0) => {
                    let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up");
                    return Err(self.unavailable("read from", closed));
                }
                Ok(read) => self.framer.push(chunk.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unavailable("read from", error)),
            }
        }
    }

    fn unavailable(&self, operation: &'static str, error: io::Error) -> OvsdbError {
        let source = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => timed_out(self.patience),
            _ => error,
        };
        OvsdbError::Unavailable { operation, socket: self.socket.clone(), source }
    }
}

fn transaction_failed(operation: &str, error: &Value, details: Option<&Value>) -> OvsdbError {
    let words = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    OvsdbError::TransactionFailed {
        operation: operation.to_owned(),
        error: words(error),
        details: details.map(words).unwrap_or_default(),
    }
}

fn timed_out(patience: Duration) -> io::Error {
    let text = format!("no answer within {:.1} s", patience.as_secs_f32());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Never zero, which a socket would take for "for ever".
fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A blocking `connect` to a Unix socket waits for ever once the queue of a hung server
/// is full; a non-blocking one says `EAGAIN`.
pub(super) fn connect_by(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let address = UnixAddr::new(path)?;
    let start = Instant::now();
    loop {
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => {
                let stream = UnixStream::from(fd);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Err(timed_out(start.elapsed())),
            Err(errno) => return Err(errno.into()),
        }
    }
}
