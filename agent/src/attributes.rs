//! Owners and `SELinux` labels of files and directories, read and set.
//!
//! A label is an extended attribute like any other where no policy is loaded: it is kept
//! there too, for the boot on which one is.

use crate::disk::{DiskError, failed};
use pointsman_core::model::Attributes;
use rustix::fs::{XattrFlags, fsetxattr, lgetxattr};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

const LABEL: &str = "security.selinux";
/// No policy has longer ones: the kernel itself takes a page at most (`fs/proc/base.c`).
const LONGEST: usize = 4096;

/// What an entry has; a link is not followed. That there is none at all is not found.
pub(crate) fn of(at: &Path) -> Result<Attributes, DiskError> {
    let meta = fs::symlink_metadata(at).map_err(failed("look at", at))?;
    let mode = meta.permissions().mode() & 0o7777;
    Ok(Attributes {
        uid: meta.uid(),
        gid: meta.gid(),
        mode: (meta.is_dir() && mode != 0o755).then_some(mode),
        label: label(at)?,
    })
}

fn label(at: &Path) -> Result<Option<String>, DiskError> {
    let mut bytes = vec![0; LONGEST];
    match lgetxattr(at, LABEL, &mut bytes) {
        Ok(length) => {
            bytes.truncate(length);
            if bytes.last() == Some(&0) {
                bytes.pop();
            }
            Ok(String::from_utf8(bytes).ok().filter(|label| !label.is_empty()))
        }
        // file systems without them, and entries without one
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(errno) => Err(failed("read the label of", at)(errno.into())),
    }
}

/// Gives a file or directory its owner and, where one is wanted, its label. The mode is the
/// caller's, and must be set behind this: a change of owner takes bits away.
pub(crate) fn set(file: &File, wanted: &Attributes) -> io::Result<()> {
    let meta = file.metadata()?;
    if (meta.uid(), meta.gid()) != (wanted.uid, wanted.gid) {
        fchown(file, Some(wanted.uid), Some(wanted.gid))?;
    }
    if let Some(label) = &wanted.label {
        // with the NUL that setfilecon(3) writes
        let value = [label.as_bytes(), &[0]].concat();
        fsetxattr(file, LABEL, &value, XattrFlags::empty())?;
    }
    Ok(())
}
