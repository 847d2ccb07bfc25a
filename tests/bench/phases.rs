//! How long the stages of a handover took, as the agent's own progress file says it.

use crate::failed;
use crate::table::{self, Spread, row};
use support::node::Node;
use support::vm::Result;

/// See `Journal::begin_progress` for its lines.
const PROGRESS: &str = "/var/lib/pointsman/progress";
const WHOLE: &str = "whole: look, plan, write the way back, carry out, look again, close";

/// Stages in their order, with a measurement per run, in milliseconds.
#[derive(Default)]
pub(crate) struct Phases {
    stages: Vec<(String, Spread)>,
}

impl Phases {
    /// Takes in the node's last handover.
    pub(crate) fn add(&mut self, node: &Node) -> Result<()> {
        let progress = node.vm.sh(&format!("cat {PROGRESS}"))?;
        let lines = progress.lines().filter_map(|line| {
            let (ms, title) = line.split_once(" - took ")?.1.split_once(" ms: ")?;
            Some((title, ms.parse().ok()?))
        });
        let stages: Vec<(&str, f64)> = lines.collect();
        let last = progress.lines().last().and_then(|line| line.split_once(' '));
        let whole = last.filter(|(_, rest)| rest.starts_with("- ended"));
        let whole = whole.and_then(|(ms, _)| ms.parse().ok());
        let (false, Some(whole)) = (stages.is_empty(), whole) else {
            return Err(failed(format!("not the progress file of a handover:\n{progress}")));
        };
        for (title, ms) in stages.into_iter().chain([(WHOLE, whole)]) {
            match self.stages.iter_mut().find(|(known, _)| known == title) {
                Some((_, spread)) => spread.push(ms),
                None => self.stages.push((title.to_owned(), Spread::from_iter([ms]))),
            }
        }
        Ok(())
    }

    pub(crate) fn show(&self, heading: &str) {
        let mut rows = vec![row([&"stage", &"ms"])];
        rows.extend(self.stages.iter().map(|(title, spread)| row([title, spread])));
        table::print(heading, &rows);
    }
}
