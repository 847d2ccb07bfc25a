//! The second half of verifying: whoever answered before the move answers after it.

use super::{Failure, Site, touches_network, witness};
use crate::journal::Record;
use crate::observe;
use crate::probe::{self, answering};
use pointsman_core::config::Settings;
use pointsman_core::error::{Reasoned as _, chain};
use pointsman_core::model::Observed;
use pointsman_core::plan::handover::Owner;
use pointsman_core::plan::switch;
use pointsman_core::plan::{Plan, Refusal};
use pointsman_core::probe::{Baseline, Gateway, gateways};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a gateway is waited for before a move: one that is there answers in milliseconds.
const BASELINE: Duration = Duration::from_secs(1);
/// How long a link that has just come up may take until its switch forwards: after a boot
/// nobody knows that it does.
const LINK_UP: Duration = Duration::from_secs(20);
/// One round of questions.
const ROUND: Duration = Duration::from_secs(2);
/// What the dead-man grants for one round.
const GRANT: Duration = Duration::from_secs(30);

/// The API server answered before the move and not after it, and does again after going back.
const API_LOST: &str = "ApiLost";
/// The same, and it does not answer after going back either.
const API_UNREACHABLE: &str = "ApiUnreachable";

impl Site<'_> {
    /// Asks everybody once, where the plan touches the network; who can prove nothing, and
    /// why, is for the notes. Where nobody can be asked at all the move is refused, unless it
    /// is a way back.
    pub(super) fn baseline(
        &self,
        plan: &Plan,
        observed: &Observed,
        may_refuse: bool,
    ) -> Result<(Baseline, Vec<String>), Refusal> {
        let Some(link) =
            owner(self.settings, observed).filter(|_| plan.steps().any(touches_network))
        else {
            return Ok((Baseline::default(), Vec::new()));
        };
        let node = &self.settings.node;
        let known = gateways(observed, [&node.uplink, &node.bridge]);
        let mut notes = Vec::new();
        if known.is_empty() {
            notes.push(witness::no_gateway(&link));
        }
        let heard = match answering(&link, &known, BASELINE) {
            Err(error) if may_refuse => return Err(witness::refuse(&link, &chain(&error))),
            Err(error) => Err(witness::unasked(&link, &chain(&error))),
            Ok(heard) => Ok(heard),
        };
        let (gateways, silent): (Vec<Gateway>, Vec<Gateway>) = known
            .into_iter()
            .partition(|gateway| heard.as_ref().is_ok_and(|heard| heard.contains(&gateway.ip)));
        let silent: Vec<IpAddr> = silent.iter().map(|gateway| gateway.ip).collect();
        match heard {
            Err(unasked) => notes.push(unasked),
            Ok(_) if silent.is_empty() => {}
            Ok(_) => notes.push(witness::silent(&link, &probe::words(&silent))),
        }
        let api = self.asks_api(&mut notes);
        if gateways.is_empty() && !api {
            notes.push(witness::NOBODY.to_owned());
        }
        for note in &notes {
            tracing::warn!("{note}");
        }
        Ok((Baseline { gateways, api }, notes))
    }

    fn asks_api(&self, notes: &mut Vec<String>) -> bool {
        let answers = self.api.is_some_and(probe::ApiServer::answers);
        notes
            .extend(self.api.filter(|_| !answers).map(|api| witness::api_silent(&api.to_string())));
        answers
    }

    /// Until everybody answers who did, or the time is over.
    ///
    /// Where nobody was asked before, one of the gateways that the node has now suffices: of
    /// the others nobody knows whether they ever did.
    pub(super) fn confirm(&self, record: &Record) -> Result<(), Failure> {
        let limit = Duration::from_secs(record.settings.switch.confirm_timeout.into());
        let start = Instant::now();
        let Some(baseline) = &record.baseline else {
            if !record.goal.may_touch_network() {
                return Ok(());
            }
            let node = &record.settings.node;
            let known = gateways(&self.reachability(record)?, [&node.uplink, &node.bridge]);
            return self.gateways_answer(record, &known, Who::One, limit.max(LINK_UP));
        };
        self.gateways_answer(record, &baseline.gateways, Who::All, limit)?;
        let Some(api) = self.api.filter(|_| baseline.api) else { return Ok(()) };
        self.tell(record, &format!("connecting anew to the API server {api}"));
        let left = limit.saturating_sub(start.elapsed());
        if api.answers_within(left, || self.deadman.grant(GRANT)) {
            return Ok(());
        }
        Err(Failure {
            reason: API_LOST.into(),
            message: format!(
                "the API server {api} took connections before the move, and no new one within {} s after it",
                limit.as_secs()
            ),
        })
    }

    fn gateways_answer(
        &self,
        record: &Record,
        wanted: &[Gateway],
        who: Who,
        limit: Duration,
    ) -> Result<(), Failure> {
        let may_be_silent = match who {
            Who::All => 0,
            Who::One => wanted.len().saturating_sub(1),
        };
        let mut silent = wanted.to_vec();
        let start = Instant::now();
        let mut link = String::new();
        while silent.len() > may_be_silent {
            self.deadman.grant(GRANT);
            let seen = self.reachability(record)?;
            link = owner(&record.settings, &seen).unwrap_or_default();
            let names: Vec<IpAddr> = silent.iter().map(|gateway| gateway.ip).collect();
            self.tell(record, &format!("asking {} out of {link}", probe::words(&names)));
            let round = ROUND.min(limit.saturating_sub(start.elapsed()));
            match answering(&link, &silent, round) {
                Ok(heard) => silent.retain(|gateway| !heard.contains(&gateway.ip)),
                Err(error) => {
                    tracing::warn!(reason = error.reason(), error = %chain(&error), "asking again");
                    std::thread::sleep(ROUND.min(Duration::from_millis(200)));
                }
            }
            if start.elapsed() >= limit {
                break;
            }
        }
        if silent.len() <= may_be_silent {
            return Ok(());
        }
        let names: Vec<IpAddr> = silent.iter().map(|gateway| gateway.ip).collect();
        let (names, seconds) = (probe::words(&names), limit.as_secs());
        let message = match who {
            Who::All => format!(
                "the gateway {names} answered before the move, and not out of {link} within {seconds} s after it"
            ),
            Who::One => {
                format!(
                    "no gateway answers out of {link} within {seconds} s after the move: {names}"
                )
            }
        };
        Err(Failure { reason: "GatewayUnreachable".into(), message })
    }

    fn reachability(&self, record: &Record) -> Result<Observed, Failure> {
        observe::reachability(self.executor, &record.settings, record.database_file())
            .map_err(|error| super::failure_of(&error))
    }

    /// After going back: was it the move, or is it the API server?
    pub(super) fn judge_api(&self, record: &mut Record) {
        let Some(failure) = record.failure.as_mut().filter(|f| f.reason == API_LOST) else {
            return;
        };
        let Some(api) = self.api else { return };
        let limit = Duration::from_secs(record.settings.switch.confirm_timeout.into());
        if api.answers_within(limit, || self.deadman.grant(GRANT)) {
            failure.message.push_str("; after going back it does again");
        } else {
            failure.reason = API_UNREACHABLE.into();
            failure.message.push_str("; nor does it after going back, so the move may be innocent");
        }
    }

    fn tell(&self, record: &Record, words: &str) {
        self.journal.note(words);
        self.progress.tell(record.phase, words);
    }
}

/// Of several gateways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    All,
    One,
}

/// The link that owns the node's addresses.
fn owner(settings: &Settings, observed: &Observed) -> Option<String> {
    let node = &settings.node;
    Some(match switch::owner(settings, observed)? {
        Owner::Bridge => node.bridge.clone(),
        Owner::Uplink => node.uplink.clone(),
    })
}
