//! A gateway, asked by ARP (RFC 826) or Neighbour Solicitation (RFC 4861) out of one link.
//!
//! Whole frames by a packet socket: routes, addresses and neighbour entries, which are what
//! moves, have no say in it, and what the kernel remembers of the gateway does not answer.

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    socket,
};
use pointsman_core::error::Reasoned;
use pointsman_core::probe::Gateway;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Between two questions to one that is silent.
const AGAIN: Duration = Duration::from_millis(300);
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;

/// Nobody could be asked, or nobody answered who should.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The packet socket.
    #[error("{operation} a packet socket on {link}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// The device.
        link: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No such device, or none with a MAC.
    #[error("{link} is no device out of which a gateway can be asked")]
    NoLink {
        /// The device.
        link: String,
    },
    /// A bridge with `fail_mode` secure does not forward what the node needs.
    #[error(
        "{bridge} has fail_mode secure, and {gateways} does not answer out of it: its flows do not let the node's traffic pass, or its controller has not written any; let them (`ovs-ofctl dump-flows {bridge}`), or set fail_mode standalone"
    )]
    SecureBridgeSilent {
        /// Its name.
        bridge: String,
        /// Who is silent.
        gateways: String,
    },
}

impl Reasoned for ProbeError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Socket { .. } | Self::NoLink { .. } => "ProbeFailed",
            Self::SecureBridgeSilent { .. } => "SecureBridgeSilent",
        }
    }

    fn is_transient(&self) -> bool {
        false
    }
}

/// Who of these answers out of a link, asked until all have or the time is over.
pub fn answering(
    link: &str,
    gateways: &[Gateway],
    limit: Duration,
) -> Result<Vec<IpAddr>, ProbeError> {
    let mut heard = Vec::new();
    if gateways.is_empty() {
        return Ok(heard);
    }
    let wire = Wire::open(link)?;
    let deadline = Instant::now() + limit;
    loop {
        for gateway in gateways.iter().filter(|gateway| !heard.contains(&gateway.ip)) {
            wire.ask(gateway)?;
        }
        let round = deadline.min(Instant::now() + AGAIN);
        while let Some(from) = wire.hear(round)? {
            if gateways.iter().any(|g| g.ip == from) && !heard.contains(&from) {
                heard.push(from);
            }
            if gateways.iter().all(|gateway| heard.contains(&gateway.ip)) {
                return Ok(heard);
            }
        }
        if Instant::now() >= deadline {
            return Ok(heard);
        }
    }
}

/// A packet socket on one link.
pub(super) struct Wire {
    socket: OwnedFd,
    link: String,
    index: usize,
    mac: [u8; 6],
}

impl Wire {
    pub(super) fn open(link: &str) -> Result<Self, ProbeError> {
        let failed = |operation| {
            let link = link.to_owned();
            move |errno: Errno| ProbeError::Socket { operation, link, source: errno.into() }
        };
        let mut devices = getifaddrs().map_err(failed("find the device for"))?;
        let found = devices.find_map(|entry| {
            let address = *entry.address.as_ref()?.as_link_addr()?;
            (entry.interface_name == link).then_some(address)
        });
        let found: LinkAddr = found.ok_or_else(|| ProbeError::NoLink { link: link.to_owned() })?;
        let mac = found.addr().ok_or_else(|| ProbeError::NoLink { link: link.to_owned() })?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let kind = SockType::Raw;
        let socket = socket(AddressFamily::Packet, kind, flags, SockProtocol::EthAll)
            .map_err(failed("open"))?;
        // the address names no protocol, which leaves the socket its own: packet(7)
        bind(socket.as_raw_fd(), &found).map_err(failed("bind"))?;
        Ok(Self { socket, link: link.to_owned(), index: found.ifindex(), mac })
    }

    /// A link that is down for a moment, or a queue that is full, is asked again.
    fn ask(&self, gateway: &Gateway) -> Result<(), ProbeError> {
        let frame = match (gateway.ip, gateway.source) {
            (IpAddr::V4(ip), IpAddr::V4(source)) => arp_request(self.mac, source, ip),
            (IpAddr::V6(ip), IpAddr::V6(source)) => solicitation(self.mac, source, ip),
            _ => return Ok(()),
        };
        self.say(&frame)
    }

