//! The only place that speaks netlink.
//!
//! Dumps here fail closed, because a handover carries what they say and deletes the
//! original: a message that cannot be decoded, an inconsistent dump or an error at a dump's
//! end is an error, never a shorter list. What nobody interprets is carried verbatim.

pub(crate) mod address;
mod attribute;
mod error;
pub(crate) mod link;
pub(crate) mod mentions;
mod message;
pub(crate) mod neighbour;
pub(crate) mod nexthop;
pub mod nftables;
pub(crate) mod route;
pub(crate) mod rule;
mod transport;
pub(crate) mod veth;
mod watch;

pub use error::NetlinkError;
pub use link::Links;
pub use transport::{Connection, Request};
pub use watch::{NetworkChange, watch};

mod generic;
pub mod openvswitch;
