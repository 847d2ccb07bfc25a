//! Coming back after a reboot: the host unit that makes the node reachable before kubelet,
//! and what it has to do.
//!
//! The host's own configuration gives the addresses to the uplink again, while Open vSwitch
//! finds the uplink among its ports and takes what arrives. So a node whose bridge owned the
//! addresses comes back dark, and cannot get the pod that would put it right.

mod course;
mod network;
#[cfg(test)]
mod tests;

pub use course::{Course, course, owner_at_end};
pub use network::{fingerprint, has_addresses, is_complete, plan};

use crate::config::{BootUnit, Settings};
use crate::model::{Digest, FileState, Observed};
use crate::plan::file::{self, Source, staged_beside};
use crate::plan::handover::Owner;
use crate::plan::{Plan, Step};

/// The unit's file; systemd.unit(5): above everything that a distribution brings.
pub const UNIT: &str = "/etc/systemd/system/pointsman-boot.service";
/// What makes the unit a part of every boot, as `systemctl enable` would.
pub const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/pointsman-boot.service";
/// Where [`WANTED`] lies.
pub const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";
/// The program that the unit starts, below the state directory.
pub const PROGRAM: &str = "pointsman";

/// What waits for the unit waits for at most, seconds: [`TEXT`]'s own limits are far below.
const LIMIT: u32 = 240;

/// [`PROGRAM`] as the host sees it.
pub fn program(settings: &Settings) -> String {
    format!("{}/{PROGRAM}", settings.paths.state)
}

/// Whether a step is, or may be followed by, a boot that needs the program on the host.
pub fn needs_program(step: &Step) -> bool {
    let unit = |path: &str| path == UNIT || path == WANTED;
    match step {
        Step::File(file::Step::Write { path, .. } | file::Step::Link { path, .. }) => unit(path),
        Step::File(_) | Step::Cni(_) | Step::Modules(_) => false,
        Step::Handover(_) | Step::Ovs(_) => true,
    }
}

/// Every path that the plans of this noun look at.
pub fn paths() -> [String; 5] {
    let [unit, link] = [UNIT, WANTED].map(str::to_owned);
    [staged_beside(UNIT), staged_beside(WANTED), unit, link, WANTS.to_owned()]
}

