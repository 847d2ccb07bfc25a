//! Where it was measured: without this no figure means anything.

use crate::table::{print as table, row};
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
    table(
        "machine",
        &[
            row([&"cores", &cores]),
            row([&"processor", &model.trim_start_matches([' ', '\t', ':'])]),
            row([&"load at the start", &load.join(" ")]),
            row([&"kernel", &kernel.trim()]),
            row([&"VM", &format!("2 processors, 512 MiB, {accel}")]),
            row([&"VM's kernel", &bed.kernel()]),
            row([&"runs", &runs]),
        ],
    );
    println!("Figures are medians (least..most). Load of others shows in them: compare columns,");
    println!("and runs on one machine, not machines.");
    Ok(())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
