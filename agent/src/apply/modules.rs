//! The module index and the loaded modules.

use super::{Applied, Executor};
use crate::host_command::{CommandError, HostTools};
use crate::namespaces::{datapaths_elsewhere, prove_datapath};
use crate::observe::modules::{ModulesError, loaded_module, read_index};
use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, delete_module};
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::{Identity, Index, LoadedModule, Sameness};
use pointsman_core::plan::modules::{OTHER_DIRECTORIES, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use thiserror::Error;

/// depmod reads every module of the kernel: seconds for a distribution's, more for
/// compressed ones on a slow disk.
const DEPMOD: Duration = Duration::from_secs(180);
const MODPROBE: Duration = Duration::from_secs(60);
const VPORT_GENEVE: &str = "vport_geneve";
/// The kernel drops a datapath's references after a grace period, not at once.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
enum ModuleError {
    #[error("index the modules of {kernel}: depmod ended well but said: {said}")]
    DepmodComplained { kernel: String, said: String },
    #[error("the index of {kernel} cannot be used after depmod: {why}")]
    BadIndex { kernel: String, why: String },
    #[error("the index of {kernel} chooses {found} for {stem} where {expected} was expected")]
    WrongChoice { kernel: String, stem: String, found: String, expected: String },
    #[error("the kernel {kernel} has no module {needed}, which {path} needs")]
    MissingNeed { kernel: String, path: String, needed: String },
    #[error("make the index of {kernel} last through a power cut")]
    Sync {
        kernel: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} is a scratch tree: nothing is loaded or unloaded for it")]
    Scratch(String),
    #[error("the module {name} is in use: {count} references, held by {holders}{elsewhere}")]
    InUse { name: String, count: i64, holders: String, elsewhere: String },
    #[error("the module {name} is {state}, neither usable nor gone: only a reboot helps")]
    Stuck { name: String, state: String },
    #[error("unload the module {name}")]
    Unload {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("load the module {name}{hint}")]
    Load {
        name: String,
        hint: &'static str,
        #[source]
        source: CommandError,
    },
    #[error("the module {name} is not loaded")]
    NotLoaded { name: String },
    #[error("the loaded {name} has {found} where {expected} was expected")]
    OtherBuild { name: String, found: Identity, expected: String },
    #[error("nothing tells which build the loaded {name} is")]
    Unproven { name: String },
}

impl Reasoned for ModuleError {
    fn reason(&self) -> &'static str {
        match self {
            Self::DepmodComplained { .. } => "DepmodFailed",
            Self::BadIndex { .. } => "IndexUnreadable",
            Self::WrongChoice { .. } => "IndexMismatch",
            Self::MissingNeed { .. } => "DependencyMissing",
            Self::Sync { .. } => "FileOperationFailed",
            Self::Scratch(_) => "ScratchRoot",
            Self::InUse { .. } => "ModuleInUse",
            Self::Stuck { .. } => "ModuleStuck",
            Self::Unload { .. } => "ModuleUnloadFailed",
            Self::Load { .. } => "ModuleLoadFailed",
            Self::NotLoaded { .. } | Self::OtherBuild { .. } => "LoadedModuleMismatch",
            Self::Unproven { .. } => "IdentityUnproven",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

fn boxed<E: Reasoned>(error: E) -> Box<dyn Reasoned> {
    Box::new(error)
}

impl Executor {
    pub(super) fn apply_modules(&self, step: &Step) -> Applied {
        match step {
            Step::Put { path, mode, attributes, source, sha256 } => {
                self.put_module(path, *mode, attributes, source, *sha256)
            }
            Step::MakeStaging { path, attributes } => self.make_staging(path, attributes),
            Step::Exchange { path, staged, leaves, brings } => {
                self.exchange(path, staged, leaves, brings)
            }
            Step::CheckUnheld { name, holders } => self.check_unheld(name, holders),
            Step::RunDepmod { kernel, modules, depmod } => self.depmod(kernel, modules, depmod),
            Step::CheckIndex { kernel, modules, expect, depends } => {
                self.check_index(kernel, modules, expect, depends)
            }
            Step::UnloadModule { name } => self.unload(name),
            Step::LoadModule { name, .. } => self.load(name),
            Step::CheckLoaded { name, expect } => self.check_loaded(name, expect),
            Step::ProveDatapath => self.prove_datapath(),
        }
    }

    fn depmod(&self, kernel: &str, modules: &str, depmod: &str) -> Applied {
        let mut words: Vec<String> = vec!["depmod".into()];
        if self.tools == HostTools::Scratch {
            words.extend(["-b".into(), self.root.path().to_string_lossy().into_owned()]);
            // depmod's -b moves the modules only: its configuration stays the machine's
            for directory in std::iter::once(depmod).chain(OTHER_DIRECTORIES) {
                let at = self.root.locate_directory(Path::new(directory));
                let at = at.unwrap_or_else(|_| self.root.path().join("no/depmod.d"));
                words.extend(["-C".into(), at.to_string_lossy().into_owned()]);
            }
        }
        words.push(kernel.into());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = self.tools.run(&words, DEPMOD).map_err(boxed)?;
        let complaints: Vec<&str> =
            output.stderr.lines().filter(|line| line.contains("ERROR")).take(5).collect();
        if !complaints.is_empty() {
            let said = complaints.join("; ");
            return Err(boxed(ModuleError::DepmodComplained { kernel: kernel.into(), said }));
        }
        let tree = Path::new(modules).join(kernel);
        let at = self.root.locate_directory(&tree).map_err(boxed)?;
        sync_index(&at)
            .map_err(|source| boxed(ModuleError::Sync { kernel: kernel.into(), source }))?;
        self.index(kernel, modules).map(drop)
    }

    fn index(&self, kernel: &str, modules: &str) -> Result<Index, Box<dyn Reasoned>> {
        let bad = |why: String| boxed(ModuleError::BadIndex { kernel: kernel.into(), why });
        match read_index(&self.root, modules, kernel).map_err(|error: ModulesError| boxed(error))? {
            Index::Missing => Err(bad("there is no modules.dep.bin".into())),
            Index::Unreadable { why } => Err(bad(why)),
            index @ Index::Present { .. } => Ok(index),
        }
    }

    fn check_index(
        &self,
        kernel: &str,
        modules: &str,
        expect: &BTreeMap<String, BTreeSet<String>>,
        depends: &BTreeMap<String, Vec<String>>,
    ) -> Applied {
        let index = self.index(kernel, modules)?;
        let Index::Present { winners } = index else { return Ok(()) };
        for (stem, allowed) in expect {
            let found = winners.get(stem).map(|entry| entry.path.as_str());
            let agrees = found.map_or(allowed.is_empty(), |path| allowed.contains(path));
            if !agrees {
                let expected: Vec<&str> = allowed.iter().map(String::as_str).collect();
                let expected =
                    if expected.is_empty() { "nothing".into() } else { expected.join(" or ") };
                let (kernel, stem) = (kernel.to_owned(), stem.clone());
                let found = found.unwrap_or("nothing").to_owned();
                return Err(boxed(ModuleError::WrongChoice { kernel, stem, found, expected }));
            }
        }
        for entry in winners.values() {
            if let Some(needed) = entry.lacks(depends.get(&entry.path)) {
                let (kernel, path, needed) = (kernel.into(), entry.path.clone(), needed.clone());
                return Err(boxed(ModuleError::MissingNeed { kernel, path, needed }));
            }
        }
        Ok(())
    }

    fn check_unheld(&self, name: &str, released: &[String]) -> Applied {
        let start = Instant::now();
        loop {
            let Some(module) = loaded_module(&self.root, name) else { return Ok(()) };
            if module.state != "live" {
                return Err(boxed(ModuleError::Stuck { name: name.into(), state: module.state }));
            }
            let ours = module.holders.iter().filter(|holder| released.contains(holder)).count();
            let count = module.refcount.unwrap_or_default();
            let free = count <= i64::try_from(ours).unwrap_or_default();
            if free && ours == module.holders.len() {
                return Ok(());
            }
            if start.elapsed() >= SETTLE {
                return Err(boxed(self.in_use(&module)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn unload(&self, name: &str) -> Applied {
        self.refuse_scratch()?;
        let failed = |source: io::Error| boxed(ModuleError::Unload { name: name.into(), source });
        let word = CString::new(name).map_err(|error| failed(error.into()))?;
        let start = Instant::now();
        loop {
            // never O_TRUNC: that forces, and a forced unload takes the kernel with it
            match delete_module(&word, DeleteModuleFlags::O_NONBLOCK) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::EAGAIN) if start.elapsed() < SETTLE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(errno) => {
                    let module = loaded_module(&self.root, name);
                    return Err(match (errno, module) {
                        (Errno::EAGAIN, Some(module)) => boxed(self.in_use(&module)),
                        (Errno::EBUSY, Some(module)) if module.state != "live" => {
                            let (name, state) = (module.name, module.state);
                            boxed(ModuleError::Stuck { name, state })
                        }
                        _ => failed(errno.into()),
                    });
                }
            }
        }
    }

    /// By the host's modprobe and by name, so that the index chooses; `--first-time`,
    /// because a plain modprobe of a loaded module does nothing and says nothing.
    fn load(&self, name: &str) -> Applied {
        self.refuse_scratch()?;
        match self.tools.run(&["modprobe", "--first-time", name], MODPROBE) {
            Ok(_) => Ok(()),
            // somebody was faster: the check behind this step tells which build it is
            Err(_) if loaded_module(&self.root, name).is_some_and(|m| m.state == "live") => Ok(()),
            Err(source) => {
                let hint = hint(&source);
                Err(boxed(ModuleError::Load { name: name.into(), hint, source }))
            }
        }
    }

    fn check_loaded(&self, name: &str, expect: &[Identity]) -> Applied {
        let Some(module) = loaded_module(&self.root, name) else {
            return Err(boxed(ModuleError::NotLoaded { name: name.into() }));
        };
        if module.state != "live" {
            return Err(boxed(ModuleError::Stuck { name: name.into(), state: module.state }));
        }
        let verdicts: Vec<Sameness> =
            expect.iter().map(|identity| module.identity.sameness(identity)).collect();
        if verdicts.iter().any(|verdict| matches!(verdict, Sameness::Proven | Sameness::Likely)) {
            return Ok(());
        }
        if verdicts.contains(&Sameness::Unproven) {
            return Err(boxed(ModuleError::Unproven { name: name.into() }));
        }
        let expected: Vec<String> = expect.iter().map(Identity::to_string).collect();
        let (name, found, expected) = (name.into(), module.identity, expected.join(" or "));
        Err(boxed(ModuleError::OtherBuild { name, found, expected }))
    }

    fn in_use(&self, module: &LoadedModule) -> ModuleError {
        let holders = match module.holders.as_slice() {
            [] => "no module".into(),
            holders => format!("the module {}", holders.join(", ")),
        };
        let found = datapaths_elsewhere(&self.root);
        let elsewhere =
            found.iter().flat_map(|one| [", by ".to_owned(), one.to_string()]).collect();
        let count = module.refcount.unwrap_or_default();
        ModuleError::InUse { name: module.name.clone(), count, holders, elsewhere }
    }

    /// The kernel loads the port's module by itself; one that was not loaded before is
    /// unloaded again. What that one needs (geneve, its tunnels) is left, as it always is.
    pub(crate) fn prove_datapath(&self) -> Applied {
        self.refuse_scratch()?;
        let was_loaded = loaded_module(&self.root, VPORT_GENEVE).is_some();
        let proven = prove_datapath().map_err(boxed);
        if !was_loaded
            && loaded_module(&self.root, VPORT_GENEVE).is_some()
            && let Err(error) = self.unload(VPORT_GENEVE)
        {
            tracing::debug!(error = %chain(&*error), "somebody uses it by now");
        }
        proven
    }

    fn refuse_scratch(&self) -> Applied {
        if self.tools != HostTools::Scratch {
            return Ok(());
        }
        Err(boxed(ModuleError::Scratch(self.root.path().display().to_string())))
    }
}

/// depmod syncs nothing. Its files one by one: the whole file system may have gigabytes of
/// others to write.
fn sync_index(tree: &Path) -> io::Result<()> {
    for entry in fs::read_dir(tree)? {
        let entry = entry?;
        let index = entry.file_name().to_string_lossy().starts_with("modules.");
        if index && entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(tree)?.sync_all()
}

/// What the usual words of modprobe mean.
fn hint(error: &CommandError) -> &'static str {
    let CommandError::Failed { output, .. } = error else { return "" };
    let meanings = [
        ("Exec format error", " (the file is damaged or built for another kernel: see dmesg)"),
        ("Key was rejected", " (the kernel takes signed modules only and does not know this key)"),
        ("Required key not available", " (the kernel takes signed modules only)"),
        ("Unknown symbol", " (a module it needs is missing or of another build: see dmesg)"),
        ("Invalid argument", " (its symbols are of another build of the kernel: see dmesg)"),
        ("Operation not permitted", " (module loading is disabled or locked down)"),
        ("Permission denied", " (a security policy forbids this file: check its label)"),
        ("not found in directory", " (the index of the running kernel does not know it)"),
    ];
    meanings.into_iter().find(|(words, _)| output.contains(words)).map_or("", |(_, hint)| hint)
}
