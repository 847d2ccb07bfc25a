//! What the user has changed in the conflist, and what else only the ledger can tell.

use super::*;
use crate::model::Ledger;
use serde_json::{Value, json};

/// A conflist with more to change.
fn rich(version: &str, mtu: u32) -> String {
    let value = json!({
        "cniVersion": "1.0.0", "name": "nsx-cni", "nsxBuildVersion": version,
        "plugins": [{"type": "nsx", "mtu": mtu}, {"type": "portmap"}],
    });
    format!("{value}\n")
}

/// With a payload of version 4.2 whose conflist is this.
fn bringing(scene: Scene, text: &str) -> Scene {
    let mut scene = scene.reads(text);
    let payload = scene.0.payload.as_mut().unwrap();
    let files = &mut payload.manifest.cni.as_mut().unwrap().files;
    files.get_mut(&CniRole::Conflist).unwrap().sha256 = Digest::of(text.as_bytes());
    scene
}

/// Version 4.1 installed by Pointsman, and then edited.
fn edited(change: &dyn Fn(&str) -> String) -> Scene {
    let base = rich("4.1", 1500);
    let mut scene = Scene::older().file(CONFLIST, 0o644, &change(&base));
    scene.0.cni.ledger =
        Some(Ledger { version: "4.1".into(), base: Some(base), ..Ledger::default() });
    bringing(scene, &rich("4.2", 1600))
}

fn after(scene: &Scene) -> (Value, Plan, Observed) {
    let there = plan(&scene.0);
    let mut after = scene.0.clone();
    run(&mut after, &there);
    let left = plan(&after);
    assert!(left.is_empty(), "{left}");
    let sha256 = after.files[CONFLIST].sha256().unwrap();
    (serde_json::from_str(&after.cni.texts[&sha256]).unwrap(), there, after)
}

#[test]
fn an_older_version_that_nobody_edited_becomes_the_payloads_as_it_is() {
    let (now, there, _) = after(&edited(&str::to_owned));
    assert_eq!(now, serde_json::from_str::<Value>(&rich("4.2", 1600)).unwrap());
    assert_eq!(there.notes, Vec::<String>::new());
    let whole = steps(&there);
    assert!(there.to_string().contains("from the payload's cni/10-nsx.conflist"), "{there}");
    assert_eq!(whole.last().unwrap(), "write 10-nsx.conflist");
}

#[test]
fn an_older_version_that_was_edited_keeps_the_users_part() {
    let scene = edited(&|text| {
        text.replace("\"name\"", "\"site\":1.50,\"name\"")
            .replace("{\"type\":\"portmap\"}", "{\"type\":\"portmap\"},{\"type\":\"tuning\"}")
    });
    let (now, there, after) = after(&scene);
    assert_eq!(now["nsxBuildVersion"], "4.2");
    assert_eq!(
        (now["site"].to_string().as_str(), &now["plugins"][2]["type"]),
        ("1.50", &json!("tuning"))
    );
    assert_eq!(now["plugins"][0]["mtu"], 1600);
    assert!(
        there
            .notes
            .iter()
            .any(|n| n.starts_with("HandEdited: ") && n.contains("site, plugins[tuning]")),
        "{:?}",
        there.notes
    );
    assert_eq!(after.cni.ledger.as_ref().unwrap().base, Some(rich("4.2", 1600)));
    // and survives the next version too, and a payload that changed without a new version
    let next = bringing(Scene(after), &rich("4.2", 1700));
    let (now, _, after) = self::after(&next);
    assert_eq!((&now["plugins"][0]["mtu"], now["site"].to_string()), (&json!(1700), "1.50".into()));
    let sha256 = after.files[CONFLIST].sha256().unwrap();
    assert!(after.cni.texts[&sha256].starts_with("{\n  \"cniVersion\""), "the order of keys");
}

