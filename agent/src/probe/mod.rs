//! Whether the node is reachable, asked of others: part of verifying, changes nothing.
//!
//! Who did not answer before a move proves nothing after it, so only those count that did.

mod announce;
mod api;
mod gateway;

pub(crate) use announce::announce;
pub use api::ApiServer;
pub use gateway::{ProbeError, answering};

use pointsman_core::probe::Gateway;
use std::net::IpAddr;
use std::time::Duration;

/// How long a gateway has to answer out of a bridge of which nothing is known.
const FORWARDING: Duration = Duration::from_secs(2);

/// Of a `secure` bridge: at least one gateway answers out of it, and none that answers by
/// the uplink beside it is silent there.
pub(crate) fn see_that_it_forwards(
    link: &str,
    beside: &str,
    gateways: &[Gateway],
) -> Result<(), ProbeError> {
    let heard = answering(link, gateways, FORWARDING)?;
    let silent: Vec<Gateway> =
        gateways.iter().filter(|gateway| !heard.contains(&gateway.ip)).cloned().collect();
    let beside_it =
        if heard.is_empty() { Vec::new() } else { answering(beside, &silent, FORWARDING)? };
    let lost = if heard.is_empty() { silent.iter().map(|g| g.ip).collect() } else { beside_it };
    match lost.first() {
        None => Ok(()),
        Some(_) => {
            Err(ProbeError::SecureBridgeSilent { bridge: link.to_owned(), gateways: words(&lost) })
        }
    }
}

/// Addresses, for a person.
pub(crate) fn words(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
