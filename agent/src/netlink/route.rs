use super::address::family;
use super::attribute::{self, Decoded, Malformed, Raw};
use super::{Connection, Links, NetlinkError};
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteFlags, RouteHeader};
use pointsman_core::model::{Attribute, Hop, Route};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_PREF: u16 = 20;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_EXPIRES: u16 = 23;

const OF_THE_OBJECT: [u16; 3] = [RTA_VIA, RTA_ENCAP_TYPE, RTA_ENCAP];

const RT_TABLE_LOCAL: u32 = 255;
const RTN_MULTICAST: u8 = 5;
const RTPROT_KERNEL: u8 = 2;
/// A copy in a cache, not a route.
const RTM_F_CLONED: u32 = 0x200;
/// `RTNH_F_PERVASIVE`, `RTNH_F_ONLINK`: what a person sets. The others are state.
const SET_BY_HAND: u32 = 2 | 4;
/// `USER_HZ`: the unit of `rta_cacheinfo`.
const TICKS: u32 = 100;
const HEADER: usize = 12;

/// Every route of one family but those of the table `local` that the kernel made, in the
/// kernel's order.
pub(crate) fn dump(
    connection: &mut Connection,
    links: &Links,
    family: AddressFamily,
) -> Result<Vec<Route>, NetlinkError> {
    let mut body = [0; HEADER];
    RouteHeader { address_family: family, ..RouteHeader::default() }.emit(&mut body);
    connection.dump("list routes", (RTM_GETROUTE, RTM_NEWROUTE), &body, |body| {
        decode(body, links, family)
    })
}

fn decode(body: &[u8], links: &Links, family: AddressFamily) -> Decoded<Option<Route>> {
    let header = RouteHeader::parse(body).map_err(|error| Malformed(error.to_string()))?;
    if header.address_family != family || header.flags.bits() & RTM_F_CLONED != 0 {
        return Ok(None);
    }
    let any: IpAddr = match family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut route = Route {
        table: header.table.into(),
        destination: any,
        prefix_len: header.destination_prefix_length,
        source_len: header.source_prefix_length,
        kind: header.kind.into(),
        protocol: header.protocol.into(),
        scope: header.scope.into(),
        tos: header.tos,
        metric: None,
        prefsrc: None,
        gateway: None,
        link: None,
        flags: header.flags.bits() & SET_BY_HAND,
        hops: Vec::new(),
        attributes: Vec::new(),
    };
    for attribute in attribute::parse(body.get(HEADER..).unwrap_or_default())? {
        match attribute.kind() {
            RTA_TABLE => route.table = attribute.u32()?,
            RTA_DST => route.destination = attribute.ip()?,
            RTA_OIF => route.link = Some(links.known(attribute.u32()?)?),
            RTA_GATEWAY => route.gateway = Some(attribute.ip()?),
            RTA_PRIORITY => route.metric = Some(attribute.u32()?).filter(|metric| *metric != 0),
            RTA_PREFSRC => route.prefsrc = Some(attribute.ip()?),
            RTA_MULTIPATH => route.hops = decode_hops(attribute.value, links)?,
            RTA_CACHEINFO => route.attributes.extend(expiry(&attribute)?),
            // 0 is what a route without the attribute has
            RTA_PREF if attribute.u8()? == 0 => {}
            _ => route.attributes.push(attribute.verbatim()),
        }
    }
    if route.object().is_some() {
        by_object(&mut route);
    }
    let of_an_address = route.table == RT_TABLE_LOCAL || route.kind == RTN_MULTICAST;
    let left_out = of_an_address && route.protocol == RTPROT_KERNEL;
    Ok((!left_out).then_some(route))
}

/// What a nexthop object says is told with the route too (`net.ipv4.nexthop_compat_mode`), and
/// refused beside the object's number. A blackhole object shows as the route's type.
fn by_object(route: &mut Route) {
    const RTN_UNICAST: u8 = 1;
    (route.gateway, route.link, route.hops, route.flags) = (None, None, Vec::new(), 0);
    route.kind = RTN_UNICAST;
    route.attributes.retain(|attribute| !OF_THE_OBJECT.contains(&attribute.number()));
}

/// How long a route still lives is told as `rta_expires`, in ticks, and set as `RTA_EXPIRES`, in seconds.
fn expiry(cache: &Raw<'_>) -> Decoded<Option<Attribute>> {
    let [_, _, _, _, _, _, _, _, e0, e1, e2, e3] = cache.head::<12>()?;
    let ticks = u32::try_from(i32::from_ne_bytes([e0, e1, e2, e3])).unwrap_or_default();
    let value = attribute::hex(&ticks.div_ceil(TICKS).to_ne_bytes());
    Ok((ticks > 0).then_some(Attribute { kind: RTA_EXPIRES, value }))
}

