use super::client::Client;
use super::error::OvsdbError;
use super::row::Row;
use pointsman_core::model::{Bridge, OvsDatabase, Port};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of `other_config`: a vswitchd that starts forwards nothing while this is `true`.
pub(super) const WAIT: &str = "flow-restore-wait";
/// Of `external_ids`: the wait is ours.
pub(super) const RESTORING: &str = "pointsman-restoring";

/// The rows that matter, read in one transaction, with their UUIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// UUID of the one row of `Open_vSwitch`.
    pub(super) root: String,
    /// What was asked of vswitchd last, as a number that grows.
    pub next_cfg: i64,
    /// What vswitchd has carried out.
    pub cur_cfg: i64,
    version: Option<String>,
    flow_restore_wait: bool,
    pub(super) restoring: bool,
    pub(super) bridges: BTreeMap<String, BridgeRow>,
    pub(super) ports: BTreeMap<String, PortRow>,
    interfaces: BTreeMap<String, InterfaceRow>,
}

/// A row of `Bridge`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BridgeRow {
    pub(super) name: String,
    pub(super) datapath_type: String,
    fail_mode: Option<String>,
    pub(super) other_config: BTreeMap<String, String>,
    pub(super) external_ids: BTreeMap<String, String>,
    pub(super) ports: Vec<String>,
}

/// A row of `Port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortRow {
    pub(super) name: String,
    interfaces: Vec<String>,
}

/// A row of `Interface`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceRow {
    /// Of the device.
    pub name: String,
    /// Empty for a NIC.
    pub kind: String,
    /// Given by vswitchd; -1 where it failed.
    pub ofport: Option<i64>,
    /// vswitchd's own words where it failed.
    pub error: Option<String>,
}

/// The operations that read a snapshot, in the order that [`Snapshot::parse`] expects.
pub(super) fn selects() -> Vec<Value> {
    let select = |table: &str, columns: &[&str]| json!({"op": "select", "table": table, "where": [], "columns": columns});
    vec![
        select(
            "Open_vSwitch",
            &[
                "_uuid",
                "bridges",
                "next_cfg",
                "cur_cfg",
                "ovs_version",
                "other_config",
                "external_ids",
            ],
        ),
        select(
            "Bridge",
            &[
                "_uuid",
                "name",
                "ports",
                "fail_mode",
                "datapath_type",
                "other_config",
                "external_ids",
            ],
        ),
        select("Port", &["_uuid", "name", "interfaces"]),
        select("Interface", &["_uuid", "name", "type", "ofport", "error"]),
    ]
}

impl Snapshot {
    /// Reads it.
    pub fn read(client: &mut Client) -> Result<Self, OvsdbError> {
        let results = client.transact("read the configuration", selects())?;
        Self::parse(&results).map_err(|what| client.nonsense(what))
    }

    /// From the results of [`selects`].
    pub(super) fn parse(results: &[Value]) -> Result<Self, String> {
        let [roots, bridges, ports, interfaces, ..] = results else {
            return Err("four selects have fewer results".into());
        };
        let [root] = rows(roots)? else {
            return Err("the table Open_vSwitch does not hold exactly one row".into());
        };
        let root = Row(root);
        let wait = root.map("other_config")?.get(WAIT).is_some_and(|value| value == "true");
        let restoring = root.map("external_ids")?.contains_key(RESTORING);
        let mut snapshot = Self {
            root: root.uuid()?,
            next_cfg: root.integer("next_cfg")?,
            cur_cfg: root.integer("cur_cfg")?,
            version: root.optional_string("ovs_version")?,
            flow_restore_wait: wait,
            restoring,
            ..Self::default()
        };
        let kept = root.uuids("bridges")?;
        for row in rows(bridges)?.iter().map(Row) {
            let bridge = BridgeRow {
                name: row.string("name")?,
                datapath_type: row.string("datapath_type")?,
                fail_mode: row.optional_string("fail_mode")?,
                other_config: row.map("other_config")?,
                external_ids: row.map("external_ids")?,
                ports: row.uuids("ports")?,
            };
            let uuid = row.uuid()?;
            if kept.contains(&uuid) {
                snapshot.bridges.insert(uuid, bridge);
            }
        }
        for row in rows(ports)?.iter().map(Row) {
            let port = PortRow { name: row.string("name")?, interfaces: row.uuids("interfaces")? };
            snapshot.ports.insert(row.uuid()?, port);
        }
        for row in rows(interfaces)?.iter().map(Row) {
            let interface = InterfaceRow {
                name: row.string("name")?,
                kind: row.string("type")?,
                ofport: row.optional_integer("ofport")?,
                error: row.optional_string("error")?,
            };
            snapshot.interfaces.insert(row.uuid()?, interface);
        }
        Ok(snapshot)
    }

