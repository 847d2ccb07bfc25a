//! What a container runtime sees while files are installed and taken back.

use super::{BIN, CONF, Host, LEGACY, conflist, hosts, plugin};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// One event in a watched directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Last part of the directory's path.
    pub directory: String,
    pub name: String,
    pub what: AddWatchFlags,
    pub cookie: u32,
}

impl Event {
    /// The name of a file that came by rename.
    pub fn arrived(&self) -> Option<String> {
        self.what.contains(AddWatchFlags::IN_MOVED_TO).then(|| self.name.clone())
    }
}

/// Every change of some directories, in order.
pub struct Watch {
    inotify: Inotify,
    directories: BTreeMap<nix::sys::inotify::WatchDescriptor, String>,
}

impl Watch {
    pub fn new(directories: &[PathBuf]) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        // not IN_CLOSE_WRITE: a child forked by another test closes its copy of the staged
        // file's descriptor when it calls exec, which may be after the rename
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let watch = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (inotify.add_watch(path, flags).unwrap(), name)
        };
        let directories = directories.iter().map(watch).collect();
        Self { inotify, directories }
    }

    /// What happened since the last call.
    pub fn events(&self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Ok(events) = self.inotify.read_events() {
            all.extend(events.into_iter().map(|event| Event {
                directory: self.directories[&event.wd].clone(),
                name: event.name.unwrap_or_default().to_string_lossy().into_owned(),
                what: event.mask,
                cookie: event.cookie,
            }));
        }
        all
    }
}

#[test]
fn files_arrive_by_rename_in_their_directory_and_in_order() {
    for (name, host) in hosts() {
        fs::create_dir_all(host.at(BIN)).unwrap();
        fs::create_dir_all(host.at(CONF)).unwrap();
        let before = host.files();
        let watch = Watch::new(&[host.at(BIN), host.at(CONF)]);
        host.install();
        let events = watch.events();
        // containerd reloads for the temporary's MOVED_FROM, not for a MOVED_TO from elsewhere
        for event in events.iter().filter(|event| event.arrived().is_some()) {
            let from = events.iter().find(|other| {
                other.cookie == event.cookie && other.what.contains(AddWatchFlags::IN_MOVED_FROM)
            });
            let from = from.unwrap_or_else(|| panic!("{name}: {event:?} came from elsewhere"));
            assert_eq!(from.directory, event.directory, "{name}");
            assert_eq!(from.name, format!(".{}.pointsman.tmp", event.name), "{name}");
        }
        let mut order: Vec<String> = Vec::new();
        for event in events.iter().filter(|event| !event.name.ends_with(".pointsman.tmp")) {
            if event.what.contains(AddWatchFlags::IN_MOVED_TO) {
                order.push(event.name.clone());
            } else if event.what.contains(AddWatchFlags::IN_DELETE) {
                order.push(format!("- {}", event.name));
            } else {
                panic!("{name}: {event:?} in place");
            }
        }
        let fresh =
            |path: String, word: &'static str| (!before.contains_key(&path)).then_some(word);
        let legacy = before.contains_key(&format!("{CONF}/10-nsx.conf"));
        let expected: Vec<&str> = fresh(format!("{BIN}/loopback"), "loopback")
            .into_iter()
            .chain(["nsx", "10-nsx.conflist"])
            .chain(legacy.then_some("- 10-nsx.conf"))
            .chain(fresh(format!("{CONF}/99-loopback.conf"), "99-loopback.conf"))
            .collect();
        assert_eq!(order, expected, "{name}");
    }
}

/// What a runtime would make the default network.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Default {
    None,
    Of { name: String, contents: String },
}

/// As containerd loads: names sorted, the first that ends in the right letters.
///
/// A file that is gone between listing and reading is listed again, as the event of
/// its removal makes a runtime do.
fn load(conf: &Path) -> Default {
    loop {
        let entries = fs::read_dir(conf).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end)));
        names.sort();
        let Some(name) = names.into_iter().next() else {
            return Default::None;
        };
        match fs::read_to_string(conf.join(&name)) {
            Ok(contents) => return Default::Of { name, contents },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// Which files play the configuration at this instant; another one has another stamp.
fn stamp(conf: &Path) -> [Option<(u64, i64, i64)>; 2] {
    ["10-nsx.conflist", "10-nsx.conf"].map(|name| {
        let m = conf.join(name).metadata().ok()?;
        Some((m.ino(), m.ctime(), m.ctime_nsec()))
    })
}

/// Loads over and over until told to end: how often, and what was seen, repetitions left out.
fn sample(host: &Host, plugins: &[u64], end: &AtomicBool) -> (usize, Vec<Default>) {
    let (conf, nsx) = (host.at(CONF), host.at(BIN).join("nsx"));
    let (mut count, mut seen) = (0, Vec::new());
    while !end.load(Ordering::Relaxed) {
        let stamp = stamp(&conf);
        let now = load(&conf);
        let plugin = nsx.metadata();
        // what a configuration names is there, whole and executable, for as long as it is there
        if now != Default::None && stamp == self::stamp(&conf) {
            let plugin = plugin.unwrap();
            assert!(plugins.contains(&plugin.len()), "{} bytes of nsx", plugin.len());
            assert_eq!(plugin.permissions().mode() & 0o777, 0o755);
        }
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        count += 1;
    }
    (count, seen)
}

/// Installs and undoes while a runtime looks; it must see old and new in turn, nothing else.
fn switch_back_and_forth(what: &str, host: &Host, old: &Default) {
    const ROUNDS: usize = 10;
    let new = Default::Of { name: "10-nsx.conflist".into(), contents: conflist("4.2") };
    let plugins = ["host-local", "bridge"].map(|name| plugin(name).len() as u64);
    let before = host.observe();
    let end = AtomicBool::new(false);
    let (count, seen) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(host, &plugins, &end));
        for _ in 0..ROUNDS {
            host.install();
            host.undo(&before);
        }
        end.store(true, Ordering::Relaxed);
        sampler.join().unwrap()
    });
    println!("{what}: {count} looks, {} changes", seen.len() - 1);
    assert!(count > 1000, "{what}: only {count} looks");
    assert!(seen.iter().all(|now| now == old || *now == new), "{what}: {seen:?}");
    assert!(seen.len() <= 2 * ROUNDS + 1, "{what}: {} changes", seen.len() - 1);
    assert!(seen.contains(&new), "{what}: the new one was never seen");
}

#[test]
fn a_runtime_sees_the_old_or_the_new_configuration_and_nothing_else() {
    let nsx = |host: &Host| host.put(&format!("{BIN}/nsx"), 0o755, &plugin("host-local"));
    let older = Host::new();
    nsx(&older);
    older.put(&format!("{CONF}/10-nsx.conflist"), 0o644, conflist("4.1").as_bytes());
    let old = Default::Of { name: "10-nsx.conflist".into(), contents: conflist("4.1") };
    switch_back_and_forth("older", &older, &old);

    let legacy = Host::new();
    nsx(&legacy);
    legacy.put(&format!("{CONF}/10-nsx.conf"), 0o644, LEGACY.as_bytes());
    let old = Default::Of { name: "10-nsx.conf".into(), contents: LEGACY.into() };
    switch_back_and_forth("legacy", &legacy, &old);

    let nothing = Host::new();
    fs::create_dir_all(nothing.at(BIN)).unwrap();
    fs::create_dir_all(nothing.at(CONF)).unwrap();
    switch_back_and_forth("nothing", &nothing, &Default::None);
}
