//! One QEMU process and its folder.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::bed::{Accel, Bed, Image, stdout};
use super::error::{Result, VmError};
use super::initrd;
use super::kernel::Kernel;

/// Where the root disk comes from.
#[derive(Debug)]
pub(super) enum Disk<'a> {
    /// An empty overlay over a root image.
    Fresh(Image),
    /// A copy of an overlay with a snapshot in it, to go on from.
    Snapshot { file: &'a Path, tag: &'a str },
    /// The overlay that a machine of before has left.
    Left(&'a Path),
}

/// Runs until dropped. `bed leash` ends QEMU and removes the folder however the
/// test ends, be it SIGKILL.
#[derive(Debug)]
pub(super) struct Qemu {
    leash: Child,
    dir: PathBuf,
}

impl Qemu {
    pub(super) fn start(bed: &Bed, kernel: &Kernel, disk: &Disk<'_>) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("pointsman-vm.")
            .tempdir()
            .map_err(|e| VmError::new(format!("make a folder for the VM: {e}")))?
            .keep();
        Self::start_in(bed, kernel, disk, &dir).inspect_err(|_| drop(fs::remove_dir_all(&dir)))
    }

    fn start_in(bed: &Bed, kernel: &Kernel, disk: &Disk<'_>, dir: &Path) -> Result<Self> {
        let overlay = dir.join("root.qcow2");
        match disk {
            Disk::Fresh(image) => stdout(
                Command::new("qemu-img")
                    .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                    .args([&bed.part(image.disk()), &overlay]),
            )?,
            Disk::Snapshot { file, .. } => stdout(
                Command::new("cp")
                    .args(["--reflink=auto", "--sparse=auto", "--"])
                    .args([file, &overlay.as_path()]),
            )?,
            Disk::Left(file) => {
                fs::rename(file, &overlay)
                    .map_err(|e| VmError::new(format!("take over {}: {e}", file.display())))?;
                String::new()
            }
        };
        let mut arguments = arguments(bed, kernel, dir)?;
        if let Disk::Snapshot { tag, .. } = disk {
            arguments.extend(["-loadvm".into(), tag.into()]);
        }
        let log = File::create(dir.join("qemu.log"))
            .map_err(|e| VmError::new(format!("create qemu.log: {e}")))?;
        let leash = Command::new(bed.program())
            .args(["leash", "--remove"])
            .arg(dir)
            .args(["--", "qemu-system-x86_64"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|e| VmError::new(format!("start {}: {e}", bed.program().display())))?;
        Ok(Self { leash, dir: dir.to_owned() })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// An error when QEMU has ended.
    pub(super) fn alive(&mut self) -> Result<()> {
        match self.leash.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(VmError::new(format!("QEMU ended: {status}"))),
            Err(e) => Err(VmError::new(format!("wait for QEMU: {e}"))),
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !matches!(self.leash.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Only when the leash had ended before: then the folder is still there.
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// What distinguishes one snapshot's machine from another's.
pub(super) fn machine(accel: Accel) -> Vec<&'static str> {
    let processor = match accel {
        Accel::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
    };
    let mut machine = processor.to_vec();
    machine.extend(["-M", "q35", "-m", "512", "-smp", "2", "-nodefaults", "-no-user-config"]);
    machine.extend(["-display", "none", "-device", "virtio-rng-pci"]);
    machine.extend(NETWORK);
    machine
}

/// Three NICs, in this order, as network.rs names them: the way out of the VM,
/// the node's uplink, and the other end of the uplink's wire. Not one hub for all:
/// QEMU's user network answers for any address, whoever a frame was meant for.
const NETWORK: [&str; 12] = [
    "-netdev",
    "user,id=outside,ipv6=off",
    "-device",
    "virtio-net-pci,netdev=outside,mac=52:54:00:00:02:01",
    "-netdev",
    "hubport,id=uplink,hubid=1",
    "-device",
    "virtio-net-pci,netdev=uplink,mac=52:54:00:00:02:15",
    "-netdev",
    "hubport,id=wire,hubid=1",
    "-device",
    "virtio-net-pci,netdev=wire,mac=52:54:00:00:02:77",
];

/// `panic=-1`: a panic shows as a boot that nobody asked for. A processor that never comes out
/// of the kernel again says where it is, and where the others are.
pub(super) const KERNEL_LINE: &str = "console=ttyS0 loglevel=5 panic=-1 net.ifnames=0 \
    softlockup_all_cpu_backtrace=1 \
    mitigations=off random.trust_cpu=on no_timer_check tsc=reliable";

fn arguments(bed: &Bed, kernel: &Kernel, dir: &Path) -> Result<Vec<OsString>> {
    let initrd = dir.join("initrd");
    initrd::write(&kernel.initrd, bed.program(), &initrd)?;
    let socket = |name: &str| format!("path={}/{name}.sock,server=on,wait=off", dir.display());
    let mut arguments: Vec<OsString> = machine(bed.accel()).into_iter().map(Into::into).collect();
    arguments.extend(["-kernel".into(), kernel.image.clone().into()]);
    arguments.extend(["-initrd".into(), initrd.into()]);
    arguments.extend(["-append".into(), KERNEL_LINE.into()]);
    // The cache mode is about this machine's crash, not the guest's: what the guest has given
    // to its disk stays over a reset, what is in its page cache only is lost.
    let disk = format!(
        "file={}/root.qcow2,if=none,id=root,format=qcow2,cache=unsafe,discard=unmap",
        dir.display()
    );
    for pair in [
        ["-drive", &disk],
        ["-device", "virtio-blk-pci,drive=root"],
        ["-chardev", &format!("file,id=console,append=on,path={}/console.log", dir.display())],
        ["-serial", "chardev:console"],
        ["-device", "virtio-serial-pci"],
        ["-chardev", &format!("socket,id=bed,{}", socket("bed"))],
        ["-device", &format!("virtserialport,chardev=bed,name={}", bed::protocol::PORT)],
        ["-chardev", &format!("socket,id=qmp,{}", socket("qmp"))],
        ["-mon", "chardev=qmp,mode=control"],
    ] {
        arguments.extend(pair.map(OsString::from));
    }
    Ok(arguments)
}
