//! The minute after a move, with systemd-networkd as the one who changes it back.

use super::super::{BRIDGE, NIC, ip};
use super::bed::{Bed, wait_for};
use super::daemons::networkd;
use pointsman::apply::Executor;
use pointsman::deadman::DeadMan;
use pointsman::disk::HostRoot;
use pointsman::host_command::HostTools;
use pointsman::journal::Journal;
use pointsman::observe;
use pointsman::transaction::{Progress, Site};
use pointsman::watch::Watch;
use pointsman_core::config::Settings;
use pointsman_core::decision::{Attempt, Decision, Verdict};
use pointsman_core::keys::{Annotations, DESIRED_PROFILE};
use pointsman_core::phase::{End, Phase};
use pointsman_core::report::State;
use std::path::Path;
use support::ovs::OvsFixture;

const CONFIG: &str = "[node]\nuplink = \"eth1\"\naccept = [\"ManagedByNetworkd\", \"UplinkNotPersistent\"]\n\
    [profiles.moved]\nmodules = \"leave\"\ncni = \"leave\"\naddresses = \"bridge\"\n";

struct Silent;

impl Progress for Silent {
    fn tell(&self, _: Phase, _: &str) {}
}

struct Agent {
    settings: Settings,
    executor: Executor,
    journal: Journal,
    deadman: DeadMan,
    watch: Watch,
}

