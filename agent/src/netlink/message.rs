//! The frame around netlink messages, and what answers say.

use super::attribute::{self, align};
use super::error::NetlinkError;
use std::io;

/// In an answer: the request's body is not repeated.
const NLM_F_CAPPED: u16 = 0x100;
/// In an answer: attributes with the kernel's own words follow.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

pub(super) const NLMSG_NOOP: u16 = 1;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_OVERRUN: u16 = 4;

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// One message of an answer.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

pub(super) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(align(HEADER + body.len()));
    let at = start(&mut bytes);
    bytes.extend_from_slice(body);
    finish(&mut bytes, at, (kind, flags), sequence);
    bytes
}

/// Leaves room for a header at the end of a datagram, and says where it begins.
pub(super) fn start(datagram: &mut Vec<u8>) -> usize {
    let at = datagram.len();
    datagram.resize(at + HEADER, 0);
    at
}

/// Writes the header of the message that began at `at` and ends with the datagram.
pub(super) fn finish(datagram: &mut Vec<u8>, at: usize, (kind, flags): (u16, u16), sequence: u32) {
    // a message of 4 GiB would not have been built
    let length = u32::try_from(datagram.len() - at).unwrap_or(u32::MAX);
    let Some(header) = datagram.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<HEADER>())
    else {
        return;
    };
    let [l0, l1, l2, l3] = length.to_ne_bytes();
    let ([k0, k1], [f0, f1]) = (kind.to_ne_bytes(), flags.to_ne_bytes());
    let [s0, s1, s2, s3] = sequence.to_ne_bytes();
    *header = [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, 0, 0, 0, 0];
    datagram.resize(align(datagram.len()), 0);
}

/// Takes the next message off a datagram; a datagram that ends inside one is an error.
pub(super) fn next_message<'a>(
    rest: &mut &'a [u8],
    operation: &str,
) -> Result<Option<Message<'a>>, NetlinkError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let cut = || NetlinkError::Undecodable {
        operation: operation.into(),
        detail: "the datagram ends inside a message".into(),
        kind: 0,
        bytes: attribute::hex(rest.get(..rest.len().min(64)).unwrap_or_default()),
    };
    let header: &[u8; HEADER] = rest.first_chunk().ok_or_else(cut)?;
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
    let length = u32::from_ne_bytes([l0, l1, l2, l3]);
    let length = usize::try_from(length).ok().ok_or_else(cut)?;
    let body = rest.get(HEADER..length).ok_or_else(cut)?;
    *rest = rest.get(align(length)..).unwrap_or_default();
    Ok(Some(Message {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        body,
    }))
}

/// What an `NLMSG_ERROR` says: none is success.
pub(super) fn outcome(
    message: &Message<'_>,
    operation: &str,
) -> Result<Option<NetlinkError>, NetlinkError> {
    let cut = || undecodable(operation, message, "an error message that is too short");
    let code = i32::from_ne_bytes(*message.body.first_chunk().ok_or_else(cut)?);
    if code == 0 {
        return Ok(None);
    }
    let repeated: &[u8; 4] = message.body.get(4..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
    let repeated = if message.flags & NLM_F_CAPPED == 0 {
        usize::try_from(u32::from_ne_bytes(*repeated)).ok().ok_or_else(cut)?
    } else {
        HEADER
    };
    Ok(Some(refused(code, message, 4 + align(repeated), operation)))
}

/// What an `NLMSG_DONE` says: a dump can fail at its end.
pub(super) fn done(message: &Message<'_>, operation: &str) -> Result<(), NetlinkError> {
    let code = message.body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 { Ok(()) } else { Err(refused(code, message, 4, operation)) }
}

/// The kernel's refusal; its attributes start at `offset` of the body.
fn refused(code: i32, message: &Message<'_>, offset: usize, operation: &str) -> NetlinkError {
    let attributes = (message.flags & NLM_F_ACK_TLVS != 0)
        .then(|| message.body.get(offset..).and_then(|bytes| attribute::parse(bytes).ok()))
        .flatten()
        .unwrap_or_default();
    let explanation = attributes
        .iter()
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .and_then(|attribute| attribute.text().ok());
    let source = io::Error::from_raw_os_error(code.saturating_neg());
    NetlinkError::Kernel { operation: operation.into(), explanation, source }
}

pub(super) fn undecodable(operation: &str, message: &Message<'_>, why: &str) -> NetlinkError {
    NetlinkError::Undecodable {
        operation: operation.into(),
        detail: why.into(),
        kind: message.kind,
        bytes: attribute::hex(message.body.get(..message.body.len().min(128)).unwrap_or_default()),
    }
}

pub(super) fn overrun(operation: &str) -> NetlinkError {
    NetlinkError::Overrun { operation: operation.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_core::error::{Reasoned as _, chain};

    fn datagram(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        message(kind, flags, 1, body)
    }

    #[test]
    fn an_error_at_the_end_of_a_dump_is_seen() {
        let mut body = (-nix::libc::EMSGSIZE).to_ne_bytes().to_vec();
        attribute::push(&mut body, NLMSGERR_ATTR_MSG, b"too long\0");
        let bytes = datagram(NLMSG_DONE, NLM_F_ACK_TLVS, &body);
        let message = next_message(&mut bytes.as_slice(), "dump").unwrap().unwrap();
        let error = done(&message, "dump").unwrap_err();
        assert_eq!(error.errno(), Some(nix::libc::EMSGSIZE));
        assert!(
            chain(&error).contains("the kernel says \"too long\": Message too long"),
            "{error}"
        );
    }

    #[test]
    fn the_kernels_words_are_found_behind_a_repeated_request() {
        let request = datagram(24, 0, &[9; 6]);
        let mut body = (-22i32).to_ne_bytes().to_vec();
        body.extend(&request);
        attribute::push(&mut body, NLMSGERR_ATTR_MSG, b"no\0");
        let bytes = datagram(NLMSG_ERROR, NLM_F_ACK_TLVS, &body);
        let message = next_message(&mut bytes.as_slice(), "add").unwrap().unwrap();
        let error = outcome(&message, "add").unwrap().unwrap();
        assert!(chain(&error).contains("\"no\": Invalid argument"), "{}", chain(&error));
    }

    #[test]
    fn a_cut_datagram_is_an_error() {
        let bytes = datagram(24, 0, &[1; 12]);
        let mut rest = &bytes[..20];
        let error = next_message(&mut rest, "dump").err().unwrap();
        assert_eq!(error.reason(), "NetlinkUndecodable");
        let mut rest = &bytes[..7];
        assert!(next_message(&mut rest, "dump").is_err());
    }
}
