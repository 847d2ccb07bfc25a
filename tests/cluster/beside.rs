//! A person's command beside an agent that runs: two processes, one lock.

use crate::agent::{LONG, NAMESPACE, annotate, annotations, deploy, eventually, kubeconfig};
use crate::shared;
use pointsman::apply::Executor;
use pointsman::disk::HostRoot;
use pointsman::host_command::HostTools;
use pointsman::journal::{self, Journal};
use pointsman::node::Options;
use pointsman::reconcile;
use pointsman_core::config::Settings;
use pointsman_core::keys::PREFIX;
use pointsman_core::model::Digest;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use support::cluster::ControlPlane;
use tokio::sync::oneshot;

const STATE: &str = "/var/lib/pointsman";
const CONFLIST: &str =
    r#"{"cniVersion":"1.0.0","name":"nsx-cni","nsxBuildVersion":"4.2","plugins":[{"type":"nsx"}]}"#;
const LOOPBACK: &str = r#"{"cniVersion":"0.3.1","name":"lo","type":"loopback"}"#;

/// A host below a scratch root, with CNI files to be put there.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { directory: tempfile::tempdir().unwrap() };
        for made in ["root/etc/cni/net.d", "root/opt/cni/bin", "root/lib/modules", "payload"] {
            fs::create_dir_all(host.directory.path().join(made)).unwrap();
        }
        let plugin = |name: &str| fs::read(Path::new("/usr/lib/cni").join(name)).unwrap();
        let mut manifest = "[cni]\nversion = \"4.2\"\n".to_owned();
        for (role, name, mode, bytes) in [
            ("nsx", "nsx", "0755", plugin("bridge")),
            ("loopback", "loopback", "0755", plugin("loopback")),
            ("conflist", "10-nsx.conflist", "0644", CONFLIST.into()),
            ("loopback-conf", "99-loopback.conf", "0644", LOOPBACK.into()),
        ] {
            fs::write(host.payload().join(name), &bytes).unwrap();
            let sha256 = Digest::of(&bytes);
            manifest += &format!(
                "[cni.files.{role}]\npath = \"{name}\"\nmode = \"{mode}\"\nsha256 = \"{sha256}\"\n"
            );
        }
        fs::write(host.payload().join("manifest.toml"), manifest).unwrap();
        host
    }

    fn payload(&self) -> PathBuf {
        self.directory.path().join("payload")
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn state(&self) -> PathBuf {
        self.root().join(STATE.trim_start_matches('/'))
    }

    fn executor(&self) -> Executor {
        Executor {
            root: HostRoot::new(self.root()),
            tools: HostTools::Scratch,
            payload: self.payload(),
            store: self.state().join("store"),
            ovsdb: PathBuf::new(),
        }
    }

    /// The program as a person runs it, a process of its own.
    fn command(&self, words: &[&str]) -> Output {
        Command::new(support::program::pointsman())
            .args(words)
            .args(["--root", self.root().to_str().unwrap(), "--state-dir", STATE])
            .args(["--payload", self.payload().to_str().unwrap(), "--uplink", "eth9"])
            .output()
            .unwrap()
    }
}

/// `pointsman run`, in this process.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(plane: &ControlPlane, node: &str, host: &Host) -> Self {
        deploy(plane);
        let token = plane.service_account_token(NAMESPACE, "pointsman", node);
        let server = format!("https://127.0.0.1:{}", plane.port());
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = Some(kubeconfig(directory.path(), &server, Some(&plane.ca()), &token));
        let options = Options { kubeconfig, ..Options::in_cluster(node) };
        let text = format!(
            "payload = \"{}\"\n[node]\nuplink = \"eth9\"\n[profiles.p]\nmodules = \"leave\"\n\
             cni = \"payload\"\naddresses = \"leave\"\novs = \"none\"\n",
            host.payload().display()
        );
        let settings = Settings::parse(&text).unwrap();
        let (executor, journal) = (host.executor(), Journal::open(&host.state()).unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let _kept = directory;
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = reconcile::run(settings, executor, journal, options) => {
                        panic!("{ended:?}")
                    }
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the agent ended by itself");
    }
}

fn said(plane: &ControlPlane, node: &str, key: &str) -> String {
    annotations(plane, node).remove(&format!("{PREFIX}{key}")).unwrap_or_default()
}

fn wait_for(plane: &ControlPlane, node: &str, key: &str, value: &str) {
    eventually(value, LONG, || (said(plane, node, key) == value).then_some(()));
}

#[test]
fn a_command_has_its_turn_beside_an_agent() {
    let plane = shared();
    let node = "beside";
    plane.create_node(node);
    let host = Host::new();
    let running = Running::start(&plane, node, &host);
    annotate(&plane, node, &format!("{PREFIX}desired-profile=p"));
    wait_for(&plane, node, "reason", "Verified");
    let conflist = host.root().join("etc/cni/net.d/10-nsx.conflist");
    assert!(conflist.exists());
    let record = || journal::read(&host.state()).unwrap().unwrap();
    let first = record();
    assert!(first.request.as_deref().is_some_and(|request| request.starts_with('p')));

    // as often as it is asked, while the agent looks again and again
    for round in 0..6 {
        fs::create_dir_all(host.root().join(format!("lib/modules/6.1.{round}/kernel"))).unwrap();
        let output = host.command(&["cni", "apply"]);
        assert!(output.status.success(), "{round}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("nothing to do"), "{output:?}");
    }
    assert_eq!(record(), first, "nothing was done");
    drop(running);
}
