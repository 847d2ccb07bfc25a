//! Events: what `kubectl get events` shows of a node's transitions.

use crate::agent::{Agent, LONG, eventually, report};
use crate::shared;
use pointsman_core::report::{Report, State};
use serde_json::Value;
use support::cluster::ControlPlane;

/// (type, reason, note) of the Events about a node, in the order of their making.
fn events(plane: &ControlPlane, node: &str) -> Vec<[String; 3]> {
    let about = format!("--field-selector=involvedObject.kind=Node,involvedObject.name={node}");
    let sorted = "--sort-by=.metadata.creationTimestamp";
    let found = plane.kubectl(&["get", "events", "-n", "default", &about, sorted, "-o", "json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let mut events: Vec<(String, [String; 3])> = found["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let made = text(event, "eventTime");
            (made, ["type", "reason", "message"].map(|key| text(event, key)))
        })
        .collect();
    events.sort();
    events.into_iter().map(|(_, event)| event).collect()
}

#[test]
fn a_transition_is_one_event_however_often_it_is_reported() {
    let plane = shared();
    plane.create_node("told");
    let mut agent = Agent::of(&plane, "told");
    let uid = agent.next(LONG).unwrap().uid;
    agent.publish(&uid, &report("taking the node to nsx-ovs"));
    // another sentence, the same transition
    agent.publish(&uid, &report("still taking the node to nsx-ovs"));
    let lost = Report {
        state: State::Degraded,
        reason: "OvsLost".into(),
        ..report(&format!("no ovs-vswitchd runs {}", "é".repeat(600)))
    };
    agent.publish(&uid, &lost);
    // they follow the report, and are not waited for
    let found = eventually("two Events", LONG, || {
        Some(events(&plane, "told")).filter(|found| found.len() >= 2)
    });
    assert_eq!(found.len(), 2, "{found:?}");
    let [kind, reason, message] = &found[0];
    assert_eq!([kind.as_str(), reason], ["Normal", "Switching"]);
    assert_eq!(message, "taking the node to nsx-ovs");
    let [kind, reason, message] = &found[1];
    assert_eq!([kind.as_str(), reason], ["Warning", "OvsLost"]);
    assert!(message.starts_with("no ovs-vswitchd runs") && message.len() <= 1024, "{message}");
}
