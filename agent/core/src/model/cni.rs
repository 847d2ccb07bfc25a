use serde::{Deserialize, Serialize};

/// CNI files on the host, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cni {}
