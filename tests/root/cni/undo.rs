//! There and back, and nothing to do the second time.

use super::runtime::Watch;
use super::{BIN, CONF, Host, hosts, plugin};
use pointsman_core::model::Digest;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

#[test]
fn what_was_there_is_back_byte_by_byte() {
    for (name, host) in hosts() {
        let (before, files) = (host.observe(), host.files());
        host.install();
        assert_ne!(host.files(), files, "{name}");
        host.undo(&before);
        assert_eq!(host.files(), files, "{name}");
        assert!(host.plan_back(&before).is_empty(), "{name}");
        for directory in [BIN, CONF] {
            assert!(host.at(directory).is_dir(), "{name}: {directory} was removed");
        }
        for kept in fs::read_dir(&host.executor.store).unwrap() {
            let kept = kept.unwrap();
            let contents = fs::read(kept.path()).unwrap();
            assert_eq!(kept.file_name().to_str(), Some(Digest::of(&contents).to_string().as_str()));
            assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        }
    }
}

#[test]
fn what_is_installed_is_the_payload_and_runs() {
    for (name, host) in hosts() {
        let before = host.files();
        host.install();
        let nsx = host.at(BIN).join("nsx");
        let answer = Command::new(&nsx).env("CNI_COMMAND", "VERSION").output().unwrap();
        assert!(answer.status.success(), "{name}: {answer:?}");
        let files = host.files();
        assert_eq!(files[&format!("{BIN}/nsx")], (0o755, Digest::of(&plugin("bridge"))), "{name}");
        assert_eq!(files[&format!("{CONF}/10-nsx.conflist")].0, 0o644, "{name}");
        assert!(!files.contains_key(&format!("{CONF}/10-nsx.conf")), "{name}");
        for pair in [format!("{BIN}/loopback"), format!("{CONF}/99-loopback.conf")] {
            assert!(files.contains_key(&pair), "{name}");
            if let Some(old) = before.get(&pair) {
                assert_eq!(&files[&pair], old, "{name}: {pair} was overwritten");
            }
        }
        assert_eq!(files.len(), 4, "{name}: {files:?}");
        for directory in ["/opt", "/opt/cni", BIN, "/etc", "/etc/cni", CONF] {
            let mode = host.at(directory).metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o755, "{name}: {directory}");
        }
    }
}

#[test]
fn a_second_apply_writes_nothing() {
    for (name, host) in hosts() {
        host.install();
        let witness = host.witness();
        let watch = Watch::new(&[host.at(BIN), host.at(CONF), host.executor.store.clone()]);
        let start = Instant::now();
        let plan = host.install();
        println!("{name}: looked at in {} us", start.elapsed().as_micros());
        assert!(plan.is_empty(), "{name}: {plan}");
        assert_eq!(watch.events(), [], "{name}");
        assert_eq!(host.witness(), witness, "{name}");
    }
}

#[test]
fn planning_changes_nothing() {
    for (name, host) in hosts() {
        let witness = host.witness();
        assert!(!host.plan().unwrap().is_empty(), "{name}");
        assert_eq!(host.witness(), witness, "{name}");
    }
}

#[test]
fn one_drifted_file_is_the_one_that_is_written() {
    let host = Host::new();
    host.install();
    let watch = Watch::new(&[host.at(BIN), host.at(CONF)]);
    let before = host.files();
    let nsx = host.at(BIN).join("nsx");
    fs::set_permissions(&nsx, fs::Permissions::from_mode(0o600)).unwrap();
    host.install();
    assert_eq!(host.files(), before);
    let moved: Vec<String> = watch.events().iter().filter_map(|event| event.arrived()).collect();
    assert_eq!(moved, ["nsx"]);
}
