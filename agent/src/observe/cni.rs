//! CNI: the files, the directories, and what the configuration says.

use super::plugin;
use crate::disk::{self, DiskError, HostRoot};
use crate::ledger;
use pointsman_core::config::Paths;
use pointsman_core::model::{CNI_CONFIG_LIMIT, CniReading, Digest, FileState, Observed};
use pointsman_core::payload::CniRole;
use pointsman_core::plan::cni::{Places, is_config_name};
use pointsman_core::plan::file::staged_beside;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Where libcni keeps what it needs to detach a pod.
const RESULTS: &str = "/var/lib/cni/results";
/// A configuration that makes no sense may be one that somebody is writing right now.
const SECOND_LOOKS: u32 = 3;
const BEFORE_A_SECOND_LOOK: Duration = Duration::from_millis(200);

/// Adds the states of the CNI files and of the directories above them, of every other
/// configuration that a runtime would load, and of what killed writes left behind; and what
/// the configuration says, installed and in the payload.
///
/// [`Observed::payload`] must have been filled in. Takes 600 ms more where an installed
/// configuration is garbled, to be sure that it is not just being written.
pub fn observe_cni(
    observed: &mut Observed,
    root: &HostRoot,
    paths: &Paths,
    payload_directory: &Path,
) -> Result<(), DiskError> {
    let places = Places::of(paths);
    for path in places.directories() {
        note(observed, path, directory_state(root, path)?);
    }
    for path in places.all() {
        note(observed, path, root.state(path)?);
        let staged = staged_beside(path);
        note(observed, &staged, root.state(&staged)?);
    }
    for path in config_files(root, &places.conf)? {
        note(observed, &path, root.state(&path)?);
    }
    for path in [&places.conflist, &places.legacy] {
        let (state, reading, text) = read_config(root, path)?;
        let sha256 = state.as_ref().and_then(FileState::sha256);
        note(observed, path, state);
        if let (Some(sha256), Some(reading)) = (sha256, reading) {
            observed.cni.readings.insert(sha256, reading);
            observed.cni.texts.extend(text.map(|text| (sha256, text)));
        }
    }
    read_payload_config(observed, payload_directory);
    if let Some(fault) = plugin::fault(root, &places.loopback) {
        observed.cni.faults.insert(places.loopback.clone(), fault);
    }
    observed.cni.attachments = attachments(observed, root, &places)?;
    Ok(())
}

/// Reads the ledger, which lies beside the store; to be called before [`observe_cni`].
pub fn observe_ledger(observed: &mut Observed, store: &Path) -> Result<(), DiskError> {
    observed.cni.ledger = ledger::read(store)?;
    Ok(())
}

/// Names in libcni's cache (`NETWORK-CONTAINER-INTERFACE`, `Libcni.cacheAdd`) of the networks
/// that our configuration has, now or as it was written last.
fn attachments(
    observed: &Observed,
    root: &HostRoot,
    places: &Places,
) -> Result<Vec<String>, DiskError> {
    let named = |reading: &CniReading| Some(reading.config()?.name.clone());
    let installed = [&places.conflist, &places.legacy].into_iter().filter_map(|path| {
        let sha256 = observed.files.get(path)?.sha256()?;
        named(observed.cni.readings.get(&sha256)?)
    });
    let base = observed.cni.ledger.as_ref().and_then(|ledger| ledger.base.as_ref());
    let base = base.and_then(|text| named(&CniReading::of(text.as_bytes())));
    let networks: Vec<String> = installed
        .chain(base)
        .filter(|name| !name.is_empty())
        .map(|name| format!("{name}-"))
        .collect();
    if networks.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = list(root, RESULTS)?;
    found.retain(|name| networks.iter().any(|network| name.starts_with(network)));
    found.sort();
    Ok(found)
}

fn note(observed: &mut Observed, path: &str, state: Option<FileState>) {
    match state {
        Some(state) => observed.files.insert(path.to_owned(), state),
        None => observed.files.remove(path),
    };
}

