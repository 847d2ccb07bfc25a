//! `restore --boot`: makes the node reachable after a boot, before kubelet.
//!
//! It needs neither the API server nor the configuration, only the journal's last record. It
//! looks at nothing but the network and Open vSwitch, takes a bounded time, and leaves an
//! open transaction open: the agent, which the node can get now, ends it.

use crate::apply::{ApplyError, Executor};
use crate::journal::{Journal, JournalError, Record};
use crate::observe::{self, ObserveError};
use crate::probe::{self, ProbeError};
use crate::transaction::Progress;
use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::config::Node;
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::Observed;
use pointsman_core::phase::Phase;
use pointsman_core::plan::boot::{self, Course};
use pointsman_core::plan::handover::Owner;
use pointsman_core::plan::{Plan, Refusal, Step};
use pointsman_core::probe::gateways;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The note that a boot leaves beside the journal.
pub const NOTE: &str = "boot.json";

/// How long the host's own configuration may take to give the links their addresses.
const CONFIGURATION: Duration = Duration::from_secs(30);
/// A network that has all that is expected, and does not change for so long, is complete.
const CALM: Duration = Duration::from_secs(1);
/// The same of a network that has something else than was expected.
const LONG_CALM: Duration = Duration::from_secs(5);
/// How long a vswitchd that lives may take to make the ports it is told.
const PORTS: Duration = Duration::from_secs(15);
/// How long a gateway may take to answer out of a bridge that says it is well: a switch
/// that has just seen its link come up may take its time too.
const GATEWAY: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// How often a second look is taken until it finds nothing left.
const LOOKS: u32 = 10;
/// How often the harbour is tried.
const TRIES: u32 = 3;

/// What a boot's unit did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootNote {
    /// On which boot.
    pub boot_id: String,
    /// What it did.
    pub did: Did,
    /// In plain words.
    pub message: String,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Did {
    /// Nothing: the node was reachable.
    Nothing,
    /// Moved the addresses to the bridge.
    Completed,
    /// Freed the uplink, and saw to its addresses.
    Freed,
    /// Neither could be verified.
    Failed,
}

/// A boot that could not be judged.
#[derive(Debug, Error)]
pub enum BootError {
    /// What the host is.
    #[error("look at the host after its boot")]
    Observe(#[source] ObserveError),
    /// The note.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Reasoned for BootError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Observe(source) => source.reason(),
            Self::Journal(source) => source.reason(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Observe(source) => source.is_transient(),
            Self::Journal(source) => source.is_transient(),
        }
    }
}

/// Why one way did not lead where it should.
#[derive(Debug, Error)]
enum Obstacle {
    #[error("look again")]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("{gateways} does not answer out of {bridge}")]
    Silent { bridge: String, gateways: String },
    #[error("every step succeeded, but a second look finds more to do, first: {0}")]
    Left(String),
}

/// A host that has just booted.
pub struct Boot<'a> {
    /// The journal's last.
    pub record: &'a Record,
    /// Placed as that record's settings say.
    pub executor: &'a Executor,
    /// Keeps the note.
    pub journal: &'a Journal,
    /// Is told of every step.
    pub progress: &'a (dyn Progress + Sync),
}

impl std::fmt::Debug for Boot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boot").field("record", self.record).finish_non_exhaustive()
    }
}

