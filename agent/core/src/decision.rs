//! What to do next for a Node: from its annotations, the settings, the observation and
//! the last attempt to one decision. Pure, like the planners that it asks.

use crate::checkpoint::Checkpoint;
use crate::config::{Profile, Settings};
use crate::drift;
use crate::error::{Reasoned, chain};
use crate::goal::Goal;
use crate::keys::Annotations;
use crate::model::Observed;
use crate::phase::End;
use crate::plan::handover::coexistence;
use crate::plan::{Plan, Refusal, Step, switch};
use crate::report::State;
use crate::request::{ProfileId, Request, Wanted};
use serde::{Deserialize, Serialize};

/// The reason of [`State::RebootRequired`] where a set waits on disk.
pub const MODULES_STAGED: &str = "ModulesStaged";
/// A module that is neither usable nor gone: nothing but a reboot helps.
const MODULE_STUCK: &str = "ModuleStuck";

/// How the last transaction for a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The request that it answered, verbatim.
    pub request: String,
    /// The boot that it ran on.
    pub boot_id: String,
    /// How it ended.
    pub end: End,
    /// Why, in one word; empty where it was reached.
    pub reason: String,
    /// Why, in plain words; empty where it was reached.
    pub message: String,
}

/// What is said of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// A stable `CamelCase` word.
    pub reason: String,
    /// Plain words, with what to do.
    pub message: String,
    /// The profile that is verified; none while none is.
    pub verified: Option<ProfileId>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing but say so.
    Report(Verdict),
    /// Carry this out, once.
    Attempt {
        /// What for.
        goal: Goal,
        /// The profile's identity on this node.
        profile: ProfileId,
        /// The request, verbatim.
        request: String,
    },
}

fn say(state: State, reason: &str, message: impl Into<String>) -> Decision {
    Decision::Report(Verdict {
        state,
        reason: reason.into(),
        message: message.into(),
        verified: None,
    })
}

/// The minute after a switch, in which a foreign change is put right once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch<'a> {
    /// What was there before the switch, while the minute lasts: it tells what has gone since.
    pub checkpoint: Option<&'a Checkpoint>,
    /// What was changed and put right already, in plain words.
    pub repaired: Option<&'a str>,
    /// What the last transaction of this boot reached.
    pub staged: Option<&'a Goal>,
}

/// The next thing to do.
pub fn decide(
    annotations: &Annotations,
    settings: &Settings,
    observed: &Observed,
    last: Option<&Attempt>,
) -> Decision {
    decide_watching(annotations, settings, observed, last, Watch::default())
}

