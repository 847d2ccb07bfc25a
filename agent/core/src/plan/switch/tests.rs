use super::*;
use crate::checkpoint::CHECKPOINT_SCHEMA;
use crate::config::OVSDB;
use crate::goal::Goal;
use crate::model::{Datapath, Elsewhere, Link, Port};

/// A real node: NSX's modules, the addresses on the bridge; and an internal port beside.
fn node() -> Observed {
    let text = include_str!("../../../../../tests/golden/cases/10-switch-back/observed.json");
    let mut observed: Observed = serde_json::from_str(text).unwrap();
    let port = Port { name: "mgmt0".into(), kind: "internal".into(), ofport: Some(2), error: None };
    let database = observed.ovs.database.as_mut().unwrap();
    database.bridges[0].ports.push(port);
    database.bridges[0].ports[1].ofport = Some(7);
    observed.ovs.datapaths[0].vports.push("mgmt0".into());
    let link = Link {
        index: 77,
        name: "mgmt0".into(),
        kind: Some("openvswitch".into()),
        mac: Some("02:00:00:00:00:77".into()),
        mtu: 1400,
        up: true,
        ..Link::default()
    };
    let network = &mut observed.network;
    network.links.push(link);
    let mut address = network.addresses[1].clone();
    address.link = "mgmt0".into();
    address.ip = "192.168.77.1".parse().unwrap();
    address.label = Some("mgmt0".into());
    network.addresses.push(address);
    let mut route = network.routes[0].clone();
    route.destination = "192.168.78.0".parse().unwrap();
    (route.prefix_len, route.link) = (24, Some("mgmt0".into()));
    route.gateway = Some("192.168.77.9".parse().unwrap());
    network.routes.push(route);
    observed
}

fn settings(activate: Activate) -> Settings {
    let node = crate::config::Node {
        uplink: "eth1".into(),
        bridge: "br-int".into(),
        ovsdb: OVSDB.into(),
        accept: vec!["UplinkNotPersistent".into()],
        companions: Vec::new(),
    };
    let mut settings = Settings::bare(node);
    settings.switch.activate = activate;
    settings
}

fn profile(modules: ModulesChoice) -> Profile {
    Profile {
        modules,
        cni: CniChoice::Leave,
        addresses: AddressesChoice::Bridge,
        ovs: OvsRunner::Host,
        flows: FlowsChoice::Save,
    }
}

fn after(mut observed: Observed, steps: &[Step]) -> Observed {
    for step in steps {
        simulate(&mut observed, step);
    }
    observed
}

fn words(step: &Step) -> &'static str {
    match step {
        Step::Ovs(ovs::Step::SaveFlows { .. }) => "save",
        Step::Ovs(ovs::Step::HoldFlows) => "hold",
        Step::Ovs(ovs::Step::StopDaemons) => "stop",
        Step::Ovs(ovs::Step::StartDaemons) => "start",
        Step::Ovs(ovs::Step::RestoreFlows { .. }) => "restore",
        Step::Ovs(ovs::Step::ReleaseFlows) => "release",
        Step::Ovs(ovs::Step::RestorePort(_)) => "port",
        Step::Ovs(ovs::Step::AddPort { .. }) => "attach",
        Step::Modules(modules::Step::ProveDatapath) => "prove",
        Step::Modules(modules::Step::LoadModule { .. }) => "load",
        Step::Modules(modules::Step::RunDepmod { .. }) => "index",
        Step::File(_) => "file",
        Step::Handover(_) | Step::Ovs(_) | Step::Modules(_) | Step::Cni(_) => "",
    }
}

/// The telling steps, each run of equal ones once.
fn course(plan: &Plan) -> Vec<&'static str> {
    let mut course: Vec<&str> = plan.steps().map(words).filter(|word| !word.is_empty()).collect();
    course.dedup();
    course
}

