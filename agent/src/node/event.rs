//! Events about the Node: for people who follow `kubectl get events` or `kubectl describe node`.

use super::client::NodeApi;
use super::error::NodeError;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use pointsman_core::kernels::Why;
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
    /// The warning that was told last, while it stands.
    warned: Option<Why>,
}

impl Chronicle {
    pub(super) fn new(api: Arc<NodeApi>) -> Self {
        Self { api, told: None, warned: None }
    }

    /// To be called with each report that the API server has taken.
    pub(super) async fn tell(&mut self, uid: &str, report: &Report) -> Result<(), NodeError> {
        let transition = (uid.to_owned(), report.state, report.phase, report.reason.clone());
        let mut events = Vec::new();
        if self.told.as_ref() != Some(&transition) {
            self.told = Some(transition);
            events.push(event(report));
        }
        // a report in the middle of a switch says nothing of it, which is not its end
        if report.phase.is_none() && self.warned != report.warning {
            events.extend(report.warning.as_ref().map(warning));
            self.warned.clone_from(&report.warning);
        }
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(self.api.node().to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        for event in &events {
            match tokio::time::timeout(PATIENCE, self.api.record(event, &about)).await {
                Ok(told) => told?,
                // lost, like one that the API server refuses
                Err(_elapsed) => {}
            }
        }
        Ok(())
    }
}

fn warning(why: &Why) -> Event {
    Event {
        type_: EventType::Warning,
        reason: why.reason.clone(),
        note: Some(cut(&why.message)),
        action: "Watching".into(),
        secondary: None,
    }
}

/// At most as much as a note may hold.
fn cut(message: &str) -> String {
    let end = (0..=NOTE_LIMIT).rev().find(|end| message.is_char_boundary(*end));
    message.get(..end.unwrap_or(0)).unwrap_or(message).to_owned()
}

fn event(report: &Report) -> Event {
    let type_ = match report.state {
        State::Done | State::Working | State::Pending => EventType::Normal,
        State::RebootRequired | State::RolledBack | State::Refused | State::Degraded => {
            EventType::Warning
        }
    };
    let reason = match &report.reason {
        // the API server takes no Event without one
        reason if reason.is_empty() => report.state.to_string(),
        reason => reason.clone(),
    };
    let action = report.phase.map_or_else(|| report.state.to_string(), |phase| phase.to_string());
    Event { type_, reason, note: Some(cut(&report.message)), action, secondary: None }
}
