//! The bed itself: what later tests rely on without asking again.

use std::net::TcpStream;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::cluster::ControlPlane;

use crate::{alone, shared};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn server_is_new_enough_and_kubectl_matches_it() {
    let versions: Value =
        serde_json::from_str(&shared().kubectl(&["version", "--output=json"])).unwrap();
    let server = &versions["serverVersion"];
    assert_eq!(server["major"], "1", "{versions}");
    let minor: u32 = server["minor"].as_str().unwrap().parse().unwrap();
    // Node names in tokens and admission policies are not optional from here on.
    assert!(minor >= 33, "{versions}");
    // kubectl supports one minor more and one less; assets of others may differ so far.
    let client: u32 = versions["clientVersion"]["minor"].as_str().unwrap().parse().unwrap();
    assert!(client.abs_diff(minor) <= 1, "{versions}");
}

#[test]
fn rbac_denies_an_unbound_account() {
    let plane = shared();
    plane.create_node("rbac-node");
    plane.kubectl(&["create", "namespace", "rbac"]);
    plane.kubectl(&["create", "serviceaccount", "nobody", "--namespace=rbac"]);
    let token = plane.service_account_token("rbac", "nobody", "rbac-node");
    let output = plane.try_kubectl_as(&token, &["annotate", "node", "rbac-node", "a=b"]);
    assert!(!output.status.success());
    let stderr = stderr(&output);
    assert!(
        stderr.contains("Forbidden") && stderr.contains("system:serviceaccount:rbac:nobody"),
        "{stderr}"
    );
    // The same by the administrator works: it was the right that was missing.
    plane.kubectl(&["annotate", "node", "rbac-node", "a=b"]);
}

#[test]
fn token_names_its_node() {
    let plane = shared();
    plane.create_node("token-node");
    plane.kubectl(&["create", "namespace", "token"]);
    plane.kubectl(&["create", "serviceaccount", "agent", "--namespace=token"]);
    let token = plane.service_account_token("token", "agent", "token-node");
    let output = plane.try_kubectl_as(&token, &["auth", "whoami", "--output=json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let review: Value = serde_json::from_slice(&output.stdout).unwrap();
    let user = &review["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:token:agent");
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/node-name"],
        serde_json::json!(["token-node"])
    );
}

#[test]
fn a_token_ends_with_its_node() {
    let plane = shared();
    plane.create_node("gone-node");
    plane.kubectl(&["create", "namespace", "gone"]);
    plane.kubectl(&["create", "serviceaccount", "agent", "--namespace=gone"]);
    let token = plane.service_account_token("gone", "agent", "gone-node");
    plane.kubectl(&["delete", "node", "gone-node"]);
    // The server holds a token for good for ten seconds after it saw it last;
    // this one it has never seen.
    let output = plane.try_kubectl_as(&token, &["auth", "whoami"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("Unauthorized"), "{}", stderr(&output));
}

#[test]
fn a_kubelet_is_held_to_its_own_node() {
    let plane = shared();
    plane.create_node("kubelet-a");
    plane.create_node("kubelet-b");
    let as_a = |args: &[&str]| {
        let identity = ["--as=system:node:kubelet-a", "--as-group=system:nodes"];
        let args: Vec<&str> = args.iter().chain(&identity).copied().collect();
        plane.try_kubectl(&args)
    };
    let own = as_a(&["annotate", "node", "kubelet-a", "a=b"]);
    assert!(own.status.success(), "{}", stderr(&own));
    // The Node authorizer.
    let other = as_a(&["get", "node", "kubelet-b"]);
    assert!(stderr(&other).contains("only its own Node object"));
    // NodeRestriction admission.
    let label = "node-restriction.kubernetes.io/zone=dmz";
    let label = as_a(&["label", "node", "kubelet-a", label]);
    assert!(stderr(&label).contains("is not allowed to modify labels"), "{}", stderr(&label));
}

#[test]
fn admission_policies_are_enforced() {
    let plane = shared();
    plane.kubectl(&["create", "namespace", "policy"]);
    plane.apply(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: one-name-less}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: policy}}
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  validations:
  - {expression: "object.metadata.name != 'forbidden'", message: "not this one"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: one-name-less}
spec: {policyName: one-name-less, validationActions: [Deny]}
"#,
    );
    // The server takes up a policy some time after it was created.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = plane.try_kubectl(&[
            "create",
            "configmap",
            "forbidden",
            "--namespace=policy",
            "--dry-run=server",
        ]);
        if stderr(&output).contains("not this one") {
            break;
        }
        assert!(Instant::now() < deadline, "not denied: {}", stderr(&output));
        thread::sleep(Duration::from_millis(100));
    }
    plane.kubectl(&["create", "configmap", "allowed", "--namespace=policy"]);
}

#[test]
fn data_port_and_tokens_survive_a_restart() {
    let mut plane = alone();
    plane.create_node("restart-node");
    plane.kubectl(&["create", "namespace", "restart"]);
    plane.kubectl(&["create", "serviceaccount", "agent", "--namespace=restart"]);
    let token = plane.service_account_token("restart", "agent", "restart-node");
    let port = plane.port();
    let ca = std::fs::read(plane.ca()).unwrap();

    plane.stop();
    let away = plane.try_kubectl(&["get", "nodes"]);
    assert!(!away.status.success());
    assert!(stderr(&away).contains("refused"), "{}", stderr(&away));

    plane.start_again();
    assert_eq!(plane.port(), port);
    assert_eq!(std::fs::read(plane.ca()).unwrap(), ca);
    plane.kubectl(&["get", "node", "restart-node"]);
    let output = plane.try_kubectl_as(&token, &["auth", "whoami"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn nothing_is_left_behind() {
    let plane = ControlPlane::start();
    let ca = plane.ca();
    let dir = ca.parent().unwrap();
    let port = plane.port();
    assert!(dir.is_dir());
    drop(plane);
    assert!(!dir.exists());
    let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}
