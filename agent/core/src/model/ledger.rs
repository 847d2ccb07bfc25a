use super::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which CNI files are Pointsman's own, and what was there before them: a file of the state
/// directory, so that it outlives any number of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// `nsxBuildVersion` that was installed last.
    pub version: String,
    /// The conflist of the payload that was installed last, before anything of the user's was
    /// merged into it: what tells the user's changes from ours. None until the first
    /// installation has reached its commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// By path: the files that were written or removed.
    pub files: BTreeMap<String, Owned>,
}

/// One file that was written or removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// What was there before the first change; none where there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Former>,
    /// Contents that are Pointsman's; none for a file that was removed.
    pub written: Vec<Digest>,
}

/// A file that was there before; its contents are in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Permission bits.
    pub mode: u32,
    /// Of the contents.
    pub sha256: Digest,
}
