//! Addresses that move from node to node: keepalived and kube-vip, bound to a link by name.

use super::files::Files;
use super::{Place, claim};
use pointsman_core::model::{Claim, Holder};
use std::fs;

const MANIFESTS: &str = "/etc/kubernetes/manifests";

pub(super) fn claims(place: &Place<'_>, files: &mut Files<'_>) -> Vec<Claim> {
    let mut found = keepalived(place, files);
    found.extend(kube_vip(place, files));
    found
}

/// The configuration that each keepalived runs with, its pod's where it is in one.
fn keepalived(place: &Place<'_>, files: &mut Files<'_>) -> Vec<Claim> {
    let running = place.processes.iter().filter(|process| process.name() == "keepalived");
    for process in running {
        let mut words = process.arguments.iter();
        let mut path = "/etc/keepalived/keepalived.conf".to_owned();
        while let Some(word) = words.next() {
            if let Some(named) = word.strip_prefix("--use-file=") {
                named.clone_into(&mut path);
            } else if word == "-f" || word == "--use-file" {
                words.next().cloned().unwrap_or_default().clone_into(&mut path);
            }
        }
        let inside = fs::read_to_string(format!("/proc/{}/root{path}", process.pid)).ok();
        let Some(text) = inside.or_else(|| files.text(&path)) else { continue };
        if let Some(line) = line_with(&text, place.uplink) {
            let evidence = format!("{path} says `{line}`");
            return vec![claim(Holder::Keepalived, place.uplink, evidence)];
        }
    }
    Vec::new()
}

/// `interface X`, or `ADDRESS dev X`.
fn line_with(text: &str, link: &str) -> Option<String> {
    let mut lines = text.lines().map(|line| line.split(['#', '!']).next().unwrap_or("").trim());
    let names = |line: &str| {
        let words: Vec<&str> =
            line.split(|c: char| c.is_whitespace() || "{}".contains(c)).collect();
        words.windows(2).any(|pair| matches!(pair, ["interface" | "dev", name] if *name == link))
    };
    lines.find(|line| names(line)).map(str::to_owned)
}

fn kube_vip(place: &Place<'_>, files: &mut Files<'_>) -> Vec<Claim> {
    for name in files.names(MANIFESTS) {
        let path = format!("{MANIFESTS}/{name}");
        if !name.contains("kube-vip") {
            continue;
        }
        let Some(text) = files.text(&path) else { continue };
        match interface(&text) {
            Some(link) if link == place.uplink => {
                let evidence = format!("{path} says vip_interface {link}");
                return vec![claim(Holder::KubeVip, place.uplink, evidence)];
            }
            // it takes the link of the default route
            None if place.has_default_route() => {
                let evidence = format!("{path} names no vip_interface");
                return vec![claim(Holder::KubeVip, place.uplink, evidence)];
            }
            Some(_) | None => {}
        }
    }
    Vec::new()
}

/// The `value` behind `name: vip_interface`.
fn interface(text: &str) -> Option<String> {
    let mut lines = text.lines().map(|line| line.trim().trim_start_matches("- "));
    lines.find(|line| {
        line.strip_prefix("name:")
            .is_some_and(|name| name.trim().trim_matches('"') == "vip_interface")
    })?;
    let value = lines.next()?.strip_prefix("value:")?.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_name_a_link() {
        let text = "vrrp_instance a {\n  interface eth1 # the uplink\n  virtual_ipaddress {\n 10.0.0.9/32 dev eth2\n}\n}";
        assert_eq!(line_with(text, "eth1").as_deref(), Some("interface eth1"));
        assert_eq!(line_with(text, "eth2").as_deref(), Some("10.0.0.9/32 dev eth2"));
        assert_eq!(line_with(text, "eth"), None);
        assert_eq!(line_with("! interface eth1", "eth1"), None);
    }

    #[test]
    fn the_environment_of_a_manifest() {
        let text = "    env:\n    - name: vip_interface\n      value: \"eth1\"\n    - name: port\n";
        assert_eq!(interface(text).as_deref(), Some("eth1"));
        assert_eq!(interface("    - name: port\n      value: 6443\n"), None);
    }
}
