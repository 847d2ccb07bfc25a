//! `restore --boot`: makes the node reachable after a boot, before kubelet.
//!
//! It needs neither the API server nor the configuration, only the journal's last record. It
//! looks at nothing but the network and Open vSwitch, takes a bounded time, and leaves an
//! interrupted transaction open: the agent, which the node can get now, ends it.
//!
//! What it changes is a [transaction](crate::transaction) like any other, with its way back on
//! disk and a dead-man: nobody else would come to a node that this leaves half way. Should
//! it hang, kubelet waits for it, and the dead-man kills it and frees the uplink.

use crate::journal::{JournalError, Record};
use crate::observe::{self, ObserveError};
use crate::transaction::{Outcome, Site, TransactionError};
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::Observed;
use pointsman_core::phase::End;
use pointsman_core::plan::boot::{self, Course};
use pointsman_core::plan::handover::Owner;
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
/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

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
    /// The record could not be kept, or the dead-man took over.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

impl Reasoned for BootError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Observe(source) => source.reason(),
            Self::Journal(source) => source.reason(),
            Self::Transaction(source) => source.reason(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Observe(source) => source.is_transient(),
            Self::Journal(source) => source.is_transient(),
            Self::Transaction(source) => source.is_transient(),
        }
    }
}

/// A host that has just booted.
pub struct Boot<'a> {
    /// The journal's last.
    pub last: &'a Record,
    /// With that record's settings.
    pub site: Site<'a>,
}

impl std::fmt::Debug for Boot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boot").field("last", self.last).finish_non_exhaustive()
    }
}

impl Boot<'_> {
    /// Does what there is to do, and notes it for the agent.
    pub fn come_up(&self) -> Result<BootNote, BootError> {
        let Record { goal, phase, settings, checkpoint, .. } = self.last;
        let owner = boot::owner_at_end(goal, *phase, settings, checkpoint);
        self.site.journal.note(&format!("after a boot; the addresses belong to {owner:?}"));
        let first = self.look().map_err(BootError::Observe)?;
        let freed = self.free_at_once(owner, first)?;
        let now = self.settled(owner).map_err(BootError::Observe)?;
        let boot_id = now.host.boot_id.clone();
        let (did, message) = self.go(owner, now, freed)?;
        tracing::info!(?did, message, "the boot is judged");
        let note = BootNote { boot_id, did, message };
        self.site.journal.write_note(NOTE, &note)?;
        Ok(note)
    }

    fn look(&self) -> Result<Observed, ObserveError> {
        observe::reachability(self.site.executor, &self.last.settings, self.last.database_file())
    }

    fn course(&self, owner: Option<Owner>, observed: &Observed) -> Course {
        boot::course(owner, self.last.is_open(), &self.last.settings, observed)
    }

    /// Whatever the host's configuration is waiting for on the wire, it can hear then. Gives
    /// why, where that was done.
    fn free_at_once(
        &self,
        owner: Option<Owner>,
        first: Observed,
    ) -> Result<Option<String>, BootError> {
        let Course::Harbour { why } = self.course(owner, &first) else { return Ok(None) };
        if owner == Some(Owner::Bridge) {
            return Ok(None);
        }
        match self.site.free_uplink(self.last.clone(), Some(first), &why)? {
            Ok(()) => Ok(Some(why)),
            Err(failure) => {
                tracing::warn!(why = failure.message, "could not free the uplink at once");
                Ok(None)
            }
        }
    }

    /// The host once its own configuration, and vswitchd, have done their work; or when they
    /// have had their time.
    fn settled(&self, owner: Option<Owner>) -> Result<Observed, ObserveError> {
        let settings = &self.last.settings;
        // one that could not free the uplink at once still watches
        self.site.deadman.grant(CONFIGURATION * 2);
        let start = Instant::now();
        let mut last = self.look()?;
        let mut changed = Instant::now();
        loop {
            let calm = if boot::is_complete(settings, &self.last.checkpoint.before, &last) {
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

    fn go(
        &self,
        owner: Option<Owner>,
        now: Observed,
        freed: Option<String>,
    ) -> Result<(Did, String), BootError> {
        let uplink = &self.last.settings.node.uplink;
        if !boot::has_addresses(&self.last.settings, &now) && owner.is_some() {
            let why = format!("the host's own configuration gave {uplink} no address");
            return self.harbour(&why, None);
        }
        match self.course(owner, &now) {
            Course::Stay if self.last.is_open() => {
                self.harbour("the boot interrupted a transaction", None)
            }
            Course::Stay => Ok(match freed {
                Some(why) => (Did::Freed, format!("the addresses are on {uplink}: {why}")),
                None => (Did::Nothing, format!("{uplink} is free, there was nothing to do")),
            }),
            Course::Harbour { why } if self.last.is_open() => self.harbour(&why, None),
            Course::Harbour { why } => self.harbour(&why, Some(now)),
            Course::Complete => self.complete(now),
        }
    }

    /// A vswitchd that says it is well may yet forward nothing: one of 3.1 that was started
    /// in the first ten seconds of uptime counts no processors and loses every upcall. So a
    /// gateway has to answer.
    fn complete(&self, now: Observed) -> Result<(Did, String), BootError> {
        let (uplink, bridge) = (&self.last.settings.node.uplink, &self.last.settings.node.bridge);
        let why = |words: &str| format!("{bridge} could not get the addresses: {words}");
        let Outcome { end, failure, .. } =
            match self.site.return_to_bridge(self.last.clone(), now.clone()) {
                Ok(outcome) => outcome,
                // whoever armed it may do nothing more
                Err(fired @ TransactionError::Deadman(_)) => return Err(fired.into()),
                // with no way back on disk nothing was changed
                Err(error) => return self.harbour(&why(&chain(&error)), Some(now)),
            };
        let failure = failure.map_or_else(String::new, |failure| failure.message);
        let why = why(&failure);
        match end {
            End::Reached | End::Unchanged => {
                let message = format!("moved the addresses from {uplink} to {bridge} again");
                Ok((Did::Completed, message))
            }
            End::Refused => self.harbour(&why, Some(now)),
            End::RolledBack | End::Degraded if !self.is_open()? => {
                Ok((Did::Freed, format!("the addresses are on {uplink}: {why}")))
            }
            End::RolledBack | End::Degraded => Ok((Did::Failed, why)),
        }
    }

    fn harbour(&self, why: &str, before: Option<Observed>) -> Result<(Did, String), BootError> {
        let uplink = &self.last.settings.node.uplink;
        // the record on disk: what was freed at once may have left one of its own open
        let last = self.site.journal.read()?.unwrap_or_else(|| self.last.clone());
        Ok(match self.site.free_uplink(last, before, why)? {
            Ok(()) => (Did::Freed, format!("the addresses are on {uplink}: {why}")),
            Err(failure) => {
                let failure = failure.message;
                let words =
                    format!("{why}; and the addresses could not be put on {uplink}: {failure}");
                (Did::Failed, words)
            }
        })
    }

    fn is_open(&self) -> Result<bool, JournalError> {
        Ok(self.site.journal.read()?.is_some_and(|record| record.is_open()))
    }
}
