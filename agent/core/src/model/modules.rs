use serde::{Deserialize, Serialize};

/// Kernel modules: files per installed kernel, and what is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {}
