//! The way back of a handover, and what is found open: barred, cut short, or with Open vSwitch gone.

use crate::{executor, make_nic};
use pointsman::apply::Executor;
use pointsman::deadman::DeadMan;
use pointsman::journal::{Journal, Record};
use pointsman::transaction::{Outcome, Progress, Site};
use pointsman_core::config::Settings;
use pointsman_core::goal::Goal;
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::handover::Owner;
use std::path::PathBuf;
use support::netns::Peer;
use support::ovs::{OvsFixture, command};

const THERE: Goal = Goal::Handover { to: Owner::Bridge, delete_bridge: false };

/// Takes the NIC away when it is about to be attached.
struct Thief;

impl Progress for Thief {
    fn tell(&self, phase: Phase, words: &str) {
        if phase == Phase::Applying && words.starts_with("make nic0 a port") {
            command(&["ip", "link", "set", "nic0", "name", "stolen0"]);
        }
    }
}

struct Nobody;

impl Progress for Nobody {
    fn tell(&self, _: Phase, _: &str) {}
}

/// A NIC with an address and a gateway behind it, Open vSwitch, and a journal.
struct Bed {
    ovs: OvsFixture,
    gateway: Peer,
    settings: Settings,
    executor: Executor,
    journal: Journal,
    deadman: DeadMan,
    state: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let ovs = OvsFixture::start();
        make_nic("nic0");
        let gateway = Peer::start();
        gateway.takes("nic0-peer");
        gateway.ip("address add 192.0.2.1/24 dev nic0-peer");
        command(&["ip", "address", "add", "192.0.2.7/24", "dev", "nic0"]);
        command(&["ip", "route", "add", "default", "via", "192.0.2.1"]);
        ovs.vsctl(&["add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev"]);
        let socket = ovs.socket();
        let text = format!(
            "[node]\nuplink = \"nic0\"\novsdb = \"unix:{}\"\naccept = [\"UplinkNotPersistent\"]\n\
             [switch]\nconfirm_timeout = \"3s\"\n",
            socket.display()
        );
        let settings = Settings::parse(&text).unwrap();
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::open(state.path()).unwrap();
        let program: PathBuf = support::program::release("pointsman").unwrap();
        let deadman = DeadMan::of_program(program);
        let executor = executor(&socket);
        Self { ovs, gateway, settings, executor, journal, deadman, state }
    }

    fn site<'a>(&'a self, progress: &'a (dyn Progress + Sync)) -> Site<'a> {
        Site {
            settings: &self.settings,
            executor: &self.executor,
            journal: &self.journal,
            progress,
            deadman: &self.deadman,
            api: None,
        }
    }

    fn go(&self, goal: &Goal) {
        let outcome = self.site(&Nobody).carry_out(goal, None).unwrap();
        assert_eq!(outcome.end, End::Reached, "{outcome:?}");
    }

    fn record(&self) -> Record {
        self.journal.read().unwrap().unwrap()
    }

    /// As if the agent had ended after the last step and before it closed the record.
    fn interrupt(&self) {
        let record = Record { phase: Phase::Applying, ..self.record() };
        self.journal.write(&record).unwrap();
    }

    fn recover(&self) -> Outcome {
        self.site(&Nobody).recover().unwrap().expect("an open transaction").1
    }

    /// Which link has the address.
    fn owner(&self) -> String {
        let found = command(&["ip", "-o", "-4", "address", "show", "to", "192.0.2.7"]);
        found.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }
}

#[test]
fn a_harbour_that_is_out_of_reach_is_tried_again_at_the_next_start() {
    let bed = Bed::new();
    let outcome = bed.site(&Thief).carry_out(&THERE, None).unwrap();
    assert_eq!(outcome.end, End::Degraded, "{outcome:?}");
    let message = outcome.failure.unwrap().message;
    assert!(message.contains("trying again"), "{message}");
    assert!(bed.record().is_open());
    // still out of reach
    assert_eq!(bed.recover().end, End::Degraded);
    assert!(bed.record().is_open());

    command(&["ip", "link", "set", "stolen0", "name", "nic0"]);
    let outcome = bed.recover();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert!(!bed.record().is_open());
    assert!(bed.state.path().join("disarmed").exists(), "and the dead-man is relieved");
    assert_eq!(bed.owner(), "nic0");
    assert_eq!(bed.ovs.vsctl(&["list-ports", "br-int"]), "");
}

#[test]
fn a_goal_that_is_found_reached_counts_only_with_the_gateway_that_answered_before() {
    let bed = Bed::new();
    bed.go(&THERE);
    assert_eq!(bed.owner(), "br-int");
    bed.interrupt();
    assert_eq!(bed.recover().end, End::Reached);
    assert_eq!(bed.owner(), "br-int");

    bed.interrupt();
    bed.gateway.ip("link set nic0-peer down");
    let outcome = bed.recover();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.reason, "GatewayUnreachable", "{failure:?}");
    assert!(failure.message.contains("192.0.2.1"), "{failure:?}");
    assert_eq!(bed.owner(), "nic0");
}
