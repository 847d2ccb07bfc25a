//! What the running kernel lets in, and what another one is configured to.

use crate::disk::HostRoot;
use pointsman_core::model::LoadPolicy;

/// A kernel's configuration is a quarter of a megabyte.
const LIMIT: u64 = 4 << 20;
/// The variable `SecureBoot` of the UEFI specification's global variables.
const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

fn text(root: &HostRoot, path: &str) -> Option<String> {
    let bytes = root.read(path, LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

pub(super) fn read(root: &HostRoot) -> LoadPolicy {
    LoadPolicy {
        sig_enforce: text(root, "/sys/module/module/parameters/sig_enforce").as_deref()
            == Some("Y"),
        lockdown: text(root, "/sys/kernel/security/lockdown").and_then(|text| mode(&text)),
        // four bytes of attributes, then the value (Documentation/filesystems/efivarfs.rst)
        secure_boot: root.read(SECURE_BOOT, 16).ok().and_then(|b| b.get(4).map(|b| *b == 1)),
        modules_disabled: text(root, "/proc/sys/kernel/modules_disabled").as_deref() == Some("1"),
    }
}

/// The chosen one of `none [integrity] confidentiality`.
fn mode(text: &str) -> Option<String> {
    let mode = text.split_once('[')?.1.split_once(']')?.0;
    (mode != "none").then(|| mode.to_owned())
}

/// Whether a kernel was built to take signed modules only.
pub(super) fn signed_only(root: &HostRoot, parent: &str, release: &str) -> bool {
    let places = [format!("/boot/config-{release}"), format!("{parent}/{release}/config")];
    let configuration = places.iter().find_map(|place| text(root, place));
    configuration.is_some_and(|text| text.lines().any(|line| line == "CONFIG_MODULE_SIG_FORCE=y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_brackets_is_the_one() {
        assert_eq!(mode("[none] integrity confidentiality"), None);
        assert_eq!(mode("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(mode("integrity"), None);
    }
}
