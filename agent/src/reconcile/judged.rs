//! What a look at the host cannot tell by itself: whether its modules work on this boot, and
//! whether a reboot that was asked for has ended.

use super::Workshop;
use super::told::Silent;
use crate::journal::Failure;
use crate::node::Seen;
use pointsman_core::decision::{MODULES_STAGED, Verdict, done_with_kubelet};
use pointsman_core::error::chain;
use pointsman_core::goal::Goal;
use pointsman_core::model::Observed;
use pointsman_core::report::State;
use pointsman_core::request::verbatim;

/// Holds the boot on which a set was staged, until it is done or undone.
const STAGED: &str = "staged.json";

impl Workshop {
    /// A verdict that says verified only where that is so.
    pub(super) fn judged(&self, seen: &Seen, observed: &Observed, verdict: &Verdict) -> Verdict {
        let verdict = self.after_reboot(observed, verdict.clone());
        self.proven(seen, observed, verdict)
    }

    fn after_reboot(&self, observed: &Observed, verdict: Verdict) -> Verdict {
        let boot = &observed.host.boot_id;
        let staged: Option<String> = self.journal.read_note(STAGED).unwrap_or_default();
        if verdict.reason == MODULES_STAGED {
            self.note_staged(staged.as_ref(), Some(boot));
            return verdict;
        }
        let rebooted = staged.as_ref().is_some_and(|then| then != boot);
        let verdict = if rebooted { done_with_kubelet(verdict, observed) } else { verdict };
        if verdict.verified.is_some() {
            self.note_staged(staged.as_ref(), None);
        }
        verdict
    }

    fn note_staged(&self, known: Option<&String>, now: Option<&String>) {
        if known != now
            && let Err(error) = self.journal.write_note(STAGED, &now)
        {
            tracing::warn!(error = %chain(&error), "could not note what waits for a reboot");
        }
    }

    fn proven(&self, seen: &Seen, observed: &Observed, verdict: Verdict) -> Verdict {
        let Some(id) = &verdict.verified else { return verdict };
        let Some(profile) = self.settings.profiles.get(&id.name) else { return verdict };
        let goal = Goal::Profile { name: id.name.clone(), profile: profile.clone() };
        let request = verbatim(&seen.annotations);
        match self.site(&Silent).prove(&goal, Some(&request), observed) {
            Ok(()) => verdict,
            Err(Failure { reason, message }) => {
                let message = format!("{} is in place and does not work: {message}", id.name);
                Verdict { state: State::Degraded, reason, message, verified: None }
            }
        }
    }
}
