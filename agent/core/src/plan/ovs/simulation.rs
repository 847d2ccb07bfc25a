//! What vswitchd and the kernel's module would do, as far as planning depends on it.

use super::Step;
use crate::model::{Bridge, Datapath, Link, Network, Nexthop, Observed, OvsDatabase, Port, Route};

/// vswitchd's name for the kernel's datapath.
const KERNEL_DATAPATH: &str = "ovs-system";
/// `IFLA_INFO_KIND` of the module's internal ports.
const INTERNAL_KIND: &str = "openvswitch";
/// `OFPP_LOCAL`: the number of a bridge's own port.
const LOCAL_OFPORT: i64 = 65534;

/// The effect on an observation. A step that would fail there has none.
pub fn simulate(observed: &mut Observed, step: &Step) {
    match step {
        Step::AddBridge { bridge, datapath_type, hwaddr, external_ids } => {
            let (datapath_type, external_ids) = (datapath_type.clone(), external_ids.clone());
            let row = Bridge { datapath_type, external_ids, ..new_bridge(bridge, hwaddr) };
            add_bridge(observed, &row);
        }
        Step::PinMac { bridge, hwaddr } => {
            let Some(row) = row_of(observed, bridge) else { return };
            row.hwaddr = Some(hwaddr.clone());
            if let Some(link) = link_of(&mut observed.network, bridge) {
                link.mac = Some(hwaddr.clone());
            }
        }
        Step::AddPort { bridge, port, ofport } => add_port(observed, bridge, port, *ofport),
        Step::RemovePort { bridge, port } => {
            let Some(row) = row_of(observed, bridge) else { return };
            row.ports.retain(|row| row.name != *port);
            release(observed, port);
        }
        Step::ForgetPort { bridge, port } => {
            let Some(row) = row_of(observed, bridge) else { return };
            row.ports.retain(|row| row.name != *port);
        }
        Step::ForgetPortOnDisk { bridge, port, .. } => {
            let rows = observed.ovs.stopped.iter_mut().flat_map(|stopped| &mut stopped.bridges);
            for row in rows.filter(|row| row.name == *bridge) {
                row.ports.retain(|row| row.name != *port);
            }
        }
        Step::EndVswitchd => {
            (observed.ovs.vswitchd, observed.ovs.vswitchd_hangs) = (false, false);
        }
        Step::EndServer => {
            let ovs = &mut observed.ovs;
            (ovs.ovsdb_server, ovs.ovsdb_server_hangs) = (false, false);
            ovs.stopped = ovs.database.take().or_else(|| ovs.stopped.take());
        }
        Step::DeleteBridge { bridge } => delete_bridge(observed, bridge),
        Step::StopDaemons => stop(observed),
        Step::StartDaemons => start(observed),
        Step::DeleteDatapath { datapath } => delete_datapath(observed, datapath),
        Step::RemoveVport { port, .. } => release(observed, port),
        Step::SaveFlows { bridges } => observed.ovs.saved.clone_from(bridges),
        Step::HoldFlows => hold(observed, true),
        Step::RestoreFlows { .. } => {}
        Step::ReleaseFlows => {
            hold(observed, false);
            observed.ovs.saved.clear();
        }
        Step::RestorePort(port) => port.simulate(&mut observed.network),
    }
}

fn new_bridge(name: &str, hwaddr: &str) -> Bridge {
    let port = Port {
        name: name.to_owned(),
        kind: "internal".into(),
        ofport: Some(LOCAL_OFPORT),
        error: None,
    };
    Bridge {
        name: name.to_owned(),
        fail_mode: Some("standalone".into()),
        hwaddr: Some(hwaddr.to_owned()),
        ports: vec![port],
        ..Bridge::default()
    }
}

fn hold(observed: &mut Observed, wait: bool) {
    if let Some(database) = &mut observed.ovs.database {
        (database.flow_restore_wait, database.restoring) = (wait, wait);
    }
}

fn row_of<'a>(observed: &'a mut Observed, bridge: &str) -> Option<&'a mut Bridge> {
    observed.ovs.database.as_mut()?.bridges.iter_mut().find(|row| row.name == bridge)
}

fn link_of<'a>(network: &'a mut Network, name: &str) -> Option<&'a mut Link> {
    network.links.iter_mut().find(|link| link.name == name)
}

