//! The kernel's own bytes, by a reader that shares nothing with the agent's.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};

const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const NEWNEIGH: u16 = 28;
const NEWRULE: u16 = 32;
const NEWNEXTHOP: u16 = 104;

/// One object: words that are to be equal, and seconds that run down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub words: String,
    pub seconds: Vec<u32>,
}

/// Every object that is compared, addresses and rules in order. `owner` is the number and the
/// name of the link that owns the addresses.
pub fn objects(owner: (u32, &str)) -> Vec<Object> {
    let addresses = [2, 10].map(|family| dump(NEWADDR, &[family, 0, 0, 0, 0, 0, 0, 0]));
    let routes = [2, 10].map(|family| dump(NEWROUTE, &[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let rules = [2, 10].map(|family| dump(NEWRULE, &[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let mut neighbours = Vec::new();
    for (family, flags) in [(2, 0), (2, 8), (10, 0), (10, 8)] {
        neighbours.extend(dump(NEWNEIGH, &[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, flags, 0]));
    }
    let decoded = |messages: Vec<Vec<u8>>, decode: fn(&[u8], (u32, &str)) -> Option<Object>| {
        messages.iter().filter_map(|body| decode(body, owner)).collect::<Vec<_>>()
    };
    let mut unordered = decoded(routes.concat(), route);
    unordered.extend(decoded(neighbours, neighbour));
    unordered.extend(decoded(dump(NEWNEXTHOP, &[0; 8]), nexthop));
    unordered.sort();
    [decoded(addresses.concat(), address), decoded(rules.concat(), rule), unordered].concat()
}

/// Adds an address with an `IFA_PROTO` and without duplicate address detection.
pub fn add_address(link: &str, address: &str, protocol: u8) {
    let index = nix::net::if_::if_nametoindex(link).unwrap();
    let (ip, len) = address.split_once('/').unwrap();
    let (family, ip): (u8, Vec<u8>) = match ip.parse().unwrap() {
        std::net::IpAddr::V4(ip) => (2, ip.octets().to_vec()),
        std::net::IpAddr::V6(ip) => (10, ip.octets().to_vec()),
    };
    let mut body = vec![family, len.parse().unwrap(), 2, 0];
    body.extend(index.to_ne_bytes());
    for (kind, value) in [(1u16, ip.clone()), (2, ip), (11, vec![protocol])] {
        body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(&value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    // NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE
    let socket = ask(NEWADDR, 0x405, &body);
    let mut answer = [0; 256];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
    assert_eq!((answer[4], word(&answer, 16)), (2, 0), "{address}: {answer:?}");
}

fn ask(kind: u16, flags: u16, body: &[u8]) -> OwnedFd {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .unwrap();
    let mut request = Vec::new();
    request.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    send(socket.as_raw_fd(), &request, MsgFlags::empty()).unwrap();
    socket
}

/// Bodies of all messages of a dump.
fn dump(reply: u16, header: &[u8]) -> Vec<Vec<u8>> {
    // RTM_GET… is RTM_NEW… plus two; NLM_F_REQUEST and NLM_F_DUMP
    let socket = ask(reply + 2, 0x301, header);
    let mut found = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            match u16::from_ne_bytes(rest[4..6].try_into().unwrap()) {
                3 => return found,
                kind => assert_eq!(kind, reply, "{rest:02x?}"),
            }
            found.push(rest[16..length].to_vec());
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// Numbers and values, by number.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        found.push((u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff, bytes[4..length].to_vec()));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found.sort();
    found
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

fn link(number: u32, owner: (u32, &str)) -> String {
    if number == owner.0 { "OWNER".into() } else { format!("link {number}") }
}

fn object(what: &str, header: &[u8], attributes: &[(u16, String)]) -> Object {
    Object { words: format!("{what} {header:02x?} {attributes:?}"), seconds: Vec::new() }
}

fn hex(bytes: &[u8]) -> String {
    format!("{bytes:02x?}")
}

fn address(body: &[u8], owner: (u32, &str)) -> Option<Object> {
    // tentative, permanent and the like are state
    const STATE: u32 = 0x08 | 0x20 | 0x40 | 0x80;
    let mut header = body[..8].to_vec();
    let temporary = header[2] & 1 != 0;
    if word(body, 4) != owner.0 || (header[0] == 10 && (header[3] == 253 || temporary)) {
        return None;
    }
    (header[2], header[4], header[5], header[6], header[7]) = (0, 0, 0, 0, 0);
    let mut seconds = Vec::new();
    let mut words = Vec::new();
    for (kind, value) in attributes(&body[8..]) {
        match kind {
            3 => words.push((kind, text(&value).replace(owner.1, "OWNER"))),
            6 => seconds = vec![word(&value, 0), word(&value, 4)],
            8 => words.push((kind, (word(&value, 0) & !STATE).to_string())),
            _ => words.push((kind, hex(&value))),
        }
    }
    Some(Object { seconds, ..object("address", &header, &words) })
}

fn route(body: &[u8], owner: (u32, &str)) -> Option<Object> {
    // the kernel makes an IPv6 address's own route a moment after the address
    if body[0] == 10 && (body[4], body[5]) == (255, 2) {
        return None;
    }
    let mut seconds = Vec::new();
    let mut words = Vec::new();
    for (kind, value) in attributes(&body[12..]) {
        match kind {
            1 if body[0] == 10 && (value[0] == 0xff || value[..2] == [0xfe, 0x80]) => return None,
            4 => words.push((kind, link(word(&value, 0), owner))),
            9 => words.push((kind, legs(&value, owner))),
            12 => seconds = vec![word(&value, 8) / 100],
            _ => words.push((kind, hex(&value))),
        }
    }
    Some(Object { seconds, ..object("route", &body[..12], &words) })
}

/// Legs of a multipath route; IPv6 tells them in no order of ours.
fn legs(mut bytes: &[u8], owner: (u32, &str)) -> String {
    let mut legs = Vec::new();
    while bytes.len() >= 8 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let by = link(word(bytes, 4), owner);
        legs.push(format!("{:02x?} {by} {:02x?}", &bytes[2..4], attributes(&bytes[8..length])));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    legs.sort();
    legs.join("; ")
}

fn rule(body: &[u8], owner: (u32, &str)) -> Option<Object> {
    let name = |(kind, value): &(u16, Vec<u8>)| match kind {
        3 | 17 if text(value) == owner.1 => (*kind, "OWNER".to_owned()),
        3 | 17 => (*kind, text(value)),
        _ => (*kind, hex(value)),
    };
    let words: Vec<_> = attributes(&body[12..]).iter().map(name).collect();
    Some(object("rule", &body[..12], &words))
}

/// Static entries and proxies.
fn neighbour(body: &[u8], owner: (u32, &str)) -> Option<Object> {
    let permanent = body[8] & 0x80 != 0;
    let proxy = body[10] & 8 != 0;
    let mut header = body[..12].to_vec();
    header[4..8].fill(0);
    // times and counters
    let keep = |(kind, _): &(u16, Vec<u8>)| ![3, 4].contains(kind);
    let all: Vec<_> = attributes(&body[12..]).into_iter().filter(keep).collect();
    let multicast = all.iter().any(|(kind, ip)| *kind == 1 && (ip[0] == 0xff || ip[0] == 224));
    let words: Vec<_> = all.iter().map(|(kind, value)| (*kind, hex(value))).collect();
    let ours = word(body, 4) == owner.0 && !multicast;
    (ours && (permanent || proxy)).then(|| object("neighbour", &header, &words))
}

fn nexthop(body: &[u8], owner: (u32, &str)) -> Option<Object> {
    let mut words = Vec::new();
    for (kind, value) in attributes(&body[8..]) {
        match kind {
            5 => words.push((kind, link(word(&value, 0), owner))),
            // of a resilient group: how long it has been out of balance is no setting
            12 => {
                let settings = attributes(&value).into_iter().filter(|(kind, _)| *kind < 4);
                words.push((kind, format!("{:02x?}", settings.collect::<Vec<_>>())));
            }
            _ => words.push((kind, hex(&value))),
        }
    }
    Some(object("nexthop", &body[..8], &words))
}
