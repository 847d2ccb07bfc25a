use crate::model::Digest;
use crate::payload::Manifest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the payload is unless told otherwise, as the agent sees it.
pub const PAYLOAD: &str = "/payload";
/// Where the state directory is unless told otherwise, on the host.
pub const STATE: &str = "/var/lib/pointsman";
/// NCP's bridge.
pub const BRIDGE: &str = "br-int";
/// The distributions' socket of ovsdb-server.
pub const OVSDB: &str = "unix:/var/run/openvswitch/db.sock";

/// Seconds: twice what a spanning tree or a controller needs to let a port forward.
pub const CONFIRM_TIMEOUT: u32 = 30;

/// Seconds: longer than a daemon that restarts by itself is away.
pub const GRACE: u32 = 3;

/// Everything that a person configures, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Of the node, when no annotation asks for another.
    pub default_profile: Option<String>,
    /// The directory that the image brings, as the agent sees it.
    pub payload: String,
    /// The node's network.
    pub node: Node,
    /// Where the host keeps its files.
    pub paths: Paths,
    /// How a switch is carried out.
    pub switch: Switch,
    /// When the addresses are taken from a bridge that is lost.
    #[serde(default)]
    pub guard: Guard,
    /// By name.
    pub profiles: BTreeMap<String, Profile>,
}

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// NCP's `ovs_uplink_port`, also called `node-if`.
    pub uplink: String,
    /// Usually `br-int`.
    pub bridge: String,
    /// `unix:PATH` of ovsdb-server, on the host.
    pub ovsdb: String,
    /// Reasons that do not stop a move to the bridge: the operator knows of them.
    #[serde(default)]
    pub accept: Vec<String>,
    /// Other bridges, internal ports and datapaths that may be stopped or deleted with the bridge.
    #[serde(default)]
    pub companions: Vec<String>,
}

/// `[paths]`: absolute, on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// Directory of the CNI binaries.
    pub cni_bin: String,
    /// Directory of the CNI configuration.
    pub cni_conf: String,
    /// Parent of the kernels' module trees.
    pub modules: String,
    /// Where depmod looks for configuration first.
    pub depmod: String,
    /// Pointsman's own state: an option of the command line, since whoever comes after a
    /// crash must find it without a configuration.
    #[serde(default = "state_dir")]
    pub state: String,
}

/// `[profiles.NAME]`: a state of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Which module set.
    pub modules: ModulesChoice,
    /// Which CNI files.
    pub cni: CniChoice,
    /// Who owns the uplink's addresses.
    pub addresses: AddressesChoice,
    /// Who runs Open vSwitch.
    pub ovs: OvsRunner,
    /// Who brings the flows back after a live exchange.
    #[serde(default, skip_serializing_if = "FlowsChoice::is_default")]
    pub flows: FlowsChoice,
}

/// `modules`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModulesChoice {
    /// The out-of-tree set of the payload.
    Payload,
    /// The kernel's own set, or the user's where the user had one.
    InTree,
    /// As they are.
    Leave,
}

/// `cni`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CniChoice {
    /// At least the payload's version.
    Payload,
    /// What was there before Pointsman's first installation.
    Absent,
    /// As they are.
    Leave,
}

/// `addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressesChoice {
    /// On the bridge's internal port, the uplink being a port of the bridge.
    Bridge,
    /// On the uplink, in no datapath.
    Uplink,
    /// As they are.
    Leave,
}

/// `ovs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OvsRunner {
    /// The distribution's units or `ovs-ctl`.
    Host,
    /// Nobody.
    None,
}

/// `flows`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowsChoice {
    /// Pointsman: flows, groups, meters and TLV maps are saved and put back.
    #[default]
    Save,
    /// A controller, which programs the bridges anew.
    Controller,
}

impl FlowsChoice {
    /// Left out of a profile's written form, so that its digest is what it was without this key.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `[switch]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// When a new module set becomes the loaded one.
    pub activate: Activate,
    /// How long the gateways, and the API server, may take to answer after a move; seconds.
    #[serde(default = "confirm_timeout")]
    pub confirm_timeout: u32,
    /// Whether the host gets the unit that makes it reachable after a reboot.
    #[serde(default)]
    pub boot_unit: BootUnit,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            activate: Activate::Reboot,
            confirm_timeout: CONFIRM_TIMEOUT,
            boot_unit: BootUnit::Install,
        }
    }
}

/// Of records that older versions wrote.
fn confirm_timeout() -> u32 {
    CONFIRM_TIMEOUT
}

/// `boot_unit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootUnit {
    /// While the bridge may own the addresses.
    #[default]
    Install,
    /// Never: the host's own boot scripts see to it.
    None,
}

/// `[guard]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// How long Open vSwitch may be gone, and the gateway silent, before the addresses are
    /// taken to the uplink; seconds.
    pub grace: u32,
}

impl Default for Guard {
    fn default() -> Self {
        Self { grace: GRACE }
    }
}

/// `activate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activate {
    /// With the next boot.
    Reboot,
    /// Now: unload and load.
    Live,
}

fn state_dir() -> String {
    STATE.into()
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            cni_bin: "/opt/cni/bin".into(),
            cni_conf: "/etc/cni/net.d".into(),
            modules: "/lib/modules".into(),
            depmod: "/etc/depmod.d".into(),
            state: state_dir(),
        }
    }
}

impl Node {
    /// The path of [`Self::ovsdb`]; none where it is no absolute Unix socket.
    pub fn ovsdb_path(&self) -> Option<&str> {
        self.ovsdb.strip_prefix("unix:").filter(|path| path.starts_with('/'))
    }
}

impl Profile {
    /// What `name@sha256:…` pins: the profile and the payload's manifest, the same on every node.
    pub fn digest(&self, payload: Option<&Manifest>) -> Digest {
        // maps are ordered and fields keep their order, so equal content is equal text
        let text = serde_json::to_vec(&(self, payload)).unwrap_or_default();
        Digest::of(&text)
    }
}

impl Settings {
    /// For a chore without a configuration file: no profiles, every path where it usually is.
    pub fn bare(node: Node) -> Self {
        Self {
            default_profile: None,
            payload: PAYLOAD.into(),
            node,
            paths: Paths::default(),
            switch: Switch::default(),
            guard: Guard::default(),
            profiles: BTreeMap::new(),
        }
    }
}
