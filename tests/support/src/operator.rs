//! What an operator does: annotates the Node and reads its annotations.

use crate::cluster::ControlPlane;
use crate::node::{NAME, Node};
use crate::vm::{Result, Running, VmError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The prefix of the annotations.
const PREFIX: &str = "pointsman.io/";

/// A control plane that knows the node, with the agent's manifests applied.
#[derive(Debug)]
pub struct Operator {
    /// The API server.
    pub cluster: ControlPlane,
}

/// The agent's annotations, without the prefix.
pub type Report = BTreeMap<String, String>;

impl Operator {
    /// Starts the API server, applies `manifests/base` and creates the Node. Nothing runs
    /// the `DaemonSet`'s pod here: there is no kubelet, and the agent is started by hand.
    ///
    /// # Panics
    /// Where the API server refuses the manifests.
    pub fn start(node: &Node) -> Self {
        let cluster = ControlPlane::start();
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/base");
        cluster.kubectl(&["apply", "-k", manifests.to_str().unwrap()]);
        cluster.create_node(NAME);
        let operator = Self { cluster };
        operator.tell_boot_id(node);
        operator
    }

    /// Plays the kubelet, which tells of each boot.
    ///
    /// # Panics
    /// Where the API server refuses it.
    pub fn tell_boot_id(&self, node: &Node) {
        let status = format!(r#"{{"status":{{"nodeInfo":{{"bootID":"{}"}}}}}}"#, node.vm.boot_id());
        let patch = ["patch", "node", NAME, "--subresource=status", "--type=merge", "-p", &status];
        self.cluster.kubectl(&patch);
    }

    /// Starts the agent on the node with its own token.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn start_agent<'a>(&self, node: &'a Node) -> Result<Running<'a>> {
        let token = self.cluster.service_account_token("pointsman-system", "pointsman", NAME);
        node.run_agent(&token, &self.cluster.ca(), self.cluster.port())
    }

    /// Puts the agent's own token where a kubelet of the VM finds it.
    ///
    /// # Errors
    /// Where the VM does not answer.
    pub fn put_secrets(&self, node: &Node, to: &str) -> Result<()> {
        let token = self.cluster.service_account_token("pointsman-system", "pointsman", NAME);
        node.put_secrets(to, &token, &self.cluster.ca())
    }

    /// `kubectl annotate node … pointsman.io/retry=…`
    ///
    /// # Panics
    /// Where the API server refuses it.
    pub fn retry(&self, word: &str) {
        let annotation = format!("{PREFIX}retry={word}");
        self.cluster.kubectl(&["annotate", "--overwrite", "node", NAME, &annotation]);
    }

    /// `kubectl annotate node … pointsman.io/desired-profile=…`
    ///
    /// # Panics
    /// Where the API server refuses it.
    pub fn ask(&self, profile: &str) {
        let annotation = format!("{PREFIX}desired-profile={profile}");
        self.cluster.kubectl(&["annotate", "--overwrite", "node", NAME, &annotation]);
    }

    /// The Node's annotations of ours, without the prefix; empty while the API is away.
    pub fn annotations(&self) -> Report {
        let output = self.cluster.try_kubectl(&["get", "node", NAME, "-o", "json"]);
        let node: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let ours = node["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        ours.into_iter()
            .filter_map(|(key, value)| {
                Some((key.strip_prefix(PREFIX)?.to_owned(), value.as_str()?.to_owned()))
            })
            .collect()
    }

    /// Waits until the report answers the present request, of this boot, with an end; tells
    /// of every change on the way.
    ///
    /// # Errors
    /// With the last report, where that takes too long.
    pub fn wait(
        &self,
        node: &Node,
        limit: Duration,
        mut changed: impl FnMut(&Report, &Report),
    ) -> Result<Report> {
        let start = Instant::now();
        let mut last = Report::new();
        while start.elapsed() < limit {
            let now = self.annotations();
            if now != last {
                changed(&last, &now);
                last = now;
            }
            let asked = last.get("desired-profile").map(|profile| match last.get("retry") {
                Some(word) => format!("{profile};retry={word}"),
                None => profile.clone(),
            });
            let fresh = last.get("observed") == asked.as_ref()
                && last.get("boot-id") == Some(&node.vm.boot_id());
            let ended = last.get("state").is_some_and(|state| state != "Working");
            if fresh && ended {
                return Ok(last);
            }
            thread::sleep(Duration::from_millis(200));
        }
        let node = node
            .vm
            .sh("tail -n 3 /var/lib/pointsman/progress; cat /proc/loadavg /proc/uptime; ps aux | tail -n 15")
            .unwrap_or_else(|error| format!("{error:?}"));
        let limit = limit.as_secs();
        Err(VmError::new(format!("no end after {limit} s; the last report: {last:#?}\n{node}")))
    }
}
