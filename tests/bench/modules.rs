//! How long Open vSwitch is gone while the loaded modules are exchanged: Pointsman's way beside
//! that of `ovs-ctl force-reload-kmod`, and beside what nobody can do without, loading the
//! module and starting the daemons.

use crate::failed;
use crate::table::{self, Spread, row};
use support::node::{Node, PROFILES};
use support::vm::Result;

/// See `Journal::begin_progress` for its columns.
const PROGRESS: &str = "/var/lib/pointsman/progress";
const SCRIPT: &str = "/usr/share/openvswitch/scripts/ovs-ctl";
/// A bridge of the kernel's datapath with an internal port, a group and some flows.
const BRIDGE: &str = "set -e; ovs-vsctl --timeout=20 add-br br-int -- add-port br-int mgmt0 -- \
     set Interface mgmt0 type=internal; ip address add 192.168.77.1/24 dev mgmt0; \
     ip link set mgmt0 up; \
     ovs-ofctl -O OpenFlow15 add-group br-int group_id=5,type=select,bucket=output:1; \
     for n in 1 2 3 4 5 6 7 8 9; do \
         ovs-ofctl -O OpenFlow15 add-flow br-int table=3,priority=$n,udp,actions=group:5; \
     done";

#[derive(Default)]
struct Ways {
    ours: Spread,
    theirs: Spread,
    floor: Spread,
}

pub(crate) fn measure(runs: usize) -> Result<()> {
    let mut ways = Ways::default();
    for run in 1..=runs {
        eprintln!("modules: run {run} of {runs}");
        ways.ours.push(ours()?);
        ways.theirs.push(theirs()?);
        ways.floor.push(floor()?);
    }
    let whole = ways.floor.median();
    let times = |spread: &Spread| format!("{:.2}", spread.median() / whole);
    let mut rows = vec![row([&"way", &"seconds", &"of the least"])];
    for (name, spread) in [
        ("pointsman apply", &ways.ours),
        ("ovs-ctl force-reload-kmod", &ways.theirs),
        ("modprobe and ovs-ctl start alone", &ways.floor),
    ] {
        rows.push(row([&name, spread, &times(spread)]));
    }
    table::print("exchange of the loaded modules, from Open vSwitch stopped to started", &rows);
    Ok(())
}

fn node() -> Result<Node> {
    let node = Node::start()?;
    node.configure(&PROFILES.replace("addresses = \"bridge\"", "addresses = \"leave\""))?;
    node.vm.sh(BRIDGE)?;
    Ok(node)
}

/// From the end of the step that stops the daemons to the end of the one that starts them.
fn ours() -> Result<f64> {
    let node = node()?;
    node.agent("apply --profile nsx-ovs")?;
    let progress = node.vm.sh(&format!("cat {PROGRESS}"))?;
    let lines: Vec<&str> = progress.lines().collect();
    let behind = |words: &str| {
        let at = lines.iter().position(|line| line.contains(words))?;
        lines.get(at + 1)?.split(' ').next()?.parse::<f64>().ok()
    };
    let window = behind("stop the host's").zip(behind("start the host's"));
    let (stopped, started) = window.ok_or_else(|| failed(format!("no window in:\n{progress}")))?;
    Ok((started - stopped) / 1000.0)
}

/// The same of what the script says, each line with the time at which it is complete.
fn theirs() -> Result<f64> {
    let node = node()?;
    node.agent("modules apply --to payload --activate reboot")?;
    let said = node.vm.sh(&format!(
        "{SCRIPT} --system-id=random force-reload-kmod 2>&1 | \
         while read -r line; do echo \"$(date +%s.%N) $line\"; done"
    ))?;
    let time = |words: &str| -> Option<f64> {
        let line = said.lines().rfind(|line| line.contains(words))?;
        line.split(' ').next()?.parse().ok()
    };
    let window = time("ovsdb-server (").zip(time("Starting ovs-vswitchd"));
    let (stopped, started) = window.ok_or_else(|| failed(format!("no window in:\n{said}")))?;
    Ok(started - stopped)
}

fn floor() -> Result<f64> {
    let node = node()?;
    let took = node.vm.sh(&format!(
        "{{ {SCRIPT} stop; ovs-dpctl del-dp ovs-system; rmmod openvswitch; }} >/dev/null 2>&1; \
         a=$(date +%s.%N); modprobe openvswitch; {SCRIPT} --system-id=random start >/dev/null 2>&1; \
         b=$(date +%s.%N); echo $a $b"
    ))?;
    let times: Vec<f64> = took.split(' ').filter_map(|word| word.parse().ok()).collect();
    match times.as_slice() {
        [begin, end] => Ok(end - begin),
        _ => Err(failed(format!("no times in {took:?}"))),
    }
}