/// Unlike [`HostRoot::state`] through links: `/opt` is a link on image-based systems, and a
/// directory all the same.
fn directory_state(root: &HostRoot, path: &str) -> Result<Option<FileState>, DiskError> {
    match root.locate_directory(Path::new(path)) {
        Ok(at) => disk::state_of(&at),
        // a dangling link is something that is in the way
        Err(error) if error.is_not_found() => root.state(path),
        Err(error) => Err(error),
    }
}

fn config_files(root: &HostRoot, directory: &str) -> Result<Vec<String>, DiskError> {
    let names = list(root, directory)?;
    let loadable = names.iter().filter(|name| is_config_name(name));
    Ok(loadable.map(|name| format!("{directory}/{name}")).collect())
}

/// Names in a directory; none where there is none.
fn list(root: &HostRoot, directory: &str) -> Result<Vec<String>, DiskError> {
    let at = match root.locate_directory(Path::new(directory)) {
        Ok(at) => at,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let list = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(&at)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    };
    match list() {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
        Err(error) => Err(disk::failed("list", Path::new(directory))(error)),
    }
}

/// State, what it says, and the text where it is one.
type Read = (Option<FileState>, Option<CniReading>, Option<String>);

/// The state, the reading and the text are of the same contents; no reading where the contents
/// changed at every look.
fn read_config(root: &HostRoot, path: &str) -> Result<Read, DiskError> {
    let mut looks = 0;
    loop {
        let state = root.state(path)?;
        let Some(FileState::Regular { size, sha256, .. }) = &state else {
            return Ok((state, None, None));
        };
        let (reading, text) = read_once(root, path, *size, *sha256)?.unzip();
        let settled = matches!(reading, Some(CniReading::Config(_)));
        if settled || looks == SECOND_LOOKS {
            return Ok((state, reading, text.flatten()));
        }
        looks += 1;
        std::thread::sleep(BEFORE_A_SECOND_LOOK);
    }
}

