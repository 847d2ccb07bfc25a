//! What a boot leaves to do.

use crate::checkpoint::Checkpoint;
use crate::config::{AddressesChoice, Settings};
use crate::goal::Goal;
use crate::model::{Bridge, Observed};
use crate::phase::{End, Phase};
use crate::plan::handover::Owner;
use crate::plan::switch;

/// What is to be done after a boot, so that the node is reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// Nothing: the uplink is free.
    Stay,
    /// Move the addresses to the bridge, which has the uplink already and is healthy.
    Complete,
    /// Free the uplink and keep the addresses there.
    Harbour {
        /// Why, in plain words.
        why: String,
    },
}

/// Who owns the addresses when a transaction of this goal has ended in this phase; nobody
/// known where none was moved. An open one belongs to the harbour.
pub fn owner_at_end(
    goal: &Goal,
    phase: Phase,
    settings: &Settings,
    checkpoint: &Checkpoint,
) -> Option<Owner> {
    let before = switch::owner(settings, &checkpoint.before);
    match phase {
        Phase::Ended(End::Reached) => match goal {
            Goal::Handover { to, .. } | Goal::Boot { to } => Some(*to),
            Goal::Profile { profile, .. } => match profile.addresses {
                AddressesChoice::Bridge => Some(Owner::Bridge),
                AddressesChoice::Uplink => Some(Owner::Uplink),
                AddressesChoice::Leave => before,
            },
            Goal::Modules { .. } | Goal::Cni { .. } => before,
        },
        Phase::Ended(End::RolledBack | End::Unchanged | End::Refused) => before,
        Phase::Ended(End::Degraded)
        | Phase::Preparing
        | Phase::Applying
        | Phase::Verifying
        | Phase::Committing
        | Phase::RollingBack => Some(Owner::Uplink),
    }
}

/// What to do on a host that has just booted, where a transaction left the addresses to `owner`.
///
/// `interrupted`: by the power cut or reboot that this boot followed.
pub fn course(
    owner: Option<Owner>,
    interrupted: bool,
    settings: &Settings,
    observed: &Observed,
) -> Course {
    if !is_held(settings, observed) {
        return Course::Stay;
    }
    let (uplink, bridge) = (&settings.node.uplink, &settings.node.bridge);
    match owner {
        _ if interrupted => Course::Harbour { why: "the boot interrupted a transaction".into() },
        None => Course::Stay,
        Some(Owner::Uplink) => Course::Harbour {
            why: format!("{uplink} is a port again, although its addresses belong on it"),
        },
        Some(Owner::Bridge) => match sickness(settings, observed) {
            None => Course::Complete,
            Some(sick) => Course::Harbour {
                why: format!("{bridge} cannot take the addresses of {uplink}: {sick}"),
            },
        },
    }
}

/// Whether what arrives at the uplink goes to Open vSwitch, or will as soon as vswitchd looks.
fn is_held(settings: &Settings, observed: &Observed) -> bool {
    let uplink = &settings.node.uplink;
    let ovs = &observed.ovs;
    let row = || ovs.bridge(&settings.node.bridge).is_some_and(|row| row.port(uplink).is_some());
    ovs.datapaths.iter().any(|datapath| datapath.vports.contains(uplink)) || row()
}

/// Why the bridge would not forward; none where it would.
fn sickness(settings: &Settings, observed: &Observed) -> Option<String> {
    let (uplink, bridge) = (&settings.node.uplink, &settings.node.bridge);
    let ovs = &observed.ovs;
    let Some(database) = &ovs.database else {
        return Some("Open vSwitch's database does not answer".into());
    };
    if !ovs.vswitchd {
        return Some("no ovs-vswitchd runs".into());
    }
    if database.flow_restore_wait {
        return Some("other_config:flow-restore-wait is set, and nothing is forwarded yet".into());
    }
    let Some(row) = ovs.bridge(bridge) else {
        return Some(format!("Open vSwitch has no bridge {bridge}"));
    };
    if observed.network.link(bridge).is_none() {
        return Some(format!("there is no network device {bridge}"));
    }
    if row.fail_mode.as_deref() == Some("secure") {
        return Some("its fail_mode is secure, and after a boot it has no flows yet".into());
    }
    port_sickness(row, uplink)
}

fn port_sickness(row: &Bridge, uplink: &str) -> Option<String> {
    let Some(port) = row.port(uplink) else {
        return Some(format!("{uplink} is no port of it"));
    };
    if let Some(error) = port.error.as_ref().filter(|error| !error.is_empty()) {
        return Some(format!("Open vSwitch says of the port {uplink}: {error}"));
    }
    let made = port.ofport.is_some_and(|number| number > 0);
    (!made).then(|| format!("Open vSwitch has not made the port {uplink} yet"))
}
