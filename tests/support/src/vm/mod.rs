//! A node in a virtual machine.
//!
//! ```no_run
//! use support::vm::{Image, Traffic, Vm};
//!
//! let vm = Vm::from_snapshot(Image::Bed)?;         // network configured, OVS running
//! let traffic = Traffic::start(&vm)?;
//! println!("{}", vm.sh("ip -brief address")?);
//! println!("{}", traffic.stop()?);
//! # Ok::<(), support::vm::VmError>(())
//! ```

mod bed;
mod channel;
mod error;
mod initrd;
mod kernel;
mod network;
mod node_units;
mod program;
mod qemu;
mod qmp;
mod snapshot;
mod traffic;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::bed::protocol::{Answer, Bytes, Op};
use serde_json::{Value, json};

pub use self::bed::{Accel, Bed, Image};
pub use self::error::{Result, VmError};
pub use self::kernel::Kernel;
pub use self::network::{
    DEFAULT_ROUTE_TARGET, ECHO_PORT, HOST, NODE_V4, NODE_V4_SECOND, NODE_V6, PEER_NETNS,
    PEER_ROUTED_V4, PEER_ROUTED_V6, PEER_V4, PEER_V6, UPLINK, UPLINK_MAC,
};
pub use self::program::{Command, Output, Running};
pub use self::traffic::{Report, Traffic};
pub use ::bed::protocol::Ended;
pub use ::bed::summary;

use channel::Channel;
use qemu::{Disk, Qemu};

/// How long a boot may take. Usually it is 5 to 10 s; on a busy machine one in a
/// hundred has been seen to take more than a minute.
const BOOT: Duration = Duration::from_secs(180);
/// How long a file may take to go in or out.
const TRANSFER: Duration = Duration::from_secs(60);

/// A running VM; ends and leaves nothing behind when dropped, or when its test dies.
#[derive(Debug)]
pub struct Vm {
    // Declared first, dropped first: the reader ends when QEMU does.
    channel: Channel,
    qemu: Mutex<Qemu>,
    dir: std::path::PathBuf,
    boot_id: Mutex<String>,
    started_in: Duration,
}

impl Vm {
    /// Boots a fresh copy of the root disk. No network is configured.
    pub fn boot() -> Result<Self> {
        Self::boot_image(Image::Bed)
    }

    /// [`Self::boot`] of one of the root disks.
    pub fn boot_image(image: Image) -> Result<Self> {
        let begin = Instant::now();
        let mut vm = Self::start(&Kernel::first()?, &Disk::Fresh(image), true)?;
        vm.await_boot()?;
        vm.started_in = begin.elapsed();
        Ok(vm)
    }

    /// Goes on from a snapshot, which is made first where it does not exist yet.
    ///
    /// The network is configured, and Open vSwitch runs: see [`Vm::node_network`] and
    /// [`Vm::start_ovs`], or [`Vm::systemd_node`]. All its copies have the same
    /// boot id and the same random numbers behind them.
    pub fn from_snapshot(image: Image) -> Result<Self> {
        let snapshot = snapshot::find_or_make(Bed::locate()?, image)?;
        let name = image.snapshot();
        let begin = Instant::now();
        let disk = Disk::Snapshot { file: &snapshot, tag: name };
        let mut vm = Self::start(&Kernel::first()?, &disk, false)?;
        vm.set_clock()?;
        let boot_id = vm.sh("cat /proc/sys/kernel/random/boot_id")?;
        *vm.boot_id.get_mut().unwrap() = boot_id;
        vm.started_in = begin.elapsed();
        Ok(vm)
    }

    fn start(kernel: &Kernel, disk: &Disk<'_>, boots: bool) -> Result<Self> {
        let mut qemu = Qemu::start(Bed::locate()?, kernel, disk)?;
        let dir = qemu.dir().to_owned();
        let channel = Channel::connect(&dir.join("bed.sock"), boots, || qemu.alive())
            .map_err(|e| e.with_console(&dir))?;
        Ok(Self {
            channel,
            qemu: Mutex::new(qemu),
            dir,
            boot_id: Mutex::default(),
            started_in: Duration::ZERO,
        })
    }

    fn await_boot(&self) -> Result<()> {
        let boot_id = self.channel.wait_boot(BOOT).map_err(|e| self.explain(e))?;
        *self.boot_id.lock().unwrap() = boot_id;
        self.set_clock()
    }

    /// Sets the wall clock to this machine's: a snapshot, and a boot after it, has the time
    /// of its making, with which certificates and tokens are not valid yet.
    fn set_clock(&self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.ask(Op::SetClock { unix_ms }, Duration::from_secs(30)).map(drop)
    }

    /// How long it took until the VM answered.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The boot id of the last boot seen.
    pub fn boot_id(&self) -> String {
        self.boot_id.lock().unwrap().clone()
    }

    /// Runs a shell script that has to succeed; what it printed, without the last newline.
    pub fn sh(&self, script: &str) -> Result<String> {
        let output = self.run(&Command::sh(script))?;
        output.succeeded().map_err(|e| self.explain(e))?;
        Ok(output.stdout.trim_end_matches('\n').to_owned())
    }

