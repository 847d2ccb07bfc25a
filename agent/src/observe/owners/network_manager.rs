//! `NetworkManager`: is it running, and does it manage a link? Its state files say so
//! (`/run/NetworkManager/devices/IFINDEX`, src/core/nm-config.c); D-Bus is not spoken.

use super::files::{Files, ini, matches, value};
use super::{Place, claim};
use pointsman_core::model::{Claim, Holder};

/// Later ones win; the first of one name hides the rest.
const CONFIGURATION: [&str; 3] =
    ["/etc/NetworkManager/conf.d", "/run/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d"];
pub(super) fn claims(place: &Place<'_>, files: &mut Files<'_>) -> Vec<Claim> {
    if !place.runs("NetworkManager") {
        return Vec::new();
    }
    place.links().map(|(link, index)| of(files, link, index)).collect()
}

fn of(files: &mut Files<'_>, link: &str, index: u32) -> Claim {
    let path = format!("/run/NetworkManager/devices/{index}");
    let Some(state) = files.text(&path) else {
        // no state yet: what it will do is in its configuration
        return match unmanaged(files, link) {
            Some(by) => claim(Holder::NetworkManagerAway, link, by),
            None => claim(
                Holder::NetworkManager,
                link,
                format!("it runs, and no unmanaged-devices names {link}"),
            ),
        };
    };
    let state = ini(&state);
    let uuid = value(&state, "device", "connection-uuid");
    let managed = value(&state, "device", "managed") == Some("true");
    let outside = uuid.is_some_and(|uuid| is_external(files, uuid));
    if !managed || outside {
        let evidence = format!("{path} says {}", if outside { "external" } else { "unmanaged" });
        return claim(Holder::NetworkManagerAway, link, evidence);
    }
    let profile = uuid.map_or_else(String::new, |uuid| format!(", profile {uuid}"));
    claim(Holder::NetworkManager, link, format!("{path} says managed=true{profile}"))
}

/// Whether a profile was made up by `NetworkManager` for what it found configured.
fn is_external(files: &mut Files<'_>, uuid: &str) -> bool {
    files.layered(&["/run/NetworkManager/system-connections"], ".nmconnection").iter().any(
        |(_, text)| {
            let text = ini(text);
            value(&text, "connection", "uuid") == Some(uuid)
                && value(&text, ".nmmeta", "external") == Some("true")
        },
    )
}

/// Where the configuration tells it to leave a link alone.
pub(in crate::observe) fn unmanaged(files: &mut Files<'_>, link: &str) -> Option<String> {
    let mut all = files.layered(&CONFIGURATION, ".conf");
    if let Some(text) = files.text("/etc/NetworkManager/NetworkManager.conf") {
        all.push(("/etc/NetworkManager/NetworkManager.conf".into(), text));
    }
    for (path, text) in all {
        for (section, key, list) in ini(&text) {
            let is_list = section == "keyfile" && key.trim_end_matches('+') == "unmanaged-devices";
            if is_list && names(&list, link) {
                return Some(format!("{path} says {key}={list}"));
            }
        }
    }
    None
}

/// `interface-name:eth1;interface-name:br-*;except:…` of NetworkManager.conf(5), as far as
/// names go.
fn names(list: &str, link: &str) -> bool {
    let mut found = false;
    for word in list.split([';', ',']).map(str::trim) {
        let pattern = |word: &str| {
            let own = word.strip_prefix("interface-name:").or(Some(word).filter(|w| *w == "*"));
            own.is_some_and(|own| matches(own.trim_start_matches('='), link))
        };
        match word.strip_prefix("except:") {
            Some(rest) if pattern(rest) => return false,
            Some(_) => {}
            None => found |= pattern(word),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_devices() {
        assert!(names("interface-name:eth1;interface-name:br-int", "br-int"));
        assert!(names("interface-name:eth*", "eth1"));
        assert!(names("*,except:interface-name:eth0", "eth1"));
        assert!(!names("*,except:interface-name:eth1", "eth1"));
        assert!(!names("mac:00:11:22:33:44:55", "eth1"));
    }
}
