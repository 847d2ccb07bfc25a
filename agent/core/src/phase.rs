//! The phases of a switch: a state machine without a clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Where a switch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Observing and planning; nothing has changed.
    Preparing,
    /// The way back is on disk; steps are carried out.
    Applying,
    /// Every step succeeded; a second look is taken.
    Verifying,
    /// The second look found nothing left; the record is being closed.
    Committing,
    /// A step or the second look failed; the way back is being taken.
    RollingBack,
    /// Over.
    Ended(End),
}

/// How a switch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// There was nothing to do.
    Unchanged,
    /// It was refused before anything changed.
    Refused,
    /// The target is verified.
    Reached,
    /// The former state is verified back.
    RolledBack,
    /// Neither is.
    Degraded,
}

/// What happens to a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The planner refused.
    Refused,
    /// The plan is empty.
    NothingToDo,
    /// The checkpoint is on disk.
    CheckpointWritten,
    /// The last step succeeded.
    StepsDone,
    /// A step failed, or the second look found work left.
    Failed,
    /// The second look found nothing left.
    Verified,
    /// The journal is closed.
    Closed,
    /// An open journal was found at the start.
    Interrupted,
}

/// An event that has no place in a phase: a defect of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the event {event:?} has no place in the phase {phase}")]
pub struct Illegal {
    /// Where the switch was.
    pub phase: Phase,
    /// What happened.
    pub event: Event,
}

impl Phase {
    /// The phase after an event.
    pub fn after(self, event: Event) -> Result<Self, Illegal> {
        match (self, event) {
            // of Applying: before its first step
            (Self::Preparing | Self::Applying, Event::Refused) => Ok(Self::Ended(End::Refused)),
            (Self::Preparing, Event::NothingToDo) => Ok(Self::Ended(End::Unchanged)),
            (Self::Preparing, Event::CheckpointWritten) => Ok(Self::Applying),
            (Self::Preparing | Self::Applying | Self::Verifying, Event::Interrupted)
            | (Self::Applying | Self::Verifying, Event::Failed) => Ok(Self::RollingBack),
            (Self::Applying, Event::StepsDone) => Ok(Self::Verifying),
            (Self::Verifying, Event::Verified) => Ok(Self::Committing),
            (Self::Committing, Event::Closed) => Ok(Self::Ended(End::Reached)),
            (Self::RollingBack, Event::Verified) => Ok(Self::Ended(End::RolledBack)),
            (Self::RollingBack, Event::Failed) => Ok(Self::Ended(End::Degraded)),
            (phase, event) => Err(Illegal { phase, event }),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(end) => write!(f, "{end:?}"),
            Self::Preparing
            | Self::Applying
            | Self::Verifying
            | Self::Committing
            | Self::RollingBack => write!(f, "{self:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 8] = [
        Event::Refused,
        Event::NothingToDo,
        Event::CheckpointWritten,
        Event::StepsDone,
        Event::Failed,
        Event::Verified,
        Event::Closed,
        Event::Interrupted,
    ];

    #[test]
    fn the_good_way_ends_reached() {
        let way = [Event::CheckpointWritten, Event::StepsDone, Event::Verified, Event::Closed];
        let end = way.into_iter().try_fold(Phase::Preparing, Phase::after);
        assert_eq!(end, Ok(Phase::Ended(End::Reached)));
    }

    #[test]
    fn nothing_follows_an_end_and_nothing_is_applied_without_a_checkpoint() {
        for event in EVENTS {
            assert!(Phase::Ended(End::Degraded).after(event).is_err());
            let applying = Phase::Preparing.after(event) == Ok(Phase::Applying);
            assert_eq!(applying, event == Event::CheckpointWritten);
        }
    }

    #[test]
    fn after_a_failure_only_a_verified_way_back_is_a_rollback() {
        for phase in [Phase::Applying, Phase::Verifying] {
            assert_eq!(phase.after(Event::Failed), Ok(Phase::RollingBack));
        }
        assert_eq!(Phase::RollingBack.after(Event::Verified), Ok(Phase::Ended(End::RolledBack)));
        assert_eq!(Phase::RollingBack.after(Event::Failed), Ok(Phase::Ended(End::Degraded)));
    }
}
