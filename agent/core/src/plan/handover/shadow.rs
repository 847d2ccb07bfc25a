//! The shadow table: all of `main`, by the target, asked before `main` while `main` is rebuilt.

use super::addresses::{Addresses, connected, left_out};
use super::compare::{Key, legs, place};
use super::nexthops::Objects;
use super::routes::{self, MAIN, Routes, is_connected};
use super::split::is_stand_in;
use super::{Case, Step};
use crate::model::{Network, Route, Rule};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The number of our table, `Poin` in ASCII: no name in `rt_tables`, no number that a person picks.
pub const SHADOW_TABLE: u32 = 0x506f_696e;
/// Our `rtm_protocol` and `FRA_PROTOCOL`, `P` in ASCII: unassigned in `rtnetlink.h`; what
/// carries it is ours to delete.
pub const OWN_PROTOCOL: u8 = 0x50;
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;

#[derive(Default)]
pub(super) struct Shadow {
    /// While nothing looks into the table yet: takes as long as it likes.
    pub(super) fill: Vec<Step>,
    pub(super) flip: Vec<Step>,
    pub(super) off: Vec<Step>,
    pub(super) notes: Vec<String>,
}

impl Shadow {
    /// `moving` says for IPv4 and IPv6 whether a flip is needed; what an interrupted one has
    /// left is used, or else removed.
    pub(super) fn of(
        case: &Case<'_>,
        addresses: &Addresses,
        routes: &Routes,
        moving: [bool; 2],
    ) -> Self {
        let network = &case.now.network;
        let mut shadow = Self::default();
        let (mut fill, mut flip) = (Contents::default(), Contents::default());
        let (mut rules_on, mut rules_off) = (Vec::new(), Vec::new());
        let mut rest = Vec::new();
        for (family, moving) in [4, 6].into_iter().zip(moving) {
            let v4 = family == 4;
            let have: Vec<Route> = legs(&network.routes)
                .filter(|route| is_own(route) && route.destination.is_ipv4() == v4)
                .map(Cow::into_owned)
                .collect();
            let rule = own_rule(network, family).map(|rule| rule.priority);
            let taken = foreign(network).is_some();
            let priority = rule.or_else(|| before_main(network, family));
            if moving && (taken || priority.is_none()) {
                shadow.notes.push(if taken { no_table(family) } else { no_main(family) });
            }
            let wanted = match priority {
                Some(_) if moving && !taken => contents(case, addresses, routes, v4),
                _ => Vec::new(),
            };
            if let Some(priority) = priority.filter(|_| moving || rule.is_some()) {
                let table = SHADOW_TABLE;
                if rule.is_none() && !wanted.is_empty() {
                    rules_on.push(Step::AddShadowRule { family, priority, table });
                }
                if rule.is_some() || !wanted.is_empty() {
                    rules_off.push(Step::DeleteShadowRule { family, priority, table });
                }
            }
            let (have_keys, wanted_keys): (BTreeSet<Key<'_>>, BTreeSet<Key<'_>>) =
                (have.iter().map(place).collect(), wanted.iter().map(place).collect());
            // a table that is looked into already changes when the way may change
            let change = if rule.is_some() { &mut flip } else { &mut fill };
            change.add.extend(wanted.iter().filter(|r| !have_keys.contains(&place(r))).cloned());
            let stale = have.iter().filter(|r| !wanted_keys.contains(&place(r))).cloned();
            let into = if wanted.is_empty() { &mut rest } else { &mut change.replaced };
            into.extend(stale);
            rest.extend(wanted);
        }
        shadow.fill = fill.steps();
        shadow.flip = [flip.steps(), rules_on].concat();
        shadow.off = [rules_off, routes::delete(rest)].concat();
        shadow
    }
}

/// Changes of the table.
#[derive(Default)]
struct Contents {
    add: Vec<Route>,
    replaced: Vec<Route>,
}

impl Contents {
    fn steps(mut self) -> Vec<Step> {
        self.add.sort_by_key(routes::by_need);
        [routes::append(self.add), routes::delete(self.replaced)].concat()
    }
}

