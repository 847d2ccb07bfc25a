//! Ended after any step, and in the middle of a write.

use super::{BIN, CONF, conflist, hosts};
use pointsman::disk::stage;
use std::collections::BTreeMap;

#[test]
fn ended_after_any_step_the_next_run_completes_it() {
    let whole: BTreeMap<&str, _> = hosts()
        .into_iter()
        .map(|(name, host)| {
            let steps = host.install().steps().count();
            (name, (steps, host.files()))
        })
        .collect();
    let most = whole.values().map(|(steps, _)| *steps).max().unwrap();
    for cut in 0..=most {
        for (name, host) in hosts() {
            let plan = host.plan().unwrap();
            plan.steps().take(cut).for_each(|step| host.executor.apply(step).unwrap());
            host.install();
            assert_eq!(host.files(), whole[name].1, "{name}, ended after {cut}");
            assert!(host.plan().unwrap().is_empty(), "{name}, ended after {cut}");
        }
    }
}

#[test]
fn ended_after_any_step_the_way_back_is_whole() {
    let most = hosts().iter().map(|(_, host)| host.plan().unwrap().steps().count()).max().unwrap();
    for cut in 0..=most {
        for (name, host) in hosts() {
            let (before, files) = (host.observe(), host.files());
            let plan = host.plan().unwrap();
            plan.steps().take(cut).for_each(|step| host.executor.apply(step).unwrap());
            // and the way back is ended too, once
            let back = host.plan_back(&before);
            back.steps().take(cut / 2).for_each(|step| host.executor.apply(step).unwrap());
            host.undo(&before);
            assert_eq!(host.files(), files, "{name}, ended after {cut}");
        }
    }
}

#[test]
fn a_write_that_was_killed_leaves_nothing_for_long() {
    for (name, host) in hosts() {
        let (before, files) = (host.observe(), host.files());
        host.install();
        let installed = host.files();
        let leave = || {
            stage(&host.at(BIN).join("nsx"), 0o755, b"half a plu").unwrap();
            let text = conflist("4.2");
            stage(&host.at(CONF).join("10-nsx.conflist"), 0o600, &text.as_bytes()[..20]).unwrap();
            assert_eq!(host.files().len(), installed.len() + 2);
        };
        leave();
        host.install();
        assert_eq!(host.files(), installed, "{name}");
        leave();
        host.undo(&before);
        assert_eq!(host.files(), files, "{name}");
    }
}
