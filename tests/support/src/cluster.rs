//! A real control plane: kube-apiserver and etcd in a process of their own.
//!
//! The binary comes from `tests/cluster` (see its `main.go`), built beforehand
//! by `scripts/setup`; with `KUBEBUILDER_ASSETS` set it runs the binaries of that
//! folder. It serves on loopback only and works in a network namespace that has
//! nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A start takes 2.5 s on an idle machine, and up to 8 s on a busy one.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// The API server takes 2 s where somebody watches, and is cut off after 10 s.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// A control plane that ends, and is removed from disk, with this value or with
/// this process, however that ends.
#[derive(Debug)]
pub struct ControlPlane {
    binary: PathBuf,
    dir: PathBuf,
    port: u16,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Its end of file is what tells the control plane that it was orphaned.
    stdin: ChildStdin,
}

impl ControlPlane {
    /// Starts one with empty data on a free port, and waits until it is ready.
    ///
    /// # Panics
    /// Where the binary was not built, or does not get ready within 120 s.
    #[must_use]
    pub fn start() -> Self {
        let binary = binary();
        let dir = tempfile::Builder::new()
            .prefix("controlplane-")
            .tempdir()
            .expect("create a folder for the control plane")
            .keep();
        let mut plane = Self { binary, dir, port: 0, running: None };
        plane.start_again();
        plane
    }

    /// Stops it: the port refuses connections from then on, the data stay.
    ///
    /// # Panics
    /// Where it was stopped already, or does not end in order.
    pub fn stop(&mut self) {
        let running = self.running.take().expect("the control plane runs");
        let pid = Pid::from_raw(running.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).expect("signal the control plane");
        let status = wait(running.child);
        assert!(
            status.is_some_and(|status| status.success()),
            "the control plane did not stop in order ({status:?}):\n{}",
            self.log_tail()
        );
    }

    /// Starts it again with its former data, on its former port; tokens and
    /// kubeconfigs stay valid.
    ///
    /// # Panics
    /// Where it runs already, or does not get ready within 120 s.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "the control plane runs already");
        let mut child = Command::new(&self.binary)
            .args(["up", "--ephemeral", "--dir"])
            .arg(&self.dir)
            .arg(format!("--port={}", self.port))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.open_log())
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", self.binary.display()));
        let stdin = child.stdin.take().expect("stdin is a pipe");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        self.running = Some(Running { child, stdin });

        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            // An error is an empty line to the receiver, as is a process that died.
            drop(BufReader::new(stdout).read_line(&mut line));
            drop(sender.send(line));
        });
        let line = receiver.recv_timeout(READY_WITHIN).unwrap_or_default();
        self.port = line
            .trim()
            .strip_prefix("ready https://127.0.0.1:")
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| {
                panic!(
                    "the control plane said {line:?} instead of being ready:\n{}",
                    self.log_tail()
                )
            });
    }

    /// The TCP port of the API server, on 127.0.0.1; a virtual machine under
    /// user-mode networking finds the same port at 10.0.2.2.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate authority of the API server, a PEM file.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A kubeconfig with every right, for people who look in; never for the agent.
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Runs kubectl as the administrator and returns what it printed.
    ///
    /// # Panics
    /// Where kubectl fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        succeeded(args, self.try_kubectl(args))
    }

    /// Runs kubectl as the administrator, and leaves the judgement to the caller.
    #[must_use]
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        run(self.kubectl_command(args), "")
    }

    /// Runs kubectl with a token and no other credential.
    #[must_use]
    pub fn try_kubectl_as(&self, token: &str, args: &[&str]) -> Output {
        let mut command = self.kubectl_command(args);
        command
            .env("KUBECONFIG", "/dev/null")
            .arg(format!("--server=https://127.0.0.1:{}", self.port))
            .arg(format!("--certificate-authority={}", self.ca().display()))
            .arg(format!("--token={token}"));
        run(command, "")
    }

    /// Applies manifests as the administrator.
    ///
    /// # Panics
    /// Where the API server refuses them.
    pub fn apply(&self, yaml: &str) -> String {
        let args = ["apply", "-f", "-"];
        succeeded(&args, run(self.kubectl_command(&args), yaml))
    }

    /// Creates a Node with nothing but a name.
    ///
    /// # Panics
    /// Where there is one of that name.
    pub fn create_node(&self, name: &str) {
        let args = ["create", "-f", "-"];
        let node = format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}");
        succeeded(&args, run(self.kubectl_command(&args), &node));
    }

    /// A token of a `ServiceAccount`, valid for an hour and bound to a Node: it
    /// carries that Node's name as a pod's token does, and ends with the Node.
    ///
    /// # Panics
    /// Where the account or the Node does not exist.
    #[must_use]
    pub fn service_account_token(&self, namespace: &str, account: &str, node: &str) -> String {
        self.kubectl(&[
            "create",
            "token",
            account,
            "--namespace",
            namespace,
            "--duration=1h",
            "--bound-object-kind=Node",
            "--bound-object-name",
            node,
        ])
        .trim()
        .to_owned()
    }

    fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("kubectl")
            .args(args)
            .env("KUBECONFIG", self.admin_kubeconfig())
            // Neither the user's preferences nor a cache in the user's home.
            .env("HOME", &self.dir)
            .env("KUBECACHEDIR", self.dir.join("kubectl-cache"))
            .env("KUBERC", "off");
        command
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("controlplane.log")
    }

    fn open_log(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the control plane's log")
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(Running { child, stdin }) = self.running.take() {
            drop(stdin);
            wait(child);
        }
        // Gone already, unless it was stopped, or killed just now.
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Waits for an end that was asked for; kills what does not end.
fn wait(mut child: Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + STOPPED_WITHIN;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    drop(child.kill());
    drop(child.wait());
    None
}

fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start kubectl");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // Fails where kubectl ends without reading; its exit code says why.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("wait for kubectl")
}

fn succeeded(args: &[&str], output: Output) -> String {
    assert!(
        output.status.success(),
        "kubectl {}: {}\n{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("kubectl prints UTF-8")
}

/// Asks the script that builds the binary, which alone knows its place.
fn binary() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/build");
    let output = Command::new(&script)
        .arg("--print")
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", script.display()));
    assert!(
        output.status.success(),
        "{}: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout).expect("a path in UTF-8");
    let path = PathBuf::from(printed.trim());
    assert!(
        path.is_file(),
        "{} is missing: run scripts/setup, which builds the control plane",
        path.display()
    );
    path
}
