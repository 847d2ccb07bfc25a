//! A blocking socket, for sequences in which each step waits for the one before.

use super::attribute::{Decoded, Malformed};
use super::error::NetlinkError;
use super::message::{
    NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, done, finish, message, next_message,
    outcome, overrun, start, undecodable,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
/// The kernel saw a change while it dumped: what was sent is no state that ever was.
const NLM_F_DUMP_INTR: u16 = 0x010;
const NLM_F_DUMP: u16 = 0x300;

/// The kernel fills at most 32 KiB per datagram of a dump, and a request may ask for no more.
const RECEIVE: usize = 128 << 10;
/// Room for the refusals of a whole batch: they are all queued before the send returns.
const QUEUE: usize = 4 << 20;
/// Messages per datagram; 500 is where more gains nothing (measured on 6.18).
const BATCH: usize = 500;
/// Bytes per datagram, below what the socket may send.
const BATCH_BYTES: usize = 512 << 10;
/// `SO_SNDBUF`: the kernel refuses a datagram that is longer, and the default (208 KiB) is
/// less than 500 routes of many hops.
const SEND: usize = 1 << 20;
const DUMP_TRIES: u32 = 10;
const ANSWER: Duration = Duration::from_secs(10);

/// A change, without its header.
#[derive(Clone, Debug)]
pub struct Request {
    /// In plain words, for the error.
    pub operation: String,
    /// `nlmsg_type`.
    pub kind: u16,
    /// `NLM_F_*` beyond request and ack.
    pub flags: u16,
    /// Family header and attributes.
    pub body: Vec<u8>,
}

/// A netlink socket of the calling thread's network namespace, the routing one mostly.
///
/// A socket on which something went wrong may still hold answers to what was asked
/// before; it is replaced before the next request.
#[derive(Debug)]
pub struct Connection {
    protocol: isize,
    socket: Socket,
    sequence: u32,
    spoilt: bool,
    /// Of [`RECEIVE`] bytes, the first `received` of them used.
    buffer: Vec<u8>,
    received: usize,
}

impl Connection {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Self::open_for(NETLINK_ROUTE)
    }

    /// The same for another part of the kernel.
    pub(super) fn open_for(protocol: isize) -> Result<Self, NetlinkError> {
        let (buffer, socket) = (vec![0; RECEIVE], socket(protocol)?);
        Ok(Self { protocol, socket, sequence: 0, spoilt: false, buffer, received: 0 })
    }

    /// Everything that a dump tells, or an error; `decode` may leave messages out by `None`.
    pub(super) fn dump<T>(
        &mut self,
        operation: &str,
        (kind, reply): (u16, u16),
        body: &[u8],
        mut decode: impl FnMut(&[u8]) -> Decoded<Option<T>>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let mut found = Vec::new();
            let sequence = self.start()?;
            let request = message(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, body);
            let whole = self.send(&request).and_then(|()| {
                self.receive_dump(operation, sequence, reply, &mut |body| {
                    found.extend(decode(body)?);
                    Ok(())
                })
            });
            match whole {
                Ok(true) => return Ok(found),
                Ok(false) => {}
                Err(error) => {
                    self.spoilt = true;
                    return Err(error);
                }
            }
        }
        Err(NetlinkError::Interrupted { operation: operation.into(), tries: DUMP_TRIES })
    }

    /// Whether the dump was consistent. Reads it to its end either way.
    fn receive_dump(
        &mut self,
        operation: &str,
        sequence: u32,
        reply: u16,
        take: &mut dyn FnMut(&[u8]) -> Decoded<()>,
    ) -> Result<bool, NetlinkError> {
        let mut steady = true;
        loop {
            self.receive(operation)?;
            let mut rest = self.buffer.get(..self.received).unwrap_or_default();
            while let Some(message) = next_message(&mut rest, operation)? {
                if message.sequence != sequence {
                    return Err(undecodable(operation, &message, "answers another request"));
                }
                steady &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(overrun(operation)),
                    NLMSG_ERROR => {
                        let error = outcome(&message, operation)?;
                        return Err(error
                            .unwrap_or_else(|| undecodable(operation, &message, "ends no dump")));
                    }
                    NLMSG_DONE => return done(&message, operation).map(|()| steady),
                    kind if kind == reply => take(message.body)
                        .map_err(|Malformed(why)| undecodable(operation, &message, &why))?,
                    _ => return Err(undecodable(operation, &message, "is of an unexpected type")),
                }
            }
        }
    }

    /// Has the kernel carry out one change and waits for its answer.
    pub fn execute(&mut self, request: &Request) -> Result<(), NetlinkError> {
        match self.batch(std::slice::from_ref(request)) {
            Err(NetlinkError::Batch { source, .. }) => Err(*source),
            other => other,
        }
    }

    /// Has the kernel carry out many changes and waits for its answers; the first that it
    /// rejects is told by its number.
    pub fn batch(&mut self, requests: &[Request]) -> Result<(), NetlinkError> {
        let write = |request: &Request, body: &mut Vec<u8>| {
            body.extend_from_slice(&request.body);
            Ok((request.kind, request.flags))
        };
        self.batch_of(requests, write, |request| request.operation.clone())
    }

    /// Has the kernel carry out changes in order, many per datagram.
    ///
    /// `write` appends a change's body and tells its type and flags; `operation` names it for
    /// an error. Only the last of a datagram is acknowledged, as the kernel tells of what failed
    /// anyway (`netlink_rcv_skb`), and all before that. It goes on behind a change that
    /// fails, to the end of the datagram; the error names the first that failed, and no further
    /// datagram is sent.
    pub(crate) fn batch_of<T>(
        &mut self,
        changes: &[T],
        write: impl Fn(&T, &mut Vec<u8>) -> Result<(u16, u16), NetlinkError>,
        operation: impl Fn(&T) -> String,
    ) -> Result<(), NetlinkError> {
        let mut rest = changes;
        let mut datagram = Vec::new();
        while !rest.is_empty() {
            datagram.clear();
            let base = self.start()?;
            let (mut many, mut last) = (0, 0);
            for (change, sequence) in rest.iter().zip(base..).take(BATCH) {
                last = start(&mut datagram);
                let (kind, flags) = write(change, &mut datagram)?;
                finish(&mut datagram, last, (kind, flags | NLM_F_REQUEST), sequence);
                self.sequence = sequence;
                many += 1;
                if datagram.len() > BATCH_BYTES {
                    break;
                }
            }
            acknowledge(&mut datagram, last);
            let (now, later) = rest.split_at_checked(many).unwrap_or((rest, &[]));
            let name = |at: usize| now.get(at).map_or_else(String::new, &operation);
            let exchanged = self.exchange(&datagram, base, now.len(), &name);
            self.spoilt |= exchanged.is_err();
            let failures = exchanged?;
            let failed = failures.len();
            if let Some((position, source)) = failures.into_iter().next() {
                let (of, source) = (now.len(), Box::new(source));
                return Err(NetlinkError::Batch { operation: name(position), failed, of, source });
            }
            rest = later;
        }
        Ok(())
    }

    /// One datagram, and all answers up to that to its last message. What failed, by position.
    fn exchange(
        &mut self,
        datagram: &[u8],
        base: u32,
        many: usize,
        name: &dyn Fn(usize) -> String,
    ) -> Result<Vec<(usize, NetlinkError)>, NetlinkError> {
        let first = name(0);
        self.send(datagram)?;
        let mut failures = Vec::new();
        loop {
            self.receive(&first)?;
            let mut rest = self.buffer.get(..self.received).unwrap_or_default();
            while let Some(message) = next_message(&mut rest, &first)? {
                match message.kind {
                    NLMSG_NOOP => continue,
                    NLMSG_OVERRUN => return Err(overrun(&first)),
                    NLMSG_ERROR => {}
                    _ => return Err(undecodable(&first, &message, "is no answer")),
                }
                let position = usize::try_from(message.sequence.wrapping_sub(base)).ok();
                let Some(position) = position.filter(|position| *position < many) else {
                    return Err(undecodable(&first, &message, "answers another request"));
                };
                failures.extend(outcome(&message, &name(position))?.map(|error| (position, error)));
                if position + 1 == many {
                    return Ok(failures);
                }
            }
        }
    }

    /// The next sequence number, on a socket with nothing left to read.
    fn start(&mut self) -> Result<u32, NetlinkError> {
        if self.spoilt {
            self.socket = socket(self.protocol)?;
            self.spoilt = false;
        }
        // far below wrapping for a socket's life: one number per request
        self.sequence = self.sequence.wrapping_add(1);
        Ok(self.sequence)
    }

    pub(super) fn send(&self, datagram: &[u8]) -> Result<(), NetlinkError> {
        let sent = self
            .socket
            .send(datagram, 0)
            .map_err(|source| NetlinkError::Socket { operation: "send", source })?;
        if sent == datagram.len() {
            return Ok(());
        }
        let source = io::Error::from(io::ErrorKind::WriteZero);
        Err(NetlinkError::Socket { operation: "send", source })
    }

    /// One datagram of the kernel into the buffer.
    pub(super) fn receive(&mut self, operation: &str) -> Result<(), NetlinkError> {
        wait_readable(&self.socket, operation)?;
        let mut window = self.buffer.as_mut_slice();
        let received = self.socket.recv_from(&mut window, nix::libc::MSG_TRUNC);
        let (length, sender) = match received {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                return Err(overrun(operation));
            }
            other => {
                other.map_err(|source| NetlinkError::Socket { operation: "receive", source })?
            }
        };
        if sender.port_number() != 0 {
            let source = io::Error::other("a message from another process");
            return Err(NetlinkError::Socket { operation: "receive", source });
        }
        if length > self.buffer.len() {
            let source = io::Error::other(format!("a datagram of {length} bytes was cut off"));
            return Err(NetlinkError::Socket { operation: "receive", source });
        }
        self.received = length;
        Ok(())
    }

    /// What was received last.
    pub(super) fn received(&self) -> &[u8] {
        self.buffer.get(..self.received).unwrap_or_default()
    }
}

