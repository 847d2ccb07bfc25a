//! The guard of a bridge that owns the addresses: looks whether Open vSwitch still carries them,
//! takes them to the uplink when it does not, and lets them return when it does again.
//!
//! When to do what, [`pointsman_core::guard`] decides; here is what it is told, and what
//! comes of its word. The observation of the last time when all was verified is kept on
//! disk: it is where the addresses are taken from when they vanished with the bridge.

use super::Workshop;
use crate::journal::{Failure, Record};
use crate::netlink::openvswitch;
use crate::ovsdb::{Client, Snapshot, living};
use crate::probe;
use nix::net::if_::if_nametoindex;
use pointsman_core::error::chain;
use pointsman_core::guard::{Act, Gateway, Guard, Loss, Sign};
use pointsman_core::model::Observed;
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::handover::{Owner, normal};
use pointsman_core::plan::switch;
use pointsman_core::probe::gateways;
use serde::{Deserialize, Serialize};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How long a gateway has to answer: one on the wire answers in milliseconds.
const ANSWER: Duration = Duration::from_millis(700);
/// ovsdb-server answers out of its memory.
const REPLY: Duration = Duration::from_secs(1);
/// The state directory's file with what was verified last.
const VERIFIED: &str = "verified.json";
/// Why the addresses are on the uplink though the profile wants them on the bridge.
const LOST: &str = "OvsLost";

/// What a look has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// Nothing.
    Nothing,
    /// The addresses were taken to the uplink: that is to be reported.
    Taken,
    /// They may return: the profile is to be put in place again.
    Return,
    /// Another process has taken the node elsewhere: there is nothing to guard any more.
    Elsewhere,
}

/// The bridge that is watched.
#[derive(Debug)]
pub(super) struct Sentry {
    guard: Guard,
    /// When all was as the profile says.
    verified: Verified,
    /// The zero of the guard's clock.
    began: Instant,
    returning: Returning,
    /// What was seen last: only what is new is logged.
    last: Option<Sign>,
}

/// Whether the profile is being put in place again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returning {
    No,
    Asked,
    /// What comes of it, the next report tells.
    Tried,
}

/// The last time when all was as the profile says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Verified {
    /// With the links, addresses and routes that were to be kept.
    observed: Observed,
    /// The journal's transaction then: what another one left is to be looked at first.
    #[serde(default)]
    transaction: String,
}

impl Sentry {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Workshop {
    fn sentry(&self) -> MutexGuard<'_, Option<Sentry>> {
        self.sentry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on where an earlier process of this boot stopped.
    pub(super) fn resume_guard(&self) {
        let Some(mut verified) = self.journal.read_note::<Verified>(VERIFIED) else { return };
        let Ok(Some(record)) = self.journal.read() else { return };
        verified.transaction.clone_from(&record.checkpoint.transaction);
        let same_boot = crate::observe::host(&self.executor)
            .is_ok_and(|host| host.boot_id == verified.observed.host.boot_id);
        let grace = self.grace();
        let guard = match record.phase {
            Phase::Ended(End::Reached | End::Unchanged) => Guard::new(grace, Duration::ZERO),
            Phase::Ended(End::Degraded) if is_loss(&record) => Guard::after_loss(grace),
            _ => return,
        };
        // what was verified before the node was taken elsewhere is over
        if same_boot && record.goal.wants_bridge() {
            *self.sentry() = Some(Sentry {
                guard,
                verified,
                began: Instant::now(),
                returning: Returning::No,
                last: None,
            });
        }
    }

