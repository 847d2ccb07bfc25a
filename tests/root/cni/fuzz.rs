//! Conflists that a fixed seed damages, by the hundred thousand: whatever they say, they say it
//! without a panic, and a plan for them ends where nothing is left to do.

use pointsman_core::config::Paths;
use pointsman_core::model::{CniReading, Digest, FileState, Observed};
use pointsman_core::plan::cni::{Target, Toward, Want, plan_cni};
use pointsman_core::plan::simulate;
use std::time::{Duration, Instant};

use super::{CONF, Host, conflist, plugin};
use crate::numbers::{Numbers, mutated};

const RICH: &str = r#"{"cniVersion":"1.0.0","name":"nsx-cni","nsxBuildVersion":"4.1.2.3.22596735",
 "plugins":[{"type":"nsx","mtu":1500,"log":{"level":"info","size":1.50e2},"ipam":{"type":"host-local","ranges":[[{"subnet":"10.0.0.0/8"}]]}},
 {"type":"portmap","capabilities":{"portMappings":true},"snat":true},{"type":"tuning","sysctl":{"net.core.somaxconn":"5"}}]}
"#;

#[test]
fn damaged_conflists_by_the_hundred_thousand() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut garbled) = (0_u32, 0_u32);
    for _ in 0..300_000 {
        let bytes = mutated(RICH.as_bytes(), &mut numbers);
        match CniReading::of(&bytes) {
            CniReading::Config(config) => {
                assert!(!config.plugins.is_empty());
                read += 1;
            }
            CniReading::Garbled { why } => {
                assert!(!why.is_empty());
                garbled += 1;
            }
        }
    }
    assert!(read > 10_000 && garbled > 10_000, "{read} were read and {garbled} were not");
}

#[test]
fn deep_and_long_ones_take_no_time() {
    let began = Instant::now();
    let deep = |open: &str, close: &str| open.repeat(200_000) + &close.repeat(200_000);
    let keys: Vec<String> = (0..40_000).map(|n| format!("\"k{n}\":1")).collect();
    for text in [
        deep("[", "]"),
        deep("{\"a\":", "}"),
        "9".repeat(1 << 20),
        format!("\"{}", "\\u0000".repeat(100_000)),
        format!("{{{}}}", keys.join(",")),
    ] {
        assert!(matches!(CniReading::of(text.as_bytes()), CniReading::Garbled { .. }));
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// With an edited, damaged configuration of an older version whose base is known.
#[test]
fn whatever_was_edited_the_plan_ends() {
    let host = Host::new();
    host.put("/opt/cni/bin/nsx", 0o755, &plugin("host-local"));
    host.put(&format!("{CONF}/10-nsx.conflist"), 0o644, conflist("4.1").as_bytes());
    host.install();
    let mut installed = host.observe();
    installed.cni.ledger.as_mut().unwrap().base = Some(RICH.into());
    let path = format!("{CONF}/10-nsx.conflist");
    let want = |toward| Want::plainly(Target::To(toward), Paths::default());
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let (mut merged, mut refused) = (0_u32, 0_u32);
    for _ in 0..20_000 {
        let bytes = mutated(RICH.as_bytes(), &mut numbers);
        let mut observed: Observed = installed.clone();
        let sha256 = Digest::of(&bytes);
        let state = FileState::Regular { mode: 0o644, size: 1, sha256 };
        observed.files.insert(path.clone(), state);
        observed.cni.readings.insert(sha256, CniReading::of(&bytes));
        observed.cni.texts.extend(String::from_utf8(bytes).ok().map(|text| (sha256, text)));
        let Ok(plan) = plan_cni(&want(Toward::Payload), &observed, None) else {
            refused += 1;
            continue;
        };
        merged += u32::from(plan.notes.iter().any(|note| note.starts_with("HandEdited")));
        plan.steps().for_each(|step| simulate(&mut observed, step));
        let left = plan_cni(&want(Toward::Payload), &observed, None).unwrap();
        assert!(left.is_empty(), "{left}");
        let sha256 = observed.files[&path].sha256().unwrap();
        assert!(observed.cni.readings[&sha256].config().is_some(), "a conflist that says nothing");
        drop(plan_cni(&want(Toward::Absent), &observed, None).unwrap());
    }
    assert!(merged > 100 && refused > 3, "{merged} merged, {refused} refused");
}
