use crate::config::Paths;
use crate::model::{FileState, Observed, VersionTag};
use crate::payload::CniRole;
use crate::plan::file::staged_beside;
use crate::plan::{Refusal, Step, file};
use crate::version::Version;

/// The plugin's `type` in a configuration.
pub(super) const PLUGIN: &str = "nsx";

/// Where NCP's CNI files are on the host: absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Directory of the binaries.
    pub bin: String,
    /// Directory of the configuration.
    pub conf: String,
    /// The plugin.
    pub nsx: String,
    /// The loopback plugin.
    pub loopback: String,
    /// `10-nsx.conflist`.
    pub conflist: String,
    /// `10-nsx.conf` of the deb and rpm packages, which sorts before the conflist.
    pub legacy: String,
    /// `99-loopback.conf`.
    pub loopback_conf: String,
}

impl Places {
    /// The places below the configured directories.
    pub fn of(paths: &Paths) -> Self {
        let bin = paths.cni_bin.trim_end_matches('/').to_owned();
        let conf = paths.cni_conf.trim_end_matches('/').to_owned();
        Self {
            nsx: format!("{bin}/nsx"),
            loopback: format!("{bin}/loopback"),
            conflist: format!("{conf}/10-nsx.conflist"),
            legacy: format!("{conf}/10-nsx.conf"),
            loopback_conf: format!("{conf}/99-loopback.conf"),
            bin,
            conf,
        }
    }

    /// Where the payload's file of a role goes.
    pub fn of_role(&self, role: CniRole) -> &str {
        match role {
            CniRole::Nsx => &self.nsx,
            CniRole::Loopback => &self.loopback,
            CniRole::Conflist => &self.conflist,
            CniRole::LoopbackConf => &self.loopback_conf,
        }
    }

    /// Every file that a plan may change.
    pub fn all(&self) -> [&str; 5] {
        [&self.nsx, &self.loopback, &self.conflist, &self.legacy, &self.loopback_conf]
    }

    /// Both directories and those above them, each after its parent; without `/`.
    pub fn directories(&self) -> Vec<&str> {
        let mut all = with_parents(&self.bin);
        all.extend(with_parents(&self.conf).into_iter().filter(|path| !self.bin_has(path)));
        all
    }

    fn bin_has(&self, path: &str) -> bool {
        with_parents(&self.bin).contains(&path)
    }

    /// Whether a step is about CNI files.
    pub fn concerns(&self, step: &Step) -> bool {
        let Step::File(
            file::Step::Keep { path, .. }
            | file::Step::Write { path, .. }
            | file::Step::MakeDirectory { path, .. }
            | file::Step::Link { path, .. }
            | file::Step::Remove { path, .. }
            | file::Step::RemoveDirectory { path },
        ) = step
        else {
            return matches!(step, Step::Cni(_));
        };
        let staged = |own: &&str| staged_beside(own) == *path;
        self.all().contains(&path.as_str())
            || self.directories().contains(&path.as_str())
            || self.all().iter().any(staged)
    }

    /// Removal of what killed writes left behind.
    pub(super) fn sweep(&self, observed: &Observed) -> Vec<Step> {
        let leftover = |path: &str| {
            let path = staged_beside(path);
            let sha256 = observed.files.get(&path)?.sha256()?;
            Some(Step::File(file::Step::Remove { path, sha256: Some(sha256) }))
        };
        self.all().into_iter().filter_map(leftover).collect()
    }
}

/// `/a/b` → `/a`, `/a/b`.
fn with_parents(path: &str) -> Vec<&str> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.filter_map(|end| path.get(..end)).filter(|path| !path.is_empty()).collect()
}

/// The directories that a file needs and that are not there.
pub(super) fn directories_for(path: &str, observed: &Observed) -> Result<Vec<Step>, Refusal> {
    let (directory, _) = path.rsplit_once('/').unwrap_or_default();
    let mut steps = Vec::new();
    for path in with_parents(directory) {
        match observed.files.get(path) {
            Some(FileState::Directory) => {}
            None => steps
                .push(Step::File(file::Step::MakeDirectory { path: path.to_owned(), mode: 0o755 })),
            Some(other) => return Err(not_a(path, "directory", other)),
        }
    }
    Ok(steps)
}

pub(super) fn not_a(path: &str, wanted: &str, found: &FileState) -> Refusal {
    let is = match found {
        FileState::Regular { .. } => "a regular file".into(),
        FileState::Symlink { target } => format!("a symbolic link to {target}"),
        FileState::Directory => "a directory".into(),
        FileState::Other => "a device, socket or pipe".into(),
    };
    Refusal::new(
        "TargetNotAFile",
        format!("{path} is {is} where a {wanted} belongs; move it away and try again"),
    )
}

/// The installed `nsxBuildVersion`, where there is one that can be read.
pub fn installed_version<'a>(observed: &'a Observed, places: &Places) -> Option<&'a Version> {
    let sha256 = observed.files.get(&places.conflist)?.sha256()?;
    match &observed.cni.readings.get(&sha256)?.config()?.version {
        VersionTag::Known { version } => Some(version),
        VersionTag::Missing | VersionTag::Unknown { .. } => None,
    }
}

/// The configuration that a runtime makes the default network: the first by name of those
/// that end in `.conf`, `.conflist` or `.json`, hidden ones included (libcni's `ConfFiles`).
/// Its file name.
pub fn first_config<'a>(observed: &'a Observed, places: &Places) -> Option<&'a str> {
    config_names(observed, places).min()
}

pub(super) fn config_names<'a>(
    observed: &'a Observed,
    places: &Places,
) -> impl Iterator<Item = &'a str> {
    let below = format!("{}/", places.conf);
    observed.files.iter().filter_map(move |(path, state)| {
        let name = path.strip_prefix(&below)?;
        let loadable = matches!(state, FileState::Regular { .. } | FileState::Symlink { .. });
        (loadable && is_config_name(name)).then_some(name)
    })
}

/// Whether a runtime would load a file of this name in the configuration's directory.
pub fn is_config_name(name: &str) -> bool {
    let end = name.rsplit_once('.').map(|(_, end)| end);
    !name.contains('/') && matches!(end, Some("conf" | "conflist" | "json"))
}
