//! Open vSwitch: bridge and ports through its database, daemons, datapaths.

mod flows;
mod internal_port;
mod simulation;

pub use flows::{is_held_by_another, restore_flows, save_flows};
pub use internal_port::{InternalPort, restore_port};
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
        /// The number it has to get, where flows name it by that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ofport: Option<i64>,
    },
    /// Take a port out of a bridge, and wait until the device is free.
    RemovePort {
        /// Of the bridge.
        bridge: String,
        /// The device.
        port: String,
    },
    /// Take a port out of the database, and wait for nobody: so that no vswitchd takes the
    /// device again. For one that is dead or hangs.
    ForgetPort {
        /// Of the bridge.
        bridge: String,
        /// The device.
        port: String,
    },
    /// The same in the file of a database whose server is dead.
    ForgetPortOnDisk {
        /// Of the bridge.
        bridge: String,
        /// The device.
        port: String,
        /// The database's, as the host sees it. None: where distributions have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
    /// End a vswitchd that hangs, or has lost its database: by SIGKILL, since it does not listen.
    EndVswitchd,
    /// End an ovsdb-server that hangs, by SIGKILL.
    EndServer,
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
    /// Write TLV maps, meters, groups and flows of bridges to the state directory.
    SaveFlows {
        /// By name.
        bridges: Vec<String>,
    },
    /// Have the next vswitchd wait for flows before it forwards
    /// (`other_config:flow-restore-wait`), and leave a mark that it waits for ours.
    HoldFlows,
    /// Put back what was saved of a bridge, in the place of all that it has.
    RestoreFlows {
        /// Of the bridge.
        bridge: String,
    },
    /// End the wait, with its mark; then forget what was saved.
    ReleaseFlows,
    /// Give an internal port that was made anew what the former one had.
    RestorePort(InternalPort),
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
            Self::AddPort { bridge, port, .. } => write!(
                f,
                "make {port} a port of {bridge}: what arrives goes to {bridge}, what {port} sends still leaves"
            ),
            Self::RemovePort { bridge, port } => {
                write!(f, "take {port} out of {bridge}: what arrives on {port} is its own again")
            }
            Self::ForgetPort { bridge, port } => write!(
                f,
                "take {port} out of {bridge} in the database, so that nobody attaches it again"
            ),
            Self::ForgetPortOnDisk { bridge, port, file } => write!(
                f,
                "take {port} out of {bridge} in the database's file{}, so that Open vSwitch does not attach it when it starts",
                file.as_ref().map(|file| format!(" {file}")).unwrap_or_default()
            ),
            Self::EndVswitchd => f.write_str(
                "end ovs-vswitchd, which hangs or has no database: it would attach what is freed",
            ),
            Self::EndServer => f.write_str("end ovsdb-server, which hangs"),
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
            Self::SaveFlows { bridges } => write!(
                f,
                "save flows, groups, meters and TLV maps of {}: they are in no database",
                bridges.join(", ")
            ),
            Self::HoldFlows => {
                f.write_str("have the next vswitchd wait for the saved flows before it forwards")
            }
            Self::RestoreFlows { bridge } => {
                write!(f, "put flows, groups, meters and TLV map of {bridge} back")
            }
            Self::ReleaseFlows => f.write_str("end the wait for flows: vswitchd forwards by them"),
            Self::RestorePort(port) => port.fmt(f),
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
    let stop = end_hung(ovs).into_iter().chain(running.then_some(Step::StopDaemons));
    let delete = ovs
        .datapaths
        .iter()
        .map(|datapath| Step::DeleteDatapath { datapath: datapath.name.clone() });
    stop.chain(delete).collect()
}

/// What hangs does not end when it is told to.
fn end_hung(ovs: &Ovs) -> Vec<Step> {
    let vswitchd = ovs.vswitchd_hangs.then_some(Step::EndVswitchd);
    let server = ovs.ovsdb_server_hangs.then_some(Step::EndServer);
    vswitchd.into_iter().chain(server).collect()
}

/// What makes both daemons answer. A device that is to be `spared`, given with its bridge,
/// is not attached by them.
pub fn start(observed: &Observed, spared: Option<(&str, &str)>) -> Vec<Step> {
    let ovs = &observed.ovs;
    if ovs.is_healthy() {
        return Vec::new();
    }
    let mut steps = end_hung(ovs);
    if let Some((bridge, port)) = spared {
        let (bridge, port) = (bridge.to_owned(), port.to_owned());
        // what a server that hangs would tell is known when it is dead; and a file that is known
        // and could not be read may list it
        let unread = ovs.stopped.is_none() && ovs.file.is_some();
        let may_list = ovs.ovsdb_server_hangs || unread || ovs.lists(&bridge, &port);
        if ovs.database.is_none() && may_list {
            let file = ovs.file.clone();
            steps.push(Step::ForgetPortOnDisk { bridge, port, file });
        } else if ovs.lists(&bridge, &port) {
            steps.push(Step::ForgetPort { bridge, port });
        }
    }
    steps.push(Step::StartDaemons);
    steps
}

/// What frees a device that is, or may become, a port of a bridge.
///
/// Freed by vswitchd itself where that works. Where vswitchd is dead its vports still swallow
/// what arrives; and one that hangs, or has lost its database, may attach the device again
/// at any time, so it is ended, and the row goes before anybody starts it. `for_certain`: an
/// unfinished transaction may have asked for the port, and a daemon that hangs may yet do it.
pub(super) fn free(ovs: &Ovs, bridge: &str, port: &str, for_certain: bool) -> Vec<Step> {
    let (bridge, port) = (bridge.to_owned(), port.to_owned());
    let listed = ovs.bridge(&bridge).is_some_and(|row| row.port(&port).is_some());
    let holding = ovs.datapaths.iter().find(|datapath| datapath.vports.contains(&port));
    let remove = holding.map(|datapath| {
        let (datapath, port) = (datapath.name.clone(), port.clone());
        Step::RemoveVport { datapath, port }
    });
    let mut steps = Vec::new();
    if ovs.is_healthy() {
        // with no row it should not be there
        steps.extend(remove.filter(|_| !listed));
        steps.extend(listed.then_some(Step::RemovePort { bridge, port }));
        return steps;
    }
    let on_disk = ovs.database.is_none() && ovs.lists(&bridge, &port);
    let concerned = holding.is_some() || listed || on_disk;
    let hangs = ovs.vswitchd_hangs || ovs.ovsdb_server_hangs;
    if listed && ovs.vswitchd {
        steps.push(Step::ForgetPort { bridge: bridge.clone(), port: port.clone() });
    }
    if ovs.vswitchd && (concerned || for_certain && hangs) {
        steps.push(Step::EndVswitchd);
    }
    let end_server = ovs.ovsdb_server_hangs && (concerned || for_certain);
    steps.extend(end_server.then_some(Step::EndServer));
    steps.extend(remove);
    if listed && !ovs.vswitchd {
        steps.push(Step::RemovePort { bridge, port });
    } else if end_server || on_disk {
        let file = ovs.file.clone();
        steps.push(Step::ForgetPortOnDisk { bridge, port, file });
    }
    steps
}

#[cfg(test)]
mod tests;
