//! What does not run is never installed.

use super::{BIN, CONF, Host, conflist, plugin};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pointsman_core::error::{Reasoned, chain};
use std::fs;

/// An older installation, and a payload whose plugin is this.
fn host(nsx: &[u8]) -> Host {
    let host = Host::with_plugin(nsx);
    host.put(&format!("{BIN}/nsx"), 0o755, &plugin("host-local"));
    host.put(&format!("{CONF}/10-nsx.conflist"), 0o640, conflist("4.1").as_bytes());
    host
}

/// Applies to where it fails; the words that the failure ends in.
fn failure(nsx: &[u8]) -> String {
    let host = host(nsx);
    let files = host.files();
    let plan = host.plan().unwrap();
    let error = host.apply(&plan).unwrap_err();
    assert_eq!(error.reason(), "PluginProbeFailed", "{}", chain(&error));
    assert!(error.step.starts_with("try the payload's nsx"), "{}", error.step);
    assert_eq!(host.files(), files);
    chain(&error)
}

#[test]
fn a_plugin_of_another_architecture_is_not_installed() {
    let mut other = plugin("bridge");
    // e_machine of the ELF header: AArch64
    other[18..20].copy_from_slice(&183_u16.to_le_bytes());
    let text = failure(&other);
    assert!(text.contains("os error 8"), "{text}");
}

#[test]
fn a_plugin_cut_short_is_not_installed() {
    let whole = plugin("bridge");
    for length in [0, 1, 4096, whole.len() / 2] {
        println!("{length} bytes: {}", failure(&whole[..length]));
    }
}

#[test]
fn a_plugin_without_its_interpreter_is_not_installed() {
    let text = failure(b"#!/no/such/python3\nprint('{}')\n");
    assert!(text.contains("os error 2"), "{text}");
}

#[test]
fn a_plugin_that_fails_or_answers_otherwise_is_not_installed() {
    let text = failure(b"#!/bin/sh\necho no libpython >&2\nexit 3\n");
    assert!(text.contains("exit status: 3: no libpython"), "{text}");
    let text = failure(b"#!/bin/sh\necho usage\n");
    assert!(text.contains("`usage`"), "{text}");
    let text = failure(b"#!/bin/sh\necho '{\"supportedVersions\":[\"0.3.1\"]}'\n");
    assert!(text.contains("supports CNI 0.3.1, not 1.0.0"), "{text}");
}

#[test]
fn a_plugin_gets_what_the_specification_says() {
    let script = b"#!/bin/sh\nread -r input\n\
        [ \"$CNI_COMMAND $input\" = 'VERSION {\"cniVersion\":\"1.0.0\"}' ] || exit 1\n\
        echo '{\"supportedVersions\":[\"1.0.0\"]}'\n";
    // a line without its end makes read fail, and still reads it
    host(script).install();
}

#[test]
fn a_directory_that_forbids_execution_is_found_out() {
    // a mount namespace of this thread alone
    std::thread::spawn(|| {
        let host = Host::new();
        fs::create_dir_all(host.at(BIN)).unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let bin = host.at(BIN);
        mount(Some("tmpfs"), &bin, Some("tmpfs"), MsFlags::MS_NOEXEC, none).unwrap();
        let error = host.apply(&host.plan().unwrap()).unwrap_err();
        let text = chain(&error);
        assert_eq!(error.reason(), "PluginProbeFailed", "{text}");
        assert!(text.contains("os error 13"), "{text}");
        assert!(host.files().is_empty(), "{:?}", host.files());
    })
    .join()
    .unwrap();
}

#[test]
fn a_payload_that_differs_from_its_manifest_is_refused() {
    let host = host(&plugin("bridge"));
    let files = host.files();
    let half = plugin("bridge").len() / 2;
    fs::write(host.payload().join("nsx"), &plugin("bridge")[..half]).unwrap();
    let refusal = host.plan().unwrap_err();
    assert_eq!(refusal.reason, "PayloadCorrupt", "{refusal}");
    fs::remove_file(host.payload().join("manifest.toml")).unwrap();
    let refusal = host.plan().unwrap_err();
    assert_eq!(refusal.reason, "NoPayload", "{refusal}");
    assert!(refusal.message.contains("manifest.toml"), "{refusal}");
    assert_eq!(host.files(), files);
}

#[test]
fn a_payload_that_rots_after_the_plan_changes_nothing() {
    let host = host(&plugin("bridge"));
    let (files, plan) = (host.files(), host.plan().unwrap());
    fs::write(host.payload().join("nsx"), b"rotten").unwrap();
    let error = host.apply(&plan).unwrap_err();
    assert_eq!(error.reason(), "ContentMismatch", "{}", chain(&error));
    assert_eq!(host.files(), files);
}
