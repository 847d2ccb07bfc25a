//! Nexthop objects. The crates do not know this message; its header is `struct nhmsg`.

use super::attribute::{self, Decoded, Malformed, Raw};
use super::{Connection, Links, NetlinkError, Request};
use pointsman_core::model::{Attribute, Member, Nexthop};

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
const NHA_RES_GROUP: u16 = 12;
/// Of one dump of a group, and not of the group; told from 6.9 on.
const NHA_OP_FLAGS: u16 = 14;
const NHA_GROUP_STATS: u16 = 15;
const NHA_HW_STATS_USED: u16 = 17;
const NESTED: [u16; 2] = [NHA_ENCAP, NHA_RES_GROUP];
const NLA_F_NESTED: u16 = 0x8000;
/// `NHA_RES_GROUP_PAD` and `NHA_RES_GROUP_UNBALANCED_TIME`: told, and refused when asked for.
const RES_GROUP_STATE: [u16; 2] = [0, 4];

/// `RTNH_F_ONLINK`: what a person sets. The others are state.
const SET_BY_HAND: u32 = 4;
/// Family, scope, protocol, a reserved byte, flags.
const HEADER: usize = 8;
/// Bytes of `struct nexthop_grp`: number, weight minus one, its upper byte (6.13), two reserved.
const MEMBER: usize = 8;

/// Every object, by number.
pub(crate) fn dump(
    connection: &mut Connection,
    links: &Links,
) -> Result<Vec<Nexthop>, NetlinkError> {
    let kinds = (RTM_GETNEXTHOP, RTM_NEWNEXTHOP);
    let found =
        connection.dump("list nexthops", kinds, &[0; HEADER], |body| decode(body, links).map(Some));
    match found {
        // kernels before 5.3 have no such objects
        Err(error) if error.errno() == Some(nix::libc::EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    }
}

fn decode(body: &[u8], links: &Links) -> Decoded<Nexthop> {
    let short = || Malformed("a nexthop that is too short".into());
    let [family, _, protocol, _, f0, f1, f2, f3] = *body.first_chunk().ok_or_else(short)?;
    let mut nexthop = Nexthop {
        id: 0,
        family,
        protocol,
        flags: u32::from_ne_bytes([f0, f1, f2, f3]) & SET_BY_HAND,
        link: None,
        gateway: None,
        members: Vec::new(),
        attributes: Vec::new(),
    };
    for attribute in attribute::parse(body.get(HEADER..).unwrap_or_default())? {
        match attribute.kind() {
            NHA_ID => nexthop.id = attribute.u32()?,
            NHA_GROUP => nexthop.members = decode_members(attribute.value)?,
            NHA_OIF => nexthop.link = Some(links.known(attribute.u32()?)?),
            NHA_GATEWAY => nexthop.gateway = Some(attribute.ip()?),
            NHA_OP_FLAGS | NHA_GROUP_STATS | NHA_HW_STATS_USED => {}
            NHA_RES_GROUP => nexthop.attributes.push(settings(&attribute)?),
            _ => nexthop.attributes.push(attribute.verbatim()),
        }
    }
    Ok(nexthop)
}

fn decode_members(bytes: &[u8]) -> Decoded<Vec<Member>> {
    let members = bytes.chunks_exact(MEMBER);
    if !members.remainder().is_empty() {
        return Err(Malformed("a group of nexthops ends inside one".into()));
    }
    let member = |bytes: &[u8]| {
        let [i0, i1, i2, i3, weight, high, _, _] = *bytes.first_chunk()?;
        let id = u32::from_ne_bytes([i0, i1, i2, i3]);
        Some(Member { id, weight: u16::from_be_bytes([high, weight]) })
    };
    Ok(members.filter_map(member).collect())
}

/// What a resilient group was set up with, without what became of it.
fn settings(group: &Raw<'_>) -> Decoded<Attribute> {
    let mut kept = Vec::new();
    for inner in group.nested()?.iter().filter(|inner| !RES_GROUP_STATE.contains(&inner.kind())) {
        attribute::push(&mut kept, inner.kind(), inner.value);
    }
    Ok(Attribute { value: attribute::hex(&kept), ..group.verbatim() })
}

/// `ip nexthop replace`.
pub(crate) fn set(links: &Links, nexthop: &Nexthop) -> Result<Request, NetlinkError> {
    let operation = format!("set the nexthop {nexthop}");
    let mut body = vec![nexthop.family, 0, nexthop.protocol, 0];
    body.extend(nexthop.flags.to_ne_bytes());
    attribute::push(&mut body, NHA_ID, &nexthop.id.to_ne_bytes());
    if !nexthop.members.is_empty() {
        let mut members = Vec::with_capacity(nexthop.members.len() * MEMBER);
        for member in &nexthop.members {
            let [high, weight] = member.weight.to_be_bytes();
            members.extend(member.id.to_ne_bytes());
            members.extend([weight, high, 0, 0]);
        }
        attribute::push(&mut body, NHA_GROUP, &members);
    }
    if let Some(link) = &nexthop.link {
        let index = links.index(link, &operation)?;
        attribute::push(&mut body, NHA_OIF, &index.to_ne_bytes());
    }
    if let Some(gateway) = nexthop.gateway {
        attribute::push_ip(&mut body, NHA_GATEWAY, gateway);
    }
    for attribute in &nexthop.attributes {
        // told without the flag that is asked for
        let nested = if NESTED.contains(&attribute.number()) { NLA_F_NESTED } else { 0 };
        let attribute = Attribute { kind: attribute.kind | nested, ..attribute.clone() };
        attribute::push_verbatim(&mut body, &attribute).map_err(|Malformed(detail)| {
            NetlinkError::Invalid { operation: operation.clone(), detail }
        })?;
    }
    Ok(Request { operation, kind: RTM_NEWNEXTHOP, flags: NLM_F_CREATE | NLM_F_REPLACE, body })
}
