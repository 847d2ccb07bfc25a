//! `plan` and `apply` of a profile or of one chore, and `restore`.

use super::Exit;
use super::options::{Options, Subject};
use super::show::{self, UsageError};
use crate::boot::{Boot, Did};
use crate::deadman::DeadMan;
use crate::journal::{Journal, Record};
use crate::observe;
use crate::transaction::{Outcome, Progress, Site};
use pointsman_core::config::{Activate, Settings};
use pointsman_core::error::Reasoned;
use pointsman_core::goal::Goal;
use pointsman_core::model::Observed;
use pointsman_core::phase::{End, Phase};
use pointsman_core::plan::cni::{self, Fate, Target, Want};
use pointsman_core::plan::{Plan, modules};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

type Result<T> = std::result::Result<T, Box<dyn Reasoned>>;

pub(super) fn plan(options: &Options, subject: &Subject) -> Result<Exit> {
    let settings = show::settings(options)?;
    let executor = show::executor(options, &settings)?;
    let observed = match &options.observed {
        Some(file) => show::saved_observation(file)?,
        None => observe::observe(&executor, &settings).map_err(show::boxed)?,
    };
    let goal = goal(options, subject, &settings, &observed)?;
    let plan = match goal.plan(&settings, &observed, None) {
        Ok(plan) => plan,
        Err(refusal) => {
            show::refusal(options, &refusal);
            return Ok(Exit::Refused);
        }
    };
    let fates = fates(&goal, &settings, &observed, &plan);
    if options.json {
        let mut explained = explained(&plan);
        if let (Some(fields), false) = (explained.as_object_mut(), fates.is_empty()) {
            fields.insert("files".into(), serde_json::to_value(&fates).unwrap_or_default());
        }
        println!("{}", show::json(&explained));
        return Ok(if plan.is_empty() { Exit::Done } else { Exit::Pending });
    }
    for Fate { path, action, why } in &fates {
        println!("file: {action} {path}: {why}");
    }
    if plan.is_empty() {
        print!("{plan}");
        println!("nothing to do: {goal} is what the host has");
    } else {
        print!("{plan}");
    }
    Ok(if plan.is_empty() { Exit::Done } else { Exit::Pending })
}

/// What becomes of each CNI file, where CNI files are all that is asked about.
fn fates(goal: &Goal, settings: &Settings, observed: &Observed, plan: &Plan) -> Vec<Fate> {
    let Goal::Cni { to, consent } = goal else { return Vec::new() };
    let (target, paths) = (Target::To(*to), settings.paths.clone());
    cni::fates(&Want { target, paths, consent: *consent }, observed, plan)
}

/// The plan that is carried out, as it is; and beside each step what it does and why.
fn explained(plan: &Plan) -> serde_json::Value {
    let mut value = serde_json::to_value(plan).unwrap_or_default();
    let mut words = plan.steps().map(ToString::to_string);
    let stages = value.get_mut("stages").and_then(serde_json::Value::as_array_mut);
    let steps =
        stages.into_iter().flatten().filter_map(|stage| stage.get_mut("steps")?.as_array_mut());
    for step in steps.flatten().filter_map(serde_json::Value::as_object_mut) {
        step.insert("words".into(), words.next().into());
    }
    value
}

pub(super) fn apply(options: &Options, subject: &Subject) -> Result<Exit> {
    let _held = hold_signals()?;
    let journal = Journal::open(&show::state_dir(options)).map_err(show::boxed)?;
    if let Some(outcome) = recover(options, &journal)?.filter(|o| o.end == End::Degraded) {
        return Ok(tell(options, &outcome));
    }
    let settings = show::settings(options)?;
    let executor = show::executor(options, &settings)?;
    let teller = Teller { quiet: options.json };
    let deadman = DeadMan::default();
    let site = Site {
        settings: &settings,
        executor: &executor,
        journal: &journal,
        progress: &teller,
        deadman: &deadman,
        api: None,
    };
    let goal = match subject {
        // needs no look at the host first
        Subject::Profile | Subject::Handover | Subject::Cni => {
            goal(options, subject, &settings, &Observed::default())?
        }
        Subject::Modules => {
            let host = observe::host(&executor).map_err(show::boxed)?;
            let observed = Observed { host, ..Observed::default() };
            goal(options, subject, &settings, &observed)?
        }
    };
    let outcome = site.carry_out(&goal, None).map_err(show::boxed)?;
    Ok(tell(options, &outcome))
}

/// Ends the open transaction, if there is one, with the settings that it began with: a
/// configuration that became wrong since must not keep the node from its way back.
pub(super) fn recover(options: &Options, journal: &Journal) -> Result<Option<Outcome>> {
    let Some(record) = journal.read().map_err(show::boxed)?.filter(Record::is_open) else {
        return Ok(None);
    };
    let executor = show::host(options, &record.settings);
    let teller = Teller { quiet: options.json };
    let deadman = DeadMan::default();
    let site = Site {
        settings: &record.settings,
        executor: &executor,
        journal,
        progress: &teller,
        deadman: &deadman,
        api: None,
    };
    let Some((record, outcome)) = site.recover().map_err(show::boxed)? else { return Ok(None) };
    eprintln!("an unfinished transaction was found ({}): {:?}", record.goal, outcome.end);
    Ok(Some(outcome))
}

