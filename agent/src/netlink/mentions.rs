//! What else of the kernel names a link: rules of nftables and tc, XFRM policies, sockets, and
//! routes of MPLS labels.
//!
//! A handover changes none of it. Listed for the person who reads the plan, so a part of the
//! kernel that is not there, or does not tell, is no error of the whole.

use super::attribute::{self, Decoded, Malformed};
use super::{Connection, NetlinkError};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_XFRM};
use std::collections::BTreeMap;

type Found = Result<Vec<String>, NetlinkError>;

/// Everything that names a link, in plain words.
pub(crate) fn of(link: &str, index: u32) -> Vec<String> {
    let mut found = Vec::new();
    let parts: [(&str, Found); 5] = [
        ("nftables", nftables(link, index)),
        ("tc", tc(link, index)),
        ("XFRM policies", xfrm(link, index)),
        ("sockets", sockets(link, index)),
        ("MPLS routes", mpls(link, index)),
    ];
    for (what, part) in parts {
        match part {
            Ok(words) => found.extend(words),
            // this kernel has no such part
            Err(NetlinkError::Socket { .. }) => {}
            Err(error) if matches!(error.errno(), Some(ENOENT | EINVAL | EOPNOTSUPP)) => {}
            Err(error) => {
                let why = pointsman_core::error::chain(&error);
                found.push(format!("{what} that name {link} could not be listed: {why}"));
            }
        }
    }
    found
}

const ENOENT: i32 = 2;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;

/// `NFNL_SUBSYS_NFTABLES`, and its messages.
const NEWCHAIN: u16 = (10 << 8) | 3;
const GETCHAIN: u16 = NEWCHAIN + 1;
const NEWRULE: u16 = (10 << 8) | 6;
const GETRULE: u16 = NEWRULE + 1;

/// Rules that compare with the link, and chains that hook on it. A set that holds its name is
/// not looked into.
fn nftables(link: &str, index: u32) -> Found {
    let mut connection = Connection::open_for(NETLINK_NETFILTER)?;
    let mut names = BTreeMap::<String, u32>::new();
    let rules = connection.dump("list nftables rules", (GETRULE, NEWRULE), &[0; 4], |body| {
        let (mut table, mut chain, mut hit) = (String::new(), String::new(), false);
        for attribute in attributes(body, 4)? {
            match attribute.kind() {
                1 => table = attribute.text()?,
                2 => chain = attribute.text()?,
                4 => hit = compares(attribute, link, index)?,
                _ => {}
            }
        }
        Ok(hit.then(|| format!("{table} {chain}")))
    })?;
    for place in rules {
        *names.entry(place).or_default() += 1;
    }
    let chains =
        connection.dump("list nftables chains", (GETCHAIN, NEWCHAIN), &[0; 4], |body| {
            let (mut table, mut chain, mut hit) = (String::new(), String::new(), false);
            for attribute in attributes(body, 4)? {
                match attribute.kind() {
                    1 => table = attribute.text()?,
                    3 => chain = attribute.text()?,
                    4 => {
                        let hook = attribute.nested()?;
                        let device = hook.iter().find(|inner| inner.kind() == 3);
                        hit =
                            device.map(attribute::Raw::text).transpose()?.as_deref() == Some(link);
                    }
                    _ => {}
                }
            }
            Ok(hit.then(|| format!("the nftables chain {table} {chain} hooks on {link}")))
        })?;
    let count = |(place, count): (String, u32)| {
        let rules = if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") };
        format!("{rules} of nftables in {place} name {link}")
    };
    Ok(chains.into_iter().chain(names.into_iter().map(count)).collect())
}

/// Whether a rule loads a link's name or number (`meta iif`, `oif`, `iifname`, `oifname`) and
/// compares it with this one.
fn compares(expressions: attribute::Raw<'_>, link: &str, index: u32) -> Decoded<bool> {
    let (mut loaded, mut hit) = (0, false);
    for expression in expressions.nested()? {
        let parts = expression.nested()?;
        let part = |kind: u16| parts.iter().find(|part| part.kind() == kind);
        let (Some(name), Some(data)) = (part(1), part(2)) else { continue };
        let data = data.nested()?;
        match name.text()?.as_str() {
            "meta" => {
                let key = data.iter().find(|inner| inner.kind() == 2);
                loaded =
                    key.map(attribute::Raw::head::<4>).transpose()?.map_or(0, u32::from_be_bytes);
            }
            "cmp" => {
                let Some(value) = data.iter().find(|inner| inner.kind() == 3) else { continue };
                let value = value.nested()?;
                let bytes = value.first().map(|value| value.value).unwrap_or_default();
                let named = bytes.split(|byte| *byte == 0).next() == Some(link.as_bytes());
                hit |= match loaded {
                    4 | 5 => bytes == index.to_ne_bytes(),
                    6 | 7 => named,
                    _ => false,
                };
                loaded = 0;
            }
            _ => {}
        }
    }
    Ok(hit)
}