/// [`decide`], with what is known of the minute after the last switch.
pub fn decide_watching(
    annotations: &Annotations,
    settings: &Settings,
    observed: &Observed,
    last: Option<&Attempt>,
    watch: Watch<'_>,
) -> Decision {
    let request = match Request::read(annotations, settings.default_profile.as_deref()) {
        Ok(Some(request)) => request,
        Ok(None) => {
            let message = "no profile is asked for, and the configuration has no default_profile; \
                           annotate the node with pointsman.io/desired-profile";
            return say(State::Pending, "NoRequest", message);
        }
        Err(error) => {
            return say(State::Refused, error.reason(), format!("{error}; nothing was changed"));
        }
    };
    let (profile, id) = match find(&request.wanted, settings, observed) {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    let goal = Goal::Profile { name: id.name.clone(), profile: profile.clone() };
    let last = last.filter(|last| last.request == request.observed);
    let reached_here =
        |last: &&Attempt| last.end == End::Reached && last.boot_id == observed.host.boot_id;
    let staged = watch.staged;
    let watch = last.filter(reached_here).map(|_| watch).unwrap_or_default();
    let plan = match goal.plan(settings, observed, watch.checkpoint) {
        Ok(plan) => plan,
        Err(refusal) => {
            // how the try ended says more than why another one cannot begin
            if let Some(stands) = last.and_then(failure_that_stands) {
                return stands;
            }
            return refused(&refusal);
        }
    };
    if plan.is_empty() {
        return reached(settings, profile, observed, id, (&plan, watch, last));
    }
    if let Err(refusal) = switch::refuse_while_staged(settings, observed, staged, (&goal, &plan)) {
        return refused(&refusal);
    }
    if plan.steps().any(is_disruptive) {
        if let Some(before) = watch.repaired {
            return changed_back(&id, settings, observed, &plan, before);
        }
        if watch.checkpoint.is_some() {
            return Decision::Attempt { goal, profile: id, request: request.observed.clone() };
        }
    }
    let this_boot = last.is_some_and(|last| last.boot_id == observed.host.boot_id);
    pending(&request, (last, this_boot), &plan, (goal, id), (settings, observed))
}

fn refused(refusal: &Refusal) -> Decision {
    let state = match refusal.reason {
        MODULE_STUCK => State::RebootRequired,
        _ if refusal.transient => State::Pending,
        _ => State::Refused,
    };
    say(state, refusal.reason, chain(refusal))
}

/// The profile of a name, and its identity.
fn find<'a>(
    wanted: &Wanted,
    settings: &'a Settings,
    observed: &Observed,
) -> Result<(&'a Profile, ProfileId), Decision> {
    let Some(profile) = settings.profiles.get(&wanted.name) else {
        let known: Vec<&str> = settings.profiles.keys().map(String::as_str).collect();
        let message = format!(
            "the profile `{}` is unknown on this node, whose configuration has: {}; nothing was \
             changed; correct the annotation pointsman.io/desired-profile or add the profile",
            wanted.name,
            known.join(", ")
        );
        return Err(say(State::Refused, "UnknownProfile", message));
    };
    let content = profile.digest(observed.payload.as_ref().map(|payload| &payload.manifest));
    if let Err(error) = wanted.check(content) {
        return Err(say(State::Refused, error.reason(), format!("{error}; nothing was changed")));
    }
    Ok((profile, ProfileId { name: wanted.name.clone(), content }))
}