    /// To be told of each look that ends in a report, and whether all was as it should be.
    pub(super) fn mind(&self, observed: &Observed, is_verified: bool) {
        let on_bridge = switch::owner(&self.settings, observed) == Some(Owner::Bridge);
        let mut sentry = self.sentry();
        if !is_verified || !on_bridge {
            if is_verified {
                // somebody took the node elsewhere
                *sentry = None;
            } else if let Some(sentry) = sentry.as_mut().filter(|s| s.returning == Returning::Tried)
            {
                sentry.returning = Returning::No;
                sentry.guard.stayed();
            }
            return;
        }
        let transaction = self.transaction();
        let verified = Verified { observed: observed.clone(), transaction };
        let kept = sentry
            .as_ref()
            .is_some_and(|sentry| is_same(&self.settings.node.bridge, &sentry.verified, &verified));
        if !kept && let Err(error) = self.journal.write_note(VERIFIED, &verified) {
            tracing::warn!(error = %chain(&error), "could not note what was verified");
        }
        if let Some(sentry) = sentry.as_mut() {
            sentry.verified = verified;
            sentry.returning = Returning::No;
            if sentry.guard.is_away() {
                sentry.guard.returned(sentry.now());
            }
            return;
        }
        let guard = Guard::new(self.grace(), Duration::ZERO);
        let (began, returning) = (Instant::now(), Returning::No);
        *sentry = Some(Sentry { guard, verified, began, returning, last: None });
    }

    /// Whether the profile is to be put in place although its last try ended in a loss. Once.
    pub(super) fn is_to_return(&self) -> bool {
        let mut sentry = self.sentry();
        let asked = sentry.as_mut().filter(|sentry| sentry.returning == Returning::Asked);
        asked.is_some_and(|sentry| {
            sentry.returning = Returning::Tried;
            true
        })
    }

    /// One look, and what it leads to; none while somebody else is at work on the node.
    pub(super) fn stand_guard(&self) -> Watched {
        if self.sentry().is_none() || !self.try_enter() {
            return Watched::Nothing;
        }
        let watched = self.look_out();
        self.leave();
        watched
    }

    fn look_out(&self) -> Watched {
        let Some(mut sentry) = self.sentry().take() else { return Watched::Nothing };
        let sign = self.sign(&sentry);
        let (away, now) = (sentry.guard.is_away(), sentry.now());
        let watched = match sentry.guard.look(now, &sign) {
            Act::Wait => Watched::Nothing,
            Act::Return if self.is_elsewhere(&sentry.verified) => Watched::Elsewhere,
            Act::Return => {
                sentry.returning = Returning::Asked;
                tracing::info!("Open vSwitch is well again: the addresses return to the bridge");
                Watched::Return
            }
            Act::TakeToUplink(loss) => self.take_to_uplink(&mut sentry, &loss),
        };
        if sentry.last.as_ref() != Some(&sign) && !away {
            if let Some(loss) = &sign.loss {
                tracing::warn!(%loss, gateway = ?sign.gateway, "Open vSwitch is in trouble");
            } else {
                tracing::info!("Open vSwitch carries the addresses");
            }
        }
        sentry.last = Some(sign);
        if watched != Watched::Elsewhere {
            *self.sentry() = Some(sentry);
        }
        watched
    }

    fn take_to_uplink(&self, sentry: &mut Sentry, loss: &Loss) -> Watched {
        let Ok(Some(record)) = self.journal.read() else { return Watched::Nothing };
        if record.is_open() {
            // the way back of a transaction leads to the uplink too
            return Watched::Nothing;
        }
        if self.is_elsewhere(&sentry.verified) {
            return Watched::Elsewhere;
        }
        self.journal.work();
        let (bridge, uplink) = (&self.settings.node.bridge, &self.settings.node.uplink);
        let now = sentry.now();
        let mut after = sentry.guard.clone();
        after.taken(now);
        let failure = Failure {
            reason: LOST.into(),
            message: format!(
                "{loss}, and the gateway does not answer out of {bridge}: the addresses were taken \
                 to {uplink}; they return when Open vSwitch has been well for {} s: see why it \
                 stopped, and start it",
                after.hold().as_secs()
            ),
        };
        let before = sentry.verified.observed.clone();
        match self.site(&super::told::Silent).retreat(record, before, failure) {
            Ok(outcome) if outcome.end == End::Degraded => {
                sentry.guard = after;
                sentry.verified.transaction = self.transaction();
                Watched::Taken
            }
            Ok(outcome) => {
                tracing::error!(end = ?outcome.end, "the addresses could not be taken to the uplink");
                Watched::Taken
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "could not take the addresses to the uplink");
                Watched::Nothing
            }
        }
    }

    /// The journal's last.
    fn transaction(&self) -> String {
        let record = self.journal.read().ok().flatten();
        record.map_or_else(String::new, |record| record.checkpoint.transaction)
    }

