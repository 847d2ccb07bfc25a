//! Who else configures the uplink and the bridge: one file per program.
//!
//! Programs are known by their processes in the host's network namespace and by the files
//! that they keep. Nothing here fails: what cannot be read is written down, and the planner
//! refuses a move to the bridge on it, while a way back needs none of it.

mod boot;
mod dhcp;
pub(super) mod files;
mod mentions;
pub(super) mod network_manager;
mod networkd;
pub(super) mod processes;
mod resolved;
mod virtual_address;

use super::persistence;
use crate::disk::HostRoot;
use files::Files;
use pointsman_core::config::Node;
use pointsman_core::model::{Claim, Holder, Network, Owners};
use processes::Process;

/// Where to look, and for whom.
struct Place<'a> {
    uplink: &'a str,
    bridge: &'a str,
    network: &'a Network,
    processes: &'a [Process],
}

impl<'a> Place<'a> {
    /// Whether a program runs, by its name without directory.
    fn runs(&self, name: &str) -> bool {
        self.processes.iter().any(|process| process.name() == name)
    }

    fn index(&self, link: &str) -> Option<u32> {
        self.network.link(link).map(|link| link.index)
    }

    /// Uplink and bridge with their numbers, as far as they are there.
    fn links(&self) -> impl Iterator<Item = (&'a str, u32)> {
        let with_index = |link: &'a str| Some((link, self.index(link)?));
        [with_index(self.uplink), with_index(self.bridge)].into_iter().flatten()
    }

    fn has_default_route(&self) -> bool {
        let mut routes = self.network.routes.iter();
        routes.any(|route| route.prefix_len == 0 && route.link.as_deref() == Some(self.uplink))
    }
}

fn claim(holder: Holder, link: &str, evidence: String) -> Claim {
    Claim { holder, link: link.to_owned(), evidence }
}

/// Looks. `network` is what was read just before.
pub fn observe(root: &HostRoot, node: &Node, network: &Network) -> Owners {
    let processes = processes::here();
    let place =
        Place { uplink: &node.uplink, bridge: &node.bridge, network, processes: &processes };
    let mut files = Files::below(root);
    let mut claims = network_manager::claims(&place, &mut files);
    claims.extend(networkd::claims(&place, &mut files));
    claims.extend(boot::claims(&place, &mut files));
    claims.extend(dhcp::claims(&place));
    claims.extend(virtual_address::claims(&place, &mut files));
    claims.extend(resolved::claims(&place, &mut files));
    let link = network.link(&node.uplink);
    let mac = link.and_then(|link| link.mac.as_deref());
    let runs = |name: &str| place.runs(name);
    let (persisted, writer) = persistence::observe(&mut files, &node.uplink, mac, &runs);
    let mentions = mentions::of(&place);
    Owners { claims, persisted, mentions, unread: files.into_unread(), writer }
}
