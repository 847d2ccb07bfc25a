//! Other network namespaces, looked into by a thread of one's own: nothing else of this
//! process notices.

use crate::disk::HostRoot;
use crate::netlink::openvswitch::{self, GenericError};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::Elsewhere;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Where `ip netns` and container runtimes keep them by name, on the host.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// What could not be done in a namespace of one's own.
#[derive(Debug, Error)]
pub(crate) enum NamespaceError {
    /// The kernel made none.
    #[error("make a network namespace")]
    Make(#[source] io::Error),
    /// It did not work there.
    #[error("in a network namespace of its own")]
    Inside(#[source] GenericError),
    /// A defect.
    #[error("the thread in a network namespace of its own ended without a word")]
    Lost,
}

impl Reasoned for NamespaceError {
    fn reason(&self) -> &'static str {
        "DatapathUnproven"
    }

    fn is_transient(&self) -> bool {
        false
    }
}

/// Makes and deletes a datapath with a Geneve port in a namespace that ends with it.
pub(crate) fn prove_datapath() -> Result<(), NamespaceError> {
    let proof = || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Make(errno.into()))?;
        openvswitch::make_and_delete().map_err(NamespaceError::Inside)
    };
    in_thread("proof", proof).unwrap_or(Err(NamespaceError::Lost))
}

/// The kernel datapaths of every other network namespace that has a name or a process.
///
/// One that has neither (held by an open file or a mount elsewhere) cannot be looked into;
/// what cannot be opened is left out, since the unload of a module that it holds fails by
/// itself.
pub(crate) fn datapaths_elsewhere(root: &HostRoot) -> Vec<Elsewhere> {
    let Ok(here) = fs::metadata("/proc/thread-self/ns/net") else { return Vec::new() };
    let mut found = named(root);
    for (key, one) in of_processes() {
        found.entry(key).or_insert(one);
    }
    found.remove(&(here.dev(), here.ino()));
    let look = move || found.into_values().filter_map(|(path, name)| look(&path, name)).collect();
    let mut elsewhere: Vec<Elsewhere> = in_thread("look", look).unwrap_or_default();
    elsewhere.sort_by(|one, other| one.namespace.cmp(&other.namespace));
    elsewhere
}

/// By device and number of the inode: the file to enter by, and what it is called.
type Namespaces = BTreeMap<(u64, u64), (PathBuf, String)>;

fn named(root: &HostRoot) -> Namespaces {
    let mut found = Namespaces::new();
    for directory in NAMED {
        let listed = root.locate_directory(Path::new(directory)).ok();
        let entries = listed.and_then(|at| fs::read_dir(at).ok()).into_iter().flatten().flatten();
        for entry in entries {
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            let name = format!("the network namespace {}", entry.file_name().to_string_lossy());
            found.entry((metadata.dev(), metadata.ino())).or_insert((entry.path(), name));
        }
    }
    found
}

/// The process with the smallest number stands for each.
fn of_processes() -> Namespaces {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let mut found = Namespaces::new();
    for pid in pids {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let Ok(metadata) = fs::metadata(&path) else { continue };
        found.entry((metadata.dev(), metadata.ino())).or_insert_with(|| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name = format!("the network namespace of the process {pid} ({})", comm.trim());
            (path, name)
        });
    }
    found
}

fn look(path: &Path, namespace: String) -> Option<Elsewhere> {
    let entered = File::open(path)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
        .and_then(|file| setns(file, CloneFlags::CLONE_NEWNET));
    if let Err(errno) = entered {
        tracing::debug!(%namespace, %errno, "cannot be looked into");
        return None;
    }
    match openvswitch::datapaths() {
        Ok(datapaths) => (!datapaths.is_empty()).then_some(Elsewhere { namespace, datapaths }),
        Err(error) => {
            tracing::debug!(%namespace, error = %chain(&error), "does not tell its datapaths");
            None
        }
    }
}

/// None where the thread could not be made, or died.
fn in_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    std::thread::Builder::new().name(name.into()).spawn(work).ok()?.join().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_elsewhere_leaves_this_thread_where_it_is() {
        let here = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = here();
        assert!(datapaths_elsewhere(&HostRoot::new("/")).is_empty(), "no module, no datapath");
        if !Path::new("/sys/module/openvswitch").exists() {
            let error = prove_datapath().unwrap_err();
            assert_eq!(error.reason(), "DatapathUnproven");
            assert!(chain(&error).contains("datapaths"), "{}", chain(&error));
        }
        assert_eq!(here(), before);
    }
}
