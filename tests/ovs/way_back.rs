//! A handover whose way back is barred: the journal stays open until the harbour is reached.

use crate::{executor, make_nic};
use pointsman::deadman::DeadMan;
use pointsman::journal::Journal;
use pointsman::transaction::{Progress, Site};
use pointsman_core::config::Settings;
use pointsman_core::goal::Goal;
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::handover::Owner;
use support::ovs::{OvsFixture, command};

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

#[test]
fn a_harbour_that_is_out_of_reach_is_tried_again_at_the_next_start() {
    let ovs = OvsFixture::start();
    make_nic("nic0");
    command(&["ip", "address", "add", "192.0.2.7/24", "dev", "nic0"]);
    ovs.vsctl(&["add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev"]);
    let addresses = || command(&["ip", "-o", "-4", "address", "show", "scope", "global"]);
    let state = tempfile::tempdir().unwrap();
    let journal = Journal::open(state.path()).unwrap();
    let socket = ovs.socket();
    let text = format!(
        "[node]\nuplink = \"nic0\"\novsdb = \"unix:{}\"\naccept = [\"UplinkNotPersistent\"]\n",
        socket.display()
    );
    let settings = Settings::parse(&text).unwrap();
    let executor = executor(&socket);
    let deadman = DeadMan::of_program(support::program::release("pointsman").unwrap());
    let site = |progress| Site {
        settings: &settings,
        executor: &executor,
        journal: &journal,
        progress,
        deadman: &deadman,
        api: None,
    };
    let goal = Goal::Handover { to: Owner::Bridge, delete_bridge: false };
    let outcome = site(&Thief).carry_out(&goal, None).unwrap();
    assert_eq!(outcome.end, End::Degraded, "{outcome:?}");
    let message = outcome.failure.unwrap().message;
    assert!(message.contains("trying again"), "{message}");
    assert!(journal.read().unwrap().unwrap().is_open());
    // still out of reach
    let (_, outcome) = site(&Nobody).recover().unwrap().unwrap();
    assert_eq!(outcome.end, End::Degraded);
    assert!(journal.read().unwrap().unwrap().is_open());

    command(&["ip", "link", "set", "stolen0", "name", "nic0"]);
    let (_, outcome) = site(&Nobody).recover().unwrap().unwrap();
    assert_eq!(outcome.end, End::RolledBack, "{outcome:?}");
    assert!(!journal.read().unwrap().unwrap().is_open());
    assert!(state.path().join("disarmed").exists(), "and the dead-man is relieved");
    let found = addresses();
    assert!(found.contains("nic0") && found.contains("192.0.2.7/24"), "{found}");
    assert!(!found.contains("br-int"), "{found}");
    assert_eq!(ovs.vsctl(&["list-ports", "br-int"]), "");
}