/// `main` as it will be, and for other links as it is.
fn contents(case: &Case<'_>, addresses: &Addresses, routes: &Routes, v4: bool) -> Vec<Route> {
    let network = &case.now.network;
    let is_family = |route: &Route| {
        route.destination.is_ipv4() == v4 && route.table == MAIN && !is_stand_in(route)
    };
    let wanted: BTreeSet<Key<'_>> =
        routes.wanted.iter().filter(|route| is_family(route)).map(place).collect();
    let carried = carried(network);
    let main = legs(&network.routes).filter(|route| is_family(route)).map(|route| {
        let moved = routes::on(case, route.clone().into_owned());
        let follows = wanted.contains(&place(&moved)) || is_connected(&route, &carried);
        if follows { moved } else { route.into_owned() }
    });
    let more = routes.wanted.iter().filter(|route| is_family(route)).cloned();
    let objects = [Objects::of(network), case.before.map_or_else(Objects::default, Objects::of)];
    let none = Objects::default();
    let mut contents: Vec<Route> = Vec::new();
    for route in main.chain(more) {
        let own = Route { table: SHADOW_TABLE, protocol: OWN_PROTOCOL, ..route };
        if own.object().is_none() {
            contents.push(own);
            continue;
        }
        // of the checkpoint's objects those that are gone
        let known = objects.iter().find(|objects| objects.know(&own)).unwrap_or(&none);
        let inline = routes::on(case, known.inline(own));
        contents.extend(legs(&[inline]).map(Cow::into_owned));
    }
    let connected: Vec<Route> = addresses.carried.iter().filter_map(connected).collect();
    for made in connected.into_iter().filter(is_family) {
        let place = |r: &Route| (r.destination, r.prefix_len, r.metric, r.link.clone());
        let copy = Route { table: SHADOW_TABLE, protocol: OWN_PROTOCOL, ..made };
        if !contents.iter().any(|route| place(route) == place(&copy)) {
            contents.push(copy);
        }
    }
    let mut found = BTreeSet::new();
    let mut is_new =
        contents.iter().map(|route| found.insert(place(route))).collect::<Vec<_>>().into_iter();
    drop(found);
    contents.retain(|_| is_new.next().unwrap_or_default());
    contents
}

/// The addresses that are carried, for whose routes the kernel made.
fn carried(network: &Network) -> Network {
    let carried = network.addresses.iter().filter(|a| left_out(a).is_none()).cloned();
    Network { addresses: carried.collect(), ..Network::default() }
}

/// What is not Pointsman's and uses its table.
pub(super) fn foreign(network: &Network) -> Option<String> {
    let in_table = |route: &&Route| route.table == SHADOW_TABLE && route.protocol != OWN_PROTOCOL;
    let route = network.routes.iter().find(in_table).map(|route| format!("the route {route}"));
    let rule = network
        .rules
        .iter()
        .find(|rule| rule.table == Some(SHADOW_TABLE) && rule.protocol != OWN_PROTOCOL)
        .map(|rule| format!("the {rule}"));
    route.or(rule)
}

fn is_own(route: &Route) -> bool {
    route.table == SHADOW_TABLE && route.protocol == OWN_PROTOCOL
}

/// Our rule that an interrupted handover has left.
pub(super) fn own_rule(network: &Network, family: u8) -> Option<&Rule> {
    network.rules.iter().find(|rule| {
        rule.family == family && rule.table == Some(SHADOW_TABLE) && rule.protocol == OWN_PROTOCOL
    })
}

/// The priority just before the rule that looks into `main`. A new rule comes behind the
/// others of its priority, so it is the last before that.
fn before_main(network: &Network, family: u8) -> Option<u32> {
    let main = network.rules.iter().find(|rule| {
        let selective = rule.source_len > 0
            || rule.destination_len > 0
            || rule.tos > 0
            || rule.flags > 0
            || rule.iif.is_some()
            || rule.oif.is_some()
            || !rule.attributes.is_empty();
        rule.family == family && rule.action == TO_TABLE && rule.table == Some(MAIN) && !selective
    })?;
    main.priority.checked_sub(1)
}

fn no_main(family: u8) -> String {
    format!(
        "no IPv{family} rule looks into table main for every packet, so its routes flip one by one"
    )
}

fn no_table(family: u8) -> String {
    format!("table {SHADOW_TABLE} is in other hands, so the IPv{family} routes flip one by one")
}
