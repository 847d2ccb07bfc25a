//! Kernel modules: the trees of the installed kernels, their indexes, what is loaded.

mod compressed;
mod elf;
mod footing;
mod index;
mod loaded;
mod symbols;

pub use elf::{build_id_of_note, module_facts};
pub(in crate::observe) use footing::databases;
pub use footing::{parse_symvers, signer};
pub use index::{BadIndex, IndexFile};
pub(crate) use loaded::loaded_module;
pub use symbols::{Symbols, is_signed, needed_symbols, symbols};

use crate::attributes;
use crate::disk::{self, DiskError, HostRoot};
use crate::host_command::HostTools;
use pointsman_core::config::Paths;
use pointsman_core::error::Reasoned;
use pointsman_core::model::{
    Attributes, Digest, FileState, Index, IndexEntry, KernelModules, MODULE_STEMS, MODULE_SUFFIXES,
    Modules, loaded_name, module_stem,
};
use pointsman_core::payload::Manifest;
use pointsman_core::plan::modules::{
    HOMES, OTHER_DIRECTORIES, is_conf, is_info, is_release, parse_depmod, parse_info, staging,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};
use thiserror::Error;
use walkdir::WalkDir;

/// Larger files are no modules of this set, and no index.
const LIMIT: u64 = 64 << 20;

/// What the module trees are read from.
#[derive(Clone, Copy, Debug)]
pub struct ModuleSources<'a> {
    /// The host's files.
    pub root: &'a HostRoot,
    /// The host's package manager and initramfs tools.
    pub tools: &'a HostTools,
    /// Where the host keeps them.
    pub paths: &'a Paths,
    /// `uname -r` of the running kernel.
    pub running: &'a str,
    /// The payload directory as this process sees it, and its manifest.
    pub payload: Option<(&'a Path, &'a Manifest)>,
}

/// The module trees could not be read.
#[derive(Debug, Error)]
pub enum ModulesError {
    /// A file.
    #[error("read the module trees")]
    Disk(#[source] DiskError),
    /// A directory.
    #[error("list {directory}")]
    List {
        /// Where the walk began.
        directory: String,
        /// What failed.
        #[source]
        source: walkdir::Error,
    },
}

impl Reasoned for ModulesError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Disk(error) => error.reason(),
            Self::List { .. } => "FileOperationFailed",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Disk(error) => error.is_transient(),
            Self::List { .. } => false,
        }
    }
}

type Files = BTreeMap<String, FileState>;

/// Reads the module trees; adds every directory entry that a plan looks at to `files`.
///
/// An index or a module file that is damaged is data, not an error: the plan repairs
/// the one and refuses the other.
pub fn observe_modules(
    sources: &ModuleSources<'_>,
    files: &mut Files,
) -> Result<Modules, ModulesError> {
    let mut modules = Modules::default();
    let others = footing::Others::of(sources.root);
    observe_depmod(sources, files, &mut modules)?;
    for release in releases(sources)? {
        let kernel = observe_kernel(sources, &release, files, &mut modules)?;
        modules.kernels.push(kernel);
    }
    if let Some((directory, manifest)) = sources.payload {
        observe_payload(directory, manifest, &mut modules);
    }
    modules.loaded =
        MODULE_STEMS.iter().filter_map(|stem| loaded_module(sources.root, stem)).collect();
    let origins = std::mem::take(&mut modules.footing.origins);
    modules.footing = footing::observe(sources, &modules.kernels, others);
    modules.footing.origins = origins;
    Ok(modules)
}

/// Directories of the modules' parent that are a kernel's tree.
fn releases(sources: &ModuleSources<'_>) -> Result<Vec<String>, ModulesError> {
    let parent = Path::new(&sources.paths.modules);
    let at = match sources.root.locate_directory(parent) {
        Ok(at) => at,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(ModulesError::Disk(error)),
    };
    let mut releases = Vec::new();
    for entry in WalkDir::new(at).min_depth(1).max_depth(1).sort_by_file_name() {
        let entry = entry.map_err(list(&sources.paths.modules))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let tree =
            entry.path().join("modules.builtin").exists() || entry.path().join("kernel").is_dir();
        if entry.file_type().is_dir() && is_release(&name) && tree {
            releases.push(name);
        }
    }
    Ok(releases)
}

fn list(directory: &str) -> impl FnOnce(walkdir::Error) -> ModulesError {
    let directory = directory.to_owned();
    move |source| ModulesError::List { directory, source }
}

