//! The OVSDB client, the steps and the observation of Open vSwitch, on real daemons.
//!
//! Each test has daemons and a network namespace of its own; `ovs-vsctl` and `ip` are the
//! second witnesses.

mod bed;
mod boot;
mod conflict;
mod cuts;
mod daemons;
mod elsewhere;
mod failures;
mod flows;
mod full;
mod garbage;
mod lockstep;
mod ordered;
mod rescue;
mod spared;
mod steps;
mod stopped;
mod way_back;
mod witness;

use pointsman::apply::{ApplyError, Executor};
use pointsman::disk::HostRoot;
use pointsman::host_command::HostTools;
use pointsman_core::model::Ovs;
use pointsman_core::plan::Step;
use pointsman_core::plan::ovs::Step as OvsStep;
use std::collections::BTreeMap;
use std::path::Path;

pub const MAC: &str = "02:00:00:00:77:02";

fn executor(socket: &Path) -> Executor {
    Executor {
        root: HostRoot::new("/"),
        tools: HostTools::Here,
        payload: "/nonexistent".into(),
        store: "/nonexistent".into(),
        ovsdb: socket.to_owned(),
    }
}

fn apply(socket: &Path, step: OvsStep) -> Result<(), ApplyError> {
    executor(socket).apply(&Step::Ovs(step))
}

fn observe(socket: &Path) -> Ovs {
    pointsman::observe::ovs::observe(socket, &HostRoot::new("/")).unwrap()
}

fn add_bridge(bridge: &str) -> OvsStep {
    OvsStep::AddBridge {
        bridge: bridge.into(),
        datapath_type: "netdev".into(),
        hwaddr: MAC.into(),
        external_ids: BTreeMap::from([("bridge-id".into(), bridge.into())]),
    }
}

fn add_port(bridge: &str, port: &str) -> OvsStep {
    OvsStep::AddPort { bridge: bridge.into(), port: port.into(), ofport: None }
}

fn remove_port(bridge: &str, port: &str) -> OvsStep {
    OvsStep::RemovePort { bridge: bridge.into(), port: port.into() }
}

fn delete_bridge(bridge: &str) -> OvsStep {
    OvsStep::DeleteBridge { bridge: bridge.into() }
}

/// A NIC stand-in: one end of a veth pair.
fn make_nic(name: &str) {
    let peer = format!("{name}-peer");
    support::ovs::command(&["ip", "link", "add", name, "type", "veth", "peer", &peer]);
    support::ovs::command(&["ip", "link", "set", name, "up"]);
    support::ovs::command(&["ip", "link", "set", &peer, "up"]);
}

/// MAC by `ip`; none where there is no such device.
fn mac_by_ip(device: &str) -> Option<String> {
    let output = std::process::Command::new("ip").args(["-j", "link"]).output().unwrap();
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let link = links.as_array().unwrap().iter().find(|link| link["ifname"] == device)?;
    Some(link["address"].as_str().unwrap().to_owned())
}
