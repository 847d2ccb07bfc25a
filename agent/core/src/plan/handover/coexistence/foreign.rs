//! Ports of the bridge that are neither ours nor named: with it they would be gone.

use crate::config::Node;
use crate::model::{Bridge, Observed, Port};
use crate::plan::Refusal;

/// Why the bridge is not to be deleted: a port of whatever type that is neither its own, nor the
/// uplink, nor a companion.
pub(super) fn foreign_ports(node: &Node, observed: &Observed) -> Option<Refusal> {
    let row = observed.ovs.bridge(&node.bridge)?;
    let foreign: Vec<String> =
        row.ports.iter().filter(|port| !is_ours(node, row, port)).map(words).collect();
    if foreign.is_empty() {
        return None;
    }
    Some(Refusal::new(
        "ForeignBridge",
        format!(
            "{} has {}, which would go with it and which the configuration does not name; nothing was changed: take it out first, or name it in `node.companions`",
            node.bridge,
            foreign.join(" and ")
        ),
    ))
}

fn is_ours(node: &Node, row: &Bridge, port: &Port) -> bool {
    port.name == row.name || port.name == node.uplink || node.companions.contains(&port.name)
}

fn words(port: &Port) -> String {
    match port.kind.as_str() {
        // a port of several interfaces, a bond of Open vSwitch, has no type of its own either
        "" | "system" => format!("the port {}", port.name),
        kind => format!("the {kind} port {}", port.name),
    }
}
