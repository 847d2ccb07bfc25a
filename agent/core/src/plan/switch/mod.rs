//! The whole switch: module files and their index, bridge → uplink, stop Open vSwitch, exchange
//! the loaded modules, start Open vSwitch, uplink → bridge, CNI files. Each part only where it
//! is needed.
//!
//! The parts are planned one after another, each on what the observation would be
//! after the parts before it; so the whole plan is known, and can be refused,
//! before its first step.

mod exchange;
mod staged;

pub use staged::refuse_while_staged;

use crate::checkpoint::Checkpoint;
use crate::config::{
    Activate, AddressesChoice, CniChoice, FlowsChoice, ModulesChoice, OvsRunner, Profile, Settings,
};
use crate::model::Observed;
use crate::plan::handover::{self, Owner};
use crate::plan::{Plan, Refusal, Step, boot, cni, modules, ovs, simulate};

/// The title of what follows the start of a vswitchd that waits.
const FLOWS_BACK: &str = "Put the flows back";

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
    /// Who brings the flows back where the daemons are stopped.
    flows: FlowsChoice,
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
    /// What was there at first, now or before an unfinished transaction.
    origin: &'a Observed,
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
            CniChoice::Payload => Some(cni::Target::To(cni::Toward::Payload)),
            CniChoice::Absent => Some(cni::Target::To(cni::Toward::Absent)),
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
        flows: profile.flows,
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

/// The loaded modules of a profile of which nothing tells the build: never proven, so never done.
pub fn unproven(settings: &Settings, profile: &Profile, observed: &Observed) -> Vec<String> {
    let kernel = &observed.host.kernel;
    let concerned = module_target(profile).is_some();
    match modules::loaded(observed, &settings.paths, kernel) {
        modules::Loaded::Unproven(names) if concerned => names,
        modules::Loaded::Unproven(_)
        | modules::Loaded::Right
        | modules::Loaded::Absent
        | modules::Loaded::Differs(_) => Vec::new(),
    }
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
        cni: match profile.cni {
            CniChoice::Payload => Some(cni::Target::Before(cni::Toward::Payload)),
            CniChoice::Absent => Some(cni::Target::Before(cni::Toward::Absent)),
            CniChoice::Leave => None,
        },
        owner: owner(settings, before),
        delete_bridge: made_the_bridge(settings, observed, checkpoint),
        activate: settings.switch.activate,
        daemons: match profile.ovs {
            OvsRunner::None => Daemons::Foreign,
            OvsRunner::Host if before.ovs.vswitchd => Daemons::Run,
            OvsRunner::Host => Daemons::Rest,
        },
        flows: profile.flows,
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
    draft.push(FLOWS_BACK, |now| ovs::restore_flows(&now.ovs));
    if let Some(owner) = owner(settings, &checkpoint.before) {
        draft.hand_over(owner, delete_bridge)?;
    }
    Ok(draft.plan)
}

/// What ends a wait for flows that an interrupted exchange has left, and what is then.
pub fn end_own_wait(observed: &Observed) -> (Plan, Observed) {
    let (mut plan, mut after) = (Plan::default(), observed.clone());
    plan.push(FLOWS_BACK, ovs::restore_flows(&observed.ovs).into_iter().map(Step::Ovs).collect());
    plan.steps().for_each(|step| simulate(&mut after, step));
    (plan, after)
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
    let mut exchanged = None;
    if let Some(set) = target.modules {
        if target.activate == Activate::Live && draft.would_reload(set)? {
            exchanged = Some(draft.exchange(set, target)?);
        } else {
            draft.modules(set, Activate::Reboot)?;
            draft.note_reboot(settings);
        }
    }
    if target.daemons == Daemons::Run {
        draft.start();
    }
    let anew = exchanged.is_some();
    draft.come_up(target, exchanged);
    if let Some(owner) = owner_at_end {
        draft.hand_over(owner, target.delete_bridge)?;
    }
    // behind the uplink: with its MTU vswitchd changes that of each internal port
    draft.restore_ports(target, anew);
    if target.daemons == Daemons::Rest {
        let before = way_back.map(|checkpoint| &checkpoint.before.ovs);
        draft.push("Stop Open vSwitch, as before", |now| ovs::stop_but_spare(now, before));
    }
    if let Some(files) = target.cni {
        let want = cni::Want::plainly(files, settings.paths.clone());
        let part = cni::plan_cni(&want, &draft.now, way_back)?;
        draft.append(part);
    }
    Ok(draft.plan)
}

impl<'a> Draft<'a> {
    fn new(
        settings: &'a Settings,
        observed: &'a Observed,
        way_back: Option<&'a Checkpoint>,
    ) -> Self {
        let (salvage, plan) = (false, Plan::default());
        let origin = way_back.map_or(observed, |checkpoint| &checkpoint.before);
        Self { settings, way_back, salvage, origin, now: observed.clone(), plan }
    }

    fn append(&mut self, part: Plan) {
        for step in part.steps() {
            simulate(&mut self.now, step);
        }
        self.plan = std::mem::take(&mut self.plan).then(part);
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
        let part = self.with_former_numbers(part);
        self.append(part);
        Ok(())
    }

    /// What modules are wanted, and of which kernel.
    fn want(&self, target: modules::Target, activate: Activate) -> modules::Want {
        // a boot into another kernel in between does not make another tree the one to finish
        modules::Want { kernel: self.origin.host.kernel.clone(), target, activate }
    }

    fn note_reboot(&mut self, settings: &Settings) {
        let kernel = &self.origin.host.kernel;
        let loaded = modules::loaded(&self.now, &settings.paths, kernel);
        if matches!(loaded, modules::Loaded::Differs(_)) {
            self.plan.notes.push(format!(
                "the modules on disk become the loaded ones with a reboot: {kernel} goes on with the \
                 former ones until then"
            ));
        }
    }

    fn modules(&mut self, target: modules::Target, activate: Activate) -> Result<(), Refusal> {
        let want = self.want(target, activate);
        let paths = &self.settings.paths;
        let part = modules::plan_modules(&want, &self.now, self.way_back, paths)?;
        self.append(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