    /// Runs a program to its end, however it ends.
    pub fn run(&self, command: &Command) -> Result<Output> {
        match self.ask(command.to_op(), command.timeout())? {
            Answer::Ran { ended, stdout, stderr } => {
                Ok(Output::new(command, ended, &stdout.0, &stderr.0))
            }
            other => Err(self.explain(unexpected(&other))),
        }
    }

    /// Starts a program and leaves it running.
    pub fn spawn(&self, command: &Command) -> Result<Running<'_>> {
        Running::start(self, command)
    }

    /// Writes a file by way of a rename, parent folders included.
    pub fn put(&self, path: &str, data: &[u8], mode: u32) -> Result<()> {
        let op = Op::Put { path: path.into(), data: Bytes(data.to_vec()), mode };
        self.ask(op, TRANSFER).map(drop)
    }

    /// Copies a file of this machine into the VM, mode included.
    pub fn put_file(&self, from: &Path, to: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let fail = |e| VmError::new(format!("read {}: {e}", from.display()));
        let data = std::fs::read(from).map_err(fail)?;
        let mode = std::fs::metadata(from).map_err(fail)?.permissions().mode();
        self.put(to, &data, mode & 0o7777)
    }

    /// Reads a file.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        match self.ask(Op::Get { path: path.into() }, TRANSFER)? {
            Answer::Data { data } => Ok(data.0),
            other => Err(self.explain(unexpected(&other))),
        }
    }

    /// An orderly reboot, from inside; how long it took. Network and OVS are not
    /// started again: [`Vm::node_network`], [`Vm::start_ovs`].
    pub fn reboot(&self) -> Result<Duration> {
        let begin = Instant::now();
        self.channel.expect_boot();
        self.channel.send(0, Op::Reboot).map_err(|e| self.explain(e))?;
        self.await_boot()?;
        Ok(begin.elapsed())
    }

    /// An orderly reboot into a kernel, as a boot loader would choose it; how long it took.
    /// The machine is another one with the same disk.
    pub fn reboot_into(&mut self, kernel: &Kernel) -> Result<Duration> {
        let begin = Instant::now();
        // the guest's reboot ends in a machine that stands still
        self.qmp("set-action", &json!({ "reboot": "shutdown", "shutdown": "pause" }))?;
        self.channel.send(0, Op::Reboot).map_err(|e| self.explain(e))?;
        self.until("the guest's shutdown", |vm| {
            Ok(vm.qmp("query-status", &json!({}))?["status"] == "shutdown")
        })?;
        // the folder goes with the process, whose end writes what it holds of the disk
        let kept = tempfile::Builder::new().prefix("pointsman-disk.").tempdir();
        let kept = kept.map_err(|e| VmError::new(format!("make a folder for the disk: {e}")))?;
        let disk = kept.path().join("root.qcow2");
        std::fs::hard_link(self.dir.join("root.qcow2"), &disk)
            .map_err(|e| VmError::new(format!("keep the disk as {}: {e}", disk.display())))?;
        self.qmp("quit", &json!({}))?;
        self.until("QEMU's end", |vm| Ok(vm.qemu.lock().unwrap().alive().is_err()))?;
        let next = Self::start(kernel, &Disk::Left(&disk), true)?;
        next.await_boot()?;
        *self = next;
        Ok(begin.elapsed())
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !holds(self)? {
            if begin.elapsed() > BOOT {
                return Err(self.explain(VmError::new(format!("{what} did not come"))));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A power cut and a new start: what was not synced may be lost.
    pub fn reset(&self) -> Result<Duration> {
        let begin = Instant::now();
        self.channel.expect_boot();
        self.qmp("system_reset", &json!({}))?;
        self.await_boot()?;
        Ok(begin.elapsed())
    }

    /// Starts a program that cuts the power by itself, and waits for the new start.
    pub fn cut_by(&self, command: &Command) -> Result<Duration> {
        self.channel.expect_boot();
        let program = self.spawn(command)?;
        let begin = Instant::now();
        self.await_boot().map_err(|e| {
            let said = program.log().unwrap_or_default();
            VmError::new(format!("{e}: {said}"))
        })?;
        Ok(begin.elapsed())
    }

    /// Runs a command of QEMU's machine protocol.
    pub fn qmp(&self, name: &str, arguments: &Value) -> Result<Value> {
        qmp::command(&self.dir.join("qmp.sock"), name, arguments).map_err(|e| self.explain(e))
    }

    /// Ends the VM at once. Dropping it does the same.
    pub fn stop(self) {
        drop(self);
    }

    /// Adds the console's end to an error.
    fn explain(&self, e: VmError) -> VmError {
        let alive = self.qemu.lock().unwrap().alive();
        let e = match alive {
            Ok(()) => e,
            Err(dead) => VmError::new(format!("{e} ({dead})")),
        };
        e.with_console(&self.dir)
    }

    fn ask(&self, op: Op, own_time: Duration) -> Result<Answer> {
        self.channel.call(op, own_time).map_err(|e| self.explain(e))
    }
}

fn unexpected(answer: &Answer) -> VmError {
    VmError::new(format!("the guest answered something else: {answer:?}"))
}
