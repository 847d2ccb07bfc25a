//! The loop of `pointsman run`: whatever may have changed, observe, decide, and either
//! say so or carry out one transaction. It holds no state that the disk does not hold.

mod files;
mod judged;
mod lock;
mod rival;
mod sentry;
mod told;
mod trees;

use crate::apply::Executor;
use crate::deadman::DeadMan;
use crate::journal::{Journal, JournalError, Record};
use crate::netlink::{self, NetlinkError, NetworkChange};
use crate::node::{self, Node, NodeError, Seen};
use crate::observe::{self, ObserveError};
use crate::probe::ApiServer;
use crate::transaction::{Outcome, Progress, Site, TransactionError};
use crate::watch::Watch;
use files::Files;
use futures::{FutureExt as _, Stream, StreamExt as _};
use pointsman_core::config::Settings;
use pointsman_core::decision::Decision;
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::goal::Goal;
use pointsman_core::keys::Annotations;
use pointsman_core::model::Observed;
use pointsman_core::report::State;
use pointsman_core::request::ProfileId;
use rival::Rival;
use sentry::{Sentry, Watched};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;
use told::{ChangedBack, Herald, Silent, blind, dark};
use trees::Trees;

/// How long a change may go unnoticed that no notification tells of.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long a burst of network changes is let settle.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the last report may take when the agent is told to stop.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why the loop ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The state directory.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The API server's address or credentials.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Notifications of the kernel.
    #[error("watch the network")]
    Watch(#[source] NetlinkError),
    /// The loop could not be set up.
    #[error("set up the loop")]
    Setup(#[source] std::io::Error),
    /// A defect: the part that works on the host panicked.
    #[error("work on the host")]
    Panicked(#[source] JoinError),
}

impl Reasoned for RunError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Journal(source) => source.reason(),
            Self::Node(source) => source.reason(),
            Self::Watch(source) => source.reason(),
            Self::Setup(_) => "SetupFailed",
            Self::Panicked(_) => "Defect",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Journal(source) => source.is_transient(),
            Self::Node(source) => source.is_transient(),
            Self::Watch(source) => source.is_transient(),
            Self::Setup(_) | Self::Panicked(_) => false,
        }
    }
}

/// The part that works on the host; used from one blocking thread at a time.
struct Workshop {
    settings: Settings,
    executor: Executor,
    journal: Journal,
    deadman: DeadMan,
    /// What was said last: the Node may not show it yet when the next look comes.
    said: Mutex<Annotations>,
    watch: Watch,
    /// Over a bridge that owns the addresses.
    sentry: Mutex<Option<Sentry>>,
    trees: Mutex<Trees>,
    rival: Mutex<Rival>,
}

/// Follows one Node until told to stop.
pub async fn run(
    settings: Settings,
    executor: Executor,
    journal: Journal,
    options: node::Options,
) -> Result<(), RunError> {
    let said = Mutex::default();
    let (deadman, watch, sentry) = (DeadMan::default(), Watch::default(), Mutex::default());
    let (trees, rival) = (Mutex::default(), Mutex::default());
    let workshop =
        Workshop { settings, executor, journal, deadman, said, watch, sentry, trees, rival };
    let workshop = Arc::new(workshop);
    // before the API server is asked anything: it may be what the way back leads to
    recover(&workshop).await?;
    on_host(&workshop, Workshop::resume_guard).await?;
    workshop.leave();
    let node = Node::connect(options).await?;
    let mut requests = node.requests();
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Setup)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Setup)?;
    let mut changes = netlink::watch().map_err(RunError::Watch)?;
    let mut tick = tokio::time::interval(LOOK_AGAIN);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut guarding = tokio::time::interval(sentry::LOOK);
    guarding.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut treading = tokio::time::interval(trees::LOOK);
    treading.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // before the first look: what changes behind it is not missed
    let mut files = Files::watch(&workshop.executor.root, &workshop.settings.paths);
    let mut seen: Option<Seen> = None;
    loop {
        tokio::select! {
            now = requests.next() => match now {
                Some(now) => seen = Some(now),
                None => return Ok(()),
            },
            _ = tick.tick() => files.arm(),
            _ = treading.tick() => if !on_host(&workshop, Workshop::trees_changed).await? {
                continue;
            },
            _ = guarding.tick() => match on_host(&workshop, Workshop::stand_guard).await? {
                Watched::Nothing => continue,
                Watched::Taken => reconnect(&node).await,
                Watched::Return | Watched::Elsewhere => {}
            },
            change = changes.next() => match change {
                Some(_) => settle(&mut changes).await,
                // what is overheard meanwhile, the next look finds
                None => changes = netlink::watch().map_err(RunError::Watch)?,
            },
            () = files.changed() => {}
            () = rival::due(&workshop) => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        // the request came some time ago; what the agent wrote since is on the Node too
        if let Some(latest) = requests.latest() {
            seen = Some(latest);
        }
        if let Some(seen) = &seen {
            take_turn(&workshop, &node, seen).await?;
            // what this transaction itself changed is no news
            while let Some(Some(_)) = changes.next().now_or_never() {}
        }
    }
    node.outbox().flush(LAST_WORDS).await;
    Ok(())
}

/// Waits until a burst of changes is over.
async fn settle(changes: &mut (impl Stream<Item = NetworkChange> + Unpin)) {
    while let Ok(Some(_)) = tokio::time::timeout(SETTLE, changes.next()).await {}
}

