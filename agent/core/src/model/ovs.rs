use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Open vSwitch as found: database, daemons, datapaths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ovs {
    /// What the database says; none where it does not answer.
    pub database: Option<OvsDatabase>,
    /// Why there is no database, in plain words.
    pub database_error: Option<String>,
    /// Whether a process `ovsdb-server` lives; it may hang.
    #[serde(default)]
    pub ovsdb_server: bool,
    /// Whether a process `ovs-vswitchd` lives.
    pub vswitchd: bool,
    /// Kernel datapaths of the host's network namespace.
    pub datapaths: Vec<Datapath>,
    /// The configuration that the daemons will find again when they start. Known to a
    /// simulation that stopped them; an observation leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<OvsDatabase>,
}

/// The configuration database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OvsDatabase {
    /// `Open_vSwitch.ovs_version`, as vswitchd set it.
    pub version: Option<String>,
    /// `other_config:flow-restore-wait` is `true`.
    pub flow_restore_wait: bool,
    /// By name.
    pub bridges: Vec<Bridge>,
}

/// A bridge row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Also the name of its internal port.
    pub name: String,
    /// Empty or `system`: the kernel; `netdev`: user space.
    pub datapath_type: String,
    /// `standalone`, `secure`; none is standalone.
    pub fail_mode: Option<String>,
    /// `other_config:hwaddr`.
    pub hwaddr: Option<String>,
    /// `external_ids`.
    pub external_ids: BTreeMap<String, String>,
    /// By name, the internal port among them.
    pub ports: Vec<Port>,
}

/// A port row with one interface of the same name, which is what an uplink is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Of the port and of the interface.
    pub name: String,
    /// Interface type; empty for a NIC.
    pub kind: String,
    /// Once vswitchd has made it.
    pub ofport: Option<i64>,
    /// `Interface.error`.
    pub error: Option<String>,
}

/// A datapath of the kernel module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datapath {
    /// Usually `ovs-system`.
    pub name: String,
    /// Names of its vports, `ovs-system` itself left out.
    pub vports: Vec<String>,
}

impl Ovs {
    /// A bridge by name.
    pub fn bridge(&self, name: &str) -> Option<&Bridge> {
        self.database.as_ref()?.bridges.iter().find(|bridge| bridge.name == name)
    }
}

impl Bridge {
    /// Whether the kernel's module carries it, not vswitchd itself.
    pub fn is_in_kernel(&self) -> bool {
        matches!(self.datapath_type.as_str(), "" | "system")
    }

    /// A port by name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }
}
