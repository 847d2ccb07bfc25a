//! What the payload brings, checked before anything is planned with it.

use super::places::PLUGIN;
use crate::model::{CniConfig, CniReading, Observed, VersionTag};
use crate::payload::{CniFile, CniPayload, CniRole, Payload};
use crate::plan::Refusal;
use crate::version::Version;

/// The payload's part, checked.
pub(super) struct New<'a> {
    pub(super) payload: &'a CniPayload,
    pub(super) nsx: &'a CniFile,
    pub(super) conflist: &'a CniFile,
    pub(super) config: &'a CniConfig,
    /// The conflist's text.
    pub(super) text: &'a str,
    pub(super) version: Version,
}

impl<'a> New<'a> {
    pub(super) fn of(observed: &'a Observed) -> Result<Self, Refusal> {
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
        let text = observed.cni.texts.get(&conflist.sha256).map_or("", String::as_str);
        Ok(Self { payload: files, nsx, conflist, config, text, version })
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
