//! What NCP on this node is told, where it is something else.

use crate::model::Observed;
use crate::plan::Refusal;
use crate::plan::modules::Target;

/// A bootstrap that is told to use NSX's modules puts them back when it starts the next time.
pub(super) fn agrees(target: Target, observed: &Observed) -> Result<(), Refusal> {
    let intent = observed.modules.footing.intent.as_ref();
    let Some(intent) = intent.filter(|i| i.nsx_modules && target == Target::InTree) else {
        return Ok(());
    };
    let message = format!(
        "NCP on this node is told to use NSX's modules (use_nsx_ovs_kernel_module = True in {}), \
         and its bootstrap would put them back: set it to False in the ConfigMap \
         nsx-node-agent-config first",
        intent.path
    );
    Err(Refusal::new("IntentConflict", message))
}

/// The other way round nobody works against it.
pub(super) fn note(target: Target, observed: &Observed) -> Option<String> {
    let intent = observed.modules.footing.intent.as_ref()?;
    (target == Target::Payload && !intent.nsx_modules).then(|| {
        format!(
            "IntentConflict: NCP on this node is told not to use NSX's modules \
             (use_nsx_ovs_kernel_module = False in {})",
            intent.path
        )
    })
}