/// Queueing disciplines other than those that the kernel gives a link by itself.
fn tc(link: &str, index: u32) -> Found {
    const NEWQDISC: u16 = 36;
    const GETQDISC: u16 = 38;
    let own = ["noqueue", "mq", "pfifo_fast", "fq_codel", "fq"];
    let mut connection = Connection::open_for(NETLINK_ROUTE)?;
    connection.dump("list qdiscs", (GETQDISC, NEWQDISC), &[0; 20], |body| {
        if number(body, 4)? != index {
            return Ok(None);
        }
        let kind = attributes(body, 20)?.iter().find(|inner| inner.kind() == 1).copied();
        let kind = kind.map(|kind| kind.text()).transpose()?.unwrap_or_default();
        Ok((!own.contains(&kind.as_str()))
            .then(|| format!("the tc qdisc {kind} of {link} stays there, with its filters")))
    })
}

/// Policies whose selector holds the link.
fn xfrm(link: &str, index: u32) -> Found {
    const NEWPOLICY: u16 = 0x13;
    const GETPOLICY: u16 = 0x15;
    /// `xfrm_userpolicy_id`.
    const ASKED: [u8; 64] = [0; 64];
    /// `xfrm_selector.ifindex`, with which `xfrm_userpolicy_info` begins.
    const IFINDEX: usize = 48;
    let mut connection = Connection::open_for(NETLINK_XFRM)?;
    let found = connection.dump("list XFRM policies", (GETPOLICY, NEWPOLICY), &ASKED, |body| {
        Ok((number(body, IFINDEX)? == index).then_some(()))
    })?;
    let words = format!("{} XFRM policies name {link}", found.len());
    Ok(if found.is_empty() { Vec::new() } else { vec![words] })
}

/// Routes of incoming labels that leave by the link. Routes of IP that *push* labels are
/// carried with all others.
fn mpls(link: &str, index: u32) -> Found {
    const AF_MPLS: u8 = 28;
    const NEWROUTE: u16 = 24;
    const GETROUTE: u16 = 26;
    const OIF: u16 = 4;
    const MULTIPATH: u16 = 9;
    /// Bytes of `struct rtmsg`, which begins with the family.
    const RTMSG: usize = 12;
    let mut body = [0; RTMSG];
    body[0] = AF_MPLS;
    let mut connection = Connection::open_for(NETLINK_ROUTE)?;
    let found = connection.dump("list MPLS routes", (GETROUTE, NEWROUTE), &body, |body| {
        // a kernel without MPLS tells the routes of the other families instead
        if body.first() != Some(&AF_MPLS) {
            return Ok(None);
        }
        let mut hit = false;
        for attribute in attributes(body, RTMSG)? {
            match attribute.kind() {
                OIF => hit |= attribute.u32()? == index,
                // `struct rtnexthop` of the first hop: length, flags, weight, link
                MULTIPATH => hit |= number(attribute.value, 4)? == index,
                _ => {}
            }
        }
        Ok(hit.then_some(()))
    })?;
    let many = found.len();
    let words = format!("{many} MPLS label routes leave by {link} and stay there");
    Ok(if many == 0 { Vec::new() } else { vec![words] })
}

/// TCP and UDP sockets that are bound to the link (`SO_BINDTODEVICE`).
fn sockets(link: &str, index: u32) -> Found {
    /// `SOCK_DIAG_BY_FAMILY`.
    const BY_FAMILY: u16 = 20;
    let mut connection = Connection::open_for(NETLINK_SOCK_DIAG)?;
    let mut found = Vec::new();
    for (family, protocol, name) in [(2, 6, "TCP"), (10, 6, "TCP"), (2, 17, "UDP"), (10, 17, "UDP")]
    {
        // `inet_diag_req_v2`: family, protocol, extensions, padding, all states, any socket
        let mut body = vec![family, protocol, 0, 0, 0xff, 0xff, 0xff, 0xff];
        body.resize(56, 0);
        let ports = connection.dump("list sockets", (BY_FAMILY, BY_FAMILY), &body, |body| {
            let bound = number(body, 40)? == index;
            let port = body.get(4..6).and_then(|port| Some([*port.first()?, *port.get(1)?]));
            Ok(port.filter(|_| bound).map(u16::from_be_bytes))
        });
        let ports = match ports {
            Ok(ports) => ports,
            // `udp_diag` is a module of its own
            Err(error) if matches!(error.errno(), Some(ENOENT | EINVAL)) => continue,
            Err(error) => return Err(error),
        };
        found.extend(
            ports
                .into_iter()
                .map(|port| format!("a {name} socket of port {port} is bound to {link}")),
        );
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn attributes(body: &[u8], header: usize) -> Decoded<Vec<attribute::Raw<'_>>> {
    attribute::parse(body.get(header..).unwrap_or_default())
}

fn number(body: &[u8], at: usize) -> Decoded<u32> {
    let bytes = body.get(at..).and_then(|rest| rest.first_chunk::<4>());
    let short = || Malformed(format!("{} bytes, and a number at {at}", body.len()));
    bytes.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or_else(short)
}
