//! Whether Open vSwitch's own programs can live with the set.

use crate::model::Observed;
use crate::plan::Refusal;
use crate::plan::modules::Target;
use crate::plan::modules::winner::Winners;

/// Ports of kinds that only some sets carry.
pub(super) fn ports(target: Target, observed: &Observed, winners: &Winners) -> Result<(), Refusal> {
    if target != Target::InTree {
        return Ok(());
    }
    let ovs = &observed.ovs;
    let database = ovs.database.as_ref().or(ovs.stopped.as_ref());
    let bridges = database.into_iter().flat_map(|database| &database.bridges);
    for (bridge, port) in bridges.flat_map(|b| b.ports.iter().map(move |port| (b, port))) {
        let stem = format!("vport-{}", port.kind);
        let kind = matches!(port.kind.as_str(), "lisp" | "stt");
        if kind && winners.get(&stem).is_none_or(std::collections::BTreeSet::is_empty) {
            let message = format!(
                "the bridge {} has the port {} of the kind {}, which needs {stem}: the set without \
                 the payload's has none. Remove the port first",
                bridge.name, port.name, port.kind
            );
            return Err(Refusal::new("UserspaceIncompatible", message));
        }
    }
    Ok(())
}

/// Open vSwitch 4.0 gave up on modules from outside of Linux.
pub(super) fn note(target: Target, observed: &Observed) -> Option<String> {
    let version = observed.ovs.database.as_ref()?.version.as_ref()?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (target == Target::Payload && major >= 4).then(|| {
        format!(
            "UserspaceIncompatible: Open vSwitch {version} no longer supports tunnels of modules \
             that are not Linux's own"
        )
    })
}
