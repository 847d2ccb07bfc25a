//! What a handover carries, row by row and in generated mixtures: after the move, and after the
//! way home, two witnesses say the same as before. `ip -j` is one, the kernel's own bytes the
//! other; neither shares code with the agent.
//!
//! The kernel's network is real; Open vSwitch is only in the observation, and a veth stands
//! for the bridge's internal port. Whole moves with a real Open vSwitch are in `handover.rs`.

mod generated;
mod raw;
mod refused;
mod rows;
mod witness;

use super::{BRIDGE, NIC, OTHER, enter, executor, ip, read};
use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::error::chain;
use pointsman_core::model::{Bridge, Observed, Ovs, OvsDatabase, Port};
use pointsman_core::plan::handover::{Owner, Want, plan_handover, plan_salvage};
use pointsman_core::plan::{Plan, Step, simulate};
use std::fs;
use std::path::Path;
use witness::Witness;

/// Its MAC is the uplink's already: pinning it is Open vSwitch's part.
const MAC: &str = "02:00:00:00:77:02";

/// A node in a network namespace of its own.
pub struct Node {
    ovs: Ovs,
    /// The link that has the addresses at the beginning.
    owner: &'static str,
}

impl Node {
    pub fn new() -> Self {
        enter();
        ip(&format!("link add {BRIDGE} address {MAC} type veth peer {BRIDGE}-peer"));
        for link in [BRIDGE, "br-int-peer"] {
            ip(&format!("link set {link} up"));
        }
        ip(&format!("address add 192.168.9.2/24 dev {OTHER}"));
        ip(&format!("address add fd00:9::2/64 dev {OTHER} nodad"));
        let own = Port { name: BRIDGE.into(), kind: "internal".into(), ..Port::default() };
        let bridge = Bridge {
            name: BRIDGE.into(),
            datapath_type: "netdev".into(),
            hwaddr: Some(MAC.into()),
            ports: vec![own],
            ..Bridge::default()
        };
        let database = OvsDatabase { bridges: vec![bridge], ..OvsDatabase::default() };
        let ovs =
            Ovs { database: Some(database), vswitchd: true, ovsdb_server: true, ..Ovs::default() };
        Self { ovs, owner: NIC }
    }

    /// One whose bridge has the uplink already, and is to have what the rows say of the uplink.
    pub fn on_bridge() -> Self {
        let mut node = Self::new();
        let port = Port { name: NIC.into(), ofport: Some(1), ..Port::default() };
        let database = node.ovs.database.as_mut().unwrap();
        database.bridges[0].ports.push(port);
        node.owner = BRIDGE;
        node
    }

    /// `ip …`, `FILE = VALUE` below `/proc/sys/net`, or `IFAPROT ADDRESS PROTOCOL`: an address of
    /// the uplink with what Debian 12's `ip` cannot say.
    pub fn set_up(&self, commands: &[&str]) {
        for command in commands {
            let command = command.replace(NIC, self.owner);
            if let Some((file, value)) = command.split_once(" = ") {
                set(file, value);
            } else if let Some(words) = command.strip_prefix("IFAPROT ") {
                let (address, protocol) = words.split_once(' ').unwrap();
                raw::add_address(self.owner, address, protocol.parse().unwrap());
            } else {
                ip(&command);
            }
        }
    }

    pub fn observe(&self) -> Observed {
        let mut network = read();
        pointsman::observe::sysctl::read(&mut network, &[NIC, BRIDGE]).unwrap();
        for bridge in network.links.iter_mut().filter(|link| link.name == BRIDGE) {
            bridge.kind = Some("tun".into());
        }
        Observed { network, ovs: self.ovs.clone(), ..Observed::default() }
    }

    pub fn checkpoint(&self) -> Checkpoint {
        let transaction = "t".into();
        Checkpoint { schema: CHECKPOINT_SCHEMA, transaction, before: self.observe() }
    }

