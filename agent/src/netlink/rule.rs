use super::attribute::{self, Decoded, Malformed};
use super::{Connection, NetlinkError, Request};
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleFlags, RuleHeader};
use pointsman_core::model::Rule;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_OIFNAME: u16 = 17;
const FRA_PROTOCOL: u16 = 21;

/// `FIB_RULE_INVERT`, `FIB_RULE_FIND_SADDR`: what a person sets. The others are state.
const SET_BY_HAND: u32 = 0x0000_0002 | 0x0001_0000;
const HEADER: usize = 12;

/// Every rule of one family, by priority.
pub(crate) fn dump(
    connection: &mut Connection,
    family: AddressFamily,
) -> Result<Vec<Rule>, NetlinkError> {
    let mut body = [0; HEADER];
    RuleHeader { family, ..RuleHeader::default() }.emit(&mut body);
    connection.dump("list rules", (RTM_GETRULE, RTM_NEWRULE), &body, |body| decode(body, family))
}

fn decode(body: &[u8], family: AddressFamily) -> Decoded<Option<Rule>> {
    let header = RuleHeader::parse(body).map_err(|error| Malformed(error.to_string()))?;
    if header.family != family {
        return Ok(None);
    }
    let mut rule = Rule {
        family: if family == AddressFamily::Inet { 4 } else { 6 },
        priority: 0,
        action: header.action.into(),
        flags: header.flags.bits() & SET_BY_HAND,
        tos: header.tos,
        source_len: header.src_len,
        destination_len: header.dst_len,
        table: Some(header.table.into()).filter(|table| *table != 0),
        protocol: 0,
        iif: None,
        oif: None,
        attributes: Vec::new(),
    };
    for attribute in attribute::parse(body.get(HEADER..).unwrap_or_default())? {
        match attribute.kind() {
            FRA_PRIORITY => rule.priority = attribute.u32()?,
            FRA_TABLE => rule.table = Some(attribute.u32()?).filter(|table| *table != 0),
            FRA_PROTOCOL => rule.protocol = attribute.u8()?,
            FRA_IIFNAME => rule.iif = Some(attribute.text()?),
            FRA_OIFNAME => rule.oif = Some(attribute.text()?),
            // always told; -1 is none
            FRA_SUPPRESS_PREFIXLEN if attribute.u32()? == u32::MAX => {}
            _ => rule.attributes.push(attribute.verbatim()),
        }
    }
    Ok(Some(rule))
}

/// A rule without selectors that looks into a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    /// 4 or 6.
    pub(crate) family: u8,
    /// Smaller is asked first; behind the others of the same priority.
    pub(crate) priority: u32,
    /// Which.
    pub(crate) table: u32,
    /// `FRA_PROTOCOL`.
    pub(crate) protocol: u8,
}

/// `ip rule add`.
pub(crate) fn add(lookup: Lookup) -> Request {
    let operation = format!("add the IPv{} rule for table {}", lookup.family, lookup.table);
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    Request { operation, kind: RTM_NEWRULE, flags, body: encode(lookup) }
}

/// `ip rule del`.
pub(crate) fn delete(lookup: Lookup) -> Request {
    let operation = format!("delete the IPv{} rule for table {}", lookup.family, lookup.table);
    Request { operation, kind: RTM_DELRULE, flags: 0, body: encode(lookup) }
}

fn encode(lookup: Lookup) -> Vec<u8> {
    let family = if lookup.family == 4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let header = RuleHeader {
        family,
        action: RuleAction::ToTable,
        flags: RuleFlags::empty(),
        table: u8::try_from(lookup.table).unwrap_or_default(),
        ..RuleHeader::default()
    };
    let mut body = vec![0; HEADER];
    header.emit(&mut body);
    attribute::push(&mut body, FRA_PRIORITY, &lookup.priority.to_ne_bytes());
    attribute::push(&mut body, FRA_TABLE, &lookup.table.to_ne_bytes());
    attribute::push(&mut body, FRA_PROTOCOL, &[lookup.protocol]);
    body
}