fn add_bridge(observed: &mut Observed, bridge: &Bridge) {
    let Some(database) = &mut observed.ovs.database else { return };
    if database.bridges.iter().any(|row| row.name == bridge.name) {
        return;
    }
    database.bridges.push(bridge.clone());
    database.bridges.sort_by(|a, b| a.name.cmp(&b.name));
    attach_all(observed, bridge);
}

fn add_port(observed: &mut Observed, bridge: &str, port: &str, wanted: Option<i64>) {
    let Some(row) = row_of(observed, bridge) else { return };
    if row.port(port).is_some() {
        return;
    }
    let numbers = row.ports.iter().filter_map(|port| port.ofport);
    let ofport = numbers.filter(|number| *number != LOCAL_OFPORT).max().unwrap_or(0) + 1;
    let ofport = wanted.or(Some(ofport));
    row.ports.push(Port { name: port.to_owned(), ofport, ..Port::default() });
    row.ports.sort_by(|a, b| a.name.cmp(&b.name));
    let row = row.clone();
    attach_all(observed, &row);
}

/// vswitchd's pass over one bridge: what is configured and missing is made.
fn attach_all(observed: &mut Observed, bridge: &Bridge) {
    let kernel = bridge.is_in_kernel();
    if kernel && !observed.ovs.datapaths.iter().any(|found| found.name == KERNEL_DATAPATH) {
        let datapath = Datapath { name: KERNEL_DATAPATH.into(), vports: Vec::new() };
        observed.ovs.datapaths.push(datapath);
        add_link(&mut observed.network, KERNEL_DATAPATH, INTERNAL_KIND, None);
    }
    for port in &bridge.ports {
        let mac = bridge.hwaddr.clone().filter(|_| port.name == bridge.name);
        match (port.kind.as_str(), kernel) {
            ("internal", true) => add_link(&mut observed.network, &port.name, INTERNAL_KIND, mac),
            ("internal", false) => add_link(&mut observed.network, &port.name, "tun", mac),
            ("" | "system", true) => {
                let Some(link) = link_of(&mut observed.network, &port.name) else { continue };
                link.master = Some(KERNEL_DATAPATH.into());
            }
            // the user-space datapath reads a copy; tunnels and patches have no device here
            _ => continue,
        }
        if kernel {
            add_vport(observed, &port.name);
        }
    }
}

fn add_vport(observed: &mut Observed, port: &str) {
    let datapaths = &mut observed.ovs.datapaths;
    let Some(datapath) = datapaths.iter_mut().find(|found| found.name == KERNEL_DATAPATH) else {
        return;
    };
    if !datapath.vports.iter().any(|vport| vport == port) {
        datapath.vports.push(port.to_owned());
        datapath.vports.sort();
    }
}

/// A new device is down, and takes the kernel's defaults.
fn add_link(network: &mut Network, name: &str, kind: &str, mac: Option<String>) {
    if network.links.iter().any(|link| link.name == name) {
        return;
    }
    let index = network.links.iter().map(|link| link.index).max().unwrap_or(0) + 1;
    network.links.push(Link {
        index,
        name: name.to_owned(),
        kind: Some(kind.to_owned()),
        mac,
        mtu: 1500,
        up: false,
        master: None,
        rp_filter: Some(network.rp_filter_default),
        sysctls: network.sysctl_defaults.clone(),
        ..Link::default()
    });
}

/// A device leaves its datapath: one that the datapath made vanishes, another is free.
fn release(observed: &mut Observed, port: &str) {
    for datapath in &mut observed.ovs.datapaths {
        datapath.vports.retain(|vport| vport != port);
    }
    let Some(link) = link_of(&mut observed.network, port) else { return };
    if link.kind.as_deref() == Some(INTERNAL_KIND) {
        remove_link(&mut observed.network, port);
    } else if observed.ovs.datapaths.iter().any(|found| Some(&found.name) == link.master.as_ref()) {
        link.master = None;
    }
}

