use super::Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a module set would stand on: facts that are asked before anything changes.
///
/// An older observation has none of them; what is not known refuses nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Footing {
    /// By release.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kernels: BTreeMap<String, KernelFooting>,
    /// What the running kernel lets in.
    pub policy: LoadPolicy,
    /// Module contents that end in a signature, whoever made it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub signed: BTreeSet<Digest>,
    /// What keeps modprobe from loading a module of the set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prevented: Vec<Prevented>,
    /// Why the module trees cannot be written to; none where they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
    /// Where the trees' parent really is, if that is neither its own path nor that below `/usr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
    /// Paths that the `INFO` of a backup directory names, by digest of its contents.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<Digest, Vec<String>>,
    /// Who is installing or indexing at this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<Busy>,
}

/// One kernel's tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelFooting {
    /// What an installed kernel has and this one has not: `kernel`, `modules.builtin`, `vmlinuz`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Directories on the way to modules that are links, and where they lead.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub linked: BTreeMap<String, String>,
    /// What the tree's file system has left; none where it does not tell.
    pub room: Option<Room>,
    /// Whether the kernel takes signed modules only by its own configuration
    /// (`CONFIG_MODULE_SIG_FORCE`).
    pub signed_only: bool,
    /// How the payload's set for this kernel compares with what the kernel exports.
    pub abi: Option<AbiProof>,
}

/// Room on a file system, and what a switch may take of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes left.
    pub free: u64,
    /// Inodes left; none where the file system makes them as it needs them.
    pub inodes: Option<u64>,
    /// Bytes of the payload's set for this kernel.
    pub set: u64,
    /// Bytes of the index.
    pub index: u64,
}

/// How the symbols that a set needs compare with those that a kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbiProof {
    /// What told the kernel's side.
    pub witness: String,
    /// Whether that is the list of all that the kernel and its modules export.
    pub complete: bool,
    /// Symbols with a checksum that the set needs, each counted once.
    pub needed: usize,
    /// Of those, how many were found with the same checksum.
    pub proven: usize,
    /// Those that differ, or that a complete list does not have.
    pub clashes: Vec<Clash>,
}

/// A symbol that the kernel has otherwise than a module needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clash {
    /// Its name.
    pub symbol: String,
    /// The stem of the module that needs it.
    pub module: String,
    /// The checksum that it needs.
    pub needs: u32,
    /// The one that is there; none where there is no such symbol.
    pub has: Option<u32>,
}

/// What a kernel lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadPolicy {
    /// `/sys/module/module/parameters/sig_enforce`: signed modules only.
    pub sig_enforce: bool,
    /// The mode of `/sys/kernel/security/lockdown`; none where it is `none` or not told.
    pub lockdown: Option<String>,
    /// Whether the firmware started in Secure Boot; none where it does not tell.
    pub secure_boot: Option<bool>,
    /// `kernel.modules_disabled`: nothing is loaded or unloaded until the next boot.
    pub modules_disabled: bool,
}

/// A line that keeps a module from being loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prevented {
    /// Name of the module, underscores in place of hyphens.
    pub name: String,
    /// The line.
    pub by: String,
    /// The file that it is in.
    pub path: String,
}

/// A process that changes packages or module indexes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Its number; none where the kernel does not tell (a lock held from another PID namespace).
    pub pid: Option<i32>,
    /// Its name, as far as it is known.
    pub name: String,
    /// The lock that it holds; none where it is known by its name alone.
    pub lock: Option<String>,
}

impl AbiProof {
    /// Whether every symbol that is needed was found with its checksum.
    pub fn is_whole(&self) -> bool {
        self.clashes.is_empty() && self.proven == self.needed
    }
}
