//! Flows, groups, meters and TLV maps outlive the vswitchd that held them.

use crate::bed::{Bed, THERE};
use crate::*;
use pointsman_core::error::chain;
use pointsman_core::goal::Goal;
use pointsman_core::phase::End;
use pointsman_core::plan::handover::Owner;
use std::process::Command;
use support::ovs::{OvsFixture, command};

const PARTS: [&[&str]; 4] = [
    &["dump-tlv-map"],
    &["dump-meters"],
    &["dump-groups"],
    &["--no-stats", "--no-names", "dump-flows"],
];

struct Bench {
    ovs: OvsFixture,
    store: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let bench = Self { ovs: OvsFixture::start(), store: tempfile::tempdir().unwrap() };
        bench.apply(add_bridge("br-int"));
        bench
    }

    fn executor(&self) -> Executor {
        Executor { store: self.store.path().to_owned(), ..executor(&self.ovs.socket()) }
    }

    fn try_apply(&self, step: OvsStep) -> Result<(), ApplyError> {
        self.executor().apply(&Step::Ovs(step))
    }

    fn apply(&self, step: OvsStep) {
        self.try_apply(step)
            .unwrap_or_else(|error| panic!("{}\n{}", chain(&error), self.ovs.logs()));
    }

    fn ofctl(&self, words: &[&str], operands: &[&str]) -> String {
        let socket = format!("unix:{}/br-int.mgmt", self.ovs.directory().display());
        let output = Command::new("ovs-ofctl")
            .args(["-O", "OpenFlow15"])
            .args(words)
            .arg(&socket)
            .args(operands)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?} {operands:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// All that the bridge holds, as another program says it.
    fn held(&self) -> String {
        let lines = PARTS.iter().flat_map(|words| {
            let text = self.ofctl(words, &[]);
            text.lines()
                .filter(|line| !line.contains("xid="))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn fill(&self) {
        self.ofctl(&["add-tlv-map"], &["{class=0xffff,type=1,len=4}->tun_metadata0"]);
        self.ofctl(&["add-tlv-map"], &["{class=0xffff,type=2,len=8}->tun_metadata3"]);
        for meter in [
            "meter=1 kbps burst stats bands=type=drop rate=1000 burst_size=100",
            "meter=7 pktps bands=type=drop rate=5",
        ] {
            self.ofctl(&["add-meter"], &[meter]);
        }
        self.ofctl(
            &["add-group"],
            &["group_id=5,type=select,bucket=weight:3,output:1,bucket=output:2"],
        );
        self.ofctl(&["add-group"], &["group_id=9,type=all,bucket=group:5"]);
        for flow in [
            "table=0,priority=100,ip,nw_src=10.0.0.0/8,actions=meter:1,group:9",
            "table=3,cookie=0xabc,tun_metadata0=0x5,actions=set_field:7->tun_metadata3,NORMAL",
            "table=4,priority=7,in_port=1,actions=learn(table=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])",
        ] {
            self.ofctl(&["add-flow"], &[flow]);
        }
    }
}

fn database(bench: &Bench) -> pointsman_core::model::OvsDatabase {
    observe(&bench.ovs.socket()).database.unwrap()
}

#[test]
fn all_that_a_bridge_holds_is_there_again_after_its_vswitchd() {
    let mut bench = Bench::start();
    bench.fill();
    let before = bench.held();
    for word in ["tun_metadata3", "meter=7", "group_id=9", "learn(", "cookie=0xabc", "NORMAL"] {
        assert!(before.contains(word), "{word}: {before}");
    }
    bench.apply(OvsStep::SaveFlows { bridges: vec!["br-int".into()] });
    assert_eq!(bench.held(), before, "saving changes nothing");
    bench.apply(OvsStep::HoldFlows);
    let held = database(&bench);
    assert!(held.restoring && held.flow_restore_wait);

    bench.ovs.kill_vswitchd();
    bench.ovs.start_vswitchd();
    let empty = bench.held();
    assert!(!empty.contains("group_id") && !empty.contains("learn"), "{empty}");
    // put back twice: a crash may be in between
    for _ in 0..2 {
        bench.apply(OvsStep::RestoreFlows { bridge: "br-int".into() });
        assert_eq!(bench.held(), before);
    }
    bench.apply(OvsStep::ReleaseFlows);
    bench.apply(OvsStep::ReleaseFlows);
    let free = database(&bench);
    assert!(!free.restoring && !free.flow_restore_wait);
    assert_eq!(std::fs::read_dir(bench.store.path().join("openflow")).unwrap().count(), 0);
    assert_eq!(bench.held(), before);
}

#[test]
fn a_bridge_of_an_old_protocol_is_saved_as_far_as_it_has_something() {
    let mut bench = Bench::start();
    bench.ovs.vsctl(&["set", "bridge", "br-int", "protocols=OpenFlow10"]);
    let socket = format!("unix:{}/br-int.mgmt", bench.ovs.directory().display());
    let flows = || support::ovs::command(&["ovs-ofctl", "dump-flows", "--no-stats", &socket]);
    support::ovs::command(&["ovs-ofctl", "add-flow", &socket, "priority=3,arp,actions=drop"]);
    bench.apply(OvsStep::SaveFlows { bridges: vec!["br-int".into()] });
    bench.ovs.kill_vswitchd();
    bench.ovs.start_vswitchd();
    assert!(!flows().contains("arp"), "{}", flows());
    bench.apply(OvsStep::RestoreFlows { bridge: "br-int".into() });
    assert!(flows().contains("priority=3,arp actions=drop"), "{}", flows());
}

#[test]
fn a_wait_of_somebody_else_is_not_ended_and_a_silent_bridge_is_told() {
    let mut bench = Bench::start();
    bench.ovs.vsctl(&["set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true"]);
    bench.apply(OvsStep::ReleaseFlows);
    let found = database(&bench);
    assert!(found.flow_restore_wait && !found.restoring);
    bench.ovs.kill_vswitchd();
    let error = bench.try_apply(OvsStep::SaveFlows { bridges: vec!["br-int".into()] }).unwrap_err();
    assert_eq!(pointsman_core::error::Reasoned::reason(&error), "FlowsNotSaved");
    assert!(chain(&error).contains("br-int"), "{}", chain(&error));
}

#[test]
fn a_port_that_comes_back_has_its_number() {
    let bench = Bench::start();
    for nic in ["nic0", "nic1"] {
        make_nic(nic);
    }
    bench.apply(OvsStep::AddPort {
        bridge: "br-int".into(),
        port: "nic0".into(),
        ofport: Some(42),
    });
    let number = |nic| bench.ovs.vsctl(&["get", "Interface", nic, "ofport"]);
    assert_eq!(number("nic0"), "42");
    assert_eq!(bench.ovs.vsctl(&["get", "Interface", "nic0", "ofport_request"]), "[]");
    bench.apply(add_port("br-int", "nic1"));
    assert_eq!((number("nic0"), number("nic1")), ("42".into(), "1".into()));
}

/// What a power cut in the middle of an exchange leaves: flows on disk, the wait in the database
/// (it need not have been synced, and often is), and after the boot a vswitchd that waits.
#[test]
fn a_wait_that_a_power_cut_left_is_seen_and_ended_by_whatever_comes_next() {
    for goal in [THERE, Goal::Handover { to: Owner::Uplink, delete_bridge: false }] {
        let mut bed = Bed::new();
        let socket = format!("unix:{}/br-int.mgmt", bed.ovs.directory().display());
        let flows = || command(&["ovs-ofctl", "dump-flows", "--no-stats", &socket]);
        command(&[
            "ovs-ofctl",
            "add-flow",
            &socket,
            "priority=3,arp,dl_src=02:00:00:00:00:99,actions=drop",
        ]);
        for step in [OvsStep::SaveFlows { bridges: vec!["br-int".into()] }, OvsStep::HoldFlows] {
            bed.apply(step);
        }
        bed.ovs.kill_vswitchd();
        bed.ovs.start_vswitchd();
        assert!(!flows().contains("priority=3"), "{}", flows());
        assert_eq!(
            bed.ovs.vsctl(&["get", "Open_vSwitch", ".", "other_config"]),
            "{flow-restore-wait=\"true\"}"
        );
        bed.go(&goal);
        assert_eq!(bed.ovs.vsctl(&["get", "Open_vSwitch", ".", "other_config"]), "{}");
        assert_eq!(bed.ovs.vsctl(&["get", "Open_vSwitch", ".", "external_ids"]), "{}");
        assert!(flows().contains("priority=3"), "{}", flows());
    }
}

#[test]
fn a_transaction_that_a_power_cut_left_with_a_wait_ends_without_it() {
    let mut bed = Bed::new();
    bed.go(&THERE);
    let socket = format!("unix:{}/br-int.mgmt", bed.ovs.directory().display());
    let flows = || command(&["ovs-ofctl", "dump-flows", "--no-stats", &socket]);
    command(&[
        "ovs-ofctl",
        "add-flow",
        &socket,
        "priority=3,arp,dl_src=02:00:00:00:00:99,actions=drop",
    ]);
    for step in [OvsStep::SaveFlows { bridges: vec!["br-int".into()] }, OvsStep::HoldFlows] {
        bed.apply(step);
    }
    bed.interrupt();
    bed.ovs.kill_vswitchd();
    bed.ovs.start_vswitchd();
    let outcome = bed.recover();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert_eq!(bed.ovs.vsctl(&["get", "Open_vSwitch", ".", "other_config"]), "{}");
    assert!(flows().contains("priority=3"), "{}", flows());
    assert_eq!(bed.owner(), "nic0");
}
