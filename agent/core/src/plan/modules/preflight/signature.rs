//! Whether the running kernel knows the keys of the payload's signatures.
//!
//! Asked only where the kernel takes signed modules alone. What `/proc/keys` shows need not be
//! all that the kernel has, and a signature that names a certificate's serial number cannot be
//! compared with a key that is shown by its own identifier: what is not known refuses nothing.

use crate::model::{KernelModules, Observed, Signer, TrustedKey};
use crate::payload::ModuleSet;
use crate::plan::Refusal;

/// The kernel's keyrings that count, for a message.
const KEYRINGS: &str = ".builtin_trusted_keys, .secondary_trusted_keys, .machine or .platform";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Known,
    /// The kernel shows keys, and none with this identifier.
    Missing,
    Unknown,
}

/// A signature by a key that the kernel has not is no signature to it.
pub(super) fn known(
    set: &ModuleSet,
    kernel: &KernelModules,
    observed: &Observed,
) -> Result<(), Refusal> {
    let Some((path, signer)) = first(set, kernel, observed, Verdict::Missing) else {
        return Ok(());
    };
    let message = format!(
        "the kernel {} takes signed modules only, and the payload's {path} is signed with the key \
         {}, which is in none of its keyrings: sign it with a key that is in {KEYRINGS}, or enroll \
         this one (`mokutil --import`)",
        kernel.release, signer.id
    );
    Err(Refusal::new("SignatureRejected", message))
}

/// What stays unknown where it matters.
pub(super) fn note(set: &ModuleSet, kernel: &KernelModules, observed: &Observed) -> Option<String> {
    let (path, signer) = first(set, kernel, observed, Verdict::Unknown)?;
    let by = signer.issuer.as_ref().map_or_else(String::new, |name| format!(", issued by {name}"));
    Some(format!(
        "SignatureUnproven: the kernel {} takes signed modules only, and nothing tells whether it \
         knows the key of the payload's {path} ({}{by})",
        kernel.release, signer.id
    ))
}

fn first<'a>(
    set: &'a ModuleSet,
    kernel: &KernelModules,
    observed: &'a Observed,
    wanted: Verdict,
) -> Option<(&'a str, &'a Signer)> {
    let footing = &observed.modules.footing;
    let policy = &footing.policy;
    let by_itself = footing.kernels.get(&kernel.release).is_some_and(|kernel| kernel.signed_only);
    if !by_itself && !policy.sig_enforce && policy.lockdown.is_none() {
        return None;
    }
    let signers = set
        .files
        .values()
        .filter_map(|file| Some((&*file.path, footing.signers.get(&file.sha256)?)));
    // the keys are the running kernel's: another one has keys of its own built in
    let keys = if kernel.running { footing.keys.as_slice() } else { &[] };
    signers.into_iter().find(|(_, signer)| verdict(signer, keys) == wanted)
}

fn verdict(signer: &Signer, keys: &[TrustedKey]) -> Verdict {
    let bare = |id: &str| id.trim_start_matches('0').to_owned();
    if keys.iter().any(|key| bare(&key.id) == bare(&signer.id)) {
        Verdict::Known
    } else if signer.by_key && !keys.is_empty() {
        Verdict::Missing
    } else {
        Verdict::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_identifier_that_is_not_shown_is_missing() {
        let key = |id: &str| TrustedKey { name: "a key".into(), id: id.into() };
        let signer = |id: &str, by_key| Signer { id: id.into(), by_key, issuer: None };
        let keys = [key("00ab12"), key("77")];
        for (signer, keys, expected) in [
            (signer("ab12", true), &keys[..], Verdict::Known),
            (signer("ab12", false), &keys[..], Verdict::Known),
            (signer("cd34", true), &keys[..], Verdict::Missing),
            (signer("cd34", false), &keys[..], Verdict::Unknown),
            (signer("cd34", true), &[], Verdict::Unknown),
        ] {
            assert!(verdict(&signer, keys) == expected, "{signer:?}");
        }
    }
}
