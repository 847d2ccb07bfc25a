//! The fastest that there is: datagrams of 500 messages, encoded before the clock starts, the
//! last of each acknowledged.

use crate::failed;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use support::vm::Result;

pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const PER_DATAGRAM: usize = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Append,
    Replace,
    Delete,
}

/// The so manieth destination, a /24.
pub(super) fn destination(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + (number << 8))
}

/// Changes so many routes by a link; how long the kernel took.
pub(super) fn routes(change: Change, link: &str, many: u32) -> Result<Duration> {
    let index = nix::net::if_::if_nametoindex(link).map_err(failed)?;
    let numbers: Vec<u32> = (0..many).collect();
    let datagrams: Vec<Vec<u8>> = numbers
        .chunks(PER_DATAGRAM)
        .map(|chunk| {
            let last = chunk.last().copied();
            let message = |number: &u32| encode(change, *number, index, Some(*number) == last);
            chunk.iter().flat_map(message).collect()
        })
        .collect();
    let socket = open()?;
    let mut answer = vec![0; 64 << 10];
    let began = Instant::now();
    for datagram in &datagrams {
        send(socket.as_raw_fd(), datagram, MsgFlags::empty()).map_err(failed)?;
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(failed)?;
        // only failures come before the last one's answer
        if length < 20 || answer[16..20] != [0; 4] {
            return Err(failed(format!("a route was refused: {:02x?}", &answer[..length])));
        }
    }
    Ok(began.elapsed())
}

fn open() -> Result<OwnedFd> {
    let (raw, route) = (SockType::Raw, SockProtocol::NetlinkRoute);
    let socket =
        socket(AddressFamily::Netlink, raw, SockFlag::SOCK_CLOEXEC, route).map_err(failed)?;
    setsockopt(&socket, sockopt::SndBufForce, &(1 << 20)).map_err(failed)?;
    Ok(socket)
}

/// `struct nlmsghdr`, `struct rtmsg`, and `RTA_DST`, `RTA_GATEWAY`, `RTA_OIF`.
fn encode(change: Change, number: u32, index: u32, ack: bool) -> Vec<u8> {
    let (kind, flags): (u16, u16) = match change {
        Change::Append => (24, 0xc01),
        Change::Replace => (24, 0x501),
        Change::Delete => (25, 0x001),
    };
    let mut message = Vec::with_capacity(52);
    message.extend(52u32.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | if ack { 4 } else { 0 }).to_ne_bytes());
    message.extend((number + 1).to_ne_bytes());
    message.extend([0; 4]);
    // AF_INET, 24 bits, main, static, universe, unicast
    message.extend([2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
    for (attribute, value) in
        [(1u16, destination(number).octets()), (5, GATEWAY.octets()), (4, index.to_ne_bytes())]
    {
        message.extend(8u16.to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(value);
    }
    message
}
