//! Events about the Node: for people who follow `kubectl get events` or `kubectl describe node`.

use super::client::NodeApi;
use super::error::NodeError;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use pointsman_core::phase::Phase;
use pointsman_core::report::{Report, State};
use std::sync::Arc;
use std::time::Duration;

/// An Event's note may have this many bytes (`k8s.io/api/events/v1`).
const NOTE_LIMIT: usize = 1024;
/// How long the next report may be held up by an Event.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells transitions: each change of state or reason once, and what only repeats never.
///
/// Events are lost rather than waited for: the annotations are the record.
#[derive(Debug)]
pub(super) struct Chronicle {
    api: Arc<NodeApi>,
    told: Option<(String, State, Option<Phase>, String)>,
}

impl Chronicle {
    pub(super) fn new(api: Arc<NodeApi>) -> Self {
        Self { api, told: None }
    }

    /// To be called with each report that the API server has taken.
    pub(super) async fn tell(&mut self, uid: &str, report: &Report) -> Result<(), NodeError> {
        let transition = (uid.to_owned(), report.state, report.phase, report.reason.clone());
        if self.told.as_ref() == Some(&transition) {
            return Ok(());
        }
        self.told = Some(transition);
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(self.api.node().to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        let event = event(report);
        match tokio::time::timeout(PATIENCE, self.api.record(&event, &about)).await {
            Ok(told) => told,
            // lost, like one that the API server refuses
            Err(_elapsed) => Ok(()),
        }
    }
}

fn event(report: &Report) -> Event {
    let type_ = match report.state {
        State::Done | State::Working | State::Pending => EventType::Normal,
        State::RebootRequired | State::RolledBack | State::Refused | State::Degraded => {
            EventType::Warning
        }
    };
    let end = (0..=NOTE_LIMIT).rev().find(|end| report.message.is_char_boundary(*end));
    let note = report.message.get(..end.unwrap_or(0)).unwrap_or(&report.message).to_owned();
    let reason = match &report.reason {
        // the API server takes no Event without one
        reason if reason.is_empty() => report.state.to_string(),
        reason => reason.clone(),
    };
    let action = report.phase.map_or_else(|| report.state.to_string(), |phase| phase.to_string());
    Event { type_, reason, note: Some(note), action, secondary: None }
}
