use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Open vSwitch as found: database, daemons, datapaths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "what was seen, each by itself")]
pub struct Ovs {
    /// What the database says; none where it does not answer.
    pub database: Option<OvsDatabase>,
    /// Why there is no database, in plain words.
    pub database_error: Option<String>,
    /// Whether a process `ovsdb-server` lives; it may hang.
    #[serde(default)]
    pub ovsdb_server: bool,
    /// Whether the server is there and takes a connection, and then says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ovsdb_server_hangs: bool,
    /// Whether a process `ovs-vswitchd` lives; it may hang.
    pub vswitchd: bool,
    /// Whether vswitchd is there and does not answer on its control socket.
    #[serde(default, skip_serializing_if = "is_false")]
    pub vswitchd_hangs: bool,
    /// Kernel datapaths of the host's network namespace.
    pub datapaths: Vec<Datapath>,
    /// The configuration that the daemons will find when they start. Known to a simulation
    /// that stopped them, and to an observation of a server that is dead, if its file can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<OvsDatabase>,
    /// The database's file, as the host sees it: what the server that lives has open, else where
    /// one was found. Kept with a checkpoint, so that it is known when the server is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Bridges whose flows lie in the state directory, looked for while
    /// [`OvsDatabase::restoring`] says that they wait for their return.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saved: Vec<String>,
    /// Kernel datapaths of other network namespaces: they hold the module too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Elsewhere>,
}

/// What of the kernel module is in use in another network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Its name below `/run/netns`, or a process that lives in it, in plain words.
    pub namespace: String,
    /// By name.
    pub datapaths: Vec<Datapath>,
}

/// The namespace with its datapaths and their ports.
impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let datapath = |found: &Datapath| match found.vports.as_slice() {
            [] => found.name.clone(),
            ports => format!("{} with {}", found.name, ports.join(", ")),
        };
        let datapaths: Vec<String> = self.datapaths.iter().map(datapath).collect();
        write!(f, "the datapath {} in {}", datapaths.join("; "), self.namespace)
    }
}

/// The configuration database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OvsDatabase {
    /// `Open_vSwitch.ovs_version`, as vswitchd set it.
    pub version: Option<String>,
    /// `other_config:flow-restore-wait` is `true`.
    pub flow_restore_wait: bool,
    /// That is Pointsman's own: flows that it saved wait for their return
    /// (`external_ids:pointsman-restoring`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub restoring: bool,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Ovs {
    /// Whether vswitchd does what the database says: it answers, and so does the database.
    pub fn is_healthy(&self) -> bool {
        self.vswitchd && !self.vswitchd_hangs && self.database.is_some()
    }

    /// Whether the database, or what a dead server has left on disk, lists a device as a
    /// port of a bridge.
    pub fn lists(&self, bridge: &str, port: &str) -> bool {
        let known = self.database.as_ref().or(self.stopped.as_ref());
        let row = known.and_then(|d| d.bridges.iter().find(|row| row.name == bridge));
        row.is_some_and(|row| row.port(port).is_some())
    }

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
