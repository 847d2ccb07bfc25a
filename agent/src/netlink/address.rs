use super::attribute::{self, Decoded, Malformed};
use super::{Connection, Links, NetlinkError, Request};
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressHeader, AddressHeaderFlags};
use pointsman_core::model::Address;
use std::net::IpAddr;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;

const IFA_F_SECONDARY: u32 = 0x01;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_TENTATIVE: u32 = 0x40;
/// DAD failed, deprecated, tentative, permanent: what the kernel made of an address.
const STATE: u32 = 0x08 | 0x20 | 0x40 | 0x80;

const FOREVER: u32 = u32::MAX;
const HEADER: usize = 8;

/// Every address of one family, in the kernel's order.
pub(crate) fn dump(
    connection: &mut Connection,
    links: &Links,
    family: AddressFamily,
) -> Result<Vec<Address>, NetlinkError> {
    let mut body = [0; HEADER];
    AddressHeader { family, ..AddressHeader::default() }.emit(&mut body);
    connection.dump("list addresses", (RTM_GETADDR, RTM_NEWADDR), &body, |body| {
        decode(body, links, family)
    })
}

/// Whether an IPv6 address is tentative: it cannot be a route's source, nor be bound to. The
/// kernel ends that in a work queue (`addrconf_dad_work`), for an address without detection too.
pub(crate) fn is_tentative(
    connection: &mut Connection,
    links: &Links,
    address: &Address,
) -> Result<bool, NetlinkError> {
    let family = family(address.ip);
    let mut body = [0; HEADER];
    AddressHeader { family, ..AddressHeader::default() }.emit(&mut body);
    let found = connection.dump("list addresses", (RTM_GETADDR, RTM_NEWADDR), &body, |body| {
        let tentative = flags(body)? & IFA_F_TENTATIVE != 0;
        Ok(decode(body, links, family)?.filter(|_| tentative))
    })?;
    Ok(found.iter().any(|found| (&found.link, found.ip) == (&address.link, address.ip)))
}

/// 32 bits in an attribute, of which the header has 8.
fn flags(body: &[u8]) -> Decoded<u32> {
    let attributes = attribute::parse(body.get(HEADER..).unwrap_or_default())?;
    match attributes.iter().find(|attribute| attribute.kind() == IFA_FLAGS) {
        Some(attribute) => attribute.u32(),
        None => Ok(body.get(2).copied().unwrap_or_default().into()),
    }
}

fn decode(body: &[u8], links: &Links, family: AddressFamily) -> Decoded<Option<Address>> {
    let header = AddressHeader::parse(body).map_err(|error| Malformed(error.to_string()))?;
    if header.family != family {
        return Ok(None);
    }
    let mut flags = u32::from(header.flags.bits());
    let (mut address, mut local, mut broadcast, mut label) = (None, None, None, None);
    let (mut valid_lft, mut preferred_lft) = (FOREVER, FOREVER);
    let (mut metric, mut protocol, mut attributes) = (None, 0, Vec::new());
    for attribute in attribute::parse(body.get(HEADER..).unwrap_or_default())? {
        match attribute.kind() {
            IFA_ADDRESS => address = Some(attribute.ip()?),
            IFA_LOCAL => local = Some(attribute.ip()?),
            IFA_BROADCAST => broadcast = Some(attribute.ip()?),
            IFA_LABEL => label = Some(attribute.text()?),
            // 32 bits here, 8 in the header
            IFA_FLAGS => flags = attribute.u32()?,
            IFA_RT_PRIORITY => metric = Some(attribute.u32()?),
            IFA_PROTO => protocol = attribute.u8()?,
            IFA_CACHEINFO => {
                let [p0, p1, p2, p3, v0, v1, v2, v3] = attribute.head::<8>()?;
                preferred_lft = u32::from_ne_bytes([p0, p1, p2, p3]);
                valid_lft = u32::from_ne_bytes([v0, v1, v2, v3]);
            }
            _ => attributes.push(attribute.verbatim()),
        }
    }
    // IPv4 always tells both; IPv6 tells the local one only where there is a peer
    let ip = local.or(address).ok_or_else(|| Malformed("an address without one".into()))?;
    let state = if ip.is_ipv4() { STATE | IFA_F_SECONDARY } else { STATE };
    Ok(Some(Address {
        link: links.known(header.index)?,
        ip,
        prefix_len: header.prefix_len,
        peer: address.filter(|peer| *peer != ip),
        broadcast,
        label,
        scope: u8::from(header.scope),
        flags: flags & !state,
        valid_lft,
        preferred_lft,
        protocol,
        metric: metric.filter(|metric| *metric != 0),
        attributes,
    }))
}

