//! The decision table, row by row.

use super::*;

fn assert_row(scene: &Scene, expected: &[&str], note: Option<&str>) {
    let plan = plan(&scene.0);
    assert_eq!(steps(&plan), expected);
    match note {
        None => assert_eq!(plan.notes, Vec::<String>::new()),
        Some(word) => {
            assert!(plan.notes.iter().any(|note| note.starts_with(word)), "{:?}", plan.notes);
        }
    }
    let mut after = scene.0.clone();
    run(&mut after, &plan);
    assert!(plan_cni(&want(TO), &after, None).unwrap().is_empty());
}

#[test]
fn nothing_installed_is_installed_whole() {
    let expected = [
        "probe loopback",
        "probe nsx",
        "write loopback",
        "write nsx",
        "write 10-nsx.conflist",
        "write 99-loopback.conf",
    ];
    assert_row(&Scene::new(), &expected, None);
}

#[test]
fn missing_directories_are_made_parents_first() {
    let mut scene = Scene::new();
    scene.0.files.retain(|path, _| path == "/opt" || path == "/etc");
    let made = ["mkdir /opt/cni", "mkdir /opt/cni/bin", "mkdir /etc/cni", "mkdir /etc/cni/net.d"];
    assert_eq!(steps(&plan(&scene.0))[..4], made);
}

