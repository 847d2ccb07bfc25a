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
            Ok(seen) if seen.uid == uid => {
                self.sight.answered(seen);
                Ok(Published::Written)
            }
            Ok(_) => Err(self.api.beside_the_point()),
            // A uid that does not match is 422 where the name belongs to another Node by
            // now, 409 where it belongs to none, and each has other causes: look.
            Err(denied @ NodeError::Denied { code: 409 | 422, .. }) => {
                let found = self.api.read().await?.uid;
                if found == uid {
                    return Err(denied);
                }
                let (node, expected) = (self.api.node().to_owned(), uid.to_owned());
                Err(NodeError::Replaced { node, expected, found })
            }
            Err(error) => Err(error),
        }
    }
}
