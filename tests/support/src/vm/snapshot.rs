//! VMs that were booted before and stand in the cache, memory and all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::bed::{Bed, Image, stdout};
use super::error::{Result, VmError};
use super::{Vm, network, node_units, qemu, qmp};

/// Snapshots nobody used for so long are of former programs.
const STALE: Duration = Duration::from_secs(14 * 24 * 3600);

/// The overlay that holds the snapshot of an image, made under a lock where absent.
pub(super) fn find_or_make(bed: &Bed, image: Image) -> Result<PathBuf> {
    let name = image.snapshot();
    let dir = bed.part("snapshots");
    let at = |what: &str, e: &dyn std::fmt::Display| {
        VmError::new(format!("{what} in {}: {e}", dir.display()))
    };
    fs::create_dir_all(&dir).map_err(|e| at("create", &e))?;
    let file = dir.join(format!("{name}-{}.qcow2", key(bed)?));
    let lock = File::create(dir.join(".lock")).map_err(|e| at("open the lock", &e))?;
    lock.lock().map_err(|e| at("lock", &e))?;
    if !file.exists() {
        remove_stale(&dir);
        make(image, &file)?;
    }
    // Says when it was used last.
    File::options()
        .append(true)
        .open(&file)
        .and_then(|f| f.set_modified(SystemTime::now()))
        .map_err(|e| at("touch the snapshot", &e))?;
    Ok(file)
}

/// Everything that a snapshot's contents follow from, the parts of the bed apart,
/// which have a folder of their own.
fn key(bed: &Bed) -> Result<String> {
    let program = fs::read(bed.program())
        .map_err(|e| VmError::new(format!("read {}: {e}", bed.program().display())))?;
    let version = stdout(Command::new("qemu-system-x86_64").arg("--version"))?;
    let mut hash = Sha256::new();
    hash.update(program);
    hash.update(version);
    hash.update(qemu::machine(bed.accel()).join("\0"));
    hash.update(qemu::KERNEL_LINE);
    hash.update(network::SOURCE);
    hash.update(node_units::SOURCE);
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

fn make(image: Image, file: &Path) -> Result<()> {
    let vm = Vm::boot_image(image)?;
    match image {
        Image::Bed => {
            vm.node_network()?;
            vm.start_ovs()?;
        }
        Image::Systemd => vm.systemd_node()?,
    }
    vm.sh("sync")?;
    let name = image.snapshot();
    qmp::monitor(&vm.dir.join("qmp.sock"), &format!("savevm {name}")).map_err(|e| vm.explain(e))?;
    // Stopped, so that nothing is written while the file is taken away.
    vm.qmp("stop", &serde_json::json!({}))?;
    let part = file.with_extension("part");
    stdout(
        Command::new("cp")
            .args(["--sparse=always", "--"])
            .args([vm.dir.join("root.qcow2"), part.clone()]),
    )?;
    fs::rename(&part, file).map_err(|e| VmError::new(format!("rename {}: {e}", part.display())))
}

fn remove_stale(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > STALE) {
            // Somebody else may have done so; the cache is none the worse for it.
            drop(fs::remove_file(entry.path()));
        }
    }
}
