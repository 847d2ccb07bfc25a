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
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;
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
pub(crate) fn lookup(family: u8, priority: u32, table: u32, protocol: u8) -> Rule {
    Rule {
        family,
        priority,
        action: TO_TABLE,
        flags: 0,
        tos: 0,
        source_len: 0,
        destination_len: 0,
        table: Some(table),
        protocol,
        iif: None,
        oif: None,
        attributes: Vec::new(),
    }
}

/// `ip rule add`, which takes no rule twice.
pub(crate) fn add(rule: &Rule) -> Result<Request, NetlinkError> {
    let request = again(rule)?;
    Ok(Request { flags: request.flags | NLM_F_EXCL, ..request })
}

/// `ip rule add` that takes a rule a second time, behind the others of its priority.
pub(crate) fn again(rule: &Rule) -> Result<Request, NetlinkError> {
    let operation = format!("add the {rule}");
    let body = encode(rule, &operation)?;
    Ok(Request { operation, kind: RTM_NEWRULE, flags: NLM_F_CREATE, body })
}

/// `ip rule del`: of equal ones the first.
pub(crate) fn delete(rule: &Rule) -> Result<Request, NetlinkError> {
    let operation = format!("delete the {rule}");
    let body = encode(rule, &operation)?;
    Ok(Request { operation, kind: RTM_DELRULE, flags: 0, body })
}

fn encode(rule: &Rule, operation: &str) -> Result<Vec<u8>, NetlinkError> {
    let family = if rule.family == 4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let header = RuleHeader {
        family,
        src_len: rule.source_len,
        dst_len: rule.destination_len,
        tos: rule.tos,
        action: RuleAction::from(rule.action),
        flags: RuleFlags::from_bits_retain(rule.flags),
        // a number that needs more bits is in FRA_TABLE only
        table: rule.table.and_then(|table| u8::try_from(table).ok()).unwrap_or_default(),
    };
    let mut body = vec![0; HEADER];
    header.emit(&mut body);
    attribute::push(&mut body, FRA_PRIORITY, &rule.priority.to_ne_bytes());
    if let Some(table) = rule.table {
        attribute::push(&mut body, FRA_TABLE, &table.to_ne_bytes());
    }
    if rule.protocol != 0 {
        attribute::push(&mut body, FRA_PROTOCOL, &[rule.protocol]);
    }
    for (kind, link) in [(FRA_IIFNAME, &rule.iif), (FRA_OIFNAME, &rule.oif)] {
        if let Some(link) = link {
            attribute::push(&mut body, kind, format!("{link}\0").as_bytes());
        }
    }
    for attribute in &rule.attributes {
        attribute::push_verbatim(&mut body, attribute).map_err(|Malformed(detail)| {
            NetlinkError::Invalid { operation: operation.into(), detail }
        })?;
    }
    Ok(body)
}
