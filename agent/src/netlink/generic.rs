//! A generic netlink connection: requests with an acknowledgement, and whole dumps.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use pointsman_core::error::Reasoned;
use std::io;
use thiserror::Error;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NETLINK_HEADER_LEN: usize = 16;
const GENERIC_HEADER_LEN: usize = 4;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// `NLA_TYPE_MASK`: without the flags for nesting and byte order.
const ATTRIBUTE_KIND_MASK: u16 = 0x3fff;
const TRIES: u32 = 10;

/// A failed conversation with the kernel.
#[derive(Debug, Error)]
pub enum GenericError {
    /// The socket itself.
    #[error("{operation} a generic netlink socket")]
    Socket {
        /// `open`, `write to`, `read from`.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel said no.
    #[error("the kernel did not {operation}")]
    Refused {
        /// In plain words.
        operation: String,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// What was read kept changing, or a message was cut off.
    #[error("{what}")]
    Inconsistent {
        /// What was wrong.
        what: &'static str,
    },
}

impl GenericError {
    /// What the kernel answered, where it did.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket { .. } | Self::Inconsistent { .. } => None,
        }
    }
}

impl Reasoned for GenericError {
    fn reason(&self) -> &'static str {
        "OvsDatapathFailed"
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Inconsistent { .. })
            || matches!(self.errno(), Some(Errno::EBUSY | Errno::EAGAIN | Errno::EINTR))
    }
}

/// One socket, one request at a time.
pub(super) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    pub(super) fn open() -> Result<Self, GenericError> {
        let failed = |source| GenericError::Socket { operation: "open", source };
        let mut socket = Socket::new(NETLINK_GENERIC).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        // the kernel answers inside the request; this is against the unforeseen
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(5))
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// A request that changes something, and the kernel's verdict.
    pub(super) fn request(
        &mut self,
        operation: &str,
        family: u16,
        command: u8,
        body: &[u8],
    ) -> Result<(), GenericError> {
        self.send(family, NLM_F_REQUEST | NLM_F_ACK, command, body)?;
        match self.collect(operation, 0)? {
            Some(_) => Ok(()),
            None => Err(GenericError::Inconsistent { what: "an answer was marked interrupted" }),
        }
    }

    /// Every message of a dump, its headers taken off; read again where the kernel says
    /// that it changed meanwhile.
    pub(super) fn dump(
        &mut self,
        family: u16,
        command: u8,
        body: &[u8],
    ) -> Result<Vec<Vec<u8>>, GenericError> {
        for _ in 0..TRIES {
            self.send(family, NLM_F_REQUEST | NLM_F_DUMP, command, body)?;
            if let Some(messages) = self.collect("list", family)? {
                return Ok(messages);
            }
        }
        Err(GenericError::Inconsistent { what: "the kernel's list changed during every reading" })
    }

    fn send(
        &mut self,
        family: u16,
        flags: u16,
        command: u8,
        body: &[u8],
    ) -> Result<(), GenericError> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = NETLINK_HEADER_LEN + GENERIC_HEADER_LEN + body.len();
        let mut message = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
        message.extend(family.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend([command, 1, 0, 0]); // version 1 of every family used here
        message.extend(body);
        match self.socket.send(&message, 0) {
            Ok(sent) if sent == message.len() => Ok(()),
            Ok(_) => Err(GenericError::Inconsistent { what: "the kernel took half a message" }),
            Err(source) => Err(GenericError::Socket { operation: "write to", source }),
        }
    }

    /// Reads until the end of the answer. None: it was interrupted by a change.
    fn collect(&self, operation: &str, family: u16) -> Result<Option<Vec<Vec<u8>>>, GenericError> {
        let (mut messages, mut consistent) = (Vec::new(), true);
        loop {
            let (datagram, _) = self
                .socket
                .recv_from_full()
                .map_err(|source| GenericError::Socket { operation: "read from", source })?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let cut = GenericError::Inconsistent { what: "a netlink message is cut off" };
                let (message, after) = Message::cut(rest).ok_or(cut)?;
                rest = after;
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        message.verdict(operation)?;
                        return Ok(consistent.then_some(messages));
                    }
                    kind if kind == family => {
                        let body = message.body.get(GENERIC_HEADER_LEN..).unwrap_or_default();
                        messages.push(body.to_vec());
                    }
                    _ => {}
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    fn cut(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let (flags, rest) = rest.split_first_chunk::<2>()?;
        let (sequence, _) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let message = Self {
            kind: u16::from_ne_bytes(*kind),
            flags: u16::from_ne_bytes(*flags),
            sequence: u32::from_ne_bytes(*sequence),
            body: bytes.get(NETLINK_HEADER_LEN..length)?,
        };
        Some((message, bytes.get(aligned(length)..).unwrap_or_default()))
    }

    /// Of `NLMSG_ERROR` and, in a dump, of `NLMSG_DONE`: a negative errno, or 0.
    fn verdict(&self, operation: &str) -> Result<(), GenericError> {
        match self.body.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
            None | Some(0) => Ok(()),
            Some(code) => Err(GenericError::Refused {
                operation: operation.to_owned(),
                errno: Errno::from_raw(code.saturating_neg()),
            }),
        }
    }
}

