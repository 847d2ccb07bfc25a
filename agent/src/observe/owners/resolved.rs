//! Name servers of the link: systemd-resolved asks them only while the link has an address
//! (`link_relevant` in src/resolve/resolved-link.c).

use super::files::{Files, ini, value};
use super::{Place, claim};
use pointsman_core::model::{Claim, Holder};

pub(super) fn claims(place: &Place<'_>, files: &mut Files<'_>) -> Vec<Claim> {
    if !place.runs("systemd-resolved") || has_global_servers(files) {
        return Vec::new();
    }
    let Some(index) = place.index(place.uplink) else { return Vec::new() };
    for (path, key) in [
        (format!("/run/systemd/resolve/netif/{index}"), "SERVERS"),
        (format!("/run/systemd/netif/links/{index}"), "DNS"),
    ] {
        let Some(text) = files.text(&path) else { continue };
        let lines = ini(&text);
        if let Some(servers) = value(&lines, "", key).filter(|servers| !servers.is_empty()) {
            let evidence = format!("{path} says {key} {servers}");
            return vec![claim(Holder::LinkDns, place.uplink, evidence)];
        }
    }
    Vec::new()
}

fn has_global_servers(files: &mut Files<'_>) -> bool {
    let directories = ["/etc/systemd/resolved.conf.d", "/run/systemd/resolved.conf.d"];
    let mut texts: Vec<String> = files.text("/etc/systemd/resolved.conf").into_iter().collect();
    texts.extend(files.layered(&directories, ".conf").into_iter().map(|(_, text)| text));
    texts.iter().any(|text| {
        let lines = ini(text);
        value(&lines, "Resolve", "DNS").is_some_and(|servers| !servers.is_empty())
    })
}
