use super::attribute::{self, Decoded, Malformed};
use super::{Connection, NetlinkError, Request};
use netlink_packet_core::Emitable;
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use pointsman_core::model::{Bond, Link};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_QDISC: u16 = 6;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IF_OPER_UP: u8 = 6;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_BOND_MODE: u16 = 1;
const IFLA_BOND_FAIL_OVER_MAC: u16 = 13;

/// The links of a network namespace, by index: every other message names a link by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    link: Link,
    running: bool,
    /// Operationally up, and with a queue that takes packets. A new device has neither when
    /// it is set up: both come with the carrier, a moment later, and until then it drops.
    ready: bool,
    master: Option<u32>,
    parent: Option<u32>,
}

impl Links {
    /// Reads them.
    pub fn dump(connection: &mut Connection) -> Result<Self, NetlinkError> {
        let mut body = [0; 16];
        LinkHeader::default().emit(&mut body);
        let kinds = (RTM_GETLINK, RTM_NEWLINK);
        let mut found =
            connection.dump("list links", kinds, &body, |body| decode(body).map(Some))?;
        found.sort_by_key(|entry| entry.link.index);
        let names = Self(found.clone());
        for entry in &mut found {
            let name = |index: u32| names.name(index).map(str::to_owned);
            entry.link.master = entry.master.and_then(name);
            entry.link.parent = entry.parent.and_then(name);
        }
        Ok(Self(found))
    }

    /// Whether two readings name the same links by the same numbers.
    pub fn same_names(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| {
                (a.link.index, &a.link.name, a.master) == (b.link.index, &b.link.name, b.master)
            })
    }

    /// A link's name.
    pub(super) fn name(&self, index: u32) -> Option<&str> {
        let at = self.0.binary_search_by_key(&index, |entry| entry.link.index).ok()?;
        self.0.get(at).map(|entry| entry.link.name.as_str())
    }

    /// A link's name, which must be known: it was made after the links were read otherwise.
    pub(super) fn known(&self, index: u32) -> Decoded<String> {
        self.name(index)
            .map(str::to_owned)
            .ok_or_else(|| Malformed(format!("names link {index}, which the list of links lacks")))
    }

    /// A link's number, where there is such a link.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|entry| entry.link.name == name).map(|entry| entry.link.index)
    }

    /// A link's number.
    pub fn index(&self, name: &str, operation: &str) -> Result<u32, NetlinkError> {
        self.number(name).ok_or_else(|| NetlinkError::NoSuchLink {
            operation: operation.into(),
            link: name.into(),
        })
    }

    /// A link by name.
    pub fn get(&self, name: &str) -> Option<&Link> {
        self.0.iter().map(|entry| &entry.link).find(|link| link.name == name)
    }

    /// Whether a link is `IFF_RUNNING`: it has a carrier, and its queue takes packets.
    pub fn is_running(&self, name: &str) -> bool {
        self.0.iter().any(|entry| entry.link.name == name && entry.running)
    }

    /// Whether a link takes packets now: `IF_OPER_UP`, and not the queue that drops all.
    pub fn is_ready(&self, name: &str) -> bool {
        self.0.iter().any(|entry| entry.link.name == name && entry.ready)
    }

    /// All of them, by index.
    pub fn into_links(self) -> Vec<Link> {
        self.0.into_iter().map(|entry| entry.link).collect()
    }
}

fn decode(body: &[u8]) -> Decoded<Entry> {
    let header = LinkHeader::parse(body).map_err(|error| Malformed(error.to_string()))?;
    let mut link =
        Link { index: header.index, up: header.flags.contains(LinkFlags::Up), ..Link::default() };
    let (mut operational, mut queue) = (false, None);
    let (mut master, mut parent, mut parent_elsewhere) = (None, None, false);
    for attribute in attribute::parse(body.get(16..).unwrap_or_default())? {
        match attribute.kind() {
            IFLA_IFNAME => link.name = attribute.text()?,
            IFLA_OPERSTATE => operational = attribute.u8()? == IF_OPER_UP,
            IFLA_QDISC => queue = Some(attribute.text()?),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_LINK => parent = Some(attribute.u32()?).filter(|index| *index != 0),
            // then the number above is one of that namespace
            IFLA_LINK_NETNSID => parent_elsewhere = true,
            IFLA_MASTER => master = Some(attribute.u32()?),
            IFLA_ADDRESS if !attribute.value.is_empty() => {
                link.mac = Some(attribute::mac_text(attribute.value));
            }
            IFLA_LINKINFO => {
                let nested = attribute.nested()?;
                let kind = nested.iter().find(|inner| inner.kind() == IFLA_INFO_KIND);
                link.kind = kind.map(attribute::Raw::text).transpose()?;
                let data = nested.iter().find(|inner| inner.kind() == IFLA_INFO_DATA);
                if let (Some("bond"), Some(data)) = (link.kind.as_deref(), data) {
                    link.bond = Some(bond(*data)?);
                }
            }
            _ => {}
        }
    }
    let ready = operational && queue.is_some_and(|queue| queue != "noop");
    let parent = parent.filter(|_| !parent_elsewhere);
    let running = header.flags.contains(LinkFlags::Running);
    Ok(Entry { link, running, ready, master, parent })
}

fn bond(data: attribute::Raw<'_>) -> Decoded<Bond> {
    let mut bond = Bond::default();
    for attribute in data.nested()? {
        match attribute.kind() {
            IFLA_BOND_MODE => bond.mode = attribute.u8()?,
            IFLA_BOND_FAIL_OVER_MAC => bond.fail_over_mac = attribute.u8()?,
            _ => {}
        }
    }
    Ok(bond)
}

/// `ip link set LINK up`.
pub(crate) fn set_up(links: &Links, name: &str) -> Result<Request, NetlinkError> {
    let operation = format!("set the link {name} up");
    let header = LinkHeader {
        index: links.index(name, &operation)?,
        flags: LinkFlags::Up,
        change_mask: LinkFlags::Up,
        ..LinkHeader::default()
    };
    Ok(change(operation, &header))
}

/// `ip link set LINK mtu MTU`.
pub(crate) fn set_mtu(links: &Links, name: &str, mtu: u32) -> Result<Request, NetlinkError> {
    let operation = format!("set the MTU of {name} to {mtu}");
    let header = LinkHeader { index: links.index(name, &operation)?, ..LinkHeader::default() };
    let mut request = change(operation, &header);
    attribute::push(&mut request.body, IFLA_MTU, &mtu.to_ne_bytes());
    Ok(request)
}

/// `ip link set LINK address MAC`.
pub(crate) fn set_mac(links: &Links, name: &str, mac: &str) -> Result<Request, NetlinkError> {
    let operation = format!("set the MAC of {name} to {mac}");
    let bytes = attribute::mac_bytes(mac).ok_or_else(|| NetlinkError::Invalid {
        operation: operation.clone(),
        detail: format!("{mac} is no link layer address"),
    })?;
    let header = LinkHeader { index: links.index(name, &operation)?, ..LinkHeader::default() };
    let mut request = change(operation, &header);
    attribute::push(&mut request.body, IFLA_ADDRESS, &bytes);
    Ok(request)
}

fn change(operation: String, header: &LinkHeader) -> Request {
    let mut body = vec![0; header.buffer_len()];
    header.emit(&mut body);
    Request { operation, kind: RTM_SETLINK, flags: 0, body }
}