    /// Whether another process has begun since what may have moved the addresses.
    fn is_elsewhere(&self, verified: &Verified) -> bool {
        let Ok(Some(record)) = self.journal.read() else { return false };
        let elsewhere = record.goal.may_touch_network()
            && record.checkpoint.transaction != verified.transaction;
        if elsewhere {
            tracing::info!(goal = %record.goal, "the node was taken elsewhere: looking anew");
        }
        elsewhere
    }

    fn sign(&self, sentry: &Sentry) -> Sign {
        let loss = if sentry.guard.is_away() { self.unwell() } else { self.loss(&sentry.verified) };
        let gateway = match &loss {
            Some(loss) if !sentry.guard.is_away() => self.gateway(&sentry.verified, loss),
            Some(_) | None => Gateway::Unknown,
        };
        Sign { loss, gateway }
    }

    /// What is wrong with the bridge that owns the addresses.
    fn loss(&self, verified: &Verified) -> Option<Loss> {
        let (bridge, uplink) = (self.settings.node.bridge.clone(), &self.settings.node.uplink);
        if if_nametoindex(bridge.as_str()).is_err() {
            return Some(Loss::BridgeGone { bridge });
        }
        if self.is_taken_out(verified) {
            return Some(Loss::UplinkTakenOut { uplink: uplink.clone(), bridge });
        }
        missing_daemon()
    }

    fn is_taken_out(&self, verified: &Verified) -> bool {
        let uplink = &self.settings.node.uplink;
        let ovs = &verified.observed.ovs;
        if ovs.datapaths.iter().any(|datapath| datapath.vports.contains(uplink)) {
            // who cannot be asked has not said no
            return openvswitch::datapaths()
                .is_ok_and(|now| !now.iter().any(|datapath| datapath.vports.contains(uplink)));
        }
        // the user-space datapath: only the database tells
        let Ok(mut client) = Client::connect(&self.executor.ovsdb, REPLY) else { return false };
        Snapshot::read(&mut client).is_ok_and(|now| now.interface(uplink).is_none())
    }

    /// Whether Open vSwitch could take the addresses back, seen from the uplink.
    fn unwell(&self) -> Option<Loss> {
        if let Some(loss) = missing_daemon() {
            return Some(loss);
        }
        let answers = Client::connect(&self.executor.ovsdb, REPLY)
            .and_then(|mut client| Snapshot::read(&mut client))
            .is_ok();
        (!answers).then(|| Loss::DaemonGone { daemon: "ovsdb-server that answers".into() })
    }

    fn gateway(&self, verified: &Verified, loss: &Loss) -> Gateway {
        let (bridge, uplink) = (&self.settings.node.bridge, &self.settings.node.uplink);
        let asked = gateways(&verified.observed, [uplink, bridge]);
        if asked.is_empty() || matches!(loss, Loss::BridgeGone { .. }) {
            return Gateway::Unknown;
        }
        match probe::answering(bridge, &asked, ANSWER) {
            Ok(heard) if heard.is_empty() => Gateway::Silent,
            Ok(_) => Gateway::Answers,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not ask the gateway");
                Gateway::Unknown
            }
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(self.settings.guard.grace.into())
    }
}

fn missing_daemon() -> Option<Loss> {
    let missing = ["ovs-vswitchd", "ovsdb-server"].into_iter().find(|name| living(name).is_empty());
    missing.map(|daemon| Loss::DaemonGone { daemon: daemon.into() })
}

fn is_loss(record: &Record) -> bool {
    record.failure.as_ref().is_some_and(|failure| failure.reason == LOST)
}

/// Whether nothing worth a write has changed: lifetimes run down all the time.
fn is_same(bridge: &str, one: &Verified, other: &Verified) -> bool {
    let of = |verified: &Verified| {
        let mut network = verified.observed.network.clone();
        // routes of pods come and go on other links
        network.routes.retain(|route| {
            let legs = route.hops.iter().map(|hop| hop.link.as_str());
            let by_object = route.object().is_some();
            by_object || route.link.as_deref().into_iter().chain(legs).any(|link| link == bridge)
        });
        normal(&network, bridge)
    };
    one.transaction == other.transaction
        && one.observed.host == other.observed.host
        && of(one) == of(other)
}
