//! A step that would put something right, told as what has happened.

use crate::model::Route;
use crate::plan::handover::{OWN_PROTOCOL, Step as Handover};
use crate::plan::{Step, ovs};

/// None for a step that only helps others.
pub fn happened(step: &Step) -> Option<String> {
    match step {
        Step::Handover(Handover::AddAddress(address)) => Some(format!("{address} is gone")),
        Step::Handover(Handover::DeleteAddress(address)) => Some(format!("{address} is back")),
        Step::Handover(Handover::AddRoutes { routes }) => {
            Some(format!("the route {} is gone", foreign(routes)?))
        }
        Step::Handover(Handover::DeleteRoutes { routes }) => {
            Some(format!("the route {} is back", foreign(routes)?))
        }
        Step::Handover(Handover::ReplaceRoutes { routes }) => {
            Some(format!("the route {} was replaced by another", foreign(routes)?))
        }
        Step::Handover(Handover::PrependRoutes { routes }) => {
            Some(format!("the route {} is gone, or stands behind others", foreign(routes)?))
        }
        Step::Handover(Handover::AddRules { rules }) => {
            Some(format!("the {} is gone", rules.first()?))
        }
        Step::Handover(Handover::DeleteRules { rules }) => {
            Some(format!("the {} is back", rules.first()?))
        }
        Step::Handover(Handover::SetNexthops { nexthops }) => {
            Some(format!("the nexthop {} is gone, or was changed", nexthops.first()?))
        }
        Step::Ovs(ovs::Step::AddBridge { bridge, .. }) => {
            Some(format!("the bridge {bridge} is gone"))
        }
        Step::Ovs(ovs::Step::AddPort { bridge, port, .. }) => {
            Some(format!("{port} was taken out of {bridge}"))
        }
        Step::Ovs(ovs::Step::RemovePort { bridge, port }) => {
            Some(format!("{port} is in {bridge} again"))
        }
        Step::Ovs(ovs::Step::StartDaemons) => Some("Open vSwitch was stopped".into()),
        Step::Handover(_) | Step::Ovs(_) | Step::Modules(_) | Step::Cni(_) | Step::File(_) => None,
    }
}

/// The first that is not a helper of ours.
fn foreign(routes: &[Route]) -> Option<&Route> {
    routes.iter().find(|route| route.protocol != OWN_PROTOCOL)
}
