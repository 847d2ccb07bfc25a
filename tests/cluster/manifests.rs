//! The manifests against the real API server: it takes them as they are, and
//! they give the agent what it needs and nothing else.

use std::path::Path;

use pointsman_core::config::Settings;
use serde_json::Value;
use support::cluster::ControlPlane;

use crate::shared;

const NAMESPACE: &str = "pointsman-system";

fn folder(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests").join(name);
    path.to_str().unwrap().to_owned()
}

/// Applies the base; harmless when another test has done so.
fn deployed() -> std::sync::RwLockReadGuard<'static, ControlPlane> {
    let plane = shared();
    plane.kubectl(&["apply", "--server-side", "-k", &folder("base")]);
    plane
}

/// What `kubectl auth can-i` answers the agent with the token of a node's pod.
fn can_i(plane: &ControlPlane, token: &str, question: &[&str]) -> bool {
    let args: Vec<&str> = ["auth", "can-i"].iter().chain(question).copied().collect();
    let output = plane.try_kubectl_as(token, &args);
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => true,
        "no" => false,
        other => panic!("{question:?}: {other}\n{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn every_kustomization_is_accepted_without_a_warning() {
    let plane = deployed();
    for name in ["base", "overlays/dev"] {
        let output = plane.try_kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "-k",
            &folder(name),
        ]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {stderr}");
        assert_eq!(stderr, "", "{name}");
    }
}

#[test]
fn the_agent_understands_the_configuration() {
    let plane = shared();
    for name in ["base", "overlays/dev"] {
        let objects =
            plane.kubectl(&["create", "--dry-run=client", "--output=json", "-k", &folder(name)]);
        let maps: Vec<Value> = serde_json::Deserializer::from_str(&objects)
            .into_iter::<Value>()
            .map(Result::unwrap)
            .flat_map(|object| match object["items"].as_array() {
                Some(items) => items.clone(),
                None => vec![object],
            })
            .filter(|object| object["kind"] == "ConfigMap")
            .collect();
        assert_eq!(maps.len(), 1, "{name}");
        let config = maps[0]["data"]["config.toml"].as_str().unwrap();
        let settings = Settings::parse(config).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(settings.profiles.contains_key("nsx-ovs"), "{name}");
        assert!(settings.profiles.contains_key("upstream-ovs"), "{name}");
    }
}

#[test]
fn the_agent_can_do_its_work_and_nothing_else() {
    let plane = deployed();
    plane.create_node("can-i-node");
    let token = plane.service_account_token(NAMESPACE, "pointsman", "can-i-node");

    let allowed: &[&[&str]] = &[
        &["get", "nodes"],
        &["list", "nodes"],
        &["watch", "nodes"],
        &["patch", "nodes"],
        &["create", "events.events.k8s.io", "--namespace=default"],
        &["patch", "events.events.k8s.io", "--namespace=default"],
    ];
    let refused: &[&[&str]] = &[
        &["create", "nodes"],
        &["update", "nodes"],
        &["delete", "nodes"],
        &["deletecollection", "nodes"],
        &["patch", "nodes", "--subresource=status"],
        &["get", "nodes", "--subresource=proxy"],
        &["list", "pods", "--all-namespaces"],
        &["create", "pods", "--namespace=pointsman-system"],
        &["create", "pods", "--subresource=exec", "--namespace=pointsman-system"],
        &["list", "secrets", "--all-namespaces"],
        &["get", "secrets", "--namespace=pointsman-system"],
        &["get", "configmaps", "--namespace=pointsman-system"],
        &["patch", "deployments.apps", "--namespace=pointsman-system"],
        &["patch", "daemonsets.apps", "--namespace=pointsman-system"],
        &["create", "serviceaccounts", "--subresource=token", "--namespace=pointsman-system"],
        &["create", "events.events.k8s.io", "--namespace=kube-system"],
        &["bind", "clusterroles.rbac.authorization.k8s.io"],
        &["escalate", "clusterroles.rbac.authorization.k8s.io"],
        &["impersonate", "users"],
        &["*", "*"],
    ];
    for question in allowed {
        assert!(can_i(&plane, &token, question), "refused: {question:?}");
    }
    for question in refused {
        assert!(!can_i(&plane, &token, question), "allowed: {question:?}");
    }
}

#[test]
fn the_agent_annotates_its_node_and_cannot_make_one() {
    let plane = deployed();
    plane.create_node("apply-node");
    let token = plane.service_account_token(NAMESPACE, "pointsman", "apply-node");
    let annotate = |node: &str| {
        plane.try_kubectl_as(&token, &["annotate", "node", node, "pointsman.io/state=Pending"])
    };
    let output = annotate("apply-node");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let state = plane.kubectl(&[
        "get",
        "node",
        "apply-node",
        r"--output=jsonpath={.metadata.annotations.pointsman\.io/state}",
    ]);
    assert_eq!(state, "Pending");
    let output = annotate("no-such-node");
    assert!(String::from_utf8_lossy(&output.stderr).contains("NotFound"));
}

/// No controller runs here, so this test makes the pod that the `DaemonSet` would:
/// pod security, priority and service account admission all have their say.
#[test]
fn admission_lets_the_daemonset_s_pod_in() {
    let plane = deployed();
    let set: Value = serde_json::from_str(&plane.kubectl(&[
        "get",
        "daemonset",
        "pointsman",
        "--namespace=pointsman-system",
        "--output=json",
    ]))
    .unwrap();
    let mut pod = set["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "pointsman-pod".into();
    pod["metadata"]["namespace"] = NAMESPACE.into();
    pod["spec"]["nodeName"] = "pod-node".into();
    plane.create_node("pod-node");
    plane.apply(&pod.to_string());

    let pod: Value = serde_json::from_str(&plane.kubectl(&[
        "get",
        "pod",
        "pointsman-pod",
        "--namespace=pointsman-system",
        "--output=json",
    ]))
    .unwrap();
    let spec = &pod["spec"];
    assert_eq!(spec["priority"], 2_000_001_000, "system-node-critical");
    let mounts = spec["containers"][0]["volumeMounts"].as_array().unwrap();
    let token = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert!(mounts.iter().any(|mount| mount["mountPath"] == token));
}
