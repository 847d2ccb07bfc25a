//! The host: whether module trees can be written to, and whether now is the moment.

use crate::model::{KernelModules, Observed, Room};
use crate::plan::Refusal;

/// Beside the files of the set: directories, the override, what depmod writes, temporary names.
const INODES: u64 = 64;

/// Trees that belong to an image, or lie where depmod and the kernel would not look.
pub(super) fn writable(observed: &Observed) -> Result<(), Refusal> {
    let footing = &observed.modules.footing;
    if let Some(why) = &footing.read_only {
        let message = format!(
            "the module trees cannot be changed: {why}. Modules for such a host belong into its image"
        );
        return Err(Refusal::new("HostReadOnly", message));
    }
    if let Some(elsewhere) = &footing.elsewhere {
        let message = format!(
            "the module trees really lie in {elsewhere}: what is put there may not be what the \
             next boot sees"
        );
        return Err(Refusal::new("PathNotCanonical", message));
    }
    Ok(())
}

/// A tree that a kernel can be booted with.
pub(super) fn whole_tree(kernel: &KernelModules, observed: &Observed) -> Result<(), Refusal> {
    let Some(footing) = observed.modules.footing.kernels.get(&kernel.release) else {
        return Ok(());
    };
    let release = &kernel.release;
    if !footing.missing.is_empty() {
        let missing = footing.missing.join(", ");
        let message = format!(
            "the tree of the kernel {release} lacks {missing}: it looks like what a removed kernel \
             left. Install the kernel again, or remove the tree"
        );
        return Err(Refusal::new("KernelTreeIncomplete", message));
    }
    if let Some((path, target)) = footing.linked.first_key_value() {
        let message = format!("{path} is a link to {target}, where a directory was expected");
        return Err(Refusal::new("PathNotCanonical", message));
    }
    footing.room.map_or(Ok(()), |room| enough(release, room))
}

/// The set, the user's backup and a half-written copy beside each; the index twice, because
/// depmod writes the new one beside the old.
fn enough(release: &str, room: Room) -> Result<(), Refusal> {
    let needed = room.set.saturating_mul(3).saturating_add(room.index.saturating_mul(2));
    if room.free < needed {
        let message = format!(
            "the file system of the kernel {release}'s modules has {} KiB left, and a switch may \
             take {} KiB",
            room.free / 1024,
            needed.div_ceil(1024)
        );
        return Err(Refusal::new("NoSpace", message));
    }
    if let Some(inodes) = room.inodes.filter(|inodes| *inodes < INODES) {
        let message = format!(
            "the file system of the kernel {release}'s modules has {inodes} inodes left, and a \
             switch may take {INODES}"
        );
        return Err(Refusal::new("NoSpace", message));
    }
    Ok(())
}

/// A package manager may write and remove the very files, and depmod knows no lock.
pub(super) fn quiet(observed: &Observed) -> Result<(), Refusal> {
    let Some(busy) = &observed.modules.footing.busy else { return Ok(()) };
    let who = match busy.pid {
        Some(pid) => format!("{} (process {pid})", busy.name),
        None => busy.name.clone(),
    };
    let holds = busy.lock.as_ref().map(|lock| format!(" and holds {lock}")).unwrap_or_default();
    let message = format!(
        "{who} is at work{holds}: module files and their index may change under the switch, which \
         waits for it"
    );
    Err(Refusal::transient("PackageManagerBusy", message))
}
