//! The place of an IPv4 route among those of other links with the same destination, type of
//! service and metric: the kernel takes the first, and puts a new one last or first.

use super::addresses::{Addresses, connected};
use super::compare::{exact, legs};
use super::routes::{self, Group, group, links_of};
use super::{Case, SHADOW_TABLE};
use crate::model::{Network, Route};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Order {
    /// To be put before all of its group, in this order.
    pub(super) first: Vec<Route>,
    pub(super) notes: Vec<String>,
}

impl Order {
    /// What would come behind a route of another link that it stood before.
    pub(super) fn of(case: &Case<'_>, addresses: &Addresses, wanted: &[Route]) -> Self {
        let mut order = Self::default();
        let contested: BTreeSet<Group> = case
            .networks()
            .flat_map(|network| &network.routes)
            .filter(|route| is_ordered(route) && !is_ours(case, route))
            .map(group)
            .collect();
        if contested.is_empty() {
            return order;
        }
        let reference = groups(case.before.unwrap_or(&case.now.network), &contested);
        let now = groups(&case.now.network, &contested);
        let made: Vec<Route> = addresses.carried.iter().filter_map(connected).collect();
        let comes: BTreeSet<_> = wanted.iter().chain(&made).map(exact).collect();
        for (key, members) in &reference {
            let foreign = |route: &&Route| !is_ours(case, route);
            let members: Vec<&Route> = members.iter().collect();
            let Some(lead) = members.iter().position(foreign) else { continue };
            let moved = |route: &&Route| routes::on(case, (*route).clone());
            let leading = members.iter().take(lead).map(moved);
            let there = now.get(key).map(Vec::as_slice).unwrap_or_default();
            let ahead = there.iter().take_while(|route| is_ours(case, route));
            let ahead: BTreeSet<_> = ahead.map(exact).collect();
            let late: Vec<Route> = leading.filter(|route| comes.contains(&exact(route))).collect();
            if late.iter().any(|route| !ahead.contains(&exact(route))) {
                order.first.extend(late);
            }
            let last = members.iter().rposition(foreign).unwrap_or(lead);
            let between = members.iter().take(last).skip(lead).filter(|route| !foreign(route));
            order.notes.extend(between.map(|route| {
                format!(
                    "{} stands between routes of other links with the same destination and metric, and will come behind them",
                    moved(route)
                )
            }));
        }
        order
    }
}

/// The kernel keeps IPv6 routes of one metric together and in no order of ours.
fn is_ordered(route: &Route) -> bool {
    route.destination.is_ipv4() && route.table != SHADOW_TABLE
}

fn is_ours(case: &Case<'_>, route: &Route) -> bool {
    links_of(route).any(|link| case.is_ours(link))
}

/// The routes of some groups in the kernel's order.
fn groups(network: &Network, of: &BTreeSet<Group>) -> BTreeMap<Group, Vec<Route>> {
    let mut found: BTreeMap<Group, Vec<Route>> = BTreeMap::new();
    for route in legs(&network.routes).filter(|route| is_ordered(route)) {
        if of.contains(&group(&route)) {
            found.entry(group(&route)).or_default().push(route.into_owned());
        }
    }
    found
}
