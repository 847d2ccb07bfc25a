//! A scratch root with a part of Debian's module tree in it, and a payload beside it.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pointsman::apply::{ApplyError, Executor};
use pointsman::disk::HostRoot;
use pointsman::host_command::HostTools;
use pointsman::observe::modules::{ModuleSources, observe_modules};
use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::config::{Activate, Paths};
use pointsman_core::model::{Digest, MODULE_STEMS, ModuleState, Observed, loaded_name};
use pointsman_core::payload::{Manifest, ModuleFile, ModuleSet, Payload};
use pointsman_core::plan::modules::{Target, Want, plan_modules, which_set};
use pointsman_core::plan::{Plan, Refusal, Step};
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use walkdir::WalkDir;

/// Runs a command; what it printed, or a panic with what it complained of.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The parts that every test copies from, made once for a Debian kernel package.
pub struct Parts {
    pub kernel: String,
    /// `lib/modules/KERNEL` with the network's modules, not indexed.
    pub tree: PathBuf,
    /// Six modules that say of themselves that they are others, by stem.
    pub vendor: PathBuf,
    /// The same for the user's own.
    pub user: PathBuf,
}

pub fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| {
        let deb = kernel_package();
        let name = deb.file_stem().unwrap().to_str().unwrap().to_owned();
        let kernel = name.trim_start_matches("linux-image-").split('_').next().unwrap().to_owned();
        let made = cache().join(format!("scratch-modules/3-{name}"));
        if !made.join("complete").exists() {
            make_parts(&deb, &kernel, &made);
        }
        let tree = made.join("lib/modules").join(&kernel);
        Parts { kernel, tree, vendor: made.join("vendor"), user: made.join("user") }
    })
}

fn cache() -> PathBuf {
    let home = || Path::new(&std::env::var_os("HOME").expect("HOME")).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    cache.join("pointsman")
}

/// Debian's cloud kernel: what `scripts/setup` downloaded, else what apt has now.
fn kernel_package() -> PathBuf {
    let ours = cache().join("scratch-modules/debs");
    fs::create_dir_all(&ours).unwrap();
    let bed = cache().join("bed/debs");
    let find = || {
        let there = [&bed, &ours].into_iter().filter(|directory| directory.is_dir());
        let files = there.flat_map(|directory| WalkDir::new(directory).max_depth(2));
        let mut debs: Vec<PathBuf> = files
            .filter_map(|entry| Some(entry.ok()?.into_path()))
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with("linux-image-") && name.ends_with("-cloud-amd64.deb")
                    || name.contains("-cloud-amd64_") && name.starts_with("linux-image-6")
            })
            .filter(|path| path.extension().is_some_and(|suffix| suffix == "deb"))
            .collect();
        debs.sort();
        debs.pop()
    };
    if let Some(deb) = find() {
        return deb;
    }
    let shown = run("apt-cache", &["show", "--no-all-versions", "linux-image-cloud-amd64"]);
    let package = shown
        .split([' ', ',', '\n'])
        .find(|word| word.starts_with("linux-image-6"))
        .expect("a kernel package behind linux-image-cloud-amd64");
    let into = ours.to_str().unwrap();
    let script =
        format!("cd '{into}' && apt-get -qq -o APT::Sandbox::User=root download {package}");
    run("sh", &["-c", &script]);
    find().expect("the downloaded kernel package")
}

