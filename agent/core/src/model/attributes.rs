use serde::{Deserialize, Serialize};

/// Who owns a directory entry, and how a security policy knows it: what a file that is
/// written anew would lose.
///
/// `SELinux` allows a module by the label of its file (`module_load`), and a file that is
/// made gets the label of its directory, or of who makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// `st_uid`.
    pub uid: u32,
    /// `st_gid`.
    pub gid: u32,
    /// Permission bits of a directory if they are not 0755; a file's are in its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The extended attribute `security.selinux` without the NUL at its end; none where there
    /// is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl Attributes {
    /// Whether an entry that has `self` is as `wanted`. No label is wanted where none is known:
    /// the file system gives what it gives.
    pub fn fits(&self, wanted: &Self) -> bool {
        (self.uid, self.gid) == (wanted.uid, wanted.gid)
            && (wanted.label.is_none() || wanted.label == self.label)
    }
}
