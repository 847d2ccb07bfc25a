use super::*;
use crate::model::{Address, Hop, Link, OvsDatabase, Route};
use std::net::IpAddr;

const MAC: &str = "02:00:00:00:77:02";

fn nic(index: u32, name: &str) -> Link {
    let mac = Some(MAC.to_owned());
    Link { index, name: name.into(), mac, mtu: 1500, up: true, ..Link::default() }
}

/// A host with running daemons and nothing configured.
fn host() -> Observed {
    let mut observed = Observed::default();
    observed.ovs.database = Some(OvsDatabase::default());
    (observed.ovs.ovsdb_server, observed.ovs.vswitchd) = (true, true);
    observed.network.links = vec![nic(1, "lo"), nic(2, "eth1")];
    observed
}

fn add_bridge(datapath_type: &str) -> Step {
    Step::AddBridge {
        bridge: "br-int".into(),
        datapath_type: datapath_type.into(),
        hwaddr: MAC.into(),
        external_ids: BTreeMap::from([("bridge-id".into(), "br-int".into())]),
    }
}

fn add_port() -> Step {
    Step::AddPort { bridge: "br-int".into(), port: "eth1".into(), ofport: None }
}

fn after(mut observed: Observed, steps: &[Step]) -> Observed {
    for step in steps {
        simulate(&mut observed, step);
    }
    observed
}

fn address(link: &str, ip: &str) -> Address {
    Address {
        link: link.into(),
        ip: ip.parse().unwrap(),
        prefix_len: 24,
        peer: None,
        broadcast: None,
        label: None,
        scope: 0,
        flags: 0x80,
        valid_lft: u32::MAX,
        preferred_lft: u32::MAX,
        protocol: 0,
        metric: None,
        attributes: Vec::new(),
    }
}

fn route(destination: &str, link: Option<&str>, hops: &[&str]) -> Route {
    let destination: IpAddr = destination.parse().unwrap();
    let hop = |link: &&str| Hop {
        gateway: None,
        link: (*link).to_owned(),
        hops: 0,
        flags: 0,
        attributes: Vec::new(),
    };
    Route {
        table: 254,
        destination,
        prefix_len: 24,
        source_len: 0,
        kind: 1,
        protocol: 4,
        scope: 0,
        tos: 0,
        metric: None,
        prefsrc: None,
        gateway: None,
        link: link.map(str::to_owned),
        flags: 0,
        hops: hops.iter().map(hop).collect(),
        attributes: Vec::new(),
    }
}

fn link<'a>(observed: &'a Observed, name: &str) -> Option<&'a Link> {
    observed.network.links.iter().find(|link| link.name == name)
}

#[test]
fn a_bridge_with_its_port_is_made_once() {
    let once = after(host(), &[add_bridge(""), add_port()]);
    let bridge = once.ovs.bridge("br-int").unwrap();
    assert_eq!(bridge.fail_mode.as_deref(), Some("standalone"));
    assert_eq!(bridge.port("eth1").unwrap().ofport, Some(1));
    assert_eq!(once.ovs.datapaths[0].vports, ["br-int", "eth1"]);
    assert_eq!(link(&once, "eth1").unwrap().master.as_deref(), Some("ovs-system"));
    let device = link(&once, "br-int").unwrap();
    assert_eq!((device.mac.as_deref(), device.up, &device.master), (Some(MAC), false, &None));
    assert!(!link(&once, "ovs-system").unwrap().up);
    assert_eq!(after(once.clone(), &[add_bridge(""), add_port()]), once);
}

#[test]
fn removing_what_was_added_leads_back() {
    let remove = Step::RemovePort { bridge: "br-int".into(), port: "eth1".into() };
    let delete = Step::DeleteBridge { bridge: "br-int".into() };
    for kind in ["", "system", "netdev"] {
        let made = [add_bridge(kind), add_port()];
        let there = after(host(), &made);
        assert_eq!(after(there.clone(), &[remove.clone(), delete.clone()]), host(), "{kind}");
        assert_eq!(after(there, std::slice::from_ref(&delete)), host(), "{kind}");
    }
    let of_user_space = after(host(), &[add_bridge("netdev"), add_port()]);
    assert_eq!(link(&of_user_space, "eth1").unwrap().master, None);
    assert!(of_user_space.ovs.datapaths.is_empty());
}

