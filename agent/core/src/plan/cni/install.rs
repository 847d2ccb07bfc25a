//! Toward the payload's files.

use super::Consent;
use super::conflist::{Content, content};
use super::ledger::{note, opened, settled};
use super::offer::New;
use super::places::{PLUGIN, Places, config_names, directories_for, not_a};
use crate::model::{CniConfig, CniReading, Digest, FileState, Observed, VersionTag};
use crate::payload::{CniFile, CniRole};
use crate::plan::file::Source;
use crate::plan::{Plan, Refusal, Step, cni, file};
use std::cmp::Ordering;

/// What is done about the installed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The installed version is newer: nothing is touched.
    Leave,
    /// The version is the payload's: whatever drifted is put right.
    Repair,
    /// The version is older: what the user has changed since it was written stays.
    Update,
    /// What is there says nothing that can be kept.
    Replace,
}

pub(super) fn plan(
    places: &Places,
    consent: Consent,
    observed: &Observed,
) -> Result<Plan, Refusal> {
    let new = New::of(observed)?;
    let mut plan = Plan::default();
    let verdict = judge(places, consent, observed, &new, &mut plan.notes)?;
    plan.push("Sweep what an interrupted run left", places.sweep(observed));
    if verdict != Verdict::Leave {
        let writes = Writes::of(places, observed, &new, (verdict, consent), &mut plan.notes);
        let (mut before, mut changes) = (Plan::default(), Plan::default());
        writes.into_stages(observed, (&mut before, &mut changes))?;
        plan = plan.then(with_ledger(&places.conflist, observed, &new, (before, changes)));
    }
    note_pair(places, observed, &mut plan.notes);
    note_rival(places, observed, verdict, &mut plan.notes);
    Ok(plan)
}

/// What is written is noted first; that it is committed, last.
fn with_ledger(
    conflist: &str,
    observed: &Observed,
    new: &New<'_>,
    (before, changes): (Plan, Plan),
) -> Plan {
    let known = observed.cni.ledger.as_ref();
    let opened = opened(observed, &changes, &new.version.to_string());
    let commits = changes
        .steps()
        .any(|step| matches!(step, Step::File(file::Step::Write { path, .. }) if path == conflist));
    let present = observed.files.get(conflist).and_then(FileState::sha256);
    let is_known =
        known.is_some_and(|ledger| ledger.base.is_some()) || present == Some(new.conflist.sha256);
    let base = Some(new.text).filter(|_| commits || is_known);
    let settled = settled(opened.clone(), &changes, base);
    let mut plan = before;
    // what was there all the time is nobody's to note
    if !changes.is_empty() && known != Some(&opened) {
        plan.push("Note what is changed", vec![note(Some(opened.clone()))]);
    }
    let written = !changes.is_empty();
    let mut plan = plan.then(changes);
    let last = if written { Some(&opened) } else { known };
    if last.is_some_and(|last| *last != settled) {
        plan.push("Note what is committed", vec![note(Some(settled))]);
    }
    plan
}

/// The decision table.
fn judge(
    places: &Places,
    consent: Consent,
    observed: &Observed,
    new: &New<'_>,
    notes: &mut Vec<String>,
) -> Result<Verdict, Refusal> {
    for path in [&places.nsx, &places.conflist, &places.legacy] {
        if let Some(found) = observed.files.get(path)
            && found.sha256().is_none()
        {
            return Err(not_a(path, "regular file", found));
        }
    }
    if let Some(CniReading::Config(config)) = reading(observed, &places.legacy)? {
        refuse_foreign(&places.legacy, config)?;
    }
    let path = &places.conflist;
    let config = match reading(observed, path)? {
        None => return Ok(Verdict::Replace),
        Some(CniReading::Garbled { why }) => {
            notes.push(format!("Garbled: {path} is replaced, a copy is kept: {why}"));
            return Ok(Verdict::Replace);
        }
        Some(CniReading::Config(config)) => config,
    };
    refuse_foreign(path, config)?;
    if !config.list {
        notes.push(format!("Garbled: {path} is replaced, a copy is kept: it is no list"));
        return Ok(Verdict::Replace);
    }
    let verdict = match &config.version {
        VersionTag::Missing => Verdict::Update,
        VersionTag::Unknown { found } => {
            notes.push(format!(
                "UnknownVersion: {path} is replaced, a copy is kept: its nsxBuildVersion \
                 {found} is no version"
            ));
            Verdict::Replace
        }
        VersionTag::Known { version } => match version.cmp(&new.version) {
            Ordering::Less => Verdict::Update,
            Ordering::Equal => Verdict::Repair,
            Ordering::Greater if consent.downgrade => {
                notes.push(format!(
                    "Downgrade: {path} says {version} and becomes {}, as was asked for",
                    new.version
                ));
                Verdict::Update
            }
            Ordering::Greater => {
                notes.push(format!(
                    "InstalledNewer: {path} says {version}, the payload {}: nothing is touched; \
                     `pointsman cni apply --allow-downgrade` replaces it",
                    new.version
                ));
                Verdict::Leave
            }
        },
    };
    Ok(verdict)
}

