mod announce;
mod coexistence;
mod generator;
mod kernel;
mod properties;
mod refusals;
mod shield;
mod way;

use super::{Owner, Want, plan_handover};
use crate::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use crate::model::Observed;
use crate::plan::{self, Plan};
use generator::{BRIDGE, NIC};

fn want(to: Owner, delete_bridge: bool) -> Want {
    Want { uplink: NIC.into(), bridge: BRIDGE.into(), to, delete_bridge }
}

fn to_bridge() -> Want {
    want(Owner::Bridge, false)
}

fn to_uplink() -> Want {
    want(Owner::Uplink, false)
}

fn checkpoint(before: &Observed) -> Checkpoint {
    let transaction = "t".into();
    Checkpoint { schema: CHECKPOINT_SCHEMA, transaction, before: before.clone() }
}

fn planned(want: &Want, observed: &Observed, way_back: Option<&Checkpoint>) -> Plan {
    plan_handover(want, observed, way_back).unwrap()
}

/// The state after a plan, each step checked against what a kernel stands.
fn after(observed: &Observed, plan: &Plan) -> Observed {
    let mut observed = observed.clone();
    for step in plan.steps() {
        kernel::check(&observed, step);
        plan::simulate(&mut observed, step);
    }
    observed
}
