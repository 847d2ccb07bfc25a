//! What there is of an ingress shield, and whether the kernel can carry one.

use crate::netlink::nftables::shield;
use crate::netlink::{Connection, Links, NetlinkError, veth};
use pointsman_core::error::chain;
use pointsman_core::model::{SHIELD_ENTRY, SHIELD_EXIT, Shield};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the kernel could once it can; and the answer takes it many milliseconds.
static CAN_BE_RAISED: AtomicBool = AtomicBool::new(false);

pub(super) fn read(connection: &mut Connection, links: &Links) -> Result<Shield, NetlinkError> {
    let refused = if CAN_BE_RAISED.load(Ordering::Relaxed) {
        None
    } else {
        let asked = shield::can_be_raised().and_then(|()| veth::is_known(connection));
        CAN_BE_RAISED.store(asked.is_ok(), Ordering::Relaxed);
        asked.err().map(|error| chain(&error))
    };
    Ok(Shield {
        table: shield::is_raised()?,
        links: [SHIELD_ENTRY, SHIELD_EXIT].iter().any(|name| links.get(name).is_some()),
        refused,
    })
}
