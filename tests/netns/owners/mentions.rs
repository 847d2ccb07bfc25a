//! What names the uplink is in the plan's notes, as `nft`, `tc`, `ip` and sockets put it there.

use super::super::ip;
use super::bed::Bed;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use std::net::UdpSocket;
use support::ovs::command;

#[test]
fn rules_and_sockets_that_name_the_uplink() {
    let bed = Bed::enter();
    ip("address add 10.77.0.2/24 dev eth1");
    let accept = ["UplinkNotPersistent"];
    let before = bed.notes(&accept);
    for quiet in ["nftables", "qdisc", "XFRM", "is bound to eth1"] {
        assert!(!before.contains(quiet), "{before}");
    }
    command(&["tc", "qdisc", "add", "dev", "eth1", "clsact"]);
    command(&["tc", "qdisc", "add", "dev", "eth0", "ingress"]);
    let udp = UdpSocket::bind("0.0.0.0:5353").unwrap();
    setsockopt(&udp, sockopt::BindToDevice, &"eth1".into()).unwrap();
    let tcp = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::empty(), None).unwrap();
    setsockopt(&tcp, sockopt::BindToDevice, &"eth1".into()).unwrap();
    nix::sys::socket::bind(
        std::os::fd::AsRawFd::as_raw_fd(&tcp),
        &nix::sys::socket::SockaddrIn6::from(std::net::SocketAddrV6::new(
            std::net::Ipv6Addr::UNSPECIFIED,
            8443,
            0,
            0,
        )),
    )
    .unwrap();
    nix::sys::socket::listen(&tcp, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    let rules = "table inet a { chain b { type filter hook input priority 0; \
        iifname \"eth1\" accept; iifname \"eth0\" accept; oifname \"eth1\" accept; iif \"eth1\" drop; }; }\n\
        table netdev c { chain d { type filter hook ingress device \"eth1\" priority 0; }; }\n";
    bed.put("/run/rules", rules);
    command(&["nft", "-f", bed.root().join("run/rules").to_str().unwrap()]);
    ip("xfrm policy add src 10.0.0.0/24 dst 10.1.0.0/24 dev eth1 dir out");
    let notes = bed.notes(&accept);
    for words in [
        "3 rules of nftables in a b name eth1",
        "the nftables chain c d hooks on eth1",
        "the tc qdisc clsact of eth1",
        "1 XFRM policies name eth1",
        "a UDP socket of port 5353 is bound to eth1",
        "a TCP socket of port 8443 is bound to eth1",
    ] {
        assert!(notes.contains(words), "{words} is not in {notes}");
    }
    assert!(!notes.contains("eth0"), "{notes}");
    assert!(!notes.contains("could not be listed"), "{notes}");
}