/// `ip address add`; IPv6 without duplicate address detection.
pub(crate) fn add(links: &Links, address: &Address) -> Result<Request, NetlinkError> {
    let nodad = if address.ip.is_ipv6() { IFA_F_NODAD } else { 0 };
    let flags = address.flags | nodad;
    let operation = format!("add the address {address}");
    let body = encode(links, address, flags, &operation)?;
    Ok(Request { operation, kind: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, body })
}

/// `ip address change`: of an address that is there, give it its flags and lifetimes. The
/// kernel starts no duplicate address detection for it.
pub(crate) fn change(links: &Links, address: &Address) -> Result<Request, NetlinkError> {
    let operation = format!("change the address {address}");
    let body = encode(links, address, address.flags, &operation)?;
    Ok(Request { operation, kind: RTM_NEWADDR, flags: NLM_F_REPLACE, body })
}

/// `ip address del`.
pub(crate) fn delete(links: &Links, address: &Address) -> Result<Request, NetlinkError> {
    let operation = format!("delete the address {address}");
    let body = encode(links, address, address.flags, &operation)?;
    Ok(Request { operation, kind: RTM_DELADDR, flags: 0, body })
}

fn encode(
    links: &Links,
    address: &Address,
    flags: u32,
    operation: &str,
) -> Result<Vec<u8>, NetlinkError> {
    let header = AddressHeader {
        family: family(address.ip),
        prefix_len: address.prefix_len,
        flags: AddressHeaderFlags::from_bits_retain(u8::try_from(flags & 0xff).unwrap_or_default()),
        scope: address.scope.into(),
        index: links.index(&address.link, operation)?,
    };
    let mut body = vec![0; HEADER];
    header.emit(&mut body);
    attribute::push_ip(&mut body, IFA_LOCAL, address.ip);
    attribute::push_ip(&mut body, IFA_ADDRESS, address.peer.unwrap_or(address.ip));
    if let Some(broadcast) = address.broadcast {
        attribute::push_ip(&mut body, IFA_BROADCAST, broadcast);
    }
    if let Some(label) = &address.label {
        attribute::push(&mut body, IFA_LABEL, format!("{label}\0").as_bytes());
    }
    attribute::push(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
    if (address.preferred_lft, address.valid_lft) != (FOREVER, FOREVER) {
        let mut cache = Vec::with_capacity(16);
        cache.extend(address.preferred_lft.to_ne_bytes());
        cache.extend(address.valid_lft.to_ne_bytes());
        cache.extend([0; 8]);
        attribute::push(&mut body, IFA_CACHEINFO, &cache);
    }
    if let Some(metric) = address.metric {
        attribute::push(&mut body, IFA_RT_PRIORITY, &metric.to_ne_bytes());
    }
    if address.protocol != 0 {
        attribute::push(&mut body, IFA_PROTO, &[address.protocol]);
    }
    for attribute in &address.attributes {
        attribute::push_verbatim(&mut body, attribute).map_err(|Malformed(detail)| {
            NetlinkError::Invalid { operation: operation.into(), detail }
        })?;
    }
    Ok(body)
}

/// The family that an address is of.
pub(super) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