fn socket(protocol: isize) -> Result<Socket, NetlinkError> {
    let at = |operation| move |source| NetlinkError::Socket { operation, source };
    let mut socket = Socket::new(protocol).map_err(at("open"))?;
    socket.bind_auto().map_err(at("bind"))?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(at("connect"))?;
    socket.set_ext_ack(true).map_err(at("ask for explanations"))?;
    socket.set_cap_ack(true).map_err(at("ask for short answers"))?;
    socket.set_netlink_get_strict_chk(true).map_err(at("ask for strict checks"))?;
    setsockopt(&socket.as_fd(), sockopt::SndBufForce, &SEND)
        .map_err(|errno| at("enlarge the send buffer")(errno.into()))?;
    setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &QUEUE)
        .map_err(|errno| at("enlarge the receive queue")(errno.into()))?;
    Ok(socket)
}

/// Sets `NLM_F_ACK` in the message that begins at `at`.
fn acknowledge(datagram: &mut [u8], at: usize) {
    const FLAGS: usize = 6;
    let flags = datagram.get_mut(at + FLAGS..).and_then(|rest| rest.first_chunk_mut::<2>());
    if let Some(flags) = flags {
        *flags = (u16::from_ne_bytes(*flags) | NLM_F_ACK).to_ne_bytes();
    }
}

