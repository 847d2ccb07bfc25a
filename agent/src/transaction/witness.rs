//! What is said of a move that nobody, or not everybody, can prove.

use pointsman_core::plan::Refusal;

/// After all that was said of each.
pub(super) const NOBODY: &str = "nobody outside of this node proves the move: only a second look at the kernel tells whether it \
     came to its end, and not whether the node is reachable";

pub(super) fn no_gateway(link: &str) -> String {
    format!(
        "no gateway of a default route in table main is known to answer out of {link}, so none proves the move"
    )
}

pub(super) fn silent(link: &str, gateways: &str) -> String {
    format!(
        "{gateways} did not answer ARP or ND out of {link} before the move, so its silence after it would prove nothing, and it is not asked"
    )
}

pub(super) fn unasked(link: &str, why: &str) -> String {
    format!("no gateway could be asked out of {link} ({why}), so none proves the move")
}

pub(super) fn api_silent(api: &str) -> String {
    format!("the API server {api} took no connection before the move, so it is not asked after it")
}

/// Nothing would tell that the node is cut off.
pub(super) fn refuse(link: &str, why: &str) -> Refusal {
    Refusal::new(
        "ProbeFailed",
        format!(
            "no gateway can be asked out of {link} ({why}), so nobody could tell whether the node is reachable after the move; nothing was changed: let Pointsman open packet sockets (CAP_NET_RAW, buffers for sockets), and ask again"
        ),
    )
}
