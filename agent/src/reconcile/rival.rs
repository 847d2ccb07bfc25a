//! CNI files that somebody else changed are put right, ever more slowly; whoever keeps changing
//! them is named, and no longer fought.
//!
//! Kept in memory only: an agent that starts anew begins anew.

use super::Workshop;
use crate::ovsdb::living;
use crate::transaction::{Outcome, Site, TransactionError};
use pointsman_core::config::CniChoice;
use pointsman_core::decision::{Attempt, Decision, Verdict};
use pointsman_core::goal::Goal;
use pointsman_core::model::Observed;
use pointsman_core::phase::End;
use pointsman_core::plan::cni::{Consent, Places, Toward, first_config};
use pointsman_core::plan::{Plan, Step, file};
use pointsman_core::report::State;
use pointsman_core::rivalry::{MOST, Rivalry, Turn, WINDOW};
use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

/// Programs that write CNI files, by the names that the kernel shows.
const WRITERS: [&str; 12] = [
    "antrea-agent",
    "calico-node",
    "cilium-agent",
    "flanneld",
    "install",
    "install-cni",
    "kube-router",
    "linkerd-cni",
    "multus",
    "multus-daemon",
    "ovnkube",
    "weaver",
];

/// The rivalry about the CNI files of one request.
#[derive(Debug)]
pub(super) struct Rival {
    request: String,
    rivalry: Rivalry,
    /// The zero of the rivalry's clock.
    began: Instant,
    /// When to look again.
    due: Option<Instant>,
    /// How the last repair failed.
    failure: Option<String>,
}

impl Default for Rival {
    fn default() -> Self {
        let (request, rivalry) = (String::new(), Rivalry::default());
        Self { request, rivalry, began: Instant::now(), due: None, failure: None }
    }
}

/// Returns when a repair that was put off may begin.
pub(super) async fn due(workshop: &Workshop) {
    let due = workshop.rival().due;
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl Workshop {
    fn rival(&self) -> MutexGuard<'_, Rival> {
        self.rival.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A decision, where it is to repair CNI files and nothing else: whether that may be now.
    pub(super) fn restrained(
        &self,
        observed: &Observed,
        decision: Decision,
        last: Option<&Attempt>,
    ) -> Decision {
        let mut rival = self.rival();
        rival.due = None;
        let Decision::Attempt { goal, profile, request } = decision else {
            let Decision::Report(verdict) = &decision else { return decision };
            if verdict.verified.is_some() {
                rival.rivalry.is_well();
            }
            return decision;
        };
        let Some((mend, plan)) = self.mending(observed, (&goal, &request), last) else {
            return Decision::Attempt { goal, profile, request };
        };
        if rival.request != request {
            *rival = Rival { request: request.clone(), ..Rival::default() };
        }
        let now = rival.began.elapsed();
        match rival.rivalry.turn(now) {
            Turn::Now => Decision::Attempt { goal: mend, profile, request },
            Turn::At(due) => {
                rival.due = rival.began.checked_add(due);
                let seconds = due.saturating_sub(now).as_secs_f64().ceil();
                let message = format!(
                    "{}; it was put right before, and is put right again in {seconds} s",
                    self.told(observed, &plan, rival.failure.as_deref())
                );
                degraded("CniDrifted", message)
            }
            Turn::Never => {
                let message = format!(
                    "{}; that was put right {MOST} times within {} min, and nothing more is done: \
                     stop whoever does it, and ask again with pointsman.io/retry",
                    self.told(observed, &plan, rival.failure.as_deref()),
                    WINDOW.as_secs() / 60
                );
                degraded("CniRival", message)
            }
        }
    }

    /// The goal of the CNI files alone, where they are all that a profile lacks that was reached
    /// for the same request.
    fn mending(
        &self,
        observed: &Observed,
        (goal, request): (&Goal, &str),
        last: Option<&Attempt>,
    ) -> Option<(Goal, Plan)> {
        let reached = |last: &&Attempt| last.request == request && last.end == End::Reached;
        last.filter(reached)?;
        let Goal::Profile { profile, .. } = goal else { return None };
        let to = match profile.cni {
            CniChoice::Payload => Toward::Payload,
            CniChoice::Absent => Toward::Absent,
            CniChoice::Leave => return None,
        };
        let plan = goal.plan(&self.settings, observed, None).ok()?;
        let places = Places::of(&self.settings.paths);
        let alone = plan.steps().all(|step| places.concerns(step));
        alone.then(|| (Goal::Cni { to, consent: Consent::default() }, plan))
    }

    /// Puts the files right; the switch that they belong to stays the last transaction.
    pub(super) fn mend(&self, site: &Site<'_>, goal: &Goal) -> Result<Outcome, TransactionError> {
        let outcome = site.mend(goal)?;
        let failure = outcome.failure.as_ref();
        self.rival().failure = failure.map(|why| format!("{}: {}", why.reason, why.message));
        tracing::warn!(end = ?outcome.end, "somebody else changed CNI files");
        Ok(outcome)
    }

    /// What changed, and who may have done it.
    fn told(&self, observed: &Observed, plan: &Plan, failure: Option<&str>) -> String {
        let changed: BTreeSet<&str> = plan
            .steps()
            .filter_map(|step| match step {
                Step::File(file::Step::Write { path, .. } | file::Step::Remove { path, .. }) => {
                    Some(path.as_str())
                }
                _ => None,
            })
            .collect();
        let changed: Vec<&str> = changed.into_iter().collect();
        let mut words = format!("somebody else changes {}", changed.join(", "));
        if let Some(failure) = failure {
            return format!("{words}, and the last repair failed: {failure}");
        }
        let places = Places::of(&self.settings.paths);
        let mut who: Vec<String> = WRITERS
            .iter()
            .flat_map(|name| living(name).into_iter().map(move |pid| format!("{name} (pid {pid})")))
            .collect();
        if let Some(first) =
            first_config(observed, &places).filter(|name| !name.starts_with("10-nsx."))
        {
            who.push(format!("whoever wrote {}/{first}", places.conf));
        }
        if who.is_empty() {
            words.push_str(", by whom is unknown");
        } else {
            words.push_str(", likely ");
            words.push_str(&who.join(" or "));
        }
        words
    }
}

fn degraded(reason: &str, message: String) -> Decision {
    let (state, reason) = (State::Degraded, reason.into());
    Decision::Report(Verdict { state, reason, message, verified: None })
}