fn reached(
    settings: &Settings,
    profile: &Profile,
    observed: &Observed,
    id: ProfileId,
    (plan, watch, last): (&Plan, Watch<'_>, Option<&Attempt>),
) -> Decision {
    if switch::reboot_pending(settings, profile, observed) {
        let booted_since = last
            .is_some_and(|last| last.end == End::Reached && last.boot_id != observed.host.boot_id);
        if booted_since
            && let Some((reason, message)) = drift::of_memory(&id.name, settings, profile, observed)
        {
            return say(State::Degraded, reason, message);
        }
        let message = format!(
            "the files of {} are in place, and the kernel still runs the former module set; \
             reboot the node to load the new one",
            id.name
        );
        return say(State::RebootRequired, MODULES_STAGED, message);
    }
    let unproven = switch::unproven(settings, profile, observed);
    if !unproven.is_empty() {
        let message = format!(
            "the files of {} are in place, and nothing tells which build the loaded {} is: neither a \
             build id nor srcversion nor version is there to compare; a kernel with CONFIG_KALLSYMS \
             tells build ids",
            id.name,
            unproven.join(", ")
        );
        return say(State::Degraded, "IdentityUnproven", message);
    }
    let mut message = format!("{} is verified on this boot", id.name);
    for note in &plan.notes {
        message.push_str("; note: ");
        message.push_str(note);
    }
    if let Some(repaired) = watch.repaired {
        message.push_str("; put right once: ");
        message.push_str(repaired);
    }
    Decision::Report(Verdict {
        state: State::Done,
        reason: "Verified".into(),
        message,
        verified: Some(id),
    })
}

/// A profile that was staged on an earlier boot is not done before a kubelet runs again: the
/// node is of no use to its cluster until then.
pub fn done_with_kubelet(verdict: Verdict, observed: &Observed) -> Verdict {
    let Some(id) = verdict.verified.as_ref().filter(|_| observed.host.kubelet == Some(false))
    else {
        return verdict;
    };
    let message = format!(
        "the node was rebooted and the modules of {} are the loaded ones, but no kubelet runs on it: \
         start it (with SELinux enforcing, look for what was denied); the rest follows by itself",
        id.name
    );
    let (state, reason) = (State::RebootRequired, "KubeletNotRunning".into());
    Verdict { state, reason, message, verified: None }
}

/// Put right once and changed again: whoever does it is not fought.
fn changed_back(
    id: &ProfileId,
    settings: &Settings,
    observed: &Observed,
    plan: &Plan,
    before: &str,
) -> Decision {
    let message = format!(
        "{} was verified, and within a minute somebody else changed it ({before}); that was put \
         right once, and was changed again: {}; nothing more is done: stop whoever does it, and \
         ask again with pointsman.io/retry",
        id.name,
        what_changed(settings, observed, plan)
    );
    say(State::Degraded, "ChangedBack", message)
}

/// What a plan would put right, as what happened, and who of the known owners may have done it.
pub fn what_changed(settings: &Settings, observed: &Observed, plan: &Plan) -> String {
    const TOLD: usize = 3;
    let mut what: Vec<String> = plan.steps().filter_map(coexistence::happened).take(TOLD).collect();
    if what.is_empty() {
        what = plan.steps().take(TOLD).map(Step::to_string).collect();
    }
    let of_modules = |step: &Step| match step {
        Step::Modules(_) => true,
        Step::File(step) => step.to_string().contains(&settings.paths.modules),
        Step::Handover(_) | Step::Ovs(_) | Step::Cni(_) => false,
    };
    let suspects = coexistence::suspects(&settings.node.uplink, observed).into_iter();
    let mut who: Vec<String> = suspects.map(str::to_owned).collect();
    if plan.steps().any(of_modules) {
        who.extend(drift::rivals(observed, &settings.paths, &observed.host.kernel));
    }
    let who = if who.is_empty() {
        "by whom is unknown".into()
    } else {
        format!("likely by {}", who.join(" or "))
    };
    format!("{}, {who}", what.join("; "))
}

/// There is work to do: whether it may be done.
///
/// A failure stands until something else is asked for. A success stands for its boot:
/// with the next one the host's own configuration has made the network anew.
fn pending(
    request: &Request,
    (last, this_boot): (Option<&Attempt>, bool),
    plan: &Plan,
    (goal, profile): (Goal, ProfileId),
    (settings, observed): (&Settings, &Observed),
) -> Decision {
    let disrupts = plan.steps().any(is_disruptive);
    let attempt = Decision::Attempt { goal, profile, request: request.observed.clone() };
    if !request.explicit && disrupts {
        let message = format!(
            "the default profile {} would disrupt this node, and nobody asked for it; annotate \
             the node with pointsman.io/desired-profile={} to take it there",
            request.wanted.name, request.wanted.name
        );
        return say(State::Pending, "NoRequest", message);
    }
    if let Some(stands) = last.and_then(failure_that_stands) {
        return stands;
    }
    match last {
        Some(last) if last.end == End::Reached && this_boot && plan.steps().any(drift::is_felt) => {
            let name = &request.wanted.name;
            let (reason, message) = drift::of_plan(name, settings, observed, plan);
            say(State::Degraded, reason, message)
        }
        Some(_) | None => attempt,
    }
}

/// One try per request: its failure is what is said until something else is asked for.
fn failure_that_stands(last: &Attempt) -> Option<Decision> {
    let state = match last.end {
        End::RolledBack | End::Degraded if last.reason == MODULE_STUCK => State::RebootRequired,
        End::RolledBack => State::RolledBack,
        End::Degraded => State::Degraded,
        End::Reached | End::Refused | End::Unchanged => return None,
    };
    Some(say(state, &last.reason, last.message.clone()))
}

/// CNI files alone disturb no running pod.
fn is_disruptive(step: &Step) -> bool {
    match step {
        Step::Handover(_) | Step::Ovs(_) | Step::Modules(_) => true,
        Step::Cni(_) | Step::File(_) => false,
    }
}
