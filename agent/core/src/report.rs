//! What the agent says of itself, in words that a person and a script share.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The node's state, annotation `pointsman.io/state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The profile is verified on this boot.
    Done,
    /// Nothing changed; waiting.
    Pending,
    /// In a switch.
    Working,
    /// The disk holds the new module set, memory the old.
    RebootRequired,
    /// It failed; the old profile is verified back.
    RolledBack,
    /// The request is invalid for this node; nothing was changed.
    Refused,
    /// Neither profile is verified: a person is needed.
    Degraded,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