/// The unit for a state directory.
///
/// After the network's own configuration and Open vSwitch, since what those two make of the
/// node is what it judges; before whatever needs the node to be reachable. Ordering pulls
/// nothing in, so names of units that are not there do no harm.
///
/// The dead-man of what it changes is a unit of its own, and the first to see that it hangs.
/// The limit is for what hangs before anything is changed: then kubelet may start. It holds
/// SIGTERM back, so it is killed by what cannot be held back, and a dead-man that watches goes
/// on. Without `Restart=`, which older systemds (before 244) refuse for `oneshot`.
pub fn text(state_dir: &str) -> String {
    format!(
        "# Written by Pointsman while the bridge may own the node's addresses.\n\
         [Unit]\n\
         Description=Pointsman: make the node reachable after a boot\n\
         RequiresMountsFor={state_dir}\n\
         ConditionPathExists={state_dir}/journal.json\n\
         After=network.target openvswitch-switch.service openvswitch.service\n\
         After=ovsdb-server.service ovs-vswitchd.service\n\
         Before=network-online.target kubelet.service k3s.service k3s-agent.service\n\
         Before=rke2-server.service rke2-agent.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={state_dir}/{PROGRAM} restore --boot --state-dir {state_dir}\n\
         TimeoutStartSec={LIMIT}\n\
         KillSignal=SIGKILL\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// A plan with the unit in place while anything of it touches the network, and at its end
/// where the bridge owns the addresses then.
pub fn guarded(
    mut plan: Plan,
    settings: &Settings,
    observed: &Observed,
    owner_at_end: Option<Owner>,
) -> Plan {
    let moves = plan.steps().any(touches_network);
    if settings.switch.boot_unit == BootUnit::None {
        return plan;
    }
    if !observed.host.systemd {
        plan.notes.extend(moves.then(|| by_hand(settings)));
        return plan;
    }
    if is_foreign(observed) {
        plan.notes.extend(moves.then(|| {
            format!("{UNIT} is no plain file and is left as it is: after a reboot the node may stay dark")
        }));
        return plan;
    }
    let stays = owner_at_end == Some(Owner::Bridge);
    if moves || stays {
        let install = Plan::of(
            "Have the node come back by itself after a reboot",
            install(settings, observed),
        );
        let stages = std::mem::take(&mut plan.stages);
        plan.stages = install.stages.into_iter().chain(stages).collect();
    }
    if owner_at_end == Some(Owner::Uplink) {
        let installed = if moves { Some(text(&settings.paths.state)) } else { None };
        plan.push("A reboot needs no help any more", remove(observed, installed.as_deref()));
    }
    plan
}

/// A way back with the unit as it was: put back before the network is touched, or taken
/// away after it.
pub fn as_before(mut plan: Plan, observed: &Observed, before: &Observed) -> Plan {
    let was = |path: &str| before.files.get(path);
    let mut put = Vec::new();
    if let Some(FileState::Regular { mode, sha256, .. }) = was(UNIT) {
        let (mode, sha256) = (*mode, *sha256);
        let is_so = matches!(observed.files.get(UNIT),
            Some(FileState::Regular { mode: m, sha256: found, .. }) if (*m, *found) == (mode, sha256));
        if !is_so {
            let path = UNIT.to_owned();
            put.push(file::Step::Write { path, mode, source: Source::Store, sha256 });
        }
    }
    if let Some(FileState::Symlink { target }) = was(WANTED)
        && observed.files.get(WANTED) != was(WANTED)
    {
        put.push(file::Step::Link { path: WANTED.into(), target: target.clone() });
    }
    let put = Plan::of("Have the node come back from a reboot as before", put);
    let stages = std::mem::take(&mut plan.stages);
    plan.stages = put.stages.into_iter().chain(stages).collect();
    let mut clear = leftovers(observed);
    for path in [WANTED, UNIT].into_iter().filter(|path| was(path).is_none()) {
        clear.extend(observed.files.get(path).and_then(|found| gone(path, found)));
    }
    plan.push(
        "Remove the unit that was not there before",
        clear.into_iter().map(Step::File).collect(),
    );
    plan
}

fn touches_network(step: &Step) -> bool {
    matches!(step, Step::Handover(_) | Step::Ovs(_))
}

fn by_hand(settings: &Settings) -> String {
    let (state, uplink) = (&settings.paths.state, &settings.node.uplink);
    format!(
        "this host has no systemd: have its boot scripts run `{} restore --boot \
         --state-dir {state}` after the network and Open vSwitch and before kubelet, else {uplink} may \
         stay dark after a reboot",
        program(settings)
    )
}

/// A link (to `/dev/null`: a person masked the unit) or worse is not ours to replace.
fn is_foreign(observed: &Observed) -> bool {
    !matches!(observed.files.get(UNIT), None | Some(FileState::Regular { .. }))
}

fn install(settings: &Settings, observed: &Observed) -> Vec<file::Step> {
    const MODE: u32 = 0o644;
    let text = text(&settings.paths.state);
    let sha256 = Digest::of(text.as_bytes());
    let mut steps = leftovers(observed);
    let path = UNIT.to_owned();
    match observed.files.get(UNIT) {
        Some(FileState::Regular { mode: MODE, sha256: found, .. }) if *found == sha256 => {}
        found => {
            if let Some(kept) = found.and_then(FileState::sha256) {
                steps.push(file::Step::Keep { path: path.clone(), sha256: kept });
            }
            let source = Source::Inline(text);
            steps.push(file::Step::Write { path, mode: MODE, source, sha256 });
        }
    }
    let wanted = FileState::Symlink { target: UNIT.into() };
    if observed.files.get(WANTED) != Some(&wanted) {
        if !observed.files.contains_key(WANTS) {
            steps.push(file::Step::MakeDirectory { path: WANTS.into(), mode: 0o755 });
        }
        steps.push(file::Step::Link { path: WANTED.into(), target: UNIT.into() });
    }
    steps
}

/// The link first: a link that leads nowhere is one that systemd complains of.
fn remove(observed: &Observed, installed: Option<&str>) -> Vec<Step> {
    let mut now = observed.clone();
    if let Some(text) = installed {
        let sha256 = Digest::of(text.as_bytes());
        let unit = FileState::Regular { mode: 0o644, size: 0, sha256 };
        now.files.insert(UNIT.into(), unit);
        now.files.insert(WANTED.into(), FileState::Symlink { target: UNIT.into() });
    }
    let mut steps = if installed.is_some() { Vec::new() } else { leftovers(observed) };
    if let Some(sha256) = now.files.get(UNIT).and_then(FileState::sha256) {
        steps.push(file::Step::Keep { path: UNIT.into(), sha256 });
    }
    for path in [WANTED, UNIT] {
        steps.extend(now.files.get(path).and_then(|found| gone(path, found)));
    }
    steps.into_iter().map(Step::File).collect()
}

/// What a killed write left.
fn leftovers(observed: &Observed) -> Vec<file::Step> {
    [staged_beside(UNIT), staged_beside(WANTED)]
        .iter()
        .filter_map(|path| gone(path, observed.files.get(path)?))
        .collect()
}

fn gone(path: &str, found: &FileState) -> Option<file::Step> {
    let path = path.to_owned();
    match found {
        FileState::Regular { sha256, .. } => {
            Some(file::Step::Remove { path, sha256: Some(*sha256) })
        }
        FileState::Symlink { .. } => Some(file::Step::Remove { path, sha256: None }),
        FileState::Directory | FileState::Other => None,
    }
}

impl Plan {
    fn of(title: &str, steps: Vec<file::Step>) -> Self {
        let mut plan = Self::default();
        plan.push(title, steps.into_iter().map(Step::File).collect());
        plan
    }
}
