//! Who is asked whether the node is still reachable: the gateways of the links that are moved.

use crate::model::{Address, Network, Observed};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// `RT_TABLE_MAIN`.
const MAIN: u32 = 254;

/// A next router, asked by ARP or Neighbour Solicitation: whoever answers is on the wire,
/// and hears the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gateway {
    /// Whom to ask.
    pub ip: IpAddr,
    /// An address of the node in the gateway's network, in whose name is asked.
    pub source: IpAddr,
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)
    }
}

/// Who answered before the first change, and has to answer after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// By ARP or Neighbour Solicitation, out of the link that owned the addresses.
    pub gateways: Vec<Gateway>,
    /// Whether the API server took a new connection.
    pub api: bool,
}

/// The next routers of the default routes of `main` that lead out by one of these links.
///
/// One without an address of the node in its network cannot be asked, and is left out.
pub fn gateways(observed: &Observed, links: [&str; 2]) -> Vec<Gateway> {
    let network = &observed.network;
    let is_ours = |link: Option<&str>| link.is_some_and(|link| links.contains(&link));
    let mut found: Vec<IpAddr> = Vec::new();
    for route in network.routes.iter().filter(|r| r.table == MAIN && r.prefix_len == 0) {
        found.extend(route.gateway.filter(|_| is_ours(route.link.as_deref())));
        let legs = route.hops.iter().filter(|hop| is_ours(Some(&hop.link)));
        found.extend(legs.filter_map(|hop| hop.gateway));
    }
    found.sort_unstable();
    found.dedup();
    let ask = |ip| Some(Gateway { ip, source: source(network, links, ip)? });
    found.into_iter().filter_map(ask).collect()
}

/// An address of the gateway's network; of IPv4 any one else, since ARP does not care.
fn source(network: &Network, links: [&str; 2], gateway: IpAddr) -> Option<IpAddr> {
    let ours = || {
        let usable = |a: &&Address| a.ip.is_ipv4() == gateway.is_ipv4();
        network.addresses.iter().filter(|a| links.contains(&a.link.as_str())).filter(usable)
    };
    let near = ours().find(|a| a.prefix_len > 0 && is_within(gateway, a.ip, a.prefix_len));
    near.or_else(|| ours().next()).map(|address| address.ip)
}

fn is_within(ip: IpAddr, network: IpAddr, prefix_len: u8) -> bool {
    let bits = u32::from(prefix_len);
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (u32::from(a) ^ u32::from(b)).checked_shr(32_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differing = u128::from(a) ^ u128::from(b);
            differing.checked_shr(128_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hop, Route};

    fn address(link: &str, ip: &str, prefix_len: u8) -> Address {
        Address {
            link: link.into(),
            ip: ip.parse().unwrap(),
            prefix_len,
            peer: None,
            broadcast: None,
            label: None,
            scope: 0,
            flags: 0,
            valid_lft: u32::MAX,
            preferred_lft: u32::MAX,
            protocol: 0,
            metric: None,
            attributes: Vec::new(),
        }
    }

    fn default_by(gateway: &str, link: &str) -> Route {
        let gateway: IpAddr = gateway.parse().unwrap();
        let any = if gateway.is_ipv4() { "0.0.0.0" } else { "::" };
        Route {
            table: MAIN,
            destination: any.parse().unwrap(),
            prefix_len: 0,
            source_len: 0,
            kind: 1,
            protocol: 4,
            scope: 0,
            tos: 0,
            metric: None,
            prefsrc: None,
            gateway: Some(gateway),
            link: Some(link.into()),
            flags: 0,
            hops: Vec::new(),
            attributes: Vec::new(),
        }
    }

    #[test]
    fn gateways_of_the_moved_links_are_asked_in_the_name_of_a_near_address() {
        let mut observed = Observed::default();
        observed.network.addresses = vec![
            address("eth1", "10.9.0.2", 24),
            address("eth1", "10.0.2.15", 24),
            address("eth0", "192.168.0.2", 24),
            address("eth1", "fd77::15", 64),
            address("eth1", "fe80::15", 64),
        ];
        let hop = |gateway: &str, link: &str| Hop {
            gateway: Some(gateway.parse().unwrap()),
            link: link.into(),
            hops: 0,
            flags: 0,
            attributes: Vec::new(),
        };
        let mut legs = default_by("0.0.0.0", "none");
        (legs.gateway, legs.link) = (None, None);
        legs.hops = vec![hop("10.0.2.3", "br-int"), hop("192.168.0.1", "eth0")];
        let mut elsewhere = default_by("10.0.2.9", "eth1");
        elsewhere.table = 100;
        observed.network.routes = vec![
            default_by("10.0.2.2", "eth1"),
            default_by("192.168.0.1", "eth0"),
            legs,
            elsewhere,
            default_by("fe80::1", "eth1"),
            default_by("10.0.2.2", "br-int"),
        ];
        let found = gateways(&observed, ["eth1", "br-int"]);
        let pairs: Vec<(String, String)> =
            found.iter().map(|g| (g.ip.to_string(), g.source.to_string())).collect();
        let expected =
            [("10.0.2.2", "10.0.2.15"), ("10.0.2.3", "10.0.2.15"), ("fe80::1", "fe80::15")]
                .map(|(ip, source)| (ip.to_owned(), source.to_owned()));
        assert_eq!(pairs, expected);
    }
}