fn open_vswitch() -> OvsFixture {
    let ovs = OvsFixture::start_here();
    ovs.vsctl(&["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]);
    ovs.vsctl(&["set", "bridge", BRIDGE, "fail_mode=standalone"]);
    ovs
}

impl Agent {
    fn of(bed: &Bed, ovs: &OvsFixture, state: &Path) -> Self {
        Self {
            settings: Settings::parse(CONFIG).unwrap(),
            executor: Executor {
                root: HostRoot::new(bed.root()),
                tools: HostTools::Here,
                payload: "/nonexistent".into(),
                store: state.join("store"),
                ovsdb: ovs.socket(),
            },
            journal: Journal::open(state).unwrap(),
            deadman: DeadMan::of_program(support::program::release("pointsman").unwrap()),
            watch: Watch::default(),
        }
    }

    fn site(&self) -> Site<'_> {
        Site {
            settings: &self.settings,
            executor: &self.executor,
            journal: &self.journal,
            progress: &Silent,
            deadman: &self.deadman,
            api: None,
        }
    }

    fn decide(&self) -> Decision {
        let annotations: Annotations = [(DESIRED_PROFILE.to_owned(), "moved".to_owned())].into();
        let observed = observe::observe(&self.executor, &self.settings).unwrap();
        let record = self.journal.read().unwrap();
        let last = record.as_ref().map(|record| Attempt {
            request: record.request.clone().unwrap(),
            boot_id: record.checkpoint.before.host.boot_id.clone(),
            end: End::Reached,
            reason: String::new(),
            message: String::new(),
        });
        self.watch.decide(&annotations, &self.settings, &observed, (record.as_ref(), last.as_ref()))
    }

    #[track_caller]
    fn attempt(&self) {
        match self.decide() {
            Decision::Attempt { goal, request, .. } => {
                let outcome = self.watch.carry_out(&self.site(), &goal, &request).unwrap();
                assert_eq!(outcome.end, End::Reached, "{outcome:?}");
            }
            Decision::Report(verdict) => panic!("{verdict:?}"),
        }
    }

    #[track_caller]
    fn verdict(&self) -> Verdict {
        match self.decide() {
            Decision::Report(verdict) => verdict,
            Decision::Attempt { goal, .. } => panic!("an attempt at {goal}"),
        }
    }
}

/// networkd gives the link its configuration again when the carrier comes back.
fn flap(bed: &Bed) {
    ip("link set eth1-peer down");
    wait_for("the carrier to go", || ip("-o link show dev eth1").contains("NO-CARRIER"));
    ip("link set eth1-peer up");
    bed.wait_for_address("10.77.0.2/24", true);
}

#[test]
fn a_foreign_change_is_put_right_once_and_then_said() {
    let mut bed = Bed::enter();
    bed.start_bus();
    let network = "[Match]\nName=eth1\n[Network]\nAddress=10.77.0.2/24\nLinkLocalAddressing=no\n\
        [Route]\nDestination=10.8.0.0/16\nGateway=10.77.0.1\n";
    bed.put("/etc/systemd/network/10-up.network", network);
    networkd(&mut bed);
    bed.wait_for_address("10.77.0.2/24", true);
    let ovs = open_vswitch();
    // below the root, as on a host: the dead-man finds it there
    let state = tempfile::tempdir_in(bed.root()).unwrap();
    let agent = Agent::of(&bed, &ovs, state.path());
    agent.attempt();
    assert!(ip(&format!("address show dev {BRIDGE}")).contains("10.77.0.2/24"));
    assert_eq!(ip(&format!("-4 address show dev {NIC}")), "");
    assert_eq!(agent.verdict().state, State::Done);

    flap(&bed);
    agent.attempt();
    assert_eq!(ip(&format!("-4 address show dev {NIC}")), "", "put right");
    let done = agent.verdict();
    assert_eq!(done.state, State::Done);
    for words in ["put right once: ", "10.77.0.2/24 on eth1 is back", "likely by systemd-networkd"]
    {
        assert!(done.message.contains(words), "{words} is not in {}", done.message);
    }

    flap(&bed);
    let verdict = agent.verdict();
    assert_eq!((verdict.state, verdict.reason.as_str()), (State::Degraded, "ChangedBack"));
    for words in
        ["10.77.0.2/24 on eth1 is back", "likely by systemd-networkd", "pointsman.io/retry"]
    {
        assert!(verdict.message.contains(words), "{words} is not in {}", verdict.message);
    }
    bed.wait_for_address("10.77.0.2/24", true);
}

/// Somebody's script that has its own idea of rules and routes.
#[test]
fn a_rule_and_a_route_are_put_right_once_by_name() {
    let bed = Bed::enter();
    ip("address add 10.77.0.2/24 dev eth1");
    ip("route add 10.8.0.0/16 via 10.77.0.1 dev eth1");
    ip("route add 10.9.0.0/16 via 10.77.0.1 dev eth1 table 100");
    ip("rule add iif eth1 lookup 100 priority 1000");
    let ovs = open_vswitch();
    let state = tempfile::tempdir_in(bed.root()).unwrap();
    let agent = Agent::of(&bed, &ovs, state.path());
    agent.attempt();
    assert_eq!(agent.verdict().state, State::Done);
    let rules = || ip("rule show priority 1000");
    let routes = || ip("route show 10.8.0.0/16");
    let there = [rules(), routes()];
    assert!(there[0].contains("br-int") && there[1].contains("br-int"), "{there:?}");

    let meddle = || {
        ip("rule delete iif br-int lookup 100 priority 1000");
        ip("route delete 10.8.0.0/16");
    };
    meddle();
    agent.attempt();
    assert_eq!([rules(), routes()], there, "put right");
    let done = agent.verdict();
    assert_eq!(done.state, State::Done);
    let words = ["IPv4 rule of priority 1000 iif br-int lookup 100 is gone", "10.8.0.0/16"];
    for words in words {
        assert!(done.message.contains(words), "{words} is not in {}", done.message);
    }
    meddle();
    let verdict = agent.verdict();
    assert_eq!((verdict.state, verdict.reason.as_str()), (State::Degraded, "ChangedBack"));
    for words in words {
        assert!(verdict.message.contains(words), "{words} is not in {}", verdict.message);
    }
    assert_eq!([rules(), routes()], [String::new(), String::new()], "not fought");
}
