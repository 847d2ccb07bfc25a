//! A copy of another build in a kernel's initramfs.
//!
//! The copy alone does no harm: the root is mounted without Open vSwitch, and modprobe then
//! asks the index. One that the initramfs is told to load wins over whatever the index says.

use crate::model::{InitramfsCopy, MODULE_STEMS, Observed, Sameness, loaded_name, module_stem};
use crate::payload::ModuleSet;
use crate::plan::Refusal;
use crate::plan::modules::{Target, Want};

/// What is wrong with an initramfs.
struct Stale {
    message: String,
    /// Whether it is loaded from there.
    loaded: bool,
}

pub(super) fn loads_none(
    want: &Want,
    set: Option<&ModuleSet>,
    observed: &Observed,
) -> Result<(), Refusal> {
    match stale(&want.kernel, want.target == Target::Payload, set, observed) {
        Some(stale) if stale.loaded => Err(Refusal::new("InitramfsStale", stale.message)),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn note(want: &Want, set: Option<&ModuleSet>, observed: &Observed) -> Option<String> {
    let stale = stale(&want.kernel, want.target == Target::Payload, set, observed)?;
    Some(format!("InitramfsStale: {}", stale.message))
}

/// What is said of a kernel whose tree holds the payload's set, or another one.
pub(crate) fn stale_copy(kernel: &str, is_payload: bool, observed: &Observed) -> Option<String> {
    let payload = observed.payload.as_ref();
    let set = payload.and_then(|payload| payload.manifest.module_set(kernel));
    stale(kernel, is_payload, set, observed).map(|stale| stale.message)
}

fn stale(
    kernel: &str,
    wants_payload: bool,
    set: Option<&ModuleSet>,
    observed: &Observed,
) -> Option<Stale> {
    let initramfs = observed.modules.footing.kernels.get(kernel)?.initramfs.as_ref()?;
    let wrong = initramfs
        .copies
        .iter()
        .find(|copy| if wants_payload { is_other(copy, set) } else { is_payloads(copy, observed) });
    let path = &initramfs.path;
    let anew = format!(
        "make it anew behind the switch (`update-initramfs -u -k {kernel}`, or `dracut -f --kver \
         {kernel}`)"
    );
    if let Some(copy) = wrong {
        let loaded = stem_of(copy).is_some_and(|stem| initramfs.loads.contains(&loaded_name(stem)));
        let told = if loaded {
            format!(
                ", and is told to load it before the root is mounted, so it would win at the next \
                 boot: take it off that list and {anew}"
            )
        } else {
            format!(", which nothing loads from there: {anew} all the same")
        };
        let message = format!("{path} holds another build of the set as {}{told}", copy.path);
        return Some(Stale { message, loaded });
    }
    let copy = initramfs.copies.iter().find(|copy| copy.identity.is_none())?;
    let why = initramfs.unread.as_deref().unwrap_or("it was not read");
    let message = format!(
        "{path} holds {}, and of which build is unknown ({why}): where it is loaded from there, {anew}",
        copy.path
    );
    Some(Stale { message, loaded: false })
}

fn stem_of(copy: &InitramfsCopy) -> Option<&'static str> {
    let stem = module_stem(copy.path.rsplit('/').next()?)?;
    MODULE_STEMS.into_iter().find(|known| *known == stem)
}

/// Whether it is surely not the set's module of that name.
fn is_other(copy: &InitramfsCopy, set: Option<&ModuleSet>) -> bool {
    let file = stem_of(copy).and_then(|stem| set?.files.get(stem));
    let found = copy.identity.as_ref().and_then(|identity| identity.build_id.as_ref());
    matches!((file, found), (Some(file), Some(found)) if file.build_id != *found)
}

/// Whether it is surely the payload's.
fn is_payloads(copy: &InitramfsCopy, observed: &Observed) -> bool {
    let Some(identity) = &copy.identity else { return false };
    let sets = observed.payload.iter().flat_map(|payload| &payload.manifest.modules);
    sets.flat_map(|set| set.files.values()).any(|file| {
        let facts = observed.modules.facts.get(&file.sha256);
        identity.build_id.as_ref() == Some(&file.build_id)
            || facts.is_some_and(|facts| facts.identity.sameness(identity) == Sameness::Proven)
    })
}