impl Boot<'_> {
    /// Does what there is to do, and notes it for the agent.
    pub fn come_up(&self) -> Result<BootNote, BootError> {
        let owner = boot::owner_at_end(
            &self.record.goal,
            self.record.phase,
            &self.record.settings,
            &self.record.checkpoint,
        );
        self.journal.note(&format!("after a boot; the addresses belong to {owner:?}"));
        let first = self.look().map_err(BootError::Observe)?;
        // whatever the host's configuration is waiting for on the wire, it can hear now
        if owner != Some(Owner::Bridge)
            && matches!(self.course(owner, &first), Course::Harbour { .. })
            && let Err(why) = self.try_way(Owner::Uplink, &first, None)
        {
            tracing::warn!(why = %chain(&why), "could not free the uplink at once");
        }
        let now = self.settled(owner).map_err(BootError::Observe)?;
        let (did, message) = self.go(owner, &now);
        tracing::info!(?did, message, "the boot is judged");
        let note = BootNote { boot_id: now.host.boot_id, did, message };
        self.journal.write_note(NOTE, &note)?;
        Ok(note)
    }

    fn look(&self) -> Result<Observed, ObserveError> {
        observe::reachability(self.executor, &self.record.settings)
    }

    fn course(&self, owner: Option<Owner>, observed: &Observed) -> Course {
        boot::course(owner, self.record.is_open(), &self.record.settings, observed)
    }

    /// The host once its own configuration, and vswitchd, have done their work; or when they
    /// have had their time.
    fn settled(&self, owner: Option<Owner>) -> Result<Observed, ObserveError> {
        let settings = &self.record.settings;
        let start = Instant::now();
        let mut last = self.look()?;
        let mut changed = Instant::now();
        loop {
            let calm = if boot::is_complete(settings, &self.record.checkpoint.before, &last) {
                CALM
            } else {
                LONG_CALM
            };
            let addressed = changed.elapsed() >= calm && boot::has_addresses(settings, &last);
            let daemons = last.ovs.vswitchd || last.ovs.ovsdb_server;
            let coming = owner == Some(Owner::Bridge)
                && daemons
                && start.elapsed() < PORTS
                && matches!(self.course(owner, &last), Course::Harbour { .. });
            if (addressed && !coming) || start.elapsed() >= CONFIGURATION {
                return Ok(last);
            }
            std::thread::sleep(BETWEEN_LOOKS);
            let next = self.look()?;
            if boot::fingerprint(&next) != boot::fingerprint(&last) {
                changed = Instant::now();
            }
            last = next;
        }
    }

    fn go(&self, owner: Option<Owner>, now: &Observed) -> (Did, String) {
        let (uplink, bridge) =
            (&self.record.settings.node.uplink, &self.record.settings.node.bridge);
        let own = Some(&self.record.checkpoint);
        if !boot::has_addresses(&self.record.settings, now) && owner.is_some() {
            let why = format!("the host's own configuration gave {uplink} no address");
            return self.harbour(&why, own);
        }
        match self.course(owner, now) {
            Course::Stay if self.record.is_open() => {
                self.harbour("the boot interrupted a transaction", own)
            }
            Course::Stay => (Did::Nothing, format!("{uplink} is free, there was nothing to do")),
            Course::Harbour { why } => self.harbour(&why, own.filter(|_| self.record.is_open())),
            Course::Complete => match self.complete(now) {
                Ok(()) => {
                    let message = format!("moved the addresses from {uplink} to {bridge} again");
                    (Did::Completed, message)
                }
                Err(why) => {
                    let why = format!("{bridge} could not get the addresses: {}", chain(&why));
                    let before = now.clone();
                    let transaction = self.record.checkpoint.transaction.clone();
                    let half = Checkpoint { schema: CHECKPOINT_SCHEMA, transaction, before };
                    self.harbour(&why, Some(&half))
                }
            },
        }
    }

    /// A vswitchd that says it is well may yet forward nothing: one of 3.1 that was started
    /// in the first ten seconds of uptime counts no processors and loses every upcall.
    fn complete(&self, now: &Observed) -> Result<(), Obstacle> {
        self.try_way(Owner::Bridge, now, None)?;
        let Node { uplink, bridge, .. } = &self.record.settings.node;
        let gateways = gateways(now, [uplink, bridge]);
        let heard = probe::answering(bridge, &gateways, GATEWAY)?;
        if heard.is_empty() && !gateways.is_empty() {
            let all: Vec<String> = gateways.iter().map(ToString::to_string).collect();
            return Err(Obstacle::Silent { bridge: bridge.clone(), gateways: all.join(", ") });
        }
        Ok(())
    }

    fn harbour(&self, why: &str, way_back: Option<&Checkpoint>) -> (Did, String) {
        let uplink = &self.record.settings.node.uplink;
        let mut failure = String::new();
        for _ in 0..TRIES {
            let tried = self
                .look()
                .map_err(Obstacle::from)
                .and_then(|now| self.try_way(Owner::Uplink, &now, way_back));
            match tried {
                Ok(()) => return (Did::Freed, format!("the addresses are on {uplink}: {why}")),
                Err(obstacle) => failure = chain(&obstacle),
            }
            tracing::warn!(why = failure, "trying the way to the harbour again");
            std::thread::sleep(CALM);
        }
        (Did::Failed, format!("{why}; and the addresses could not be put on {uplink}: {failure}"))
    }

    /// Plans, carries out and verifies one way.
    fn try_way(
        &self,
        to: Owner,
        from: &Observed,
        way_back: Option<&Checkpoint>,
    ) -> Result<(), Obstacle> {
        let settings = &self.record.settings;
        let plan = |now: &Observed| boot::plan(to, settings, now, way_back);
        self.apply(to, &plan(from)?)?;
        let mut left = plan(&self.look()?)?;
        for _ in 1..LOOKS {
            if left.is_empty() {
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
            left = plan(&self.look()?)?;
        }
        match left.steps().next() {
            None => Ok(()),
            Some(step) => Err(Obstacle::Left(step.to_string())),
        }
    }

    fn apply(&self, to: Owner, plan: &Plan) -> Result<(), ApplyError> {
        let phase = match to {
            Owner::Bridge => Phase::Applying,
            Owner::Uplink => Phase::RollingBack,
        };
        for (number, step) in plan.steps().enumerate() {
            let words = Step::to_string(step);
            self.journal.note_step(number, &words);
            self.progress.tell(phase, &words);
            self.executor.apply(step)?;
        }
        Ok(())
    }
}
