//! Moving addresses and routes between the uplink and the bridge.
//!
//! The order is the one that lost no packet on the real kernel datapath. An address is on one
//! link before it leaves the other, so nothing that is bound to it is dropped. An uplink that is
//! a port of the bridge still transmits for the stack, so the port comes before the flip. And
//! the flip is one rule per family that puts a *shadow table*, a copy of `main` with the link
//! changed, before `main`: `main` itself can then be rebuilt at leisure, and the kernel's own
//! connected routes, which appear and go with the addresses, decide nothing meanwhile. What no
//! order covers, the moment in which vswitchd takes the port, is left to a *shield*.

mod addresses;
mod announce;
pub mod coexistence;
mod compare;
mod left_out_sysctls;
mod neighbours;
mod nexthops;
mod normal;
mod order;
mod ports;
mod preflight;
mod routes;
mod rules;
mod shadow;
mod shield;
mod simulate;
mod split;
mod step;
mod sysctls;
#[cfg(test)]
mod tests;
mod unknown;

pub use compare::{Key, canonical, exact, legs, place};
pub use left_out_sysctls::LEFT_OUT_SYSCTLS;
pub use normal::normal;
pub use shadow::{OWN_PROTOCOL, SHADOW_TABLE};
pub use shield::unshielded;
pub use simulate::simulate;
pub use step::Step;
pub use sysctls::{SYSCTLS, Sysctl};

use crate::checkpoint::Checkpoint;
use crate::model::{Address, Network, Observed};
use crate::plan::{self, Plan, Refusal};
use addresses::Addresses;
use neighbours::Neighbours;
use nexthops::Nexthops;
use ports::Ports;
use routes::Routes;
use rules::Rules;
use serde::{Deserialize, Serialize};
use shadow::Shadow;
use shield::Shield;
use split::Split;
use sysctls::Sysctls;

/// Who is to own the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The bridge's internal port, the uplink being a port of the bridge.
    Bridge,
    /// The uplink, in no datapath.
    Uplink,
}

/// Whether an address has to be given to a link: none that each link, the kernel or a router makes.
pub fn is_carried(address: &Address) -> bool {
    addresses::left_out(address).is_none()
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

/// Everything that a handover is planned from.
struct Case<'a> {
    want: &'a Want,
    now: &'a Observed,
    /// The network before an unfinished transaction.
    before: Option<&'a Network>,
    /// Link that is to own the addresses.
    target: &'a str,
    /// The other one.
    source: &'a str,
    /// The way back: what cannot be carried is named and left, not refused.
    salvage: bool,
}

impl<'a> Case<'a> {
    /// The link that owned the addresses in the checkpoint.
    fn owner_before(&self) -> Option<&'a str> {
        let before = self.before?;
        let owns = |link: &str| {
            let mut all = before.addresses.iter();
            all.any(|a| a.link == link && addresses::left_out(a).is_none())
        };
        let links = [self.want.uplink.as_str(), self.want.bridge.as_str()];
        links.into_iter().find(|link| owns(link))
    }

    /// Whether a link is the uplink or the bridge.
    fn is_ours(&self, link: &str) -> bool {
        link == self.target || link == self.source
    }

    /// Where to look for what is carried, the most trusted first: after a half-done move
    /// the live state is not the truth.
    fn networks(&self) -> impl Iterator<Item = &Network> {
        self.before.into_iter().chain([&self.now.network])
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
    plan(want, observed, way_back, false)
}

/// [`plan_handover`] for a leg of the way back: what cannot be carried is named in a note
/// and left, since a node without addresses is worse than one without a route.
pub fn plan_salvage(
    want: &Want,
    observed: &Observed,
    way_back: &Checkpoint,
) -> Result<Plan, Refusal> {
    plan(want, observed, Some(way_back), true)
}

fn plan(
    want: &Want,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
    salvage: bool,
) -> Result<Plan, Refusal> {
    let (target, source) = match want.to {
        Owner::Bridge => (&want.bridge, &want.uplink),
        Owner::Uplink => (&want.uplink, &want.bridge),
    };
    let before = way_back.map(|checkpoint| &checkpoint.before.network);
    let case = Case { want, now: observed, before, target, source, salvage };
    preflight::check(&case)?;
    let addresses = Addresses::of(&case)?;
    let routes = Routes::of(&case, &addresses)?;
    let nexthops = Nexthops::of(&case)?;
    let mut ports = Ports::of(&case);
    let ([a4, a6], [r4, r6], [n4, n6]) = (addresses.change, routes.main, nexthops.change);
    let moving = [a4 || r4 || n4, a6 || r6 || n6];
    let shadow = Shadow::of(&case, &addresses, &routes, moving);
    let anything = moving.contains(&true) || routes.change;
    let rules = Rules::of(&case, anything)?;
    let bridge = [ports.makes_bridge, ports.deletes_bridge];
    let sysctls = Sysctls::of(&case, a4 || a6, bridge);
    let traffic = moving.contains(&true) || ports.change();
    if !traffic {
        ports.proof.clear();
    }
    let neighbours = Neighbours::of(&case, traffic);
    let shield = Shield::of(&case, &ports, &addresses);
    let announce = announce::announce(&case, &addresses);
    let rp_filter = rp_filter(&case, &ports, traffic, a4 || a6);
    let split = Split::of(&case, &addresses, &[&rules.add, &shadow.flip]);
    let all = Parts {
        addresses,
        routes,
        nexthops,
        rules,
        sysctls,
        ports,
        shadow,
        split,
        shield,
        neighbours,
        announce,
        rp_filter,
    };
    let mut plan = assemble(&case, all);
    plan.notes.extend(preflight::notes(&case, traffic));
    Ok(plan)
}

