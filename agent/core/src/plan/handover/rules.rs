//! Policy rules that name a link: carried to the other one, at their place among their equals.
//!
//! The kernel puts a rule behind the others of its priority, and of several equal ones it
//! deletes the first. So a rule in the middle is moved by adding it and all behind it again,
//! and deleting the old ones when the new ones are there: at no moment is one missing.

use super::unknown::{self, Noun};
use super::{Case, Step};
use crate::model::Rule;
use crate::plan::Refusal;
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Rules {
    /// Before the flip.
    pub(super) add: Vec<Step>,
    /// After it.
    pub(super) delete: Vec<Step>,
    pub(super) notes: Vec<String>,
}

impl Rules {
    /// `moving` says whether addresses or routes change their link; rules alone do not move.
    pub(super) fn of(case: &Case<'_>, moving: bool) -> Result<Self, Refusal> {
        let mut rules = Self::default();
        if !moving && case.before.is_none() {
            return Ok(rules);
        }
        let (mut add, mut delete) = (Vec::new(), Vec::new());
        let named = case.networks().flat_map(|network| &network.rules).filter(|r| names(case, r));
        let groups: BTreeSet<(u8, u32)> = named.map(|rule| (rule.family, rule.priority)).collect();
        for group in groups {
            let have = in_group(&case.now.network.rules, group);
            let wanted = wanted(case, group, &have);
            let kept = kept(&have, &wanted);
            for rule in wanted.iter().skip(kept.len()) {
                let Some(number) = unknown::attribute(Noun::Rule, &rule.attributes) else {
                    add.push(rule.clone());
                    continue;
                };
                let named = have.iter().find(|there| on(case, there) == *rule);
                let named = format!("the {}", named.map_or(rule, |there| *there));
                if !case.salvage {
                    return Err(unknown::refuse(&named, number));
                }
                rules.notes.push(unknown::left(&named, number));
            }
            let gone = have.iter().enumerate().filter(|(at, _)| !kept.contains(at));
            delete.extend(gone.map(|(_, rule)| (*rule).clone()));
        }
        if !add.is_empty() {
            rules.add.push(Step::AddRules { rules: add });
        }
        if !delete.is_empty() {
            rules.delete.push(Step::DeleteRules { rules: delete });
        }
        Ok(rules)
    }
}

fn names(case: &Case<'_>, rule: &Rule) -> bool {
    [&rule.iif, &rule.oif].into_iter().flatten().any(|link| case.is_ours(link))
}

fn in_group(rules: &[Rule], (family, priority): (u8, u32)) -> Vec<&Rule> {
    rules.iter().filter(|rule| (rule.family, rule.priority) == (family, priority)).collect()
}

/// The rules of one priority as they are to be, in order.
///
/// Where the checkpoint's owner is to own the addresses again, its rules stand as they were:
/// one that named the other link even then has not moved.
fn wanted(case: &Case<'_>, group: (u8, u32), have: &[&Rule]) -> Vec<Rule> {
    let before = case.before.map_or_else(Vec::new, |before| in_group(&before.rules, group));
    let home = case.owner_before() == Some(case.target);
    let mut wanted: Vec<Rule> = Vec::new();
    let mut want = |rule: Rule| {
        if !wanted.contains(&rule) {
            wanted.push(rule);
        }
    };
    for rule in &before {
        if home && names(case, rule) {
            want((*rule).clone());
        } else if names(case, rule) {
            want(on(case, rule));
        } else if have.contains(rule) {
            want((*rule).clone());
        }
    }
    for rule in have.iter().filter(|rule| !(home && before.contains(rule))) {
        want(on(case, rule));
    }
    wanted
}

fn on(case: &Case<'_>, rule: &Rule) -> Rule {
    let moved = |link: &Option<String>| match link {
        Some(name) if name == case.source => Some(case.target.to_owned()),
        other => other.clone(),
    };
    Rule { iif: moved(&rule.iif), oif: moved(&rule.oif), ..rule.clone() }
}

/// Positions in `have` of the longest beginning of `wanted` that will stand in order: of equal
/// rules the last, as the first are the ones that are deleted.
fn kept(have: &[&Rule], wanted: &[Rule]) -> BTreeSet<usize> {
    let mut kept = BTreeSet::new();
    for rule in wanted {
        match have.iter().rposition(|there| *there == rule) {
            Some(at) if kept.last().is_none_or(|last| *last < at) => kept.insert(at),
            _ => break,
        };
    }
    kept
}
