//! The sysctls of links that a handover carries.

use super::network::NetworkError;
use pointsman_core::model::{Network, Sysctls};
use pointsman_core::plan::handover::SYSCTLS;
use std::fs;
use std::io;

/// Reads those of some links, and what new links start with, into what was read of the network
/// namespace of the calling thread.
///
/// A link that is not there is left out, and so is what this kernel does not have.
pub fn read(network: &mut Network, links: &[&str]) -> Result<(), NetworkError> {
    network.sysctl_defaults = values("default")?;
    for link in network.links.iter_mut().filter(|link| links.contains(&link.name.as_str())) {
        link.sysctls = values(&link.name)?;
    }
    Ok(())
}

/// Where the kernel shows a value to a thread of its network namespace; `key` is
/// `ipv4/arp_ignore`, or `ipv4/neigh/locktime`.
pub(crate) fn path(link: &str, key: &str) -> String {
    let (family, name) = key.split_once('/').unwrap_or_default();
    match name.strip_prefix("neigh/") {
        Some(name) => format!("/proc/sys/net/{family}/neigh/{link}/{name}"),
        None => format!("/proc/sys/net/{family}/conf/{link}/{name}"),
    }
}

fn values(link: &str) -> Result<Sysctls, NetworkError> {
    let mut found = Sysctls::new();
    for sysctl in SYSCTLS {
        let path = path(link, sysctl.key);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(NetworkError::Sysctl { path, source }),
        };
        let Ok(value) = text.parse() else {
            return Err(NetworkError::Number { path, found: text });
        };
        found.insert(sysctl.key.to_owned(), value);
    }
    Ok(found)
}
