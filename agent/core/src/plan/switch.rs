//! The whole switch: bridge → uplink, stop Open vSwitch, exchange and load the modules,
//! start Open vSwitch, uplink → bridge, CNI files. Each part only where it is needed.
//!
//! The parts are planned one after another, each on what the observation would be
//! after the parts before it; so the whole plan is known, and can be refused,
//! before its first step.

use crate::checkpoint::Checkpoint;
use crate::config::{
    Activate, AddressesChoice, CniChoice, ModulesChoice, OvsRunner, Profile, Settings,
};
use crate::model::Observed;
use crate::plan::handover::{self, Owner};
use crate::plan::{Plan, Refusal, Step, boot, cni, modules, ovs, simulate};

/// What each noun is to become.
struct Target {
    modules: Option<modules::Target>,
    cni: Option<cni::Target>,
    /// None: whoever owns the addresses keeps them.
    owner: Option<Owner>,
    delete_bridge: bool,
    activate: Activate,
    /// Whether the daemons may be stopped and are to run at the end.
    daemons: Daemons,
    /// The way back: what cannot be carried is left, not refused.
    salvage: bool,
}

impl Target {
    /// Who owns the addresses then; nobody where neither link has or had any.
    fn owner_at_end(
        &self,
        settings: &Settings,
        observed: &Observed,
        way_back: Option<&Checkpoint>,
    ) -> Option<Owner> {
        let before = way_back.map_or(observed, |checkpoint| &checkpoint.before);
        self.owner.or_else(|| owner(settings, before))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Daemons {
    /// Ours to stop; to be running at the end.
    Run,
    /// Ours to stop; to be at rest at the end.
    Rest,
    /// Somebody else's.
    Foreign,
}

/// A plan in the making, and what it would lead to.
struct Draft<'a> {
    settings: &'a Settings,
    way_back: Option<&'a Checkpoint>,
    /// The way back itself: what cannot be carried is left.
    salvage: bool,
    now: Observed,
    plan: Plan,
}

/// The steps from what is to a profile.
pub fn plan_switch(
    settings: &Settings,
    profile: &Profile,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let target = Target {
        modules: module_target(profile),
        cni: match profile.cni {
            CniChoice::Payload => Some(cni::Target::Payload),
            CniChoice::Leave => None,
        },
        owner: match profile.addresses {
            AddressesChoice::Bridge => Some(Owner::Bridge),
            AddressesChoice::Uplink => Some(Owner::Uplink),
            AddressesChoice::Leave => None,
        },
        delete_bridge: false,
        activate: settings.switch.activate,
        daemons: match profile.ovs {
            OvsRunner::Host => Daemons::Run,
            OvsRunner::None => Daemons::Foreign,
        },
        salvage: false,
    };
    let plan = plan_target(settings, &target, observed, way_back)?;
    Ok(boot::guarded(plan, settings, observed, target.owner_at_end(settings, observed, way_back)))
}

fn module_target(profile: &Profile) -> Option<modules::Target> {
    match profile.modules {
        ModulesChoice::Payload => Some(modules::Target::Payload),
        ModulesChoice::InTree => Some(modules::Target::InTree),
        ModulesChoice::Leave => None,
    }
}

/// Whether a profile's module set is on disk and another one in memory.
pub fn reboot_pending(settings: &Settings, profile: &Profile, observed: &Observed) -> bool {
    module_target(profile).is_some_and(|target| {
        let kernel = observed.host.kernel.clone();
        let want = modules::Want { kernel, target, activate: settings.switch.activate };
        modules::reboot_pending(&want, observed, &settings.paths)
    })
}

/// The steps back to a checkpoint.
pub fn plan_back(
    settings: &Settings,
    profile: &Profile,
    observed: &Observed,
    checkpoint: &Checkpoint,
) -> Result<Plan, Refusal> {
    let before = &checkpoint.before;
    let target = Target {
        modules: Some(modules::Target::Before),
        cni: Some(cni::Target::Before),
        owner: owner(settings, before),
        delete_bridge: made_the_bridge(settings, observed, checkpoint),
        activate: settings.switch.activate,
        daemons: match profile.ovs {
            OvsRunner::None => Daemons::Foreign,
            OvsRunner::Host if before.ovs.vswitchd => Daemons::Run,
            OvsRunner::Host => Daemons::Rest,
        },
        salvage: true,
    };
    plan_target(settings, &target, observed, Some(checkpoint))
}

/// The steps back to a checkpoint, of the addresses alone.
pub fn plan_addresses_back(
    settings: &Settings,
    observed: &Observed,
    checkpoint: &Checkpoint,
) -> Result<Plan, Refusal> {
    let mut draft = Draft { salvage: true, ..Draft::new(settings, observed, Some(checkpoint)) };
    let delete_bridge = made_the_bridge(settings, observed, checkpoint);
    // a daemon that hung was ended, so that it could not take the uplink again: what starts now
    // does not find it in the database
    if checkpoint.before.ovs.is_healthy() && is_run_by_host(settings) {
        draft.start();
    }
    if let Some(owner) = owner(settings, &checkpoint.before) {
        draft.hand_over(owner, delete_bridge)?;
    }
    Ok(draft.plan)
}

/// A handover is of no profile: one that leaves Open vSwitch to somebody else speaks for all.
fn is_run_by_host(settings: &Settings) -> bool {
    settings.profiles.values().all(|profile| profile.ovs == OvsRunner::Host)
}

/// Who owns the node's addresses; nobody where neither link has a global one.
pub fn owner(settings: &Settings, observed: &Observed) -> Option<Owner> {
    let has =
        |link: &str| observed.network.addresses.iter().any(|a| a.link == link && a.scope == 0);
    // the bridge may have addresses of its own beside; the uplink's are what is moved
    if has(&settings.node.uplink) {
        Some(Owner::Uplink)
    } else if has(&settings.node.bridge) {
        Some(Owner::Bridge)
    } else {
        None
    }
}

/// Whether the bridge is there now and was not before.
///
/// While no database answers nobody can tell, and the bridge is left.
fn made_the_bridge(settings: &Settings, now: &Observed, checkpoint: &Checkpoint) -> bool {
    let before = &checkpoint.before.ovs;
    let bridge = &settings.node.bridge;
    before.database.is_some() && before.bridge(bridge).is_none() && now.ovs.bridge(bridge).is_some()
}

fn plan_target(
    settings: &Settings,
    target: &Target,
    observed: &Observed,
    way_back: Option<&Checkpoint>,
) -> Result<Plan, Refusal> {
    let mut draft = Draft { salvage: target.salvage, ..Draft::new(settings, observed, way_back) };
    let owner_at_end = target.owner_at_end(settings, observed, way_back);
    if let Some(set) = target.modules {
        if target.activate == Activate::Live && draft.would_reload(set)? {
            draft.reload(set, target.daemons)?;
        } else {
            draft.modules(set, Activate::Reboot)?;
        }
    }
    if target.daemons == Daemons::Run {
        draft.start();
    }
    if let Some(owner) = owner_at_end {
        draft.hand_over(owner, target.delete_bridge)?;
    }
    if target.daemons == Daemons::Rest {
        let before = way_back.map(|checkpoint| &checkpoint.before.ovs);
        draft.push("Stop Open vSwitch, as before", |now| ovs::stop_but_spare(now, before));
    }
    if let Some(files) = target.cni {
        let want = cni::Want { target: files, paths: settings.paths.clone() };
        let part = cni::plan_cni(&want, &draft.now, way_back)?;
        draft.append(part);
    }
    Ok(draft.plan)
}

impl<'a> Draft<'a> {
    fn new(settings: &'a Settings, observed: &Observed, way_back: Option<&'a Checkpoint>) -> Self {
        let (salvage, plan) = (false, Plan::default());
        Self { settings, way_back, salvage, now: observed.clone(), plan }
    }

