//! A bridge that forwards by its flows alone, and nobody who could be asked whether they let the
//! node through.

use super::super::{Owner, Want, moves_traffic};
use crate::checkpoint::Checkpoint;
use crate::config::Node;
use crate::model::Observed;
use crate::plan::{Plan, Refusal};
use crate::probe;

/// The reason.
pub(super) const REASON: &str = "SecureBridgeUnproven";

/// A note where it was accepted, or asked before the first change; else the refusal.
pub(super) fn judge(
    node: &Node,
    want: &Want,
    observed: &Observed,
    (plan, way_back): (&Plan, Option<&Checkpoint>),
) -> Result<Option<String>, Refusal> {
    let (link, beside) = (&want.bridge, &want.uplink);
    let row = observed.ovs.bridge(link);
    let secure = row.is_some_and(|row| row.fail_mode.as_deref() == Some("secure"));
    let known = || !probe::gateways(observed, [link, beside]).is_empty();
    if want.to != Owner::Bridge || !secure || !moves_traffic(plan) || known() {
        return Ok(None);
    }
    let found = format!(
        "{link} has fail_mode secure: it forwards only what its flows say, and there is no gateway that could be asked whether they let {beside} reach the node"
    );
    if way_back.is_some() {
        return Ok(Some(found));
    }
    if node.accept.iter().any(|word| word == REASON) {
        return Ok(Some(format!("accepted: {found}")));
    }
    Err(Refusal::new(
        REASON,
        format!(
            "{found}; nothing was changed: give the node a default route, have {link} forward by itself (fail_mode standalone), or, if its flows are as they should be, set `node.accept = [\"{REASON}\"]`"
        ),
    ))
}