#[test]
fn where_both_changed_the_same_the_payloads_wins_and_it_is_told() {
    let (now, there, _) = after(&edited(&|text| text.replace("1500", "9000")));
    assert_eq!(now["plugins"][0]["mtu"], 1600);
    assert!(there.notes[0].starts_with("EditOverruled: "), "{:?}", there.notes);
    assert!(there.notes[0].ends_with("plugins[nsx].mtu"), "{:?}", there.notes);
    assert_eq!(steps(&there)[..2], ["keep nsx", "keep 10-nsx.conflist"]);
}

#[test]
fn a_tag_that_was_taken_away_comes_back_and_the_rest_stays() {
    let untagged = |text: &str| {
        text.replace("\"nsxBuildVersion\":\"4.1\",", "").replace("\"name\"", "\"site\":1,\"name\"")
    };
    let (now, _, _) = after(&edited(&untagged));
    assert_eq!((&now["nsxBuildVersion"], &now["site"]), (&json!("4.2"), &json!(1)));
}

#[test]
fn an_edit_of_the_installed_version_is_told_and_not_touched() {
    let (_, _, after) = after(&edited(&str::to_owned));
    let text = rich("4.2", 1600).replace("\"portmap\"", "\"portmap\",\"snat\":true");
    let scene = Scene(after).file(CONFLIST, 0o600, &text);
    let there = plan(&scene.0);
    assert!(there.is_empty(), "{there}");
    assert!(there.notes[0].contains("plugins[portmap].snat"), "{:?}", there.notes);
}

#[test]
fn the_mode_of_a_merged_conflist_is_put_right_and_its_contents_stay() {
    let scene = edited(&|text| text.replace("\"name\"", "\"site\":1,\"name\""));
    let (now, _, after) = after(&scene);
    let state = after.files[CONFLIST].clone();
    let sha256 = state.sha256().unwrap();
    let drifted = FileState::Regular { mode: 0o600, size: 1, sha256 };
    let (again, there, _) = self::after(&Scene(after).with(CONFLIST, drifted));
    assert_eq!(
        (now, steps(&there)),
        (again, vec!["keep 10-nsx.conflist".into(), "write 10-nsx.conflist".into()])
    );
}

#[test]
fn a_plan_cut_short_before_the_commit_keeps_the_former_base() {
    let scene = edited(&|text| text.replace("\"name\"", "\"site\":1,\"name\""));
    let (whole, there, _) = after(&scene);
    for cut in 0..=there.steps().count() {
        let mut half = scene.0.clone();
        there.steps().take(cut).for_each(|step| crate::plan::simulate(&mut half, step));
        assert_eq!(after(&Scene(half)).0, whole, "after {cut}");
    }
}

#[test]
fn a_newer_version_is_replaced_on_request_only() {
    let scene = Scene::installed().file(CONFLIST, 0o644, &conflist("4.10"));
    assert!(plan(&scene.0).is_empty());
    let consent = Consent { downgrade: true, ..Consent::default() };
    let want = Want { consent, ..want(TO) };
    let there = plan_cni(&want, &scene.0, None).unwrap();
    assert_eq!(steps(&there), ["keep 10-nsx.conflist", "write 10-nsx.conflist"]);
    assert!(there.notes[0].starts_with("Downgrade: "), "{:?}", there.notes);
}

#[test]
fn the_loopback_pair_is_replaced_on_request_only() {
    let scene = Scene::installed().file(LOOPBACK, 0o755, "other").file(LOOPBACK_CONF, 0o600, "lo");
    assert!(plan(&scene.0).is_empty());
    let consent = Consent { loopback: true, ..Consent::default() };
    let want = Want { consent, ..want(TO) };
    let there = plan_cni(&want, &scene.0, None).unwrap();
    let expected = [
        "keep loopback",
        "keep 99-loopback.conf",
        "probe loopback",
        "write loopback",
        "write 99-loopback.conf",
    ];
    assert_eq!(steps(&there), expected);
    let mut faulty = Scene::installed();
    faulty.0.cni.faults.insert(LOOPBACK.into(), "is cut short".into());
    let note = &plan(&faulty.0).notes[0];
    assert!(note.starts_with("LoopbackBroken: /opt/cni/bin/loopback is cut short"), "{note}");
}
