//! The rules of the ingress shield (`pointsman_core::model::Shield`).

use super::expression::{Base, Comparison, Expression, Meta};
use super::{End, delete_table, new_chain, new_rule, new_table, tables, transaction};
use crate::netlink::{Links, NetlinkError};
use nix::libc::{EAFNOSUPPORT, EINVAL, ENOENT, EOPNOTSUPP};
use pointsman_core::model::{SHIELD_ENTRY, SHIELD_TABLE};

const CHAIN: &str = "ingress";
/// Never there: what is only asked about has another name than what is made.
const QUESTION: &str = "pointsman-question";

/// `PACKET_HOST`: for the device's own MAC.
const HOST: [u8; 1] = [0];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMPV6: [u8; 1] = [58];
/// Router solicitation, the first of the types of neighbour discovery; redirect, the last.
const DISCOVERY: [[u8; 1]; 2] = [[133], [137]];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const LINK_LOCAL_MASK: [u8; 16] = [0xff, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// By the frame and not by what the kernel makes of it: a VLAN's tag that the NIC took off is
/// seen here, so that tagged frames are left alone.
const ETHER_TYPE: Expression<'_> = Expression::Payload { base: Base::Link, offset: 12, length: 2 };

/// Adds the shield's table, with a chain on the uplink; all of it takes effect at once.
///
/// Everything that is not for this node's MAC, ARP and neighbour discovery and what is sent to
/// a link-local address belong to the link that they arrive on and are left there.
pub fn raise(links: &Links, uplink: &str) -> Result<(), NetlinkError> {
    let entry = links.index(SHIELD_ENTRY, "raise the shield")?;
    let rule = |words: &str, expressions: &[Expression<'_>]| {
        new_rule(SHIELD_TABLE, CHAIN, words, expressions)
    };
    let is = |value| Expression::Compare(Comparison::Equal, value);
    let [first, last] = &DISCOVERY;
    let requests = [
        new_table(SHIELD_TABLE),
        new_chain(SHIELD_TABLE, CHAIN, Some(uplink)),
        rule(
            "meta pkttype != host accept",
            &[
                Expression::Meta(Meta::PacketType),
                Expression::Compare(Comparison::Differs, &HOST),
                Expression::Accept,
            ],
        ),
        rule("ether type ip fwd", &[ETHER_TYPE, is(&IPV4), Expression::Forward(entry)]),
        rule(
            "icmpv6 type 133-137 accept",
            &[
                ETHER_TYPE,
                is(&IPV6),
                Expression::Meta(Meta::L4Protocol),
                is(&ICMPV6),
                Expression::Payload { base: Base::Transport, offset: 0, length: 1 },
                Expression::Compare(Comparison::AtLeast, first),
                Expression::Compare(Comparison::AtMost, last),
                Expression::Accept,
            ],
        ),
        rule(
            "ip6 daddr fe80::/10 accept",
            &[
                ETHER_TYPE,
                is(&IPV6),
                Expression::Payload { base: Base::Network, offset: 24, length: 16 },
                Expression::Mask(&LINK_LOCAL_MASK),
                is(&LINK_LOCAL),
                Expression::Accept,
            ],
        ),
        rule("ether type ip6 fwd", &[ETHER_TYPE, is(&IPV6), Expression::Forward(entry)]),
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

/// Whether the shield's table is there. A kernel without nf_tables has none.
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

/// Whether there is no nf_tables, or none for devices.
fn is_unknown(error: &NetlinkError) -> bool {
    match error {
        NetlinkError::Socket { operation: "open", .. } => true,
        // a subsystem that nobody has registered is answered with EINVAL
        other => other.errno().is_some_and(|no| [EOPNOTSUPP, EAFNOSUPPORT, EINVAL].contains(&no)),
    }
}
