//! Somebody else changes the same rows between our reading and our writing.

use crate::*;
use pointsman_core::error::Reasoned;
use serde_json::Value;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::ovs::OvsFixture;

/// Passes everything on between one client and the real server, and before each
/// transaction that would change something calls `meddle`. Counts those transactions.
fn proxy(
    ovs: &OvsFixture,
    mut meddle: impl FnMut(usize) + Send + 'static,
) -> (PathBuf, Arc<AtomicUsize>) {
    let socket = ovs.directory().join("proxy.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = ovs.socket();
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut upstream = UnixStream::connect(server).unwrap();
        let (mut answers, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
        for request in serde_json::Deserializer::from_reader(client).into_iter::<Value>() {
            let Ok(request) = request else { return };
            let text = request.to_string();
            if text.contains(r#""op":"mutate""#) {
                meddle(counted.fetch_add(1, Ordering::SeqCst));
            }
            upstream.write_all(text.as_bytes()).unwrap();
        }
    });
    (socket, writes)
}

fn vsctl(server: &Path, arguments: &[&str]) {
    let database = format!("--db=unix:{}", server.display());
    let output =
        std::process::Command::new("ovs-vsctl").arg(database).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_change_in_between_makes_us_look_again_and_neither_is_lost() {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    make_nic("nic1");
    apply(&ovs.socket(), add_bridge("br-int")).unwrap();
    let server = ovs.socket();
    let (socket, writes) = proxy(&ovs, move |nth| {
        if nth == 0 {
            vsctl(&server, &["--no-wait", "add-port", "br-int", "nic1"]);
        }
    });
    apply(&socket, add_port("br-int", "nic0")).unwrap();
    assert_eq!(writes.load(Ordering::SeqCst), 2, "the first try failed, the second did not");
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "nic0\nnic1");
}

#[test]
fn the_same_change_in_between_leaves_nothing_to_do() {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    apply(&ovs.socket(), add_bridge("br-int")).unwrap();
    let server = ovs.socket();
    let (socket, writes) =
        proxy(&ovs, move |_| vsctl(&server, &["--no-wait", "add-port", "br-int", "nic0"]));
    apply(&socket, add_port("br-int", "nic0")).unwrap();
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "nic0");
}

#[test]
fn who_never_stops_meddling_is_not_fought_for_ever() {
    let ovs = OvsFixture::start();
    let server = ovs.socket();
    let (socket, writes) = proxy(&ovs, move |nth| {
        let name = format!("br{nth}");
        let datapath = ["--", "set", "bridge", &name, "datapath_type=netdev"];
        vsctl(&server, &[&["--no-wait", "add-br", &name][..], &datapath].concat());
    });
    let error = apply(&socket, add_bridge("br-int")).unwrap_err();
    assert_eq!(error.reason(), "OvsContended");
    assert!(error.is_transient());
    assert_eq!(writes.load(Ordering::SeqCst), 5);
    assert_eq!(ovs.vsctl(&["list-br"]), "br0\nbr1\nbr2\nbr3\nbr4");
}
