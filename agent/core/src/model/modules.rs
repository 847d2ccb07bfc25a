use super::{Attributes, Digest, FileState, Footing, Observed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The files of NCP's module set, by stem. Stems have hyphens, loaded names underscores.
pub const MODULE_STEMS: [&str; 6] =
    ["openvswitch", "vport-geneve", "vport-gre", "vport-lisp", "vport-stt", "vport-vxlan"];

/// What may follow a module's stem: depmod takes these and nothing else.
pub const MODULE_SUFFIXES: [&str; 4] = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"];

/// Kernel modules: files per installed kernel, and what is loaded.
///
/// What a file *is* lies under the digest of its contents, so that a plan can follow
/// contents from place to place; where it lies is [`Observed::files`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// Installed kernels, by release.
    pub kernels: Vec<KernelModules>,
    /// Those of the set that the running kernel holds, by name.
    pub loaded: Vec<LoadedModule>,
    /// What module files say of themselves, the payload's among them, by digest of the contents.
    pub facts: BTreeMap<Digest, ModuleFacts>,
    /// Contents behind symbolic links of [`Observed::files`]; a dangling link is not here.
    pub links: BTreeMap<String, Digest>,
    /// Owners and labels of the module trees' files and directories, by path; what is not here
    /// is root's, has no label, and is 0755 if it is a directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attributes>,
    /// What depmod's configuration files say, by digest of the contents.
    pub depmod: BTreeMap<Digest, DepmodConf>,
    /// What a set would stand on.
    #[serde(default)]
    pub footing: Footing,
}

/// One installed kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelModules {
    /// `uname -r`, the name of its directory.
    pub release: String,
    /// Whether it is the running one.
    pub running: bool,
    /// Stems of the set that are compiled in (`modules.builtin`).
    pub builtin: Vec<String>,
    /// `vermagic` of a module of the kernel itself; none where no module could be read.
    pub vermagic: Option<String>,
    /// What `modules.dep.bin` says.
    pub index: Index,
}

/// `modules.dep.bin`, which is what modprobe and the kernel's autoload go by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Index {
    /// There is none.
    Missing,
    /// It cannot be trusted.
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
    /// It was read.
    Present {
        /// Those of the set that it knows, by stem.
        winners: BTreeMap<String, IndexEntry>,
    },
}

/// What the index says of one module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The chosen file, below the kernel's directory.
    pub path: String,
    /// Names of the modules to load before, underscores in place of hyphens.
    pub depends: Vec<String>,
}

/// What tells one build of a module from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `.note.gnu.build-id`, hexadecimal.
    pub build_id: Option<String>,
    /// `srcversion`: of sources, so two builds may share it; absent in many kernels' own modules.
    pub srcversion: Option<String>,
    /// `MODULE_VERSION`; absent in the kernel's own openvswitch.
    pub version: Option<String>,
}

/// How sure it is that two identities are of one build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sameness {
    /// The build ids are equal.
    Proven,
    /// No build ids to compare; the strongest weaker witness that both have agrees.
    Likely,
    /// The strongest witness that both have differs.
    Different,
    /// They share no witness.
    Unproven,
}

/// What a module file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFacts {
    /// `name` of `.modinfo`, underscores in place of hyphens.
    pub name: Option<String>,
    /// Which build it is.
    pub identity: Identity,
    /// `vermagic` of `.modinfo`.
    pub vermagic: Option<String>,
    /// `depends` of `.modinfo`.
    pub depends: Vec<String>,
    /// Why the file could not be read as a module; none where it could.
    pub fault: Option<String>,
}

/// A module in the kernel, from `/sys/module`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModule {
    /// Underscores in place of hyphens.
    pub name: String,
    /// Which build it is.
    pub identity: Identity,
    /// `refcnt`; none where the kernel tells none.
    pub refcount: Option<i64>,
    /// Modules that depend on it.
    pub holders: Vec<String>,
    /// `initstate`: `live`, `coming`, `going`.
    pub state: String,
}

/// The commands of one depmod configuration file that decide between copies of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepmodConf {
    /// In order.
    pub overrides: Vec<DepmodOverride>,
    /// Every `search` command's directories in order; `built-in` is spelled like that.
    pub search: Vec<String>,
    /// Directories that this agent made for the file's sake, absolute.
    pub made: Vec<String>,
}

/// `override STEM KERNEL DIRECTORY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepmodOverride {
    /// The stem of the file's name, not the module's name.
    pub stem: String,
    /// `*` or a POSIX extended regular expression, not anchored.
    pub kernel: String,
    /// Below the kernel's directory.
    pub directory: String,
}

/// Whose the modules are that a kernel will load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// The kernel's own.
    InTree,
    /// The user's own, from another place.
    User,
    /// The payload's.
    Nsx,
    /// Of more than one set.
    Mixed,
    /// There is no openvswitch to load.
    None,
}

