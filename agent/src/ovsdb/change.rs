//! Changes of the configuration, each one transaction.

use super::client::Client;
use super::error::OvsdbError;
use super::row::{map_value, uuid_set};
use super::snapshot::{RESTORING, Snapshot, WAIT};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How often a change is derived again because somebody else was faster.
const TRIES: u32 = 5;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was so already; nothing was written.
    Nothing,
    /// Committed; vswitchd has carried it out once `cur_cfg` is at least this.
    Committed(i64),
}

impl Changed {
    /// Whether vswitchd has carried it out. Of what was so already, everything that was
    /// asked before is meant.
    pub fn is_carried_out(self, now: &Snapshot) -> bool {
        match self {
            Self::Nothing => now.cur_cfg >= now.next_cfg,
            Self::Committed(number) => now.cur_cfg >= number,
        }
    }
}

/// Makes a bridge with its internal port: standalone, so that it switches before
/// anybody has written a flow.
pub fn add_bridge(
    client: &mut Client,
    bridge: &str,
    datapath_type: &str,
    hwaddr: &str,
    external_ids: &BTreeMap<String, String>,
) -> Result<Changed, OvsdbError> {
    change(client, Durability::Server, &format!("make the bridge {bridge}"), |now| {
        if let Some((_, row)) = now.bridge_row(bridge) {
            let of = |what: &str| format!("the {what} of the bridge {bridge}");
            let value = |map: &BTreeMap<_, String>, key| map.get(key).cloned().unwrap_or_default();
            let kind = kernel_is_empty(&row.datapath_type);
            same(&of("datapath_type"), kind, kernel_is_empty(datapath_type))?;
            let mac = value(&row.other_config, "hwaddr").to_ascii_lowercase();
            same(&of("hwaddr"), &mac, &hwaddr.to_ascii_lowercase())?;
            for (key, expected) in external_ids {
                same(
                    &of(&format!("external_ids:{key}")),
                    &value(&row.external_ids, key),
                    expected,
                )?;
            }
            return Ok(None);
        }
        if let Some((_, holder)) = now.port_row(bridge) {
            return Err(held_elsewhere(bridge, holder, bridge));
        }
        Ok(Some(vec![
            assert_bridges(now),
            assert_no_port(bridge),
            json!({"op": "insert", "table": "Interface", "uuid-name": "new_interface",
                "row": {"name": bridge, "type": "internal"}}),
            json!({"op": "insert", "table": "Port", "uuid-name": "new_port",
                "row": {"name": bridge, "interfaces": ["named-uuid", "new_interface"]}}),
            json!({"op": "insert", "table": "Bridge", "uuid-name": "new_bridge", "row": {
                "name": bridge, "datapath_type": datapath_type, "fail_mode": "standalone",
                "ports": ["named-uuid", "new_port"],
                "other_config": map_value(&BTreeMap::from([("hwaddr".into(), hwaddr.into())])),
                "external_ids": map_value(external_ids)}}),
            mutate_root(now, &json!(["bridges", "insert", ["named-uuid", "new_bridge"]])),
        ]))
    })
}

/// Sets `other_config:hwaddr` of a bridge.
pub fn pin_mac(client: &mut Client, bridge: &str, hwaddr: &str) -> Result<Changed, OvsdbError> {
    change(client, Durability::Server, &format!("pin the MAC of the bridge {bridge}"), |now| {
        let (uuid, row) = now.bridge_row(bridge).ok_or_else(|| missing(bridge))?;
        if row.other_config.get("hwaddr").is_some_and(|found| found.eq_ignore_ascii_case(hwaddr)) {
            return Ok(None);
        }
        Ok(Some(vec![
            assert_row("Bridge", uuid, &json!({"other_config": map_value(&row.other_config)})),
            // `insert` leaves the value of a key that is there
            mutate("Bridge", uuid, &json!(["other_config", "delete", ["set", ["hwaddr"]]])),
            mutate(
                "Bridge",
                uuid,
                &json!(["other_config", "insert", ["map", [["hwaddr", hwaddr]]]]),
            ),
        ]))
    })
}

