//! Between the change on disk and the reboot the node has the new set on disk and the old one
//! in memory. From there two ways lead on, the reboot and the way back; a third set would leave
//! nobody knowing what a reboot brings.

use crate::config::Settings;
use crate::goal::Goal;
use crate::model::Observed;
use crate::plan::modules::{Loaded, loaded};
use crate::plan::{Plan, Refusal, simulate};

/// Refuses a plan of modules, while what another goal staged waits for its reboot, that is
/// neither that goal's nor leads back to what is loaded.
pub fn refuse_while_staged(
    settings: &Settings,
    observed: &Observed,
    staged: Option<&Goal>,
    (goal, plan): (&Goal, &Plan),
) -> Result<(), Refusal> {
    let running = &observed.host.kernel;
    let concerns = |goal: &&Goal| brings_modules(goal) && !goal.is_for_another_kernel(running);
    let Some(staged) = staged.filter(|staged| concerns(staged) && !staged.is_same(goal)) else {
        return Ok(());
    };
    let waits = |observed: &Observed| {
        matches!(loaded(observed, &settings.paths, &observed.host.kernel), Loaded::Differs(_))
    };
    // what is put into another kernel's tree changes nothing of what a reboot of this one brings
    if plan.is_empty() || !concerns(&goal) || !waits(observed) {
        return Ok(());
    }
    let mut after = observed.clone();
    plan.steps().for_each(|step| simulate(&mut after, step));
    if !waits(&after) {
        return Ok(());
    }
    Err(Refusal::new(
        "SwitchStaged",
        format!(
            "{staged} is staged: its modules are on disk and the kernel runs the former ones until \
             the node is rebooted; nothing was changed: reboot first, or go back to the profile \
             before, and then ask for {goal}"
        ),
    ))
}

fn brings_modules(goal: &Goal) -> bool {
    matches!(goal, Goal::Profile { .. } | Goal::Modules { .. })
}
