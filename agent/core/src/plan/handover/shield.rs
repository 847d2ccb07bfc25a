//! The ingress shield over the moments in which vswitchd takes the uplink or lets go of it.
//!
//! vswitchd makes the kernel's vport before it knows the port itself; what arrives in between
//! it drops, and by a flow that lives on for a while. No order of steps avoids that, so the
//! packets are led past it. The shield is up for as short as can be: what takes time (filling
//! the shadow table, rebuilding `main`) comes before and after.

use super::addresses::Addresses;
use super::ports::Ports;
use super::{Case, Step};
use crate::plan::{self, ovs};

#[derive(Default)]
pub(super) struct Shield {
    /// Before everything: what is left of one that nobody can use.
    pub(super) first: Vec<Step>,
    pub(super) raise: Vec<Step>,
    pub(super) lower: Vec<Step>,
    /// At the end: packets may be on their way through the devices for a while.
    pub(super) last: Vec<Step>,
    pub(super) notes: Vec<String>,
}

impl Shield {
    pub(super) fn of(case: &Case<'_>, ports: &Ports, addresses: &Addresses) -> Self {
        let mut shield = Self::default();
        let there = &case.now.network.shield;
        let uplink = case.now.network.link(&case.want.uplink);
        let needed = is_needed(case, ports) && !addresses.carried.is_empty();
        let raise = uplink.filter(|_| needed && there.refused.is_none()).and_then(|link| {
            let (uplink, mac) = (link.name.clone(), link.mac.clone()?);
            Some(Step::RaiseShield { uplink, mac, mtu: link.mtu })
        });
        if let Some(why) = there.refused.as_ref().filter(|_| needed) {
            shield.notes.push(unshielded(&case.want.uplink, why));
        }
        let raised = raise.is_some();
        shield.raise.extend(raise);
        if there.table && !there.links && !raised {
            // it sends packets to a device that is gone
            shield.first.push(Step::LowerShield);
        } else if there.table || raised {
            shield.lower.push(Step::LowerShield);
        }
        if there.links || raised {
            shield.last.push(Step::DeleteShieldLinks);
        }
        shield
    }
}

/// Whether a living vswitchd is to take the uplink or to let go of it. The kernel alone does
/// that in one instant, and a dead vswitchd must not be waited for.
fn is_needed(case: &Case<'_>, ports: &Ports) -> bool {
    let by_vswitchd = |step: &plan::Step| {
        matches!(step, plan::Step::Ovs(ovs::Step::AddPort { .. } | ovs::Step::RemovePort { .. }))
    };
    case.now.ovs.vswitchd && ports.attach.iter().chain(&ports.detach).any(by_vswitchd)
}

/// What it costs that none is up.
pub fn unshielded(uplink: &str, why: &str) -> String {
    format!(
        "no shield can be raised ({why}): of what arrives in the milliseconds in which Open vSwitch takes or lets go of {uplink}, packets may be lost (measured at 1500 a second: none to 600)"
    )
}
