//! Whether the node would have its addresses after a reboot.
//!
//! A bridge's device has no addresses when it is made at boot, so the host's own
//! configuration has to give them to the uplink, or the node comes up without a network.
//! NCP's installation says so and checks nothing.

use super::is_lasting;
use crate::model::{Address, Host, Network, Observed, Owners, Route, Writer};
use crate::plan::Refusal;
use crate::plan::handover::Want;
use std::net::IpAddr;

/// The one reason of this check.
pub(super) const REASON: &str = "UplinkNotPersistent";
/// `RTPROT_KERNEL`, `RTPROT_RA`: routes that nobody writes down.
const MADE: [u8; 2] = [2, 9];
const MAIN: u32 = 254;
/// Routes that a refusal writes out: it has to fit on a screen, and in an annotation.
const SHOWN: usize = 12;

pub(super) fn judge(
    want: &Want,
    observed: &Observed,
    owners: &Owners,
    accepted: bool,
) -> Result<Vec<String>, Refusal> {
    let network = &observed.network;
    let lasting: Vec<&Address> = network
        .addresses
        .iter()
        .filter(|address| address.link == want.uplink && is_lasting(address))
        .collect();
    let given = |address: &&Address| {
        owners.persisted.iter().any(|file| file.gives(address.ip, address.prefix_len))
    };
    let lost: Vec<&Address> = lasting.iter().copied().filter(|address| !given(address)).collect();
    if lost.is_empty() {
        return Ok(lost_routes(want, network, owners));
    }
    let found = finding(want, owners, &lost);
    if accepted {
        return Ok(vec![format!("accepted: {found}")]);
    }
    let mut routes = written_routes(&want.uplink, network);
    // the default routes are what nobody may forget
    routes.sort_by_key(|route| route.prefix_len);
    let more = routes.split_off(SHOWN.min(routes.len()));
    let writer = owners.writer.unwrap_or_else(|| usual(&observed.host));
    Err(Refusal::new(
        REASON,
        format!(
            "{found}; nothing was changed. Add to {}\n{}or set `node.accept = [\"{REASON}\"]`",
            lines(writer, &want.uplink, &lasting, &routes),
            rest(&want.uplink, more.len())
        ),
    ))
}

/// Of the routes that are not written out; a comment in every writer's syntax.
fn rest(uplink: &str, more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!("# and {more} more routes: `ip route show dev {uplink}` lists them\n"),
    }
}

/// What is missing, and what the files say instead.
fn finding(want: &Want, owners: &Owners, lost: &[&Address]) -> String {
    let names: Vec<String> = lost.iter().map(|address| cidr(address)).collect();
    format!(
        "{} has {}, and nothing in the host's configuration gives that back at boot ({}): after a reboot the node would be without it",
        want.uplink,
        names.join(", "),
        found(owners)
    )
}

/// What the files say instead.
fn found(owners: &Owners) -> String {
    let files: Vec<String> = owners
        .persisted
        .iter()
        .map(|file| {
            let all: Vec<String> =
                file.addresses.iter().map(|address| address.ip.to_string()).collect();
            let gives = match (file.at_boot, file.automatic, all.is_empty()) {
                (false, ..) => "not at boot".to_owned(),
                (true, true, _) => "by DHCP".to_owned(),
                (true, false, true) => "no address".to_owned(),
                (true, false, false) => all.join(", "),
            };
            format!("{}: {gives}", file.file)
        })
        .collect();
    if files.is_empty() { "no file names it".into() } else { files.join("; ") }
}

/// Routes by the uplink whose gateway no file names: only said, since a file may make them in
/// ways that nobody here reads.
fn lost_routes(want: &Want, network: &Network, owners: &Owners) -> Vec<String> {
    let at_boot = || owners.persisted.iter().filter(|file| file.at_boot);
    let unnamed = |route: &&Route| {
        route.gateway.is_some_and(|gateway| !at_boot().any(|file| file.names.contains(&gateway)))
    };
    written_routes(&want.uplink, network)
        .into_iter()
        .filter(unnamed)
        .take(5)
        .map(|route| {
            format!("the route {route} is in no file that configures {} at boot", want.uplink)
        })
        .collect()
}

/// Routes of `main` by one gateway that a person or a tool has made.
fn written_routes<'a>(uplink: &str, network: &'a Network) -> Vec<&'a Route> {
    let written = |route: &&Route| {
        route.table == MAIN
            && route.link.as_deref() == Some(uplink)
            && route.gateway.is_some()
            && !MADE.contains(&route.protocol)
    };
    network.routes.iter().filter(written).collect()
}

/// What a distribution writes its network in, where a host gives no sign.
fn usual(host: &Host) -> Writer {
    let is = |name: &str| host.os_id == name || host.os_like.iter().any(|like| like == name);
    match () {
        () if is("debian") => Writer::Ifupdown,
        () if is("rhel") || is("fedora") || is("suse") => Writer::Ifcfg,
        () => Writer::Networkd,
    }
}

/// The file and its lines, addresses and routes filled in.
fn lines(writer: Writer, uplink: &str, addresses: &[&Address], routes: &[&Route]) -> String {
    let lines = match writer {
        Writer::Ifupdown => interfaces(uplink, addresses, routes),
        Writer::Ifcfg => ifcfg(uplink, addresses, routes),
        Writer::Netplan => netplan(uplink, addresses, routes),
        Writer::Keyfile => keyfile(uplink, addresses, routes),
        Writer::Networkd => networkd(uplink, addresses, routes),
    };
    lines.join("\n")
}