#[test]
fn stopping_keeps_the_datapath_and_freeing_takes_it_with_its_devices() {
    let mut there = after(host(), &[add_bridge(""), add_port()]);
    there.network.addresses = vec![address("br-int", "10.0.0.1"), address("lo", "127.0.0.1")];
    there.network.routes = vec![
        route("10.1.0.0", Some("br-int"), &[]),
        route("10.2.0.0", None, &["br-int", "lo"]),
        route("fd00::", None, &["br-int", "lo"]),
        route("fd01::", None, &["br-int", "br-int"]),
    ];
    let steps = stop_and_free(&there);
    let freeing = Step::DeleteDatapath { datapath: "ovs-system".into() };
    assert_eq!(steps, [Step::StopDaemons, freeing.clone()]);

    let stopped = after(there.clone(), &[Step::StopDaemons]);
    assert_eq!((&stopped.ovs.database, stopped.ovs.vswitchd), (&None, false));
    assert_eq!(stopped.ovs.datapaths, there.ovs.datapaths);
    assert_eq!(stopped.network, there.network);
    assert_eq!(stop_and_free(&stopped), [freeing]);

    let free = after(there.clone(), &steps);
    assert_eq!(stop_and_free(&free), []);
    assert!(free.ovs.datapaths.is_empty());
    let names: Vec<_> = free.network.links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(names, ["lo", "eth1"]);
    assert_eq!(link(&free, "eth1").unwrap().master, None);
    assert_eq!(free.network.addresses, [address("lo", "127.0.0.1")]);
    assert_eq!(free.network.routes, [route("fd00::", Some("lo"), &[])]);

    assert_eq!(start(&free, None), [Step::StartDaemons]);
    let back = after(free, &[Step::StartDaemons]);
    assert_eq!(start(&back, None), []);
    assert_eq!(back.ovs, there.ovs);
    assert_eq!(link(&back, "eth1").unwrap().master.as_deref(), Some("ovs-system"));
    assert_eq!(link(&back, "br-int").unwrap().mac.as_deref(), Some(MAC));
    assert_eq!(back.network.addresses, [address("lo", "127.0.0.1")]);
}

#[test]
fn a_vport_is_removed_without_the_daemons_and_comes_back_with_them() {
    let remove = Step::RemoveVport { datapath: "ovs-system".into(), port: "eth1".into() };
    let there = after(host(), &[add_bridge(""), add_port()]);
    let dark = after(there.clone(), &[Step::StopDaemons, remove]);
    assert_eq!(link(&dark, "eth1").unwrap().master, None);
    assert_eq!(dark.ovs.datapaths[0].vports, ["br-int"]);
    assert_eq!(after(dark, &[Step::StartDaemons]), there);
}

#[test]
fn a_master_that_is_no_datapath_stays() {
    let mut bonded = host();
    bonded.network.links[1].master = Some("bond0".into());
    let remove = Step::RemoveVport { datapath: "ovs-system".into(), port: "eth1".into() };
    assert_eq!(after(bonded.clone(), &[remove]), bonded);
}

#[test]
fn a_hung_server_is_stopped_too() {
    let mut hung = host();
    hung.ovs.database = None;
    hung.ovs.vswitchd = false;
    assert_eq!(stop_and_free(&hung), [Step::StopDaemons]);
    assert_eq!(start(&hung, None), [Step::StartDaemons]);
}

#[test]
fn an_observation_without_the_newer_fields_is_still_read() {
    let text = r#"{"database":null,"database_error":"x","vswitchd":true,"datapaths":[]}"#;
    let ovs: Ovs = serde_json::from_str(text).unwrap();
    assert!(ovs.vswitchd && !ovs.ovsdb_server && ovs.stopped.is_none());
}

/// A host whose uplink is a port of the bridge, with something wrong.
fn wrong(change: impl FnOnce(&mut Ovs)) -> Observed {
    let mut host = after(host(), &[add_bridge(""), add_port()]);
    change(&mut host.ovs);
    host
}

