//! The agent's own Node at the API server: what is asked of it, and what it reports.
//! The only place that speaks to the API server; no type of its client leaves it.
//!
//! ```text
//!   API server ──watch──► Sight ──► Requests ──► reconcile loop
//!        ▲                  │                        │
//!        └── apply, if the ─┴─ Node shows another ◄─ Outbox
//! ```
//!
//! Nothing here holds anybody up: [`Outbox::post`] returns at once, the latest report
//! wins, and it is tried again until the API server takes it.

mod client;
mod error;
mod event;
mod outbox;
mod report;
mod sight;
mod watch;

pub use error::NodeError;
pub use outbox::Outbox;
pub use sight::{Requests, Seen};

use client::NodeApi;
use k8s_openapi::jiff::Timestamp;
use sight::Sight;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;

/// How to reach which Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Name of the agent's own Node.
    pub node: String,
    /// The API server's address and the credentials; none for a pod's own, from its
    /// environment and its mounted token.
    pub kubeconfig: Option<PathBuf>,
    /// How long any one call may take; the watch, which lasts, has its own rule.
    pub call_limit: Duration,
}

impl Options {
    /// A pod's own credentials, 10 s for a call.
    pub fn in_cluster(node: impl Into<String>) -> Self {
        Self { node: node.into(), kubeconfig: None, call_limit: Duration::from_secs(10) }
    }
}

/// The agent's own Node. Dropping it ends its watch and its outbox.
#[derive(Debug)]
pub struct Node {
    api: Arc<NodeApi>,
    sight: Sight,
    outbox: Outbox,
    trouble: watch::Trouble,
    _tasks: JoinSet<()>,
}

impl Node {
    /// Reads the configuration and starts to watch. Asks nothing of the API server
    /// before it returns, so that being away is not a reason to fail.
    ///
    /// Must be called on a tokio runtime with I/O and time.
    pub async fn connect(options: Options) -> Result<Self, NodeError> {
        let api = Arc::new(NodeApi::new(options).await?);
        let sight = Sight::default();
        let mut tasks = JoinSet::new();
        let (trouble, follower) = watch::follow(Arc::clone(&api), sight.clone());
        tasks.spawn(follower);
        let (outbox, deliverer) = outbox::open(Arc::clone(&api), sight.clone());
        tasks.spawn(deliverer);
        Ok(Self { api, sight, outbox, trouble, _tasks: tasks })
    }

    /// What the Node's annotations ask for, from now on.
    pub fn requests(&self) -> Requests {
        self.sight.requests()
    }

    /// Where reports are left for delivery.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// The API server's URL.
    pub fn server(&self) -> String {
        self.api.server()
    }

    /// Why the Node cannot be watched; none while it is.
    pub fn trouble(&self) -> Option<Arc<NodeError>> {
        self.trouble.borrow().clone()
    }

    /// Throws away every connection and connects anew, with credentials read again.
    ///
    /// To be called after addresses or routes have moved: a connection from the former
    /// address is silent rather than broken, and would be found out by timeouts only.
    pub async fn rebuild(&self) -> Result<(), NodeError> {
        self.api.rebuild().await
    }
}

/// A time as reports give it, RFC 3339 in UTC, whole seconds; empty beyond the year 9999.
pub fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map(|time| format!("{time:.0}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
        assert_eq!(timestamp(time), "2023-11-14T22:13:20Z");
    }
}