#[test]
fn the_legacy_configuration_goes_after_the_commit() {
    let scene = Scene::new()
        .file(NSX, 0o755, "nsx 2.5")
        .file(LOOPBACK, 0o755, "loopback")
        .file(LEGACY, 0o644, r#"{"type":"nsx","name":"nsx-cni"}"#)
        .file(LOOPBACK_CONF, 0o644, "lo");
    let expected = [
        "keep nsx",
        "keep 10-nsx.conf",
        "probe nsx",
        "write nsx",
        "write 10-nsx.conflist",
        "remove 10-nsx.conf",
    ];
    assert_row(&scene, &expected, None);
}

#[test]
fn an_older_version_is_updated_and_the_pair_is_left() {
    let expected =
        ["keep nsx", "keep 10-nsx.conflist", "probe nsx", "write nsx", "write 10-nsx.conflist"];
    assert_row(&Scene::older(), &expected, None);
    let untagged = r#"{"name":"nsx-cni","plugins":[{"type":"nsx"}]}"#;
    assert_row(&Scene::older().file(CONFLIST, 0o644, untagged), &expected, None);
}

#[test]
fn chained_plugins_that_go_are_told() {
    let chained =
        r#"{"name":"n","nsxBuildVersion":"4.1","plugins":[{"type":"nsx"},{"type":"portmap"}]}"#;
    let plan = plan(&Scene::older().file(CONFLIST, 0o644, chained).0);
    assert!(plan.notes[0].contains("portmap"), "{:?}", plan.notes);
}

#[test]
fn an_equal_version_with_equal_files_is_left() {
    assert_row(&Scene::installed(), &[], None);
}

#[test]
fn drift_is_repaired_file_by_file() {
    let nsx = ["keep nsx", "probe nsx", "write nsx"];
    assert_row(&Scene::installed().file(NSX, 0o755, "nsx 4.2 cut short"), &nsx, None);
    assert_row(&Scene::installed().file(NSX, 0o644, "nsx 4.2"), &nsx, None);
    assert_row(&Scene::installed().without(NSX), &["probe nsx", "write nsx"], None);
    let mode = ["keep 10-nsx.conflist", "write 10-nsx.conflist"];
    assert_row(&Scene::installed().file(CONFLIST, 0o600, &conflist("4.2")), &mode, None);
    assert_row(&Scene::installed().without(LOOPBACK), &["probe loopback", "write loopback"], None);
    assert_row(&Scene::installed().without(LOOPBACK_CONF), &["write 99-loopback.conf"], None);
}

#[test]
fn a_hand_edited_conflist_of_the_same_version_is_left() {
    let edited = r#"{"name":"mine","nsxBuildVersion":"4.2.0","plugins":[{"type":"nsx"},{"type":"portmap"}]}"#;
    let scene = Scene::installed().file(CONFLIST, 0o600, edited);
    assert_row(&scene, &[], Some("HandEdited: /etc/cni/net.d/10-nsx.conflist"));
    let drifted = scene.file(NSX, 0o755, "other");
    assert_row(&drifted, &["keep nsx", "probe nsx", "write nsx"], Some("HandEdited"));
}

#[test]
fn a_newer_version_is_left_with_everything_around_it() {
    let scene = Scene::new().file(CONFLIST, 0o644, &conflist("4.10")).file(LEGACY, 0o644, "{");
    assert_row(&scene, &[], Some("InstalledNewer"));
    assert!(plan(&scene.0).notes[1].starts_with("RivalConfig"));
}

#[test]
fn a_tag_that_is_no_version_and_a_garbled_conflist_are_replaced() {
    let expected =
        ["keep nsx", "keep 10-nsx.conflist", "probe nsx", "write nsx", "write 10-nsx.conflist"];
    let tagged = Scene::older().file(CONFLIST, 0o644, &conflist("4.2-rc1"));
    assert_row(&tagged, &expected, Some("UnknownVersion"));
    for garbled in ["", "{\"name\":", "\u{0}", r#"{"name":"n","plugins":[]}"#, r#"{"type":"nsx"}"#]
    {
        let scene = Scene::older().file(CONFLIST, 0o644, garbled);
        assert_row(&scene, &expected, Some("Garbled"));
    }
}

#[test]
fn somebody_elses_configuration_is_refused() {
    let other =
        r#"{"name":"n","nsxBuildVersion":"4.1","plugins":[{"type":"calico"},{"type":"nsx"}]}"#;
    let refused = refusal(&Scene::older().file(CONFLIST, 0o644, other));
    assert_eq!(refused.reason, "ConflistNotOurs");
    assert!(refused.message.contains("`calico`"), "{refused}");
    let refused = refusal(&Scene::installed().file(LEGACY, 0o644, r#"{"type":"flannel"}"#));
    assert_eq!(refused.reason, "ConflistNotOurs");
    assert!(refused.message.contains("10-nsx.conf "), "{refused}");
}

#[test]
fn a_target_that_is_no_file_is_refused_and_the_pair_is_left() {
    let link = || FileState::Symlink { target: "/x".into() };
    for state in [link(), FileState::Directory, FileState::Other] {
        for path in [NSX, CONFLIST, LEGACY] {
            let refused = refusal(&Scene::installed().with(path, state.clone()));
            assert_eq!(refused.reason, "TargetNotAFile");
            assert!(refused.message.starts_with(path), "{refused}");
        }
    }
    for state in [link(), FileState::Other] {
        assert_eq!(refusal(&Scene::new().with("/opt/cni", state)).reason, "TargetNotAFile");
    }
    // distributions link it to their own package's
    assert_row(&Scene::installed().with(LOOPBACK, link()), &[], None);
    assert_row(
        &Scene::installed().with(LOOPBACK, FileState::Directory),
        &[],
        Some("LoopbackBroken"),
    );
    assert_row(&Scene::installed().file(LOOPBACK, 0o644, "x"), &[], Some("LoopbackBroken"));
    assert_row(&Scene::installed().file(LOOPBACK, 0o755, ""), &[], Some("LoopbackBroken"));
}

#[test]
fn a_payload_that_cannot_be_used_is_refused() {
    let mut scene = Scene::new();
    scene.0.payload_fault = Some("/payload is not there".into());
    let payload = scene.0.payload.take().unwrap();
    let refused = refusal(&scene);
    assert_eq!(refused.reason, "NoPayload");
    assert!(refused.message.contains("/payload is not there"), "{refused}");

    let with = |change: &dyn Fn(&mut Payload)| {
        let mut scene = Scene::new();
        let mut changed = payload.clone();
        change(&mut changed);
        scene.0.payload = Some(changed);
        refusal(&scene.reads("{").reads(r#"{"name":"n","plugins":[{"type":"x"}]}"#)).reason
    };
    assert_eq!(with(&|p| p.manifest.cni = None), "NoPayload");
    let cni = |p: &mut Payload, change: &dyn Fn(&mut CniPayload)| {
        change(p.manifest.cni.as_mut().unwrap());
    };
    assert_eq!(with(&|p| cni(p, &|c| drop(c.files.remove(&CniRole::Nsx)))), "NoPayload");
    assert_eq!(
        with(&|p| drop(p.faults.insert("cni/nsx".into(), "missing".into()))),
        "PayloadCorrupt"
    );
    let says = |text: &'static str| {
        with(&|p| {
            cni(p, &|c| {
                c.files.get_mut(&CniRole::Conflist).unwrap().sha256 = Digest::of(text.as_bytes());
            });
        })
    };
    assert_eq!(says("never read"), "PayloadCorrupt");
    assert_eq!(says("{"), "PayloadCorrupt");
    assert_eq!(says(r#"{"name":"n","plugins":[{"type":"x"}]}"#), "PayloadCorrupt");
    for version in ["4.3", "4.2-rc1", ""] {
        assert_eq!(with(&|p| cni(p, &|c| c.version = version.into())), "BadPayloadVersion");
    }
    // a fault of the other half of the payload is the other half's
    let mut scene = Scene::new();
    let faults = &mut scene.0.payload.as_mut().unwrap().faults;
    faults.insert("modules/x.ko".into(), "missing".into());
    assert_eq!(steps(&plan(&scene.0)).len(), 6);
}

#[test]
fn a_configuration_that_changes_while_read_is_waited_for() {
    let mut scene = Scene::older();
    scene.0.cni.readings.clear();
    let refused = refusal(&scene.reads(&conflist("4.2")));
    assert_eq!((refused.reason, refused.transient), ("ConflictingWriter", true));
}

#[test]
fn a_configuration_that_sorts_first_is_told() {
    let scene = Scene::installed()
        .with("/etc/cni/net.d/05-cilium.conflist", FileState::Symlink { target: "x".into() });
    assert_row(&scene, &[], Some("RivalConfig: /etc/cni/net.d/05-cilium.conflist"));
    let places = Places::of(&Paths::default());
    assert_eq!(first_config(&scene.0, &places), Some("05-cilium.conflist"));
    let installed = Scene::installed()
        .file("/etc/cni/net.d/100-crio-bridge.conflist", 0o644, "x")
        .file("/etc/cni/net.d/00-note.bak", 0o644, "x")
        .with("/etc/cni/net.d/00-d.conf", FileState::Directory);
    assert_eq!(first_config(&installed.0, &places), Some("10-nsx.conflist"));
    assert_eq!(installed_version(&installed.0, &places).unwrap().to_string(), "4.2");
    assert_row(&installed, &[], None);
}

#[test]
fn leftovers_of_a_killed_run_are_swept() {
    let scene = Scene::installed().file("/opt/cni/bin/.nsx.pointsman.tmp", 0o755, "x");
    assert_row(&scene, &["remove .nsx.pointsman.tmp"], None);
    let back = checkpoint(&Scene::installed().0);
    let plan = plan_cni(&want(BEFORE), &scene.0, Some(&back)).unwrap();
    assert_eq!(steps(&plan), ["remove .nsx.pointsman.tmp"]);
}

#[test]
fn an_observation_and_its_plan_survive_json() {
    let scene = Scene::older();
    let text = serde_json::to_string(&scene.0).unwrap();
    let observed: Observed = serde_json::from_str(&text).unwrap();
    assert_eq!(observed, scene.0);
    let text = serde_json::to_string(&plan(&observed)).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan(&scene.0));
}
