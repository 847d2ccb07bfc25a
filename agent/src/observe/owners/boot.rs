//! What configured the uplink at boot and is not running any more: ifupdown, netplan, cloud-init.

use super::files::Files;
use super::{Place, claim};
use pointsman_core::model::{Claim, Holder};

pub(super) fn claims(place: &Place<'_>, files: &mut Files<'_>) -> Vec<Claim> {
    let uplink = place.uplink;
    let mut found = Vec::new();
    // `LOGICAL=PHYSICAL` lines of ifupdown 0.8, and a file per link, which is empty when it is down
    let state = files.text("/run/network/ifstate").unwrap_or_default();
    let mut lines = state.lines().map(str::trim);
    let is_up = |line: &str| line == uplink || line.starts_with(&format!("{uplink}="));
    let own = files.text(&format!("/run/network/ifstate.{uplink}")).unwrap_or_default();
    if lines.any(is_up) || !own.trim().is_empty() {
        found.push(claim(Holder::Ifupdown, uplink, format!("/run/network/ifstate names {uplink}")));
    }
    let directories = ["/etc/netplan", "/run/netplan", "/usr/lib/netplan"];
    let yaml = files.layered(&directories, ".yaml");
    let names =
        |text: &str| text.lines().any(|line| line.trim().starts_with(&format!("{uplink}:")));
    if let Some((path, _)) = yaml.iter().find(|(_, text)| names(text)) {
        found.push(claim(Holder::Netplan, uplink, format!("{path} names {uplink}")));
    }
    if files.exists("/run/cloud-init") && !cloud_init_is_told(files) {
        found.push(claim(Holder::CloudInit, uplink, "/run/cloud-init is there".into()));
    }
    found
}

/// Whether cloud-init is told to leave the network alone.
fn cloud_init_is_told(files: &mut Files<'_>) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    files.exists("/etc/cloud/cloud-init.disabled")
        || files.exists("/run/cloud-init/disabled")
        || files.layered(&["/etc/cloud/cloud.cfg.d"], ".cfg").iter().any(|(_, text)| {
            let text = plain(text);
            text.contains("network:{config:disabled}") || text.contains("network:config:disabled")
        })
}

#[cfg(test)]
mod tests {
    use super::super::files::put;
    use super::*;
    use crate::disk::HostRoot;
    use pointsman_core::model::Network;

    fn claims_of(root: &HostRoot) -> Vec<Holder> {
        let network = Network::default();
        let place = Place { uplink: "eth1", bridge: "br-int", network: &network, processes: &[] };
        let found = claims(&place, &mut Files::below(root));
        found.into_iter().map(|claim| claim.holder).collect()
    }

    #[test]
    fn cloud_init_until_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        assert_eq!(claims_of(&root), []);
        put(&root, "/run/cloud-init/result.json", "{}");
        assert_eq!(claims_of(&root), [Holder::CloudInit]);
        // the line of the table, and the same in the other style
        for text in ["network: {config: disabled}\n", "network:\n  config: disabled\n"] {
            put(&root, "/etc/cloud/cloud.cfg.d/99-pointsman.cfg", text);
            assert_eq!(claims_of(&root), [], "{text}");
        }
        put(&root, "/etc/cloud/cloud.cfg.d/99-pointsman.cfg", "preserve_hostname: true\n");
        assert_eq!(claims_of(&root), [Holder::CloudInit]);
    }

    #[test]
    fn a_link_that_ifupdown_took_down_is_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        put(&root, "/run/network/ifstate", "lo=lo\neth10=eth10\n");
        put(&root, "/run/network/ifstate.eth1", "");
        assert_eq!(claims_of(&root), []);
        put(&root, "/run/network/ifstate.eth1", "eth1\n");
        assert_eq!(claims_of(&root), [Holder::Ifupdown]);
    }
}
