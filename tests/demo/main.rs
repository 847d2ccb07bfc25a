//! The main job, shown on a real node in a VM with a real control plane. See `scripts/demo`.

use std::env;
use std::io::{self, BufRead as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::node::{NAME, Node};
use support::operator::{Operator, Report};
use support::payload;
use support::vm::{self, Bed, Result, Traffic, VmError};

/// Slow machines emulate slowly.
const LONG: Duration = Duration::from_secs(600);
/// What is worth a line while a switch goes on.
const SHOWN: [&str; 8] = [
    "state",
    "phase",
    "reason",
    "current-profile",
    "ovs-module",
    "address-owner",
    "cni-version",
    "message",
];

/// What one switch proved.
struct Proof {
    profile: &'static str,
    report: Report,
    loaded: String,
    addresses: String,
    traffic: vm::Report,
    took: Duration,
}

fn main() -> ExitCode {
    let keep = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--keep" => true,
        other => {
            eprintln!("demo: unknown arguments {other:?}; usage: scripts/demo [--keep]");
            return ExitCode::FAILURE;
        }
    };
    match show(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn show(keep: bool) -> Result<()> {
    let start = Instant::now();
    say(start, "starting a node: a VM with Debian's kernel and Open vSwitch");
    let node = Node::start()?;
    say(start, "starting a control plane: etcd and kube-apiserver, and applying manifests/base");
    let operator = Operator::start(&node);
    say(
        start,
        "starting the agent on the node, with its own token; it reaches the API server by eth1 only",
    );
    let agent = operator.start_agent(&node)?;
    println!("\nBefore:\n{}\n", indent(&node.ip_state()?));
    let explained = (|| {
        let there = switch(start, &node, &operator, "nsx-ovs")?;
        let back = switch(start, &node, &operator, "upstream-ovs")?;
        Ok((there, back))
    })();
    let (there, back) = explained.map_err(|error: VmError| {
        VmError::new(format!("{error:?}\nthe agent said:\n{}", agent.log().unwrap_or_default()))
    })?;
    table(&there, &back)?;
    println!("\ntook {} s", start.elapsed().as_secs());
    if keep {
        look_in(&node, &operator)?;
    }
    Ok(())
}

fn switch(
    start: Instant,
    node: &Node,
    operator: &Operator,
    profile: &'static str,
) -> Result<Proof> {
    let traffic = Traffic::start(&node.vm)?;
    println!("\n$ kubectl annotate --overwrite node {NAME} pointsman.io/desired-profile={profile}");
    let began = Instant::now();
    operator.ask(profile);
    println!(
        "$ kubectl get node {NAME} --watch     # the annotations under pointsman.io/, as they change"
    );
    let report = operator.wait(node, LONG, |old, new| {
        for key in SHOWN {
            let value = new.get(key).map_or("", String::as_str);
            if old.get(key).map_or("", String::as_str) != value && !value.is_empty() {
                say(start, &format!("  {key}: {value}"));
            }
        }
    })?;
    let took = began.elapsed();
    let traffic = traffic.stop()?;
    if report.get("state").map(String::as_str) != Some("Done") {
        return Err(VmError::new(format!("the node did not get to {profile}: {report:#?}")));
    }
    let addresses =
        node.vm.sh("ip -o address show scope global | awk '$2 != \"lo\" {print $2}' | sort -u")?;
    Ok(Proof { profile, report, loaded: node.loaded_build_id()?, addresses, traffic, took })
}

/// What it proved, each line against a witness that is not the agent.
fn table(there: &Proof, back: &Proof) -> Result<()> {
    let nsx = payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko"));
    let whose = |id: &str| if id == nsx { "the payload's" } else { "the kernel's own" };
    let row = |name: &str, value: &dyn Fn(&Proof) -> String| {
        println!("{name:<36} {:<44} {}", value(there), value(back));
    };
    println!();
    row("what it proved", &|p| format!("after {}", p.profile));
    row("loaded openvswitch, by build id", &|p| {
        format!("{} {}", p.loaded.chars().take(12).collect::<String>(), whose(&p.loaded))
    });
    row("  as the Node reports it", &|p| p.report["ovs-module"].chars().take(40).collect());
    row("CNI version", &|p| p.report["cni-version"].clone());
    row("addresses are on (ip address)", &|p| p.addresses.replace('\n', ", "));
    row("  as the Node reports it", &|p| p.report["address-owner"].clone());
    row("packets lost, of those sent", &|p| {
        let sent: u64 = p.traffic.probes.values().map(|probe| probe.sent).sum();
        format!("{} of {sent}", p.traffic.lost())
    });
    row("longest gap", &|p| {
        let gap = p.traffic.probes.values().map(|probe| probe.longest_gap_ms).fold(0.0, f64::max);
        format!("{gap:.0} ms")
    });
    row("open TCP connection", &|p| {
        if p.traffic.tcp.broken { "broken".into() } else { "whole".into() }
    });
    row("switch took", &|p| format!("{:.1} s (emulated processor)", p.took.as_secs_f64()));
    if whose(&there.loaded) == whose(&back.loaded) {
        return Err(VmError::new("the same module is loaded there and back"));
    }
    Ok(())
}

fn look_in(node: &Node, operator: &Operator) -> Result<()> {
    let kubeconfig = operator.cluster.admin_kubeconfig();
    println!(
        "\nIt stays up until you press Enter. Look in from another terminal, in its network namespace:"
    );
    println!(
        "  nsenter --net=/proc/{}/ns/net kubectl --kubeconfig {} get node {NAME} -o yaml",
        std::process::id(),
        kubeconfig.display()
    );
    println!("\nOr type a command for the node here:");
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| VmError::new(error.to_string()))?;
        if line.trim().is_empty() {
            break;
        }
        let output = node.vm.run(&vm::Command::sh(&line))?;
        print!("{}{}", output.stdout, output.stderr);
    }
    Ok(())
}

fn say(start: Instant, words: &str) {
    println!("[{:>4} s] {words}", start.elapsed().as_secs());
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
