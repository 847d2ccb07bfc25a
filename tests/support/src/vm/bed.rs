//! Where the VM's parts are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::error::{Result, VmError};

/// What `scripts/setup` made, and the `bed` program built from this source.
#[derive(Debug)]
pub struct Bed {
    dir: PathBuf,
    kernel: String,
    program: PathBuf,
    accel: Accel,
}

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// QEMU itself: works everywhere, slow.
    Tcg,
    /// The processor, asked for with `POINTSMAN_VM_ACCEL=kvm`: never chosen by
    /// itself, because a nested /dev/kvm may open and yet not run this guest.
    Kvm,
}

/// A root disk, by who is process 1 on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// `bed init`, which starts nothing: up in seconds.
    Bed,
    /// systemd, with ifupdown and Open vSwitch under Debian's own units.
    Systemd,
}

impl Image {
    pub(super) fn disk(self) -> &'static str {
        match self {
            Self::Bed => "bed.ext4",
            Self::Systemd => "systemd.ext4",
        }
    }

    /// The name of its snapshot.
    pub(super) fn snapshot(self) -> &'static str {
        match self {
            Self::Bed => "node",
            Self::Systemd => "systemd",
        }
    }
}

impl Accel {
    fn from_env() -> Result<Self> {
        match env::var("POINTSMAN_VM_ACCEL").as_deref() {
            Err(_) | Ok("" | "tcg") => Ok(Self::Tcg),
            Ok("kvm") => match fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
                Ok(_) => Ok(Self::Kvm),
                Err(e) => Err(VmError::new(format!("POINTSMAN_VM_ACCEL=kvm: open /dev/kvm: {e}"))),
            },
            Ok(other) => {
                Err(VmError::new(format!("POINTSMAN_VM_ACCEL={other}: only tcg and kvm are known")))
            }
        }
    }
}

impl Bed {
    /// Finds the parts, and builds `bed`; once per process.
    ///
    /// # Errors
    /// With the advice to run `scripts/setup`, when that has not been done.
    pub fn locate() -> Result<&'static Self> {
        static BED: OnceLock<std::result::Result<Bed, String>> = OnceLock::new();
        BED.get_or_init(|| Self::find().map_err(|e| e.to_string()))
            .as_ref()
            .map_err(|e| VmError::new(e.clone()))
    }

    fn find() -> Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let printed = stdout(Command::new(top.join("scripts/setup")).arg("--print"))?;
        let dir = PathBuf::from(printed.trim());
        let kernel = fs::read_to_string(dir.join("kernel-release"))
            .map_err(|e| VmError::new(format!("read kernel-release in {}: {e}", dir.display())))?;
        Ok(Self {
            program: crate::program::release("bed").map_err(VmError::new)?,
            kernel: kernel.trim().to_owned(),
            dir,
            accel: Accel::from_env()?,
        })
    }

    /// The guest's kernel, as `uname -r` says it.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// The six files of a module set: `nsx` for this kernel, `nsx-other` for another.
    pub fn modules(&self, set: &str) -> PathBuf {
        self.dir.join("modules").join(set)
    }

    /// The kernel that the files of `nsx-other` say they are for.
    pub fn other_kernel(&self) -> Result<String> {
        let path = self.dir.join("modules/nsx-other.release");
        fs::read_to_string(&path)
            .map(|s| s.trim().to_owned())
            .map_err(|e| VmError::new(format!("read {}: {e}", path.display())))
    }

    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The static `bed` program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Who executes the guest's instructions.
    pub fn accel(&self) -> Accel {
        self.accel
    }
}

/// Standard output of a program on this machine that has to succeed.
pub(super) fn stdout(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|e| VmError::new(format!("run {command:?}: {e}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(VmError::new(format!("{command:?}: {}: {}", output.status, stderr.trim())))
}
