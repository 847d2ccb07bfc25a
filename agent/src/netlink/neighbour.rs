use super::address::family;
use super::attribute::{self, Decoded, Malformed};
use super::{Connection, Links, NetlinkError, Request};
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourHeader};
use pointsman_core::model::Neighbour;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;

const NUD_REACHABLE: u16 = 0x02;
const NUD_PERMANENT: u16 = 0x80;
/// Reachable, stale, delay, probe: there is a link layer address, and it is used.
const USABLE: u16 = 0x02 | 0x04 | 0x08 | 0x10 | NUD_PERMANENT;
const NTF_PROXY: u8 = 0x08;
/// `NTF_EXT_LEARNED` and `NTF_ROUTER`: what is set from outside. The others are requests and state.
const SET_BY_HAND: u8 = 0x10 | 0x80;
const HEADER: usize = 12;

/// Usable and permanent entries and proxies of one family.
pub(crate) fn dump(
    connection: &mut Connection,
    links: &Links,
    family: AddressFamily,
) -> Result<Vec<Neighbour>, NetlinkError> {
    let mut found = Vec::new();
    // proxies are told only when asked for
    for flags in [0, NTF_PROXY] {
        let mut body = [0; HEADER];
        let flags = NeighbourFlags::from_bits_retain(flags);
        NeighbourHeader { family, flags, ..NeighbourHeader::default() }.emit(&mut body);
        let kinds = (RTM_GETNEIGH, RTM_NEWNEIGH);
        found.extend(
            connection.dump("list neighbours", kinds, &body, |body| decode(body, links, family))?,
        );
    }
    Ok(found)
}

fn decode(body: &[u8], links: &Links, family: AddressFamily) -> Decoded<Option<Neighbour>> {
    let header = NeighbourHeader::parse(body).map_err(|error| Malformed(error.to_string()))?;
    // an entry for every link has no index
    if header.family != family || header.ifindex == 0 {
        return Ok(None);
    }
    let state = u16::from(header.state);
    let proxy = header.flags.bits() & NTF_PROXY != 0;
    let (mut ip, mut mac, mut protocol) = (None, None, 0);
    for attribute in attribute::parse(body.get(HEADER..).unwrap_or_default())? {
        match attribute.kind() {
            NDA_DST => ip = Some(attribute.ip()?),
            NDA_LLADDR => mac = Some(attribute::mac_text(attribute.value)),
            NDA_PROTOCOL => protocol = attribute.u8()?,
            _ => {}
        }
    }
    let Some(ip) = ip else { return Err(Malformed("a neighbour without an address".into())) };
    let usable = proxy || (state & USABLE != 0 && mac.is_some());
    if !usable {
        return Ok(None);
    }
    let permanent = state & NUD_PERMANENT != 0;
    let (link, flags) = (links.known(header.ifindex)?, header.flags.bits() & SET_BY_HAND);
    Ok(Some(Neighbour { link, ip, mac, permanent, proxy, flags, protocol }))
}

/// `ip neighbour replace`: reachable, or permanent, or a proxy.
pub(crate) fn set(links: &Links, neighbour: &Neighbour) -> Result<Request, NetlinkError> {
    let operation = format!("set the neighbour {neighbour}");
    let body = encode(links, neighbour, &operation)?;
    Ok(Request { operation, kind: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, body })
}

/// `ip neighbour del`.
pub(crate) fn delete(links: &Links, neighbour: &Neighbour) -> Result<Request, NetlinkError> {
    let operation = format!("delete the neighbour {neighbour}");
    let body = encode(links, neighbour, &operation)?;
    Ok(Request { operation, kind: RTM_DELNEIGH, flags: 0, body })
}

fn encode(links: &Links, neighbour: &Neighbour, operation: &str) -> Result<Vec<u8>, NetlinkError> {
    let state = match (neighbour.proxy, neighbour.permanent) {
        (true, _) => 0,
        (false, true) => NUD_PERMANENT,
        (false, false) => NUD_REACHABLE,
    };
    let header = NeighbourHeader {
        family: family(neighbour.ip),
        ifindex: links.index(&neighbour.link, operation)?,
        state: state.into(),
        flags: NeighbourFlags::from_bits_retain(
            neighbour.flags | if neighbour.proxy { NTF_PROXY } else { 0 },
        ),
        ..NeighbourHeader::default()
    };
    let mut body = vec![0; HEADER];
    header.emit(&mut body);
    attribute::push_ip(&mut body, NDA_DST, neighbour.ip);
    if let Some(mac) = &neighbour.mac {
        let bytes = attribute::mac_bytes(mac).ok_or_else(|| NetlinkError::Invalid {
            operation: operation.into(),
            detail: format!("{mac} is no link layer address"),
        })?;
        attribute::push(&mut body, NDA_LLADDR, &bytes);
    }
    if neighbour.protocol != 0 {
        attribute::push(&mut body, NDA_PROTOCOL, &[neighbour.protocol]);
    }
    Ok(body)
}
