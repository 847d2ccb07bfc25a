//! The agent's node module against the real API server, with the agent's own
//! credentials: what it writes, what it leaves alone, what it is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman::node::{Node, NodeError, Options, Outbox, Requests, Seen};
use pointsman_core::error::Reasoned as _;
use pointsman_core::keys;
use pointsman_core::plan::handover::Owner;
use pointsman_core::report::{Report, State};
use serde_json::Value;
use support::cluster::ControlPlane;
use tokio::runtime::Runtime;

use crate::{alone, shared};

pub(crate) const NAMESPACE: &str = "pointsman-system";
/// What a person at the keyboard waits for.
pub(crate) const SOON: Duration = Duration::from_secs(2);
/// Far above what anything here takes; a test that meets it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The agent of one node, as far as it speaks to the API server.
pub(crate) struct Agent {
    // dropped in this order: the tasks end before their runtime
    pub(crate) node: Node,
    pub(crate) requests: Requests,
    pub(crate) outbox: Outbox,
    runtime: Runtime,
    _kubeconfig: tempfile::TempDir,
}

impl Agent {
    /// Follows `node` with a token, at `server`.
    pub(crate) fn connect(node: &str, server: &str, ca: Option<&Path>, token: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig(dir.path(), server, ca, token);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = Options {
            kubeconfig: Some(kubeconfig),
            call_limit: Duration::from_secs(2),
            ..Options::in_cluster(node)
        };
        let node = runtime.block_on(Node::connect(options)).unwrap();
        let (requests, outbox) = (node.requests(), node.outbox());
        Self { node, requests, outbox, runtime, _kubeconfig: dir }
    }

    /// What a pod of the `DaemonSet` on that node would be.
    pub(crate) fn of(plane: &ControlPlane, node: &str) -> Self {
        deploy(plane);
        let token = plane.service_account_token(NAMESPACE, "pointsman", node);
        Self::with_token(plane, node, &token)
    }

    fn with_token(plane: &ControlPlane, node: &str, token: &str) -> Self {
        let server = format!("https://127.0.0.1:{}", plane.port());
        Self::connect(node, &server, Some(&plane.ca()), token)
    }

    pub(crate) fn next(&mut self, limit: Duration) -> Option<Seen> {
        let next = async { tokio::time::timeout(limit, self.requests.next()).await };
        self.runtime.block_on(next).ok().flatten()
    }

    /// Posts, and waits until the report is on the Node or dropped.
    pub(crate) fn publish(&self, uid: &str, report: &Report) {
        self.outbox.post(uid, report.clone());
        assert!(self.flush(LONG), "not delivered: {:?}", self.outbox.trouble());
    }

    pub(crate) fn flush(&self, limit: Duration) -> bool {
        self.runtime.block_on(self.outbox.flush(limit))
    }

    pub(crate) fn rebuild(&self) {
        self.runtime.block_on(self.node.rebuild()).unwrap();
    }
}