fn observe_kernel(
    sources: &ModuleSources<'_>,
    release: &str,
    files: &mut Files,
    modules: &mut Modules,
) -> Result<KernelModules, ModulesError> {
    let tree = format!("{}/{release}", sources.paths.modules);
    let at = sources.root.locate_directory(Path::new(&tree)).map_err(ModulesError::Disk)?;
    let mut sample = None;
    let walk = WalkDir::new(&at).min_depth(1).sort_by_file_name().into_iter();
    // depmod looks into neither
    let scanned = walk.filter_entry(|entry| {
        entry.depth() > 1 || !["build", "source"].iter().any(|name| entry.file_name() == *name)
    });
    for entry in scanned {
        let entry = entry.map_err(list(&tree))?;
        let Some(inside) = entry.path().strip_prefix(&at).ok().and_then(Path::to_str) else {
            // a name that is no UTF-8 is none of the set's
            continue;
        };
        if sample.is_none() && inside.starts_with("kernel/") && is_module(inside) {
            sample = Some(inside.to_owned());
        }
        if is_looked_at(inside) {
            let path = format!("{tree}/{inside}");
            observe_file(sources.root, entry.path(), path, files, modules)?;
        }
    }
    observe_staging(sources, release, files, modules)?;
    let vermagic = vermagic(&at, &tree, sample.as_deref(), files, modules);
    let builtin = read_optional(sources.root, &format!("{tree}/modules.builtin"))?;
    Ok(KernelModules {
        release: release.to_owned(),
        running: release == sources.running,
        builtin: builtin_stems(&builtin.unwrap_or_default()),
        vermagic,
        index: read_index(sources.root, &sources.paths.modules, release)?,
    })
}

/// What a killed agent left beside the trees.
fn observe_staging(
    sources: &ModuleSources<'_>,
    release: &str,
    files: &mut Files,
    modules: &mut Modules,
) -> Result<(), ModulesError> {
    let staged = staging(&sources.paths.modules, release);
    let at = sources.root.locate(&staged).map_err(ModulesError::Disk)?;
    if fs::symlink_metadata(&at).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    for entry in WalkDir::new(&at).sort_by_file_name() {
        let entry = entry.map_err(list(&staged))?;
        let Some(inside) = entry.path().strip_prefix(&at).ok().and_then(Path::to_str) else {
            continue;
        };
        let path = if inside.is_empty() { staged.clone() } else { format!("{staged}/{inside}") };
        observe_file(sources.root, entry.path(), path, files, modules)?;
    }
    Ok(())
}

/// The set's files wherever they are, and everything in the directories that a set touches.
fn is_looked_at(inside: &str) -> bool {
    let name = inside.rsplit('/').next().unwrap_or(inside);
    let of_set = module_stem(name).is_some_and(|stem| MODULE_STEMS.contains(&stem));
    let within = |directory: &str| {
        inside.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    of_set
        || inside == "weak-updates"
        || within("weak-updates/openvswitch")
        || within("nsx")
        || within("kernel/net/openvswitch")
        || HOMES.contains(&inside)
        || inside.strip_prefix("weak-updates/").is_some_and(|rest| !rest.contains('/'))
}

fn is_module(inside: &str) -> bool {
    module_stem(inside.rsplit('/').next().unwrap_or(inside)).is_some()
}

fn observe_file(
    root: &HostRoot,
    at: &Path,
    path: String,
    files: &mut Files,
    modules: &mut Modules,
) -> Result<(), ModulesError> {
    let Some(state) = disk::state_of(at).map_err(ModulesError::Disk)? else { return Ok(()) };
    match &state {
        FileState::Regular { sha256, .. } if is_info(&path) => {
            let text = root.read(&path, LIMIT).map_err(ModulesError::Disk)?;
            let origins = parse_info(&String::from_utf8_lossy(&text));
            modules.footing.origins.insert(*sha256, origins);
        }
        FileState::Regular { sha256, .. } => learn(at, &path, *sha256, modules)?,
        FileState::Symlink { .. } => {
            // an absolute link, which weak-modules makes, leads below the host's root
            let behind = root.locate_directory(Path::new(&path)).ok();
            if let Some(behind) = behind.filter(|behind| behind.is_file()) {
                let sha256 = disk::digest_of(&behind).map_err(ModulesError::Disk)?;
                learn(&behind, &path, sha256, modules)?;
                modules.links.insert(path.clone(), sha256);
            }
        }
        FileState::Directory | FileState::Other => {}
    }
    if matches!(state, FileState::Regular { .. } | FileState::Directory) {
        let attributes = attributes::of(at).map_err(ModulesError::Disk)?;
        if attributes != Attributes::default() {
            modules.attributes.insert(path.clone(), attributes);
        }
    }
    files.insert(path, state);
    Ok(())
}

fn learn(at: &Path, path: &str, sha256: Digest, modules: &mut Modules) -> Result<(), ModulesError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if module_stem(name).is_none() || modules.facts.contains_key(&sha256) {
        return Ok(());
    }
    let (Some(directory), Some(file)) =
        (at.parent(), at.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(());
    };
    let bytes =
        HostRoot::new(directory).read(&format!("/{file}"), LIMIT).map_err(ModulesError::Disk)?;
    modules.facts.insert(sha256, module_facts(&bytes));
    Ok(())
}