    fn append(&mut self, part: Plan) {
        for step in part.steps() {
            simulate(&mut self.now, step);
        }
        self.plan.stages.extend(part.stages);
        for note in part.notes {
            if !self.plan.notes.contains(&note) {
                self.plan.notes.push(note);
            }
        }
    }

    fn push(&mut self, title: &str, steps: impl FnOnce(&Observed) -> Vec<ovs::Step>) {
        let mut part = Plan::default();
        part.push(title, steps(&self.now).into_iter().map(Step::Ovs).collect());
        self.append(part);
    }

    /// While the uplink owns the addresses, no vswitchd that starts may take it.
    fn start(&mut self) {
        let node = &self.settings.node;
        let at_home = owner(self.settings, &self.now) == Some(Owner::Uplink);
        let spared = at_home.then_some((node.bridge.as_str(), node.uplink.as_str()));
        self.push("Start Open vSwitch", |now| ovs::start(now, spared));
    }

    fn hand_over(&mut self, to: Owner, delete_bridge: bool) -> Result<(), Refusal> {
        let want = handover::Want {
            uplink: self.settings.node.uplink.clone(),
            bridge: self.settings.node.bridge.clone(),
            to,
            delete_bridge: delete_bridge && to == Owner::Uplink,
        };
        let node = &self.settings.node;
        let part = match self.way_back.filter(|_| self.salvage) {
            Some(way_back) => {
                let want = handover::coexistence::sparing(node, &want, &self.now);
                handover::plan_salvage(&want, &self.now, way_back)?
            }
            None => handover::coexistence::plan_beside(node, &want, &self.now, self.way_back)?,
        };
        self.append(part);
        Ok(())
    }