    /// The same for a plan: by name, without UUIDs.
    pub fn to_model(&self) -> OvsDatabase {
        let mut bridges: Vec<Bridge> = self.bridges.values().map(|row| self.bridge(row)).collect();
        bridges.sort_by(|a, b| a.name.cmp(&b.name));
        let (version, flow_restore_wait) = (self.version.clone(), self.flow_restore_wait);
        OvsDatabase { version, flow_restore_wait, restoring: self.restoring, bridges }
    }

    /// The interface of a port that has one of the same name.
    pub fn interface(&self, port: &str) -> Option<&InterfaceRow> {
        self.ports.values().find(|row| row.name == port).and_then(|row| self.interface_of(row))
    }

    /// Whether the kernel's module carries a bridge.
    pub fn is_in_kernel(&self, bridge: &str) -> bool {
        let row = self.bridge_row(bridge);
        row.is_some_and(|(_, row)| matches!(row.datapath_type.as_str(), "" | "system"))
    }

    fn bridge(&self, row: &BridgeRow) -> Bridge {
        let port = |row: &PortRow| {
            let interface = self.interface_of(row);
            Port {
                name: row.name.clone(),
                kind: interface.map(|i| i.kind.clone()).unwrap_or_default(),
                ofport: interface.and_then(|i| i.ofport),
                error: interface.and_then(|i| i.error.clone()),
            }
        };
        let mut ports: Vec<Port> =
            row.ports.iter().filter_map(|uuid| self.ports.get(uuid)).map(port).collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        Bridge {
            name: row.name.clone(),
            datapath_type: row.datapath_type.clone(),
            fail_mode: row.fail_mode.clone(),
            hwaddr: row.other_config.get("hwaddr").cloned(),
            external_ids: row.external_ids.clone(),
            ports,
        }
    }

    fn interface_of(&self, port: &PortRow) -> Option<&InterfaceRow> {
        port.interfaces
            .iter()
            .filter_map(|uuid| self.interfaces.get(uuid))
            .find(|interface| interface.name == port.name)
    }

    /// A bridge's UUID and row.
    pub(super) fn bridge_row(&self, name: &str) -> Option<(&String, &BridgeRow)> {
        self.bridges.iter().find(|(_, row)| row.name == name)
    }

    /// A port's UUID and the name of the bridge that holds it.
    pub(super) fn port_row(&self, name: &str) -> Option<(&String, &str)> {
        let (uuid, _) = self.ports.iter().find(|(_, row)| row.name == name)?;
        let bridge = self.bridges.values().find(|row| row.ports.contains(uuid));
        Some((uuid, bridge.map_or("", |row| row.name.as_str())))
    }

    /// The UUIDs of the bridges, as the root row holds them.
    pub(super) fn bridge_uuids(&self) -> Vec<String> {
        self.bridges.keys().cloned().collect()
    }
}

fn rows(result: &Value) -> Result<&[Value], String> {
    result
        .get("rows")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .ok_or_else(|| "the result of a select has no rows".into())
}
