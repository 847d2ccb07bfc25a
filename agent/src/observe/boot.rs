//! The unit that makes the node reachable after a boot, and what a killed write of it left.

use crate::disk::{DiskError, HostRoot};
use pointsman_core::model::FileState;
use pointsman_core::plan::boot;
use std::collections::BTreeMap;

/// Adds what is there to `files`.
pub(super) fn observe_boot(
    root: &HostRoot,
    files: &mut BTreeMap<String, FileState>,
) -> Result<(), DiskError> {
    for path in boot::paths() {
        if let Some(state) = root.state(&path)? {
            files.insert(path, state);
        }
    }
    Ok(())
}