fn read_once(
    root: &HostRoot,
    path: &str,
    size: u64,
    sha256: Digest,
) -> Result<Option<(CniReading, Option<String>)>, DiskError> {
    if size > CNI_CONFIG_LIMIT {
        let why = format!("it is larger than {CNI_CONFIG_LIMIT} bytes");
        return Ok(Some((CniReading::Garbled { why }, None)));
    }
    match root.read(path, CNI_CONFIG_LIMIT.saturating_mul(2)) {
        Ok(contents) if Digest::of(&contents) == sha256 => {
            Ok(Some((CniReading::of(&contents), String::from_utf8(contents).ok())))
        }
        // replaced between the two looks
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A payload that cannot be read leaves no reading, which the planner refuses.
fn read_payload_config(observed: &mut Observed, directory: &Path) {
    let manifest = observed.payload.as_ref().map(|payload| &payload.manifest);
    let files = manifest.and_then(|manifest| manifest.cni.as_ref()).map(|cni| &cni.files);
    let Some(file) = files.and_then(|files| files.get(&CniRole::Conflist)) else {
        return;
    };
    let path = format!("/{}", file.path);
    if let Ok(contents) = HostRoot::new(directory).read(&path, CNI_CONFIG_LIMIT) {
        let sha256 = Digest::of(&contents);
        observed.cni.readings.insert(sha256, CniReading::of(&contents));
        observed.cni.texts.extend(String::from_utf8(contents).ok().map(|text| (sha256, text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_core::plan::cni::{first_config, installed_version};
    use std::os::unix::fs::symlink;

    const CONFLIST: &str = r#"{"name":"n","nsxBuildVersion":"4.1","plugins":[{"type":"nsx"}]}"#;

    fn observe(root: &Path) -> Observed {
        let mut observed = Observed::default();
        let payload = root.join("no-payload");
        observe_cni(&mut observed, &HostRoot::new(root), &Paths::default(), &payload).unwrap();
        observed
    }

    fn root_with_directories() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        // as on image-based systems
        fs::create_dir_all(dir.path().join("var/opt/cni/bin")).unwrap();
        symlink("/var/opt", dir.path().join("opt")).unwrap();
        fs::create_dir_all(dir.path().join("etc/cni/net.d")).unwrap();
        dir
    }

    #[test]
    fn an_empty_root_has_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(observe(dir.path()), Observed::default());
    }

    #[test]
    fn what_is_installed_is_found_through_links_above() {
        let dir = root_with_directories();
        let root = HostRoot::new(dir.path());
        root.write("/etc/cni/net.d/10-nsx.conflist", 0o600, CONFLIST.as_bytes()).unwrap();
        root.write("/etc/cni/net.d/05-other.conf", 0o600, b"{").unwrap();
        root.write("/etc/cni/net.d/00-note.txt", 0o600, b"").unwrap();
        root.write("/opt/cni/bin/nsx", 0o755, b"plugin").unwrap();
        root.write("/opt/cni/bin/.nsx.pointsman.tmp", 0o755, b"cut short").unwrap();
        symlink("/usr/lib/cni/loopback", dir.path().join("var/opt/cni/bin/loopback")).unwrap();
        let observed = observe(dir.path());
        let places = Places::of(&Paths::default());
        assert_eq!(installed_version(&observed, &places).unwrap().to_string(), "4.1");
        assert_eq!(first_config(&observed, &places), Some("05-other.conf"));
        let paths: Vec<&str> = observed.files.keys().map(String::as_str).collect();
        let expected = [
            "/etc",
            "/etc/cni",
            "/etc/cni/net.d",
            "/etc/cni/net.d/05-other.conf",
            "/etc/cni/net.d/10-nsx.conflist",
            "/opt",
            "/opt/cni",
            "/opt/cni/bin",
            "/opt/cni/bin/.nsx.pointsman.tmp",
            "/opt/cni/bin/loopback",
            "/opt/cni/bin/nsx",
        ];
        assert_eq!(paths, expected);
        assert_eq!(observed.files["/opt"], FileState::Directory);
        let link = FileState::Symlink { target: "/usr/lib/cni/loopback".into() };
        assert_eq!(observed.files["/opt/cni/bin/loopback"], link);
    }

    #[test]
    fn what_is_in_the_way_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        root.write("/opt", 0o600, b"").unwrap();
        fs::create_dir_all(dir.path().join("etc/cni")).unwrap();
        symlink("/no/such", dir.path().join("etc/cni/net.d")).unwrap();
        let files = observe(dir.path()).files;
        assert!(matches!(files["/opt"], FileState::Regular { .. }));
        assert_eq!(files["/etc/cni/net.d"], FileState::Symlink { target: "/no/such".into() });
    }

    #[test]
    fn garbage_of_any_size_is_read_as_garbage() {
        let dir = root_with_directories();
        let root = HostRoot::new(dir.path());
        let large = vec![b' '; usize::try_from(CNI_CONFIG_LIMIT).unwrap() + 1];
        for contents in [&b""[..], b"\xff\xfe", &large] {
            root.write("/etc/cni/net.d/10-nsx.conflist", 0o600, contents).unwrap();
            let readings = observe(dir.path()).cni.readings;
            let reading = &readings[&Digest::of(contents)];
            assert!(matches!(reading, CniReading::Garbled { .. }), "{reading:?}");
        }
    }

    #[test]
    fn a_configuration_that_is_being_written_is_waited_for() {
        let dir = root_with_directories();
        let at = dir.path().join("etc/cni/net.d/10-nsx.conflist");
        #[expect(clippy::disallowed_methods, reason = "plays a writer that is not atomic")]
        std::thread::scope(|scope| {
            fs::write(&at, &CONFLIST.as_bytes()[..10]).unwrap();
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                fs::write(&at, CONFLIST).unwrap();
            });
            let observed = observe(dir.path());
            let version = installed_version(&observed, &Places::of(&Paths::default()));
            assert_eq!(version.unwrap().to_string(), "4.1");
        });
    }
}
