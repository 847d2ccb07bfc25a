use crate::error::Reasoned;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// Why a plan is not made. Nothing was changed.
///
/// The message says what was found, what was expected, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// A stable `CamelCase` word.
    pub reason: &'static str,
    /// One plain sentence or two.
    pub message: Cow<'static, str>,
    /// Whether waiting may help.
    pub transient: bool,
}

impl Refusal {
    /// A refusal that only a person can lift.
    pub fn new(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), transient: false }
    }

    /// A refusal that may lift by itself.
    pub fn transient(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), transient: true }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl Reasoned for Refusal {
    fn reason(&self) -> &'static str {
        self.reason
    }

    fn is_transient(&self) -> bool {
        self.transient
    }
}
