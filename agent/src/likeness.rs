//! Owner and `SELinux` label of a file, so that what replaces it is taken for it.
//!
//! A rename keeps the label of the temporary file, which inherits that of its directory; a
//! policy that gives a plugin a label of its own would no longer let the runtime execute it.

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, lgetxattr};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

const LABEL: &str = "security.selinux";
/// Longer contexts exist in no policy.
const LONGEST: usize = 4096;

/// Of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Likeness {
    owner: (u32, u32),
    label: Option<Vec<u8>>,
}

impl Likeness {
    /// Of a regular file; none where there is none.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut label = [0; LONGEST];
        let label = lgetxattr(path, LABEL, &mut label)
            .map(|length| label.get(..length).map(<[u8]>::to_vec));
        Ok(Some(Self { owner: (meta.uid(), meta.gid()), label: known(label)?.flatten() }))
    }

    /// Gives it to a file, where that has another one.
    pub(crate) fn give(&self, file: &File) -> io::Result<()> {
        let meta = file.metadata()?;
        let (uid, gid) = self.owner;
        if (meta.uid(), meta.gid()) != self.owner {
            fchown(file, Some(uid), Some(gid))?;
        }
        let Some(label) = &self.label else { return Ok(()) };
        let mut present = [0; LONGEST];
        let length = known(fgetxattr(file, LABEL, &mut present))?.unwrap_or_default();
        if present.get(..length) != Some(label) {
            fsetxattr(file, LABEL, label, XattrFlags::empty())?;
        }
        Ok(())
    }
}

/// None on a file system without labels, and for a file without one.
fn known<T>(result: rustix::io::Result<T>) -> io::Result<Option<T>> {
    use rustix::io::Errno;
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
