use crate::*;
use pointsman_core::error::{Reasoned, chain};
use std::time::{Duration, Instant};
use support::ovs::OvsFixture;

#[test]
fn a_nic_that_does_not_exist_is_told_in_vswitchds_words() {
    let ovs = OvsFixture::start();
    apply(&ovs.socket(), add_bridge("br-int")).unwrap();
    let error = apply(&ovs.socket(), add_port("br-int", "nope0")).unwrap_err();
    assert_eq!(error.reason(), "OvsPortFailed");
    assert!(!error.is_transient());
    let text = chain(&error);
    assert!(text.contains("could not open network device nope0 (No such device)"), "{text}");
    // no step takes anything back: the row is there for the way back to find
    assert_eq!(ovs.vsctl(&["--no-wait", "list-ports", "br-int"]), "nope0");
    apply(&ovs.socket(), remove_port("br-int", "nope0")).unwrap();
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "");
}

#[test]
fn a_port_of_another_bridge_is_left_there() {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    for step in [add_bridge("br-int"), add_bridge("br-other"), add_port("br-other", "nic0")] {
        apply(&ovs.socket(), step).unwrap();
    }
    for step in [add_port("br-int", "nic0"), remove_port("br-int", "nic0")] {
        let error = apply(&ovs.socket(), step).unwrap_err();
        assert_eq!(error.reason(), "OvsStateUnexpected");
        assert!(chain(&error).contains("br-other where br-int was expected"), "{}", chain(&error));
    }
    assert_eq!(ovs.vsctl(&["list-ports", "br-other"]), "nic0");
}

#[test]
fn a_bridge_that_is_not_as_wanted_is_left_as_it_is() {
    let ovs = OvsFixture::start();
    ovs.vsctl(&["add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev"]);
    let before = ovs.next_cfg();
    let error = apply(&ovs.socket(), add_bridge("br-int")).unwrap_err();
    assert_eq!(error.reason(), "OvsStateUnexpected");
    assert!(chain(&error).contains("the hwaddr of the bridge br-int"), "{}", chain(&error));
    let error = apply(&ovs.socket(), add_port("br-no", "nic0")).unwrap_err();
    assert_eq!(chain(&error).split(": ").last().unwrap(), "there is no bridge br-no");
    assert_eq!(error.reason(), "OvsBridgeMissing");
    assert_eq!(ovs.next_cfg(), before);
}

#[test]
fn a_hung_server_is_seen_within_two_seconds_and_steps_say_unavailable() {
    let ovs = OvsFixture::start();
    apply(&ovs.socket(), add_bridge("br-int")).unwrap();
    ovs.pause_server();
    let start = Instant::now();
    let seen = observe(&ovs.socket());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(seen.database, None);
    assert!(seen.ovsdb_server && seen.vswitchd, "both processes are there");
    let text = seen.database_error.unwrap();
    assert!(
        text.starts_with("read from ovsdb-server at ") && text.contains("no answer within"),
        "{text}"
    );
    let start = Instant::now();
    let error = apply(&ovs.socket(), delete_bridge("br-int")).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(error.reason(), "OvsUnavailable");
    assert!(error.is_transient());
    ovs.resume_server();
    assert_eq!(ovs.vsctl(&["list-br"]), "br-int");
}

#[test]
fn a_queue_filled_by_others_is_no_hang_either() {
    let ovs = OvsFixture::start();
    ovs.pause_server();
    let mut waiting = Vec::new();
    // a blocking connect to a full queue never returns: fill it by non-blocking ones
    while let Ok(socket) = connect_without_waiting(&ovs.socket()) {
        waiting.push(socket);
        assert!(waiting.len() < 10_000, "the queue of a stopped server has an end");
    }
    let start = Instant::now();
    let seen = observe(&ovs.socket());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(seen.database_error.unwrap().starts_with("connect to ovsdb-server at "));
}

fn connect_without_waiting(path: &Path) -> nix::Result<std::os::fd::OwnedFd> {
    use nix::sys::socket::*;
    use std::os::fd::AsRawFd;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

#[test]
fn without_a_server_the_observation_says_why() {
    let mut ovs = OvsFixture::start();
    ovs.kill_vswitchd();
    ovs.kill_server();
    let seen = observe(&ovs.socket());
    assert_eq!((seen.database, seen.ovsdb_server, seen.vswitchd), (None, false, false));
    assert!(seen.database_error.unwrap().contains(": Connection refused"));
    let seen = observe(Path::new("/nonexistent/db.sock"));
    assert!(seen.database_error.unwrap().contains(": No such file or directory"));
    let error = apply(Path::new("/nonexistent/db.sock"), delete_bridge("br-int")).unwrap_err();
    assert_eq!(error.reason(), "OvsUnavailable");
}

#[test]
fn what_a_dead_vswitchd_left_in_the_database_is_no_success() {
    let mut ovs = OvsFixture::start();
    make_nic("nic0");
    apply(&ovs.socket(), add_bridge("br-int")).unwrap();
    apply(&ovs.socket(), add_port("br-int", "nic0")).unwrap();
    ovs.kill_vswitchd();
    assert_ne!(ovs.vsctl(&["--no-wait", "get", "Interface", "nic0", "ofport"]), "[]");
    let error = apply(&ovs.socket(), add_port("br-int", "nic0")).unwrap_err();
    assert_eq!(error.reason(), "OvsVswitchdGone");
    // taking the port out needs nobody: the row goes, and no kernel datapath has the device
    apply(&ovs.socket(), remove_port("br-int", "nic0")).unwrap();
    assert_eq!(ovs.vsctl(&["--no-wait", "list-ports", "br-int"]), "");
    ovs.start_vswitchd();
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "");
}

#[test]
fn a_hung_vswitchd_is_not_waited_for_when_the_kernel_knows_better() {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    apply(&ovs.socket(), add_bridge("br-int")).unwrap();
    apply(&ovs.socket(), add_port("br-int", "nic0")).unwrap();
    ovs.pause_vswitchd();
    let start = Instant::now();
    apply(&ovs.socket(), remove_port("br-int", "nic0")).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let error = apply(&ovs.socket(), add_port("br-int", "nic0")).unwrap_err();
    assert_eq!(error.reason(), "OvsVswitchdSilent");
    assert!(error.is_transient());
    ovs.resume_vswitchd();
    apply(&ovs.socket(), add_port("br-int", "nic0")).unwrap();
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "nic0");
}
