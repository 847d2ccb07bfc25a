//! The rules of the ingress shield (`pointsman_core::model::Shield`).

use super::expression::{Base, Comparison, Expression, Meta};
use super::{End, delete_table, new_chain, new_rule, new_table, tables, transaction};
use crate::netlink::{Links, NetlinkError};
use nix::libc::{EAFNOSUPPORT, EINVAL, ENOENT, EOPNOTSUPP};
use pointsman_core::model::{SHIELD_ENTRY, SHIELD_TABLE};

const CHAIN: &str = "ingress";
/// Never there: what is only asked about has another name than what is made.
const QUESTION: &str = "pointsman-question";

/// `ARPHRD_ETHER`, as the processor has it.
const ETHERNET: [u8; 2] = 1_u16.to_ne_bytes();
const IPV4: &[u8] = &[0x08, 0x00];
const IPV6: &[u8] = &[0x86, 0xdd];

/// `PACKET_HOST` is what has the device's own MAC.
const NOT_OURS: [Expression<'_>; 2] =
    [Expression::Meta(Meta::PacketType), Expression::Compare(Comparison::Differs, &[0])];
/// `icmpv6 type 133-137`: from router solicitation to redirect.
const DISCOVERY: [Expression<'_>; 5] = [
    Expression::Meta(Meta::L4Protocol),
    Expression::Compare(Comparison::Equal, &[58]),
    Expression::Payload { base: Base::Transport, offset: 0, length: 1 },
    Expression::Compare(Comparison::AtLeast, &[133]),
    Expression::Compare(Comparison::AtMost, &[137]),
];
/// `ip6 daddr fe80::/10`.
const LINK_LOCAL: [Expression<'_>; 3] = [
    Expression::Payload { base: Base::Network, offset: 24, length: 16 },
    Expression::Mask(&[0xff, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    Expression::Compare(Comparison::Equal, &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
];

/// `ether type …` as nft writes it, so that nft can read it too.
///
/// By the frame, and not by what the kernel makes of it: a VLAN's tag that the NIC took off is
/// seen here, so that tagged frames are left alone.
const fn ether_type(kind: &'static [u8]) -> [Expression<'static>; 4] {
    [
        Expression::Meta(Meta::DeviceType),
        Expression::Compare(Comparison::Equal, &ETHERNET),
        Expression::Payload { base: Base::Link, offset: 12, length: 2 },
        Expression::Compare(Comparison::Equal, kind),
    ]
}

/// Adds the shield's table, with a chain on the uplink; all of it takes effect at once.
///
/// Everything that is not for this node's MAC, ARP and neighbour discovery and what is sent to
/// a link-local address belong to the link that they arrive on and are left there.
pub fn raise(links: &Links, uplink: &str) -> Result<(), NetlinkError> {
    let entry = links.index(SHIELD_ENTRY, "raise the shield")?;
    let rule = |words: &str, condition: &[Expression<'_>], action| {
        new_rule(SHIELD_TABLE, CHAIN, words, &[condition, &[action]].concat())
    };
    let (accept, forward) = (Expression::Accept, Expression::Forward(entry));
    let v6_and = |more: &[Expression<'static>]| [&ether_type(IPV6), more].concat();
    let requests = [
        new_table(SHIELD_TABLE),
        new_chain(SHIELD_TABLE, CHAIN, Some(uplink)),
        rule("meta pkttype != host accept", &NOT_OURS, accept),
        rule("ether type ip fwd", &ether_type(IPV4), forward),
        rule("icmpv6 type 133-137 accept", &v6_and(&DISCOVERY), accept),
        rule("ip6 daddr fe80::/10 accept", &v6_and(&LINK_LOCAL), accept),
        rule("ether type ip6 fwd", &ether_type(IPV6), forward),
    ];
    transaction(&requests, End::Commit)
}

/// Deletes the shield's table; one that is not there is deleted already.
pub fn lower() -> Result<(), NetlinkError> {
    match transaction(&[delete_table(SHIELD_TABLE)], End::Commit) {
        Err(error) if error.errno() == Some(ENOENT) || is_unknown(&error) => Ok(()),
        other => other,
    }
}

/// Whether the shield's table is there. A kernel without `nf_tables` has none.
pub fn is_raised() -> Result<bool, NetlinkError> {
    match tables() {
        Ok(found) => Ok(found.iter().any(|table| table == SHIELD_TABLE)),
        Err(error) if is_unknown(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Asks whether the kernel has what the rules are made of. Nothing is changed, but, as with
/// `nft --check`, the kernel may load its own modules to find out.
pub fn can_be_raised() -> Result<(), NetlinkError> {
    const LOOPBACK: u32 = 1;
    let rule = new_rule(QUESTION, CHAIN, "fwd", &[Expression::Forward(LOOPBACK)]);
    let requests = [new_table(QUESTION), new_chain(QUESTION, CHAIN, None), rule];
    transaction(&requests, End::Drop)
}

/// Whether there is no `nf_tables`, or none for devices.
fn is_unknown(error: &NetlinkError) -> bool {
    match error {
        NetlinkError::Socket { operation: "open", .. } => true,
        // a subsystem that nobody has registered is answered with EINVAL
        other => other.errno().is_some_and(|no| [EOPNOTSUPP, EAFNOSUPPORT, EINVAL].contains(&no)),
    }
}
