use super::*;
use crate::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use crate::config::Node;
use crate::goal::Goal;
use crate::model::{Bridge, Datapath, Link, OvsDatabase, Port};
use crate::phase::{End, Phase};
use crate::plan::{handover, ovs, simulate};

fn settings() -> Settings {
    Settings::bare(Node {
        uplink: "eth1".into(),
        bridge: "br-int".into(),
        ovsdb: "unix:/run/db.sock".into(),
        accept: Vec::new(),
        companions: Vec::new(),
    })
}

/// As after a boot: the database's port was made, the addresses are on the uplink.
fn held() -> Observed {
    let mut observed = Observed::default();
    let link = |index, name: &str| Link {
        index,
        name: name.into(),
        mac: Some("52:54:00:00:02:15".into()),
        mtu: 1500,
        up: true,
        ..Link::default()
    };
    observed.network.links = vec![link(1, "eth1"), link(2, "br-int")];
    let port = |name: &str| Port { name: name.into(), ofport: Some(1), ..Port::default() };
    observed.ovs.database = Some(OvsDatabase {
        bridges: vec![Bridge {
            name: "br-int".into(),
            fail_mode: Some("standalone".into()),
            ports: vec![port("br-int"), port("eth1")],
            ..Bridge::default()
        }],
        ..OvsDatabase::default()
    });
    (observed.ovs.vswitchd, observed.ovs.ovsdb_server) = (true, true);
    let vports = vec!["br-int".into(), "eth1".into()];
    observed.ovs.datapaths = vec![Datapath { name: "ovs-system".into(), vports }];
    observed
}

fn why(course: &Course) -> &str {
    match course {
        Course::Harbour { why } => why,
        Course::Stay | Course::Complete => panic!("{course:?} where the harbour was expected"),
    }
}

#[test]
fn a_healthy_bridge_gets_its_addresses_and_any_other_loses_the_uplink() {
    let settings = settings();
    let of = |change: fn(&mut Observed)| {
        let mut observed = held();
        change(&mut observed);
        course(Some(Owner::Bridge), false, &settings, &observed)
    };
    assert_eq!(of(|_| {}), Course::Complete);
    let database = |o: &mut Observed| o.ovs.database.take();
    for (change, word) in [
        ((|o| o.ovs.database = None) as fn(&mut Observed), "database does not answer"),
        (|o| o.ovs.vswitchd = false, "no ovs-vswitchd"),
        (|o| o.ovs.database.as_mut().unwrap().flow_restore_wait = true, "flow-restore-wait"),
        (|o| o.ovs.database.as_mut().unwrap().bridges.clear(), "no bridge br-int"),
        (|o| o.network.links.truncate(1), "no network device br-int"),
        (
            |o| o.ovs.database.as_mut().unwrap().bridges[0].fail_mode = Some("secure".into()),
            "fail_mode is secure",
        ),
        (
            |o| o.ovs.database.as_mut().unwrap().bridges[0].ports[1].ofport = None,
            "not made the port eth1",
        ),
        (
            |o| o.ovs.database.as_mut().unwrap().bridges[0].ports[1].error = Some("busy".into()),
            "port eth1: busy",
        ),
    ] {
        let course = of(change);
        assert!(why(&course).contains(word), "{course:?}");
    }
    // in no datapath and in no row: nothing arrives elsewhere
    let mut free = held();
    free.ovs.datapaths.clear();
    database(&mut free);
    assert_eq!(course(Some(Owner::Bridge), false, &settings, &free), Course::Stay);
}

#[test]
fn what_was_interrupted_or_belongs_to_the_uplink_goes_to_the_harbour() {
    let settings = settings();
    for (owner, interrupted) in [
        (Some(Owner::Bridge), true),
        (Some(Owner::Uplink), true),
        (None, true),
        (Some(Owner::Uplink), false),
    ] {
        let course = course(owner, interrupted, &settings, &held());
        assert!(matches!(course, Course::Harbour { .. }), "{owner:?} {interrupted}: {course:?}");
    }
    // somebody else's bridge, of which nothing was ever moved here
    assert_eq!(course(None, false, &settings, &held()), Course::Stay);
}

#[test]
fn the_owner_is_the_goals_where_it_was_reached_and_the_former_one_where_not() {
    let mut before = held();
    let checkpoint = |before: &Observed| Checkpoint {
        schema: CHECKPOINT_SCHEMA,
        transaction: "t".into(),
        before: before.clone(),
    };
    let to = |to| Goal::Handover { to, delete_bridge: false };
    let of = |goal: &Goal, phase, before: &Observed| {
        owner_at_end(goal, phase, &settings(), &checkpoint(before))
    };
    let reached = Phase::Ended(End::Reached);
    assert_eq!(of(&to(Owner::Bridge), reached, &before), Some(Owner::Bridge));
    assert_eq!(of(&to(Owner::Uplink), reached, &before), Some(Owner::Uplink));
    assert_eq!(of(&Goal::cni(), reached, &before), None, "nobody had any");
    let address = serde_json::json!({"link": "br-int", "ip": "10.0.2.15", "prefix_len": 24,
        "scope": 0, "flags": 0, "valid_lft": u32::MAX, "preferred_lft": u32::MAX, "protocol": 0});
    before.network.addresses = vec![serde_json::from_value(address).unwrap()];
    assert_eq!(of(&Goal::cni(), reached, &before), Some(Owner::Bridge));
    let back = Phase::Ended(End::RolledBack);
    assert_eq!(of(&to(Owner::Uplink), back, &before), Some(Owner::Bridge));
    for phase in [Phase::Ended(End::Degraded), Phase::Applying, Phase::RollingBack] {
        assert_eq!(of(&to(Owner::Bridge), phase, &before), Some(Owner::Uplink), "{phase}");
    }
}

