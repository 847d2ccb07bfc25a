//! Toward what was there before the first installation.

use super::*;

const ABSENT: Target = Target::To(Toward::Absent);

fn installed_over(before: &Scene) -> Scene {
    let mut after = before.0.clone();
    run(&mut after, &plan(&before.0));
    Scene(after)
}

fn undo(scene: &Scene) -> Plan {
    plan_cni(&want(ABSENT), &scene.0, None).unwrap()
}

fn forced(scene: &Scene) -> Plan {
    let consent = Consent { force: true, ..Consent::default() };
    plan_cni(&Want { consent, ..want(ABSENT) }, &scene.0, None).unwrap()
}

fn undone(scene: &Scene, way: &Plan) -> Scene {
    let mut after = scene.0.clone();
    run(&mut after, way);
    Scene(after)
}

#[test]
fn what_was_there_first_is_back_however_often_it_was_installed_since() {
    let legacy = r#"{"type":"nsx","name":"nsx-cni"}"#;
    for before in [
        Scene::new(),
        Scene::older(),
        Scene::new().file(LEGACY, 0o640, legacy).file(NSX, 0o700, "nsx 2.5"),
    ] {
        let once = installed_over(&before);
        // somebody breaks it, and it is put right: that is no new origin
        let drifted = Scene(once.0.clone()).file(NSX, 0o755, "broken");
        let twice = installed_over(&drifted);
        assert_eq!(files(&once.0), files(&twice.0));
        let way = undo(&twice);
        let after = undone(&twice, &way);
        assert_eq!(files(&after.0), files(&before.0), "{way}");
        assert_eq!(after.0.cni.ledger.as_ref().unwrap().files.len(), 0);
        assert_eq!(way.notes, Vec::<String>::new());
        let left = undo(&after);
        assert!(left.is_empty(), "{left}");
        // and the way back of the undo itself
        let back = checkpoint(&twice.0);
        let before_undo =
            plan_cni(&want(Target::Before(Toward::Absent)), &after.0, Some(&back)).unwrap();
        let again = undone(&after, &before_undo);
        assert_eq!(files(&again.0), files(&twice.0), "{before_undo}");
        assert_eq!(again.0.cni.ledger, twice.0.cni.ledger);
    }
}

#[test]
fn the_order_is_that_of_the_installation_reversed() {
    let way = undo(&installed_over(&Scene::new()));
    let expected = [
        "keep 99-loopback.conf",
        "keep 10-nsx.conflist",
        "keep nsx",
        "keep loopback",
        "remove 99-loopback.conf",
        "remove 10-nsx.conflist",
        "remove nsx",
        "remove loopback",
    ];
    assert_eq!(steps(&way), expected);
    let last = way.steps().last().unwrap().to_string();
    assert_eq!(last, "note that nothing is Pointsman's own");
}

#[test]
fn what_pointsman_never_wrote_is_left() {
    assert!(undo(&Scene::older()).is_empty());
    // the state directory was lost: what holds exactly the payload's is ours, the pair is not
    assert!(undo(&Scene::installed()).is_empty());
    let lost = forced(&Scene::installed());
    assert_eq!(steps(&lost)[2..], ["remove 10-nsx.conflist", "remove nsx"]);
    assert!(forced(&Scene::installed().without(CONFLIST)).is_empty());
}

#[test]
fn what_others_wrote_since_is_left_and_told_unless_forced() {
    let other = r#"{"name":"n","plugins":[{"type":"calico"}]}"#;
    let scene = installed_over(&Scene::older()).file(CONFLIST, 0o644, other);
    let way = undo(&scene);
    assert_eq!(steps(&way), ["keep nsx", "write nsx"]);
    assert!(
        way.notes[0].starts_with("LeftInPlace: /etc/cni/net.d/10-nsx.conflist"),
        "{:?}",
        way.notes
    );
    let way = forced(&scene);
    assert_eq!(
        steps(&way),
        ["keep 10-nsx.conflist", "keep nsx", "write 10-nsx.conflist", "write nsx"]
    );
    assert_eq!(files(&undone(&scene, &way).0), files(&Scene::older().0));
}

