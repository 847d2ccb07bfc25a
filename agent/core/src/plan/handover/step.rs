use super::shadow::SHADOW_TABLE;
use super::split::is_stand_in;
use crate::model::{Address, Neighbour, Nexthop, Route, Rule, SHIELD_ENTRY, SHIELD_EXIT};
use crate::probe::Gateway;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A change over netlink, or of a link's sysctl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// `net.ipv4.conf.LINK.rp_filter`.
    SetRpFilter {
        /// Which.
        link: String,
        /// 0 off, 1 strict, 2 loose.
        value: u8,
    },
    /// Another sysctl of a link.
    SetSysctl {
        /// Which.
        link: String,
        /// `ipv4/arp_ignore` is `net.ipv4.conf.LINK.arp_ignore`.
        key: String,
        /// The new value.
        value: i64,
    },
    /// Bytes.
    SetMtu {
        /// Which.
        link: String,
        /// Bytes.
        mtu: u32,
    },
    /// Set `IFF_UP`, and wait until the link is running.
    SetUp {
        /// Which.
        link: String,
    },
    /// Add an address. IPv6 without duplicate address detection: the other link holds it already.
    AddAddress(Address),
    /// Delete an address from its link.
    DeleteAddress(Address),
    /// Give an IPv6 address of a link the flags it had before it was added without detection.
    SettleAddress(Address),
    /// See that a bridge forwards: gateways must answer out of it. Changes nothing.
    AskGateways {
        /// The bridge's device.
        link: String,
        /// The uplink: who is silent out of it too proves nothing.
        beside: String,
        /// Whom to ask.
        gateways: Vec<Gateway>,
    },
    /// Say once on the wire who answers for these addresses, and wait for nobody: of IPv4 a
    /// gratuitous ARP request, which every neighbour takes that knows the address (RFC 826, RFC 5227
    /// section 3), and a reply, for those that heed no request; of IPv6 an unasked advertisement to all nodes
    /// with override (RFC 4861, 7.2.6). Leaves nothing behind; one that cannot be sent is told,
    /// and fails nothing.
    Announce {
        /// The device that owns them, in whose name it is said.
        link: String,
        /// Those of the node itself.
        addresses: Vec<IpAddr>,
        /// What an advertisement says: whether the node forwards IPv6.
        router: bool,
    },
    /// Seed or replace a neighbour entry.
    SetNeighbour(Neighbour),
    /// Delete a permanent or proxy neighbour entry.
    DeleteNeighbour(Neighbour),
    /// Append routes in one batch; each must be taken. Never replaces.
    AddRoutes {
        /// In order: what a gateway is reached by comes before the gateway.
        routes: Vec<Route>,
    },
    /// Put IPv4 routes before those of the same destination, type of service and metric, in one
    /// batch; each must be taken. Never replaces.
    PrependRoutes {
        /// In the order in which they are to stand.
        routes: Vec<Route>,
    },
    /// Put each route in the place of the only one of its destination, type of service and
    /// metric, in one batch; each must be taken.
    ReplaceRoutes {
        /// In order: what a gateway is reached by comes before the gateway.
        routes: Vec<Route>,
    },
    /// Make nexthop objects, or change those of the same numbers, and with them all their routes.
    SetNexthops {
        /// In order: a group comes behind its members.
        nexthops: Vec<Nexthop>,
    },
    /// Add rules behind the others of their priorities.
    AddRules {
        /// In order.
        rules: Vec<Rule>,
    },
    /// Delete exactly these rules; of equal ones the first.
    DeleteRules {
        /// In order.
        rules: Vec<Rule>,
    },
    /// Delete exactly these routes, link and gateway included.
    DeleteRoutes {
        /// In order.
        routes: Vec<Route>,
    },
    /// Add the rule that makes a family look into a shadow table before `main`.
    AddShadowRule {
        /// 4 or 6.
        family: u8,
        /// Of the rule.
        priority: u32,
        /// The shadow table.
        table: u32,
    },
    /// Remove that rule.
    DeleteShadowRule {
        /// 4 or 6.
        family: u8,
        /// Of the rule.
        priority: u32,
        /// The shadow table.
        table: u32,
    },
    /// Have IP packets to this node come in by a device beside the uplink, whatever becomes of
    /// the uplink behind it. Where the kernel refuses, nothing of it is left and the step is
    /// done all the same: a shield stands in nobody's way.
    RaiseShield {
        /// Where the packets arrive.
        uplink: String,
        /// The uplink's, which the device beside it gets.
        mac: String,
        /// The uplink's, bytes.
        mtu: u32,
    },
    /// Have packets come in by the uplink, or by the bridge that it is a port of, again.
    LowerShield,
    /// Delete the devices of a shield that is lowered.
    DeleteShieldLinks,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetRpFilter { link, value } => write_rp_filter(f, link, *value),
            Self::SetSysctl { link, key, value } => {
                write!(f, "set {key} of {link} to {value}: {}", why(key))
            }
            Self::SetMtu { link, mtu } => write!(f, "set the MTU of {link} to {mtu}, the uplink's"),
            Self::SetUp { link } => {
                write!(f, "set {link} up and wait until it runs: what is down sends nothing")
            }
            Self::AddAddress(address) if address.ip.is_ipv6() => write!(
                f,
                "add {address}, usable at once: no duplicate address detection, as the other link holds it too"
            ),
            Self::AddAddress(address) => {
                write!(f, "add {address}: behind the other link's, so nothing changes its way yet")
            }
            Self::DeleteAddress(address) => {
                write!(f, "delete {address}: the other link has it, so its routes stay")
            }
            Self::SettleAddress(address) => {
                write!(f, "give {address} back the flags it had before the move")
            }
            Self::AskGateways { link, gateways, .. } => write_question(f, link, gateways),
            Self::Announce { link, addresses, .. } => write_announcement(f, link, addresses),
            Self::SetNeighbour(neighbour) => write!(
                f,
                "set neighbour {neighbour}, so that nobody has to wait for an answer to ARP or ND"
            ),
            Self::DeleteNeighbour(neighbour) => {
                write!(f, "delete the static neighbour {neighbour}: the other link has it now")
            }
            Self::AddRoutes { routes } => write_routes(f, "add", routes),
            Self::DeleteRoutes { routes } => write_routes(f, "delete", routes),
            Self::PrependRoutes { routes } => {
                write_routes(f, "put before those of other links", routes)
            }
            Self::ReplaceRoutes { routes } => write_routes(f, MOVE, routes),
            Self::SetNexthops { nexthops } => {
                write_list(f, "set", "nexthop", nexthops)?;
                f.write_str(": every route by them moves in the same moment")
            }
            Self::AddRules { rules } => write_list(f, "add", "rule", rules),
            Self::DeleteRules { rules } => write_list(f, "delete", "rule", rules),
            Self::AddShadowRule { family, priority, table } => write!(
                f,
                "add an IPv{family} rule of priority {priority} that looks into table {table} before main: every route flips at once"
            ),
            Self::DeleteShadowRule { family, priority, table } => write!(
                f,
                "delete the IPv{family} rule of priority {priority} for table {table}: main says the same now"
            ),
            Self::RaiseShield { uplink, mac, mtu } => write_shield(f, uplink, mac, *mtu),
            Self::LowerShield => {
                f.write_str("lower the shield: packets have their way without it now")
            }
            Self::DeleteShieldLinks => write!(
                f,
                "delete the shield's devices {SHIELD_ENTRY} and {SHIELD_EXIT}: no packet passes them any more"
            ),
        }
    }
}