async fn recover(workshop: &Arc<Workshop>) -> Result<(), RunError> {
    let recovered = on_host(workshop, |workshop| workshop.site(&Silent).recover()).await?;
    match recovered {
        Ok(None) => {}
        Ok(Some((record, outcome))) => {
            tracing::warn!(goal = %record.goal, end = ?outcome.end, "an unfinished transaction was found");
        }
        // told on the Node once it can be reached
        Err(error) => {
            tracing::error!(error = %chain(&error), "could not finish the open transaction");
        }
    }
    Ok(())
}

/// Looks, decides and acts under the lock, or says who has it.
async fn take_turn(workshop: &Arc<Workshop>, node: &Node, seen: &Seen) -> Result<(), RunError> {
    if let Err(error) = on_host(workshop, Workshop::enter).await? {
        tracing::info!(error = %chain(&error), "looking later");
        node.outbox().post(&seen.uid, blind(seen, &error));
        return Ok(());
    }
    let followed = follow(workshop, node, seen).await;
    workshop.leave();
    followed
}

/// Decides and acts until there is nothing but to say so.
async fn follow(workshop: &Arc<Workshop>, node: &Node, seen: &Seen) -> Result<(), RunError> {
    // each attempt ends in a record that the next decision reads, so two rounds suffice;
    // the third is for a repair that a foreign change undid at once
    for _ in 0..3 {
        let annotations = seen.annotations.clone();
        let look = on_host(workshop, move |workshop| workshop.decide(&annotations)).await?;
        let (observed, decision) = match look {
            Ok(look) => look,
            Err(error) => {
                tracing::error!(error = %chain(&*error), "could not look at the host");
                node.outbox().post(&seen.uid, blind(seen, &*error));
                return Ok(());
            }
        };
        match decision {
            Decision::Report(verdict) => {
                let report = on_host(workshop, {
                    let seen = seen.clone();
                    move |workshop| workshop.report(&seen, &observed, &verdict)
                })
                .await?;
                node.outbox().post(&seen.uid, report);
                return Ok(());
            }
            Decision::Attempt { goal, profile, request } => {
                attempt(workshop, node, seen, observed, (goal, profile, request)).await?;
            }
        }
    }
    let mut report = blind(seen, &ChangedBack);
    report.state = State::Degraded;
    node.outbox().post(&seen.uid, report);
    Ok(())
}

async fn attempt(
    workshop: &Arc<Workshop>,
    node: &Node,
    seen: &Seen,
    observed: Observed,
    (goal, profile, request): (Goal, ProfileId, String),
) -> Result<(), RunError> {
    tracing::info!(%profile, %request, "starting a switch");
    let herald = Herald {
        outbox: node.outbox(),
        seen: seen.clone(),
        observed,
        profile,
        phase: Mutex::new(None),
    };
    let server = node.server();
    let ended = on_host(workshop, move |workshop| {
        let api = ApiServer::at(&server);
        let site = Site { api: api.as_ref(), ..workshop.site(&herald) };
        workshop.journal.work();
        let ended = match &goal {
            Goal::Cni { .. } => workshop.mend(&site, &goal),
            _ => workshop.watch.carry_out(&site, &goal, &request),
        };
        workshop.note_attempt();
        ended
    })
    .await?;
    reconnect(node).await;
    match ended {
        Ok(Outcome { end, failure, .. }) => {
            let why = failure.map(|failure| format!("{}: {}", failure.reason, failure.message));
            tracing::info!(?end, why = why.as_deref().unwrap_or("-"), "the switch ended");
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "the switch could not begin");
            node.outbox().post(&seen.uid, blind(seen, &error));
            tokio::time::sleep(SETTLE).await;
        }
    }
    Ok(())
}

/// Connections do not survive a moved address; a new one tells at once.
async fn reconnect(node: &Node) {
    if let Err(error) = node.rebuild().await {
        tracing::warn!(error = %chain(&error), "could not build a new client");
    }
}

async fn on_host<T: Send + 'static>(
    workshop: &Arc<Workshop>,
    work: impl FnOnce(&Workshop) -> T + Send + 'static,
) -> Result<T, RunError> {
    let workshop = Arc::clone(workshop);
    tokio::task::spawn_blocking(move || work(&workshop)).await.map_err(RunError::Panicked)
}

impl Workshop {
    fn site<'a>(&'a self, progress: &'a (dyn Progress + Sync)) -> Site<'a> {
        Site {
            settings: &self.settings,
            executor: &self.executor,
            journal: &self.journal,
            progress,
            deadman: &self.deadman,
            api: None,
        }
    }

    fn decide(&self, annotations: &Annotations) -> Result<(Observed, Decision), Box<dyn Reasoned>> {
        let boxed_look = |error: ObserveError| -> Box<dyn Reasoned> { Box::new(error) };
        let boxed_journal = |error: JournalError| -> Box<dyn Reasoned> { Box::new(error) };
        let boxed_recovery = |error: TransactionError| -> Box<dyn Reasoned> { Box::new(error) };
        let mut record = self.journal.read().map_err(boxed_journal)?;
        let mut stuck = None;
        if record.as_ref().is_some_and(Record::is_open) {
            self.journal.work();
            stuck = self.site(&Silent).recover().map_err(boxed_recovery)?;
            record = self.journal.read().map_err(boxed_journal)?;
        }
        let observed = observe::observe(&self.executor, &self.settings).map_err(boxed_look)?;
        if record.as_ref().is_some_and(Record::is_open) {
            return Ok((observed, Decision::Report(dark(stuck.map(|(_, outcome)| outcome)))));
        }
        let last = record.as_ref().filter(|_| !self.is_to_return());
        let last = last.and_then(|record| self.last_attempt(record));
        let before = (record.as_ref(), last.as_ref());
        let decision = self.watch.decide(annotations, &self.settings, &observed, before);
        let decision = self.restrained(&observed, decision, last.as_ref());
        Ok((observed, decision))
    }
}
