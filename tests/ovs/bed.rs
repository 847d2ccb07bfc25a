//! A node that hands over, in a namespace: user-space datapath, a NIC, a gateway, a journal.

use crate::{executor, make_nic};
use pointsman::apply::Executor;
use pointsman::deadman::DeadMan;
use pointsman::journal::{Journal, Record, read};
use pointsman::transaction::{Outcome, Progress, Site};
use pointsman_core::config::Settings;
use pointsman_core::error::chain;
use pointsman_core::goal::Goal;
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::handover::Owner;
use pointsman_core::plan::{Step, ovs};
use std::path::{Path, PathBuf};
use support::netns::Peer;
use support::ovs::{OvsFixture, command};

pub const THERE: Goal = Goal::Handover { to: Owner::Bridge, delete_bridge: false };

/// Listens to nothing.
pub struct Nobody;

impl Progress for Nobody {
    fn tell(&self, _: Phase, _: &str) {}
}

/// What the agent is told of a node with its database there; more lines, and more reasons accepted.
pub fn configuration(socket: &Path, more: &str, accept: &[&str]) -> String {
    let accept = [&["UplinkNotPersistent"], accept].concat();
    format!(
        "[node]\nuplink = \"nic0\"\novsdb = \"unix:{}\"\naccept = {accept:?}\n\
         [switch]\nconfirm_timeout = \"3s\"\n{more}",
        socket.display()
    )
}

/// A NIC with an address and a gateway behind it, Open vSwitch, and a journal.
pub struct Bed {
    pub ovs: OvsFixture,
    pub gateway: Peer,
    pub program: PathBuf,
    pub state: tempfile::TempDir,
    settings: Settings,
    executor: Executor,
    /// None while a program of its own has the lock.
    journal: Option<Journal>,
    deadman: DeadMan,
}

impl Bed {
    pub fn new() -> Self {
        Self::of(OvsFixture::start(), "", &[])
    }

    /// With more lines of configuration, and more reasons accepted.
    pub fn of(ovs: OvsFixture, more: &str, accept: &[&str]) -> Self {
        make_nic("nic0");
        let gateway = Peer::start();
        gateway.takes("nic0-peer");
        gateway.ip("address add 192.0.2.1/24 dev nic0-peer");
        command(&["ip", "address", "add", "192.0.2.7/24", "dev", "nic0"]);
        command(&["ip", "route", "add", "default", "via", "192.0.2.1"]);
        ovs.vsctl(&["add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev"]);
        let socket = ovs.socket();
        let settings = Settings::parse(&configuration(&socket, more, accept)).unwrap();
        let state = tempfile::tempdir().unwrap();
        let journal = Some(Journal::open(state.path()).unwrap());
        let program: PathBuf = support::program::release("pointsman").unwrap();
        let deadman = DeadMan::of_program(&program);
        let executor = Executor { store: state.path().join("store"), ..executor(&socket) };
        Self { ovs, gateway, program, state, settings, executor, journal, deadman }
    }

    /// The same with another state directory, and another program as the dead-man's.
    pub fn kept_in(mut self, state: tempfile::TempDir, program: &Path) -> Self {
        self.journal = Some(Journal::open(state.path()).unwrap());
        self.executor.store = state.path().join("store");
        self.deadman = DeadMan::of_program(program);
        self.state = state;
        self
    }

    pub fn site<'a>(&'a self, progress: &'a (dyn Progress + Sync)) -> Site<'a> {
        Site {
            settings: &self.settings,
            executor: &self.executor,
            journal: self.journal(),
            progress,
            deadman: &self.deadman,
            api: None,
        }
    }

    /// One step by itself.
    pub fn apply(&self, step: ovs::Step) {
        self.executor.apply(&Step::Ovs(step)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    pub fn go(&self, goal: &Goal) {
        let outcome = self.site(&Nobody).carry_out(goal, None).unwrap();
        assert_eq!(outcome.end, End::Reached, "{outcome:?}");
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().expect("the lock")
    }

    /// Gives the lock to another process, or takes it back.
    pub fn lock(&mut self, held: bool) {
        self.journal = held.then(|| Journal::open(self.state.path()).unwrap());
    }

    /// The record on disk, whoever has the lock.
    pub fn record(&self) -> Record {
        read(self.state.path()).unwrap().unwrap()
    }

    /// As if the agent had ended after the last step and before it closed the record.
    pub fn interrupt(&self) {
        let record = Record { phase: Phase::Applying, ..self.record() };
        self.journal().write(&record).unwrap();
    }

    pub fn recover(&self) -> Outcome {
        self.site(&Nobody).recover().unwrap().expect("an open transaction").1
    }

    /// As a boot leaves the node: the bridge has the NIC again, by its database, and the NIC
    /// its address, by the host's own configuration.
    pub fn reboot(&self) {
        command(&["ip", "address", "del", "192.0.2.7/24", "dev", "br-int"]);
        command(&["ip", "address", "add", "192.0.2.7/24", "dev", "nic0"]);
        command(&["ip", "route", "replace", "default", "via", "192.0.2.1", "dev", "nic0"]);
        assert_eq!(self.ovs.vsctl(&["list-ports", "br-int"]), "nic0");
    }

    /// Nobody answers for the gateway any more.
    pub fn silence(&self) {
        self.gateway.ip("address del 192.0.2.1/24 dev nic0-peer");
    }

    /// Which link has the address.
    pub fn owner(&self) -> String {
        let found = command(&["ip", "-o", "-4", "address", "show", "to", "192.0.2.7"]);
        found.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }
}
