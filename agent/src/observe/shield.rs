//! What there is of an ingress shield, and whether the kernel can carry one.

use crate::netlink::nftables::shield;
use crate::netlink::{Connection, Links, NetlinkError, veth};
use pointsman_core::error::chain;
use pointsman_core::model::{SHIELD_ENTRY, SHIELD_EXIT, Shield};

pub(super) fn read(connection: &mut Connection, links: &Links) -> Result<Shield, NetlinkError> {
    let asked = shield::can_be_raised().and_then(|()| veth::is_known(connection));
    Ok(Shield {
        table: shield::is_raised()?,
        links: [SHIELD_ENTRY, SHIELD_EXIT].iter().any(|name| links.get(name).is_some()),
        refused: asked.err().map(|error| chain(&error)),
    })
}
