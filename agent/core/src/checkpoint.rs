//! What was there before the first step: the target of every way back.

use crate::model::Observed;
use serde::{Deserialize, Serialize};

/// The version of [`Checkpoint`]'s written form that this code writes.
pub const CHECKPOINT_SCHEMA: u32 = 1;

/// The state of a host before a transaction, on disk before its first step.
///
/// Contents of files that the transaction replaces lie in the store under the
/// digests that `before` names, so this record and the store are the whole way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`CHECKPOINT_SCHEMA`] of the writer.
    pub schema: u32,
    /// Names the transaction.
    pub transaction: String,
    /// The whole observation that the transaction was planned from.
    pub before: Observed,
}
