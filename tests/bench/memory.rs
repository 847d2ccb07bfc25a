//! What the agent costs a node while nobody wants anything of it.

use crate::failed;
use crate::table::{self, Spread, row};
use pointsman_core::keys;
use serde_json::Value;
use std::path::Path;
use std::thread;
use std::time::Duration;
use support::cluster::ControlPlane;
use support::node::{NAME, Node};
use support::program;
use support::vm::{Ended, Result};

const NAMESPACE: &str = "pointsman-system";
/// After its start, of which only the first look at the host and the first report are work.
const SETTLED: Duration = Duration::from_secs(20);

/// Of `/proc/PID/status`, in KiB.
const FIELDS: [(&str, &str); 4] = [
    ("VmRSS", "resident"),
    ("RssAnon", "of it the agent's alone (anonymous)"),
    ("RssFile", "of it pages of the binary, which the kernel may drop"),
    ("VmHWM", "most that was ever resident"),
];

pub(crate) fn measure(runs: usize) -> Result<()> {
    let plane = ControlPlane::start();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/base");
    plane.kubectl(&["apply", "--server-side", "-k", &base.display().to_string()]);
    plane.create_node(NAME);
    let token = plane.service_account_token(NAMESPACE, "pointsman", NAME);

    let node = Node::start()?;
    let mut spreads = vec![Spread::default(); FIELDS.len()];
    for run in 1..=runs {
        eprintln!("memory: run {run} of {runs}");
        let agent = node.run_agent(&token, &plane.ca(), plane.port())?;
        thread::sleep(SETTLED);
        // an agent that could not reach its API server would be small and idle too
        if !reported(&plane) {
            let log = agent.log()?;
            return Err(failed(format!("no report on the Node after {SETTLED:?}:\n{log}")));
        }
        let status = node.vm.sh(&format!("cat /proc/{}/status", agent.pid))?;
        for ((field, _), spread) in FIELDS.iter().zip(&mut spreads) {
            let kib = kib(&status, field);
            spread.push(kib.ok_or_else(|| failed(format!("no {field} in\n{status}")))? / 1024.0);
        }
        agent.signal(nix::libc::SIGTERM)?;
        if agent.wait(Duration::from_secs(30))? == Ended::TimedOut {
            return Err(failed(format!("SIGTERM did not end the agent:\n{}", agent.log()?)));
        }
        let annotation = format!("{}-", keys::STATE);
        plane.kubectl(&["annotate", "node", NAME, &annotation]);
    }
    let mut rows = vec![row([&"idle agent, 20 s after its start", &"MiB"])];
    for ((field, words), spread) in FIELDS.iter().zip(&spreads) {
        rows.push(row([&format!("{field}: {words}"), spread]));
    }
    let binary = program::release("pointsman").map_err(failed)?;
    let size = std::fs::metadata(&binary).map_err(failed)?.len();
    let size = Spread::from_iter([f64::from(u32::try_from(size).map_err(failed)?) / 1048576.0]);
    rows.push(row([&"the static binary on disk", &size]));
    table::print("memory", &rows);
    Ok(())
}

fn reported(plane: &ControlPlane) -> bool {
    let node = plane.kubectl(&["get", "node", NAME, "--output=json"]);
    serde_json::from_str::<Value>(&node)
        .is_ok_and(|node| node["metadata"]["annotations"][keys::STATE].is_string())
}

fn kib(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
