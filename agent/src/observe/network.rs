//! Links, addresses, routes, rules and neighbours of this process's network namespace.

use crate::netlink::{self, Connection, Links, NetlinkError};
use netlink_packet_route::AddressFamily;
use pointsman_core::error::Reasoned;
use pointsman_core::model::{Address, Neighbour, Network};
use pointsman_core::plan::handover::exact;
use std::fs;
use std::io;
use thiserror::Error;

/// The network could not be read.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// Over netlink.
    #[error("read the network")]
    Netlink(#[source] NetlinkError),
    /// A sysctl.
    #[error("read {path}")]
    Sysctl {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The number in a sysctl.
    #[error("{path} holds {found:?} where a number was expected")]
    Number {
        /// Which.
        path: String,
        /// What it holds.
        found: String,
    },
    /// Links came and went while the rest was read.
    #[error("read the network: links came or went while it was read, {0} times in a row")]
    Unsteady(u32),
}

impl Reasoned for NetworkError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Netlink(error) => error.reason(),
            Self::Sysctl { .. } | Self::Number { .. } => "SysctlUnreadable",
            Self::Unsteady(_) => "NetworkUnsteady",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Netlink(error) => error.is_transient(),
            Self::Sysctl { .. } | Self::Number { .. } => false,
            Self::Unsteady(_) => true,
        }
    }
}

const TRIES: u32 = 10;

/// Reads the network namespace of the calling thread.
///
/// Each dump is consistent in itself; the links are read before and after, so that no
/// number stands for two names.
pub fn read() -> Result<Network, NetworkError> {
    let mut connection = Connection::open().map_err(NetworkError::Netlink)?;
    for attempt in 1..=TRIES {
        let links = Links::dump(&mut connection).map_err(NetworkError::Netlink)?;
        let network = read_on(&mut connection, &links);
        let after = Links::dump(&mut connection).map_err(NetworkError::Netlink)?;
        if !after.same_names(&links) {
            continue;
        }
        match network {
            Err(error) if attempt < TRIES && error.is_transient() => {}
            other => return other,
        }
    }
    Err(NetworkError::Unsteady(TRIES))
}

fn read_on(connection: &mut Connection, links: &Links) -> Result<Network, NetworkError> {
    let mut network = dump(connection, links).map_err(NetworkError::Netlink)?;
    network.links = links.clone().into_links();
    network.shield = super::shield::read(connection, links).map_err(NetworkError::Netlink)?;
    for link in &mut network.links {
        link.rp_filter = optional(read_rp_filter(&link.name))?;
    }
    network.rp_filter_all = read_rp_filter("all")?;
    network.rp_filter_default = read_rp_filter("default")?;
    Ok(network)
}

/// Read until two readings agree. The kernel marks a dump that a change ran into, but not
/// every one: it dumps addresses by their position in a list, and since it does so without a
/// lock (6.9) it changes the list a moment before the number by which it marks. And no mark
/// spans two dumps: routes of before a change would stand beside addresses of after it.
fn dump(connection: &mut Connection, links: &Links) -> Result<Network, NetlinkError> {
    let mut last = dump_once(connection, links)?;
    for _ in 0..TRIES {
        let next = dump_once(connection, links)?;
        if is_same(&last, &next) {
            return Ok(next);
        }
        last = next;
    }
    Err(NetlinkError::Interrupted { operation: "read the network".into(), tries: TRIES })
}

fn dump_once(connection: &mut Connection, links: &Links) -> Result<Network, NetlinkError> {
    let nexthops = netlink::nexthop::dump(connection, links)?;
    let mut network = Network { nexthops, ..Network::default() };
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        network.addresses.extend(netlink::address::dump(connection, links, family)?);
        network.routes.extend(netlink::route::dump(connection, links, family)?);
        network.rules.extend(netlink::rule::dump(connection, family)?);
        network.neighbours.extend(netlink::neighbour::dump(connection, links, family)?);
    }
    Ok(network)
}

/// Whether two readings differ in no more than the time left and what neighbours answered.
fn is_same(a: &Network, b: &Network) -> bool {
    let timeless = |a: &Address| Address { valid_lft: 0, preferred_lft: 0, ..a.clone() };
    let fixed = |network: &Network| -> Vec<Neighbour> {
        let all = network.neighbours.iter();
        all.filter(|neighbour| neighbour.permanent || neighbour.proxy).cloned().collect()
    };
    a.addresses.iter().map(timeless).eq(b.addresses.iter().map(timeless))
        && a.routes.iter().map(exact).eq(b.routes.iter().map(exact))
        && (&a.rules, &a.nexthops) == (&b.rules, &b.nexthops)
        && fixed(a) == fixed(b)
}

/// Where the kernel shows a link's `rp_filter` to a thread of its network namespace.
pub(crate) fn rp_filter_path(link: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/rp_filter")
}

fn read_rp_filter(link: &str) -> Result<u8, NetworkError> {
    let path = rp_filter_path(link);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let found = text.trim().to_owned();
            found.parse().ok().ok_or(NetworkError::Number { path, found })
        }
        Err(source) => Err(NetworkError::Sysctl { path, source }),
    }
}

/// A link without IPv4 has no sysctls, nor has one that just went.
fn optional(value: Result<u8, NetworkError>) -> Result<Option<u8>, NetworkError> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(NetworkError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
