//! The way back, and ways cut short.

use super::*;

#[test]
fn the_way_back_is_the_mirror_of_the_way_there() {
    let before = Scene::new().file(NSX, 0o755, "nsx 2.5").file(
        LEGACY,
        0o644,
        r#"{"type":"nsx","name":"nsx-cni"}"#,
    );
    let mut after = before.0.clone();
    run(&mut after, &plan(&before.0));
    let back = plan_cni(&want(BEFORE), &after, Some(&checkpoint(&before.0))).unwrap();
    let expected = [
        "remove 99-loopback.conf",
        "write 10-nsx.conf",
        "remove 10-nsx.conflist",
        "write nsx",
        "remove loopback",
    ];
    assert_eq!(steps(&back), expected);
    assert_eq!(back.notes, Vec::<String>::new());
}

#[test]
fn what_others_wrote_since_is_left_or_kept() {
    let before = Scene::older().without(LOOPBACK).without(LOOPBACK_CONF);
    let mut after = before.0.clone();
    run(&mut after, &plan(&before.0));
    let after = Scene(after).file(LOOPBACK, 0o755, "somebody's loopback").file(
        CONFLIST,
        0o644,
        &conflist("4.2.1"),
    );
    let back = plan_cni(&want(BEFORE), &after.0, Some(&checkpoint(&before.0))).unwrap();
    let expected =
        ["keep 10-nsx.conflist", "remove 99-loopback.conf", "write 10-nsx.conflist", "write nsx"];
    assert_eq!(steps(&back), expected.map(String::from));
    assert!(back.notes.iter().any(|n| n.starts_with("LeftInPlace: /opt/cni/bin/loopback")));
    assert!(back.notes.iter().any(|n| n.starts_with("ForeignContent: /etc/cni/net.d/10")));
}

#[test]
fn what_the_installation_left_alone_the_way_back_leaves_alone() {
    let before = Scene::older();
    let mut after = before.0.clone();
    run(&mut after, &plan(&before.0));
    // in no store: the installation never replaces the pair
    let after = Scene(after).file(LOOPBACK, 0o755, "changed since").without(LOOPBACK_CONF);
    let back = plan_cni(&want(BEFORE), &after.0, Some(&checkpoint(&before.0))).unwrap();
    assert_eq!(steps(&back), ["write 10-nsx.conflist", "write nsx"]);
    assert_eq!(back.notes.len(), 2);
}

#[test]
fn a_plugin_that_is_missing_is_back_before_its_configuration() {
    let before = Scene::older();
    let mut after = before.0.clone();
    run(&mut after, &plan(&before.0));
    let after = Scene(after).without(NSX);
    let back = plan_cni(&want(BEFORE), &after.0, Some(&checkpoint(&before.0))).unwrap();
    assert_eq!(steps(&back), ["write nsx", "write 10-nsx.conflist"]);
}

#[test]
fn there_is_no_way_back_without_a_checkpoint() {
    let refused = plan_cni(&want(BEFORE), &Scene::new().0, None).unwrap_err();
    assert_eq!(refused.reason, "NoCheckpoint");
}

/// Every scene that can be installed over.
fn scenes() -> Vec<Scene> {
    let legacy = r#"{"type":"nsx","name":"nsx-cni"}"#;
    vec![
        Scene::new(),
        Scene::installed(),
        Scene::older(),
        Scene::older().without(LOOPBACK).without(LOOPBACK_CONF),
        Scene::older().file(LEGACY, 0o640, legacy),
        Scene::new().file(LEGACY, 0o640, legacy).file(NSX, 0o700, "nsx 2.5"),
        Scene::installed().file(LEGACY, 0o640, "{"),
        Scene::installed().file(NSX, 0o644, "nsx 4.2"),
        Scene::installed().file(NSX, 0o755, "drift").without(LOOPBACK),
        Scene::older().file(CONFLIST, 0o644, "garbage"),
        Scene::older().file(CONFLIST, 0o644, &conflist("x")).without(NSX),
        Scene::installed().file(CONFLIST, 0o600, &conflist("4.2")),
        Scene::new().file(LOOPBACK_CONF, 0o600, "user's lo"),
    ]
}

#[test]
fn cut_short_anywhere_it_ends_well_both_ways() {
    for (number, scene) in scenes().into_iter().enumerate() {
        let before = scene.0;
        let whole = plan(&before);
        let mut target = before.clone();
        run(&mut target, &whole);
        let back = checkpoint(&before);
        for cut in 0..=whole.steps().count() {
            let mut half = before.clone();
            whole.steps().take(cut).for_each(|step| crate::plan::simulate(&mut half, step));

            let mut forward = half.clone();
            run(&mut forward, &plan(&half));
            assert_eq!(files(&forward), files(&target), "scene {number} forward after {cut}");
            assert!(plan(&forward).is_empty());

            let way = plan_cni(&want(BEFORE), &half, Some(&back)).unwrap();
            for second in 0..=way.steps().count() {
                let mut there = half.clone();
                way.steps().take(second).for_each(|step| crate::plan::simulate(&mut there, step));
                let rest = plan_cni(&want(BEFORE), &there, Some(&back)).unwrap();
                run(&mut there, &rest);
                assert_eq!(
                    files(&there),
                    files(&before),
                    "scene {number} back after {cut}, {second}"
                );
                let left = plan_cni(&want(BEFORE), &there, Some(&back)).unwrap();
                assert!(left.is_empty() && left.notes.is_empty(), "{left}");
            }
        }
    }
}

#[test]
fn a_runtime_never_finds_the_wrong_default() {
    let places = Places::of(&Paths::default());
    for (number, scene) in scenes().into_iter().enumerate() {
        let before = scene.0;
        let mut now = before.clone();
        let there = plan(&before);
        let mut after = before.clone();
        run(&mut after, &there);
        let back = plan_cni(&want(BEFORE), &after, Some(&checkpoint(&before))).unwrap();
        let allowed = [first_config(&before, &places), first_config(&after, &places)];
        for step in there.steps().chain(back.steps()) {
            crate::plan::simulate(&mut now, step);
            let first = first_config(&now, &places);
            assert!(allowed.contains(&first), "scene {number}, after `{step}`: {first:?}");
            let names_nsx = matches!(first, Some("10-nsx.conf" | "10-nsx.conflist"));
            let had_none = !before.files.contains_key(NSX);
            assert!(
                !names_nsx || now.files.contains_key(NSX) || had_none,
                "scene {number}: {step}"
            );
        }
    }
}
