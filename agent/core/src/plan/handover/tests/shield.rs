//! Over which steps the shield is up, and what becomes of one that was left.

use super::super::{Owner, Step};
use super::generator::{NIC, add, add_route, address, bare, route};
use super::{after, checkpoint, planned, to_bridge, to_uplink, want};
use crate::model::{Observed, Shield};
use crate::plan::{self, Plan, ovs};

fn node() -> Observed {
    let mut observed = bare();
    add(&mut observed, address(NIC, "10.77.0.2/24"));
    add_route(&mut observed, route("0.0.0.0/0", Some("10.77.0.1"), NIC));
    observed
}

fn moved() -> Observed {
    after(&node(), &planned(&to_bridge(), &node(), None))
}

fn left(table: bool, links: bool) -> Shield {
    Shield { table, links, refused: None }
}

fn is_raise(step: &plan::Step) -> bool {
    matches!(step, plan::Step::Handover(Step::RaiseShield { .. }))
}

/// The steps from the shield's raising to its lowering.
fn under_shield(plan: &Plan) -> Vec<&plan::Step> {
    let lower = |step: &plan::Step| *step == plan::Step::Handover(Step::LowerShield);
    plan.steps().skip_while(|step| !is_raise(step)).skip(1).take_while(|s| !lower(s)).collect()
}

#[test]
fn the_shield_is_up_for_the_port_and_the_flip_alone() {
    let there = planned(&to_bridge(), &node(), None);
    let steps = under_shield(&there);
    assert!(
        matches!(
            steps[..],
            [
                plan::Step::Ovs(ovs::Step::AddPort { .. }),
                plan::Step::Handover(Step::AddShadowRule { family: 4, .. })
            ]
        ),
        "{there}"
    );
    let back = planned(&want(Owner::Uplink, true), &moved(), None);
    let steps = under_shield(&back);
    assert!(matches!(steps[..], [plan::Step::Ovs(ovs::Step::RemovePort { .. })]), "{back}");
}

#[test]
fn the_shield_has_the_uplinks_mac_and_mtu() {
    let mut start = node();
    start.network.links[2].mtu = 9000;
    let plan = planned(&to_bridge(), &start, None);
    let raised = plan.steps().find(|step| is_raise(step)).unwrap();
    let mac = super::generator::MAC.to_owned();
    let expected = Step::RaiseShield { uplink: NIC.into(), mac, mtu: 9000 };
    assert_eq!(*raised, plan::Step::Handover(expected));
}

#[test]
fn without_a_shield_the_cost_is_stated() {
    let mut start = node();
    start.network.shield.refused = Some("no nf_tables here".into());
    let plan = planned(&to_bridge(), &start, None);
    assert!(!plan.steps().any(is_raise), "{plan}");
    let note = plan.notes.iter().find(|note| note.contains("(no nf_tables here)")).unwrap();
    assert!(note.contains("none to 600"), "{note}");
    let reached = after(&start, &plan);
    assert!(planned(&to_bridge(), &reached, None).notes.iter().all(|n| !n.contains("shield")));
}

/// The kernel alone frees the uplink in one instant, and nobody waits for a shield then.
#[test]
fn a_dead_vswitchd_needs_no_shield() {
    let mut dead = moved();
    dead.ovs.vswitchd = false;
    let plan = planned(&to_uplink(), &dead, Some(&checkpoint(&node())));
    assert!(!plan.to_string().contains("shield"), "{plan}");
    dead.network.shield = left(true, true);
    let plan = planned(&to_uplink(), &dead, Some(&checkpoint(&node())));
    let home = after(&dead, &plan);
    assert_eq!(home.network.shield, Shield::default(), "{plan}");
    // packets come in by it until the uplink is free
    let at = |words: &str| plan.steps().position(|step| step.to_string().contains(words));
    assert!(at("without vswitchd") < at("lower the shield"), "{plan}");
}

#[test]
fn a_link_without_addresses_needs_no_shield() {
    let plan = planned(&to_bridge(), &bare(), None);
    assert!(!plan.to_string().contains("shield"), "{plan}");
}

#[test]
fn what_is_left_of_a_shield_is_taken_away_whatever_else_is_to_do() {
    for target in [to_bridge(), to_uplink()] {
        for (table, links) in [(true, true), (true, false), (false, true)] {
            for start in [node(), moved()] {
                let reached = after(&start, &planned(&target, &start, None));
                for now in [start, reached] {
                    let mut now = now;
                    now.network.shield = left(table, links);
                    let plan = planned(&target, &now, None);
                    assert!(!plan.is_empty());
                    let end = after(&now, &plan);
                    assert_eq!(end.network.shield, Shield::default(), "{plan}");
                    assert!(planned(&target, &end, None).is_empty());
                }
            }
        }
    }
}

/// Such a rule sends every packet to a device that is gone.
#[test]
fn a_shield_without_its_devices_is_lowered_before_anything_else() {
    let mut home = moved();
    home.network.shield = left(true, false);
    home.ovs.vswitchd = false;
    let plan = planned(&to_uplink(), &home, None);
    assert_eq!(plan.steps().next(), Some(&plan::Step::Handover(Step::LowerShield)), "{plan}");
}

/// The flip of a table that is looked into already must wait until the way may change.
#[test]
fn a_table_that_is_in_use_is_changed_only_when_the_uplink_is_attached() {
    let back = checkpoint(&moved());
    let home = planned(&to_uplink(), &moved(), None);
    let mut half = moved();
    for step in home.steps() {
        plan::simulate(&mut half, step);
        if matches!(step, plan::Step::Ovs(ovs::Step::RemovePort { .. })) {
            break;
        }
    }
    let plan = planned(&to_bridge(), &half, Some(&back));
    let at = |words: &str| plan.steps().position(|step| step.to_string().contains(words)).unwrap();
    assert!(at("make eth1 a port") < at("routes of the shadow table"), "{plan}");
}
