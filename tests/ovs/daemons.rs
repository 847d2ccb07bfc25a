//! Stopping and starting the host's daemons by `ovs-ctl`, in a mount namespace where its
//! directories are empty.

use crate::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pointsman_core::error::{Reasoned as _, chain};
use support::ovs::command;

const SOCKET: &str = "/run/openvswitch/db.sock";

/// Gives the calling thread a network namespace and its own `/etc/openvswitch` and so on.
fn private_host() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for directory in ["/etc/openvswitch", "/run", "/var/log", "/sys/module"] {
        mount(Some("test"), directory, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    // ovs-ctl wants the module; the bridges here do without
    std::fs::create_dir_all("/sys/module/openvswitch").unwrap();
    std::fs::create_dir_all("/run/openvswitch").unwrap();
    command(&["ip", "link", "set", "lo", "up"]);
}

/// Stops the daemons however the test ends.
struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(
            std::process::Command::new("/usr/share/openvswitch/scripts/ovs-ctl")
                .arg("stop")
                .output(),
        );
    }
}

#[test]
fn daemons_start_and_stop_and_the_configuration_with_its_id_outlives_them() {
    private_host();
    let _stopped = Stopped;
    let socket = Path::new(SOCKET);
    let vsctl = |arguments: &[&str]| command(&[&["ovs-vsctl", "--timeout=30"], arguments].concat());
    let pids = || {
        ["ovsdb-server", "ovs-vswitchd"]
            .map(|name| std::fs::read_to_string(format!("/run/openvswitch/{name}.pid")).ok())
    };
    let seen = observe(socket);
    assert_eq!((seen.database, seen.ovsdb_server, seen.vswitchd), (None, false, false));
    apply(socket, OvsStep::StopDaemons).unwrap();

    apply(socket, OvsStep::StartDaemons).unwrap();
    let seen = observe(socket);
    assert!(seen.database.is_some() && seen.ovsdb_server && seen.vswitchd);
    let (id, first) = (vsctl(&["get", "Open_vSwitch", ".", "external_ids:system-id"]), pids());
    apply(socket, OvsStep::StartDaemons).unwrap();
    assert_eq!(pids(), first, "what runs is not started again");
    apply(socket, add_bridge("br-int")).unwrap();

    apply(socket, OvsStep::StopDaemons).unwrap();
    let seen = observe(socket);
    assert_eq!((seen.database, seen.ovsdb_server, seen.vswitchd), (None, false, false));
    for pid in first.iter().flatten() {
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid} lives");
    }
    apply(socket, OvsStep::StopDaemons).unwrap();

    apply(socket, OvsStep::StartDaemons).unwrap();
    assert_eq!(vsctl(&["get", "Open_vSwitch", ".", "external_ids:system-id"]), id);
    assert_eq!(observe(socket).bridge("br-int").unwrap().hwaddr.as_deref(), Some(MAC));
    assert_eq!(mac_by_ip("br-int").unwrap(), MAC);
}

#[test]
fn without_any_script_daemons_end_by_their_control_sockets_and_none_are_started() {
    private_host();
    let _stopped = Stopped;
    let socket = Path::new(SOCKET);
    // the database lies elsewhere, behind a link, as Debian's does
    let elsewhere = Path::new("/run/elsewhere/conf.db");
    std::fs::create_dir(elsewhere.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(elsewhere, "/etc/openvswitch/conf.db").unwrap();
    apply(socket, OvsStep::StartDaemons).unwrap();
    apply(socket, add_bridge("br-int")).unwrap();
    assert!(elsewhere.is_file());
    let scripts = "/usr/share/openvswitch/scripts";
    mount(Some("test"), scripts, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();

    apply(socket, OvsStep::StopDaemons).unwrap();
    let seen = observe(socket);
    assert_eq!((seen.database, seen.ovsdb_server, seen.vswitchd), (None, false, false));
    let error = apply(socket, OvsStep::StartDaemons).unwrap_err();
    assert_eq!(error.reason(), "OvsControlMissing");
    assert!(
        chain(&error).contains("nothing on this host starts Open vSwitch"),
        "{}",
        chain(&error)
    );

    nix::mount::umount(scripts).unwrap();
    apply(socket, OvsStep::StartDaemons).unwrap();
    assert_eq!(observe(socket).bridge("br-int").unwrap().hwaddr.as_deref(), Some(MAC));
}
