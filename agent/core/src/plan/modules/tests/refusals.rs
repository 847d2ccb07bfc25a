use super::*;

/// What is changed on a host with the kernel's own modules, and a word of the message.
struct Case {
    reason: &'static str,
    change: fn(&mut Machine),
    word: &'static str,
}

fn case(reason: &'static str, word: &'static str, change: fn(&mut Machine)) -> Case {
    Case { reason, change, word }
}

fn assert_refused(target: Target, activate: Activate, cases: Vec<Case>) {
    for Case { reason, change, word } in cases {
        let mut machine = Machine::in_tree();
        change(&mut machine);
        let refusal = machine.refusal(target, activate);
        assert_eq!(refusal.reason, reason, "{refusal}");
        assert!(refusal.message.contains(word), "{refusal}");
        assert!(!refusal.transient);
    }
}

fn set(machine: &mut Machine) -> &mut ModuleSet {
    &mut machine.observed.payload.as_mut().unwrap().manifest.modules[0]
}

fn facts<'a>(machine: &'a mut Machine, stem: &str) -> &'a mut ModuleFacts {
    machine.observed.modules.facts.get_mut(&digest("nsx", stem)).unwrap()
}

#[test]
fn a_payload_that_is_not_whole() {
    let cases = vec![
        case("NoPayload", "name the payload's directory", |m| m.observed.payload = None),
        case("NoPayload", "no manifest.toml in /p", |m| {
            m.observed.payload = None;
            m.observed.payload_fault = Some("no manifest.toml in /p".into());
        }),
        case("NoPayloadForKernel", "4.4.0", |m| set(m).kernels = vec!["4.4.0".into()]),
        case("PayloadCorrupt", "truncated", |m| {
            let faults = &mut m.observed.payload.as_mut().unwrap().faults;
            faults.insert("modules/vport-gre.ko".into(), "truncated".into());
        }),
        case("PayloadCorrupt", "vport-stt", |m| {
            set(m).files.remove("vport-stt");
        }),
        case("PayloadCorrupt", "build id 00", |m| {
            set(m).files.get_mut("vport-gre").unwrap().build_id = "00".into();
        }),
        case("PayloadCorrupt", "calls itself e1000", |m| {
            facts(m, "vport-gre").name = Some("e1000".into());
        }),
        case("PayloadCorrupt", "the file is empty", |m| {
            facts(m, "vport-gre").fault = Some("the file is empty".into());
        }),
        case("PayloadCorrupt", "was not read", |m| {
            m.observed.modules.facts.remove(&digest("nsx", "vport-gre"));
        }),
        case("VermagicMismatch", "7 mod", |m| {
            m.observed.modules.kernels[0].vermagic = Some("7 mod".into());
        }),
        case("VermagicMismatch", "none", |m| facts(m, "vport-gre").vermagic = None),
        case("VermagicUnknown", "could be read", |m| m.observed.modules.kernels[0].vermagic = None),
    ];
    assert_refused(Target::Payload, Activate::Reboot, cases);
}

#[test]
fn a_tree_that_cannot_take_the_payload() {
    let cases = vec![
        case("KernelMissing", KERNEL, |m| m.observed.modules.kernels.clear()),
        case("ModuleBuiltin", "openvswitch", |m| {
            m.observed.modules.kernels[0].builtin = vec!["openvswitch".into()];
        }),
        case("CompetingCopy", "kernel/net/openvswitch/openvswitch.ko", |m| {
            let text = "override openvswitch * kernel/net/openvswitch";
            let sha256 = Digest::of(text.as_bytes());
            m.observed.modules.depmod.insert(sha256, parse_depmod(text));
            m.observed.files.insert("/lib/depmod.d/zzz.conf".into(), regular(sha256));
        }),
        case("NotRegular", "not a regular file", |m| {
            let path = format!("{TREE}/weak-updates/openvswitch/openvswitch.ko");
            m.observed.files.insert(path, FileState::Other);
        }),
        case("NotRegular", "not a directory", |m| {
            let link = FileState::Symlink { target: "/elsewhere".into() };
            m.observed.files.insert(format!("{TREE}/weak-updates"), link);
        }),
    ];
    assert_refused(Target::Payload, Activate::Reboot, cases);
}

#[test]
fn a_tree_without_one_set_to_go_back_to() {
    let cases = vec![
        case("KernelMissing", OTHER, |m| {
            m.observed.modules.kernels.remove(0);
        }),
        case("UpstreamMissing", "extra modules", |m| {
            m.observed.files.remove(&format!("{TREE}/kernel/net/openvswitch/openvswitch.ko"));
        }),
        case("CompetingCopy", "updates/vport-gre.ko", |m| {
            m.module(&format!("{TREE}/updates/vport-gre.ko"), "user", "vport-gre");
        }),
        case("CompetingCopy", "nsx/old/openvswitch.ko", |m| {
            m.module(&format!("{TREE}/nsx/old/openvswitch.ko"), "user", "openvswitch");
        }),
        case("SetMixed", "`7 mod`", |m| {
            let facts = m.observed.modules.facts.get_mut(&digest("own", "vport-gre")).unwrap();
            facts.vermagic = Some("7 mod".into());
        }),
        case("UserspaceIncompatible", "vport-stt", |m| {
            m.observed.ovs.database = Some(with_port("stt"));
        }),
    ];
    assert_refused(Target::InTree, Activate::Reboot, cases);
}

fn with_port(kind: &str) -> OvsDatabase {
    let port = Port { name: "tun0".into(), kind: kind.into(), ..Port::default() };
    let bridge = Bridge { name: "br-tun".into(), ports: vec![port], ..Bridge::default() };
    OvsDatabase { bridges: vec![bridge], ..OvsDatabase::default() }
}

#[test]
fn tunnels_that_a_newer_open_vswitch_gave_up_are_a_note() {
    let mut machine = Machine::in_tree();
    machine.observed.ovs.database = Some(with_port("geneve"));
    for (version, noted) in [("3.1.0", false), ("4.0.0", true)] {
        machine.observed.ovs.database.as_mut().unwrap().version = Some(version.into());
        let plan = machine.plan(Target::Payload, Activate::Reboot, None);
        let notes = plan.notes.join("\n");
        assert_eq!(notes.contains("UserspaceIncompatible: Open vSwitch 4.0.0"), noted, "{notes}");
    }
}

#[test]
fn a_loaded_module_that_cannot_be_exchanged() {
    let cases = vec![
        case("ModuleInUse", "ovs-system", |m| {
            let name = "ovs-system".into();
            m.observed.ovs.datapaths.push(Datapath { name, vports: Vec::new() });
        }),
        case("ModuleInUse", "foreign", |m| {
            m.observed.modules.loaded[0].holders = vec!["vport_geneve".into(), "foreign".into()];
        }),
        case("IdentityUnproven", "openvswitch", |m| {
            m.observed.modules.loaded[0].identity = Identity::default();
        }),
        case("ModulesDisabled", "activate reboot", |m| {
            m.observed.modules.footing.policy.modules_disabled = true;
        }),
        case("KernelNotRunning", KERNEL, |m| m.observed.modules.kernels[0].running = false),
    ];
    assert_refused(Target::Payload, Activate::Live, cases);
}

#[test]
fn going_back_without_a_checkpoint_is_refused() {
    let refusal = Machine::in_tree().refusal(Target::Before, Activate::Reboot);
    assert_eq!(refusal.reason, "NoCheckpoint");
}
