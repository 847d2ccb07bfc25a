//! What a boot must wait for, and the two ways that it may take.

use crate::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use crate::config::Settings;
use crate::model::{Address, Link, Observed, Route};
use crate::plan::handover::{self, Owner};
use crate::plan::{Plan, Refusal};

/// `RT_SCOPE_UNIVERSE`.
const GLOBAL: u8 = 0;
const RTA_EXPIRES: u16 = 23;

/// The steps to one of the two owners, of the network alone. Without a checkpoint what the
/// host has now is all there is to carry.
pub fn plan(
    to: Owner,
    settings: &Settings,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let want = handover::Want {
        uplink: settings.node.uplink.clone(),
        bridge: settings.node.bridge.clone(),
        to,
        delete_bridge: false,
    };
    match (to, way_back) {
        (Owner::Bridge, _) => handover::plan_handover(&want, observed, way_back),
        // a node without addresses is worse than one without a route
        (Owner::Uplink, Some(checkpoint)) => handover::plan_salvage(&want, observed, checkpoint),
        (Owner::Uplink, None) => {
            let (schema, transaction) = (CHECKPOINT_SCHEMA, String::new());
            let before = observed.clone();
            handover::plan_salvage(&want, observed, &Checkpoint { schema, transaction, before })
        }
    }
}

/// Whether uplink or bridge has a global address.
pub fn has_addresses(settings: &Settings, observed: &Observed) -> bool {
    ours(settings, observed).next().is_some()
}

/// Whether all addresses are there that were given for ever when the last transaction began.
pub fn is_complete(settings: &Settings, before: &Observed, now: &Observed) -> bool {
    ours(settings, before).filter(|address| address.valid_lft == u32::MAX).all(|address| {
        ours(settings, now).any(|a| (a.ip, a.prefix_len) == (address.ip, address.prefix_len))
    })
}

fn ours<'a>(settings: &'a Settings, observed: &'a Observed) -> impl Iterator<Item = &'a Address> {
    let links = [settings.node.uplink.as_str(), settings.node.bridge.as_str()];
    let global = move |a: &&Address| a.scope == GLOBAL && links.contains(&a.link.as_str());
    observed.network.addresses.iter().filter(global)
}

/// What stands still once nobody configures the host any more: not the time left, nor what
/// the node learns of its neighbours.
pub fn fingerprint(observed: &Observed) -> (Vec<Link>, Vec<Address>, Vec<Route>) {
    let network = &observed.network;
    let timeless = |a: &Address| Address { valid_lft: 0, preferred_lft: 0, ..a.clone() };
    let endless = |route: &Route| {
        let mut route = route.clone();
        route.attributes.retain(|attribute| attribute.number() != RTA_EXPIRES);
        route
    };
    (
        network.links.clone(),
        network.addresses.iter().map(timeless).collect(),
        network.routes.iter().map(endless).collect(),
    )
}