/// Makes a device a port of a bridge, of a number where one is asked for.
pub fn add_port(
    client: &mut Client,
    bridge: &str,
    port: &str,
    ofport: Option<i64>,
) -> Result<Changed, OvsdbError> {
    let interface = match ofport {
        Some(number) => json!({"name": port, "ofport_request": number}),
        None => json!({"name": port}),
    };
    change(client, Durability::Server, &format!("add {port} to the bridge {bridge}"), |now| {
        let (uuid, row) = now.bridge_row(bridge).ok_or_else(|| missing(bridge))?;
        match now.port_row(port) {
            Some((_, holder)) if holder == bridge => return Ok(None),
            Some((_, holder)) => return Err(held_elsewhere(port, holder, bridge)),
            None => {}
        }
        Ok(Some(vec![
            assert_row("Bridge", uuid, &json!({"ports": uuid_set(&row.ports)})),
            assert_no_port(port),
            json!({"op": "insert", "table": "Interface", "uuid-name": "new_interface",
                "row": interface}),
            json!({"op": "insert", "table": "Port", "uuid-name": "new_port",
                "row": {"name": port, "interfaces": ["named-uuid", "new_interface"]}}),
            mutate("Bridge", uuid, &json!(["ports", "insert", ["named-uuid", "new_port"]])),
        ]))
    })
}

/// Asks for no number any more for a port; it keeps the one it has.
pub fn end_request_of_number(client: &mut Client, port: &str) -> Result<Changed, OvsdbError> {
    let operation = format!("ask for no number any more for {port}");
    change(client, Durability::Server, &operation, |_| {
        Ok(Some(vec![json!({"op": "update", "table": "Interface",
            "where": [["name", "==", port]], "row": {"ofport_request": ["set", []]}})]))
    })
}

/// Has the next vswitchd wait for flows, marked as ours. Not synced: what a power cut takes
/// back, nobody waits for after the boot.
pub fn hold_flows(client: &mut Client) -> Result<Changed, OvsdbError> {
    change(client, Durability::Server, "have vswitchd wait for flows", |now| {
        if now.restoring {
            return Ok(None);
        }
        Ok(Some(vec![
            mutate_root(now, &json!(["other_config", "delete", ["set", [WAIT]]])),
            mutate_root(now, &json!(["other_config", "insert", ["map", [[WAIT, "true"]]]])),
            mutate_root(now, &json!(["external_ids", "insert", ["map", [[RESTORING, "true"]]]])),
        ]))
    })
}

/// Ends a wait that is ours.
pub fn release_flows(client: &mut Client) -> Result<Changed, OvsdbError> {
    change(client, Durability::Disk, "end vswitchd's wait for flows", |now| {
        if !now.restoring {
            return Ok(None);
        }
        Ok(Some(vec![
            mutate_root(now, &json!(["other_config", "delete", ["set", [WAIT]]])),
            mutate_root(now, &json!(["external_ids", "delete", ["set", [RESTORING]]])),
        ]))
    })
}

/// Takes a port out of a bridge. A bridge that is not there has no ports.
pub fn remove_port(client: &mut Client, bridge: &str, port: &str) -> Result<Changed, OvsdbError> {
    change(client, Durability::Disk, &format!("take {port} out of the bridge {bridge}"), |now| {
        let Some((port_uuid, holder)) = now.port_row(port) else { return Ok(None) };
        let Some((uuid, row)) = now.bridge_row(bridge).filter(|_| holder == bridge) else {
            return Err(held_elsewhere(port, holder, bridge));
        };
        Ok(Some(vec![
            assert_row("Bridge", uuid, &json!({"ports": uuid_set(&row.ports)})),
            mutate("Bridge", uuid, &json!(["ports", "delete", ["uuid", port_uuid]])),
        ]))
    })
}

/// Deletes a bridge; its ports go with it.
pub fn delete_bridge(client: &mut Client, bridge: &str) -> Result<Changed, OvsdbError> {
    change(client, Durability::Disk, &format!("delete the bridge {bridge}"), |now| {
        let Some((uuid, _)) = now.bridge_row(bridge) else { return Ok(None) };
        Ok(Some(vec![
            assert_bridges(now),
            mutate_root(now, &json!(["bridges", "delete", ["uuid", uuid]])),
        ]))
    })
}