/// Where an agent finds a server, written below `dir`.
pub(crate) fn kubeconfig(dir: &Path, server: &str, ca: Option<&Path>, token: &str) -> PathBuf {
    std::fs::write(dir.join("token"), token).unwrap();
    let mut cluster = serde_json::json!({ "server": server });
    if let Some(ca) = ca {
        cluster["certificate-authority"] = ca.to_str().into();
    }
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{ "name": "c", "cluster": cluster }],
        "users": [{ "name": "u", "user": { "tokenFile": dir.join("token") } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    let path = dir.join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

pub(crate) fn report(message: &str) -> Report {
    Report {
        observed: "nsx-ovs".into(),
        current_profile: None,
        previous_profile: None,
        state: State::Working,
        phase: None,
        reason: "Switching".into(),
        message: message.into(),
        boot_id: "7d1f".into(),
        transition_time: "2026-01-02T03:04:05Z".into(),
        agent_version: "0.1.0".into(),
        ovs_module: None,
        address_owner: Some(Owner::Bridge),
        cni_version: None,
        uplink_mtu: Some(1500),
        kernels: "6.1.0 ready=both set=nsx boot=running".into(),
        warning: None,
    }
}

pub(crate) fn deploy(plane: &ControlPlane) {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/base");
    plane.kubectl(&["apply", "--server-side", "-k", base.to_str().unwrap()]);
}

pub(crate) fn metadata(plane: &ControlPlane, node: &str) -> Value {
    let arguments = ["get", "node", node, "--output=json", "--show-managed-fields"];
    let node: Value = serde_json::from_str(&plane.kubectl(&arguments)).unwrap();
    node["metadata"].clone()
}

pub(crate) fn annotations(plane: &ControlPlane, node: &str) -> BTreeMap<String, String> {
    let annotations = metadata(plane, node)["annotations"].clone();
    serde_json::from_value::<Option<_>>(annotations).unwrap().unwrap_or_default()
}

pub(crate) fn annotate(plane: &ControlPlane, node: &str, change: &str) {
    plane.kubectl(&["annotate", "--overwrite", "node", node, change]);
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The keys that `manager` owns, as the server tells.
fn owned(metadata: &Value, manager: &str) -> Vec<String> {
    let entries = metadata["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == manager).unwrap();
    assert_eq!(entry["operation"], "Apply");
    let fields = entry["fieldsV1"].as_object().unwrap();
    assert!(fields.keys().eq(["f:metadata"]), "{entry}");
    let fields = fields["f:metadata"].as_object().unwrap();
    assert!(fields.keys().eq(["f:annotations"]), "{entry}");
    let keys = fields["f:annotations"].as_object().unwrap().keys();
    let mut keys: Vec<String> = keys.map(|key| key.trim_start_matches("f:").to_owned()).collect();
    keys.sort();
    keys
}

#[test]
fn a_report_is_exactly_the_agents_keys() {
    let plane = shared();
    plane.create_node("keys");
    annotate(&plane, "keys", "pointsman.io/desired-profile=nsx-ovs");
    annotate(&plane, "keys", "example.com/other=kept");
    let before = annotations(&plane, "keys");
    let mut agent = Agent::of(&plane, "keys");
    let seen = agent.next(LONG).unwrap();
    assert_eq!(seen.annotations.get(keys::DESIRED_PROFILE).map(String::as_str), Some("nsx-ovs"));
    assert!(!seen.annotations.contains_key("example.com/other"));

    let sent = report("first");
    agent.publish(&seen.uid, &sent);
    let expected: BTreeMap<_, _> = before.into_iter().chain(sent.annotations()).collect();
    assert_eq!(annotations(&plane, "keys"), expected);
    let mut ours = keys::AGENT_KEYS.map(str::to_owned);
    ours.sort();
    assert_eq!(owned(&metadata(&plane, "keys"), "pointsman"), ours);
    assert!(agent.outbox.trouble().is_none() && !agent.outbox.is_pending());
}

/// Requests about Nodes that the server has counted, but for watches, which it counts
/// at their end.
fn requests_about_nodes(plane: &ControlPlane) -> f64 {
    let metrics = plane.kubectl(&["get", "--raw", "/metrics"]);
    let lines = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"nodes\"")
            && !line.contains("verb=\"WATCH\"")
    });
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn what_the_node_shows_is_not_sent_again() {
    let plane = alone();
    plane.create_node("idle");
    let mut agent = Agent::of(&plane, "idle");
    let uid = agent.next(LONG).unwrap().uid;
    let start = requests_about_nodes(&plane);
    agent.publish(&uid, &report("once"));
    let written = requests_about_nodes(&plane);
    assert!((written - start - 1.0).abs() < 0.1, "one apply: {start} {written}");

    agent.publish(&uid, &report("once"));
    // idle: nothing but the watch
    std::thread::sleep(Duration::from_secs(4));
    assert!((requests_about_nodes(&plane) - written).abs() < 0.1);

    // another agent process finds its report there, and keeps silent too
    drop(agent);
    let mut again = Agent::of(&plane, "idle");
    let uid = again.next(LONG).unwrap().uid;
    let start = requests_about_nodes(&plane);
    again.publish(&uid, &report("once"));
    assert!((requests_about_nodes(&plane) - start).abs() < 0.1);
    again.publish(&uid, &report("twice"));
    assert!((requests_about_nodes(&plane) - start - 1.0).abs() < 0.1);
}

#[test]
fn an_edited_report_is_put_back() {
    let plane = shared();
    plane.create_node("edited");
    let mut agent = Agent::of(&plane, "edited");
    let uid = agent.next(LONG).unwrap().uid;
    let sent = report("the truth");
    agent.publish(&uid, &sent);
    for edit in ["pointsman.io/state=Done", "pointsman.io/message-"] {
        annotate(&plane, "edited", edit);
        let whole = || (annotations(&plane, "edited") == sent.annotations()).then_some(());
        eventually("the report is back", Duration::from_secs(10), whole);
    }
}

#[test]
fn what_others_wrote_is_left_alone() {
    let plane = shared();
    plane.create_node("foreign");
    let mut agent = Agent::of(&plane, "foreign");
    let uid = agent.next(LONG).unwrap().uid;
    agent.publish(&uid, &report("first"));
    for change in ["pointsman.io/desired-profile=a", "pointsman.io/retry=1", "example.com/x=y"] {
        annotate(&plane, "foreign", change);
    }
    plane.kubectl(&["label", "node", "foreign", "zone=z"]);
    plane.kubectl(&["cordon", "foreign"]);
    agent.publish(&uid, &report("second"));
    let mut expected = report("second").annotations();
    for (key, value) in [(keys::DESIRED_PROFILE, "a"), (keys::RETRY, "1"), ("example.com/x", "y")] {
        expected.insert(key.into(), value.into());
    }
    // cordoning adds a taint only where controllers run, and no annotation
    assert_eq!(annotations(&plane, "foreign"), expected);
    assert_eq!(metadata(&plane, "foreign")["labels"]["zone"], "z");
    let cordoned = ["get", "node", "foreign", "--output=jsonpath={.spec.unschedulable}"];
    assert_eq!(plane.kubectl(&cordoned), "true");
}

#[test]
fn a_request_is_seen_soon_and_the_agents_own_words_are_not() {
    let plane = shared();
    plane.create_node("asked");
    let mut agent = Agent::of(&plane, "asked");
    let uid = agent.next(LONG).unwrap().uid;
    agent.publish(&uid, &report("mine"));
    for value in ["a", "b", "c"] {
        if value == "c" {
            agent.rebuild();
        }
        annotate(&plane, "asked", &format!("pointsman.io/desired-profile={value}"));
        let start = Instant::now();
        let seen = agent.next(SOON).expect("seen soon");
        println!("annotate to seen, after kubectl's end: {:?}", start.elapsed());
        assert_eq!(seen.annotations.get(keys::DESIRED_PROFILE).map(String::as_str), Some(value));
    }
    agent.publish(&uid, &report("mine again"));
    assert_eq!(agent.next(Duration::from_secs(1)), None);
    assert!(agent.node.trouble().is_none());
}

#[test]
fn a_recreated_node_does_not_take_an_old_report() {
    let plane = shared();
    plane.create_node("reborn");
    deploy(&plane);
    // bound to nothing: a token bound to the Node would end with it, and not get so far
    let token = plane.kubectl(&["create", "token", "pointsman", "--namespace", NAMESPACE]);
    let mut agent = Agent::with_token(&plane, "reborn", token.trim());
    let old = agent.next(LONG).unwrap().uid;
    agent.publish(&old, &report("of the former"));

    plane.kubectl(&["delete", "node", "reborn"]);
    eventually("the end is seen", SOON, || agent.requests.latest().is_none().then_some(()));
    agent.outbox.post(&old, report("of nobody"));
    let trouble = eventually("trouble", LONG, || agent.outbox.trouble());
    assert!(agent.outbox.is_pending(), "{trouble}");
    // whatever the server calls it, no Node came of it
    assert!(!plane.try_kubectl(&["get", "node", "reborn"]).status.success());
    println!("without a Node: {} ({trouble})", trouble.reason());

    plane.create_node("reborn");
    let new = agent.next(SOON).expect("the new Node is news").uid;
    assert_ne!(old, new);
    assert!(agent.flush(LONG), "{:?}", agent.outbox.trouble());
    let trouble = agent.outbox.trouble().expect("dropped");
    assert_eq!(trouble.reason(), "NodeReplaced");
    let text = trouble.to_string();
    assert!(text.contains(&old) && text.contains(&new), "{text}");
    assert_eq!(annotations(&plane, "reborn"), BTreeMap::new());

    agent.publish(&new, &report("of the present"));
    assert_eq!(annotations(&plane, "reborn"), report("of the present").annotations());
    assert!(agent.outbox.trouble().is_none());
}

fn account(plane: &ControlPlane, node: &str, name: &str) -> String {
    plane.create_node(node);
    plane.kubectl(&["create", "serviceaccount", name, "--namespace=default"]);
    plane.service_account_token("default", name, node)
}

#[test]
fn what_is_forbidden_is_named() {
    let plane = shared();
    let token = account(&plane, "stranger", "stranger");
    let mut agent = Agent::with_token(&plane, "stranger", &token);
    let named = |trouble: &Arc<NodeError>, verb: &str| {
        let text = trouble.to_string();
        assert_eq!((trouble.reason(), trouble.is_transient()), ("ApiForbidden", false), "{text}");
        for part in ["stranger", "system:serviceaccount:default:stranger", verb, "\"nodes\""] {
            assert!(text.contains(part), "{part}: {text}");
        }
    };
    named(&eventually("trouble", LONG, || agent.node.trouble()), "cannot list");
    assert_eq!(agent.next(Duration::from_millis(100)), None);

    // may look, and not write
    let readers = ["clusterrole", "stranger", "--verb=get,list,watch", "--resource=nodes"];
    plane.kubectl(&[&["create"], &readers[..]].concat());
    let binding = ["--clusterrole=stranger", "--serviceaccount=default:stranger"];
    plane.kubectl(&[&["create", "clusterrolebinding", "stranger"], &binding[..]].concat());
    let uid = agent.next(LONG).expect("seen once the right is there").uid;
    agent.outbox.post(&uid, report("not mine to write"));
    named(&eventually("trouble", LONG, || agent.outbox.trouble()), "cannot patch");
    assert!(agent.outbox.is_pending());
    assert_eq!(annotations(&plane, "stranger"), BTreeMap::new());
    eventually("watched", LONG, || agent.node.trouble().is_none().then_some(()));
}

#[test]
fn a_token_of_no_account_is_unauthorized() {
    let plane = shared();
    let agent = Agent::with_token(&plane, "anybody", "no-token");
    let trouble = eventually("trouble", LONG, || agent.node.trouble());
    assert_eq!(trouble.reason(), "ApiUnauthorized", "{trouble}");
}

#[test]
fn a_report_too_large_for_the_server_is_not_made() {
    let plane = shared();
    plane.create_node("large");
    // the most that a Node's annotations may hold together is 256 KiB
    let node: Value = serde_json::json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "large", "annotations": { keys::DESIRED_PROFILE: "x".repeat(200_000) } },
    });
    plane.kubectl(&["delete", "node", "large"]);
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, node.to_string()).unwrap();
    plane.kubectl(&["create", "-f", path.path().to_str().unwrap()]);
    let mut agent = Agent::of(&plane, "large");
    let seen = agent.next(LONG).unwrap();
    let mut answer = report("refused");
    answer.observed = pointsman_core::request::verbatim(&seen.annotations);
    agent.publish(&seen.uid, &answer);
    assert_eq!(annotations(&plane, "large")[keys::MESSAGE], "refused");
}