#[test]
fn a_configuration_that_was_edited_keeps_everything_that_it_needs() {
    let mine = conflist("4.2").replace("}]}", "},{\"type\":\"tuning\"}]}");
    let scene = installed_over(&Scene::new()).file(CONFLIST, 0o644, &mine);
    let way = undo(&scene);
    assert!(way.is_empty(), "{way}");
    assert!(way.notes.iter().any(|note| note.starts_with("StillConfigured: ")), "{:?}", way.notes);
    let after = undone(&scene, &forced(&scene));
    assert_eq!(files(&after.0), files(&Scene::new().0));
}

#[test]
fn a_plugin_stays_while_pods_are_attached_by_it() {
    let mut scene = installed_over(&Scene::new());
    scene.0.cni.attachments = vec!["nsx-cni-0123-eth0".into()];
    let way = undo(&scene);
    assert_eq!(steps(&way)[2..], ["remove 99-loopback.conf", "remove 10-nsx.conflist"]);
    assert!(way.notes[0].starts_with("PluginNeeded: /opt/cni/bin/nsx stays"), "{:?}", way.notes);
    let mut half = undone(&scene, &way);
    assert!(undo(&half).is_empty());
    let kept: Vec<&String> = half.0.cni.ledger.as_ref().unwrap().files.keys().collect();
    assert_eq!(kept, [LOOPBACK, NSX]);
    half.0.cni.attachments.clear();
    let way = undo(&half);
    assert_eq!(steps(&way)[2..], ["remove nsx", "remove loopback"]);
    assert_eq!(undone(&half, &way).0.cni.ledger.unwrap().files.len(), 0);
    assert_eq!(steps(&forced(&scene)).len(), 8);
}

#[test]
fn loopback_stays_while_another_configuration_may_need_it() {
    let scene = installed_over(&Scene::new()).file("/etc/cni/net.d/20-other.conf", 0o644, "x");
    let way = undo(&scene);
    assert!(!steps(&way).contains(&"remove loopback".into()), "{way}");
    assert!(way.notes[0].contains("20-other.conf may need it"), "{:?}", way.notes);
}

#[test]
fn an_undo_that_comes_late_does_not_undo_a_newer_installation() {
    let mut scene = installed_over(&Scene::new());
    scene.0.payload.as_mut().unwrap().manifest.cni.as_mut().unwrap().version = "4.1".into();
    let refused = plan_cni(&want(ABSENT), &scene.0, None).unwrap_err();
    assert_eq!(refused.reason, "UndoOutdated", "{refused}");
    assert!(!forced(&scene).is_empty());
    // an agent without a payload is nobody's successor
    scene.0.payload = None;
    assert!(!undo(&scene).is_empty());
}

#[test]
fn cut_short_anywhere_the_undo_ends_the_same() {
    let scene = installed_over(&Scene::older().without(LOOPBACK));
    let whole = undo(&scene);
    let target = undone(&scene, &whole);
    let back = checkpoint(&scene.0);
    for cut in 0..=whole.steps().count() {
        let mut half = scene.0.clone();
        whole.steps().take(cut).for_each(|step| crate::plan::simulate(&mut half, step));
        let rest = plan_cni(&want(ABSENT), &half, None).unwrap();
        assert_eq!(files(&undone(&Scene(half.clone()), &rest).0), files(&target.0), "after {cut}");
        let way = plan_cni(&want(Target::Before(Toward::Absent)), &half, Some(&back)).unwrap();
        let there = undone(&Scene(half), &way);
        assert_eq!(
            (files(&there.0), &there.0.cni.ledger),
            (files(&scene.0), &scene.0.cni.ledger),
            "after {cut}"
        );
    }
}
