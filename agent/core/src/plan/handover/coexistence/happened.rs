//! A step that would put something right, told as what has happened.

use crate::plan::handover::{OWN_PROTOCOL, Step as Handover};
use crate::plan::{Step, ovs};

/// None for a step that only helps others.
pub fn happened(step: &Step) -> Option<String> {
    match step {
        Step::Handover(Handover::AddAddress(address)) => Some(format!("{address} is gone")),
        Step::Handover(Handover::DeleteAddress(address)) => Some(format!("{address} is back")),
        Step::Handover(Handover::AddRoutes { routes }) => {
            let route = routes.iter().find(|route| route.protocol != OWN_PROTOCOL)?;
            Some(format!("the route {route} is gone"))
        }
        Step::Handover(Handover::DeleteRoutes { routes }) => {
            let route = routes.iter().find(|route| route.protocol != OWN_PROTOCOL)?;
            Some(format!("the route {route} is back"))
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
