use super::{Nexthop, Shield};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// What netlink tells of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// By index.
    pub links: Vec<Link>,
    /// In the kernel's dump order: IPv4 oldest first, IPv6 newest first.
    pub addresses: Vec<Address>,
    /// Every table, both families, in dump order; of the table `local` only what the kernel
    /// did not make for an address.
    pub routes: Vec<Route>,
    /// By number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nexthops: Vec<Nexthop>,
    /// Both families, by priority.
    pub rules: Vec<Rule>,
    /// Entries that are usable or permanent.
    pub neighbours: Vec<Neighbour>,
    /// `net.ipv4.conf.all.rp_filter`; the kernel uses the larger of this and the link's.
    pub rp_filter_all: u8,
    /// `net.ipv4.conf.default.rp_filter`: what a new link starts with.
    #[serde(default)]
    pub rp_filter_default: u8,
    /// What there is of an ingress shield, and whether there can be one.
    #[serde(default)]
    pub shield: Shield,
    /// What a new link starts with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl_defaults: Sysctls,
}

/// Values of `net.ipv4.conf.LINK` and `net.ipv6.conf.LINK`; a key is `ipv4/arp_ignore`.
pub type Sysctls = BTreeMap<String, i64>;

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Unique in its namespace while the device lives.
    pub index: u32,
    /// At most 15 bytes.
    pub name: String,
    /// `IFLA_INFO_KIND`: `veth`, `openvswitch`, …; none for a plain NIC.
    pub kind: Option<String>,
    /// `aa:bb:cc:dd:ee:ff`.
    pub mac: Option<String>,
    /// Bytes.
    pub mtu: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// Name of the device that this one is a port of: `ovs-system` for a port of the kernel datapath.
    pub master: Option<String>,
    /// `net.ipv4.conf.LINK.rp_filter`.
    pub rp_filter: Option<u8>,
    /// Of the uplink and the bridge, as far as a handover carries them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: Sysctls,
    /// `IFLA_LINK`: name of the device that a VLAN or macvlan lies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Of a bond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<Bond>,
}

/// What of a bond decides which MAC the wire sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bond {
    /// `BOND_MODE_*`: 1 active-backup, 5 balance-tlb, 6 balance-alb.
    pub mode: u8,
    /// `BOND_FOM_*`: 0 none, 1 active, 2 follow.
    pub fail_over_mac: u8,
}

