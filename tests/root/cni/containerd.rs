//! A real container runtime on the directory: containerd, asked by the kubelet's own interface
//! (CRI `Status`) as fast as it answers, while files are installed, updated and taken back. What
//! it loads as default network is the old one or the new one, and nothing else, at any time.

use super::{BIN, CONF, Host, LEGACY, conflist, plugin};
use serde::Deserialize;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A machine that is busy with other tests is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the runtime says, as `tests/cri` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Line {
    State { ready: bool, loaded: String, source: String },
    End { asked: u64 },
}

/// In a mount namespace of its own, all its files below one directory.
struct Runtime {
    child: Child,
    dir: TempDir,
}

impl Runtime {
    fn start(host: &Host) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n\
             disabled_plugins = [\"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.zfs\", \
             \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\ndisable_tcp_service = true\nsnapshotter = \"native\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{}\"\nconf_dir = \"{}\"\n",
            at("root"),
            at("state"),
            at("sock"),
            at("ttrpc"),
            host.at(BIN).display(),
            host.at(CONF).display(),
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--kill-child", "containerd", "--config"])
            .arg(dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("containerd is not installed: run scripts/setup");
        let runtime = Self { child, dir };
        let began = Instant::now();
        while !runtime.dir.path().join("sock").exists() {
            assert!(began.elapsed() < PATIENCE, "containerd does not start:\n{}", runtime.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        runtime
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Asks all the time.
struct Witness {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    seen: Vec<Line>,
}

impl Witness {
    fn of(runtime: &Runtime) -> Self {
        let mut child = Command::new(program())
            .arg(runtime.dir.path().join("sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, seen: Vec::new() }
    }

    /// Until the runtime has loaded this configuration; none for none.
    fn wait_for(&mut self, wanted: Option<&str>) {
        let began = Instant::now();
        while !self.seen.last().is_some_and(|last| is(last, wanted)) {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("never saw {wanted:?}, but {:#?}", self.seen);
            };
            self.seen.push(line);
        }
    }

    fn end(mut self) -> (Vec<Line>, u64) {
        drop(self.stdin.take());
        self.seen.extend(self.lines.iter());
        assert!(self.child.wait().unwrap().success());
        let Some(Line::End { asked }) = self.seen.pop() else { panic!("{:?}", self.seen) };
        (self.seen, asked)
    }
}

fn program() -> PathBuf {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("cri/build");
    let output = Command::new(build).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "tests/cri/build failed: run scripts/setup");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// Whether a state is that of one configuration, loaded well; of none, that there is none.
fn is(line: &Line, wanted: Option<&str>) -> bool {
    let Line::State { ready, loaded, source } = line else { return false };
    match wanted {
        Some(wanted) => *ready && loaded == "OK" && same(source, wanted),
        None => !*ready && source.is_empty() && loaded.contains("no network config found"),
    }
}

/// A single plugin's configuration is shown as the list that libcni makes of it.
fn same(source: &str, wanted: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
    let (source, wanted) = (value(source), value(wanted));
    let alone = serde_json::json!([wanted]);
    source == wanted || (source["plugins"] == alone && source["name"] == wanted["name"])
}

/// Installs and takes back; the runtime must load each, and nothing else.
fn back_and_forth(what: &str, host: &Host, old: Option<&str>) {
    const ROUNDS: usize = 5;
    let new = conflist("4.2");
    fs::create_dir_all(host.at(BIN)).unwrap();
    fs::create_dir_all(host.at(CONF)).unwrap();
    let before = host.observe();
    let runtime = Runtime::start(host);
    let mut witness = Witness::of(&runtime);
    witness.wait_for(old);
    for _ in 0..ROUNDS {
        host.install();
        witness.wait_for(Some(&new));
        host.undo(&before);
        witness.wait_for(old);
    }
    // and drift: the plugin and the configuration, put right one by one
    host.install();
    witness.wait_for(Some(&new));
    fs::remove_file(host.at(BIN).join("nsx")).unwrap();
    host.install();
    let (seen, asked) = witness.end();
    println!("{what}: asked {asked} times, {} changes", seen.len() - 1);
    assert!(asked > 100, "{what}: only asked {asked} times");
    for line in &seen {
        assert!(is(line, old) || is(line, Some(&new)), "{what}: {line:?}\n{}", runtime.log());
    }
}

#[test]
fn containerd_loads_the_old_or_the_new_and_nothing_else() {
    let nsx = |host: &Host| host.put(&format!("{BIN}/nsx"), 0o755, &plugin("host-local"));
    let older = Host::new();
    nsx(&older);
    older.put(&format!("{CONF}/10-nsx.conflist"), 0o644, conflist("4.1").as_bytes());
    back_and_forth("older", &older, Some(&conflist("4.1")));

    let legacy = Host::new();
    nsx(&legacy);
    legacy.put(&format!("{CONF}/10-nsx.conf"), 0o644, LEGACY.as_bytes());
    back_and_forth("legacy", &legacy, Some(LEGACY));

    back_and_forth("nothing", &Host::new(), None);
}
