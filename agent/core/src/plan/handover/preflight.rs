//! What makes a handover impossible, found before anything changes.

use super::shadow::{self, OWN_PROTOCOL, SHADOW_TABLE};
use super::{Case, Owner};
use crate::model::{Link, Network};
use crate::plan::Refusal;

/// IPv6 needs links of at least this many bytes; the kernel takes it off smaller ones.
const IPV6_MTU: u32 = 1280;
/// `IFNAMSIZ` without the NUL.
const NAME_LIMIT: usize = 15;

pub(super) fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let (uplink, bridge) = (&case.want.uplink, &case.want.bridge);
    let network = &case.now.network;
    if uplink == bridge || bridge.is_empty() || bridge.len() > NAME_LIMIT {
        return Err(Refusal::new(
            "BridgeNameInvalid",
            format!(
                "the bridge {bridge:?} of the uplink {uplink:?} cannot be: a name of its own with 1 to {NAME_LIMIT} bytes was expected; nothing was changed: correct node.bridge"
            ),
        ));
    }
    let Some(nic) = network.link(uplink) else { return Err(missing(network, uplink)) };
    if !case.salvage {
        shadow_is_ours(network)?;
    }
    enslaved(case, nic)?;
    match case.want.to {
        Owner::Uplink => Ok(()),
        Owner::Bridge => {
            ethernet(case, nic)?;
            open_vswitch(case)?;
            bridge_device(case)
        }
    }
}

fn missing(network: &Network, uplink: &str) -> Refusal {
    let names: Vec<&str> = network.links.iter().map(|link| link.name.as_str()).collect();
    Refusal::new(
        "UplinkMissing",
        format!(
            "there is no network device {uplink}, which was to be the uplink; there are {}; nothing was changed: correct node.uplink (NCP: ovs_uplink_port)",
            names.join(", ")
        ),
    )
}

/// Our table and what looks into it must be our own.
fn shadow_is_ours(network: &Network) -> Result<(), Refusal> {
    match shadow::foreign(network) {
        None => Ok(()),
        Some(what) => Err(Refusal::new(
            "ShadowTableTaken",
            format!(
                "{what} uses table {SHADOW_TABLE} and is not Pointsman's (protocol {OWN_PROTOCOL}), which needs that table for itself; nothing was changed: remove it"
            ),
        )),
    }
}

/// The uplink may be a port of our bridge and of nothing else.
fn enslaved(case: &Case<'_>, nic: &Link) -> Result<(), Refusal> {
    let (uplink, bridge) = (&case.want.uplink, &case.want.bridge);
    let ovs = &case.now.ovs;
    let other = ovs.database.as_ref().and_then(|database| {
        let mut others = database.bridges.iter().filter(|row| row.name != *bridge);
        others.find(|row| row.port(uplink).is_some())
    });
    let master = nic.master.as_ref().filter(|master| {
        let kind = case.now.network.link(master).and_then(|link| link.kind.as_deref());
        kind != Some("openvswitch") && ovs.datapaths.iter().all(|found| found.name != **master)
    });
    let holder = other.map(|row| format!("the Open vSwitch bridge {}", row.name));
    match holder.or_else(|| master.map(|name| format!("the device {name}"))) {
        None => Ok(()),
        Some(holder) => Err(Refusal::new(
            "UplinkEnslaved",
            format!(
                "{uplink} is a port of {holder}, and can be one of {bridge} only when it is free; nothing was changed: take it out there, or name another uplink"
            ),
        )),
    }
}

fn ethernet(case: &Case<'_>, nic: &Link) -> Result<(), Refusal> {
    let uplink = &case.want.uplink;
    let mac = nic.mac.as_deref().unwrap_or_default();
    if mac.len() != 17 || mac == "00:00:00:00:00:00" {
        return Err(Refusal::new(
            "UplinkNotEthernet",
            format!(
                "{uplink} has the link layer address {mac:?} where a MAC was expected, and a bridge forwards Ethernet only; nothing was changed: name another uplink"
            ),
        ));
    }
    let v6 = case.networks().any(|network| {
        network.addresses.iter().any(|address| case.is_ours(&address.link) && address.ip.is_ipv6())
    });
    if nic.mtu < IPV6_MTU && v6 {
        return Err(Refusal::new(
            "UplinkMtuTooSmall",
            format!(
                "{uplink} has an MTU of {} bytes, and IPv6, which the node uses, needs {IPV6_MTU}; nothing was changed: raise it",
                nic.mtu
            ),
        ));
    }
    Ok(())
}

fn open_vswitch(case: &Case<'_>) -> Result<(), Refusal> {
    let ovs = &case.now.ovs;
    let Some(database) = &ovs.database else {
        let why = ovs.database_error.as_deref().unwrap_or("no reason known");
        return Err(Refusal::transient(
            "OvsUnavailable",
            format!(
                "the Open vSwitch database does not answer ({why}), so {} cannot get a port; nothing was changed: start Open vSwitch, or correct node.ovsdb",
                case.want.bridge
            ),
        ));
    };
    if !ovs.vswitchd {
        return Err(Refusal::transient(
            "OvsUnavailable",
            "no ovs-vswitchd runs, so no port would become one; nothing was changed: start Open vSwitch",
        ));
    }
    if ovs.vswitchd_hangs {
        return Err(Refusal::transient(
            "OvsUnavailable",
            "ovs-vswitchd runs and does not answer on its control socket, so no port would become one; nothing was changed: wait, or restart Open vSwitch",
        ));
    }
    if database.flow_restore_wait {
        return Err(Refusal::transient(
            "FlowRestoreWait",
            "Open vSwitch has other_config:flow-restore-wait set and forwards nothing yet; nothing was changed: wait for whoever restores the flows, or remove the key",
        ));
    }
    Ok(())
}

/// The bridge's name must be free, or stand for an internal port.
fn bridge_device(case: &Case<'_>) -> Result<(), Refusal> {
    let bridge = &case.want.bridge;
    let row = case.now.ovs.bridge(bridge);
    let device = case.now.network.link(bridge);
    let kind = device.and_then(|link| link.kind.as_deref());
    match (row, device) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(Refusal::transient(
            "BridgeDeviceMissing",
            format!(
                "Open vSwitch knows the bridge {bridge}, but there is no network device of that name; nothing was changed: see what ovs-vswitchd says of it"
            ),
        )),
        // the kernel datapath's internal port is of kind openvswitch, that of user space a tap
        (Some(_), Some(_)) if matches!(kind, Some("openvswitch" | "tun")) => Ok(()),
        (_, Some(_)) => Err(Refusal::new(
            "BridgeNotOvs",
            format!(
                "the device {bridge} is of kind {} where an Open vSwitch bridge or nothing was expected; nothing was changed: remove it, or name another bridge",
                kind.unwrap_or("physical")
            ),
        )),
    }
}

/// What stays behind or breaks under any mover.
pub(super) fn notes(case: &Case<'_>, traffic: bool) -> Vec<String> {
    if !traffic {
        return Vec::new();
    }
    vec![format!(
        "what no mover can save: TCP connections of pods that are masqueraded (conntrack binds them to the device they left by), and sockets bound to {} by name",
        case.source
    )]
}
