//! The machine and its system.

use crate::disk::{DiskError, HostRoot};
use crate::ovsdb::living;
use nix::sys::utsname::uname;
use pointsman_core::model::{FileState, Host};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Real ones have less than a kibibyte.
const OS_RELEASE_LIMIT: u64 = 64 << 10;

/// What the machine is. Its kernel and boot are those of this process, wherever the root is;
/// os-release and systemd are looked for below the root.
pub fn observe_host(root: &HostRoot) -> Result<Host, DiskError> {
    let boot_id = HostRoot::new("/").read("/proc/sys/kernel/random/boot_id", 64)?;
    let kernel = uname()
        .map_err(io::Error::from)
        .map_err(crate::disk::failed("ask the kernel for its release", Path::new("uname")))?;
    let release = os_release(root)?;
    let value = |key: &str| release.get(key).map(|value| value.to_lowercase()).unwrap_or_default();
    Ok(Host {
        boot_id: String::from_utf8_lossy(&boot_id).trim().to_owned(),
        kernel: kernel.release().to_string_lossy().into_owned(),
        os_id: value("ID"),
        os_like: value("ID_LIKE").split_whitespace().map(str::to_owned).collect(),
        // sd_booted(3)
        systemd: root.state("/run/systemd/system")? == Some(FileState::Directory),
        kubelet: None,
    })
}

/// Whether a process of this host's network namespace is a kubelet, or a distribution of
/// Kubernetes that holds one (k3s, `MicroK8s`).
pub(super) fn runs_kubelet() -> bool {
    const NAMES: [&str; 5] = ["kubelet", "hyperkube", "k3s-server", "k3s-agent", "kubelite"];
    NAMES.iter().any(|name| !living(name).is_empty())
}

/// `/etc/os-release`, a link as a rule, and `/usr/lib/os-release` where that leads nowhere:
/// in a pod that mounts only the host's `/etc` it does.
fn os_release(root: &HostRoot) -> Result<BTreeMap<String, String>, DiskError> {
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        match root.read(path, OS_RELEASE_LIMIT) {
            Ok(text) => return Ok(parse(&String::from_utf8_lossy(&text))),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(BTreeMap::new())
}

/// os-release(5): assignments as a shell reads them, without expansion.
fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), unquote(value)))
        .collect()
}

fn unquote(value: &str) -> String {
    let mut plain = String::new();
    let mut quote = None;
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => plain.extend(letters.next()),
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, _) => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn values_are_unquoted_as_a_shell_does() {
        let parsed =
            parse("# ID=no\nID=ubuntu\nID_LIKE=\"rhel  fedora\"\nA='b\"c'\nD=\"e\\\"f\"\n\nX\n");
        let pairs: Vec<(&str, &str)> =
            parsed.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let expected =
            [("A", "b\"c"), ("D", "e\"f"), ("ID", "ubuntu"), ("ID_LIKE", "rhel  fedora")];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn the_host_is_the_one_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let host = observe_host(&root).unwrap();
        assert_eq!((host.os_id.as_str(), host.os_like.len(), host.systemd), ("", 0, false));
        assert_eq!(host.boot_id.len(), 36, "{}", host.boot_id);
        assert!(host.kernel.starts_with(|c: char| c.is_ascii_digit()), "{}", host.kernel);

        fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        fs::create_dir_all(dir.path().join("run/systemd/system")).unwrap();
        let text = b"ID=Rocky\nID_LIKE=\"rhel centos fedora\"\n";
        root.write("/usr/lib/os-release", 0o644, text).unwrap();
        let host = observe_host(&root).unwrap();
        assert_eq!((host.os_id.as_str(), host.systemd), ("rocky", true));
        assert_eq!(host.os_like, ["rhel", "centos", "fedora"]);

        // dangling, then absolute: never the test machine's own
        fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../no/such", dir.path().join("etc/os-release")).unwrap();
        assert_eq!(observe_host(&root).unwrap().os_id, "rocky");
        fs::remove_file(dir.path().join("etc/os-release")).unwrap();
        symlink("/usr/lib/os-release", dir.path().join("etc/os-release")).unwrap();
        assert_eq!(observe_host(&root).unwrap().os_id, "rocky");
    }
}