/// `vermagic` of the kernel's own openvswitch, else of any module of its own.
fn vermagic(
    at: &Path,
    tree: &str,
    sample: Option<&str>,
    files: &Files,
    modules: &Modules,
) -> Option<String> {
    let own = MODULE_SUFFIXES.iter().find_map(|suffix| {
        let own = format!("{tree}/kernel/net/openvswitch/openvswitch{suffix}");
        files.get(&own).and_then(FileState::sha256)
    });
    let known = own.and_then(|sha256| modules.facts.get(&sha256)).cloned();
    let facts = known.filter(|facts| facts.vermagic.is_some()).or_else(|| {
        let sample = sample?;
        let bytes = HostRoot::new(at).read(&format!("/{sample}"), LIMIT).ok()?;
        Some(module_facts(&bytes))
    })?;
    facts.vermagic
}

fn builtin_stems(text: &str) -> Vec<String> {
    let stems = text.lines().filter_map(|line| module_stem(line.rsplit('/').next()?));
    stems.filter(|stem| MODULE_STEMS.contains(stem)).map(str::to_owned).collect()
}

fn read_optional(root: &HostRoot, path: &str) -> Result<Option<String>, ModulesError> {
    match root.read(path, LIMIT) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(ModulesError::Disk(error)),
    }
}

/// What a kernel's `modules.dep.bin` says of the set.
pub(crate) fn read_index(
    root: &HostRoot,
    parent: &str,
    release: &str,
) -> Result<Index, ModulesError> {
    let bytes = match root.read(&format!("{parent}/{release}/modules.dep.bin"), LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(Index::Missing),
        Err(error) => return Err(ModulesError::Disk(error)),
    };
    Ok(match index_of(&bytes) {
        Ok(winners) => Index::Present { winners },
        Err(error) => Index::Unreadable { why: error.to_string() },
    })
}

fn index_of(bytes: &[u8]) -> Result<BTreeMap<String, IndexEntry>, BadIndex> {
    let index = IndexFile::parse(bytes)?;
    // a file that is cut behind the names looked for is damaged all the same
    index.names()?;
    let mut winners = BTreeMap::new();
    for stem in MODULE_STEMS {
        if let Some(line) = index.line(&loaded_name(stem))? {
            winners.insert(stem.to_owned(), entry(line));
        }
    }
    Ok(winners)
}

/// `path: dependency dependency`, both below the kernel's directory.
fn entry(line: &str) -> IndexEntry {
    let (path, depends) = line.split_once(':').unwrap_or((line, ""));
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        loaded_name(module_stem(file).unwrap_or(file))
    };
    let depends = depends.split_whitespace().map(name).collect();
    IndexEntry { path: path.to_owned(), depends }
}

fn observe_depmod(
    sources: &ModuleSources<'_>,
    files: &mut Files,
    modules: &mut Modules,
) -> Result<(), ModulesError> {
    let root = sources.root;
    for directory in std::iter::once(sources.paths.depmod.as_str()).chain(OTHER_DIRECTORIES) {
        let Some(state) = root.state(directory).map_err(ModulesError::Disk)? else { continue };
        files.insert(directory.to_owned(), state);
        let at = root.locate_directory(Path::new(directory)).map_err(ModulesError::Disk)?;
        for entry in WalkDir::new(at).min_depth(1).max_depth(1).sort_by_file_name() {
            let entry = entry.map_err(list(directory))?;
            let Some(name) = entry.file_name().to_str() else { continue };
            let path = format!("{directory}/{name}");
            let Some(state) = disk::state_of(entry.path()).map_err(ModulesError::Disk)? else {
                continue;
            };
            if let Some(sha256) = state.sha256().filter(|_| is_conf(name)) {
                let text = root.read(&path, LIMIT).map_err(ModulesError::Disk)?;
                let conf = parse_depmod(&String::from_utf8_lossy(&text));
                modules.depmod.insert(sha256, conf);
            }
            files.insert(path, state);
        }
    }
    Ok(())
}

/// The payload's modules, so that a plan can tell whether they fit a kernel. A file that
/// cannot be read is a fault of the payload, which is told elsewhere.
fn observe_payload(directory: &Path, manifest: &Manifest, modules: &mut Modules) {
    let root = HostRoot::new(directory);
    for file in manifest.modules.iter().flat_map(|set| set.files.values()) {
        if let Ok(bytes) = root.read(&format!("/{}", file.path), LIMIT) {
            let sha256 = Digest::of(&bytes);
            modules.facts.entry(sha256).or_insert_with(|| module_facts(&bytes));
        }
    }
}
