//! What NCP is told to do on this node: `ncp.ini` of the pods that kubelet runs here.
//!
//! kubelet writes a pod's `ConfigMap` to the host's disk, and follows its changes. A bootstrap
//! that is told `use_nsx_ovs_kernel_module = True` puts NSX's modules into place whenever it
//! starts.

use crate::disk::HostRoot;
use pointsman_core::model::NcpIntent;
use std::fs;
use std::path::Path;

const PODS: &str = "/var/lib/kubelet/pods";
/// Volumes that hold a `ConfigMap`, below a pod's directory.
const KINDS: [&str; 2] = ["kubernetes.io~configmap", "kubernetes.io~projected"];
const FILE: &str = "ncp.ini";
const LIMIT: u64 = 1 << 20;

/// The first that says something; one that wants NSX's modules before one that does not.
pub(super) fn read(root: &HostRoot) -> Option<NcpIntent> {
    let mut found = Vec::new();
    for pod in names(root, PODS) {
        for kind in KINDS {
            let volumes = format!("{PODS}/{pod}/volumes/{kind}");
            for volume in names(root, &volumes) {
                let path = format!("{volumes}/{volume}/{FILE}");
                // a link to `..data/ncp.ini`, of which `..data` is one again
                let Ok(text) = root.read(&path, LIMIT) else { continue };
                let wanted = nsx_modules(&String::from_utf8_lossy(&text));
                found.extend(wanted.map(|nsx_modules| NcpIntent { path, nsx_modules }));
            }
        }
    }
    found.sort_by(|a, b| (!a.nsx_modules, &a.path).cmp(&(!b.nsx_modules, &b.path)));
    found.into_iter().next()
}

fn names(root: &HostRoot, directory: &str) -> Vec<String> {
    let at = root.locate_directory(Path::new(directory));
    let entries = at.ok().and_then(|at| fs::read_dir(at).ok()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// `use_nsx_ovs_kernel_module` of `[nsx_node_agent]`, as oslo.config reads it: any case, and
/// the words that its `Boolean` knows. None where it is not there.
fn nsx_modules(text: &str) -> Option<bool> {
    let mut section = "";
    let mut value = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let pair = line.split_once(['=', ':']).filter(|_| !line.starts_with(['#', ';']));
        let Some((key, word)) = pair.filter(|_| section == "nsx_node_agent") else { continue };
        if key.trim() == "use_nsx_ovs_kernel_module" {
            value = match word.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => Some(true),
                "false" | "0" | "off" | "no" => Some(false),
                _ => value,
            };
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_of_its_own_section_counts() {
        let text = |line: &str| format!("[coe]\nx = 1\n[nsx_node_agent]\n{line}\n[k8s]\ny = 2\n");
        for (line, wanted) in [
            ("use_nsx_ovs_kernel_module = True", Some(true)),
            ("use_nsx_ovs_kernel_module=yes", Some(true)),
            ("use_nsx_ovs_kernel_module: False", Some(false)),
            ("#use_nsx_ovs_kernel_module = True", None),
            ("use_nsx_ovs_kernel_module = maybe", None),
            ("use_nsx_ovs = True", None),
        ] {
            assert_eq!(nsx_modules(&text(line)), wanted, "{line}");
        }
        assert_eq!(nsx_modules("[k8s]\nuse_nsx_ovs_kernel_module = True\n"), None);
    }
}
