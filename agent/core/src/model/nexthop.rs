use super::Attribute;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A nexthop object (`ip nexthop`): routes name it by its number, and changing it changes them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nexthop {
    /// `NHA_ID`.
    pub id: u32,
    /// `AF_*`: 2 IPv4, 10 IPv6, 0 for a group.
    pub family: u8,
    /// `RTPROT_*`.
    pub protocol: u8,
    /// `RTNH_F_*` that a person sets: 4 onlink.
    pub flags: u32,
    /// None for a group, a blackhole, and what the forwarding database of a VXLAN uses.
    pub link: Option<String>,
    /// Next router.
    pub gateway: Option<IpAddr>,
    /// Of a group, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// Attributes carried verbatim (blackhole, fdb, encapsulation, kind of group …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
}

/// One nexthop of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `NHA_ID` of the nexthop.
    pub id: u32,
    /// Weight minus one, as in `struct nexthop_grp`.
    pub weight: u16,
}

/// `ip nexthop` words.
impl fmt::Display for Nexthop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id {}", self.id)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(link) = &self.link {
            write!(f, " dev {link}")?;
        }
        for (at, member) in self.members.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { " group " } else { "/" }, member.id)?;
        }
        Ok(())
    }
}
