//! A Debian tree of one's own, in which the programs that configure a node's network really
//! run: with a private root, `/run` and network namespace, so that none of them sees the
//! machine's.

use super::super::{NIC, enter, ip, read};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman::disk::HostRoot;
use pointsman_core::config::Node;
use pointsman_core::model::{Claim, Holder, Observed, Ovs, OvsDatabase, Owners};
use pointsman_core::plan::handover::{Owner, Want, coexistence};
use pointsman_core::plan::{Plan, Refusal};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far above what any program here takes; a test that meets it has failed.
const LONG: Duration = Duration::from_secs(60);

/// The tree, and what runs in it.
pub struct Bed {
    root: PathBuf,
    children: Vec<(String, Child)>,
}

impl Bed {
    /// For the calling thread alone: two NICs and nothing configured.
    pub fn enter() -> Self {
        enter();
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: tests run as root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let tree = tree();
        let at = tree.parent().unwrap().join("mnt");
        let over = |fs: &str, on: &Path, flags, data: Option<&str>| {
            mount(Some(fs), on, Some(fs), flags, data)
                .unwrap_or_else(|error| panic!("mount {fs} on {}: {error}", on.display()));
        };
        let nothing = MsFlags::empty();
        over("tmpfs", &at, nothing, None);
        let [upper, work, root] = ["upper", "work", "root"].map(|name| at.join(name));
        for dir in [&upper, &work, &root] {
            fs::create_dir(dir).unwrap();
        }
        let data = format!(
            "lowerdir={},upperdir={},workdir={}",
            tree.display(),
            upper.display(),
            work.display()
        );
        over("overlay", &root, nothing, Some(&data));
        over("proc", &root.join("proc"), nothing, None);
        // what cannot be written has no udev: NetworkManager waits for none then
        over("sysfs", &root.join("sys"), MsFlags::MS_RDONLY, None);
        over("tmpfs", &root.join("run"), nothing, None);
        over("tmpfs", &root.join("dev"), nothing, None);
        for device in ["null", "zero", "random", "urandom"] {
            let (from, to) = (Path::new("/dev").join(device), root.join("dev").join(device));
            fs::write(&to, "").unwrap();
            mount(Some(&from), &to, none, MsFlags::MS_BIND, none).unwrap();
        }
        let bed = Self { root, children: Vec::new() };
        bed.put("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        bed
    }

    /// The tree, as this thread sees it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file that only root may read, which keyfiles have to be.
    pub fn put(&self, path: &str, text: &str) {
        let at = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, text).unwrap();
        let mode = if path.ends_with(".nmconnection") { 0o600 } else { 0o644 };
        fs::set_permissions(&at, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Runs a program to its end; its failure is the test's.
    pub fn run(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a program that stays.
    pub fn start(&mut self, line: &str) {
        let log = fs::File::create(self.root.join("run").join(self.children.len().to_string()));
        let log = log.unwrap();
        let child = self
            .command(line)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children.push((line.to_owned(), child));
    }

    /// Starts the message bus of the system, of this tree.
    pub fn start_bus(&mut self) {
        fs::create_dir_all(self.root.join("run/dbus")).unwrap();
        self.start("dbus-daemon --system --nofork --nopidfile");
        let socket = self.root.join("run/dbus/system_bus_socket");
        wait_for("the bus", || socket.exists());
    }

    /// Ends what was started last.
    pub fn stop(&mut self) {
        let Some((_, mut child)) = self.children.pop() else { return };
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > Duration::from_secs(10) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the programs have printed.
    pub fn logs(&self) -> String {
        let logs = self.children.iter().enumerate().map(|(number, (line, _))| {
            let path = self.root.join("run").join(number.to_string());
            format!("== {line}\n{}", fs::read_to_string(path).unwrap_or_default())
        });
        logs.collect()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(line.split_whitespace());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// What an agent sees of this host.
    pub fn owners(&self) -> Owners {
        let root = HostRoot::new(&self.root);
        pointsman::observe::owners::observe(&root, &node(&[]), &read())
    }

    /// The claims of one holder.
    pub fn claims(&self, holder: Holder) -> Vec<Claim> {
        let mut claims = self.owners().claims;
        claims.retain(|claim| claim.holder == holder);
        claims
    }

    /// The plan of a move to the bridge, Open vSwitch being ready.
    pub fn plan(&self, accept: &[&str]) -> Result<Plan, Refusal> {
        self.plan_to(Owner::Bridge, accept)
    }

    /// The plan of a move.
    pub fn plan_to(&self, to: Owner, accept: &[&str]) -> Result<Plan, Refusal> {
        let ovs = Ovs {
            database: Some(OvsDatabase::default()),
            ovsdb_server: true,
            vswitchd: true,
            ..Ovs::default()
        };
        let owners = Some(self.owners());
        let observed = Observed { network: read(), ovs, owners, ..Observed::default() };
        let node = node(accept);
        let (uplink, bridge) = (node.uplink.clone(), node.bridge.clone());
        let want = Want { uplink, bridge, to, delete_bridge: false };
        coexistence::plan_beside(&node, &want, &observed, None)
    }

    /// The reason and the message of a refusal.
    #[track_caller]
    pub fn refusal(&self, accept: &[&str]) -> (&'static str, String) {
        match self.plan(accept) {
            Err(refusal) => (refusal.reason, refusal.message.into_owned()),
            Ok(plan) => panic!("not refused: {plan}\n{:#?}\n{}", self.owners(), self.logs()),
        }
    }

    /// The notes of a plan.
    #[track_caller]
    pub fn notes(&self, accept: &[&str]) -> String {
        match self.plan(accept) {
            Ok(plan) => plan.notes.join("\n"),
            Err(refusal) => panic!("refused: {refusal}\n{:#?}\n{}", self.owners(), self.logs()),
        }
    }

    /// Waits until the uplink has an address, or has it no more.
    #[track_caller]
    pub fn wait_for_address(&self, address: &str, there: bool) {
        let has = || ip(&format!("-o address show dev {NIC}")).contains(address);
        let began = Instant::now();
        while has() != there {
            let state = ip("address show");
            assert!(began.elapsed() < LONG, "{address} there: {}\n{state}\n{}", has(), self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        while !self.children.is_empty() {
            self.stop();
        }
    }
}

fn node(accept: &[&str]) -> Node {
    Node {
        uplink: NIC.into(),
        bridge: super::super::BRIDGE.into(),
        ovsdb: "unix:/run/openvswitch/db.sock".into(),
        accept: accept.iter().map(|word| (*word).to_owned()).collect(),
        companions: Vec::new(),
    }
}

/// Waits, for as long as a slow machine may take.
#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where `scripts/setup` has unpacked the tree.
fn tree() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("netns/bed/make-owners");
    let output = Command::new(script).arg("--print").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}
