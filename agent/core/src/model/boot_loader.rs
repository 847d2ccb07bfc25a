use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the machine can boot, and what it will boot next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootLoader {
    /// Kernel images by release: absolute paths on the host.
    pub images: BTreeMap<String, String>,
    /// Which of them the next boot takes.
    pub next: NextBoot,
}

/// The kernel of the next boot, as far as files tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextBoot {
    /// Its release; none where nothing tells it.
    pub release: Option<String>,
    /// What told it (`by default 0 of /boot/grub/grub.cfg`), or why nothing does.
    pub how: String,
}

impl NextBoot {
    /// A kernel, and what named it.
    pub fn is(release: impl Into<String>, how: impl Into<String>) -> Self {
        Self { release: Some(release.into()), how: how.into() }
    }

    /// Why it cannot be told.
    pub fn unknown(how: impl Into<String>) -> Self {
        Self { release: None, how: how.into() }
    }
}

impl BootLoader {
    /// Whether a module tree is what a removed kernel left: it has no image, and others have.
    ///
    /// Where no image at all is seen, images lie elsewhere, and nothing is said of any.
    pub fn is_leftover(&self, release: &str) -> bool {
        !self.images.is_empty() && !self.images.contains_key(release)
    }
}