/// The attributes of a message.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    pub(super) fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.bytes(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned())
    }

    pub(super) fn u16(&self, kind: u16) -> Option<u16> {
        self.bytes(kind)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
    }

    fn bytes(&self, wanted: u16) -> Option<&'a [u8]> {
        let mut rest = self.0;
        loop {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (kind, _) = after.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_ne_bytes(*length));
            let value = rest.get(ATTRIBUTE_HEADER_LEN..length)?;
            if u16::from_ne_bytes(*kind) & ATTRIBUTE_KIND_MASK == wanted {
                return Some(value);
            }
            rest = rest.get(aligned(length)..)?;
        }
    }
}

/// A string attribute, padded.
pub(super) fn attribute_text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

/// An attribute of any value, padded.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = ATTRIBUTE_HEADER_LEN + value.len();
    let mut bytes = u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(aligned(length), 0);
    bytes
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_padding_and_nonsense_is_none() {
        let mut bytes = attribute_text(3, "eth1");
        assert_eq!(bytes.len(), 12);
        bytes.extend(attribute_text(0x8001, "a"));
        assert_eq!(Attributes(&bytes).text(3).unwrap(), "eth1");
        assert_eq!(Attributes(&bytes).text(1).unwrap(), "a");
        assert_eq!(Attributes(&bytes).text(2), None);
        for broken in [&[0_u8, 0, 3, 0][..], &[255, 255, 3, 0, 1], &[4], &[]] {
            assert_eq!(Attributes(broken).text(3), None);
        }
    }

    #[test]
    fn a_cut_off_message_is_none_and_an_error_names_its_number() {
        let mut bytes = vec![20_u8, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        assert!(Message::cut(&bytes).is_none());
        bytes.extend((-19_i32).to_ne_bytes());
        let (message, rest) = Message::cut(&bytes).unwrap();
        assert_eq!((message.kind, message.sequence, rest.len()), (NLMSG_ERROR, 7, 0));
        assert_eq!(message.verdict("x").unwrap_err().errno(), Some(Errno::ENODEV));
    }

    #[test]
    fn the_kernel_lists_its_families() {
        let mut connection = Connection::open().unwrap();
        let replies = connection.dump(0x10, 3, &[]).unwrap();
        let names: Vec<_> = replies.iter().filter_map(|reply| Attributes(reply).text(2)).collect();
        assert!(names.contains(&"nlctrl".to_owned()), "{names:?}");
        let refused = connection.request("guess", 0x10, 200, &[]).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::EOPNOTSUPP));
    }
}
