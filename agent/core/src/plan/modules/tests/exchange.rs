//! The set changes as a whole, and nothing of the user's is ever the only copy.

use super::*;

const SET: &str = "/lib/modules/6.1.0-1+b-amd64/weak-updates/openvswitch";

/// What the executor sees to.
pub(super) fn check(machine: &Machine, step: &crate::plan::Step) {
    let crate::plan::Step::Modules(step) = step else { return };
    let files = &machine.observed.files;
    match step {
        Step::Put { path, source, sha256, .. } => {
            assert!(*source != Source::Store || machine.store.contains(sha256), "{step}");
            let same = machine.observed.contents_at(path) == Some(*sha256);
            assert!(!files.contains_key(path) || same || machine.is_kept(path), "{step}");
            assert!(files.contains_key(path.rsplit_once('/').unwrap().0), "{step}");
        }
        Step::MakeStaging { path, .. } => assert!(!files.contains_key(path), "{step}"),
        Step::Exchange { path, staged, leaves, brings } => {
            assert_eq!((&names(machine, path), &names(machine, staged)), (leaves, brings));
        }
        Step::CheckUnheld { .. }
        | Step::RunDepmod { .. }
        | Step::CheckIndex { .. }
        | Step::UnloadModule { .. }
        | Step::LoadModule { .. }
        | Step::CheckLoaded { .. }
        | Step::ProveDatapath => {}
    }
}

fn names(machine: &Machine, directory: &str) -> BTreeSet<String> {
    assert_eq!(machine.observed.files[directory], FileState::Directory, "{directory}");
    let entries = overrides::entries(&machine.observed, directory);
    entries.map(|(name, _)| name.to_owned()).collect()
}

/// What depmod finds in the set's place.
fn set_of(machine: &Machine) -> Vec<(String, Option<Digest>)> {
    let entries = overrides::entries(&machine.observed, SET);
    let contents = |name: &str| machine.observed.contents_at(&format!("{SET}/{name}"));
    entries.map(|(name, _)| (name.to_owned(), contents(name))).collect()
}

fn exchanges(plan: &Plan) -> usize {
    let exchange =
        |s: &&crate::plan::Step| matches!(s, crate::plan::Step::Modules(Step::Exchange { .. }));
    plan.steps().filter(exchange).count()
}

#[test]
fn between_any_two_steps_the_set_is_whole() {
    for (name, start, _) in Machine::starts() {
        for target in [Target::Payload, Target::InTree] {
            let plan = start.plan(target, Activate::Reboot, None);
            let mut done = start.clone();
            done.take(&plan);
            let (old, new) = (set_of(&start), set_of(&done));
            let strangers = old.iter().any(|(name, _)| name == "other.ko");
            assert_eq!(exchanges(&plan), usize::from(old != new && !strangers), "{name}");
            let mut machine = start.clone();
            for step in plan.steps() {
                machine.step(step);
                let set = set_of(&machine);
                assert!(strangers || set == old || set == new, "{name} to {target:?}: {step}");
            }
        }
    }
}

/// In the store or on the host, in whatever place.
#[test]
fn the_users_files_exist_at_every_moment() {
    for (name, start, _) in Machine::starts() {
        let users: Vec<Digest> = MODULE_STEMS.iter().map(|stem| digest("user", stem)).collect();
        let has = |machine: &Machine, digest: &Digest| {
            let mut held = machine.observed.files.values().filter_map(FileState::sha256);
            machine.store.contains(digest) || held.any(|held| held == *digest)
        };
        let there: Vec<&Digest> = users.iter().filter(|d| has(&start, d)).collect();
        for target in [Target::Payload, Target::InTree] {
            let mut machine = start.clone();
            for step in start.plan(target, Activate::Reboot, None).steps() {
                machine.step(step);
                assert!(there.iter().all(|digest| has(&machine, digest)), "{name}: {step}");
            }
        }
    }
}

#[test]
fn what_a_crash_left_beside_the_trees_is_removed() {
    let staged = staging("/lib/modules", KERNEL);
    for target in [Target::Payload, Target::InTree] {
        let mut machine = Machine::user_alone();
        machine.take(&machine.plan(target, Activate::Reboot, None));
        let done = machine.clone();
        machine.directory(&staged);
        machine.module(&format!("{staged}/openvswitch.ko"), "user", "openvswitch");
        let half = format!("{staged}/.vport-stt.ko.pointsman.tmp");
        machine.observed.files.insert(half, regular(Digest::of(b"half")));
        machine.take(&machine.plan(target, Activate::Reboot, None));
        machine.assert_is(&done, "swept");
        assert!(machine.plan(target, Activate::Reboot, None).is_empty());
    }
}

/// What cannot be by our hand stays, and keeps nobody from a switch.
#[test]
fn a_stranger_beside_the_trees_stays_and_the_set_goes_file_by_file() {
    let staged = staging("/lib/modules", KERNEL);
    let mut machine = Machine::user_alone();
    machine.directory(&staged);
    machine.directory(&format!("{staged}/somebody's"));
    let plan = machine.plan(Target::Payload, Activate::Reboot, None);
    assert_eq!(exchanges(&plan), 0);
    machine.take(&plan);
    assert!(machine.plan(Target::Payload, Activate::Reboot, None).is_empty());
    assert_eq!(machine.set(), ModuleState::Nsx);
    assert!(machine.observed.files.contains_key(&format!("{staged}/somebody's")));
}

#[test]
fn the_staging_directory_is_beside_the_trees_and_none_of_them() {
    let staged = staging("/lib/modules", KERNEL);
    let name = staged.strip_prefix("/lib/modules/").unwrap();
    assert!(!name.contains('/') && !is_release(name), "{name}");
}
