//! What is said on the wire of moved addresses, byte by byte, and what a neighbour makes of it.

use super::{NIC, apply, enter, ip};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use pointsman_core::plan::handover::Step;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};
use support::netns::Peer;

const MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 2];
const LONG: Duration = Duration::from_secs(30);

fn say(addresses: &[&str], router: bool) {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    apply(Step::Announce { link: NIC.into(), addresses, router }).unwrap();
}

/// All that arrives at the other end of the wire.
fn listen() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let raw = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
    let at = getifaddrs()
        .unwrap()
        .find_map(|entry| {
            let address = *entry.address.as_ref()?.as_link_addr()?;
            (entry.interface_name == "eth1-peer").then_some(address)
        })
        .map(|found: LinkAddr| found)
        .unwrap();
    bind(raw.as_raw_fd(), &at).unwrap();
    setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200)).unwrap();
    raw
}

/// The next so many frames that speak for an address of ours.
fn hear(wire: &OwnedFd, count: usize) -> Vec<Vec<u8>> {
    let start = Instant::now();
    let mut heard = Vec::new();
    while heard.len() < count {
        assert!(start.elapsed() < LONG, "{} of {count} frames: {heard:02x?}", heard.len());
        let mut frame = [0; 256];
        let Ok(length) = recv(wire.as_raw_fd(), &mut frame, MsgFlags::empty()) else { continue };
        let frame = &frame[..length];
        let is_arp = frame[12..14] == [8, 6];
        let is_advertisement = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 136;
        if frame[6..12] == MAC && (is_arp || is_advertisement) {
            heard.push(frame.to_vec());
        }
    }
    heard
}

#[test]
fn two_frames_of_arp_and_one_advertisement() {
    enter();
    // what the kernel would say by itself is not to be counted
    ip("link set eth1 addrgenmode none");
    ip("address add 10.77.0.2/24 dev eth1");
    ip("address add fd00:77::2/64 dev eth1 nodad");
    let wire = listen();
    say(&["10.77.0.2", "fd00:77::2"], true);
    let heard = hear(&wire, 3);
    let (own, nobody) = ([10, 77, 0, 2], [0; 6]);
    let arp = |operation: u8, to: [u8; 6]| {
        [&[0xff; 6][..], &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation], &MAC, &own, &to, &own]
            .concat()
    };
    assert_eq!(heard[..2], [arp(1, nobody), arp(2, MAC)]);
    let advertisement = &heard[2];
    assert_eq!(advertisement.len(), 14 + 40 + 32);
    assert_eq!(advertisement[..12], [&[0x33, 0x33, 0, 0, 0, 1][..], &MAC].concat());
    let address: std::net::Ipv6Addr = "fd00:77::2".parse().unwrap();
    let all: std::net::Ipv6Addr = "ff02::1".parse().unwrap();
    assert_eq!(advertisement[20..22], [58, 255], "ICMPv6, and by no router");
    assert_eq!(advertisement[22..38], address.octets());
    assert_eq!(advertisement[38..54], all.octets());
    assert_eq!(advertisement[54..56], [136, 0]);
    assert_eq!(advertisement[58..62], [0xa0, 0, 0, 0], "router, override, unasked");
    assert_eq!(advertisement[62..78], address.octets());
    assert_eq!(advertisement[78..], [&[2, 1][..], &MAC].concat());
    say(&["fd00:77::2"], false);
    assert_eq!(hear(&wire, 1)[0][58], 0x20, "override alone");
}

/// The kernel of a neighbour is the judge: it takes the MAC at once, and the checksum is right.
#[test]
fn a_neighbour_that_knows_another_mac_learns_this_one() {
    enter();
    ip("address add 10.77.0.2/24 dev eth1");
    ip("address add fd00:77::2/64 dev eth1 nodad");
    let far = Peer::start();
    far.takes("eth1-peer");
    far.ip("address add 10.77.0.1/24 dev eth1-peer");
    far.ip("address add fd00:77::1/64 dev eth1-peer nodad");
    far.ip("link set eth1-peer up");
    let known = |mac: &str| {
        let shown = |family: &str| far.ip(&format!("{family} neighbour show dev eth1-peer"));
        shown("-4").contains(mac) && shown("-6").contains(mac)
    };
    let other = "02:00:00:00:77:99";
    for own in ["10.77.0.2", "fd00:77::2"] {
        far.ip(&format!("neighbour replace {own} lladdr {other} dev eth1-peer nud stale"));
    }
    assert!(known(other));
    let start = Instant::now();
    while !known("02:00:00:00:77:02") {
        assert!(start.elapsed() < LONG, "{}", far.ip("neighbour show dev eth1-peer"));
        // a wire that has just come up may swallow the first ones
        say(&["10.77.0.2", "fd00:77::2"], false);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Nobody is told, and nothing fails for it.
#[test]
fn what_cannot_be_said_is_a_note() {
    enter();
    let addresses = vec!["10.77.0.2".parse().unwrap()];
    let step = Step::Announce { link: "none0".into(), addresses, router: false };
    let mut notes = Vec::new();
    let executor = super::executor(std::path::Path::new("/nonexistent"));
    executor.apply_noting(&pointsman_core::plan::Step::Handover(step), &mut notes).unwrap();
    assert!(notes[0].contains("were not announced out of none0"), "{notes:?}");
}
