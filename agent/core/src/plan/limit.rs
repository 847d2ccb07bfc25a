//! How long a step may take: what the dead-man grants before it takes an agent that makes no
//! progress for one that hangs.
//!
//! Each is at least the sum of the time limits inside the step's apply function, so that a
//! step fails by itself, with a reason, before anybody is killed for it.

use super::Step;
use super::{cni, handover, modules, ovs};
use std::time::Duration;

/// A step is a request or two, or ten seconds of waiting for a link to run.
const NETLINK: Duration = Duration::from_secs(15);
/// Routes, rules or nexthops that are changed in one second on a machine that is busy with other things.
const MESSAGES_PER_SECOND: u64 = 1000;

/// The longest that a step may take.
pub fn limit(step: &Step) -> Duration {
    match step {
        Step::Handover(step) => of_handover(step),
        Step::Ovs(step) => of_ovs(step),
        Step::Modules(step) => of_modules(step),
        Step::Cni(cni::Step::ProbePlugin { .. } | cni::Step::Note { .. }) | Step::File(_) => {
            Duration::from_secs(60)
        }
    }
}

fn of_handover(step: &handover::Step) -> Duration {
    use handover::Step::{
        AddRoutes, AddRules, DeleteRoutes, DeleteRules, PrependRoutes, ReplaceRoutes, SetNexthops,
    };
    let messages = if let AddRoutes { routes }
    | DeleteRoutes { routes }
    | PrependRoutes { routes }
    | ReplaceRoutes { routes } = step
    {
        routes.len()
    } else if let AddRules { rules } | DeleteRules { rules } = step {
        rules.len()
    } else if let SetNexthops { nexthops } = step {
        nexthops.len()
    } else {
        0
    };
    let messages = u64::try_from(messages).unwrap_or(u64::MAX);
    NETLINK.saturating_add(Duration::from_secs(messages / MESSAGES_PER_SECOND))
}

fn of_ovs(step: &ovs::Step) -> Duration {
    let seconds = match step {
        // a unit, a script and two control sockets, and ten seconds for each to show
        ovs::Step::StopDaemons => 320,
        ovs::Step::StartDaemons => 180,
        ovs::Step::AddBridge { .. } | ovs::Step::AddPort { .. } => 80,
        // each of four tools may take its time for each bridge
        ovs::Step::SaveFlows { bridges } => {
            240_u64.saturating_mul(u64::try_from(bridges.len()).unwrap_or(u64::MAX))
        }
        ovs::Step::RestoreFlows { .. } => 300,
        ovs::Step::HoldFlows
        | ovs::Step::ReleaseFlows
        | ovs::Step::RestorePort(_)
        | ovs::Step::PinMac { .. }
        | ovs::Step::RemovePort { .. }
        | ovs::Step::DeleteBridge { .. }
        | ovs::Step::ForgetPort { .. }
        | ovs::Step::ForgetPortOnDisk { .. } => 60,
        ovs::Step::EndVswitchd | ovs::Step::EndServer => 45,
        ovs::Step::DeleteDatapath { .. } | ovs::Step::RemoveVport { .. } => 30,
    };
    Duration::from_secs(seconds)
}

fn of_modules(step: &modules::Step) -> Duration {
    let seconds = match step {
        modules::Step::RunDepmod { .. } => 240,
        modules::Step::LoadModule { .. } | modules::Step::Exchange { .. } => 120,
        modules::Step::Put { .. }
        | modules::Step::MakeStaging { .. }
        | modules::Step::UnloadModule { .. }
        | modules::Step::CheckIndex { .. }
        | modules::Step::CheckUnheld { .. }
        | modules::Step::CheckLoaded { .. }
        | modules::Step::ProveDatapath => 60,
    };
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_routes_have_more_time_than_few() {
        use handover::Step::{AddRoutes, DeleteRoutes, PrependRoutes, ReplaceRoutes};
        let kinds: [fn(Vec<_>) -> handover::Step; 4] = [
            |routes| AddRoutes { routes },
            |routes| DeleteRoutes { routes },
            |routes| PrependRoutes { routes },
            |routes| ReplaceRoutes { routes },
        ];
        let route = crate::model::Route {
            table: 254,
            destination: [10, 0, 0, 0].into(),
            prefix_len: 8,
            source_len: 0,
            kind: 1,
            protocol: 4,
            scope: 0,
            tos: 0,
            metric: None,
            prefsrc: None,
            gateway: None,
            link: None,
            flags: 0,
            hops: Vec::new(),
            attributes: Vec::new(),
        };
        for kind in kinds {
            let limit = |routes| limit(&Step::Handover(kind(routes)));
            assert_eq!(limit(Vec::new()), NETLINK);
            assert_eq!(limit(vec![route.clone(); 5000]), NETLINK + Duration::from_secs(5));
        }
    }
}