struct Parts {
    addresses: Addresses,
    routes: Routes,
    nexthops: Nexthops,
    rules: Rules,
    sysctls: Sysctls,
    ports: Ports,
    shadow: Shadow,
    split: Split,
    shield: Shield,
    neighbours: Neighbours,
    announce: Vec<Step>,
    /// Loosened before, restored after.
    rp_filter: [Vec<Step>; 2],
}

/// Puts the parts in the order that loses nothing.
fn assemble(case: &Case<'_>, parts: Parts) -> Plan {
    let Parts { addresses, routes, nexthops, rules, sysctls, ports, .. } = parts;
    let Parts { shadow, split, shield, neighbours, announce, rp_filter: [loosen, restore], .. } =
        parts;
    let left = routes::delete(simulate::leftovers(&case.now.network, case.source));
    let mut plan = Plan::default();
    let (target, source, uplink) = (case.target, case.source, &case.want.uplink);
    // a link makes its own address when it is set up, and has to know how by then
    let is_made = |step: &plan::Step| matches!(step, plan::Step::Ovs(_));
    let (made, ready): (Vec<_>, Vec<_>) = ports.ready.into_iter().partition(is_made);
    plan.push(
        "Make the links ready",
        [wrap(shield.first), made, wrap(sysctls.carry), ready, wrap(loosen), wrap(split.before)]
            .concat(),
    );
    plan.push(
        &format!("Give {target} everything that {source} has; {source} keeps it"),
        wrap([addresses.add, neighbours.set, rules.add].concat()),
    );
    plan.push(
        &format!("Write down how {target} will send; nothing looks there yet"),
        wrap(shadow.fill),
    );
    let raise = (format!("Shield {uplink}"), wrap(shield.raise));
    let lower = ("Take the shield down".to_owned(), wrap(shield.lower));
    let flip = (format!("Send by {target}, all at once"), wrap(shadow.flip));
    let main =
        [split.after, routes.add, nexthops.set, routes.add_by_object, routes.delete].concat();
    let main = (format!("Move the routes to {target}"), wrap(main));
    let attach = (format!("Attach {uplink}"), ports.attach);
    let free = (format!("Free {uplink}"), ports.detach);
    let way = match case.want.to {
        // answers come by the shield while it is up
        Owner::Bridge if !ports.proof.is_empty() => {
            let prove = (format!("See that {target} forwards"), wrap(ports.proof));
            vec![raise, attach, lower, prove, flip, main]
        }
        Owner::Bridge => vec![raise, attach, flip, lower, main],
        // what leaves by the bridge has no wire any more once the uplink is free
        Owner::Uplink => vec![flip, main, raise, free, lower],
    };
    for (title, steps) in way {
        plan.push(&title, steps);
    }
    plan.push(
        &format!("Take from {source} what {target} has now"),
        wrap([rules.delete, addresses.delete, left, neighbours.delete].concat()),
    );
    plan.push(&format!("Tell the wire that {target} answers now"), wrap(announce));
    let last = [shadow.off, addresses.settle, restore, sysctls.restore, shield.last].concat();
    plan.push("Clean up", [wrap(last), ports.last].concat());
    let notes = [
        addresses.notes,
        routes.notes,
        nexthops.notes,
        rules.notes,
        sysctls.notes,
        shadow.notes,
        neighbours.notes,
        ports.notes,
        shield.notes,
    ];
    plan.notes.extend(notes.concat());
    plan
}

/// Whether anything of a plan decides by which link packets come or go.
fn moves_traffic(plan: &Plan) -> bool {
    plan.steps().any(|step| match step {
        plan::Step::Ovs(step) => matches!(step, plan::ovs::Step::AddPort { .. }),
        plan::Step::Handover(step) => {
            matches!(step, Step::AddShadowRule { .. } | Step::AddAddress(_))
                || matches!(step, Step::ReplaceRoutes { .. } | Step::AddRoutes { .. })
        }
        plan::Step::Modules(_) | plan::Step::Cni(_) | plan::Step::File(_) => false,
    })
}

fn wrap(steps: Vec<Step>) -> Vec<plan::Step> {
    steps.into_iter().map(plan::Step::Handover).collect()
}

/// Loosening before and restoring after. The kernel uses the larger of `all` and the link's
/// own, and only strict (1) drops what comes in by one link while the way back is by the other.
fn rp_filter(case: &Case<'_>, ports: &Ports, traffic: bool, moving: bool) -> [Vec<Step>; 2] {
    const STRICT: u8 = 1;
    const LOOSE: u8 = 2;
    let network = &case.now.network;
    let (mut loosen, mut restore) = (Vec::new(), Vec::new());
    for link in [&case.want.uplink, &case.want.bridge] {
        let now = match network.link(link) {
            Some(found) => found.rp_filter,
            None if ports.makes_bridge => Some(network.rp_filter_default),
            None => None,
        };
        let Some(now) = now else { continue };
        let last = sysctls::rp_filter(case, link, moving, now);
        let mut value = now;
        let step = |value| Step::SetRpFilter { link: link.clone(), value };
        let strict = |value: u8| value.max(network.rp_filter_all) == STRICT;
        if traffic && strict(now) {
            loosen.push(step(LOOSE));
            value = LOOSE;
        }
        let goes = ports.deletes_bridge && *link == case.want.bridge;
        if value != last && !goes {
            restore.push(step(last));
        }
    }
    [loosen, restore]
}
