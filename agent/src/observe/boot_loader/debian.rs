//! `/vmlinuz`, and `/boot/vmlinuz` or `/boot/Image`: links to the image that a loader
//! without a menu boots (u-boot, zipl, extlinux), kept by `linux-update-symlinks`.

use super::release_of_image;
use crate::disk::HostRoot;
use pointsman_core::model::{FileState, NextBoot};

const LINKS: [&str; 4] = ["/vmlinuz", "/boot/vmlinuz", "/boot/Image", "/boot/vmlinux"];

pub(super) fn next(root: &HostRoot) -> Option<NextBoot> {
    LINKS.into_iter().find_map(|link| {
        let Some(FileState::Symlink { target }) = root.state(link).ok()? else { return None };
        let release = release_of_image(&target)?;
        Some(NextBoot::is(release, format!("by the link {link}")))
    })
}
