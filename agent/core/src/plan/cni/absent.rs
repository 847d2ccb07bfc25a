//! Toward what was there before Pointsman: the undo of every installation at once.
//!
//! Only what the ledger names is touched, and only while it holds what was written. A plugin
//! stays as long as a runtime needs it to detach pods.

use super::Consent;
use super::ledger::note;
use super::offer::New;
use super::places::{PLUGIN, Places, config_names};
use super::restore::{Back, Change, Changes, Manner, Origin};
use crate::model::{CniReading, FileState, Ledger, Observed, Owned};
use crate::payload::CniRole;
use crate::plan::{Plan, Refusal};
use crate::version::Version;

pub(super) fn plan(
    places: &Places,
    consent: Consent,
    observed: &Observed,
) -> Result<Plan, Refusal> {
    let Some(ledger) = ledger(places, consent, observed) else {
        let mut plan = Plan::default();
        plan.push("Sweep what an interrupted run left", places.sweep(observed));
        return Ok(plan);
    };
    refuse_newer(&ledger, consent, observed)?;
    let origin = origin(&ledger, consent);
    let mut back = Back::new(observed, &origin);
    let mut changes = Changes::of(places, &mut back)?;
    if back.left.contains(&places.conflist) && names_plugin(places, observed) {
        back.notes.push(format!(
            "StillConfigured: {} stays and names the plugin {PLUGIN}, so everything else stays too; \
             remove it, or ask for `pointsman undo --force`",
            places.conflist
        ));
        return Ok(Plan { stages: Vec::new(), notes: back.notes });
    }
    let stays = spare_plugins(places, consent, observed, &mut changes, &mut back.notes);
    let mut rest = ledger;
    rest.files.retain(|path, _| stays.contains(&path.as_str()));
    if rest.files.is_empty() {
        // an undo that has ended is not a state directory that was lost
        rest.base = None;
    }
    let mut plan = changes.into_plan(places, observed, back)?;
    if observed.cni.ledger.as_ref() != Some(&rest) {
        plan.push("Note what is undone", vec![note(Some(rest))]);
    }
    Ok(plan)
}

/// What is Pointsman's own. Where nothing says so, and on request only, since others bring the
/// same files: what holds exactly what the payload brings, the loopback pair excepted.
fn ledger(places: &Places, consent: Consent, observed: &Observed) -> Option<Ledger> {
    if let Some(ledger) = &observed.cni.ledger {
        return Some(ledger.clone());
    }
    let new = New::of(observed).ok().filter(|_| consent.force)?;
    let mut ledger = Ledger { version: new.version.to_string(), ..Ledger::default() };
    for role in [CniRole::Nsx, CniRole::Conflist] {
        let path = places.of_role(role);
        let ours = new.payload.files.get(&role).map(|file| file.sha256);
        if let Some(sha256) = ours
            && observed.files.get(path).and_then(FileState::sha256) == Some(sha256)
        {
            ledger.files.insert(path.into(), Owned { before: None, written: vec![sha256] });
        }
    }
    // a plugin alone may be anybody's; the configuration says that it is ours
    ledger.files.contains_key(&places.conflist).then_some(ledger)
}

/// An undo that comes late, by an agent that was replaced, must not undo the newer installation.
fn refuse_newer(ledger: &Ledger, consent: Consent, observed: &Observed) -> Result<(), Refusal> {
    let payload = observed.payload.as_ref().and_then(|payload| payload.manifest.cni.as_ref());
    let own = payload.and_then(|cni| Version::parse(&cni.version).ok());
    let (Some(own), Ok(installed)) = (own, Version::parse(&ledger.version)) else {
        return Ok(());
    };
    if installed <= own || consent.force {
        return Ok(());
    }
    Err(Refusal::new(
        "UndoOutdated",
        format!(
            "version {installed} was installed by a newer payload than this one, which is {own}: \
             let that one undo it, or ask for `pointsman undo --force`"
        ),
    ))
}

fn origin(ledger: &Ledger, consent: Consent) -> Origin {
    let manner = if consent.force { Manner::ForcedUndo } else { Manner::Undo };
    let mut origin = Origin { manner, ..Origin::default() };
    for (path, owned) in &ledger.files {
        if let Some(before) = owned.before {
            // the size is in nobody's way
            let state = FileState::Regular { mode: before.mode, size: 0, sha256: before.sha256 };
            origin.before.insert(path.clone(), state);
            origin.kept.insert(path.clone());
        }
        origin.ours.insert(path.clone(), owned.written.clone());
    }
    origin
}

fn names_plugin(places: &Places, observed: &Observed) -> bool {
    let sha256 = observed.files.get(&places.conflist).and_then(FileState::sha256);
    let reading = sha256.and_then(|sha256| observed.cni.readings.get(&sha256));
    reading.and_then(CniReading::config).is_some_and(|config| config.first_plugin() == PLUGIN)
}

/// Takes the removal of plugins that are still needed out of the changes; tells which stay.
fn spare_plugins<'a>(
    places: &'a Places,
    consent: Consent,
    observed: &Observed,
    changes: &mut Changes,
    notes: &mut Vec<String>,
) -> Vec<&'a str> {
    let mut stays = Vec::new();
    let attached = observed.cni.attachments.len();
    if attached > 0 && !consent.force && changes.nsx.is_removal() {
        changes.nsx = Change::None;
        stays.push(places.nsx.as_str());
        notes.push(format!(
            "PluginNeeded: {} stays until no pod is attached by it ({attached} attached): the \
             runtime needs it to detach them; drain the node, or ask for `pointsman undo --force`",
            places.nsx
        ));
    }
    let own = places.all();
    let other = config_names(observed, places)
        .find(|name| !own.contains(&format!("{}/{name}", places.conf).as_str()));
    let needed = other.map(|name| format!("{}/{name} may need it", places.conf));
    let needed = needed.or_else(|| (!stays.is_empty()).then(|| "pods are attached".to_owned()));
    if let Some(why) = needed.filter(|_| !consent.force && changes.loopback.is_removal()) {
        changes.loopback = Change::None;
        stays.push(places.loopback.as_str());
        notes.push(format!("PluginNeeded: {} stays: {why}", places.loopback));
    }
    stays
}
