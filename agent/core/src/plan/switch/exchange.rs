//! The live part of a switch: the loaded modules exchanged on the running node.
//!
//! What can be done before Open vSwitch is stopped is done before: copies, files, depmod and
//! the check of its choice. Until the exchange the node then has the new set on disk and the
//! old one in memory. That is a known state (it is what `activate = "reboot"` leads to), both
//! ends can be planned from it, and it must come first in any case: whatever asks the kernel
//! for a datapath between the unload and the load has the module loaded that the index names.
//! A tunnel port that somebody makes meanwhile may load its module from the new set beside the
//! old datapath module; the unload then finds that held, and the way back is taken.

use super::{Daemons, Draft, Target};
use crate::config::{Activate, FlowsChoice};
use crate::model::{Bridge, Network, Observed};
use crate::plan::handover::Owner;
use crate::plan::{Plan, Refusal, Step, modules, ovs, simulate};

/// What is left to be done once Open vSwitch runs again.
pub(super) struct Exchanged {
    proof: Plan,
}

impl Draft<'_> {
    /// Whether the loaded modules are to be exchanged.
    pub(super) fn would_reload(&self, set: modules::Target) -> Result<bool, Refusal> {
        Ok(self.parts(set)?.exchange.steps().any(modules::touches_memory))
    }

    /// The exchange, planned on what the host would be without daemons and datapaths.
    fn parts(&self, set: modules::Target) -> Result<modules::Parts, Refusal> {
        let mut free = self.now.clone();
        for step in ovs::stop_and_free(&self.now) {
            simulate(&mut free, &Step::Ovs(step));
        }
        let want = self.want(set, Activate::Live);
        modules::plan_parts(&want, &free, self.way_back, &self.settings.paths)
    }

    /// Files and index, flows to disk, addresses to the uplink, daemons and datapaths away,
    /// modules exchanged.
    pub(super) fn exchange(
        &mut self,
        set: modules::Target,
        target: &Target,
    ) -> Result<Exchanged, Refusal> {
        let running = self.now.ovs.vswitchd || !self.now.ovs.datapaths.is_empty();
        if target.daemons == Daemons::Foreign && running {
            return Err(Refusal::new(
                "OvsNotOurs",
                "Open vSwitch is running and the profile says that somebody else runs it \
                 (`ovs = \"none\"`), but exchanging the loaded modules needs it stopped; nothing \
                 was changed; stop it first, set `ovs = \"host\"`, or set `activate = \"reboot\"`",
            ));
        }
        if self.way_back.is_none() && ovs::is_held_by_another(&self.now.ovs) {
            return Err(Refusal::transient(
                "FlowRestoreWait",
                "Open vSwitch has other_config:flow-restore-wait set, which is not Pointsman's: \
                 somebody restores flows, and a restart would take them; nothing was changed: wait \
                 for whoever it is, or remove the key",
            ));
        }
        self.spare_foreign_ports()?;
        let parts = self.parts(set)?;
        self.append(parts.disk);
        let waits = target.flows == FlowsChoice::Save && self.save_flows();
        self.hand_over(Owner::Uplink, false)?;
        if waits {
            self.push("Hold the flows back", |_| vec![ovs::Step::HoldFlows]);
        }
        self.push("Stop Open vSwitch and free its module", ovs::stop_and_free);
        self.append(parts.first);
        self.append(parts.exchange);
        Ok(Exchanged { proof: parts.proof })
    }

    /// Whether flows were saved that the next vswitchd has to wait for.
    fn save_flows(&mut self) -> bool {
        let Some(steps) = ovs::save_flows(&self.now.ovs) else {
            self.plan.notes.push(
                "Open vSwitch does not answer, so its flows, groups, meters and TLV maps cannot be \
                 saved: its controller has to bring them back"
                    .into(),
            );
            return false;
        };
        let saves = !steps.is_empty();
        self.push("Save what ends with vswitchd", |_| steps);
        saves
    }

    /// What follows the start of Open vSwitch, before anybody moves: flows, and the proof that
    /// the modules work.
    pub(super) fn come_up(&mut self, target: &Target, exchanged: Option<Exchanged>) {
        if target.daemons != Daemons::Rest {
            self.push(super::FLOWS_BACK, |now| ovs::restore_flows(&now.ovs));
        }
        if let Some(exchanged) = exchanged {
            self.append(exchanged.proof);
        }
    }

    /// What internal ports had. `anew`: this plan has them made again.
    pub(super) fn restore_ports(&mut self, target: &Target, anew: bool) {
        // of another boot, or of a switch that stops nothing, is what the host itself makes of it
        let same_boot = self.origin.host.boot_id == self.now.host.boot_id;
        let stops = target.modules.is_some() && target.activate == Activate::Live;
        if target.daemons != Daemons::Run || !stops || !same_boot {
            return;
        }
        let names = internal_ports(self.origin, &self.settings.node.bridge);
        self.push("Give internal ports back what they had", |now| {
            let port =
                |name: &String| ovs::restore_port(&self.origin.network, &now.network, name, anew);
            names.iter().filter_map(port).map(ovs::Step::RestorePort).collect()
        });
        if anew {
            for name in names.iter().filter(|name| self.now.network.link(name).is_none()) {
                self.plan.notes.push(format!(
                    "the internal port {name} is in no database, so Open vSwitch does not make it again"
                ));
            }
        }
    }

    /// A port that is taken out and put back keeps its number: the flows know it by that.
    pub(super) fn with_former_numbers(&self, mut plan: Plan) -> Plan {
        for step in plan.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
            if let Step::Ovs(ovs::Step::AddPort { bridge, port, ofport }) = step {
                let row = self.origin.ovs.bridge(bridge).and_then(|row| row.port(port));
                *ofport = row.and_then(|row| row.ofport).filter(|number| *number > 0);
            }
        }
        plan
    }

    /// A datapath takes all its internal ports along, and only those of bridges that the
    /// configuration names are put back. Nothing else goes down with it.
    fn spare_foreign_ports(&self) -> Result<(), Refusal> {
        let vports = self.now.ovs.datapaths.iter().flat_map(|datapath| datapath.vports.iter());
        let mut foreign = vports.filter(|port| !self.may_go_down(port)).filter(|port| {
            self.now.network.addresses.iter().any(|a| a.link == **port && a.scope == 0)
        });
        if let Some(port) = foreign.next() {
            return Err(Refusal::new(
                "ForeignBridge",
                format!(
                    "{port} of the kernel datapath has addresses, which it would lose when Open vSwitch \
                     is stopped to exchange the loaded modules; nothing was changed; move them away, or \
                     set `activate = \"reboot\"`"
                ),
            ));
        }
        // on the way back this was asked before the first change
        let Some(what) = self.foreign().filter(|_| self.way_back.is_none()) else { return Ok(()) };
        Err(Refusal::new(
            "ForeignBridge",
            format!(
                "{what} is not named in the configuration, and would go down when Open vSwitch is \
                 stopped to exchange the loaded modules; nothing was changed; name it in \
                 `node.companions` if it may, or set `activate = \"reboot\"`"
            ),
        ))
    }

    fn is_named(&self, name: &str) -> bool {
        let node = &self.settings.node;
        name == node.bridge || name == node.uplink || node.companions.iter().any(|own| own == name)
    }

    /// Named itself, or a port of a bridge that is.
    fn may_go_down(&self, port: &str) -> bool {
        let has = |bridge: &&Bridge| self.is_named(&bridge.name) && bridge.port(port).is_some();
        self.is_named(port) || bridges(&self.now).any(|bridge| has(&bridge))
    }

    /// A bridge, an internal port or a datapath of somebody else.
    fn foreign(&self) -> Option<String> {
        let ovs = &self.now.ovs;
        if let Some(bridge) = bridges(&self.now).find(|bridge| !self.is_named(&bridge.name)) {
            return Some(format!("the bridge {}", bridge.name));
        }
        if let Some(datapath) = ovs
            .datapaths
            .iter()
            .find(|datapath| datapath.name != ovs::DATAPATH && !self.is_named(&datapath.name))
        {
            return Some(format!("the datapath {}", datapath.name));
        }
        // what the database does not know, or while it does not answer
        let vports = ovs.datapaths.iter().flat_map(|datapath| &datapath.vports);
        let port = vports
            .filter(|name| is_internal(&self.now.network, name))
            .find(|port| !self.may_go_down(port))?;
        Some(format!("the internal port {port} of the kernel datapath"))
    }
}

fn bridges(observed: &Observed) -> impl Iterator<Item = &Bridge> {
    observed.ovs.database.iter().flat_map(|database| &database.bridges)
}

fn is_internal(network: &Network, name: &str) -> bool {
    network.link(name).is_some_and(|link| link.kind.as_deref() == Some("openvswitch"))
}

/// Internal ports of the kernel's datapaths, the bridge's own left out: a handover carries that.
fn internal_ports(observed: &Observed, bridge: &str) -> Vec<String> {
    let vports = observed.ovs.datapaths.iter().flat_map(|datapath| &datapath.vports);
    let ports = vports.filter(|name| *name != bridge && is_internal(&observed.network, name));
    ports.cloned().collect()
}