/// `struct rtnexthop`: length, flags, weight, link; then attributes.
fn decode_hops(mut bytes: &[u8], links: &Links) -> Decoded<Vec<Hop>> {
    let mut hops = Vec::new();
    while !bytes.is_empty() {
        let cut = || Malformed("a multipath route ends inside a hop".into());
        let [l0, l1, flags, weight, i0, i1, i2, i3] = *bytes.first_chunk().ok_or_else(cut)?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let attributes = bytes.get(8..length).ok_or_else(cut)?;
        let mut hop = Hop {
            gateway: None,
            link: links.known(u32::from_ne_bytes([i0, i1, i2, i3]))?,
            hops: weight,
            flags: u8::try_from(u32::from(flags) & SET_BY_HAND).unwrap_or_default(),
            attributes: Vec::new(),
        };
        for attribute in attribute::parse(attributes)? {
            match attribute.kind() {
                RTA_GATEWAY => hop.gateway = Some(attribute.ip()?),
                _ => hop.attributes.push(attribute.verbatim()),
            }
        }
        hops.push(hop);
        bytes = bytes.get(attribute::align(length)..).unwrap_or_default();
    }
    Ok(hops)
}

/// What is to become of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// `ip route append`; for IPv6, where the order is no matter, `ip route add`.
    Append,
    /// `ip route prepend`: before the others of its destination, type of service and metric.
    Prepend,
    /// `ip route replace`: in place of the first of its destination, type of service and metric.
    Replace,
    /// `ip route del`, with all that tells this route from another.
    Delete,
}

impl Change {
    /// The operation in words.
    pub(crate) fn words(self, route: &Route) -> String {
        match self {
            Self::Append => format!("add the route {route}"),
            Self::Prepend => format!("put the route {route} before others"),
            Self::Replace => format!("move in place the route {route}"),
            Self::Delete => format!("delete the route {route}"),
        }
    }

    /// Appends the message's body, and tells its type and flags.
    pub(crate) fn write(
        self,
        links: &Links,
        route: &Route,
        body: &mut Vec<u8>,
    ) -> Result<(u16, u16), NetlinkError> {
        encode(body, links, route).map_err(|missing| match missing {
            Missing::Link(link) => NetlinkError::NoSuchLink { operation: self.words(route), link },
            Missing::Form(Malformed(detail)) => {
                NetlinkError::Invalid { operation: self.words(route), detail }
            }
        })?;
        Ok(match self {
            Self::Append if route.destination.is_ipv4() => {
                (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND)
            }
            Self::Append | Self::Prepend => (RTM_NEWROUTE, NLM_F_CREATE),
            Self::Replace => (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
            Self::Delete => (RTM_DELROUTE, 0),
        })
    }
}

/// Why a route has no netlink form.
enum Missing {
    Link(String),
    Form(Malformed),
}

impl From<Malformed> for Missing {
    fn from(malformed: Malformed) -> Self {
        Self::Form(malformed)
    }
}

fn number(links: &Links, link: &str) -> Result<[u8; 4], Missing> {
    let number = links.number(link).ok_or_else(|| Missing::Link(link.to_owned()))?;
    Ok(number.to_ne_bytes())
}

fn encode(body: &mut Vec<u8>, links: &Links, route: &Route) -> Result<(), Missing> {
    let header = RouteHeader {
        address_family: family(route.destination),
        destination_prefix_length: route.prefix_len,
        source_prefix_length: route.source_len,
        tos: route.tos,
        // a number that needs more bits is in RTA_TABLE only
        table: u8::try_from(route.table).unwrap_or_default(),
        protocol: route.protocol.into(),
        scope: route.scope.into(),
        kind: route.kind.into(),
        flags: RouteFlags::from_bits_retain(route.flags),
    };
    let mut bytes = [0; HEADER];
    header.emit(&mut bytes);
    body.extend_from_slice(&bytes);
    attribute::push(body, RTA_TABLE, &route.table.to_ne_bytes());
    if route.prefix_len > 0 {
        attribute::push_ip(body, RTA_DST, route.destination);
    }
    if let Some(link) = &route.link {
        attribute::push(body, RTA_OIF, &number(links, link)?);
    }
    if let Some(gateway) = route.gateway {
        attribute::push_ip(body, RTA_GATEWAY, gateway);
    }
    if let Some(metric) = route.metric {
        attribute::push(body, RTA_PRIORITY, &metric.to_ne_bytes());
    }
    if let Some(prefsrc) = route.prefsrc {
        attribute::push_ip(body, RTA_PREFSRC, prefsrc);
    }
    if !route.hops.is_empty() {
        let mut hops = Vec::new();
        for hop in &route.hops {
            encode_hop(&mut hops, hop, number(links, &hop.link)?)?;
        }
        attribute::push(body, RTA_MULTIPATH, &hops);
    }
    for attribute in &route.attributes {
        attribute::push_verbatim(body, attribute)?;
    }
    Ok(())
}

fn encode_hop(hops: &mut Vec<u8>, hop: &Hop, index: [u8; 4]) -> Decoded<()> {
    let mut attributes = Vec::new();
    if let Some(gateway) = hop.gateway {
        attribute::push_ip(&mut attributes, RTA_GATEWAY, gateway);
    }
    for attribute in &hop.attributes {
        attribute::push_verbatim(&mut attributes, attribute)?;
    }
    let length = u16::try_from(attributes.len() + 8)
        .ok()
        .ok_or_else(|| Malformed("a hop with too many attributes".into()))?;
    hops.extend(length.to_ne_bytes());
    hops.extend([hop.flags, hop.hops]);
    hops.extend(index);
    hops.extend(attributes);
    Ok(())
}