#[test]
fn all_that_can_be_is_done_before_open_vswitch_stops() {
    let (settings, mut profile) = (settings(Activate::Live), profile(ModulesChoice::InTree));
    let plan = plan_switch(&settings, &profile, &node(), None).unwrap();
    let expected = [
        "file", "index", "save", "hold", "stop", "load", "start", "restore", "release", "prove",
        "attach", "port",
    ];
    let found = course(&plan);
    assert_eq!(found.iter().filter(|word| **word != "file").count(), expected.len() - 1);
    assert_eq!(found[..expected.len()], expected);
    let number = plan.steps().find_map(|step| {
        let Step::Ovs(ovs::Step::AddPort { ofport, .. }) = step else { return None };
        Some(*ofport)
    });
    assert_eq!(number, Some(Some(7)), "the flows know the uplink by its number");

    profile.flows = FlowsChoice::Controller;
    let plan = plan_switch(&settings, &profile, &node(), None).unwrap();
    let flows = ["save", "hold", "restore", "release"];
    assert!(!course(&plan).iter().any(|word| flows.contains(word)), "{plan}");
    assert!(course(&plan).contains(&"port"));
}

fn checkpoint(before: &Observed) -> Checkpoint {
    let before = before.clone();
    Checkpoint { schema: CHECKPOINT_SCHEMA, transaction: "x".into(), before }
}

/// What must not end with vswitchd.
fn assert_whole(found: &Observed, before: &Observed, what: &str) {
    let database = found.ovs.database.as_ref().unwrap();
    assert!(!database.restoring && !database.flow_restore_wait, "{what}");
    let of = |observed: &Observed| {
        let link = observed.network.link("mgmt0").unwrap().clone();
        let address = observed.network.addresses.iter().any(|a| a.link == "mgmt0");
        let route = observed.network.routes.iter().any(|r| r.link.as_deref() == Some("mgmt0"));
        (link.mac, link.mtu, link.up, address, route)
    };
    assert_eq!(of(found), of(before), "{what}");
    let number = |observed: &Observed| observed.ovs.bridge("br-int")?.port("eth1")?.ofport;
    assert_eq!(number(found), number(before), "{what}");
}

#[test]
fn from_wherever_it_stops_both_ends_are_reached_whole() {
    let (settings, profile) = (settings(Activate::Live), profile(ModulesChoice::InTree));
    let before = node();
    let plan = plan_switch(&settings, &profile, &before, None).unwrap();
    let steps: Vec<Step> = plan.steps().cloned().collect();
    let way_back = checkpoint(&before);
    let goal = Goal::Profile { name: "there".into(), profile: profile.clone() };
    for taken in 0..=steps.len() {
        let here = after(before.clone(), &steps[..taken]);
        let what = format!("after {taken} steps, the last of them: {:?}", steps[..taken].last());
        let stopped = steps[..taken].contains(&Step::Ovs(ovs::Step::StopDaemons));
        let waits = here.ovs.database.as_ref().or(here.ovs.stopped.as_ref()).unwrap().restoring;

        let harbour = Goal::plan_harbour(&settings, &here, &way_back).unwrap();
        let home = after(here.clone(), &harbour.steps().cloned().collect::<Vec<_>>());
        let back = goal.plan_back(&settings, &home, &way_back).unwrap();
        let restores = course(&back).contains(&"restore");
        assert!(!waits || restores, "{what}: the flows wait\n{back}");
        assert!(
            waits || !stopped || restores || !course(&back).contains(&"stop"),
            "{what}\n{back}"
        );
        let end = after(home, &back.steps().cloned().collect::<Vec<_>>());
        assert_whole(&end, &before, &format!("{what}, and back"));
        assert!(goal.plan_back(&settings, &end, &way_back).unwrap().is_empty(), "{what}");

        let forth = goal.plan(&settings, &here, Some(&way_back));
        // while Open vSwitch waits nothing is asked of it: the way back is the way
        let Ok(forth) = forth else { continue };
        let end = after(here, &forth.steps().cloned().collect::<Vec<_>>());
        assert_whole(&end, &before, &format!("{what}, and on"));
        assert!(goal.plan(&settings, &end, Some(&way_back)).unwrap().is_empty(), "{what}");
    }
}

