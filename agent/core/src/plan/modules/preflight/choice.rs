//! What depmod will choose: it must be one set, and the wanted one.

use crate::config::Paths;
use crate::model::Observed;
use crate::plan::Refusal;
use crate::plan::modules::overrides::SET_DIRECTORY;
use crate::plan::modules::winner::{Winners, copies};
use crate::plan::modules::{Target, Want};
use std::collections::{BTreeMap, BTreeSet};

/// What depmod will choose must be one set.
pub(super) fn one_set(
    want: &Want,
    after: &Observed,
    winners: &Winners,
    paths: &Paths,
) -> Result<(), Refusal> {
    match want.target {
        Target::Payload => payload_wins(want, winners),
        Target::InTree => {
            upstream_wins(want, after, winners, paths)?;
            readable(want, after, winners, paths)
        }
        Target::Before => Ok(()),
    }
}

fn payload_wins(want: &Want, winners: &Winners) -> Result<(), Refusal> {
    for (stem, chosen) in winners {
        let wanted = format!("{SET_DIRECTORY}/{stem}.ko");
        if let Some(other) = chosen.iter().find(|path| **path != wanted) {
            return Err(competing(want, stem, other, "the payload's"));
        }
    }
    Ok(())
}

fn upstream_wins(
    want: &Want,
    after: &Observed,
    winners: &Winners,
    paths: &Paths,
) -> Result<(), Refusal> {
    let own = |path: &String| path.starts_with("kernel/");
    if copies(after, paths, &want.kernel).get("openvswitch").is_none_or(BTreeSet::is_empty) {
        let message = format!(
            "the kernel {} would be left without openvswitch: it has none of its own below \
             {}/{}/kernel, and there is no copy of the user's. Install the package with the \
             kernel's extra modules",
            want.kernel, paths.modules, want.kernel
        );
        return Err(Refusal::new("UpstreamMissing", message));
    }
    let place = |path: &String| -> String {
        if own(path) { "kernel".into() } else { parent(path).to_owned() }
    };
    let places: BTreeSet<String> = winners.values().flatten().map(place).collect();
    if places.len() <= 1 {
        return Ok(());
    }
    // the user's own files in the set's place are put back as they were, mixed or not; any
    // other copy, even one that only ties, would make the set a matter of luck
    let strange = |path: &&String| !own(path) && parent(path) != SET_DIRECTORY;
    for (stem, chosen) in winners {
        if let Some(other) = chosen.iter().find(strange) {
            return Err(competing(want, stem, other, "the rest of the set"));
        }
    }
    Ok(())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn competing(want: &Want, stem: &str, other: &str, instead: &str) -> Refusal {
    let message = format!(
        "depmod would choose {other} of the kernel {} for {stem}, not {instead}: remove that copy, \
         or the depmod configuration that prefers it",
        want.kernel
    );
    Refusal::new("CompetingCopy", message)
}

/// depmod takes an empty file for a module, and modprobe then fails on it. Files of one
/// directory are one set only where they were built for one kernel.
fn readable(
    want: &Want,
    after: &Observed,
    winners: &Winners,
    paths: &Paths,
) -> Result<(), Refusal> {
    let mut built: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for path in winners.values().flatten() {
        let Some(facts) = after.module_at(&format!("{}/{}/{path}", paths.modules, want.kernel))
        else {
            continue;
        };
        if let Some(fault) = &facts.fault {
            let message = format!(
                "{path} of the kernel {} would be chosen and is no kernel module: {fault}. Remove \
                 it, or put a whole file there",
                want.kernel
            );
            return Err(Refusal::new("SetCorrupt", message));
        }
        let Some(vermagic) = facts.vermagic.as_deref() else { continue };
        let (first, other) = built.entry(parent(path)).or_insert((path, vermagic));
        if *other != vermagic {
            let message = format!(
                "{path} and {first} of the kernel {} were built for different kernels (`{}`, \
                 `{}`): they are no set",
                want.kernel,
                vermagic.trim(),
                other.trim()
            );
            return Err(Refusal::new("SetMixed", message));
        }
    }
    Ok(())
}