fn cidr(address: &Address) -> String {
    format!("{}/{}", address.ip, address.prefix_len)
}

/// Destination and gateway in the words of most files.
fn by(route: &Route) -> Option<(String, IpAddr)> {
    let to = if route.prefix_len == 0 {
        "default".to_owned()
    } else {
        format!("{}/{}", route.destination, route.prefix_len)
    };
    Some((to, route.gateway?))
}

fn interfaces(uplink: &str, addresses: &[&Address], routes: &[&Route]) -> Vec<String> {
    let mut lines = vec!["/etc/network/interfaces:".to_owned(), format!("auto {uplink}")];
    for (number, address) in addresses.iter().enumerate() {
        let family = if address.ip.is_ipv4() { "inet" } else { "inet6" };
        lines.push(format!("iface {uplink} {family} static"));
        lines.push(format!("    address {}", cidr(address)));
        let last = number + 1 == addresses.len();
        for (to, gateway) in routes.iter().filter(|_| last).filter_map(|route| by(route)) {
            let family = if gateway.is_ipv4() { "" } else { "-6 " };
            lines.push(format!("    up ip {family}route add {to} via {gateway} dev {uplink}"));
        }
    }
    lines
}

fn ifcfg(uplink: &str, addresses: &[&Address], routes: &[&Route]) -> Vec<String> {
    let mut lines = vec![
        format!("/etc/sysconfig/network-scripts/ifcfg-{uplink}:"),
        format!("DEVICE={uplink}"),
        "ONBOOT=yes".into(),
        "BOOTPROTO=none".into(),
        "NM_CONTROLLED=no".into(),
    ];
    for (number, address) in addresses.iter().filter(|a| a.ip.is_ipv4()).enumerate() {
        lines.push(format!("IPADDR{number}={}", address.ip));
        lines.push(format!("PREFIX{number}={}", address.prefix_len));
    }
    let v6: Vec<String> = addresses.iter().filter(|a| a.ip.is_ipv6()).map(|a| cidr(a)).collect();
    if let Some((first, rest)) = v6.split_first() {
        lines.extend(["IPV6INIT=yes".to_owned(), format!("IPV6ADDR={first}")]);
        if !rest.is_empty() {
            lines.push(format!("IPV6ADDR_SECONDARIES=\"{}\"", rest.join(" ")));
        }
    }
    for (v4, file) in [(true, "route"), (false, "route6")] {
        let own: Vec<(String, IpAddr)> = routes
            .iter()
            .filter_map(|route| by(route))
            .filter(|(_, gateway)| gateway.is_ipv4() == v4)
            .collect();
        if !own.is_empty() {
            lines.push(format!("/etc/sysconfig/network-scripts/{file}-{uplink}:"));
        }
        lines.extend(own.iter().map(|(to, gateway)| format!("{to} via {gateway}")));
    }
    lines
}

fn netplan(uplink: &str, addresses: &[&Address], routes: &[&Route]) -> Vec<String> {
    let all: Vec<String> = addresses.iter().map(|address| cidr(address)).collect();
    let mut lines = vec![
        "/etc/netplan/90-pointsman.yaml:".to_owned(),
        "network:".into(),
        "  version: 2".into(),
        "  ethernets:".into(),
        format!("    {uplink}:"),
        format!("      addresses: [\"{}\"]", all.join("\", \"")),
    ];
    let mut routes = routes.iter().filter_map(|route| by(route)).peekable();
    if routes.peek().is_some() {
        lines.push("      routes:".into());
    }
    lines.extend(routes.map(|(to, via)| format!("      - {{to: \"{to}\", via: \"{via}\"}}")));
    lines
}

fn keyfile(uplink: &str, addresses: &[&Address], routes: &[&Route]) -> Vec<String> {
    let mut lines = vec![
        format!("/etc/NetworkManager/system-connections/{uplink}.nmconnection (mode 0600):"),
        "[connection]".into(),
        format!("id={uplink}"),
        "type=ethernet".into(),
        format!("interface-name={uplink}"),
    ];
    for (v4, section) in [(true, "[ipv4]"), (false, "[ipv6]")] {
        lines.push(section.into());
        let own = addresses.iter().filter(|address| address.ip.is_ipv4() == v4);
        let before = lines.len();
        lines.extend(own.enumerate().map(|(n, a)| format!("address{}={}", n + 1, cidr(a))));
        lines.push(if lines.len() > before { "method=manual" } else { "method=disabled" }.into());
        let own = routes.iter().filter(|route| route.destination.is_ipv4() == v4);
        lines.extend(own.enumerate().filter_map(|(n, route)| {
            let to = format!("{}/{}", route.destination, route.prefix_len);
            Some(format!("route{}={to},{}", n + 1, route.gateway?))
        }));
    }
    lines
}

fn networkd(uplink: &str, addresses: &[&Address], routes: &[&Route]) -> Vec<String> {
    let mut lines = vec![
        format!("/etc/systemd/network/10-{uplink}.network:"),
        "[Match]".into(),
        format!("Name={uplink}"),
        "[Network]".into(),
    ];
    lines.extend(addresses.iter().map(|address| format!("Address={}", cidr(address))));
    for (to, gateway) in routes.iter().filter_map(|route| by(route)) {
        lines.push("[Route]".into());
        if to != "default" {
            lines.push(format!("Destination={to}"));
        }
        lines.push(format!("Gateway={gateway}"));
    }
    lines
}
