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
