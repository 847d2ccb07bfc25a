//! A node in a VM with the agent on it, as the tests, the demo and the benchmark use it.

use crate::payload::{self, CNI_VERSION, ModuleSet};
use crate::program;
use crate::vm::{Bed, Command, HOST, Image, Output, Result, Running, Vm, VmError};
use serde_json::Value;
use std::fs;
use std::time::Duration;
use walkdir::WalkDir;

/// Where the agent lies in the VM.
pub const AGENT: &str = "/usr/local/bin/pointsman";
/// The node's name in the cluster.
pub const NAME: &str = "node-a";
/// The configuration's place in the VM.
pub const CONFIG: &str = "/etc/pointsman/config.toml";

/// Two profiles, one there and one back, exchanging the loaded modules at once.
pub const PROFILES: &str = r#"
[node]
uplink = "eth1"
bridge = "br-int"
# the tests give it its addresses, as nothing does at boot
accept = ["UplinkNotPersistent"]

[profiles.nsx-ovs]
modules = "payload"
cni = "payload"
addresses = "bridge"

[profiles.upstream-ovs]
modules = "in-tree"
cni = "payload"
addresses = "uplink"

[switch]
activate = "live"
"#;

/// A node with the agent, its configuration and its payload; Open vSwitch is running,
/// the addresses are on the uplink, there is no bridge.
#[derive(Debug)]
pub struct Node {
    /// The machine.
    pub vm: Vm,
}

/// What a node may well have beside its addresses and simple routes: a bridge made before, a
/// labelled address, multipath, a second table and a rule that asks it, a locked MTU, a push
/// of MPLS labels, a static neighbour. Nothing of it is in the way of [`crate::vm::Traffic`].
const MORE: &str = "
set -e
ovs-vsctl --timeout=30 add-br br-int
ip address add 10.0.2.17/24 dev eth1 label eth1:vip
ip route add 10.97.0.0/24 nexthop via 10.0.2.77 dev eth1 nexthop via 10.0.2.2 dev eth1 weight 2
ip route add default via 10.0.2.77 dev eth1 table 100
ip route add 10.98.0.0/24 via 10.0.2.77 dev eth1 metric 50 mtu lock 1400
ip rule add iif eth1 lookup 100 priority 1000
modprobe mpls_iptunnel
ip route add 10.96.0.0/24 encap mpls 100/200 via 10.0.2.77 dev eth1
ip neighbour add 10.0.2.200 lladdr 02:00:00:00:00:c8 dev eth1 nud permanent
";

impl Node {
    /// From the snapshot.
    ///
    /// # Errors
    /// Where the VM does not come up.
    pub fn start() -> Result<Self> {
        let bed = Bed::locate()?;
        let set = ModuleSet { dir: bed.modules("nsx"), kernel: bed.kernel().to_owned() };
        Self::with_payload(&[set])
    }

    /// From the snapshot, with other module sets.
    ///
    /// # Errors
    /// Where the VM does not come up.
    pub fn with_payload(sets: &[ModuleSet]) -> Result<Self> {
        Self::of(Image::Bed, sets)
    }

    /// Like [`Self::start`], with systemd as process 1.
    ///
    /// # Errors
    /// Where the VM does not come up.
    pub fn with_systemd() -> Result<Self> {
        let bed = Bed::locate()?;
        let set = ModuleSet { dir: bed.modules("nsx"), kernel: bed.kernel().to_owned() };
        Self::of(Image::Systemd, &[set])
    }

    fn of(image: Image, sets: &[ModuleSet]) -> Result<Self> {
        let node = Self { vm: Vm::from_snapshot(image)? };
        let agent = program::release("pointsman").map_err(VmError::new)?;
        node.vm.put_file(&agent, AGENT)?;
        node.put_payload(sets, "/payload")?;
        // longer than an emulated machine that starves takes to answer
        node.configure(&format!("{PROFILES}confirm_timeout = \"2m\"\n"))?;
        Ok(node)
    }

