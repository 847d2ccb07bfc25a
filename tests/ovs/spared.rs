//! What is refused before anything changes: a bridge that nobody can prove, and one with which
//! somebody else's ports would go.

use crate::bed::{Bed, Nobody, THERE};
use crate::*;
use pointsman_core::goal::Goal;
use pointsman_core::phase::End;
use pointsman_core::plan::handover::Owner;
use support::ovs::{OvsFixture, command};

const UNPROVEN: &str = "SecureBridgeUnproven";

/// The bridge forwards by flows alone, and the node knows no gateway.
fn secure(accept: &[&str]) -> Bed {
    let bed = Bed::of(OvsFixture::start(), "", accept);
    bed.ovs.vsctl(&["set-fail-mode", "br-int", "secure"]);
    command(&["ip", "route", "del", "default"]);
    bed
}

#[test]
fn a_secure_bridge_without_a_gateway_to_ask_is_refused_and_nothing_changes() {
    let bed = secure(&[]);
    let asked = bed.ovs.requests();
    let outcome = bed.site(&Nobody).carry_out(&THERE, None).unwrap();
    assert_eq!(outcome.end, End::Refused, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.reason, UNPROVEN, "{failure:?}");
    assert!(failure.message.contains("br-int"), "{failure:?}");
    assert_eq!(bed.owner(), "nic0");
    assert_eq!(bed.ovs.vsctl(&["list-ports", "br-int"]), "");
    assert_eq!(bed.ovs.requests(), asked, "nothing was asked of vswitchd");
    assert!(!bed.state.path().join("journal.json").exists());
}

#[test]
fn a_secure_bridge_that_is_accepted_is_used() {
    let bed = secure(&[UNPROVEN]);
    bed.go(&THERE);
    assert_eq!(bed.owner(), "br-int");
    let outcome = bed.site(&Nobody).restore().unwrap().unwrap();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(bed.owner(), "nic0");
}

#[test]
fn a_bridge_with_ports_of_somebody_else_is_not_deleted_and_the_way_back_is_free() {
    let bed = Bed::new();
    make_nic("nic1");
    bed.go(&THERE);
    let ovs = |arguments: &str| bed.ovs.vsctl(&arguments.split(' ').collect::<Vec<_>>());
    ovs("add-br br-ex -- set bridge br-ex datapath_type=netdev");
    ovs("add-port br-ex to-int -- set interface to-int type=patch options:peer=to-ex");
    ovs("add-port br-int to-ex -- set interface to-ex type=patch options:peer=to-int");
    ovs("add-port br-int vx0 -- set interface vx0 type=vxlan options:remote_ip=192.0.2.9");
    ovs("add-port br-int nic1");
    let before = ovs("list-ports br-int");
    assert_eq!(before, "nic0\nnic1\nto-ex\nvx0");
    let asked = bed.ovs.requests();

    let gone = Goal::Handover { to: Owner::Uplink, delete_bridge: true };
    let outcome = bed.site(&Nobody).carry_out(&gone, None).unwrap();
    assert_eq!(outcome.end, End::Refused, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.reason, "ForeignBridge", "{failure:?}");
    for port in ["vx0", "to-ex", "nic1"] {
        assert!(failure.message.contains(port), "{port}: {failure:?}");
    }
    assert_eq!(bed.ovs.requests(), asked, "nothing was asked of vswitchd");
    assert_eq!(ovs("list-ports br-int"), before);
    assert_eq!(bed.owner(), "br-int");

    let outcome = bed.site(&Nobody).restore().unwrap().unwrap();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(bed.owner(), "nic0");
    assert_eq!(ovs("list-ports br-int"), "nic1\nto-ex\nvx0");
}