    fn plan_modules(
        &self,
        now: &Observed,
        target: modules::Target,
        activate: Activate,
    ) -> Result<Plan, Refusal> {
        // a boot into another kernel in between does not make another tree the one to finish
        let host = self.way_back.map_or(&now.host, |checkpoint| &checkpoint.before.host);
        let want = modules::Want { kernel: host.kernel.clone(), target, activate };
        modules::plan_modules(&want, now, self.way_back, &self.settings.paths)
    }

    fn modules(&mut self, target: modules::Target, activate: Activate) -> Result<(), Refusal> {
        let part = self.plan_modules(&self.now, target, activate)?;
        self.append(part);
        Ok(())
    }

    /// Whether the loaded modules are to be exchanged, asked of a host without datapaths.
    fn would_reload(&self, target: modules::Target) -> Result<bool, Refusal> {
        let mut free = self.now.clone();
        for step in ovs::stop_and_free(&self.now) {
            simulate(&mut free, &Step::Ovs(step));
        }
        let plan = self.plan_modules(&free, target, Activate::Live)?;
        Ok(plan.steps().any(modules::touches_memory))
    }

    /// Addresses to the uplink, daemons and datapaths away, modules exchanged.
    fn reload(&mut self, target: modules::Target, daemons: Daemons) -> Result<(), Refusal> {
        let running = self.now.ovs.vswitchd || !self.now.ovs.datapaths.is_empty();
        if daemons == Daemons::Foreign && running {
            return Err(Refusal::new(
                "OvsNotOurs",
                "Open vSwitch is running and the profile says that somebody else runs it \
                 (`ovs = \"none\"`), but exchanging the loaded modules needs it stopped; nothing \
                 was changed; stop it first, set `ovs = \"host\"`, or set `activate = \"reboot\"`",
            ));
        }
        self.spare_foreign_ports()?;
        self.hand_over(Owner::Uplink, false)?;
        self.push("Stop Open vSwitch and free its module", ovs::stop_and_free);
        self.modules(target, Activate::Live)
    }

    /// A datapath takes all its internal ports and their addresses along, and only those of our
    /// bridge are put back. Nothing that the configuration does not name goes down with it.
    fn spare_foreign_ports(&self) -> Result<(), Refusal> {
        let vports = self.now.ovs.datapaths.iter().flat_map(|datapath| datapath.vports.iter());
        let mut foreign = vports.filter(|port| !self.is_named(port)).filter(|port| {
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

    /// A bridge, an internal port or a datapath of somebody else.
    fn foreign(&self) -> Option<String> {
        let ovs = &self.now.ovs;
        let bridges = || ovs.database.iter().flat_map(|database| &database.bridges);
        if let Some(bridge) = bridges().find(|bridge| !self.is_named(&bridge.name)) {
            return Some(format!("the bridge {}", bridge.name));
        }
        let mut ports = bridges().flat_map(|bridge| &bridge.ports);
        if let Some(port) = ports.find(|port| port.kind == "internal" && !self.is_named(&port.name))
        {
            return Some(format!("the internal port {}", port.name));
        }
        if let Some(datapath) = ovs
            .datapaths
            .iter()
            .find(|datapath| datapath.name != ovs::DATAPATH && !self.is_named(&datapath.name))
        {
            return Some(format!("the datapath {}", datapath.name));
        }
        // what the database does not know, or while it does not answer
        let internal = |name: &&String| {
            let link = self.now.network.link(name);
            link.is_some_and(|link| link.kind.as_deref() == Some("openvswitch"))
        };
        let vports = ovs.datapaths.iter().flat_map(|datapath| &datapath.vports);
        let port = vports.filter(internal).find(|port| !self.is_named(port))?;
        Some(format!("the internal port {port} of the kernel datapath"))
    }
}
