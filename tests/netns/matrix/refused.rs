//! What is left where it is, by name.

use super::rows::BASE;
use super::{Node, Owner};

#[test]
fn what_a_link_makes_itself_stays_and_is_named() {
    let mut node = Node::new();
    node.set_up(BASE);
    node.set_up(&[
        "neighbour add 10.77.0.70 lladdr 02:00:00:00:77:70 dev eth1 nud permanent extern_learn",
        "-6 route add fd00:f::/64 via fe80::1 dev eth1 proto ra",
        "IFAPROT fd00:6b::2/64 2",
    ]);
    let plan = node.go(Owner::Bridge, None);
    let notes = plan.notes.join("\n");
    for word in ["10.77.0.70", "fd00:f::/64", "fd00:6b::2/64", "link-local"] {
        assert!(notes.contains(word), "{word} is not in {notes}");
    }
    let steps: String = plan.steps().map(|step| format!("{step}\n")).collect();
    assert!(!steps.contains("10.77.0.70") && !steps.contains("fd00:6b"), "{steps}");
}
