use super::client::{NodeApi, Rebuilt};
use super::error::NodeError;
use super::event::Chronicle;
use super::report::{NodeReporter, Published};
use super::sight::{Seen, Sight};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::report::Report;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest pause where the backoff gives none.
const PAUSE: Duration = Duration::from_secs(30);

/// Where the latest report lies until the API server has taken it, and is put back
/// from when somebody edits it on the Node.
#[derive(Clone, Debug)]
pub struct Outbox {
    letter: watch::Sender<Letter>,
    delivery: watch::Receiver<Delivery>,
}

#[derive(Clone, Debug, Default)]
struct Letter {
    /// Counts the letters; 0 is none.
    number: u64,
    /// Of the Node that it is about.
    uid: String,
    report: Option<Box<Report>>,
}

#[derive(Clone, Debug, Default)]
struct Delivery {
    /// The last letter that needs no further try.
    settled: u64,
    /// Why the last try failed.
    trouble: Option<Arc<NodeError>>,
}

impl Outbox {
    /// Leaves a report about the Node of this uid; it replaces one that was not taken
    /// yet. Returns at once.
    ///
    /// A report is never shown on another Node of the same name: where the Node was
    /// created again, it is dropped, and [`Outbox::trouble`] tells so.
    pub fn post(&self, uid: &str, report: Report) {
        self.letter.send_modify(|letter| {
            let number = letter.number + 1;
            *letter = Letter { number, uid: uid.to_owned(), report: Some(Box::new(report)) };
        });
    }

    /// Why the latest report is not on the Node; none where it is, and before the first try.
    pub fn trouble(&self) -> Option<Arc<NodeError>> {
        self.delivery.borrow().trouble.clone()
    }

    /// Whether the latest report waits for the API server.
    pub fn is_pending(&self) -> bool {
        self.delivery.borrow().settled < self.letter.borrow().number
    }

    /// Waits until the latest report is on the Node or was dropped; false where that
    /// takes longer than `limit`.
    pub async fn flush(&self, limit: Duration) -> bool {
        let number = self.letter.borrow().number;
        let mut delivery = self.delivery.clone();
        let settled = delivery.wait_for(|delivery| delivery.settled >= number);
        matches!(tokio::time::timeout(limit, settled).await, Ok(Ok(_)))
    }
}

/// An outbox and the task that empties it.
pub(super) fn open(
    api: Arc<NodeApi>,
    sight: Sight,
) -> (Outbox, impl Future<Output = ()> + Send + 'static) {
    let (letter, letters) = watch::channel(Letter::default());
    let (sender, delivery) = watch::channel(Delivery::default());
    let postman = Postman {
        rebuilt: api.rebuilt(),
        sight: sight.subscribe(),
        chronicle: Chronicle::new(Arc::clone(&api)),
        reporter: NodeReporter::new(api, sight),
        letters,
        delivery: sender,
        backoff: DefaultBackoff::default(),
        repairs: DefaultBackoff::default(),
    };
    (Outbox { letter, delivery }, postman.run())
}

struct Postman {
    reporter: NodeReporter,
    chronicle: Chronicle,
    letters: watch::Receiver<Letter>,
    sight: watch::Receiver<Option<Seen>>,
    rebuilt: Rebuilt,
    delivery: watch::Sender<Delivery>,
    /// Between tries that fail.
    backoff: DefaultBackoff,
    /// Between repairs of a report that somebody keeps editing.
    repairs: DefaultBackoff,
}

impl Postman {
    async fn run(mut self) {
        loop {
            let letter = self.letters.borrow_and_update().clone();
            let Some(report) = letter.report.as_deref() else {
                if self.letters.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let goes_on = match self.reporter.publish(&letter.uid, report).await {
                Ok(published) => self.delivered(&letter, report, published).await,
                Err(error) => self.failed(&letter, error).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Waits for another letter, or for an edit of this one. False at the end.
    async fn delivered(&mut self, letter: &Letter, report: &Report, how: Published) -> bool {
        self.backoff.reset();
        self.settle(letter.number, None);
        if how == Published::Written {
            tracing::debug!(state = %report.state, reason = report.reason, "reported");
            if let Err(error) = self.chronicle.tell(&letter.uid, report).await {
                tracing::debug!(error = %chain(&error), "could not record an Event");
            }
        }
        loop {
            tokio::select! {
                changed = self.letters.changed() => return changed.is_ok(),
                changed = self.sight.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    let edited = self.sight.borrow_and_update().as_ref().is_some_and(|seen| seen.uid == letter.uid)
                        && !self.reporter.is_shown(&letter.uid, report);
                    if !edited {
                        continue;
                    }
                }
            }
            tracing::info!("the report was edited on the Node; writing it again");
            let pause = self.repairs.next().unwrap_or(PAUSE);
            return tokio::select! {
                changed = self.letters.changed() => changed.is_ok(),
                () = tokio::time::sleep(pause) => true,
            };
        }
    }

    /// Waits before the next try. False at the end.
    async fn failed(&mut self, letter: &Letter, error: NodeError) -> bool {
        let dropped = matches!(error, NodeError::Replaced { .. });
        let text = chain(&error);
        let first = self.delivery.borrow().trouble.as_ref().map(|known| known.reason());
        if first == Some(error.reason()) {
            tracing::debug!("{text}");
        } else {
            tracing::warn!("{text}");
        }
        let settled = if dropped { letter.number } else { self.delivery.borrow().settled };
        self.settle(settled, Some(Arc::new(error)));
        if dropped {
            return self.letters.changed().await.is_ok();
        }
        // another letter does not end the pause, or a busy switch would hammer a sick server
        let pause = self.backoff.next().unwrap_or(PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.rebuilt.wait() => self.backoff.reset(),
        }
        true
    }

    fn settle(&self, settled: u64, trouble: Option<Arc<NodeError>>) {
        self.delivery.send_replace(Delivery { settled, trouble });
    }
}