    /// Writes a payload directory.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn put_payload(&self, sets: &[ModuleSet], to: &str) -> Result<()> {
        let dir = tempfile::tempdir().map_err(|error| VmError::new(error.to_string()))?;
        payload::write(dir.path(), sets, CNI_VERSION);
        for entry in WalkDir::new(dir.path()).into_iter().flatten() {
            if entry.file_type().is_file() {
                let inside = entry.path().strip_prefix(dir.path()).unwrap_or(entry.path());
                self.vm.put_file(entry.path(), &format!("{to}/{}", inside.display()))?;
            }
        }
        Ok(())
    }

    /// Gives the uplink what a grown node has: every kind of thing that movers forget.
    ///
    /// # Errors
    /// Where the VM does not take it.
    pub fn grow(&self) -> Result<()> {
        self.vm.sh(MORE).map(drop)
    }

    /// Replaces the configuration.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn configure(&self, text: &str) -> Result<()> {
        self.vm.put(CONFIG, text.as_bytes(), 0o644)
    }

    /// Runs the agent to its end, however it ends. The configuration is named.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn try_agent(&self, arguments: &str) -> Result<Output> {
        self.vm.run(&agent(arguments).within(Duration::from_secs(240)))
    }

    /// Runs the agent; it has to succeed.
    ///
    /// # Errors
    /// With all that it printed, where it did not.
    pub fn agent(&self, arguments: &str) -> Result<String> {
        let output = self.try_agent(arguments)?;
        output.succeeded().map_err(|error| {
            let log = self.vm.sh("tail -n 30 /var/log/openvswitch/ovs-vswitchd.log");
            VmError::new(format!("{error}\nvswitchd's log:\n{}", log.unwrap_or_default()))
        })?;
        Ok(output.stdout)
    }

    /// Starts the agent and leaves it running.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn start_agent(&self, arguments: &str) -> Result<Running<'_>> {
        self.vm.spawn(&agent(arguments))
    }

    /// Writes what a kubelet mounts into the agent's pod.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn put_secrets(&self, to: &str, token: &str, ca: &std::path::Path) -> Result<()> {
        let ca = fs::read(ca).map_err(|error| VmError::new(error.to_string()))?;
        self.vm.put(&format!("{to}/token"), token.as_bytes(), 0o600)?;
        self.vm.put(&format!("{to}/ca.crt"), &ca, 0o644)?;
        self.vm.put(&format!("{to}/namespace"), b"pointsman-system", 0o644)
    }

    /// Starts `pointsman run` with the agent's own token, the API server being reached
    /// through the uplink only.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn run_agent(&self, token: &str, ca: &std::path::Path, port: u16) -> Result<Running<'_>> {
        self.put_secrets("/var/run/secrets/kubernetes.io/serviceaccount", token, ca)?;
        let command = agent("run")
            .env("NODE_NAME", NAME)
            .env("KUBERNETES_SERVICE_HOST", HOST)
            .env("KUBERNETES_SERVICE_PORT", &port.to_string());
        self.vm.spawn(&command)
    }

    /// Starts what a look at the host takes for a kubelet: a process of that name.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn run_kubelet(&self) -> Result<Running<'_>> {
        const KUBELET: &str = "/usr/local/bin/kubelet";
        self.vm.put(KUBELET, b"#!/bin/sh\nwhile :; do sleep 1; done\n", 0o755)?;
        self.vm.spawn(&Command::new([KUBELET]))
    }

    /// What `pointsman observe` says.
    ///
    /// # Errors
    /// Where it fails.
    pub fn observe(&self) -> Result<Value> {
        let text = self.agent("observe")?;
        serde_json::from_str(&text).map_err(|error| VmError::new(format!("{error}: {text}")))
    }

    /// The loaded openvswitch's build id, as the kernel says it; empty when none is loaded.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn loaded_build_id(&self) -> Result<String> {
        self.vm.sh("f=/sys/module/openvswitch/notes/.note.gnu.build-id; \
             [ ! -e $f ] || od -An -v -tx1 -j16 $f | tr -d ' \\n'")
    }

    /// Addresses, routes and rules in an order that does not depend on history, as `ip` says
    /// it; the names of links are kept.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn ip_state(&self) -> Result<String> {
        self.vm.sh(
            "ip -o address show scope global | sed 's/^[0-9]*: //' | sort; \
             ip -4 route show table main | sort; ip -6 route show table main | grep -v '^fe80\\|^multicast' | sort; \
             ip rule; ip -6 rule",
        )
    }
}

fn agent(arguments: &str) -> Command {
    let words = [AGENT, "--config", CONFIG].into_iter().chain(arguments.split_whitespace());
    Command::new(words)
}
