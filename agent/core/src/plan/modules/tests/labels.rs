//! Owners and labels go with the files, and come back with them.

use super::*;

const SET: &str = "/lib/modules/6.1.0-1+b-amd64/weak-updates/openvswitch";
const MODULES: &str = "system_u:object_r:modules_object_t:s0";

fn attributes(label: &str) -> Attributes {
    Attributes { label: Some(label.into()), ..Attributes::default() }
}

/// The user's own set on a host with `SELinux`, one file of it with a label and an owner of its own.
pub(super) fn labelled() -> Machine {
    let mut machine = Machine::user_alone();
    let paths: Vec<String> =
        machine.observed.files.keys().filter(|path| module_stem(path).is_some()).cloned().collect();
    for path in paths {
        machine.observed.modules.attributes.insert(path, attributes(MODULES));
    }
    let odd = Attributes { uid: 7, gid: 8, ..attributes("user_u:object_r:mine_t:s0") };
    machine.observed.modules.attributes.insert(format!("{SET}/vport-gre.ko"), odd);
    let closed = Attributes { mode: Some(0o750), ..attributes(MODULES) };
    machine.observed.modules.attributes.insert(SET.into(), closed);
    machine
}

#[test]
fn a_new_file_takes_the_label_of_the_one_that_it_replaces() {
    let mut machine = labelled();
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    let label = |path: &str| machine.observed.attributes_at(path).label.unwrap();
    assert_eq!(label(&format!("{SET}/openvswitch.ko")), MODULES);
    assert_eq!(label(&format!("{SET}/vport-gre.ko")), "user_u:object_r:mine_t:s0");
    // there was no such file: its neighbours' label
    assert_eq!(label(&format!("{SET}/vport-stt.ko")), MODULES);
    assert_eq!(machine.observed.attributes_at(&format!("{SET}/vport-gre.ko")).uid, 0);
    assert_eq!(machine.observed.attributes_at(SET).mode, Some(0o750));
    let kept = format!("{TREE}/nsx/usr-ovs-kmod-backup/vport-gre.ko");
    assert_eq!(machine.observed.attributes_at(&kept).gid, 8, "the user's own in the backup");
}

#[test]
fn where_the_user_had_no_set_the_kernels_own_have_the_label() {
    let mut machine = Machine::in_tree();
    let own = format!("{TREE}/kernel/net/openvswitch/vport-geneve.ko");
    machine.observed.modules.attributes.insert(own, attributes(MODULES));
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    for stem in MODULE_STEMS {
        let label = machine.observed.attributes_at(&format!("{SET}/{stem}.ko")).label;
        assert_eq!(label.as_deref(), Some(MODULES), "{stem}");
    }
}

#[test]
fn an_owner_or_a_label_that_somebody_changed_is_put_right() {
    let mut machine = labelled();
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    let done = machine.clone();
    let way_back = labelled().checkpoint();
    let changed = Attributes { uid: 9, ..attributes("system_u:object_r:tmp_t:s0") };
    machine.observed.modules.attributes.insert(format!("{SET}/vport-stt.ko"), changed);
    assert!(!machine.plan(Target::Payload, Activate::Reboot, Some(&way_back)).is_empty());
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, Some(&way_back)));
    machine.assert_is(&done, "put right");
}

/// One that was written before there were attributes in it.
#[test]
fn a_checkpoint_without_labels_leads_back_all_the_same() {
    let start = labelled();
    let mut old = start.clone();
    old.observed.modules.attributes.clear();
    let way_back = old.checkpoint();
    let mut machine = start.clone();
    machine.take(&machine.plan(Target::Payload, Activate::Reboot, None));
    machine.take(&machine.plan(Target::Before, Activate::Reboot, Some(&way_back)));
    assert!(machine.plan(Target::Before, Activate::Reboot, Some(&way_back)).is_empty());
    assert_eq!(machine.files(), start.files());
}
