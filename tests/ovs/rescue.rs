//! Daemons that are dead or hang, and what is done without them.

use crate::*;
use std::time::{Duration, Instant};
use support::ovs::OvsFixture;

fn forget_port() -> OvsStep {
    OvsStep::ForgetPort { bridge: "br-int".into(), port: "nic0".into() }
}

fn fixture() -> OvsFixture {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    apply(&ovs.socket(), add_bridge("br-int")).unwrap();
    apply(&ovs.socket(), add_port("br-int", "nic0")).unwrap();
    ovs
}

#[test]
fn a_daemon_that_hangs_is_seen_and_ended() {
    let mut ovs = fixture();
    let seen = observe(&ovs.socket());
    assert!(seen.is_healthy() && !seen.ovsdb_server_hangs, "{seen:?}");
    ovs.pause_vswitchd();
    let start = Instant::now();
    let seen = observe(&ovs.socket());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(seen.vswitchd_hangs && seen.vswitchd && seen.database.is_some(), "{seen:?}");

    let start = Instant::now();
    apply(&ovs.socket(), forget_port()).unwrap();
    assert!(start.elapsed() < Duration::from_secs(4), "nobody is waited for");
    assert_eq!(ovs.vsctl(&["--no-wait", "list-ports", "br-int"]), "");
    apply(&ovs.socket(), OvsStep::EndVswitchd).unwrap();
    let seen = observe(&ovs.socket());
    assert!(!seen.vswitchd && !seen.vswitchd_hangs, "{seen:?}");
    apply(&ovs.socket(), OvsStep::EndVswitchd).unwrap();
    ovs.start_vswitchd();
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "");

    ovs.pause_server();
    let seen = observe(&ovs.socket());
    assert!(seen.ovsdb_server_hangs && seen.ovsdb_server && seen.database.is_none(), "{seen:?}");
    apply(&ovs.socket(), OvsStep::EndServer).unwrap();
    let seen = observe(&ovs.socket());
    assert!(!seen.ovsdb_server && !seen.ovsdb_server_hangs, "{seen:?}");
}

#[test]
fn a_port_is_taken_out_of_the_file_of_a_dead_server() {
    use pointsman::ovsdb::{Snapshot, read_file, remove_port_from_file};
    let limit = Duration::from_secs(30);
    let mut ovs = fixture();
    let file = ovs.directory().join("conf.db").to_str().unwrap().to_owned();
    let ports = |snapshot: &Snapshot| -> Vec<String> {
        let bridges = snapshot.to_model().bridges;
        let bridge = bridges.iter().find(|bridge| bridge.name == "br-int").unwrap();
        bridge.ports.iter().map(|port| port.name.clone()).collect()
    };
    ovs.kill_vswitchd();
    let remove =
        |port: &str| remove_port_from_file(&HostTools::Here, &file, ("br-int", port), limit);
    // who serves the file keeps others from writing it
    let error = remove("nic0").unwrap_err();
    assert!(error.to_string().contains("ovsdb-tool"), "{error}");
    ovs.kill_server();
    assert_eq!(ports(&read_file(&HostTools::Here, &file, limit).unwrap()), ["br-int", "nic0"]);
    let size = || std::fs::metadata(&file).unwrap().len();
    let before = size();
    remove("other").unwrap();
    assert_eq!(size(), before, "nothing to remove, nothing written");
    remove("nic0").unwrap();
    assert_eq!(ports(&read_file(&HostTools::Here, &file, limit).unwrap()), ["br-int"]);
}