fn delete_bridge(observed: &mut Observed, bridge: &str) {
    let Some(database) = &mut observed.ovs.database else { return };
    let Some(at) = database.bridges.iter().position(|row| row.name == bridge) else { return };
    let row = database.bridges.remove(at);
    let kernel_is_used = database.bridges.iter().any(Bridge::is_in_kernel);
    for port in &row.ports {
        release(observed, &port.name);
        if port.kind == "internal" {
            remove_link(&mut observed.network, &port.name);
        }
    }
    if row.is_in_kernel() && !kernel_is_used {
        // vswitchd deletes a datapath with the last bridge that uses it
        delete_datapath(observed, KERNEL_DATAPATH);
    }
}

/// The kernel's datapath with its devices outlives the daemons; what vswitchd itself
/// carries ends with it.
fn stop(observed: &mut Observed) {
    let Observed { ovs, network, .. } = observed;
    if let Some(database) = ovs.database.take() {
        for bridge in database.bridges.iter().filter(|bridge| !bridge.is_in_kernel()) {
            for port in bridge.ports.iter().filter(|port| port.kind == "internal") {
                remove_link(network, &port.name);
            }
        }
        ovs.stopped = Some(database);
    }
    ovs.database_error = Some("the daemons are stopped".into());
    (ovs.ovsdb_server, ovs.vswitchd) = (false, false);
    (ovs.ovsdb_server_hangs, ovs.vswitchd_hangs) = (false, false);
}

fn start(observed: &mut Observed) {
    let ovs = &mut observed.ovs;
    (ovs.ovsdb_server, ovs.vswitchd) = (true, true);
    (ovs.ovsdb_server_hangs, ovs.vswitchd_hangs) = (false, false);
    let stopped = ovs.stopped.take();
    let database: &OvsDatabase = ovs.database.get_or_insert(stopped.unwrap_or_default());
    let bridges = database.bridges.clone();
    ovs.database_error = None;
    for bridge in &bridges {
        attach_all(observed, bridge);
    }
}

fn delete_datapath(observed: &mut Observed, datapath: &str) {
    let datapaths = &mut observed.ovs.datapaths;
    let Some(at) = datapaths.iter().position(|found| found.name == datapath) else { return };
    for port in datapaths.get(at).cloned().unwrap_or_default().vports {
        release(observed, &port);
    }
    observed.ovs.datapaths.remove(at);
    remove_link(&mut observed.network, datapath);
}

/// With a device go its addresses, neighbours and routes: of IPv4 a multipath route as a
/// whole (`fib_sync_down_dev`), of IPv6 its leg.
fn remove_link(network: &mut Network, name: &str) {
    network.links.retain(|link| link.name != name);
    network.addresses.retain(|address| address.link != name);
    network.neighbours.retain(|neighbour| neighbour.link != name);
    for route in network.routes.iter_mut().filter(|route| route.destination.is_ipv6()) {
        remove_leg(route, name);
    }
    remove_nexthops(network, name);
    network.routes.retain(|route| {
        route.link.as_deref() != Some(name) && !route.hops.iter().any(|hop| hop.link == name)
    });
}

/// A leg that is left alone is an ordinary route; without any, the last one stays to be
/// removed with the route.
fn remove_leg(route: &mut Route, name: &str) {
    let gone = route.hops.iter().filter(|hop| hop.link == name).count();
    if gone == 0 || gone == route.hops.len() {
        return;
    }
    route.hops.retain(|hop| hop.link != name);
    if let [hop] = route.hops.as_slice() {
        route.gateway = hop.gateway;
        route.link = Some(hop.link.clone());
        route.hops.clear();
    }
}

/// With a nexthop object go its routes, and it leaves its groups; an empty group goes too.
fn remove_nexthops(network: &mut Network, name: &str) {
    let of_link = |nexthop: &Nexthop| nexthop.link.as_deref() == Some(name);
    let mut gone: Vec<u32> =
        network.nexthops.iter().filter(|n| of_link(n)).map(|nexthop| nexthop.id).collect();
    for group in network.nexthops.iter_mut().filter(|nexthop| !nexthop.members.is_empty()) {
        group.members.retain(|member| !gone.contains(&member.id));
        if group.members.is_empty() {
            gone.push(group.id);
        }
    }
    network.nexthops.retain(|nexthop| !gone.contains(&nexthop.id));
    network.routes.retain(|route| route.object().is_none_or(|id| !gone.contains(&id)));
}
