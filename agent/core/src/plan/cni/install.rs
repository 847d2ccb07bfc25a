//! Toward the payload's files.

use super::places::{PLUGIN, Places, config_names, directories_for, not_a};
use crate::model::{CniConfig, CniReading, Digest, FileState, Observed, VersionTag};
use crate::payload::{CniFile, CniPayload, CniRole, Payload};
use crate::plan::file::Source;
use crate::plan::{Plan, Refusal, Step, cni, file};
use crate::version::Version;
use std::cmp::Ordering;

/// What is done about the installed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The installed version is newer: nothing is touched.
    Leave,
    /// The version is the payload's: whatever drifted is put right.
    Repair,
    /// Everything becomes the payload's.
    Replace,
}

pub(super) fn plan(places: &Places, observed: &Observed) -> Result<Plan, Refusal> {
    let new = New::of(observed)?;
    let mut plan = Plan::default();
    let verdict = judge(places, observed, &new, &mut plan.notes)?;
    plan.push("Sweep what an interrupted run left", places.sweep(observed));
    if verdict != Verdict::Leave {
        let writes = Writes::of(places, observed, &new, verdict, &mut plan.notes);
        writes.into_stages(observed, &new, &mut plan)?;
    }
    note_pair(places, observed, &mut plan.notes);
    note_rival(places, observed, verdict, &mut plan.notes);
    Ok(plan)
}

/// The payload's part, checked.
struct New<'a> {
    payload: &'a CniPayload,
    nsx: &'a CniFile,
    conflist: &'a CniFile,
    config: &'a CniConfig,
    version: Version,
}

impl<'a> New<'a> {
    fn of(observed: &'a Observed) -> Result<Self, Refusal> {
        let none = |why: &str| Refusal::new("NoPayload", format!("no CNI payload: {why}"));
        let Some(payload) = &observed.payload else {
            return Err(none(
                observed.payload_fault.as_deref().unwrap_or("there is no payload directory"),
            ));
        };
        let Some(files) = &payload.manifest.cni else {
            return Err(none("the payload's manifest.toml has no [cni]"));
        };
        let role = |role: CniRole, name: &str| {
            let why = format!("the payload's manifest.toml has no [cni.files.{name}]");
            files.files.get(&role).ok_or_else(|| none(&why))
        };
        let (nsx, conflist) = (role(CniRole::Nsx, "nsx")?, role(CniRole::Conflist, "conflist")?);
        refuse_faults(payload, files)?;
        let config = payload_config(observed, conflist)?;
        let version = payload_version(files, conflist, config)?;
        Ok(Self { payload: files, nsx, conflist, config, version })
    }
}

fn refuse_faults(payload: &Payload, files: &CniPayload) -> Result<(), Refusal> {
    let fault = files.files.values().find_map(|file| payload.faults.get_key_value(&file.path));
    fault.map_or(Ok(()), |(path, fault)| {
        Err(corrupt(path, &format!("{fault}; bring the payload anew")))
    })
}

fn corrupt(path: &str, why: &str) -> Refusal {
    Refusal::new("PayloadCorrupt", format!("the payload's {path} cannot be installed: {why}"))
}

fn payload_config<'a>(
    observed: &'a Observed,
    conflist: &CniFile,
) -> Result<&'a CniConfig, Refusal> {
    match observed.cni.readings.get(&conflist.sha256) {
        None => Err(corrupt(&conflist.path, "it could not be read")),
        Some(CniReading::Garbled { why }) => Err(corrupt(&conflist.path, why)),
        Some(CniReading::Config(config)) if !config.list => {
            Err(corrupt(&conflist.path, "it is a single plugin's configuration, no list"))
        }
        Some(CniReading::Config(config)) if config.first_plugin() != PLUGIN => {
            let why = format!("its first plugin is `{}`, not `{PLUGIN}`", config.first_plugin());
            Err(corrupt(&conflist.path, &why))
        }
        Some(CniReading::Config(config)) => Ok(config),
    }
}

fn payload_version(
    files: &CniPayload,
    conflist: &CniFile,
    config: &CniConfig,
) -> Result<Version, Refusal> {
    let bad = |why: String| Refusal::new("BadPayloadVersion", why);
    let version = Version::parse(&files.version)
        .map_err(|error| bad(format!("the payload's manifest.toml: version of [cni]: {error}")))?;
    let path = &conflist.path;
    match &config.version {
        VersionTag::Known { version: tag } if *tag == version => Ok(version),
        VersionTag::Known { version: tag } => Err(bad(format!(
            "the payload's manifest.toml says version {version} and its {path} says \
             nsxBuildVersion {tag}: they must agree"
        ))),
        VersionTag::Unknown { found } => Err(bad(format!(
            "the payload's {path} has the nsxBuildVersion {found}, which is no version"
        ))),
        VersionTag::Missing => Err(bad(format!(
            "the payload's {path} has no nsxBuildVersion: every start would write"
        ))),
    }
}

