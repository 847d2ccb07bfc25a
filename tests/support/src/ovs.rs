//! A real Open vSwitch of one's own: ovsdb-server and ovs-vswitchd in a network namespace
//! and directories that hold nothing else. The machine's kernel has no Open vSwitch module,
//! so bridges are of the user-space datapath (`datapath_type=netdev`), through `/dev/net/tun`.

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const STARTING: Duration = Duration::from_secs(60);

/// The daemons and their directory. Dropping it kills what it started, by process id.
#[derive(Debug)]
pub struct OvsFixture {
    run: TempDir,
    /// As the server is told.
    database: String,
    server: Child,
    vswitchd: Option<Child>,
}

impl OvsFixture {
    /// Moves the calling thread into a new network namespace and starts both daemons there.
    pub fn start() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: tests run as root");
        command(&["ip", "link", "set", "lo", "up"]);
        Self::start_here()
    }

    /// The same with a database that the server knows by a relative path and a link.
    pub fn start_behind_a_link() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: tests run as root");
        command(&["ip", "link", "set", "lo", "up"]);
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join("far")).unwrap();
        std::os::unix::fs::symlink("far/away.db", run.path().join("conf.db")).unwrap();
        Self::start_in(run, "far/away.db", "conf.db")
    }

    /// Starts both daemons in the calling thread's network namespace.
    pub fn start_here() -> Self {
        let run = tempfile::tempdir().unwrap();
        let database = text(&run.path().join("conf.db")).to_owned();
        Self::start_in(run, "conf.db", &database)
    }

    /// `file` is made; `database` is what the server is told.
    fn start_in(run: TempDir, file: &str, database: &str) -> Self {
        command(&["ovsdb-tool", "create", text(&run.path().join(file)), SCHEMA]);
        let server = server(run.path(), database);
        let mut fixture = Self { run, database: database.to_owned(), server, vswitchd: None };
        fixture.wait_for_server();
        fixture.vsctl(&["--no-wait", "init"]);
        fixture.start_vswitchd();
        fixture
    }

    /// Starts vswitchd, and waits until it has made its first pass.
    pub fn start_vswitchd(&mut self) {
        let socket = format!("unix:{}", text(&self.socket()));
        self.vswitchd = Some(daemon(self.run.path(), "ovs-vswitchd", &[&socket]));
        self.vsctl(&[
            "add-br",
            "starting",
            "--",
            "set",
            "bridge",
            "starting",
            "datapath_type=netdev",
        ]);
        self.vsctl(&["del-br", "starting"]);
    }

    /// The run directory: socket, pid files, logs, database.
    pub fn directory(&self) -> &Path {
        self.run.path()
    }

    /// ovsdb-server's.
    pub fn socket(&self) -> PathBuf {
        self.run.path().join("db.sock")
    }

    /// What `ovs-vsctl` prints; its failure is the test's.
    pub fn vsctl(&self, arguments: &[&str]) -> String {
        let output = self.try_vsctl(arguments);
        assert!(output.status.success(), "ovs-vsctl {arguments:?}: {output:?}\n{}", self.logs());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// `ovs-vsctl`, whatever comes of it.
    pub fn try_vsctl(&self, arguments: &[&str]) -> Output {
        let database = format!("--db=unix:{}", text(&self.socket()));
        Command::new("ovs-vsctl")
            .args([&database, "--timeout=30"])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// `Open_vSwitch.next_cfg`, read by `ovs-vsctl`.
    pub fn next_cfg(&self) -> u64 {
        self.vsctl(&["get", "Open_vSwitch", ".", "next_cfg"]).parse().unwrap()
    }

    /// Transactions that the database's file holds with a change of `next_cfg`: what
    /// anybody has asked of vswitchd since the beginning. (vswitchd's own statistics are
    /// in the file too, and come when they like.)
    pub fn requests(&self) -> usize {
        let file = std::fs::read_to_string(self.run.path().join("conf.db")).unwrap();
        file.lines().filter(|line| line.contains("\"next_cfg\":")).count()
    }

    /// Hangs ovsdb-server: it is there, and does not answer.
    pub fn pause_server(&self) {
        signal(&self.server, Signal::SIGSTOP);
    }

    /// Ends what [`Self::pause_server`] began.
    pub fn resume_server(&self) {
        signal(&self.server, Signal::SIGCONT);
    }

    /// Hangs vswitchd.
    pub fn pause_vswitchd(&self) {
        signal(self.vswitchd.as_ref().unwrap(), Signal::SIGSTOP);
    }

    /// Ends what [`Self::pause_vswitchd`] began.
    pub fn resume_vswitchd(&self) {
        signal(self.vswitchd.as_ref().unwrap(), Signal::SIGCONT);
    }

    /// Kills vswitchd, as a crash would.
    pub fn kill_vswitchd(&mut self) {
        end(&mut self.vswitchd.take().unwrap());
    }

    /// Kills ovsdb-server; its socket's file stays, as after a crash.
    pub fn kill_server(&mut self) {
        end(&mut self.server);
    }

    /// Starts ovsdb-server again, on the same database.
    pub fn start_server(&mut self) {
        self.server = server(self.run.path(), &self.database);
        self.wait_for_server();
    }

    fn wait_for_server(&self) {
        wait_for("ovsdb-server", || self.try_vsctl(&["--no-wait", "list-br"]).status.success());
    }

    /// The daemons' logs, for a failed test's message.
    pub fn logs(&self) -> String {
        ["ovsdb-server", "ovs-vswitchd"]
            .map(|name| {
                let log = self.run.path().join(format!("{name}.log"));
                format!("{name}:\n{}", std::fs::read_to_string(log).unwrap_or_default())
            })
            .concat()
    }
}

impl Drop for OvsFixture {
    fn drop(&mut self) {
        if let Some(mut vswitchd) = self.vswitchd.take() {
            end(&mut vswitchd);
        }
        end(&mut self.server);
    }
}

fn server(run: &Path, database: &str) -> Child {
    let remote = format!("--remote=punix:{}", text(&run.join("db.sock")));
    daemon(run, "ovsdb-server", &[database, &remote])
}

fn daemon(run: &Path, name: &str, arguments: &[&str]) -> Child {
    let option = |option: &str, suffix: &str| format!("--{option}={}/{name}.{suffix}", text(run));
    Command::new(name)
        .args(arguments)
        .args([option("pidfile", "pid"), option("log-file", "log"), option("unixctl", "ctl")])
        .args(["--no-chdir", "-vconsole:off", "-vsyslog:off"])
        .env("OVS_RUNDIR", run)
        .env("OVS_LOGDIR", run)
        .env("OVS_DBDIR", run)
        .current_dir(run)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{name} (Debian: openvswitch-switch): {error}"))
}

fn end(child: &mut Child) {
    // it may have ended by itself; SIGKILL ends a stopped process too
    drop(child.kill());
    drop(child.wait());
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

/// Runs a tool whose failure is the test's; gives what it printed.
pub fn command(argv: &[&str]) -> String {
    let output = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
    assert!(output.status.success(), "{argv:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < STARTING, "waited {STARTING:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
