//! The VM's first program: from the initrd to the root disk, then PID 1.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Pid, chdir, chroot, execv, sethostname, sync};

use crate::Failure;

const ROOT_DISK: &str = "/dev/vda";
const SYSTEMD: &str = "/lib/systemd/systemd";
const HOME: &str = "/usr/local/sbin/bed";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// As `/init` of the initrd: loads the modules that lie there, mounts the root
/// disk, puts this program on it and goes on as its `bed init`.
pub fn from_initrd() -> Result<Infallible, Failure> {
    mount_fs("devtmpfs", "/dev", "")?;
    let mut modules: Vec<_> =
        fs::read_dir("/modules")?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    modules.sort();
    for module in modules {
        finit_module(File::open(&module)?, c"", ModuleInitFlags::empty())
            .map_err(|e| format!("load {}: {e}", module.display()))?;
    }
    for _ in 0..500 {
        if Path::new(ROOT_DISK).exists() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    mount(Some(ROOT_DISK), "/root", Some("ext4"), MsFlags::MS_NOATIME, None::<&str>)
        .map_err(|e| format!("mount {ROOT_DISK}: {e}"))?;
    install()?;
    mount(Some("/dev"), "/root/dev", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chdir("/root")?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")?;
    // a root with systemd has this program's `guest` as one of its services
    if Path::new(SYSTEMD).exists() {
        let argv = [CString::new(SYSTEMD)?];
        return Ok(execv(&argv[0], &argv)?);
    }
    let argv = [CString::new(HOME)?, CString::new("init")?];
    Ok(execv(&argv[0], &argv)?)
}

/// A disk that was made with another build of this program gets the present one.
fn install() -> Result<(), Failure> {
    let present = fs::read("/init")?;
    let installed = format!("/root{HOME}");
    if fs::read(&installed).ok().as_ref() == Some(&present) {
        return Ok(());
    }
    let part = format!("{installed}.part");
    fs::write(&part, present)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
    fs::rename(&part, &installed)?;
    Ok(())
}

fn mount_fs(kind: &str, target: &str, options: &str) -> Result<(), Failure> {
    fs::create_dir_all(target)?;
    mount(Some(kind), target, Some(kind), MsFlags::empty(), Some(options))
        .map_err(|e| format!("mount {kind} on {target}: {e}"))?;
    Ok(())
}

/// As PID 1 on the root disk: mounts, loopback, and `bed guest` again and again.
pub fn as_pid_1() -> Result<(), Failure> {
    mount_fs("proc", "/proc", "")?;
    mount_fs("sysfs", "/sys", "")?;
    mount_fs("devpts", "/dev/pts", "")?;
    mount_fs("tmpfs", "/dev/shm", "")?;
    mount_fs("tmpfs", "/run", "mode=755")?;
    mount_fs("tmpfs", "/tmp", "mode=1777")?;
    mount_fs("cgroup2", "/sys/fs/cgroup", "")?;
    fs::create_dir_all("/run/lock")?;
    sethostname(fs::read_to_string("/etc/hostname")?.trim())?;
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    loop {
        let guest = Command::new(HOME)
            .arg("guest")
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .env("HOME", "/root")
            .current_dir("/root")
            .spawn()
            .map_err(|e| format!("start {HOME} guest: {e}"))?;
        let status = reap_until(Pid::from_raw(i32::try_from(guest.id())?))?;
        eprintln!("bed init: the guest ended ({status}), starting it again");
        thread::sleep(Duration::from_millis(200));
    }
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.env("PATH", PATH).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// Buries whoever dies, orphans included, until it is `child`.
fn reap_until(child: Pid) -> Result<ExitStatus, Failure> {
    loop {
        match wait()? {
            WaitStatus::Exited(pid, code) if pid == child => {
                return Ok(ExitStatus::from_raw(code << 8));
            }
            WaitStatus::Signaled(pid, signal, _) if pid == child => {
                return Ok(ExitStatus::from_raw(signal as i32));
            }
            _ => {}
        }
    }
}

/// An orderly reboot: everyone is asked to end, then made to, then the disk is synced.
pub fn orderly_reboot() -> Result<Infallible, Failure> {
    if Path::new("/run/systemd/system").is_dir() {
        run(Command::new("systemctl").arg("reboot"))?;
        loop {
            thread::park();
        }
    }
    let everyone_else = Pid::from_raw(-1);
    // ESRCH: nobody else is there.
    let _ = kill(everyone_else, Signal::SIGTERM);
    thread::sleep(Duration::from_secs(1));
    let _ = kill(everyone_else, Signal::SIGKILL);
    sync();
    // A file still open for writing keeps the disk writable; it is synced all the same.
    let _ = umount("/run");
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let _ = mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>);
    Ok(reboot(RebootMode::RB_AUTOBOOT)?)
}
