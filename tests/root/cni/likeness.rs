//! Owner and SELinux label: those of the file that goes. The kernel here has no SELinux, and
//! keeps the attribute all the same.

use super::{BIN, CONF, Host, LEGACY, conflist, plugin};
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

const NAME: &str = "security.selinux";

fn label(at: &Path) -> Option<String> {
    let mut buffer = [0; 256];
    let length = lgetxattr(at, NAME, &mut buffer).ok()?;
    Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
}

fn dress(at: &Path, label: &str, owner: u32) {
    lsetxattr(at, NAME, label.as_bytes(), XattrFlags::empty()).unwrap();
    chown(at, Some(owner), Some(owner)).unwrap();
}

fn dressed(at: &Path) -> (Option<String>, u32, u32) {
    let meta = at.metadata().unwrap();
    (label(at), meta.uid(), meta.gid())
}

#[test]
fn what_replaces_a_file_and_what_comes_back_is_like_it() {
    let host = Host::new();
    let (nsx, list, legacy) =
        (format!("{BIN}/nsx"), format!("{CONF}/10-nsx.conflist"), format!("{CONF}/10-nsx.conf"));
    host.put(&nsx, 0o4755, &plugin("host-local"));
    host.put(&list, 0o644, conflist("4.1").as_bytes());
    host.put(&legacy, 0o600, LEGACY.as_bytes());
    let (plugin_t, conf_t) =
        ("system_u:object_r:cni_exec_t:s0\0", "system_u:object_r:cni_conf_t:s0\0");
    dress(&host.at(&nsx), plugin_t, 12);
    dress(&host.at(&list), conf_t, 0);
    dress(&host.at(&legacy), conf_t, 13);
    let (before, files) = (host.observe(), host.files());
    host.install();
    assert_eq!(dressed(&host.at(&nsx)), (Some(plugin_t.into()), 12, 12));
    assert_eq!(dressed(&host.at(&list)), (Some(conf_t.into()), 0, 0));
    // nothing was there: as the directory's rules make it
    assert_eq!(dressed(&host.at(BIN).join("loopback")), (None, 0, 0));
    host.undo(&before);
    assert_eq!(host.files(), files);
    assert_eq!(dressed(&host.at(&nsx)), (Some(plugin_t.into()), 12, 12));
    // it had gone, and is as it was
    assert_eq!(dressed(&host.at(&legacy)), (Some(conf_t.into()), 13, 13));
}