fn moving() -> Plan {
    let mut plan = Plan::default();
    let step = ovs::Step::RemovePort { bridge: "br-int".into(), port: "eth1".into() };
    let up = handover::Step::SetUp { link: "eth1".into() };
    plan.push("Move", vec![Step::Handover(up), Step::Ovs(step)]);
    plan
}

fn on_systemd() -> Observed {
    let mut observed = held();
    observed.host.systemd = true;
    observed.files.insert(WANTS.into(), FileState::Directory);
    observed
}

fn after(plan: &Plan, observed: &Observed) -> Observed {
    let mut after = observed.clone();
    plan.steps().for_each(|step| simulate(&mut after, step));
    after
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps().map(ToString::to_string).collect()
}

#[test]
fn the_unit_is_there_before_the_network_is_touched_and_stays_with_the_bridge() {
    let (settings, before) = (settings(), on_systemd());
    let plan = guarded(moving(), &settings, &before, Some(Owner::Bridge));
    let said = words(&plan);
    assert!(said[0].starts_with(&format!("write {UNIT}")), "{said:?}");
    assert_eq!(said[1], format!("link {WANTED} to {UNIT}"));
    assert_eq!(said.len(), 4, "{said:?}");
    let there = after(&plan, &before);
    let again = guarded(Plan::default(), &settings, &there, Some(Owner::Bridge));
    assert!(again.is_empty(), "{again}");
    // lost, it comes back without a move
    let again = guarded(Plan::default(), &settings, &before, Some(Owner::Bridge));
    assert_eq!(words(&again).len(), 2, "{again}");

    let back = as_before(moving(), &there, &before);
    assert_eq!(words(&back)[2..], [format!("remove {WANTED}"), format!("remove {UNIT}")]);
    assert_eq!(after(&back, &there).files, before.files);
}

#[test]
fn a_move_to_the_uplink_is_guarded_too_and_leaves_no_unit() {
    let (settings, fresh) = (settings(), on_systemd());
    let installed =
        after(&guarded(Plan::default(), &settings, &fresh, Some(Owner::Bridge)), &fresh);
    for before in [&fresh, &installed] {
        let plan = guarded(moving(), &settings, before, Some(Owner::Uplink));
        let said = words(&plan);
        let last = [format!("remove {WANTED}"), format!("remove {UNIT}")];
        assert_eq!(said[said.len() - 2..], last, "{said:?}");
        let there = after(&plan, before);
        assert_eq!(there.files, fresh.files);
        assert!(guarded(Plan::default(), &settings, &there, Some(Owner::Uplink)).is_empty());
    }
    let back = as_before(moving(), &fresh, &installed);
    let said = words(&back);
    assert!(said[0].starts_with(&format!("put {UNIT} back")), "{said:?}");
    assert_eq!(said[1], format!("link {WANTED} to {UNIT}"), "{said:?}");
    assert_eq!(after(&back, &fresh).files.len(), installed.files.len());
}

#[test]
fn leftovers_go_and_a_mask_stays() {
    let settings = settings();
    let mut observed = on_systemd();
    let half = FileState::Regular { mode: 0o600, size: 3, sha256: Digest::of(b"[Un") };
    observed.files.insert(staged_beside(UNIT), half);
    observed.files.insert(staged_beside(WANTED), FileState::Symlink { target: UNIT.into() });
    let plan = guarded(moving(), &settings, &observed, Some(Owner::Bridge));
    assert_eq!(after(&plan, &observed).files.len(), 3, "{plan}");

    let mut masked = on_systemd();
    masked.files.insert(UNIT.into(), FileState::Symlink { target: "/dev/null".into() });
    let plan = guarded(moving(), &settings, &masked, Some(Owner::Bridge));
    assert_eq!(words(&plan).len(), 2, "{plan}");
    assert!(plan.notes[0].contains("left as it is"), "{plan}");
}

#[test]
fn without_systemd_the_plan_says_what_to_run_and_who_wants_no_unit_gets_none() {
    let mut settings = settings();
    let plan = guarded(moving(), &settings, &held(), Some(Owner::Bridge));
    assert!(plan.notes[0].contains("restore --boot"), "{plan}");
    assert!(guarded(Plan::default(), &settings, &held(), Some(Owner::Bridge)).notes.is_empty());
    settings.switch.boot_unit = BootUnit::None;
    let plan = guarded(moving(), &settings, &on_systemd(), Some(Owner::Bridge));
    assert_eq!((words(&plan).len(), plan.notes.len()), (2, 0), "{plan}");
}
