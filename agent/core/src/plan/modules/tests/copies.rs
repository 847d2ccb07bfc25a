//! NSX's files where others install modules, without a record of NCP's.

use super::*;

const DKMS: &str = "/lib/modules/6.1.0-1+b-amd64/updates/dkms";
const BACKUP: &str = "/lib/modules/6.1.0-1+b-amd64/nsx/usr-ovs-kmod-backup";
const VERSION: &str = "2.17.2.22596735";

/// NCP's set in the place of Debian and Ubuntu, of the payload or of another build.
fn ncps(set: &str, version: &str) -> Machine {
    let mut machine = Machine::in_tree();
    machine.directory(&format!("{TREE}/updates"));
    machine.directory(DKMS);
    for stem in MODULE_STEMS {
        machine.module(&format!("{DKMS}/{stem}.ko"), set, stem);
        let facts = machine.observed.modules.facts.get_mut(&digest(set, stem)).unwrap();
        facts.identity.version = Some(version.into());
    }
    machine.observed.payload.as_mut().unwrap().manifest.modules[0].version = version.into();
    machine.boot();
    machine
}

#[test]
fn they_are_known_by_their_build_and_do_not_win_over_the_kernels_own() {
    for set in ["nsx", "rebuilt"] {
        let start = ncps(set, VERSION);
        assert_eq!(start.set(), ModuleState::Nsx, "{set}");
        let way_back = start.checkpoint();
        let mut machine = start.clone();
        machine.take(&machine.plan(Target::InTree, Activate::Live, None));
        assert_eq!(machine.set(), ModuleState::InTree, "{set}");
        assert!(machine.plan(Target::InTree, Activate::Live, None).is_empty(), "{set}");
        assert!(machine.observed.files.contains_key(DKMS), "the directory is not ours");
        machine.take(&machine.plan(Target::Before, Activate::Live, Some(&way_back)));
        machine.assert_is(&start, set);
    }
}

#[test]
fn every_crash_among_them_leads_on_and_back() {
    for target in [Target::InTree, Target::Payload] {
        let start = ncps("nsx", VERSION);
        let way_back = start.checkpoint();
        let plan = start.plan(target, Activate::Reboot, None);
        let mut done = start.clone();
        done.take(&plan);
        for cut in 0..=plan.steps().count() {
            let mut machine = start.clone();
            plan.steps().take(cut).for_each(|step| machine.step(step));
            let mut forward = machine.clone();
            forward.take(&machine.plan(target, Activate::Reboot, Some(&way_back)));
            forward.assert_is(&done, &format!("{target:?}, cut at {cut}"));
            machine.take(&machine.plan(Target::Before, Activate::Reboot, Some(&way_back)));
            machine.assert_is(&start, &format!("back, cut at {cut}"));
        }
    }
}

/// The user may have built an Open vSwitch of the same three numbers.
#[test]
fn a_version_without_a_build_is_no_witness() {
    let mut machine = ncps("dkms", "2.17.2");
    let start = machine.clone();
    assert_eq!(machine.set(), ModuleState::User);
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    machine.take(&machine.plan(Target::InTree, Activate::Reboot, None));
    assert_eq!(machine.set(), ModuleState::User);
    assert_eq!(machine.files(), start.files());
}

/// NCP keeps the user's files in its backup; without its record, its own file tells the place.
#[test]
fn the_users_go_back_to_where_ncps_file_lies() {
    let mut machine = ncps("nsx", VERSION);
    machine.directory(&format!("{TREE}/nsx"));
    machine.directory(BACKUP);
    for stem in MODULE_STEMS {
        machine.module(&format!("{BACKUP}/{stem}.ko"), "user", stem);
    }
    machine.boot();
    machine.take(&machine.plan(Target::InTree, Activate::Reboot, None));
    let at = |stem: &str| machine.observed.contents_at(&format!("{DKMS}/{stem}.ko"));
    for stem in MODULE_STEMS {
        assert_eq!(at(stem), Some(digest("user", stem)));
    }
    assert!(!machine.observed.files.contains_key(&format!("{TREE}/nsx")));
}
