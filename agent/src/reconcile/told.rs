//! What is told on the Node: at rest, at work, and where nothing could be begun.

use super::Workshop;
use crate::boot::{self, BootNote, Did};
use crate::node::{Outbox, Seen};
use crate::report;
use crate::transaction::{Outcome, Progress};
use pointsman_core::decision::Verdict;
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::goal::Goal;
use pointsman_core::kernels::Kernels;
use pointsman_core::model::Observed;
use pointsman_core::phase::Phase;
use pointsman_core::plan::switch;
use pointsman_core::report::{Report, State};
use pointsman_core::request::{ProfileId, Request, verbatim};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// The profile that was verified last, and the one before it: a note beside the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Profiles {
    current: Option<ProfileId>,
    previous: Option<ProfileId>,
}

const PROFILES: &str = "profiles.json";

/// What was repaired did not stay.
#[derive(Debug, Error)]
#[error(
    "what the profile asks for was put in place three times and did not stay: somebody else \
     changes it back; find out who, and ask again with pointsman.io/retry"
)]
pub(super) struct ChangedBack;

impl Reasoned for ChangedBack {
    fn reason(&self) -> &'static str {
        "ChangedBack"
    }

    fn is_transient(&self) -> bool {
        true
    }
}

impl Workshop {
    pub(super) fn report(&self, seen: &Seen, observed: &Observed, verdict: &Verdict) -> Report {
        let verdict = &self.judged(seen, observed, verdict);
        self.mind(observed, verdict.verified.is_some());
        let mut profiles: Profiles = self.journal.read_note(PROFILES).unwrap_or_default();
        if let Some(id) =
            verdict.verified.as_ref().filter(|id| profiles.current.as_ref() != Some(id))
        {
            profiles = Profiles { current: Some(id.clone()), previous: profiles.current };
            if let Err(error) = self.journal.write_note(PROFILES, &profiles) {
                tracing::warn!(error = %chain(&error), "could not note the profile");
            }
        }
        let current = profiles.current.filter(|id| self.is_verified(id, observed));
        let mut report = report::of(&self.settings, observed);
        report.observed = verbatim(&seen.annotations);
        report.current_profile = current;
        report.previous_profile = profiles.previous;
        report.state = verdict.state;
        report.reason.clone_from(&verdict.reason);
        report.message.clone_from(&verdict.message);
        self.tell_of_boot(observed, &mut report.message);
        self.tell_of_next_kernel(seen, observed, &mut report);
        report.keep_transition_time(&seen.annotations);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        report.keep_transition_time(&said);
        *said = report.annotations();
        report
    }

    /// Adds what the boot's unit did, where it did anything on this boot and nothing was
    /// done since.
    fn tell_of_boot(&self, observed: &Observed, message: &mut String) {
        let boot = &observed.host.boot_id;
        let note: Option<BootNote> = self.journal.read_note(boot::NOTE);
        let last = self.journal.read().ok().flatten();
        let is_last = last.is_some_and(|last| last.checkpoint.before.host.boot_id != *boot);
        if let Some(note) = note.filter(|note| note.boot_id == *boot && is_last)
            && note.did != Did::Nothing
        {
            message.push_str("; after the boot, before kubelet: ");
            message.push_str(&note.message);
        }
    }

    /// Warns of a kernel that boots next and would not load what is asked for.
    fn tell_of_next_kernel(&self, seen: &Seen, observed: &Observed, report: &mut Report) {
        let default = self.settings.default_profile.as_deref();
        let Ok(Some(request)) = Request::read(&seen.annotations, default) else { return };
        let Some(profile) = self.settings.profiles.get(&request.wanted.name) else { return };
        report.warning = Kernels::of(observed, &self.settings.paths).warning(profile.modules);
        if let Some(warning) = &report.warning {
            report.message.push_str("; warning: ");
            report.message.push_str(&warning.message);
        }
    }

    /// Whether a profile, of this content, is what the node is now.
    fn is_verified(&self, id: &ProfileId, observed: &Observed) -> bool {
        let Some(profile) = self.settings.profiles.get(&id.name) else { return false };
        let manifest = observed.payload.as_ref().map(|payload| &payload.manifest);
        let goal = Goal::Profile { name: id.name.clone(), profile: profile.clone() };
        profile.digest(manifest) == id.content
            && !switch::reboot_pending(&self.settings, profile, observed)
            && matches!(goal.plan(&self.settings, observed, None), Ok(plan) if plan.is_empty())
    }
}

/// The way back is still open after it was tried: nothing else is begun.
pub(super) fn dark(outcome: Option<Outcome>) -> Verdict {
    let failure = outcome.and_then(|outcome| outcome.failure);
    let (reason, message) = failure.map_or_else(
        || ("Interrupted".to_owned(), "the way back is not taken yet; trying again".to_owned()),
        |failure| (failure.reason, failure.message),
    );
    Verdict { state: State::Degraded, reason, message, verified: None }
}

/// The report of an agent that cannot see the host, or not begin.
pub(super) fn blind(seen: &Seen, error: &dyn Reasoned) -> Report {
    let mut report = report::empty();
    report.observed = verbatim(&seen.annotations);
    report.state = State::Pending;
    report.reason = error.reason().into();
    report.message = chain(error);
    report.keep_transition_time(&seen.annotations);
    report
}

/// Nobody listens: recovery runs before the Node is known.
pub(super) struct Silent;

impl Progress for Silent {
    fn tell(&self, phase: Phase, words: &str) {
        tracing::info!(%phase, "{words}");
    }
}

/// Tells the Node of every phase.
pub(super) struct Herald {
    pub(super) outbox: Outbox,
    pub(super) seen: Seen,
    pub(super) observed: Observed,
    pub(super) profile: ProfileId,
    /// What was told last.
    pub(super) phase: Mutex<Option<Phase>>,
}

impl Progress for Herald {
    fn tell(&self, phase: Phase, words: &str) {
        tracing::info!(%phase, "{words}");
        let mut last = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if last.replace(phase) == Some(phase) {
            return;
        }
        let mut report = report::empty();
        report.boot_id.clone_from(&self.observed.host.boot_id);
        report.observed = verbatim(&self.seen.annotations);
        report.state = State::Working;
        report.phase = Some(phase);
        report.reason = "Switching".into();
        report.message = format!("taking the node to {}: {words}", self.profile.name);
        self.outbox.post(&self.seen.uid, report);
    }
}
