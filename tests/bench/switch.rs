//! How long a whole switch takes, by phase and stage, as the agent's own progress file says it.

use crate::failed;
use crate::table::{self, Spread, row};
use pointsman_core::plan::{Plan, Step};
use support::node::Node;
use support::vm::Result;

/// See `Journal::begin_progress` for its columns.
const PROGRESS: &str = "/var/lib/pointsman/progress";

/// A line of the progress file.
struct Note<'a> {
    ms: f64,
    step: Option<usize>,
    words: &'a str,
}

/// Phases and stages in their order, with a measurement per run.
#[derive(Default)]
struct Times {
    parts: Vec<(String, Spread)>,
    total: Spread,
}

pub(crate) fn measure(runs: usize) -> Result<()> {
    let (mut there, mut back) = (Times::default(), Times::default());
    for run in 1..=runs {
        eprintln!("switch: run {run} of {runs}");
        // a new one each time: a bridge and CNI files that are there already make no step
        let node = Node::start()?;
        there.add(&node, "nsx-ovs")?;
        back.add(&node, "upstream-ovs")?;
    }
    there.show(
        "switch to nsx-ovs: modules of the payload, live; addresses to the bridge; CNI files",
    );
    back.show("switch to upstream-ovs: the kernel's modules, live; addresses to the uplink");
    Ok(())
}

impl Times {
    fn add(&mut self, node: &Node, profile: &str) -> Result<()> {
        let output = node.try_agent(&format!("plan --profile {profile} --json"))?;
        let plan: Plan = serde_json::from_str(&output.stdout)
            .map_err(|error| failed(format!("{error}: {}{}", output.stdout, output.stderr)))?;
        node.agent(&format!("apply --profile {profile}"))?;
        let progress = node.vm.sh(&format!("cat {PROGRESS}"))?;
        let notes: Vec<Note<'_>> = progress
            .lines()
            .map(|line| parse(line).ok_or_else(|| failed(format!("not a note: {line:?}"))))
            .filter(|note| !matches!(note, Ok(note) if is_sum(note)))
            .collect::<Result<_>>()?;
        let parts = by_part(&plan, &notes).ok_or_else(|| failed(unlike(&plan, &progress)))?;
        for (name, ms) in parts {
            match self.parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, spread)) => spread.push(ms / 1000.0),
                None => self.parts.push((name, Spread::from_iter([ms / 1000.0]))),
            }
        }
        self.total.push(notes.last().map_or(0.0, |note| note.ms) / 1000.0);
        Ok(())
    }

    fn show(&self, heading: &str) {
        let mut rows = vec![row([&"phase and stage", &"seconds", &"share"])];
        let whole = self.total.median();
        for (name, spread) in &self.parts {
            let share = format!("{:.0} %", 100.0 * spread.median() / whole);
            rows.push(row([name, spread, &share]));
        }
        rows.push(row([&"whole", &self.total, &""]));
        table::print(heading, &rows);
    }
}

/// `MILLISECONDS NUMBER WORDS`; the number is `-` between the steps.
fn parse(line: &str) -> Option<Note<'_>> {
    let mut columns = line.splitn(3, ' ');
    let ms = columns.next()?.parse().ok()?;
    let step = match columns.next()? {
        "-" => None,
        number => Some(number.parse().ok()?),
    };
    Some(Note { ms, step, words: columns.next()? })
}

/// What a stage took, noted behind it: here stages of one title are put together.
fn is_sum(note: &Note<'_>) -> bool {
    note.step.is_none() && note.words.starts_with("took ")
}

/// Milliseconds of each phase and stage; stages of one title are one. None where the notes are not those of a switch
/// that carried out this plan and reached its goal.
fn by_part(plan: &Plan, notes: &[Note<'_>]) -> Option<Vec<(String, f64)>> {
    let (first, end) = (notes.first()?, notes.last()?);
    let begin = notes.iter().position(|note| note.step.is_some())?;
    let many = notes.iter().filter(|note| note.step.is_some()).count();
    // what is noted behind the steps: that it is looked again, and who is asked
    let steps = notes.get(begin..begin + many)?;
    let look = notes.get(begin + many)?;
    let words = plan.steps().map(Step::to_string);
    let carried_out = words.enumerate().map(|(number, words)| (Some(number), words));
    if !carried_out.eq(steps.iter().map(|note| (note.step, note.words.to_owned())))
        || first.step.is_some()
        || end.words != "ended: Reached"
    {
        return None;
    }
    let mut parts = vec![("Preparing: look, plan, write the way back".to_owned(), first.ms)];
    let mut rest = steps;
    for stage in &plan.stages {
        let (of_stage, after) = rest.split_at_checked(stage.steps.len())?;
        let until = after.first().unwrap_or(look);
        let name = format!("Applying: {}", stage.title);
        let ms = until.ms - of_stage.first()?.ms;
        match parts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += ms,
            None => parts.push((name, ms)),
        }
        rest = after;
    }
    let before_steps = steps.first().unwrap_or(look).ms - first.ms;
    parts[0].1 += before_steps;
    parts.push(("Verifying, Committing: look again, close".to_owned(), end.ms - look.ms));
    Some(parts)
}

fn unlike(plan: &Plan, progress: &str) -> String {
    format!("the progress file\n{progress}\nis not that of the plan\n{plan}")
}