    pub fn plan(&self, to: Owner, way_back: Option<&Checkpoint>) -> Plan {
        plan_handover(&want(to), &self.observe(), way_back).unwrap()
    }

    /// The first so many steps.
    pub fn carry_out(&mut self, plan: &Plan, steps: usize) {
        let executor = executor(Path::new("/nonexistent"));
        for step in plan.steps().take(steps) {
            if let Step::Handover(_) = step {
                executor.apply(step).unwrap_or_else(|error| {
                    panic!("{}\n{plan}\n{}", chain(&error), ip("route show table all"))
                });
            } else {
                let mut observed = self.observe();
                simulate(&mut observed, step);
                self.ovs = observed.ovs;
            }
        }
    }

    /// There, and nothing is left to do.
    pub fn go(&mut self, to: Owner, way_back: Option<&Checkpoint>) -> Plan {
        let plan = self.plan(to, way_back);
        self.carry_out(&plan, usize::MAX);
        let again = self.plan(to, way_back);
        assert!(again.is_empty(), "not empty after\n{plan}\nbut\n{again}");
        plan
    }

    /// The way back to a checkpoint, as a failed transaction takes it.
    pub fn go_back(&mut self, to: Owner, way_back: &Checkpoint) {
        let plan = plan_salvage(&want(to), &self.observe(), way_back).unwrap();
        self.carry_out(&plan, usize::MAX);
        let again = plan_salvage(&want(to), &self.observe(), way_back).unwrap();
        assert!(again.is_empty(), "not empty after\n{plan}\nbut\n{again}");
    }

    /// To the bridge and home again; both times everything is as it was.
    pub fn there_and_back(&mut self, what: &str) -> Witness {
        let start = Witness::hear(NIC);
        let at_start = sysctls();
        self.go(Owner::Bridge, None);
        let moved = Witness::hear(BRIDGE);
        start.confirm(&moved, &format!("{what}, moved"));
        let [uplink, bridge] = sysctls();
        assert_eq!(bridge, at_start[0], "{what}: sysctls of the bridge are the uplink's");
        assert_eq!(uplink, at_start[0], "{what}: sysctls of the uplink");
        self.go(Owner::Uplink, None);
        start.confirm(&Witness::hear(NIC), &format!("{what}, home"));
        assert_eq!(sysctls()[0], at_start[0], "{what}: sysctls of the uplink, home");
        start
    }
}

fn want(to: Owner) -> Want {
    Want { uplink: NIC.into(), bridge: BRIDGE.into(), to, delete_bridge: false }
}

fn set(file: &str, value: &str) {
    fs::write(Path::new("/proc/sys/net").join(file), value).unwrap();
}

/// Every file of both links' directories but what is told by a statement of its own: a secret,
/// and what the kernel derives (MTU) or what nobody carries (counters of identities).
fn sysctls() -> [Vec<(String, String)>; 2] {
    const OWN: [&str; 4] =
        ["ipv6/stable_secret", "ipv6/mtu", "ipv6/ioam6_id", "ipv6/ioam6_id_wide"];
    [NIC, BRIDGE].map(|link| {
        let mut found = Vec::new();
        for (folder, prefix) in FOLDERS {
            for file in fs::read_dir(Path::new("/proc/sys/net").join(folder).join(link)).unwrap() {
                let file = file.unwrap();
                let key = format!("{prefix}{}", file.file_name().to_string_lossy());
                if !OWN.contains(&key.as_str())
                    && let Ok(text) = fs::read_to_string(file.path())
                {
                    found.push((key, text.trim().to_owned()));
                }
            }
        }
        found.sort();
        found
    })
}

/// Where the kernel has the sysctls of links, and what the agent calls them by.
const FOLDERS: [(&str, &str); 4] = [
    ("ipv4/conf", "ipv4/"),
    ("ipv4/neigh", "ipv4/neigh/"),
    ("ipv6/conf", "ipv6/"),
    ("ipv6/neigh", "ipv6/neigh/"),
];
