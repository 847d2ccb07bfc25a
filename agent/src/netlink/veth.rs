//! Pairs of devices: what goes into one comes out of the other.

use super::attribute;
use super::{Connection, Links, NetlinkError, Request};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLA_F_NESTED: u16 = 0x8000;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// `struct ifinfomsg`.
const HEADER: usize = 16;

/// One end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    /// `aa:bb:cc:dd:ee:ff`; given, so that no udev policy gives another.
    pub(crate) mac: &'a str,
    /// Bytes.
    pub(crate) mtu: u32,
}

/// `ip link add NAME address MAC mtu MTU type veth peer …`; both ends are down.
pub(crate) fn add(end: End<'_>, other: End<'_>) -> Result<Request, NetlinkError> {
    let operation = format!("add the pair of devices {} and {}", end.name, other.name);
    let peer = described(other, &operation)?;
    let mut data = Vec::new();
    attribute::push(&mut data, VETH_INFO_PEER | NLA_F_NESTED, &peer);
    let mut body = described(end, &operation)?;
    let mut info = Vec::new();
    attribute::push(&mut info, IFLA_INFO_KIND, b"veth");
    attribute::push(&mut info, IFLA_INFO_DATA | NLA_F_NESTED, &data);
    attribute::push(&mut body, IFLA_LINKINFO | NLA_F_NESTED, &info);
    Ok(Request { operation, kind: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, body })
}

/// `ip link del NAME`: with one end goes the other.
pub(crate) fn delete(links: &Links, name: &str) -> Result<Request, NetlinkError> {
    let operation = format!("delete the device {name}");
    let mut body = vec![0; HEADER];
    let index = links.index(name, &operation)?.to_ne_bytes();
    for (byte, value) in body.iter_mut().skip(4).zip(index) {
        *byte = value;
    }
    Ok(Request { operation, kind: RTM_DELLINK, flags: 0, body })
}

/// Asks whether the kernel knows such pairs. Nothing is made: the question has a fault that
/// only the driver looks for, after the kernel has found the driver.
pub(crate) fn is_known(connection: &mut Connection) -> Result<(), NetlinkError> {
    const MULTICAST: &str = "01:00:5e:00:00:01";
    const NAME: &str = "pointsman-ask";
    let operation = "ask for the driver of pairs of devices (veth)".to_owned();
    let mut body = described(End { name: NAME, mac: MULTICAST, mtu: 1500 }, &operation)?;
    let mut info = Vec::new();
    attribute::push(&mut info, IFLA_INFO_KIND, b"veth");
    attribute::push(&mut body, IFLA_LINKINFO | NLA_F_NESTED, &info);
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    match connection.execute(&Request { operation, kind: RTM_NEWLINK, flags, body }) {
        Err(error) if error.errno() == Some(nix::libc::EADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

fn described(end: End<'_>, operation: &str) -> Result<Vec<u8>, NetlinkError> {
    let mac = attribute::mac_bytes(end.mac).ok_or_else(|| NetlinkError::Invalid {
        operation: operation.into(),
        detail: format!("{} is no link layer address", end.mac),
    })?;
    let mut body = vec![0; HEADER];
    attribute::push(&mut body, IFLA_IFNAME, format!("{}\0", end.name).as_bytes());
    attribute::push(&mut body, IFLA_ADDRESS, &mac);
    attribute::push(&mut body, IFLA_MTU, &end.mtu.to_ne_bytes());
    Ok(body)
}
