//! That what is loaded works, where no transaction loaded it: a boot did.

use super::{Failure, Site, failure_of};
use pointsman_core::config::ModulesChoice;
use pointsman_core::goal::Goal;
use pointsman_core::model::Observed;
use serde::{Deserialize, Serialize};

const NOTE: &str = "proof.json";

/// What was proven, or was not, so that an idle node is not asked again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Proof {
    boot_id: String,
    /// Of the loaded openvswitch, in words.
    module: String,
    /// Another request is another try.
    request: Option<String>,
    failure: Option<Failure>,
}

impl Site<'_> {
    /// Once per boot, loaded module and request: the loaded modules carry a datapath with a
    /// Geneve port. Nothing is asked of a goal without modules, of modules that are not loaded,
    /// and of a set that waits for its reboot.
    pub(crate) fn prove(
        &self,
        goal: &Goal,
        request: Option<&str>,
        observed: &Observed,
    ) -> Result<(), Failure> {
        let concerned = match goal {
            Goal::Profile { profile, .. } => profile.modules != ModulesChoice::Leave,
            Goal::Modules { kernel, .. } => *kernel == observed.host.kernel,
            Goal::Handover { .. } | Goal::Cni { .. } | Goal::Boot { .. } => false,
        };
        let loaded = observed.modules.loaded("openvswitch");
        let Some(loaded) = loaded.filter(|module| concerned && module.state == "live") else {
            return Ok(());
        };
        let mut proof = Proof {
            boot_id: observed.host.boot_id.clone(),
            module: loaded.identity.to_string(),
            request: request.map(str::to_owned),
            failure: None,
        };
        let known: Proof = self.journal.read_note(NOTE).unwrap_or_default();
        if (&known.boot_id, &known.module, &known.request)
            == (&proof.boot_id, &proof.module, &proof.request)
        {
            return known.failure.map_or(Ok(()), Err);
        }
        proof.failure = self.executor.prove_datapath().err().map(|error| failure_of(&*error));
        if let Err(error) = self.journal.write_note(NOTE, &proof) {
            tracing::warn!(%error, "could not note the proof");
        }
        proof.failure.map_or(Ok(()), Err)
    }
}
