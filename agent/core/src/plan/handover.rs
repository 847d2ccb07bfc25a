//! Moving addresses and routes between the uplink and the bridge.

use crate::checkpoint::Checkpoint;
use crate::model::{Address, Neighbour, Observed, Route};
use crate::plan::{Plan, Refusal};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who is to own the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The bridge's internal port, the uplink being a port of the bridge.
    Bridge,
    /// The uplink, in no datapath.
    Uplink,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// `node-if`.
    pub uplink: String,
    /// `br-int`.
    pub bridge: String,
    /// Who is to own the addresses.
    pub to: Owner,
    /// With [`Owner::Uplink`]: delete the bridge afterwards.
    pub delete_bridge: bool,
}

/// A change over netlink, or of a link's sysctl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Step {
    /// `net.ipv4.conf.LINK.rp_filter`.
    SetRpFilter {
        /// Which.
        link: String,
        /// 0 off, 1 strict, 2 loose.
        value: u8,
    },
    /// Bytes.
    SetMtu {
        /// Which.
        link: String,
        /// Bytes.
        mtu: u32,
    },
    /// Set `IFF_UP`, and wait until the link is running.
    SetUp {
        /// Which.
        link: String,
    },
    /// Add an address. IPv6 without duplicate address detection: the other link holds it already.
    AddAddress(Address),
    /// Delete an address from its link.
    DeleteAddress(Address),
    /// Seed or replace a neighbour entry.
    SetNeighbour(Neighbour),
    /// Append routes in one batch; each must be taken. Never replaces.
    AddRoutes(Vec<Route>),
    /// Delete exactly these routes, link and gateway included.
    DeleteRoutes(Vec<Route>),
    /// Add the rule that makes a family look into a shadow table before `main`.
    AddShadowRule {
        /// 4 or 6.
        family: u8,
        /// Of the rule.
        priority: u32,
        /// The shadow table.
        table: u32,
    },
    /// Remove that rule.
    DeleteShadowRule {
        /// 4 or 6.
        family: u8,
        /// Of the rule.
        priority: u32,
        /// The shadow table.
        table: u32,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The steps from what is to what is wanted.
///
/// `way_back` is the checkpoint of an unfinished transaction: after a half-done move
/// the live state is not the truth, and what the checkpoint holds is carried too.
pub fn plan_handover(
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let _ = (want, observed, way_back);
    Ok(Plan::default())
}

/// The effect on an observation.
pub fn simulate(observed: &mut Observed, step: &Step) {
    let _ = (observed, step);
}
