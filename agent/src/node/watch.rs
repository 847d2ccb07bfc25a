use super::client::{Events, NodeApi, WATCH};
use super::error::{NodeError, words};
use super::sight::{Seen, Sight};
use futures::StreamExt;
use kube::api::WatchEvent;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use pointsman_core::error::chain;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Longest silence of a watch that lives: the API server sends a bookmark every minute.
const SILENCE_LIMIT: Duration = Duration::from_secs(100);
/// A watch that ends sooner was not served: API servers keep one for minutes.
const SERVED: Duration = Duration::from_secs(2);

/// Why the Node cannot be watched at present.
pub(super) type Trouble = watch::Receiver<Option<Arc<NodeError>>>;

enum End {
    /// The server closed the watch, as it does every few minutes: go on from this version.
    Closed { version: String },
    /// Too old a version, or no sign of life: start over.
    Lost,
}

/// A task that keeps `sight` true for ever, and where it tells of what hinders it.
///
/// Not `kube::runtime::watcher`: its initial list has no deadline, and it follows a
/// server that ends each watch at once as fast as the network allows.
pub(super) fn follow(
    api: Arc<NodeApi>,
    sight: Sight,
) -> (Trouble, impl Future<Output = ()> + Send + 'static) {
    let (sender, trouble) = watch::channel(None);
    (trouble, run(api, sight, sender))
}

async fn run(api: Arc<NodeApi>, sight: Sight, trouble: watch::Sender<Option<Arc<NodeError>>>) {
    let mut backoff = DefaultBackoff::default();
    let mut rebuilt = api.rebuilt();
    loop {
        let start = Instant::now();
        let end = tokio::select! {
            end = session(&api, &sight, &trouble) => end,
            () = rebuilt.wait() => {
                backoff.reset();
                continue;
            }
        };
        if start.elapsed() > SILENCE_LIMIT {
            backoff.reset();
        }
        if let Err(error) = end {
            let first = trouble.borrow().is_none();
            if first {
                tracing::warn!(node = api.node(), "{}", chain(&error));
            } else {
                tracing::debug!(node = api.node(), "{}", chain(&error));
            }
            trouble.send_replace(Some(Arc::new(error)));
        }
        let pause = backoff.next().unwrap_or(SILENCE_LIMIT);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = rebuilt.wait() => backoff.reset(),
        }
    }
}

/// One list and the watches that follow it, until one of them fails.
async fn session(
    api: &NodeApi,
    sight: &Sight,
    trouble: &watch::Sender<Option<Arc<NodeError>>>,
) -> Result<(), NodeError> {
    let (found, mut version) = api.list().await?;
    sight.set(found);
    loop {
        let start = Instant::now();
        let events = api.watch(&version).await?;
        let mut listening = pin!(listen(api, sight, events, version));
        let end = match tokio::time::timeout(SERVED, &mut listening).await {
            Ok(end) => end?,
            Err(_elapsed) => {
                if trouble.send_replace(None).is_some() {
                    tracing::info!(node = api.node(), "the Node is watched again");
                }
                listening.await?
            }
        };
        match end {
            End::Closed { version: _ } if start.elapsed() < SERVED => {
                let (node, server) = (api.node().to_owned(), api.server());
                return Err(NodeError::WatchCutShort { node, server });
            }
            End::Closed { version: reached } => version = reached,
            End::Lost => return Ok(()),
        }
    }
}

async fn listen(
    api: &NodeApi,
    sight: &Sight,
    mut events: Events,
    mut version: String,
) -> Result<End, NodeError> {
    loop {
        let Ok(event) = tokio::time::timeout(SILENCE_LIMIT, events.next()).await else {
            return Ok(End::Lost);
        };
        match event {
            None => return Ok(End::Closed { version }),
            Some(Ok(WatchEvent::Added(node) | WatchEvent::Modified(node))) => {
                let seen = Seen::of(&node);
                version.clone_from(&seen.resource_version);
                sight.heard(seen);
            }
            Some(Ok(WatchEvent::Deleted(node))) => {
                version = Seen::of(&node).resource_version;
                sight.set(None);
            }
            Some(Ok(WatchEvent::Bookmark(mark))) => version = mark.metadata.resource_version,
            Some(Ok(WatchEvent::Error(status))) if status.code == 410 => return Ok(End::Lost),
            Some(Ok(WatchEvent::Error(status))) => {
                let (node, message) = (api.node().to_owned(), words(&status.message));
                return Err(NodeError::Denied {
                    operation: WATCH,
                    node,
                    code: status.code,
                    message,
                });
            }
            Some(Err(error)) => return Err(api.failed(WATCH, error)),
        }
    }
}
