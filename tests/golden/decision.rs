//! What the agent decides for the golden nodes, by annotation and by what happened before.

use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::config::{Activate, AddressesChoice, CniChoice, Profile, Settings};
use pointsman_core::decision::{
    Attempt, Decision, Verdict, Watch, decide, decide_watching, done_with_kubelet,
};
use pointsman_core::keys::{Annotations, DESIRED_PROFILE, RETRY};
use pointsman_core::model::{Identity, Observed};
use pointsman_core::phase::End;
use pointsman_core::plan::modules::touches_memory;
use pointsman_core::plan::simulate;
use pointsman_core::report::State;
use std::fs;

const FRESH: &str = "09-switch-there";
const NSX: &str = "10-switch-back";

fn read(case: &str, file: &str) -> String {
    fs::read_to_string(format!("{}/golden/cases/{case}/{file}", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
}

fn node(case: &str) -> Observed {
    serde_json::from_str(&read(case, "observed.json")).unwrap()
}

fn settings() -> Settings {
    Settings::parse(&read(FRESH, "config.toml")).unwrap()
}

fn asked(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn attempt(request: &str, boot_id: &str, end: End) -> Attempt {
    Attempt {
        request: request.into(),
        boot_id: boot_id.into(),
        end,
        reason: "ModuleInUse".into(),
        message: "why".into(),
    }
}

fn report(decision: Decision) -> Verdict {
    match decision {
        Decision::Report(verdict) => verdict,
        Decision::Attempt { goal, .. } => panic!("an attempt at {goal}"),
    }
}

fn is_attempt(decision: &Decision) -> bool {
    matches!(decision, Decision::Attempt { .. })
}

#[test]
fn a_request_that_cannot_be_meant_is_refused_with_what_is_there() {
    let cases = [
        ("no-such", "UnknownProfile", "nsx-ovs, upstream-ovs"),
        ("UPPER", "BadRequest", "`UPPER` is no profile name"),
        ("nsx-ovs@sha256:000000000000", "ProfileDigestMismatch", "on this node"),
    ];
    for (request, reason, words) in cases {
        let annotations = asked(&[(DESIRED_PROFILE, request)]);
        let verdict = report(decide(&annotations, &settings(), &node(FRESH), None));
        assert_eq!((verdict.state, &*verdict.reason), (State::Refused, reason));
        assert!(verdict.message.contains(words), "{}", verdict.message);
        assert!(verdict.message.contains("nothing was changed"), "{}", verdict.message);
        assert_eq!(verdict.verified, None);
    }
}

#[test]
fn nobody_is_disrupted_unasked() {
    let mut settings = settings();
    let verdict = report(decide(&asked(&[]), &settings, &node(FRESH), None));
    assert_eq!((verdict.state, &*verdict.reason), (State::Pending, "NoRequest"));
    settings.default_profile = Some("nsx-ovs".into());
    let verdict = report(decide(&asked(&[]), &settings, &node(FRESH), None));
    assert_eq!((verdict.state, &*verdict.reason), (State::Pending, "NoRequest"));
    assert!(verdict.message.contains("nobody asked"), "{}", verdict.message);
    // but a default that is what the node has is verified without being asked for
    let verdict = report(decide(&asked(&[]), &settings, &node(NSX), None));
    assert_eq!(verdict.state, State::Done);
}

#[test]
fn a_request_gets_one_try_and_another_when_it_is_asked_again() {
    let (settings, node) = (settings(), node(FRESH));
    let boot = node.host.boot_id.clone();
    let annotations = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    assert!(is_attempt(&decide(&annotations, &settings, &node, None)));
    for (end, state) in [(End::RolledBack, State::RolledBack), (End::Degraded, State::Degraded)] {
        let last = attempt("nsx-ovs", &boot, end);
        let verdict = report(decide(&annotations, &settings, &node, Some(&last)));
        assert_eq!(
            (verdict.state, &*verdict.reason, &*verdict.message),
            (state, "ModuleInUse", "why")
        );
        let again = asked(&[(DESIRED_PROFILE, "nsx-ovs"), (RETRY, "2")]);
        assert!(is_attempt(&decide(&again, &settings, &node, Some(&last))));
        let other = asked(&[(DESIRED_PROFILE, "upstream-ovs")]);
        let elsewhere = decide(&other, &settings, &node, Some(&last));
        assert!(is_attempt(&elsewhere), "{elsewhere:?}");
    }
}

#[test]
fn done_is_what_a_look_shows_and_not_what_was_reached_once() {
    let settings = settings();
    let annotations = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    let verdict = report(decide(&annotations, &settings, &node(NSX), None));
    assert_eq!(verdict.state, State::Done);
    let id = verdict.verified.expect("verified");
    let pinned = asked(&[(DESIRED_PROFILE, &id.to_string())]);
    assert_eq!(report(decide(&pinned, &settings, &node(NSX), None)).state, State::Done);

    let drifted = node(FRESH);
    let reached = attempt("nsx-ovs", &drifted.host.boot_id, End::Reached);
    let verdict = report(decide(&annotations, &settings, &drifted, Some(&reached)));
    assert_eq!((verdict.state, &*verdict.reason), (State::Degraded, "ModulesDrifted"));
    let said = "the kernel now runs other modules than its set: openvswitch is in-tree (build id ";
    assert!(verdict.message.contains(said), "{}", verdict.message);
    // a new boot has made the network from the host's own configuration: that is no drift
    let reached = attempt("nsx-ovs", "another boot", End::Reached);
    assert!(is_attempt(&decide(&annotations, &settings, &drifted, Some(&reached))));
}

/// Within a minute of the switch it is put right, once; what only the checkpoint knows of too.
#[test]
fn a_foreign_change_is_put_right_once() {
    let settings = settings();
    let annotations = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    let (before, there) = (node(FRESH), node(NSX));
    let transaction = "t".into();
    let checkpoint = Checkpoint { schema: CHECKPOINT_SCHEMA, transaction, before };
    let reached = attempt("nsx-ovs", &there.host.boot_id, End::Reached);
    let decided = |now: &Observed, watch: Watch<'_>| {
        decide_watching(&annotations, &settings, now, Some(&reached), watch)
    };
    let minute = Watch { checkpoint: Some(&checkpoint), ..Watch::default() };
    assert_eq!(report(decided(&there, minute)).state, State::Done);
    let mut gone = there.clone();
    gone.network.addresses.retain(|a| !(a.link == "br-int" && a.ip.is_ipv4()));
    assert!(is_attempt(&decided(&gone, minute)));
    let after = Watch { repaired: Some("10.0.2.15/24 on br-int is gone"), ..minute };
    let verdict = report(decided(&gone, after));
    assert_eq!((verdict.state, &*verdict.reason), (State::Degraded, "ChangedBack"));
    for words in ["10.0.2.15/24 on br-int is gone", "by whom is unknown", "retry"] {
        assert!(verdict.message.contains(words), "{words} is not in {}", verdict.message);
    }
    let done = report(decided(&there, after));
    assert!(done.message.contains("put right once: 10.0.2.15/24"), "{}", done.message);
    // later it is a drift, and an attempt that failed or another boot is not watched
    let put_back = node(FRESH);
    let late = Watch::default();
    assert_eq!(report(decided(&put_back, late)).reason, "ModulesDrifted");
    let mut moved = there.clone();
    for address in &mut moved.network.addresses {
        if address.link == "br-int" {
            address.link = "eth1".into();
        }
    }
    assert_eq!(report(decided(&moved, late)).reason, "Drifted");
    let elsewhere = attempt("nsx-ovs", "another boot", End::Reached);
    assert!(is_attempt(&decide_watching(
        &annotations,
        &settings,
        &put_back,
        Some(&elsewhere),
        after
    )));
}

/// Files are read when a module is loaded: putting them right disturbs nobody.
#[test]
fn module_files_that_somebody_took_away_are_put_right_later_too() {
    let settings = settings();
    let annotations = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    let mut erased = node(NSX);
    erased.files.retain(|path, _| !path.contains("/weak-updates/openvswitch/"));
    let reached = attempt("nsx-ovs", &erased.host.boot_id, End::Reached);
    let decision = decide(&annotations, &settings, &erased, Some(&reached));
    let Decision::Attempt { goal, .. } = decision else { panic!("{decision:?}") };
    let plan = goal.plan(&settings, &erased, None).unwrap();
    assert!(!plan.is_empty() && !plan.steps().any(touches_memory), "{plan}");
    // and not fought over: a second time within the minute it is said who
    let after = Watch { repaired: Some("the files were gone"), ..Watch::default() };
    let decision = decide_watching(&annotations, &settings, &erased, Some(&reached), after);
    assert_eq!(report(decision).reason, "ChangedBack");
}

/// The set was on disk before this boot, and the kernel runs the other kind: a reboot is no help.
#[test]
fn the_other_set_in_memory_after_the_reboot_is_no_staged_one() {
    let text = read(FRESH, "config.toml").replace("activate = \"live\"", "activate = \"reboot\"");
    let settings = Settings::parse(&text).unwrap();
    let annotations = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    let mut exchanged = node(NSX);
    exchanged.modules.loaded = node(FRESH).modules.loaded;
    let staged = attempt("nsx-ovs", &exchanged.host.boot_id, End::Reached);
    let verdict = report(decide(&annotations, &settings, &exchanged, Some(&staged)));
    assert_eq!((verdict.state, &*verdict.reason), (State::RebootRequired, "ModulesStaged"));
    let before = attempt("nsx-ovs", "the boot before", End::Reached);
    let verdict = report(decide(&annotations, &settings, &exchanged, Some(&before)));
    assert_eq!((verdict.state, &*verdict.reason), (State::Degraded, "ModulesDrifted"));
    assert!(verdict.message.contains("initramfs"), "{}", verdict.message);
}

#[test]
fn a_staged_module_set_waits_for_the_reboot() {
    let text = read(FRESH, "config.toml")
        .replace("activate = \"live\"", "activate = \"reboot\"")
        .replace("addresses = \"bridge\"", "addresses = \"leave\"");
    let settings = Settings::parse(&text).unwrap();
    let mut node = node(FRESH);
    let annotations = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    let Decision::Attempt { goal, .. } = decide(&annotations, &settings, &node, None) else {
        panic!("no attempt");
    };
    let plan = goal.plan(&settings, &node, None).unwrap();
    for step in plan.steps() {
        simulate(&mut node, step);
    }
    let verdict = report(decide(&annotations, &settings, &node, None));
    assert_eq!((verdict.state, &*verdict.reason), (State::RebootRequired, "ModulesStaged"));
    assert!(verdict.message.contains("reboot the node"), "{}", verdict.message);
}

#[test]
fn how_the_try_ended_is_not_hidden_by_why_another_cannot_begin() {
    let mut node = node(FRESH);
    let boot = node.host.boot_id.clone();
    node.payload = None;
    let annotations = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    // the digest is of the payload too, but nothing is pinned here
    let verdict = report(decide(&annotations, &settings(), &node, None));
    assert_eq!((verdict.state, &*verdict.reason), (State::Refused, "NoPayload"));
    let last = attempt("nsx-ovs", &boot, End::Degraded);
    let verdict = report(decide(&annotations, &settings(), &node, Some(&last)));
    assert_eq!((verdict.state, &*verdict.reason), (State::Degraded, "ModuleInUse"));
}

/// From the change on disk to the kubelet after the reboot.
#[test]
fn a_staged_set_is_done_when_it_is_loaded_and_a_kubelet_runs() {
    let mut settings = settings();
    settings.switch.activate = Activate::Reboot;
    for profile in settings.profiles.values_mut() {
        (profile.addresses, profile.cni) = (AddressesChoice::Leave, CniChoice::Leave);
    }
    let annotations = asked(&[(DESIRED_PROFILE, "upstream-ovs")]);
    let before = node(NSX);
    let Decision::Attempt { goal, .. } = decide(&annotations, &settings, &before, None) else {
        panic!("no attempt");
    };
    let mut staged = before.clone();
    for step in goal.plan(&settings, &before, None).unwrap().steps() {
        simulate(&mut staged, step);
    }
    let last = attempt("upstream-ovs", &before.host.boot_id, End::Reached);
    let verdict = report(decide(&annotations, &settings, &staged, Some(&last)));
    assert_eq!((verdict.state, &*verdict.reason), (State::RebootRequired, "ModulesStaged"));

    // another profile, that is neither the staged one nor the one before
    let third =
        Profile { addresses: AddressesChoice::Uplink, ..settings.profiles["upstream-ovs"].clone() };
    settings.profiles.insert("third".into(), third);
    let other = asked(&[(DESIRED_PROFILE, "third")]);
    let watch = Watch { staged: Some(&goal), ..Watch::default() };
    let verdict = report(decide_watching(&other, &settings, &staged, Some(&last), watch));
    assert_eq!((verdict.state, &*verdict.reason), (State::Refused, "SwitchStaged"));
    assert!(verdict.message.contains("upstream-ovs"), "{}", verdict.message);
    let back = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    assert!(is_attempt(&decide_watching(&back, &settings, &staged, Some(&last), watch)));

    // the boot loads what the index chooses
    let mut booted = staged.clone();
    booted.host.boot_id = "another".into();
    booted.modules.loaded.clear();
    let verdict = report(decide(&annotations, &settings, &booted, Some(&last)));
    assert_eq!(verdict.state, State::Done);
    for (kubelet, state) in
        [(None, State::Done), (Some(true), State::Done), (Some(false), State::RebootRequired)]
    {
        booted.host.kubelet = kubelet;
        assert_eq!(done_with_kubelet(verdict.clone(), &booted).state, state);
    }
}

/// By name alone nothing is proven.
#[test]
fn a_module_without_identity_is_never_done() {
    let annotations = asked(&[(DESIRED_PROFILE, "nsx-ovs")]);
    let mut nameless = node(NSX);
    nameless.modules.loaded[0].identity = Identity::default();
    let verdict = report(decide(&annotations, &settings(), &nameless, None));
    assert_eq!(&*verdict.reason, "IdentityUnproven", "{}", verdict.message);
    assert_eq!(verdict.verified, None);
}

/// Nothing but a reboot takes away a module that does not go.
#[test]
fn a_stuck_module_asks_for_a_reboot() {
    let annotations = asked(&[(DESIRED_PROFILE, "upstream-ovs")]);
    let mut stuck = node(NSX);
    stuck.modules.loaded[0].state = "going".into();
    let verdict = report(decide(&annotations, &settings(), &stuck, None));
    assert_eq!((verdict.state, &*verdict.reason), (State::RebootRequired, "ModuleStuck"));
    let last = Attempt {
        reason: "ModuleStuck".into(),
        ..attempt("upstream-ovs", &stuck.host.boot_id, End::Degraded)
    };
    let verdict = report(decide(&annotations, &settings(), &node(NSX), Some(&last)));
    assert_eq!(verdict.state, State::RebootRequired);
}