/// An address of a link, as the kernel would have to be told it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Name of the link.
    pub link: String,
    /// `IFA_LOCAL`.
    pub ip: IpAddr,
    /// Bits.
    pub prefix_len: u8,
    /// The other end of a point-to-point address.
    pub peer: Option<IpAddr>,
    /// IPv4 only.
    pub broadcast: Option<IpAddr>,
    /// IPv4 only; starts with the link's name.
    pub label: Option<String>,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*` that a person sets. State (secondary, tentative, permanent, deprecated, DAD failed) is left out.
    pub flags: u32,
    /// Seconds; `u32::MAX` is for ever.
    pub valid_lft: u32,
    /// Seconds; `u32::MAX` is for ever.
    pub preferred_lft: u32,
    /// `IFAPROT_*`, 0 where the kernel tells none.
    pub protocol: u8,
    /// Metric of the connected route; none where the kernel's default holds.
    pub metric: Option<u32>,
    /// Attributes carried verbatim; none on the kernels known today.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// `RT_TABLE_MAIN` is 254.
    pub table: u32,
    /// The destination's network.
    pub destination: IpAddr,
    /// The destination's bits; 0 for the default route.
    pub prefix_len: u8,
    /// Bits of the source that the route is for (its address is `RTA_SRC`, verbatim); IPv6 only.
    #[serde(default)]
    pub source_len: u8,
    /// `RTN_*`: 1 unicast.
    pub kind: u8,
    /// `RTPROT_*`: 2 kernel, 3 boot, 4 static.
    pub protocol: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// Type of service, IPv4.
    pub tos: u8,
    /// `RTA_PRIORITY`.
    pub metric: Option<u32>,
    /// `RTA_PREFSRC`.
    pub prefsrc: Option<IpAddr>,
    /// Of a route with one hop.
    pub gateway: Option<IpAddr>,
    /// Of a route with one hop.
    pub link: Option<String>,
    /// `RTNH_F_*` that a person sets: 4 onlink. State (dead, linkdown, offload, trap) is left out.
    pub flags: u32,
    /// Legs of a multipath route.
    pub hops: Vec<Hop>,
    /// Attributes carried verbatim (metrics, encapsulation, expiry …): number and value in hexadecimal.
    pub attributes: Vec<Attribute>,
}

/// One leg of a multipath route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hop {
    /// Next router.
    pub gateway: Option<IpAddr>,
    /// Name of the link.
    pub link: String,
    /// Weight minus one, as in `rtnh_hops`.
    pub hops: u8,
    /// `RTNH_F_ONLINK`.
    pub flags: u8,
    /// Attributes carried verbatim.
    pub attributes: Vec<Attribute>,
}

/// A netlink attribute that nobody here interprets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attribute {
    /// Number in its family, `NLA_F_*` bits included.
    pub kind: u16,
    /// Value in hexadecimal digits.
    pub value: String,
}

/// A policy rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// 4 or 6.
    pub family: u8,
    /// Smaller is asked first.
    pub priority: u32,
    /// `FR_ACT_*`: 1 looks into a table.
    #[serde(default)]
    pub action: u8,
    /// `FIB_RULE_*`: 2 inverts the selectors.
    #[serde(default)]
    pub flags: u32,
    /// Selector.
    #[serde(default)]
    pub tos: u8,
    /// Bits of the source selector (its address is `FRA_SRC`, verbatim).
    #[serde(default)]
    pub source_len: u8,
    /// Bits of the destination selector (its address is `FRA_DST`, verbatim).
    #[serde(default)]
    pub destination_len: u8,
    /// Table to look up, where the rule names one.
    pub table: Option<u32>,
    /// `FRA_PROTOCOL`; says whose the rule is.
    pub protocol: u8,
    /// Name of the link a packet came in by.
    pub iif: Option<String>,
    /// Name of the link a packet is bound to.
    pub oif: Option<String>,
    /// Everything else, verbatim.
    pub attributes: Vec<Attribute>,
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Name of the link.
    pub link: String,
    /// Whose.
    pub ip: IpAddr,
    /// `aa:bb:cc:dd:ee:ff`; none for a proxy entry.
    pub mac: Option<String>,
    /// `NUD_PERMANENT`.
    pub permanent: bool,
    /// `NTF_PROXY`.
    pub proxy: bool,
    /// `NTF_*` beside that: 128 a router, 16 learnt by a program, which keeps it itself.
    #[serde(default)]
    pub flags: u8,
    /// `NDA_PROTOCOL`, an `RTPROT_*`; 0 where the kernel tells none.
    #[serde(default)]
    pub protocol: u8,
}

/// `ip address` words.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip)?;
        if let Some(peer) = self.peer {
            write!(f, " peer {peer}")?;
        }
        write!(f, "/{} on {}", self.prefix_len, self.link)
    }
}

/// `ip route` words.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = ["", "", "local ", "broadcast ", "anycast ", "multicast ", "blackhole "];
        match self.kind {
            7 => f.write_str("unreachable ")?,
            8 => f.write_str("prohibit ")?,
            9 => f.write_str("throw ")?,
            kind => f.write_str(kinds.get(usize::from(kind)).copied().unwrap_or("other "))?,
        }
        write!(f, "{}/{}", self.destination, self.prefix_len)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(link) = &self.link {
            write!(f, " dev {link}")?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        if let Some(prefsrc) = self.prefsrc {
            write!(f, " src {prefsrc}")?;
        }
        if let Some(id) = self.object() {
            write!(f, " nhid {id}")?;
        }
        for hop in &self.hops {
            f.write_str(" nexthop")?;
            if let Some(gateway) = hop.gateway {
                write!(f, " via {gateway}")?;
            }
            write!(f, " dev {} weight {}", hop.link, u16::from(hop.hops) + 1)?;
        }
        if self.table == 254 { Ok(()) } else { write!(f, " table {}", self.table) }
    }
}

/// `ip rule` words, as far as the model interprets them.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{} rule of priority {}", self.family, self.priority)?;
        for (word, link) in [("iif", &self.iif), ("oif", &self.oif)] {
            if let Some(link) = link {
                write!(f, " {word} {link}")?;
            }
        }
        match self.table {
            Some(table) => write!(f, " lookup {table}"),
            None => Ok(()),
        }
    }
}

/// `ip neighbour` words.
impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = if self.proxy { "proxy " } else { "" };
        write!(f, "{proxy}{} on {}", self.ip, self.link)?;
        match &self.mac {
            Some(mac) => write!(f, " at {mac}"),
            None => Ok(()),
        }
    }
}

/// `RTA_NH_ID`.
const OBJECT: u16 = 30;

impl Route {
    /// The number of the nexthop object that it goes by; then it names no hop of its own.
    pub fn object(&self) -> Option<u32> {
        let id = self.attributes.iter().find(|attribute| attribute.number() == OBJECT)?;
        id.u32()
    }
}

impl Attribute {
    /// Without the `NLA_F_*` bits.
    pub fn number(&self) -> u16 {
        self.kind & 0x3fff
    }

    /// The value of an attribute of four bytes, in this machine's order.
    pub fn u32(&self) -> Option<u32> {
        let value = u32::from_str_radix(&self.value, 16).ok()?;
        (self.value.len() == 8).then(|| u32::from_ne_bytes(value.to_be_bytes()))
    }
}

impl Network {
    /// A link by name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}
