//! The payload directory: its manifest, and whether its files are what that says.

use crate::disk::{self, DiskError, HostRoot};
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::{Digest, FileState, Observed};
use pointsman_core::payload::{BadManifest, Manifest, Payload};
use std::collections::BTreeMap;
use std::path::Path;
use std::string::FromUtf8Error;
use thiserror::Error;

/// A manifest names a few dozen files.
const MANIFEST_LIMIT: u64 = 1 << 20;

/// A payload directory that cannot be used.
#[derive(Debug, Error)]
pub enum NoPayload {
    /// No directory, no manifest, or not readable.
    #[error("read manifest.toml of the payload directory {directory}")]
    Read {
        /// As this process sees it.
        directory: String,
        /// Why.
        #[source]
        source: DiskError,
    },
    /// Not UTF-8.
    #[error("the payload's manifest.toml is no text")]
    NoText(#[source] FromUtf8Error),
    /// Not a manifest.
    #[error(transparent)]
    Manifest(#[from] BadManifest),
}

impl Reasoned for NoPayload {
    fn reason(&self) -> &'static str {
        "NoPayload"
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.is_transient(),
            Self::NoText(_) | Self::Manifest(_) => false,
        }
    }
}

/// Fills in [`Observed::payload`], or why there is none. Reads every file of the payload.
pub fn observe_payload(observed: &mut Observed, directory: &Path) {
    match read_payload(directory) {
        Ok(payload) => {
            observed.payload = Some(payload);
            observed.payload_fault = None;
        }
        Err(error) => {
            observed.payload = None;
            observed.payload_fault = Some(chain(&error));
        }
    }
}

/// Reads the manifest and compares every file with it.
pub fn read_payload(directory: &Path) -> Result<Payload, NoPayload> {
    let root = HostRoot::new(directory);
    let text = root.read("/manifest.toml", MANIFEST_LIMIT).map_err(|source| {
        let directory = directory.display().to_string();
        NoPayload::Read { directory, source }
    })?;
    let text = String::from_utf8(text).map_err(NoPayload::NoText)?;
    let manifest = Manifest::parse(&text)?;
    let faults: BTreeMap<String, String> = manifest
        .files()
        .filter_map(|(path, sha256)| Some((path.to_owned(), fault(&root, path, sha256)?)))
        .collect();
    Ok(Payload { manifest, faults })
}

/// What is wrong with a file of the payload. Links below the directory are followed: volumes
/// of Kubernetes are made of them.
fn fault(root: &HostRoot, path: &str, expected: Digest) -> Option<String> {
    let found =
        root.locate_directory(Path::new(&format!("/{path}"))).and_then(|at| disk::state_of(&at));
    match found {
        Ok(Some(FileState::Regular { sha256, .. })) if sha256 == expected => None,
        Ok(Some(FileState::Regular { sha256, .. })) => {
            Some(format!("its sha256 is {sha256}, the manifest says {expected}"))
        }
        Ok(Some(FileState::Symlink { .. } | FileState::Directory | FileState::Other)) => {
            Some("it is no regular file".into())
        }
        Ok(None) => Some("it is missing".into()),
        Err(error) if error.is_not_found() => Some("it is missing".into()),
        Err(error) => Some(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn manifest(path: &str) -> String {
        let digest = Digest::of(b"plugin");
        format!(
            "[cni]\nversion = \"4.1\"\n[cni.files.nsx]\npath = \"{path}\"\nmode = \"0755\"\n\
             sha256 = \"{digest}\"\n"
        )
    }

    fn fault_of(prepare: impl Fn(&Path)) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        root.write("/manifest.toml", 0o644, manifest("cni/nsx").as_bytes()).unwrap();
        fs::create_dir(dir.path().join("cni")).unwrap();
        prepare(&dir.path().join("cni"));
        let mut observed = Observed::default();
        observe_payload(&mut observed, dir.path());
        assert_eq!(observed.payload_fault, None);
        let mut faults = observed.payload.unwrap().faults;
        let fault = faults.remove("cni/nsx");
        assert!(faults.is_empty());
        fault
    }

    #[test]
    fn each_file_is_compared() {
        let write = |at: &Path, text: &str| disk::write_whole(at, 0o644, text.as_bytes()).unwrap();
        assert_eq!(fault_of(|cni| write(&cni.join("nsx"), "plugin")), None);
        let linked = fault_of(|cni| {
            write(&cni.join("..data"), "plugin");
            symlink("..data", cni.join("nsx")).unwrap();
        });
        assert_eq!(linked, None);
        let fault = fault_of(|cni| write(&cni.join("nsx"), "plugi")).unwrap();
        assert!(fault.contains("the manifest says"), "{fault}");
        assert_eq!(fault_of(|_| ()).unwrap(), "it is missing");
        let fault = fault_of(|cni| fs::create_dir(cni.join("nsx")).unwrap()).unwrap();
        assert_eq!(fault, "it is no regular file");
        // a link out of the payload leads back into it
        let fault = fault_of(|cni| symlink("/etc/passwd", cni.join("nsx")).unwrap()).unwrap();
        assert_eq!(fault, "it is missing");
    }

    #[test]
    fn why_there_is_no_payload_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let why = |directory: &Path| {
            let mut observed = Observed::default();
            observe_payload(&mut observed, directory);
            assert_eq!(observed.payload, None);
            observed.payload_fault.unwrap()
        };
        assert!(why(&dir.path().join("none")).contains("none"), "no directory");
        assert!(why(dir.path()).contains("manifest.toml"), "no manifest");
        let root = HostRoot::new(dir.path());
        root.write("/manifest.toml", 0o644, b"\xff").unwrap();
        assert!(why(dir.path()).contains("no text"));
        root.write("/manifest.toml", 0o644, manifest("../nsx").as_bytes()).unwrap();
        assert!(why(dir.path()).contains("`../nsx`"));
    }
}
