//! Whether a CNI file changed: watches on its directory and on those above it.
//!
//! A watch is bound to a directory, not to its path: whenever anything of interest happens, and
//! at every slow look of the loop, the paths are watched anew, which is nothing where they still
//! lead to the same directories. What no event tells of (a full queue says so itself; an overlay
//! says nothing), that slow look finds.

use crate::disk::HostRoot;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use pointsman_core::config::Paths;
use pointsman_core::error::chain;
use pointsman_core::plan::cni::{Places, is_config_name};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

/// How long a burst of changes is let settle.
const SETTLE: Duration = Duration::from_millis(200);
/// Between two looks, however often something changes.
const REST: Duration = Duration::from_secs(1);

/// The watches; none where the kernel gives none, and then the slow look is all there is.
pub(super) struct Files {
    watches: Option<Watches>,
    told: Option<Instant>,
    /// When a change was seen that was not told of yet.
    seen: Option<Instant>,
}

struct Watches {
    inotify: Arc<Inotify>,
    /// From a thread that waits in the kernel.
    events: UnboundedReceiver<InotifyEvent>,
    root: HostRoot,
    places: Places,
    /// Which names count in a directory.
    names: BTreeMap<WatchDescriptor, BTreeSet<String>>,
}

impl Files {
    /// Watches from now on. To be called within the runtime.
    pub(super) fn watch(root: &HostRoot, paths: &Paths) -> Self {
        let watches = Watches::new(root, Places::of(paths));
        if let Err(error) = &watches {
            tracing::warn!(error = %chain(error), "CNI files are not watched, only looked at every half minute");
        }
        Self { watches: watches.ok(), told: None, seen: None }
    }

    /// Watches the paths anew: one may lead to another directory than before.
    pub(super) fn arm(&mut self) {
        if let Some(watches) = &mut self.watches {
            watches.arm();
        }
    }

    /// Returns when something changed and has settled. What was seen is not lost when it is dropped.
    pub(super) async fn changed(&mut self) {
        let Some(watches) = &mut self.watches else {
            return std::future::pending().await;
        };
        if self.seen.is_none() {
            watches.event().await;
            self.seen = Some(Instant::now());
        }
        let settled = self.seen.unwrap_or_else(Instant::now) + SETTLE;
        let rested = self.told.map_or(settled, |told| told + REST);
        tokio::time::sleep_until(settled.max(rested)).await;
        watches.drain();
        (self.told, self.seen) = (Some(Instant::now()), None);
    }
}

impl Watches {
    fn new(root: &HostRoot, places: Places) -> io::Result<Self> {
        let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?);
        let (sender, events) = unbounded_channel();
        let reader = Arc::clone(&inotify);
        // ends with the process, or with the first event that nobody waits for any more
        std::thread::Builder::new().name("cni-files".into()).spawn(move || {
            while let Ok(read) = reader.read_events() {
                if read.into_iter().any(|event| sender.send(event).is_err()) {
                    return;
                }
            }
        })?;
        let (root, names) = (root.clone(), BTreeMap::new());
        let mut watches = Self { inotify, events, root, places, names };
        watches.arm();
        Ok(watches)
    }

    /// Watches every directory that is there.
    fn arm(&mut self) {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let mut names: BTreeMap<WatchDescriptor, BTreeSet<String>> = BTreeMap::new();
        let below = self.places.directories().into_iter().chain(self.places.all());
        for path in below {
            let Some((directory, name)) = path.rsplit_once('/') else { continue };
            let directory = if directory.is_empty() { "/" } else { directory };
            let Ok(at) = self.root.locate_directory(Path::new(directory)) else { continue };
            match self.inotify.add_watch(&at, flags) {
                Ok(watch) => {
                    names.entry(watch).or_default().insert(name.to_owned());
                }
                // it went in this moment, or there are too many: the slow look finds it
                Err(errno) => tracing::debug!(%errno, path = %at.display(), "not watched"),
            }
        }
        self.names = names;
    }

    /// Waits for an event that counts.
    async fn event(&mut self) {
        loop {
            let Some(event) = self.events.recv().await else {
                return std::future::pending().await;
            };
            if self.counts(&event) {
                self.arm();
                return;
            }
        }
    }

    fn drain(&mut self) {
        while self.events.try_recv().is_ok() {}
        self.arm();
    }

    fn counts(&self, event: &InotifyEvent) -> bool {
        // of the directory itself, of the queue, or of a watch that went
        let Some(name) = event.name.as_ref().and_then(|name| name.to_str()) else { return true };
        let Some(names) = self.names.get(&event.wd) else { return true };
        let is_config = names.contains("10-nsx.conflist") && is_config_name(name);
        is_config || names.contains(name)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes a host of its own")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    async fn told(files: &mut Files, within: Duration) -> bool {
        tokio::time::timeout(within, files.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn every_kind_of_change_is_told_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("etc")).unwrap();
        let mut files = Files::watch(&HostRoot::new(dir.path()), &Paths::default());
        let changes: [(&str, &dyn Fn()); 10] = [
            ("a directory", &|| fs::create_dir_all(at("etc/cni/net.d")).unwrap()),
            ("a file", &|| fs::write(at("etc/cni/net.d/10-nsx.conflist"), "1").unwrap()),
            ("its contents", &|| fs::write(at("etc/cni/net.d/10-nsx.conflist"), "2").unwrap()),
            ("its mode", &|| {
                let mode = fs::Permissions::from_mode(0o600);
                fs::set_permissions(at("etc/cni/net.d/10-nsx.conflist"), mode).unwrap();
            }),
            ("another configuration", &|| {
                fs::write(at("etc/cni/net.d/05-other.conf"), "1").unwrap();
            }),
            ("a rename over it", &|| {
                fs::write(at("etc/staged"), "3").unwrap();
                fs::rename(at("etc/staged"), at("etc/cni/net.d/10-nsx.conflist")).unwrap();
            }),
            ("its end", &|| fs::remove_file(at("etc/cni/net.d/10-nsx.conflist")).unwrap()),
            ("its directory's end", &|| fs::remove_dir_all(at("etc/cni")).unwrap()),
            ("its directory anew", &|| fs::create_dir_all(at("etc/cni/net.d")).unwrap()),
            ("a file in that", &|| fs::write(at("etc/cni/net.d/10-nsx.conf"), "1").unwrap()),
        ];
        let soon = Duration::from_secs(20);
        for (what, change) in changes {
            change();
            assert!(told(&mut files, soon).await, "{what}");
        }
        fs::write(at("etc/resolv.conf"), "x").unwrap();
        fs::write(at("etc/cni/net.d/.10-nsx.conflist.pointsman.tmp"), "x").unwrap();
        fs::write(at("etc/cni/net.d/note.txt"), "x").unwrap();
        fs::read(at("etc/cni/net.d/10-nsx.conf")).unwrap();
        assert!(!told(&mut files, Duration::from_millis(1500)).await);
    }
}