fn make_parts(deb: &Path, kernel: &str, made: &Path) {
    let parent = made.parent().unwrap();
    fs::create_dir_all(parent).unwrap();
    let work = tempfile::tempdir_in(parent).unwrap();
    let at = work.path().to_str().unwrap();
    let tree = format!("lib/modules/{kernel}");
    // what the set needs, and enough beside it to be an index worth reading
    let taken =
        ["net/openvswitch", "net/nsh", "net/ipv4", "net/ipv6", "net/netfilter", "lib/libcrc32c*"];
    let taken = taken.into_iter().chain(["drivers/net/geneve*", "drivers/net/vxlan*"]);
    let taken: String = taken.map(|part| format!(" './{tree}/kernel/{part}'")).collect();
    let script = format!(
        "dpkg-deb --fsys-tarfile '{}' | tar -x -C '{at}' --wildcards {taken} \
         './{tree}/modules.order' './{tree}/modules.builtin' './{tree}/modules.builtin.modinfo'",
        deb.display()
    );
    run("bash", &["-o", "pipefail", "-c", &script]);
    let own = work.path().join(&tree).join("kernel/net/openvswitch");
    for (set, mark) in [("vendor", 0xbb_u8), ("user", 0xcc)] {
        let to = work.path().join(set);
        fs::create_dir(&to).unwrap();
        for (number, stem) in MODULE_STEMS.iter().enumerate() {
            let from = own.join(format!("{stem}.ko"));
            // lisp and stt never were in Linux
            let from = if from.exists() { from } else { own.join("vport-gre.ko") };
            let id = [mark, u8::try_from(number).unwrap()];
            disguise(&from, &to.join(format!("{stem}.ko")), stem, set, id);
        }
    }
    fs::write(work.path().join("complete"), "").unwrap();
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // another test run may have been faster
    if fs::rename(work.path(), made).is_err() {
        assert!(made.join("complete").exists(), "{}", made.display());
    }
    drop(work);
}

/// A module with another name, version and build id: another build, as far as files tell.
fn disguise(from: &Path, to: &Path, stem: &str, version: &str, id: [u8; 2]) {
    let modinfo = to.with_extension("modinfo");
    let note = to.with_extension("note");
    let dump = format!(".modinfo={}", modinfo.display());
    let source = from.to_str().unwrap();
    run("objcopy", &["-O", "binary", "--only-section=.modinfo", source, modinfo.to_str().unwrap()]);
    run("objcopy", &["--dump-section", &dump, source, "/dev/null"]);
    let text = fs::read(&modinfo).unwrap();
    let mut entries: Vec<Vec<u8>> = text
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty() && !entry.starts_with(b"name="))
        .map(<[u8]>::to_vec)
        .collect();
    entries.push(format!("name={}", loaded_name(stem)).into_bytes());
    entries.push(format!("version={version}").into_bytes());
    fs::write(&modinfo, [entries.join(&0), vec![0]].concat()).unwrap();
    let mut bytes = Vec::new();
    for word in [4_u32, 20, 3] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(*b"GNU\0");
    bytes.extend([id[0]; 19]);
    bytes.push(id[1]);
    fs::write(&note, bytes).unwrap();
    let update = |section: &str, file: &Path| format!("{section}={}", file.display());
    run(
        "objcopy",
        &[
            "--update-section",
            &update(".modinfo", &modinfo),
            "--update-section",
            &update(".note.gnu.build-id", &note),
            source,
            to.to_str().unwrap(),
        ],
    );
    fs::remove_file(modinfo).unwrap();
    fs::remove_file(note).unwrap();
}

/// Mounts a file system in memory for this thread and the tools that it starts.
pub fn mount_memory(at: &Path, megabytes: u32) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let size = format!("size={megabytes}m");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
}

/// tmpfs lists entries newest first, so an index made again may order its lines otherwise.
pub fn without_index(mut snapshot: Snapshot) -> Snapshot {
    snapshot.retain(|path, _| !path.rsplit('/').next().unwrap().starts_with("modules."));
    snapshot
}

/// Every entry below a directory: mode, contents, and owner with label.
pub type Snapshot = BTreeMap<String, (u32, String, String)>;

pub struct Bench {
    directory: PathBuf,
    pub executor: Executor,
    pub kernel: String,
    pub paths: Paths,
}

impl Bench {
    /// A scratch root in an empty directory, its module tree indexed.
    pub fn new(directory: &Path) -> Self {
        let parts = parts();
        for made in ["root/etc", "root/lib/modules", "payload/modules", "store"] {
            fs::create_dir_all(directory.join(made)).unwrap();
        }
        let bench = Self::open(directory);
        bench.add_kernel(&parts.kernel);
        for stem in MODULE_STEMS {
            let file = format!("{stem}.ko");
            fs::copy(parts.vendor.join(&file), directory.join("payload/modules").join(&file))
                .unwrap();
        }
        bench
    }

