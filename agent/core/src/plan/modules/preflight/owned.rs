//! Files of packages: a package manager writes and removes them whenever it likes, and knows
//! nothing of a switch.

use crate::model::Observed;
use crate::plan::Refusal;

/// No file that the plan replaces or takes away is a package's. The kernel's own directory is
/// none of a plan's, so what is asked of are modules that a package put where the set goes, and
/// depmod's configuration.
pub(super) fn untouched(observed: &Observed, after: &Observed) -> Result<(), Refusal> {
    let owned = &observed.modules.footing.owned;
    let changes = |path: &String| {
        observed.files.contains_key(path) && observed.files.get(path) != after.files.get(path)
    };
    let Some((path, package)) = owned.iter().find(|(path, _)| changes(path)) else {
        return Ok(());
    };
    let message = format!(
        "{path}, which would be replaced or moved away, belongs to the package {package}: its next \
         upgrade or removal would undo half of a switch. Remove the package first, or have it \
         install elsewhere"
    );
    Err(Refusal::new("OwnedByPackage", message))
}
