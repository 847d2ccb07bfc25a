//! Packages that were changed between the look at the module trees and the first change of them.

use super::Site;
use crate::observe;
use pointsman_core::model::Observed;
use pointsman_core::plan::{Plan, Refusal, Step};

impl Site<'_> {
    /// Why a plan of modules is of yesterday: what it was made from may be gone. Whoever asks
    /// again looks again.
    pub(super) fn changed_since(&self, plan: &Plan, observed: &Observed) -> Option<Refusal> {
        if !plan.steps().any(|step| matches!(step, Step::Modules(_))) {
            return None;
        }
        let seen = &observed.modules.footing.databases;
        let now = observe::package_databases(self.executor);
        let (path, database) = now.iter().find(|(path, now)| seen.get(*path) != Some(now))?;
        let message = format!(
            "{} has changed packages ({path}) since the module trees were looked at: they are looked \
             at again first",
            database.by
        );
        Some(Refusal::transient("PackageManagerBusy", message))
    }
}