pub(super) fn restore(options: &Options) -> Result<Exit> {
    let _held = hold_signals()?;
    let journal = Journal::open(&show::state_dir(options)).map_err(show::boxed)?;
    let Some(record) = journal.read().map_err(show::boxed)? else {
        println!("nothing to do: this host has no journal");
        return Ok(Exit::Done);
    };
    if options.boot {
        return after_boot(options, &journal, &record);
    }
    let executor = show::host(options, &record.settings);
    let teller = Teller { quiet: options.json };
    let deadman = DeadMan::default();
    let site = Site {
        settings: &record.settings,
        executor: &executor,
        journal: &journal,
        progress: &teller,
        deadman: &deadman,
        api: None,
    };
    let Some(outcome) = site.restore().map_err(show::boxed)? else { return Ok(Exit::Done) };
    Ok(match tell(options, &outcome) {
        Exit::RolledBack => Exit::Done,
        other => other,
    })
}

fn after_boot(options: &Options, journal: &Journal, last: &Record) -> Result<Exit> {
    let executor = show::host(options, &last.settings);
    let teller = Teller { quiet: options.json };
    let deadman = DeadMan::default();
    let site = Site {
        settings: &last.settings,
        executor: &executor,
        journal,
        progress: &teller,
        deadman: &deadman,
        api: None,
    };
    let note = Boot { last, site }.come_up().map_err(show::boxed)?;
    if options.json {
        println!("{}", show::json(&note));
    } else {
        println!("{:?}: {}", note.did, note.message);
    }
    Ok(if note.did == Did::Failed { Exit::Degraded } else { Exit::Done })
}

fn goal(
    options: &Options,
    subject: &Subject,
    settings: &Settings,
    observed: &Observed,
) -> Result<Goal> {
    let usage = |message: String| -> Box<dyn Reasoned> { Box::new(UsageError(message)) };
    match subject {
        Subject::Profile => {
            let name =
                options.profile.clone().or_else(|| settings.default_profile.clone()).ok_or_else(
                    || usage("--profile is missing, and there is no default_profile".into()),
                )?;
            let Some(profile) = settings.profiles.get(&name) else {
                let known: Vec<&str> = settings.profiles.keys().map(String::as_str).collect();
                return Err(usage(format!(
                    "the profile `{name}` is unknown; the configuration has: {}",
                    known.join(", ")
                )));
            };
            Ok(Goal::Profile { profile: profile.clone(), name })
        }
        Subject::Handover => Ok(Goal::Handover {
            to: options.owner().map_err(usage)?,
            delete_bridge: options.delete_bridge,
        }),
        Subject::Modules => {
            let target: modules::Target = options.module_target().map_err(usage)?;
            let kernel = options.kernel.clone().unwrap_or_else(|| observed.host.kernel.clone());
            let activate: Activate = options.activate.unwrap_or(settings.switch.activate);
            Ok(Goal::Modules { kernel, target, activate })
        }
        Subject::Cni => {
            let (to, consent) = (options.toward().map_err(usage)?, options.consent);
            Ok(Goal::Cni { to, consent })
        }
    }
}

/// Signals that are taken note of and otherwise left alone, while this lives.
struct Held {
    _runtime: Runtime,
    _signals: Vec<Signal>,
}

/// A terminal that closes or an impatient Ctrl-C must not stop a handover half way.
///
/// By handlers, not by a mask: a mask would be inherited by the daemons that are started.
fn hold_signals() -> Result<Held> {
    let failed = |error: std::io::Error| -> Box<dyn Reasoned> {
        Box::new(UsageError(format!("could not hold back signals: {error}")))
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let entered = runtime.enter();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let signals = kinds.into_iter().map(signal).collect::<std::io::Result<_>>().map_err(failed)?;
    drop(entered);
    Ok(Held { _runtime: runtime, _signals: signals })
}

struct Teller {
    quiet: bool,
}

impl Progress for Teller {
    fn tell(&self, phase: Phase, words: &str) {
        if !self.quiet {
            eprintln!("{phase}: {words}");
        }
    }
}

fn tell(options: &Options, outcome: &Outcome) -> Exit {
    let exit = match outcome.end {
        End::Unchanged | End::Reached => Exit::Done,
        End::Refused => Exit::Refused,
        End::RolledBack => Exit::RolledBack,
        End::Degraded => Exit::Degraded,
    };
    if options.json {
        let text = serde_json::json!({
            "end": outcome.end, "failure": outcome.failure, "notes": outcome.notes
        });
        println!("{text}");
        return exit;
    }
    for note in &outcome.notes {
        println!("note: {note}");
    }
    match (&outcome.end, &outcome.failure) {
        (End::Unchanged, _) => println!("nothing to do"),
        (End::Reached, _) => println!("done, and verified by a second look"),
        (end, Some(failure)) => println!("{end:?}: {}: {}", failure.reason, failure.message),
        (end, None) => println!("{end:?}"),
    }
    exit
}
