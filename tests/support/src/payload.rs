//! A payload as an operator's image brings it: the module set that the bed built plays
//! NSX's, Debian's CNI plugins play NCP's under NCP's names.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `nsxBuildVersion` of the payload.
pub const CNI_VERSION: &str = "4.1.2.22596735";
/// `MODULE_VERSION` as the manifest gives it.
pub const MODULES_VERSION: &str = "2.17.9.nsx-4.1.2";
/// The six modules.
pub const MODULES: [&str; 6] =
    ["openvswitch", "vport-geneve", "vport-gre", "vport-lisp", "vport-stt", "vport-vxlan"];
/// Where Debian's containernetworking-plugins puts them.
const PLUGINS: &str = "/usr/lib/cni";

/// A module set of a payload.
#[derive(Clone, Debug)]
pub struct ModuleSet {
    /// Where its six files are.
    pub dir: PathBuf,
    /// Which kernel it is for.
    pub kernel: String,
}

/// Writes a payload directory, `manifest.toml` included.
///
/// # Panics
/// Where a file is missing that `scripts/setup` installs.
pub fn write(to: &Path, sets: &[ModuleSet], cni_version: &str) {
    let mut manifest = String::new();
    for set in sets {
        writeln!(
            manifest,
            "[[modules]]\nversion = {MODULES_VERSION:?}\nkernels = [{:?}]",
            set.kernel
        )
        .unwrap();
        for name in MODULES {
            let path = format!("modules/{}/{name}.ko", set.kernel);
            let contents = fs::read(set.dir.join(format!("{name}.ko"))).unwrap();
            let sha256 = put(to, &path, &contents, 0o644);
            let build_id = build_id(&to.join(&path));
            writeln!(manifest, "[modules.files.{name}]\npath = {path:?}\nsha256 = {sha256:?}\nbuild_id = {build_id:?}").unwrap();
        }
    }
    writeln!(manifest, "[cni]\nversion = {cni_version:?}").unwrap();
    let mut cni = |role: &str, path: &str, mode: u32, contents: &[u8]| {
        let sha256 = put(to, path, contents, mode);
        writeln!(
            manifest,
            "[cni.files.{role}]\npath = {path:?}\nmode = \"{mode:04o}\"\nsha256 = {sha256:?}"
        )
        .unwrap();
    };
    let plugin = |name: &str| {
        fs::read(Path::new(PLUGINS).join(name))
            .expect("containernetworking-plugins is not installed: run scripts/setup")
    };
    cni("nsx", "cni/nsx", 0o755, &plugin("bridge"));
    cni("loopback", "cni/loopback", 0o755, &plugin("loopback"));
    cni("conflist", "cni/10-nsx.conflist", 0o600, conflist(cni_version).as_bytes());
    let loopback =
        "{\n  \"cniVersion\": \"0.3.1\",\n  \"name\": \"lo\",\n  \"type\": \"loopback\"\n}\n";
    cni("loopback-conf", "cni/99-loopback.conf", 0o600, loopback.as_bytes());
    put(to, "manifest.toml", manifest.as_bytes(), 0o644);
}

/// A conflist of a version.
///
/// # Panics
/// Never: the value is made here.
pub fn conflist(version: &str) -> String {
    let value = json!({
        "cniVersion": "0.4.0",
        "name": "nsx-cni",
        "nsxBuildVersion": version,
        "plugins": [{ "type": "nsx", "bridge": "nsx0", "ipam": { "type": "host-local", "subnet": "10.244.0.0/24" } }],
    });
    format!("{}\n", serde_json::to_string_pretty(&value).unwrap())
}

fn put(to: &Path, path: &str, contents: &[u8], mode: u32) -> String {
    let at = to.join(path);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(&at, contents).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
    Sha256::digest(contents).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The build id of a module file, as `readelf` says it: a second witness beside the agent's own reader.
///
/// # Panics
/// Where the file has none.
pub fn build_id(file: &Path) -> String {
    let output = Command::new("readelf").arg("-n").arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = text.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    id.unwrap_or_else(|| panic!("no build id in {}: {text}", file.display())).to_owned()
}
