//! Who else configures the uplink, and what that means for a move to the bridge: one table.
//!
//! Only a move to the bridge is ever refused for these reasons. The harbour and every way
//! back lead to the uplink, where all these programs expect the addresses.

mod foreign;
mod happened;
mod persistence;
mod table;
mod unproven;

use foreign::foreign_ports;
pub use happened::happened;
pub use table::{Decision, Row, TABLE};

use super::addresses::left_out;
use super::{Owner, Want, plan_handover};
use crate::checkpoint::Checkpoint;
use crate::config::Node;
use crate::model::{Address, Bond, Claim, Holder, Link, Network, Observed, Owners};
use crate::plan::{Plan, Refusal};

/// The reasons that `node.accept` may hold.
pub fn acceptable() -> Vec<&'static str> {
    let mut all = vec![persistence::REASON, unproven::REASON, UNREAD];
    for row in TABLE {
        if let Decision::Refuse(reason) = row.decision
            && !all.contains(&reason)
        {
            all.push(reason);
        }
    }
    all.sort_unstable();
    all
}

/// Something of the host's configuration could not be read.
const UNREAD: &str = "OwnersUnknown";
/// `IFAPROT_*` of keepalived: its route protocol, `RTPROT_KEEPALIVED`.
pub(super) const KEEPALIVED: u8 = 18;

/// [`plan_handover`], beside everybody else: a move to the bridge that others would undo is
/// refused; what they have to be told is noted.
pub fn plan_beside(
    node: &Node,
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let foreign = foreign_ports(node, observed).filter(|_| want.delete_bridge);
    if let (Some(foreign), None) = (&foreign, way_back) {
        return Err(foreign.clone());
    }
    let want = sparing(node, want, observed);
    let mut plan = plan_handover(&want, observed, way_back)?;
    if plan.is_empty() {
        return Ok(plan);
    }
    plan.notes.extend(foreign.map(|foreign| format!("the bridge stays: {foreign}")));
    plan.notes.extend(unproven::judge(node, &want, observed, (&plan, way_back))?);
    if let Some(owners) = &observed.owners {
        if want.to == Owner::Bridge {
            // with a checkpoint this was asked before the first change
            let asked = way_back.is_some();
            let mut said = judge(node, &want, observed, owners, asked)?;
            plan.notes.append(&mut said);
        }
        plan.notes.extend(owners.mentions.iter().cloned());
    }
    Ok(plan)
}

/// What a way back wants, which is never refused: a bridge to which somebody else's port came
/// meanwhile is left with it.
pub fn sparing(node: &Node, want: &Want, observed: &Observed) -> Want {
    let delete_bridge = want.delete_bridge && foreign_ports(node, observed).is_none();
    Want { delete_bridge, ..want.clone() }
}

/// Notes, or the first reason not to move.
fn judge(
    node: &Node,
    want: &Want,
    observed: &Observed,
    owners: &Owners,
    asked: bool,
) -> Result<Vec<String>, Refusal> {
    let accepted = |reason: &str| asked || node.accept.iter().any(|word| word == reason);
    let mut notes = Vec::new();
    for claim in claims(&want.uplink, &observed.network, owners) {
        let Some(row) = TABLE.iter().find(|row| row.holder == claim.holder) else { continue };
        match row.decision {
            Decision::Proceed => notes.push(words(row, &claim, want, owners)),
            Decision::Refuse(reason) if accepted(reason) => {
                notes.push(format!("accepted: {}", words(row, &claim, want, owners)));
            }
            Decision::Refuse(reason) => {
                return Err(Refusal::new(
                    reason,
                    format!(
                        "{}; nothing was changed. If that is as it should be, set `node.accept = [\"{reason}\"]`",
                        words(row, &claim, want, owners)
                    ),
                ));
            }
            Decision::Never(_) if asked => notes.push(words(row, &claim, want, owners)),
            Decision::Never(reason) => {
                let words = words(row, &claim, want, owners);
                return Err(Refusal::new(reason, format!("{words}; nothing was changed")));
            }
        }
    }
    if let Some(unread) = owners.unread.first() {
        let message = format!(
            "{unread}, so nobody knows who else configures {}; nothing was changed: make it readable, or set `node.accept = [\"{UNREAD}\"]`",
            want.uplink
        );
        if !accepted(UNREAD) {
            return Err(Refusal::new(UNREAD, message));
        }
    }
    notes.extend(persistence::judge(want, observed, owners, accepted(persistence::REASON))?);
    Ok(notes)
}

/// A row for a person, with the names and the lines filled in.
fn words(row: &Row, claim: &Claim, want: &Want, owners: &Owners) -> String {
    let fill = |text: &str| {
        let servers = name_servers(owners);
        text.replace("UPLINK", &want.uplink)
            .replace("BRIDGE", &want.bridge)
            .replace("SERVERS", &servers)
    };
    let mut text = format!("{}: {} ({}): {}", claim.link, row.title, claim.evidence, fill(row.why));
    if !row.lines.is_empty() {
        let lines: Vec<String> = row.lines.iter().map(|line| fill(line)).collect();
        text.push_str("; missing:\n");
        text.push_str(&lines.join("\n"));
        text.push('\n');
    }
    text
}

