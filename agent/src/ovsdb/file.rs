//! The database's file while no server has it, by the host's own `ovsdb-tool`.

use super::error::OvsdbError;
use super::row::Row;
use super::snapshot::{Snapshot, selects};
use crate::disk::HostRoot;
use crate::host_command::HostTools;
use pointsman_core::error::chain;
use pointsman_core::model::FileState;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Debian's and Red Hat's place, then that of a build with OVS's own defaults.
const PLACES: [&str; 2] = ["/etc/openvswitch/conf.db", "/usr/local/etc/openvswitch/conf.db"];

/// Where the host has its database; none where no distribution would have it.
pub fn database_file(root: &HostRoot) -> Option<String> {
    PLACES.into_iter().find(|place| is_file(root, place)).map(str::to_owned)
}

/// Whether a file of the host is there, be it behind a link.
pub fn is_file(root: &HostRoot, file: &str) -> bool {
    let followed = root.locate_directory(Path::new(file)).is_ok_and(|at| at.is_file());
    followed || matches!(root.state(file), Ok(Some(FileState::Regular { .. })))
}

/// Where a database was looked for, in plain words.
pub fn sought(file: Option<&str>) -> String {
    file.map_or_else(|| PLACES.join(" or "), str::to_owned)
}

/// What a dead server's file holds. `file` is as the host sees it.
pub fn read_file(tools: &HostTools, file: &str, limit: Duration) -> Result<Snapshot, OvsdbError> {
    let results = run(tools, "query", file, &selects(), limit)?;
    Snapshot::parse(&results).map_err(|what| nonsense(file, what))
}

/// Takes a port out of a bridge in a dead server's file; the rows that nobody refers to go
/// with it. Nothing is written where the bridge has no such port.
pub fn remove_port_from_file(
    tools: &HostTools,
    file: &str,
    (bridge, port): (&str, &str),
    limit: Duration,
) -> Result<(), OvsdbError> {
    let by_name = |table: &str, name: &str| json!({"op": "select", "table": table, "where": [["name", "==", name]], "columns": ["_uuid"]});
    let found = run(tools, "query", file, &[by_name("Port", port)], limit)?;
    let rows = found.first().and_then(|result| result.get("rows")?.as_array().cloned());
    for row in rows.unwrap_or_default() {
        let uuid = Row(&row).uuid().map_err(|what| nonsense(file, what))?;
        let mutate = json!({"op": "mutate", "table": "Bridge", "where": [["name", "==", bridge]],
            "mutations": [["ports", "delete", ["uuid", uuid]]]});
        run(tools, "transact", file, &[mutate], limit)?;
    }
    Ok(())
}

fn run(
    tools: &HostTools,
    command: &str,
    file: &str,
    operations: &[Value],
    limit: Duration,
) -> Result<Vec<Value>, OvsdbError> {
    let transaction: Vec<Value> =
        std::iter::once(json!("Open_vSwitch")).chain(operations.iter().cloned()).collect();
    let transaction = Value::Array(transaction).to_string();
    let output = tools
        .run(&["ovsdb-tool", command, file, &transaction], limit)
        .map_err(|error| nonsense(file, chain(&error)))?;
    let results: Vec<Value> = serde_json::from_str(&output.stdout)
        .map_err(|error| nonsense(file, format!("ovsdb-tool printed broken JSON: {error}")))?;
    match results.iter().find_map(|result| result.get("error")) {
        None => Ok(results),
        Some(error) => Err(nonsense(file, format!("ovsdb-tool {command} failed: {error}"))),
    }
}

fn nonsense(file: &str, what: impl Into<String>) -> OvsdbError {
    OvsdbError::FileFailed { file: PathBuf::from(file), what: what.into() }
}