    /// The one that [`Self::new`] made there.
    pub fn open(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            executor: Executor {
                root: HostRoot::new(directory.join("root")),
                tools: HostTools::Scratch,
                payload: directory.join("payload"),
                store: directory.join("store"),
                ovsdb: PathBuf::new(),
            },
            kernel: parts().kernel.clone(),
            paths: Paths::default(),
        }
    }

    pub fn add_kernel(&self, release: &str) {
        let to = self.at("lib/modules").join(release);
        run("cp", &["-a", parts().tree.to_str().unwrap(), to.to_str().unwrap()]);
        self.depmod(release);
    }

    /// depmod by hand, as a package would run it.
    pub fn depmod(&self, release: &str) {
        let (root, conf) = (self.at(""), self.at("etc/depmod.d"));
        let arguments = ["-b", root.to_str().unwrap(), "-C", conf.to_str().unwrap(), release];
        run("depmod", &arguments);
    }

    /// A path below the scratch root.
    pub fn at(&self, inside: &str) -> PathBuf {
        self.executor.root.path().join(inside)
    }

    /// A path below the kernel's tree.
    pub fn tree(&self, inside: &str) -> PathBuf {
        self.at("lib/modules").join(&self.kernel).join(inside)
    }

    /// The user's own set below the kernel's tree, some of it with odd modes.
    pub fn add_user_set(&self, inside: &str) {
        let to = self.tree(inside);
        fs::create_dir_all(&to).unwrap();
        for stem in MODULE_STEMS {
            let file = format!("{stem}.ko");
            fs::copy(parts().user.join(&file), to.join(&file)).unwrap();
        }
        let odd = to.join("vport-gre.ko");
        fs::set_permissions(odd, fs::Permissions::from_mode(0o640)).unwrap();
    }

    pub fn configure(&self, name: &str, text: &str) {
        fs::create_dir_all(self.at("etc/depmod.d")).unwrap();
        fs::write(self.at("etc/depmod.d").join(name), text).unwrap();
        self.depmod(&self.kernel);
    }

    pub fn payload_file(&self, stem: &str) -> PathBuf {
        self.directory.join("payload/modules").join(format!("{stem}.ko"))
    }

    /// The manifest of the payload's files as they were made, not as they are now.
    pub fn manifest(&self, kernels: &[&str]) -> Manifest {
        let vendor = &parts().vendor;
        let files = MODULE_STEMS.iter().enumerate().map(|(number, stem)| {
            let bytes = fs::read(vendor.join(format!("{stem}.ko"))).unwrap();
            let (path, sha256) = (format!("modules/{stem}.ko"), Digest::of(&bytes));
            let build_id = format!("{}{number:02x}", "bb".repeat(19));
            ((*stem).to_owned(), ModuleFile { path, sha256, build_id })
        });
        let kernels = kernels.iter().map(|kernel| (*kernel).to_owned()).collect();
        let set = ModuleSet { version: "vendor".into(), kernels, files: files.collect() };
        Manifest { modules: vec![set], cni: None }
    }

    pub fn observe(&self) -> Observed {
        self.observe_with(self.manifest(&[&self.kernel, "6.1.0-0+other"]))
    }

    pub fn observe_with(&self, manifest: Manifest) -> Observed {
        let mut observed = Observed::default();
        observed.host.kernel.clone_from(&self.kernel);
        let sources = ModuleSources {
            root: &self.executor.root,
            tools: &self.executor.tools,
            paths: &self.paths,
            running: &self.kernel,
            payload: Some((&self.executor.payload, &manifest)),
        };
        observed.modules = observe_modules(&sources, &mut observed.files).unwrap();
        observed.payload = Some(Payload { manifest, faults: BTreeMap::new() });
        observed
    }

    pub fn want(&self, target: Target) -> Want {
        Want { kernel: self.kernel.clone(), target, activate: Activate::Reboot }
    }

    pub fn plan(&self, target: Target, way_back: Option<&Checkpoint>) -> Plan {
        self.try_plan(target, way_back).unwrap_or_else(|refusal| panic!("{target:?}: {refusal}"))
    }

    pub fn try_plan(&self, target: Target, way_back: Option<&Checkpoint>) -> Result<Plan, Refusal> {
        plan_modules(&self.want(target), &self.observe(), way_back, &self.paths)
    }

    pub fn apply(&self, step: &Step) -> Result<(), ApplyError> {
        self.executor.apply(step)
    }

    pub fn take(&self, plan: &Plan) {
        for step in plan.steps() {
            self.apply(step).unwrap_or_else(|error| {
                panic!("{}", pointsman_core::error::chain(&error));
            });
        }
    }

    /// Plans, applies, and proves that nothing is left to do.
    pub fn go(&self, target: Target, way_back: Option<&Checkpoint>) {
        self.take(&self.plan(target, way_back));
        let left = self.plan(target, way_back);
        assert!(left.is_empty(), "left to do:\n{left}");
    }

    pub fn checkpoint(&self) -> Checkpoint {
        let (schema, transaction) = (CHECKPOINT_SCHEMA, "test".into());
        Checkpoint { schema, transaction, before: self.observe() }
    }

    pub fn set(&self) -> ModuleState {
        which_set(&self.observe(), &self.paths, &self.kernel)
    }

    /// The file that modprobe would load for a stem: the second witness beside our reader.
    pub fn modprobe_chooses(&self, stem: &str) -> String {
        let root = self.at("");
        let arguments = ["-d", root.to_str().unwrap(), "-S", &self.kernel, "--show-depends", stem];
        let shown = run("modprobe", &arguments);
        let last = shown.lines().last().expect("a line of modprobe");
        let tree = format!("/lib/modules/{}/", self.kernel);
        last.split_once(&tree).expect("a path of the tree").1.trim().to_owned()
    }

    /// The same of `modules.dep`, for a file that modprobe cannot read.
    pub fn depmod_chose(&self, stem: &str) -> String {
        let text = fs::read_to_string(self.tree("modules.dep")).unwrap();
        let file = format!("/{stem}.ko:");
        let line = text.lines().find(|line| line.contains(&file)).expect("a line of modules.dep");
        line.split(':').next().unwrap().to_owned()
    }

    pub fn snapshot(&self) -> Snapshot {
        let walk = WalkDir::new(self.at("")).min_depth(1);
        walk.into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                let contents = if meta.is_file() {
                    Digest::of(&fs::read(entry.path()).unwrap()).to_string()
                } else {
                    format!("{:?}", meta.file_type())
                };
                let inside = entry.path().strip_prefix(self.at("")).unwrap();
                let owner = format!("{}:{} {}", meta.uid(), meta.gid(), label_of(entry.path()));
                (inside.display().to_string(), (meta.permissions().mode(), contents, owner))
            })
            .collect()
    }
}

/// The `SELinux` label of an entry; nothing where there is none.
pub fn label_of(at: &Path) -> String {
    let mut bytes = vec![0; 256];
    let length = lgetxattr(at, "security.selinux", &mut bytes).unwrap_or(0);
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

/// As `setfilecon(3)` does, whether or not a policy is loaded.
pub fn set_label(at: &Path, label: &str) {
    let value = [label.as_bytes(), &[0]].concat();
    lsetxattr(at, "security.selinux", &value, XattrFlags::empty()).unwrap();
}

/// Where two snapshots differ, for a message that can be read.
pub fn differences(one: &Snapshot, two: &Snapshot) -> Vec<String> {
    let mut paths: Vec<&String> =
        one.keys().chain(two.keys()).filter(|path| one.get(*path) != two.get(*path)).collect();
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| format!("{path}: {:?} / {:?}", one.get(path), two.get(path)))
        .collect()
}