/// Those that the link's claim names.
fn name_servers(owners: &Owners) -> String {
    let claim = owners.claims.iter().find(|claim| claim.holder == Holder::LinkDns);
    let evidence = claim.map(|claim| claim.evidence.as_str()).unwrap_or_default();
    let words = evidence.split([' ', ',']);
    let servers: Vec<&str> =
        words.filter(|word| word.parse::<std::net::IpAddr>().is_ok()).collect();
    servers.join(" ")
}

/// What files and processes tell, and what the kernel tells.
fn claims(uplink: &str, network: &Network, owners: &Owners) -> Vec<Claim> {
    let mut claims = owners.claims.clone();
    let claim = |holder, evidence: String| Claim { holder, link: uplink.to_owned(), evidence };
    let known = |holder| owners.claims.iter().any(|claim| claim.holder == holder);
    let own = network.addresses.iter().filter(|address| address.link == uplink);
    for address in own {
        if is_leased(address) && !known(Holder::Dhcp) {
            let evidence =
                format!("{address} ends in {} s, so somebody renews it", address.valid_lft);
            claims.push(claim(Holder::Dhcp, evidence));
        }
        if address.protocol == KEEPALIVED && !known(Holder::Keepalived) {
            claims.push(claim(Holder::Keepalived, format!("{address} has protocol keepalived")));
        }
    }
    if let Some(link) = network.link(uplink) {
        claims.extend(kind_of(link).map(|(holder, evidence)| claim(holder, evidence)));
    }
    for child in network.links.iter().filter(|link| link.parent.as_deref() == Some(uplink)) {
        let holder = match child.kind.as_deref() {
            Some("vlan") => Holder::VlanAbove,
            Some("macvlan" | "macvtap" | "ipvlan" | "ipvtap") => Holder::MacvlanAbove,
            _ => continue,
        };
        claims.push(claim(holder, child.name.clone()));
    }
    claims.dedup();
    claims
}

/// Whether an address has an end, which only a server sets, of either family. What the kernel
/// made of a router's advertisements has one too, and the bridge hears the router.
pub(super) fn is_leased(address: &Address) -> bool {
    address.scope == 0 && address.valid_lft != u32::MAX && left_out(address).is_none()
}

/// Whether an address is to be there for as long as the node is up.
pub(super) fn is_lasting(address: &Address) -> bool {
    address.scope == 0
        && address.valid_lft == u32::MAX
        && address.protocol != KEEPALIVED
        && left_out(address).is_none()
}

fn kind_of(link: &Link) -> Option<(Holder, String)> {
    const TLB: u8 = 5;
    const ALB: u8 = 6;
    const ACTIVE: u8 = 1;
    match (link.kind.as_deref()?, link.bond.unwrap_or_default()) {
        ("bond", Bond { mode: mode @ (TLB | ALB), .. }) => {
            Some((Holder::BondOfManyMacs, format!("mode {mode}")))
        }
        ("bond", Bond { mode: 1, fail_over_mac: ACTIVE }) => {
            Some((Holder::BondChangingMac, "mode 1, fail_over_mac 1".into()))
        }
        ("bond", Bond { mode, .. }) => Some((Holder::Bond, format!("mode {mode}"))),
        ("team", _) => Some((Holder::Team, "kind team".into())),
        ("vlan", _) => {
            let parent = link.parent.as_deref().unwrap_or("another link");
            Some((Holder::Vlan, format!("on {parent}")))
        }
        _ => None,
    }
}

/// Who of the table is likely to have put something back on a link.
pub fn suspects(uplink: &str, observed: &Observed) -> Vec<&'static str> {
    let Some(owners) = &observed.owners else { return Vec::new() };
    let mut found: Vec<&'static str> = claims(uplink, &observed.network, owners)
        .iter()
        .filter_map(|claim| match claim.holder {
            Holder::NetworkManager | Holder::NetworkManagerAway => Some("NetworkManager"),
            Holder::Networkd | Holder::NetworkdAway => Some("systemd-networkd"),
            Holder::Dhcp => Some("a DHCP client"),
            Holder::Keepalived => Some("keepalived"),
            Holder::KubeVip => Some("kube-vip"),
            Holder::Ifupdown => Some("ifupdown"),
            Holder::CloudInit => Some("cloud-init"),
            Holder::Netplan
            | Holder::LinkDns
            | Holder::BondOfManyMacs
            | Holder::BondChangingMac
            | Holder::Bond
            | Holder::Team
            | Holder::Vlan
            | Holder::VlanAbove
            | Holder::MacvlanAbove
            | Holder::Vrf
            | Holder::Port => None,
        })
        .collect();
    found.dedup();
    found
}