#[test]
fn somebody_elses_wait_bridge_and_datapath_are_left_alone() {
    let (settings, profile) = (settings(Activate::Live), profile(ModulesChoice::InTree));
    let refused = |change: &dyn Fn(&mut Observed)| {
        let mut observed = node();
        change(&mut observed);
        plan_switch(&settings, &profile, &observed, None).unwrap_err()
    };
    let wait = refused(&|o| o.ovs.database.as_mut().unwrap().flow_restore_wait = true);
    assert_eq!((wait.reason, wait.transient), ("FlowRestoreWait", true));
    let held = refused(&|o| {
        let datapath = Datapath { name: "dp0".into(), vports: vec!["p0".into(), "p1".into()] };
        let namespace = "the network namespace red".into();
        o.ovs.elsewhere = vec![Elsewhere { namespace, datapaths: vec![datapath] }];
    });
    assert_eq!(held.reason, "ModuleInUse");
    let named = "the datapath dp0 with p0, p1 in the network namespace red";
    assert!(held.message.contains(named), "{}", held.message);
    let stuck = refused(&|o| o.modules.loaded[0].state = "going".into());
    assert_eq!(stuck.reason, "ModuleStuck");
    let bridge = refused(&|o| {
        let bridges = &mut o.ovs.database.as_mut().unwrap().bridges;
        let theirs = crate::model::Bridge { name: "br-x".into(), ..bridges[0].clone() };
        bridges[0].ports.retain(|port| port.name != "mgmt0");
        bridges.push(theirs);
    });
    assert_eq!(bridge.reason, "ForeignBridge");
}

#[test]
fn a_vswitchd_that_does_not_answer_is_noted() {
    let mut observed = node();
    observed.ovs.vswitchd_hangs = true;
    let profile = Profile { addresses: AddressesChoice::Uplink, ..profile(ModulesChoice::InTree) };
    let plan = plan_switch(&settings(Activate::Live), &profile, &observed, None).unwrap();
    assert!(!course(&plan).contains(&"save"), "{plan}");
    assert!(plan.notes.iter().any(|note| note.contains("cannot be saved")), "{plan}");
}

#[test]
fn while_one_is_staged_only_the_same_or_the_way_back() {
    let settings = settings(Activate::Reboot);
    let goal = |name: &str, modules| Goal::Profile {
        name: name.into(),
        profile: Profile { addresses: AddressesChoice::Leave, ..profile(modules) },
    };
    let before = node();
    let own = goal("own", ModulesChoice::InTree);
    let plan = own.plan(&settings, &before, None).unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("reboot")), "{plan}");
    let here = after(before.clone(), &plan.steps().cloned().collect::<Vec<_>>());
    let ask = |observed: &Observed, staged: Option<&Goal>, goal: &Goal| {
        let plan = goal.plan(&settings, observed, None).unwrap();
        refuse_while_staged(&settings, observed, staged, (goal, &plan))
    };
    assert_eq!(ask(&here, Some(&own), &own), Ok(()));
    let back = goal("nsx", ModulesChoice::Payload);
    assert_eq!(ask(&here, Some(&own), &back), Ok(()), "what is loaded is on disk again");
    // another profile of the same set, with something else to do
    let mut other = goal("other", ModulesChoice::InTree);
    if let Goal::Profile { profile, .. } = &mut other {
        profile.addresses = AddressesChoice::Uplink;
    }
    let refusal = ask(&here, Some(&own), &other).unwrap_err();
    assert_eq!(refusal.reason, "SwitchStaged");
    assert_eq!(ask(&here, None, &other), Ok(()), "nobody staged anything");
    assert_eq!(ask(&before, Some(&own), &other), Ok(()), "nothing waits for a reboot");
    assert_eq!(ask(&here, Some(&Goal::cni()), &other), Ok(()));

    // what is put into another kernel's tree, and what was put there
    let next = |kernel: &str| Goal::Modules {
        kernel: kernel.into(),
        target: modules::Target::InTree,
        activate: Activate::Reboot,
    };
    let mut plan = other.plan(&settings, &here, None).unwrap();
    plan.notes.clear();
    let asked = (&next("6.9.9-other"), &plan);
    assert_eq!(refuse_while_staged(&settings, &here, Some(&own), asked), Ok(()));
    let staged = next("6.9.9-other");
    assert_eq!(refuse_while_staged(&settings, &here, Some(&staged), (&other, &plan)), Ok(()));
    let asked = (&next(&here.host.kernel), &plan);
    assert!(refuse_while_staged(&settings, &here, Some(&own), asked).is_err());
}
