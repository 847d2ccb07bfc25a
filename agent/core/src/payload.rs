//! What the image brings: `manifest.toml` of the payload directory.

use crate::model::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// The payload directory: its manifest, and whether its files are what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// The manifest.
    pub manifest: Manifest,
    /// Files of the manifest that are missing or differ: path in the payload → what was found.
    pub faults: BTreeMap<String, String>,
}

/// `manifest.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// One entry per module set; a set fits exactly the kernels that it names.
    #[serde(default)]
    pub modules: Vec<ModuleSet>,
    /// The CNI files.
    pub cni: Option<CniPayload>,
}

/// Six modules built for some kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleSet {
    /// Of the modules (`MODULE_VERSION`).
    pub version: String,
    /// Exact kernel releases (`uname -r`) that this set is for.
    pub kernels: Vec<String>,
    /// By module name as in its file name, without `.ko`: `openvswitch`, `vport-geneve`, …
    pub files: BTreeMap<String, ModuleFile>,
}

/// One module of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleFile {
    /// In the payload directory.
    pub path: String,
    /// Of the file.
    pub sha256: Digest,
    /// The file's `.note.gnu.build-id`, hexadecimal.
    pub build_id: String,
}

/// The CNI plugin and its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CniPayload {
    /// `nsxBuildVersion`: dotted numbers.
    pub version: String,
    /// Files by role: `nsx`, `loopback`, `conflist`, `loopback-conf`.
    pub files: BTreeMap<CniRole, CniFile>,
}

/// What a CNI file is for. NCP's names and places follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CniRole {
    /// The plugin, `/opt/cni/bin/nsx`.
    Nsx,
    /// `/opt/cni/bin/loopback`; never overwritten.
    Loopback,
    /// `/etc/cni/net.d/10-nsx.conflist`; carries the version.
    Conflist,
    /// `/etc/cni/net.d/99-loopback.conf`; never overwritten.
    LoopbackConf,
}

/// One CNI file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CniFile {
    /// In the payload directory.
    pub path: String,
    /// Permission bits to install it with, as an octal string (`"0755"`).
    pub mode: String,
    /// Of the file.
    pub sha256: Digest,
}

/// A manifest that cannot be used.
#[derive(Debug, Error)]
pub enum BadManifest {
    /// Not TOML of this shape.
    #[error("parse the payload's manifest.toml")]
    Parse(#[source] toml::de::Error),
    /// A path that leaves the payload directory.
    #[error(
        "the payload's manifest.toml names the path `{0}`, which is not below the payload directory"
    )]
    Escapes(String),
    /// A mode that is no octal number up to 7777.
    #[error(
        "the payload's manifest.toml gives `{path}` the mode `{mode}`: octal digits are expected"
    )]
    Mode {
        /// Of the file.
        path: String,
        /// As written.
        mode: String,
    },
}

impl Manifest {
    /// Reads and checks `manifest.toml`.
    pub fn parse(text: &str) -> Result<Self, BadManifest> {
        let manifest: Self = toml::from_str(text).map_err(BadManifest::Parse)?;
        for path in manifest.paths() {
            let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            if !plain {
                return Err(BadManifest::Escapes(path.to_owned()));
            }
        }
        for file in manifest.cni.iter().flat_map(|cni| cni.files.values()) {
            if file.mode_bits().is_none() {
                let (path, mode) = (file.path.clone(), file.mode.clone());
                return Err(BadManifest::Mode { path, mode });
            }
        }
        Ok(manifest)
    }

    /// Every file of the payload, with its digest.
    pub fn files(&self) -> impl Iterator<Item = (&str, Digest)> {
        let modules = self.modules.iter().flat_map(|set| set.files.values());
        let cni = self.cni.iter().flat_map(|cni| cni.files.values());
        modules
            .map(|file| (file.path.as_str(), file.sha256))
            .chain(cni.map(|file| (file.path.as_str(), file.sha256)))
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        self.files().map(|(path, _)| path)
    }

    /// The set for a kernel release, if there is one.
    pub fn module_set(&self, kernel: &str) -> Option<&ModuleSet> {
        self.modules.iter().find(|set| set.kernels.iter().any(|k| k == kernel))
    }
}

impl CniFile {
    /// The mode as a number; none for a text that is no mode.
    pub fn mode_bits(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok().filter(|mode| *mode <= 0o7777)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[[modules]]
version = "2.17"
kernels = ["6.1.0-1-amd64"]
[modules.files.openvswitch]
path = "modules/a/openvswitch.ko"
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
build_id = "00ff"

[cni]
version = "4.1.2"
[cni.files.nsx]
path = "cni/nsx"
mode = "0755"
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"#;

    #[test]
    fn a_manifest_is_read() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert!(manifest.module_set("6.1.0-1-amd64").is_some());
        assert!(manifest.module_set("6.1.0-2-amd64").is_none());
        let nsx = &manifest.cni.unwrap().files[&CniRole::Nsx];
        assert_eq!(nsx.mode_bits(), Some(0o755));
    }

    #[test]
    fn a_path_outside_the_payload_is_refused() {
        for path in ["../nsx", "/etc/shadow", "cni//nsx", "cni/./nsx", ""] {
            let text = GOOD.replace("cni/nsx", path);
            let error = Manifest::parse(&text).unwrap_err();
            assert!(error.to_string().contains(&format!("`{path}`")), "{error}");
        }
    }

    #[test]
    fn a_mode_is_octal() {
        let error = Manifest::parse(&GOOD.replace("0755", "rwxr-xr-x")).unwrap_err();
        assert!(error.to_string().contains("octal"), "{error}");
    }
}