fn wait_readable(socket: &Socket, operation: &str) -> Result<(), NetlinkError> {
    let deadline = Instant::now() + ANSWER;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => {
                return Err(NetlinkError::TimedOut { operation: operation.into(), limit: ANSWER });
            }
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(NetlinkError::Socket { operation: "wait", source: errno.into() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_core::error::{Reasoned as _, chain};

    /// Of `linux/rtnetlink.h`.
    const RTM_NEWLINK: u16 = 16;
    const RTM_GETLINK: u16 = 18;
    const RTM_NEWADDR: u16 = 20;
    const RTM_DELADDR: u16 = 21;
    const IFINFOMSG: [u8; 16] = [0; 16];

    fn links(connection: &mut Connection, reply: u16) -> Result<Vec<()>, NetlinkError> {
        connection.dump("list links", (RTM_GETLINK, reply), &IFINFOMSG, |_| Ok(Some(())))
    }

    /// What went wrong once is not in the way of what is asked next.
    fn assert_usable(connection: &mut Connection) {
        assert!(!links(connection, RTM_NEWLINK).unwrap().is_empty());
    }

    #[test]
    fn answers_that_found_no_room_are_an_error() {
        let mut connection = Connection::open().unwrap();
        setsockopt(&connection.socket.as_fd(), sockopt::RcvBufForce, &1).unwrap();
        // deletes an address of a link that nobody has, 500 times: each is refused by itself
        let nobodys = [2, 24, 0, 0, 255, 255, 255, 127];
        let request = Request {
            operation: "delete an address".into(),
            kind: RTM_DELADDR,
            flags: 0,
            body: nobodys.to_vec(),
        };
        let error = connection.batch(&vec![request; BATCH]).unwrap_err();
        assert_eq!(error.reason(), "NetworkUnsteady", "{}", chain(&error));
        assert_usable(&mut connection);
    }

    #[test]
    fn a_datagram_longer_than_the_buffer_is_an_error() {
        let mut connection = Connection::open().unwrap();
        connection.buffer = vec![0; 64];
        let error = links(&mut connection, RTM_NEWLINK).unwrap_err();
        assert!(chain(&error).contains("was cut off"), "{}", chain(&error));
        connection.buffer = vec![0; RECEIVE];
        assert_usable(&mut connection);
    }

    #[test]
    fn a_message_of_another_type_is_an_error_and_never_passed_over() {
        let mut connection = Connection::open().unwrap();
        let error = links(&mut connection, RTM_NEWADDR).unwrap_err();
        assert_eq!(error.reason(), "NetlinkUndecodable");
        assert!(chain(&error).contains("is of an unexpected type"), "{}", chain(&error));
        assert_usable(&mut connection);
    }
}