/// What frees the uplink, and that nothing is left to be freed then, whoever starts what
/// was ended.
fn freed(host: &Observed) -> Vec<&'static str> {
    let steps = free(&host.ovs, "br-int", "eth1", true);
    let home = after(host.clone(), &steps);
    assert_eq!(free(&home.ovs, "br-int", "eth1", true), [], "after {steps:?}");
    assert_eq!(link(&home, "eth1").unwrap().master, None);
    let again = after(home.clone(), &start(&home, Some(("br-int", "eth1"))));
    assert!(again.ovs.is_healthy());
    if host.ovs.database.is_some() || host.ovs.stopped.is_some() {
        assert_eq!(link(&again, "eth1").unwrap().master, None, "after {steps:?} and a start");
    }
    let mut words = Vec::new();
    for step in &steps {
        words.push(if matches!(step, Step::RemovePort { .. }) {
            "remove port"
        } else if matches!(step, Step::ForgetPort { .. }) {
            "forget port"
        } else if matches!(step, Step::ForgetPortOnDisk { .. }) {
            "forget port on disk"
        } else if matches!(step, Step::RemoveVport { .. }) {
            "remove vport"
        } else if *step == Step::EndVswitchd {
            "end vswitchd"
        } else {
            assert_eq!(*step, Step::EndServer);
            "end server"
        });
    }
    words
}

#[test]
fn the_uplink_is_freed_with_open_vswitch_healthy_dead_or_hanging() {
    assert_eq!(freed(&wrong(|_| {})), ["remove port"]);
    assert_eq!(freed(&wrong(|ovs| ovs.vswitchd = false)), ["remove vport", "remove port"]);
    let hangs = wrong(|ovs| ovs.vswitchd_hangs = true);
    assert_eq!(freed(&hangs), ["forget port", "end vswitchd", "remove vport"]);
    let dead = |ovs: &mut Ovs| (ovs.stopped, ovs.ovsdb_server) = (ovs.database.take(), false);
    // a vswitchd without its database still has the port in mind
    let file = ["end vswitchd", "remove vport", "forget port on disk"];
    assert_eq!(freed(&wrong(dead)), file);
    let silent = |ovs: &mut Ovs| (ovs.database, ovs.ovsdb_server_hangs) = (None, true);
    let all = ["end vswitchd", "end server", "remove vport", "forget port on disk"];
    assert_eq!(freed(&wrong(silent)), all);
    let both = wrong(|ovs| {
        silent(ovs);
        ovs.vswitchd_hangs = true;
    });
    assert_eq!(freed(&both), all);
    let alone = wrong(|ovs| {
        dead(ovs);
        (ovs.vswitchd, ovs.stopped) = (false, None);
    });
    assert_eq!(freed(&alone), ["remove vport"]);
}

#[test]
fn what_hangs_is_ended_in_an_unfinished_transaction_only_where_nothing_is_to_be_freed() {
    let mut idle = host();
    (idle.ovs.ovsdb_server_hangs, idle.ovs.database) = (true, None);
    assert_eq!(free(&idle.ovs, "br-int", "eth1", false), []);
    // a port that was asked for may be in the queue of a server that hangs
    assert_eq!(freed(&idle), ["end vswitchd", "end server", "forget port on disk"]);
    let mut busy = host();
    busy.ovs.vswitchd_hangs = true;
    assert_eq!(free(&busy.ovs, "br-int", "eth1", false), []);
    assert_eq!(freed(&busy), ["end vswitchd"]);
}

#[test]
fn a_start_spares_the_uplink_that_the_file_lists() {
    let mut stopped = after(host(), &[add_bridge(""), add_port(), Step::StopDaemons]);
    let spared = Some(("br-int", "eth1"));
    assert_eq!(start(&stopped, None), [Step::StartDaemons]);
    let forget = |file: Option<&str>| {
        let (bridge, port) = ("br-int".into(), "eth1".into());
        Step::ForgetPortOnDisk { bridge, port, file: file.map(str::to_owned) }
    };
    assert_eq!(start(&stopped, spared), [forget(None), Step::StartDaemons]);
    stopped.ovs.file = Some("/srv/conf.db".into());
    let elsewhere = forget(Some("/srv/conf.db"));
    assert_eq!(start(&stopped, spared), [elsewhere.clone(), Step::StartDaemons]);
    // known, and not read: what would be started unasked is not
    stopped.ovs.stopped = None;
    assert_eq!(start(&stopped, spared), [elsewhere, Step::StartDaemons]);
    stopped.ovs.file = None;
    assert_eq!(start(&stopped, spared), [Step::StartDaemons], "there never was one");
}