/// The decision table.
fn judge(
    places: &Places,
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
        VersionTag::Missing => Verdict::Replace,
        VersionTag::Unknown { found } => {
            notes.push(format!(
                "UnknownVersion: {path} is replaced, a copy is kept: its nsxBuildVersion \
                 {found} is no version"
            ));
            Verdict::Replace
        }
        VersionTag::Known { version } => match version.cmp(&new.version) {
            Ordering::Less => Verdict::Replace,
            Ordering::Equal => Verdict::Repair,
            Ordering::Greater => {
                notes.push(format!(
                    "InstalledNewer: {path} says {version}, the payload {}: nothing is touched",
                    new.version
                ));
                Verdict::Leave
            }
        },
    };
    if verdict == Verdict::Replace {
        note_lost_plugins(path, config, new, notes);
    }
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

fn note_lost_plugins(path: &str, old: &CniConfig, new: &New<'_>, notes: &mut Vec<String>) {
    let lost: Vec<&str> = old
        .plugins
        .iter()
        .filter(|plugin| !new.config.plugins.contains(plugin))
        .map(String::as_str)
        .collect();
    if !lost.is_empty() {
        notes.push(format!(
            "ChainedPluginsDropped: {path} chains {}, which the payload's does not: a copy is kept",
            lost.join(", ")
        ));
    }
}

/// One file of the payload on its way to its place.
struct Write<'a> {
    path: &'a str,
    file: &'a CniFile,
}

impl Write<'_> {
    fn step(&self) -> Step {
        Step::File(file::Step::Write {
            path: self.path.to_owned(),
            // a manifest without a readable mode is not parsed
            mode: self.file.mode_bits().unwrap_or(0o600),
            source: Source::Payload(self.file.path.clone()),
            sha256: self.file.sha256,
        })
    }

    fn probe(&self, new: &New<'_>) -> Step {
        Step::Cni(cni::Step::ProbePlugin {
            path: self.path.to_owned(),
            source: self.file.path.clone(),
            sha256: self.file.sha256,
            cni_version: new.config.cni_version().to_owned(),
        })
    }
}

struct Writes<'a> {
    binaries: Vec<Write<'a>>,
    conflist: Option<Write<'a>>,
    legacy: Option<(&'a str, Digest)>,
    loopback_conf: Option<Write<'a>>,
}

impl<'a> Writes<'a> {
    fn of(
        places: &'a Places,
        observed: &Observed,
        new: &New<'a>,
        verdict: Verdict,
        notes: &mut Vec<String>,
    ) -> Self {
        let absent = |role| {
            let path = places.of_role(role);
            let file = new.payload.files.get(&role)?;
            (!observed.files.contains_key(path)).then_some(Write { path, file })
        };
        let differing = |path: &'a str, file: &'a CniFile| {
            (!is_installed(observed, path, file)).then_some(Write { path, file })
        };
        let present = observed.files.get(&places.conflist).and_then(FileState::sha256);
        let edited = verdict == Verdict::Repair && present != Some(new.conflist.sha256);
        if edited {
            notes.push(format!(
                "HandEdited: {} has the payload's version {} and other contents: it is left as it is",
                places.conflist, new.version
            ));
        }
        let conflist = differing(&places.conflist, new.conflist).filter(|_| !edited);
        let legacy = observed.files.get(&places.legacy).and_then(FileState::sha256);
        Self {
            binaries: absent(CniRole::Loopback)
                .into_iter()
                .chain(differing(&places.nsx, new.nsx))
                .collect(),
            conflist,
            legacy: legacy.map(|sha256| (places.legacy.as_str(), sha256)),
            loopback_conf: absent(CniRole::LoopbackConf),
        }
    }

    fn into_stages(
        self,
        observed: &Observed,
        new: &New<'_>,
        plan: &mut Plan,
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
        plan.push("Make the directories", directories);
        let kept = all()
            .filter_map(|write| Some((write.path, observed.files.get(write.path)?.sha256()?)))
            .chain(self.legacy);
        let keep = |(path, sha256): (&str, Digest)| {
            Step::File(file::Step::Keep { path: path.to_owned(), sha256 })
        };
        plan.push("Keep what goes", kept.map(keep).collect());
        let probes = self.binaries.iter().map(|write| write.probe(new));
        plan.push("Try the new plugins", probes.collect());
        let binaries = self.binaries.iter().map(Write::step);
        plan.push("Put the plugins in place", binaries.collect());
        let conflist = self.conflist.iter().map(Write::step);
        plan.push("Commit the configuration", conflist.collect());
        let removal = self.legacy.map(|(path, sha256)| {
            Step::File(file::Step::Remove { path: path.to_owned(), sha256: Some(sha256) })
        });
        plan.push("Remove the older configuration", removal.into_iter().collect());
        let loopback = self.loopback_conf.iter().map(Write::step);
        plan.push("Add the loopback configuration", loopback.collect());
        Ok(())
    }
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
        notes.push(format!("LoopbackBroken: {path} {why}; it is never overwritten: remove it"));
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
        Some(FileState::Regular { .. } | FileState::Symlink { .. }) | None => {}
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