impl ModuleState {
    /// The word of the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::InTree => "in-tree",
            Self::User => "user",
            Self::Nsx => "nsx",
            Self::Mixed => "mixed",
            Self::None => "none",
        }
    }
}

impl Identity {
    /// Compares by the strongest witness that both have.
    ///
    /// Two absent values are no agreement: that is how a reload which never happened
    /// passes for one.
    pub fn sameness(&self, other: &Self) -> Sameness {
        let witnesses = [
            (&self.build_id, &other.build_id, Sameness::Proven),
            (&self.srcversion, &other.srcversion, Sameness::Likely),
            (&self.version, &other.version, Sameness::Likely),
        ];
        for (one, two, agreed) in witnesses {
            if let (Some(one), Some(two)) = (one, two) {
                return if one == two { agreed } else { Sameness::Different };
            }
        }
        Sameness::Unproven
    }

    /// Whether there is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.build_id.is_none() && self.srcversion.is_none() && self.version.is_none()
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.build_id, &self.srcversion, &self.version) {
            (Some(id), _, _) => write!(f, "build id {id}"),
            (None, Some(source), _) => write!(f, "srcversion {source}"),
            (None, None, Some(version)) => write!(f, "version {version}"),
            (None, None, None) => f.write_str("no witness of its build"),
        }
    }
}

impl IndexEntry {
    /// The first of some needed modules that the index would not load before.
    pub fn lacks<'a>(&self, needs: Option<&'a Vec<String>>) -> Option<&'a String> {
        needs?.iter().find(|name| !self.depends.contains(name))
    }
}

impl Modules {
    /// An installed kernel by release.
    pub fn kernel(&self, release: &str) -> Option<&KernelModules> {
        self.kernels.iter().find(|kernel| kernel.release == release)
    }

    /// A loaded module by stem or name.
    pub fn loaded(&self, name: &str) -> Option<&LoadedModule> {
        let name = loaded_name(name);
        self.loaded.iter().find(|module| module.name == name)
    }
}

impl KernelModules {
    /// The file that the index chooses for a stem.
    pub fn winner(&self, stem: &str) -> Option<&IndexEntry> {
        match &self.index {
            Index::Present { winners } => winners.get(stem),
            Index::Missing | Index::Unreadable { .. } => None,
        }
    }
}

impl Observed {
    /// The digest of the contents at a path, through a symbolic link; none where there are none.
    pub fn contents_at(&self, path: &str) -> Option<Digest> {
        match self.files.get(path)? {
            FileState::Regular { sha256, .. } => Some(*sha256),
            FileState::Symlink { .. } => self.modules.links.get(path).copied(),
            FileState::Directory | FileState::Other => None,
        }
    }

    /// Owner and label of an entry of a module tree.
    pub fn attributes_at(&self, path: &str) -> Attributes {
        self.modules.attributes.get(path).cloned().unwrap_or_default()
    }

    /// What the module file at a path says of itself.
    pub fn module_at(&self, path: &str) -> Option<&ModuleFacts> {
        self.modules.facts.get(&self.contents_at(path)?)
    }
}

/// The stem of a module file's name; none for a name that depmod does not take for one.
pub fn module_stem(file_name: &str) -> Option<&str> {
    // the longer suffixes end in other letters, so the order does not matter
    MODULE_SUFFIXES.iter().find_map(|suffix| file_name.strip_suffix(suffix))
}

/// The name that the kernel knows a module of this stem by.
pub fn loaded_name(stem: &str) -> String {
    stem.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(witnesses: [Option<&str>; 3]) -> Identity {
        let [build_id, srcversion, version] = witnesses.map(|w| w.map(str::to_owned));
        Identity { build_id, srcversion, version }
    }

    #[test]
    fn the_strongest_shared_witness_decides() {
        let full = identity([Some("a"), Some("s"), Some("1")]);
        assert_eq!(full.sameness(&full), Sameness::Proven);
        let rebuilt = identity([Some("b"), Some("s"), Some("1")]);
        assert_eq!(full.sameness(&rebuilt), Sameness::Different);
        let unstamped = identity([None, Some("s"), None]);
        assert_eq!(full.sameness(&unstamped), Sameness::Likely);
        let silent = identity([None; 3]);
        assert_eq!(silent.sameness(&silent), Sameness::Unproven);
    }

    #[test]
    fn a_stem_is_what_depmod_takes() {
        assert_eq!(module_stem("vport-gre.ko.xz"), Some("vport-gre"));
        assert_eq!(module_stem("vport-gre.ko.bak"), None);
        assert_eq!(loaded_name("vport-gre"), "vport_gre");
    }
}