/// What a regular file says; none where there is none.
fn reading<'a>(observed: &'a Observed, path: &str) -> Result<Option<&'a CniReading>, Refusal> {
    let Some(sha256) = observed.files.get(path).and_then(FileState::sha256) else {
        return Ok(None);
    };
    match observed.cni.readings.get(&sha256) {
        Some(reading) => Ok(Some(reading)),
        None => Err(Refusal::transient(
            "ConflictingWriter",
            format!("{path} changed each time it was read: find out who writes it"),
        )),
    }
}

fn refuse_foreign(path: &str, config: &CniConfig) -> Result<(), Refusal> {
    if config.first_plugin() == PLUGIN {
        return Ok(());
    }
    Err(Refusal::new(
        "ConflistNotOurs",
        format!(
            "{path} configures the plugin `{}`, not `{PLUGIN}`: it is somebody else's; \
             move it away and try again",
            config.first_plugin()
        ),
    ))
}

/// The chained plugins that go: without the text that was written last nobody knows whose they were.
fn note_lost_plugins(
    places: &Places,
    observed: &Observed,
    new: &New<'_>,
    content: &Content,
    notes: &mut Vec<String>,
) {
    let merged = match content {
        Content::AsItIs => return,
        Content::Payload => None,
        Content::Merged(text) => Some(CniReading::of(text.as_bytes())),
    };
    let stay = merged.as_ref().and_then(CniReading::config).unwrap_or(new.config);
    let path = &places.conflist;
    let Ok(Some(CniReading::Config(old))) = reading(observed, path) else { return };
    let lost: Vec<&str> = old
        .plugins
        .iter()
        .filter(|plugin| !stay.plugins.contains(plugin))
        .map(String::as_str)
        .collect();
    if !lost.is_empty() {
        notes.push(format!(
            "ChainedPluginsDropped: {path} chains {}, which the payload's does not: a copy is kept",
            lost.join(", ")
        ));
    }
}

/// One file on its way to its place.
struct Write<'a> {
    path: &'a str,
    file: &'a CniFile,
    source: Source,
    sha256: Digest,
}

impl<'a> Write<'a> {
    fn of_payload(path: &'a str, file: &'a CniFile) -> Self {
        Self { path, file, source: Source::Payload(file.path.clone()), sha256: file.sha256 }
    }

    fn step(&self) -> Step {
        Step::File(file::Step::Write {
            path: self.path.to_owned(),
            // a manifest without a readable mode is not parsed
            mode: self.file.mode_bits().unwrap_or(0o600),
            source: self.source.clone(),
            sha256: self.sha256,
        })
    }

    fn probe(&self, cni_version: &str) -> Step {
        Step::Cni(cni::Step::ProbePlugin {
            path: self.path.to_owned(),
            source: self.file.path.clone(),
            sha256: self.file.sha256,
            cni_version: cni_version.to_owned(),
        })
    }
}

struct Writes<'a> {
    binaries: Vec<Write<'a>>,
    cni_version: String,
    conflist: Option<Write<'a>>,
    legacy: Option<(&'a str, Digest)>,
    loopback_conf: Option<Write<'a>>,
}

impl<'a> Writes<'a> {
    fn of(
        places: &'a Places,
        observed: &Observed,
        new: &New<'a>,
        (verdict, consent): (Verdict, Consent),
        notes: &mut Vec<String>,
    ) -> Self {
        let pair = |role| {
            let path = places.of_role(role);
            let file = new.payload.files.get(&role)?;
            let wanted = match observed.files.get(path) {
                None => true,
                Some(FileState::Regular { .. }) if consent.loopback => {
                    !is_installed(observed, path, file)
                }
                Some(_) => false,
            };
            wanted.then(|| Write::of_payload(path, file))
        };
        let held = match verdict {
            Verdict::Replace | Verdict::Leave => Content::Payload,
            Verdict::Update | Verdict::Repair => {
                let held = content(places, observed, new, verdict == Verdict::Update, notes);
                note_lost_plugins(places, observed, new, &held, notes);
                held
            }
        };
        let nsx = Some(Write::of_payload(&places.nsx, new.nsx))
            .filter(|write| !is_installed(observed, write.path, write.file));
        let legacy = observed.files.get(&places.legacy).and_then(FileState::sha256);
        Self {
            binaries: pair(CniRole::Loopback).into_iter().chain(nsx).collect(),
            cni_version: held.cni_version(places, observed, new),
            conflist: conflist_write(places, observed, new, &held),
            legacy: legacy.map(|sha256| (places.legacy.as_str(), sha256)),
            loopback_conf: pair(CniRole::LoopbackConf),
        }
    }

