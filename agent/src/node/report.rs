use super::client::NodeApi;
use super::error::NodeError;
use super::sight::Sight;
use pointsman_core::report::Report;
use std::sync::Arc;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The Node shows it already; nothing was sent.
    Unchanged,
    /// The API server took it.
    Written,
}

/// Writes reports to the Node, by one server-side apply each.
#[derive(Debug)]
pub(super) struct NodeReporter {
    api: Arc<NodeApi>,
    sight: Sight,
}

impl NodeReporter {
    pub(super) fn new(api: Arc<NodeApi>, sight: Sight) -> Self {
        Self { api, sight }
    }

    /// Whether the Node of this uid shows the report, as far as is known.
    pub(super) fn is_shown(&self, uid: &str, report: &Report) -> bool {
        self.sight.shows(uid, &report.annotations())
    }

    /// Writes the report, unless the Node of this uid shows it already.
    pub(super) async fn publish(&self, uid: &str, report: &Report) -> Result<Published, NodeError> {
        if self.is_shown(uid, report) {
            return Ok(Published::Unchanged);
        }
        match self.api.apply(uid, &report.annotations()).await {
            Ok(seen) => {
                self.sight.answered(seen);
                Ok(Published::Written)
            }
            // a uid that does not match is one conflict among others: look which it is
            Err(conflict @ NodeError::Denied { code: 409, .. }) => {
                let found = self.api.read().await?.uid;
                if found == uid {
                    return Err(conflict);
                }
                let (node, expected) = (self.api.node().to_owned(), uid.to_owned());
                Err(NodeError::Replaced { node, expected, found })
            }
            Err(error) => Err(error),
        }
    }
}