/// Changes nothing but `next_cfg`, which a vswitchd that lives answers: what it had
/// carried out before it was stopped proves nothing.
pub fn ask_for_pass(client: &mut Client) -> Result<Changed, OvsdbError> {
    change(client, Durability::Server, "ask vswitchd for a pass over its configuration", |_| {
        Ok(Some(Vec::new()))
    })
}

/// When a change counts as made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// The server has it: a power cut may take it back.
    Server,
    /// It is on disk. For what would leave the node dark if it came back with a boot.
    Disk,
}

fn change(
    client: &mut Client,
    durability: Durability,
    operation: &str,
    mut derive: impl FnMut(&Snapshot) -> Result<Option<Vec<Value>>, OvsdbError>,
) -> Result<Changed, OvsdbError> {
    for _ in 0..TRIES {
        let now = Snapshot::read(client)?;
        let Some(mut operations) = derive(&now)? else { return Ok(Changed::Nothing) };
        if durability == Durability::Disk {
            operations.push(json!({"op": "commit", "durable": true}));
        }
        operations.push(mutate_root(&now, &json!(["next_cfg", "+=", 1])));
        operations.push(json!({"op": "select", "table": "Open_vSwitch",
            "where": by_uuid(&now.root), "columns": ["next_cfg"]}));
        let results = match client.transact(operation, operations) {
            Err(error) if error.is_conflict() => continue,
            results => results?,
        };
        let number = results.iter().find_map(|result| result.pointer("/rows/0/next_cfg")?.as_i64());
        return number
            .map(Changed::Committed)
            .ok_or_else(|| client.nonsense("a select of next_cfg brought none"));
    }
    Err(OvsdbError::Contended { operation: operation.to_owned(), tries: TRIES })
}

fn by_uuid(uuid: &str) -> Value {
    json!([["_uuid", "==", ["uuid", uuid]]])
}

fn mutate(table: &str, uuid: &str, mutation: &Value) -> Value {
    json!({"op": "mutate", "table": table, "where": by_uuid(uuid), "mutations": [mutation]})
}

fn mutate_root(now: &Snapshot, mutation: &Value) -> Value {
    mutate("Open_vSwitch", &now.root, mutation)
}

/// The transaction fails unless the row still holds these columns.
fn assert_row(table: &str, uuid: &str, row: &Value) -> Value {
    let columns: Vec<&String> = row.as_object().into_iter().flat_map(|map| map.keys()).collect();
    json!({"op": "wait", "timeout": 0, "table": table, "where": by_uuid(uuid),
        "columns": columns, "until": "==", "rows": [row]})
}

fn assert_bridges(now: &Snapshot) -> Value {
    assert_row("Open_vSwitch", &now.root, &json!({"bridges": uuid_set(&now.bridge_uuids())}))
}

fn assert_no_port(name: &str) -> Value {
    json!({"op": "wait", "timeout": 0, "table": "Port", "where": [["name", "==", name]],
        "columns": ["name"], "until": "==", "rows": []})
}

/// `system` is the other name of the default.
fn kernel_is_empty(datapath_type: &str) -> &str {
    if datapath_type == "system" { "" } else { datapath_type }
}

fn same(what: &str, found: &str, expected: &str) -> Result<(), OvsdbError> {
    if found == expected {
        return Ok(());
    }
    let (what, expected) = (what.to_owned(), format!("`{expected}`"));
    Err(OvsdbError::Unexpected { what, found: format!("`{found}`"), expected })
}

fn held_elsewhere(port: &str, holder: &str, expected: &str) -> OvsdbError {
    OvsdbError::Unexpected {
        what: format!("the bridge that holds the port {port}"),
        found: holder.to_owned(),
        expected: expected.to_owned(),
    }
}

fn missing(bridge: &str) -> OvsdbError {
    OvsdbError::BridgeMissing { bridge: bridge.to_owned() }
}
