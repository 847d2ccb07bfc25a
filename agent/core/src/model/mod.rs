//! What a host is: plain, ordered, serialisable data, one file per noun.
//!
//! [`Observed`] is the whole of it. `pointsman observe` prints it as JSON and
//! `pointsman plan --observed FILE` reads it back, so a report from the field
//! is a test case.

mod attributes;
mod boot_loader;
mod cni;
mod digest;
mod file;
mod footing;
mod host;
mod json;
mod ledger;
mod modules;
mod network;
mod nexthop;
mod observed;
mod ovs;
mod owner;
mod shield;

pub use attributes::*;
pub use boot_loader::*;
pub use cni::*;
pub use digest::*;
pub use file::*;
pub use footing::*;
pub use host::*;
pub use ledger::*;
pub use modules::*;
pub use network::*;
pub use nexthop::*;
pub use observed::*;
pub use ovs::*;
pub use owner::{Claim, Holder, Owners, Persisted, PersistedAddress, Writer};
pub use shield::*;