    pub(super) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    pub(super) fn say(&self, frame: &[u8]) -> Result<(), ProbeError> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENETDOWN | Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.failed("write to", errno)),
        }
    }

    /// Whose answer comes next; none where none does in time.
    fn hear(&self, deadline: Instant) -> Result<Option<IpAddr>, ProbeError> {
        let mut frame = [0; 256];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
                // before it was bound it heard every link
                Ok((length, from)) if from.is_none_or(|from| from.ifindex() == self.index) => {
                    if let Some(answer) = frame.get(..length).and_then(answer_in) {
                        return Ok(Some(answer));
                    }
                }
                Ok(_) | Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(Errno::EAGAIN) if !left.is_zero() => {
                    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                    let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut waiting, timeout) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(errno) => return Err(self.failed("wait for", errno)),
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(self.failed("read from", errno)),
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> ProbeError {
        ProbeError::Socket { operation, link: self.link.clone(), source: errno.into() }
    }
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes()].concat()
}

fn arp_request(mac: [u8; 6], source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(1, (mac, source), ([0; 6], target))
}

/// A broadcast of operation 1 (request) or 2 (reply), from and to.
pub(super) fn arp(
    operation: u8,
    (mac, source): ([u8; 6], Ipv4Addr),
    (to_mac, target): ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    const ETHERNET_IPV4: [u8; 7] = [0, 1, 8, 0, 6, 4, 0];
    let mut frame = ethernet([0xff; 6], mac, ARP);
    frame.extend(ETHERNET_IPV4);
    frame.push(operation);
    frame.extend([&mac[..], &source.octets(), &to_mac, &target.octets()].concat());
    frame
}

fn solicitation(mac: [u8; 6], source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group =
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]); // source link-layer address, in units of eight bytes
    message.extend(mac);
    icmpv6((mac, source), ([0x33, 0x33, 0xff, a, b, c], group), message)
}

/// A message of neighbour discovery whose checksum is still zero, from and to.
pub(super) fn icmpv6(
    (mac, source): ([u8; 6], Ipv6Addr),
    (to_mac, to): ([u8; 6], Ipv6Addr),
    mut message: Vec<u8>,
) -> Vec<u8> {
    let sum = checksum(source, to, &message);
    if let Some(place) = message.get_mut(2..4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let mut frame = ethernet(to_mac, mac, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(u16::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend([&source.octets()[..], &to.octets(), &message].concat());
    frame
}

/// RFC 8200 section 8.1, of a message whose own checksum is zero.
fn checksum(source: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(0);
    let next = u32::from(ICMPV6);
    let whole =
        [&source.octets()[..], &to.octets(), &length.to_be_bytes(), &next.to_be_bytes(), message]
            .concat();
    let mut sum = 0_u32;
    for pair in whole.chunks(2) {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([high, low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Who says in this frame that an address is its own.
fn answer_in(frame: &[u8]) -> Option<IpAddr> {
    let kind = u16::from_be_bytes(frame.get(12..ETHERNET_LEN)?.try_into().ok()?);
    let body = frame.get(ETHERNET_LEN..)?;
    match kind {
        ARP => {
            const REPLY: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];
            let sender: [u8; 4] = body.get(14..18)?.try_into().ok()?;
            (body.get(..8)? == REPLY).then(|| Ipv4Addr::from(sender).into())
        }
        IPV6 => {
            let message = body.get(IPV6_LEN..)?;
            let is_one = body.get(6) == Some(&ICMPV6) && message.first() == Some(&ADVERTISEMENT);
            let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
            is_one.then(|| Ipv6Addr::from(target).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 2];

    #[test]
    fn a_solicitation_sums_up_to_nothing() {
        let (source, target) = ("fd00:77::2".parse().unwrap(), "fd00:77::1:203".parse().unwrap());
        let frame = solicitation(MAC, source, target);
        assert_eq!(frame.len(), ETHERNET_LEN + IPV6_LEN + 32);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 1, 2, 3]);
        let group = "ff02::1:ff01:203".parse().unwrap();
        assert_eq!(frame[38..54], Ipv6Addr::octets(&group));
        let message = &frame[ETHERNET_LEN + IPV6_LEN..];
        assert_eq!(checksum(source, group, message), 0);
    }

    #[test]
    fn only_answers_are_answers() {
        let ip: Ipv4Addr = "10.0.2.2".parse().unwrap();
        let mut frame = arp_request(MAC, ip, ip);
        assert_eq!(answer_in(&frame), None);
        frame[21] = 2;
        assert_eq!(answer_in(&frame), Some(ip.into()));
        for end in 0..frame.len() {
            // as much as names the sender is enough
            let expected = (end >= 32).then_some(ip.into());
            assert_eq!(answer_in(&frame[..end]), expected, "{end}");
        }
        let ip: Ipv6Addr = "fd00::1".parse().unwrap();
        let mut frame = solicitation(MAC, ip, ip);
        assert_eq!(answer_in(&frame), None);
        frame[54] = ADVERTISEMENT;
        assert_eq!(answer_in(&frame), Some(ip.into()));
    }
}