fn write_rp_filter(f: &mut fmt::Formatter<'_>, link: &str, value: u8) -> fmt::Result {
    match value {
        2 => write!(
            f,
            "set rp_filter of {link} to 2 (loose): for a moment packets come in by one link and leave by the other"
        ),
        _ => write!(f, "set rp_filter of {link} back to {value}"),
    }
}

fn write_question(f: &mut fmt::Formatter<'_>, link: &str, gateways: &[Gateway]) -> fmt::Result {
    let names: Vec<String> = gateways.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    write!(
        f,
        "ask {names} out of {link}, which has fail_mode secure and forwards only what its flows say"
    )
}

fn write_announcement(f: &mut fmt::Formatter<'_>, link: &str, all: &[IpAddr]) -> fmt::Result {
    write_list(f, "announce", "address", all)?;
    write!(f, " out of {link}, so that switches and neighbours learn where from its first frame")
}

fn write_shield(f: &mut fmt::Formatter<'_>, uplink: &str, mac: &str, mtu: u32) -> fmt::Result {
    write!(
        f,
        "raise the shield: IP packets for this node that arrive on {uplink} come in by {SHIELD_EXIT} ({mac}, MTU {mtu}), so that none is lost while Open vSwitch takes or lets go of {uplink}; where the kernel refuses, go on without"
    )
}

fn why(key: &str) -> &'static str {
    super::SYSCTLS.iter().find(|sysctl| sysctl.key == key).map_or("as it was", |found| found.why)
}

/// A few by name, many by number.
fn write_list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    noun: &str,
    all: &[T],
) -> fmt::Result {
    const NAMED: usize = 6;
    let names: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    let plural = match noun {
        _ if all.len() == 1 => "",
        "address" => "es",
        _ => "s",
    };
    write!(f, "{verb} {} {noun}{plural}: {}", all.len(), names.join("; "))?;
    if all.len() > NAMED { write!(f, "; and {} more", all.len() - NAMED) } else { Ok(()) }
}

const MOVE: &str = "move in place";

/// A few routes by name, many by number.
fn write_routes(f: &mut fmt::Formatter<'_>, verb: &str, routes: &[Route]) -> fmt::Result {
    const NAMED: usize = 6;
    let (shadow, own): (Vec<&Route>, Vec<&Route>) =
        routes.iter().partition(|route| route.table == SHADOW_TABLE);
    write!(f, "{verb} ")?;
    if !shadow.is_empty() {
        let count = shadow.len();
        write!(f, "{count} routes of the shadow table, a copy of main")?;
    }
    if !shadow.is_empty() && !own.is_empty() {
        f.write_str(" and ")?;
    }
    if own.is_empty() {
        return Ok(());
    }
    let stand_in = own.iter().all(|route| is_stand_in(route));
    let names: Vec<String> = own.iter().take(NAMED).map(ToString::to_string).collect();
    let plural = if own.len() == 1 { "route" } else { "routes" };
    write!(f, "{} {plural}: {}", own.len(), names.join("; "))?;
    if own.len() > NAMED {
        write!(f, "; and {} more", own.len() - NAMED)?;
    }
    f.write_str(match verb {
        "delete" if stand_in => ": the table local is asked by itself now",
        _ if stand_in => {
            ": at its first rule the kernel forgets for a moment what is local, but not these"
        }
        "delete" => ": nothing is to leave by these any more",
        MOVE => ": at no moment is one missing",
        _ => ": what is reached by the other link, by this one",
    })
}
