//! Open vSwitch: bridge and ports through its database, daemons, datapaths.

mod simulation;

pub use simulation::simulate;

use crate::model::{Observed, Ovs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A change to Open vSwitch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// Make a bridge with its internal port in one transaction, and wait until its device is there.
    AddBridge {
        /// Of the bridge.
        bridge: String,
        /// Empty for the kernel's datapath.
        datapath_type: String,
        /// `other_config:hwaddr`: the uplink's MAC, so that no later port changes the bridge's.
        hwaddr: String,
        /// `external_ids`.
        external_ids: BTreeMap<String, String>,
    },
    /// Pin the MAC of a bridge that is there, and wait until its device has it.
    PinMac {
        /// Of the bridge.
        bridge: String,
        /// `other_config:hwaddr`.
        hwaddr: String,
    },
    /// Make a device a port of a bridge, and wait until vswitchd has given it a number.
    AddPort {
        /// Of the bridge.
        bridge: String,
        /// The device.
        port: String,
    },
    /// Take a port out of a bridge, and wait until the device is free.
    RemovePort {
        /// Of the bridge.
        bridge: String,
        /// The device.
        port: String,
    },
    /// Delete a bridge with all its ports, and wait until its device is gone.
    DeleteBridge {
        /// Of the bridge.
        bridge: String,
    },
    /// Stop vswitchd and ovsdb-server of the host, and wait until they are gone.
    StopDaemons,
    /// Start ovsdb-server and vswitchd of the host, and wait until both answer.
    StartDaemons,
    /// Remove a datapath from the kernel, which frees every device in it.
    DeleteDatapath {
        /// Usually `ovs-system`.
        datapath: String,
    },
    /// Remove one port from a kernel datapath without vswitchd: the way out when it is dead.
    RemoveVport {
        /// Usually `ovs-system`.
        datapath: String,
        /// The device.
        port: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddBridge { bridge, hwaddr, .. } => {
                write!(f, "make the bridge {bridge} with the uplink's MAC {hwaddr}")
            }
            Self::PinMac { bridge, hwaddr } => {
                write!(
                    f,
                    "pin the MAC of {bridge} to {hwaddr}, so that frames for the uplink are its own"
                )
            }
            Self::AddPort { bridge, port } => write!(
                f,
                "make {port} a port of {bridge}: what arrives goes to {bridge}, what {port} sends still leaves"
            ),
            Self::RemovePort { bridge, port } => {
                write!(f, "take {port} out of {bridge}: what arrives on {port} is its own again")
            }
            Self::DeleteBridge { bridge } => {
                write!(f, "delete the bridge {bridge}: nothing is to remain of it")
            }
            Self::StopDaemons => f.write_str("stop the host's Open vSwitch"),
            Self::StartDaemons => f.write_str("start the host's Open vSwitch"),
            Self::DeleteDatapath { datapath } => {
                write!(f, "delete the kernel datapath {datapath}, which holds the module")
            }
            Self::RemoveVport { datapath, port } => {
                write!(f, "take {port} out of the kernel datapath {datapath}, without vswitchd")
            }
        }
    }
}

/// The datapath that vswitchd makes for its bridges of the kernel.
pub const DATAPATH: &str = "ovs-system";

/// [`stop_and_free`], but for the datapaths that were there before the daemons ran.
pub fn stop_but_spare(observed: &Observed, before: Option<&Ovs>) -> Vec<Step> {
    let was = |name: &String| {
        before.is_some_and(|before| before.datapaths.iter().any(|found| found.name == *name))
    };
    let mut steps = stop_and_free(observed);
    steps.retain(|step| !matches!(step, Step::DeleteDatapath { datapath } if was(datapath)));
    steps
}

/// What frees the kernel's module: no daemon, no datapath. Addresses must be off the
/// datapath's devices before, since they vanish with it.
pub fn stop_and_free(observed: &Observed) -> Vec<Step> {
    let ovs = &observed.ovs;
    let running = ovs.vswitchd || ovs.ovsdb_server || ovs.database.is_some();
    let stop = running.then_some(Step::StopDaemons);
    let delete = ovs
        .datapaths
        .iter()
        .map(|datapath| Step::DeleteDatapath { datapath: datapath.name.clone() });
    stop.into_iter().chain(delete).collect()
}

/// What makes both daemons answer.
pub fn start(observed: &Observed) -> Vec<Step> {
    let answers = observed.ovs.vswitchd && observed.ovs.database.is_some();
    if answers { Vec::new() } else { vec![Step::StartDaemons] }
}

#[cfg(test)]
mod tests;
