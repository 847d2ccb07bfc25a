use super::{Digest, Identity};
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
    /// Who made those signatures, where they tell.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub signers: BTreeMap<Digest, Signer>,
    /// The asymmetric keys of the running kernel's keyrings; empty where none is shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<TrustedKey>,
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
    /// By path, the package that a file is of, which a switch may replace or move.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub owned: BTreeMap<String, String>,
    /// The package managers' databases, by path: whether packages changed since.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub databases: BTreeMap<String, PackageDatabase>,
    /// What NCP's own configuration on this node asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<NcpIntent>,
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
    /// Its initramfs; none where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initramfs: Option<Initramfs>,
    /// When `modules.dep.bin` was written, nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexed: Option<u64>,
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

/// Who signed a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// Hexadecimal: the key's own identifier, or the serial number of its certificate.
    pub id: String,
    /// Whether it is the key's own identifier.
    pub by_key: bool,
    /// The common name of who issued the certificate: with one that signed itself, its own.
    pub issuer: Option<String>,
}

/// A key of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedKey {
    /// Of its certificate's subject.
    pub name: String,
    /// Hexadecimal: its identifier, or the serial number of a certificate that has none.
    pub id: String,
}

/// A kernel's initramfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initramfs {
    /// Where.
    pub path: String,
    /// Modules of the set's names in it.
    pub copies: Vec<InitramfsCopy>,
    /// Those that it is told to load, by name: underscores in place of hyphens.
    pub loads: BTreeSet<String>,
    /// Why it could not be read here; the copies are then what the host's own tool lists.
    pub unread: Option<String>,
}

/// A module in an initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitramfsCopy {
    /// In the archive.
    pub path: String,
    /// None where only its name is known.
    pub identity: Option<Identity>,
}

/// A package manager's database file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageDatabase {
    /// `dpkg` or `rpm`.
    pub by: String,
    /// When it was written, nanoseconds since 1970.
    pub changed: u64,
    /// Its size, bytes.
    pub size: u64,
}

/// What a pod of NCP on this node is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NcpIntent {
    /// Its `ncp.ini`.
    pub path: String,
    /// `use_nsx_ovs_kernel_module`: its bootstrap puts NSX's modules into place.
    pub nsx_modules: bool,
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
