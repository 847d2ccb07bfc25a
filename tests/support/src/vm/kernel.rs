//! Kernels that the VM can boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bed::{Bed, stdout};
use super::error::{Result, VmError};

/// A kernel as QEMU starts it, in place of a boot loader.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    pub(super) image: PathBuf,
    pub(super) initrd: PathBuf,
    /// Its package's files as a tar archive; none of the one that every root disk has.
    package: Option<PathBuf>,
}

impl Kernel {
    /// The one of the root disks.
    ///
    /// # Errors
    /// As [`Bed::locate`].
    pub fn first() -> Result<Self> {
        Ok(Self::of(Bed::locate()?))
    }

    pub(super) fn of(bed: &Bed) -> Self {
        Self {
            release: bed.kernel().to_owned(),
            image: bed.part("vmlinuz"),
            initrd: bed.part("initrd.cpio"),
            package: None,
        }
    }

    /// A newer one, not installed.
    ///
    /// # Errors
    /// With the advice to run `scripts/setup`, when that has not been done.
    pub fn second() -> Result<Self> {
        let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/second-kernel/make");
        let printed = stdout(Command::new(make).arg("--print"))?;
        let dir = PathBuf::from(printed.trim());
        let release = fs::read_to_string(dir.join("release"))
            .map_err(|e| VmError::new(format!("read release in {}: {e}", dir.display())))?;
        Ok(Self {
            release: release.trim().to_owned(),
            image: dir.join("vmlinuz"),
            initrd: dir.join("initrd.cpio"),
            package: Some(dir.join("kernel.tar")),
        })
    }

    /// The image that QEMU is given.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The files of its package.
    ///
    /// # Panics
    /// For a kernel that the root disk has.
    pub fn package(&self) -> &Path {
        self.package.as_deref().expect("the root disk has this kernel")
    }
}
