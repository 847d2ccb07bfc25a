use crate::*;
use support::ovs::OvsFixture;

/// Applies, and applies again: the second time asks nothing of vswitchd.
fn apply_twice(ovs: &OvsFixture, step: OvsStep) {
    let before = (ovs.next_cfg(), ovs.requests());
    apply(&ovs.socket(), step.clone())
        .unwrap_or_else(|error| panic!("{}\n{}", pointsman_core::error::chain(&error), ovs.logs()));
    let once = (ovs.next_cfg(), ovs.requests());
    assert_eq!(once.0, before.0 + 1, "{step} is one transaction");
    assert!(once.1 > before.1, "the file tells requests");
    apply(&ovs.socket(), step.clone()).unwrap();
    assert_eq!((ovs.next_cfg(), ovs.requests()), once, "{step} a second time");
}

#[test]
fn bridge_and_port_come_and_go_and_a_second_time_changes_nothing() {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    apply_twice(&ovs, add_bridge("br-int"));
    assert_eq!(ovs.vsctl(&["list-br"]), "br-int");
    assert_eq!(ovs.vsctl(&["get-fail-mode", "br-int"]), "standalone");
    assert_eq!(ovs.vsctl(&["br-get-external-id", "br-int", "bridge-id"]), "br-int");
    assert_eq!(mac_by_ip("br-int").unwrap(), MAC);

    let other = "02:00:00:00:77:03";
    let pin = |mac: &str| OvsStep::PinMac { bridge: "br-int".into(), hwaddr: mac.into() };
    apply_twice(&ovs, pin(other));
    assert_eq!(mac_by_ip("br-int").unwrap(), other);
    apply_twice(&ovs, pin(MAC));

    apply_twice(&ovs, add_port("br-int", "nic0"));
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "nic0");
    let seen = observe(&ovs.socket());
    let port = seen.bridge("br-int").unwrap().port("nic0").unwrap();
    assert_eq!(
        ovs.vsctl(&["get", "Interface", "nic0", "ofport"]),
        port.ofport.unwrap().to_string()
    );
    assert_eq!(port.error, None);

    apply_twice(&ovs, remove_port("br-int", "nic0"));
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "");
    apply_twice(&ovs, delete_bridge("br-int"));
    assert_eq!(ovs.vsctl(&["list-br"]), "");
    assert_eq!(mac_by_ip("br-int"), None);
}

#[test]
fn the_observation_is_what_ovs_vsctl_says() {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    ovs.vsctl(&["add-br", "br-b", "--", "set", "bridge", "br-b", "datapath_type=netdev"]);
    ovs.vsctl(&["add-br", "br-a", "--", "set", "bridge", "br-a", "datapath_type=netdev"]);
    ovs.vsctl(&["set", "bridge", "br-a", "fail_mode=secure", "external_ids:k=v"]);
    ovs.vsctl(&["add-port", "br-a", "nic0"]);
    ovs.vsctl(&["set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true"]);
    let seen = observe(&ovs.socket());
    assert!(seen.vswitchd && seen.ovsdb_server);
    assert!(seen.datapaths.is_empty(), "the kernel has none here");
    let database = seen.database.as_ref().unwrap();
    assert!(database.flow_restore_wait);
    let names: Vec<_> = database.bridges.iter().map(|bridge| bridge.name.as_str()).collect();
    assert_eq!(names, ["br-a", "br-b"]);
    let bridge = seen.bridge("br-a").unwrap();
    assert_eq!(bridge.fail_mode.as_deref(), Some("secure"));
    assert_eq!(bridge.datapath_type, "netdev");
    assert_eq!(bridge.external_ids["k"], "v");
    assert_eq!(bridge.hwaddr, None);
    assert_eq!(bridge.port("br-a").unwrap().kind, "internal");
    assert_eq!(bridge.port("nic0").unwrap().kind, "");
}

#[test]
fn deleting_one_bridge_leaves_the_other_with_its_ports() {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    for step in [add_bridge("br-int"), add_bridge("br-other"), add_port("br-other", "nic0")] {
        apply(&ovs.socket(), step).unwrap();
    }
    apply(&ovs.socket(), delete_bridge("br-int")).unwrap();
    assert_eq!(ovs.vsctl(&["list-br"]), "br-other");
    assert_eq!(ovs.vsctl(&["list-ports", "br-other"]), "nic0");
    assert_eq!(mac_by_ip("br-int"), None);
    assert!(mac_by_ip("br-other").is_some());
}

#[test]
fn a_bridge_that_is_not_there_is_deleted_already_and_a_device_of_its_name_stays() {
    let ovs = OvsFixture::start();
    make_nic("br-int");
    let before = ovs.next_cfg();
    apply(&ovs.socket(), delete_bridge("br-int")).unwrap();
    assert!(mac_by_ip("br-int").is_some());
    assert_eq!(ovs.next_cfg(), before);
}
