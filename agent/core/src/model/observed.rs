use super::{BootLoader, Cni, FileState, Host, Modules, Network, Ovs, Owners};
use crate::payload::Payload;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of [`Observed`]'s written form that this code writes.
pub const OBSERVED_SCHEMA: u32 = 1;

/// Everything that a plan depends on beside the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// [`OBSERVED_SCHEMA`] of the writer.
    pub schema: u32,
    /// The machine.
    pub host: Host,
    /// Links, addresses, routes, rules, neighbours of the host's network namespace.
    pub network: Network,
    /// Open vSwitch: its database, its daemons, its datapaths.
    pub ovs: Ovs,
    /// Who else configures the uplink; none in an observation that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<Owners>,
    /// Every directory entry that a plan looks at, by absolute path on the host: module
    /// directories, depmod's configuration, CNI directories. What is not here is not there.
    pub files: BTreeMap<String, FileState>,
    /// Kernel modules: what the files are, what the index chooses, what is loaded.
    pub modules: Modules,
    /// Kernel images, and which boots next; none in an observation that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_loader: Option<BootLoader>,
    /// What the CNI configuration says.
    pub cni: Cni,
    /// What the image brought. None where there is no payload directory.
    pub payload: Option<Payload>,
    /// Why there is no payload, for the refusal of a plan that needs one.
    #[serde(default)]
    pub payload_fault: Option<String>,
}