    /// What comes before the first change, and the changes.
    fn into_stages(
        self,
        observed: &Observed,
        (before, changes): (&mut Plan, &mut Plan),
    ) -> Result<(), Refusal> {
        let all = || self.binaries.iter().chain(&self.conflist).chain(&self.loopback_conf);
        let mut directories: Vec<Step> = Vec::new();
        for write in all() {
            for step in directories_for(write.path, observed)? {
                if !directories.contains(&step) {
                    directories.push(step);
                }
            }
        }
        before.push("Make the directories", directories);
        let kept = all()
            .filter_map(|write| Some((write.path, observed.files.get(write.path)?.sha256()?)))
            .chain(self.legacy);
        let keep = |(path, sha256): (&str, Digest)| {
            Step::File(file::Step::Keep { path: path.to_owned(), sha256 })
        };
        before.push("Keep what goes", kept.map(keep).collect());
        let probes = self.binaries.iter().map(|write| write.probe(&self.cni_version));
        before.push("Try the new plugins", probes.collect());
        let binaries = self.binaries.iter().map(Write::step);
        changes.push("Put the plugins in place", binaries.collect());
        let conflist = self.conflist.iter().map(Write::step);
        changes.push("Commit the configuration", conflist.collect());
        let removal = self.legacy.map(|(path, sha256)| {
            Step::File(file::Step::Remove { path: path.to_owned(), sha256: Some(sha256) })
        });
        changes.push("Remove the older configuration", removal.into_iter().collect());
        let loopback = self.loopback_conf.iter().map(Write::step);
        changes.push("Add the loopback configuration", loopback.collect());
        Ok(())
    }
}

/// The commit, where the content or the mode is not yet there. The mode of what the user has
/// written is the user's.
fn conflist_write<'a>(
    places: &'a Places,
    observed: &Observed,
    new: &New<'a>,
    content: &Content,
) -> Option<Write<'a>> {
    let (path, file) = (places.conflist.as_str(), new.conflist);
    let Some(FileState::Regular { mode, sha256: present, .. }) = observed.files.get(path) else {
        return Some(Write::of_payload(path, file));
    };
    let (source, sha256) = match content {
        Content::AsItIs => {
            let owned = observed.cni.ledger.as_ref().and_then(|ledger| ledger.files.get(path));
            owned.filter(|owned| owned.written.contains(present))?;
            let text = observed.cni.texts.get(present)?.clone();
            (Source::Inline(text), *present)
        }
        Content::Payload | Content::Merged(_) => content.source(new),
    };
    let there = *present == sha256 && Some(*mode) == file.mode_bits();
    (!there).then_some(Write { path, file, source, sha256 })
}

fn is_installed(observed: &Observed, path: &str, file: &CniFile) -> bool {
    match observed.files.get(path) {
        Some(FileState::Regular { mode, sha256, .. }) => {
            *sha256 == file.sha256 && Some(*mode) == file.mode_bits()
        }
        Some(FileState::Symlink { .. } | FileState::Directory | FileState::Other) | None => false,
    }
}

/// The loopback pair is never overwritten, so a broken one can only be told.
fn note_pair(places: &Places, observed: &Observed, notes: &mut Vec<String>) {
    let mut broken = |path: &str, why: &str| {
        notes.push(format!(
            "LoopbackBroken: {path} {why}; it is not overwritten: remove it, or ask for \
             `pointsman cni apply --replace-loopback`"
        ));
    };
    match observed.files.get(&places.loopback) {
        Some(FileState::Regular { mode, .. }) if mode & 0o111 == 0 => {
            broken(&places.loopback, "is not executable");
        }
        Some(FileState::Regular { size: 0, sha256, .. }) if *sha256 == Digest::of(b"") => {
            broken(&places.loopback, "is empty");
        }
        Some(FileState::Directory | FileState::Other) => {
            broken(&places.loopback, "is no regular file");
        }
        Some(FileState::Regular { .. } | FileState::Symlink { .. }) => {
            if let Some(fault) = observed.cni.faults.get(&places.loopback) {
                broken(&places.loopback, fault);
            }
        }
        None => {}
    }
    if let Some(FileState::Directory | FileState::Other) = observed.files.get(&places.loopback_conf)
    {
        broken(&places.loopback_conf, "is no regular file");
    }
}

/// A configuration that sorts before ours is what the runtime loads, and it is not ours to move.
fn note_rival(places: &Places, observed: &Observed, verdict: Verdict, notes: &mut Vec<String>) {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let (ours, legacy) = (name(&places.conflist), name(&places.legacy));
    let goes = |name: &str| verdict != Verdict::Leave && name == legacy;
    let first = config_names(observed, places).filter(|name| !goes(name)).min();
    if let Some(first) = first.filter(|first| *first < ours.as_str()) {
        notes.push(format!(
            "RivalConfig: {}/{first} sorts before {ours}: the runtime loads it instead",
            places.conf
        ));
    }
}
