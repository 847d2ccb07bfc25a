//! Where it was measured: without this no figure means anything.

use std::fs;
use std::thread;
use support::vm::{Accel, Bed, Result};

pub(crate) fn print(runs: usize) -> Result<()> {
    let bed = Bed::locate()?;
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let kernel = read("/proc/sys/kernel/osrelease");
    let accel = match bed.accel() {
        Accel::Tcg => "TCG (QEMU executes every instruction itself)",
        Accel::Kvm => "KVM",
    };
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    println!("machine");
    let vm = format!("2 processors, 512 MiB, {accel}");
    let facts = [
        ("cores", cores.to_string()),
        ("processor", model.trim_start_matches([' ', '\t', ':']).to_owned()),
        ("load at the start", load.join(" ")),
        ("kernel", kernel.trim().to_owned()),
        ("VM", vm),
        ("VM's kernel", bed.kernel().to_owned()),
        ("runs", runs.to_string()),
    ];
    for (name, fact) in facts {
        println!("  {name:<18} {fact}");
    }
    println!("Figures are medians (least..most). Load of others shows in them: compare columns,");
    println!("and runs on one machine, not machines.");
    Ok(())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
