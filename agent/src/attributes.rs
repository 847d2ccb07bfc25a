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

/// [`of`] a regular file; none where there is none.
pub(crate) fn of_file(at: &Path) -> Result<Option<Attributes>, DiskError> {
    match fs::symlink_metadata(at) {
        Ok(meta) if meta.is_file() => of(at).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", at)(error)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_back_and_a_links_target_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("file");
        let file = File::create(&at).unwrap();
        let label = Some("system_u:object_r:modules_object_t:s0".to_owned());
        let wanted = Attributes { uid: 7, gid: 8, mode: None, label };
        set(&file, &wanted).unwrap();
        assert_eq!(of(&at).unwrap(), wanted);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&at, &link).unwrap();
        assert_eq!(of(&link).unwrap().label, None);
        // none is wanted: none is taken away
        set(&file, &Attributes::default()).unwrap();
        assert_eq!(of(&at).unwrap().label, wanted.label);
        assert_eq!(of(&at).unwrap().uid, 0);
    }

    #[test]
    fn only_an_unusual_mode_of_a_directory_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let told = |mode: u32| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            of(dir.path()).unwrap().mode
        };
        assert_eq!(told(0o755), None);
        assert_eq!(told(0o2750), Some(0o2750));
    }
}
