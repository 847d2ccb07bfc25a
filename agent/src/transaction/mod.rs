//! One change of the host, whole or taken back: observe, plan, checkpoint, apply, verify.
//!
//! The way back is planned like the way forth, from what is observed then. There is
//! no list of undo steps that could be wrong.

mod after_boot;
mod armed;
mod confirm;
mod former;
mod found;
mod packages;
mod proof;
mod retreat;
mod way_back;
mod witness;

use crate::apply::{ApplyError, Executor};
use crate::deadman::{DeadMan, DeadmanError};
use crate::journal::{Failure, JOURNAL_SCHEMA, Journal, JournalError, Record};
use crate::observe;
use crate::probe::ApiServer;
use crate::watch::staged_by;
use former::stands;
use pointsman_core::checkpoint::{CHECKPOINT_SCHEMA, Checkpoint};
use pointsman_core::config::Settings;
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::goal::Goal;
use pointsman_core::model::Observed;
use pointsman_core::phase::{End, Event, Illegal, Phase};
use pointsman_core::plan::boot;
use pointsman_core::plan::limit::limit;
use pointsman_core::plan::switch::refuse_while_staged;
use pointsman_core::plan::{Plan, Refusal, Step};
use std::fmt;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How often a second look is taken until it finds nothing left: links and daemons settle.
const LOOKS: u32 = 10;
/// Between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// How long a look may take, two daemons that hang included.
const LOOK: Duration = Duration::from_secs(60);
/// A transaction that somebody has to look at.
const DEGRADED: Phase = Phase::Ended(End::Degraded);

/// What a transaction works with.
pub struct Site<'a> {
    /// Of the operator; a transaction that was begun before keeps its own.
    pub settings: &'a Settings,
    /// Changes the host.
    pub executor: &'a Executor,
    /// Remembers.
    pub journal: &'a Journal,
    /// Is told of every phase and step.
    pub progress: &'a (dyn Progress + Sync),
    /// Takes the way back where this process does not live to.
    pub deadman: &'a DeadMan,
    /// Asked beside the gateways; none without a cluster.
    pub api: Option<&'a ApiServer>,
}

/// Somebody who wants to know how it goes.
pub trait Progress {
    /// A phase begins, or a step of one.
    fn tell(&self, phase: Phase, words: &str);
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In one word.
    pub end: End,
    /// Why it is not [`End::Reached`] or [`End::Unchanged`].
    pub failure: Option<Failure>,
    /// What the plan could not save or prove.
    pub notes: Vec<String>,
}

/// A transaction that could not even begin, or whose record could not be kept.
#[derive(Debug, Error)]
pub enum TransactionError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The first look.
    #[error("look at the host; nothing was changed")]
    Observe(#[source] observe::ObserveError),
    /// The dead-man took over.
    #[error(transparent)]
    Deadman(#[from] DeadmanError),
    /// A defect.
    #[error(transparent)]
    Illegal(#[from] Illegal),
}

impl Reasoned for TransactionError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Journal(source) => source.reason(),
            Self::Observe(source) => source.reason(),
            Self::Deadman(source) => source.reason(),
            Self::Illegal(_) => "Defect",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Journal(source) => source.is_transient(),
            Self::Observe(source) => source.is_transient(),
            Self::Deadman(source) => source.is_transient(),
            Self::Illegal(_) => false,
        }
    }
}

impl fmt::Debug for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("executor", self.executor).finish_non_exhaustive()
    }
}

impl Site<'_> {
    /// From the first look to the end.
    pub fn carry_out(
        &self,
        goal: &Goal,
        request: Option<&str>,
    ) -> Result<Outcome, TransactionError> {
        self.carry_out_from(goal, request, Upon::Nothing)
    }

    /// [`Self::carry_out`] of what the last transaction had reached and somebody else changed:
    /// where that one began is what is carried, and the way back.
    pub fn repair(&self, goal: &Goal, request: Option<&str>) -> Result<Outcome, TransactionError> {
        self.carry_out_from(goal, request, Upon::Last)
    }

    /// [`Self::carry_out`] of a small part of what the last transaction had reached and somebody
    /// else changed. What was there when it began is its way back; when it has ended, the last
    /// transaction is the last one again, with its own way back.
    pub fn mend(&self, goal: &Goal) -> Result<Outcome, TransactionError> {
        self.carry_out_from(goal, None, Upon::Beside)
    }

    fn carry_out_from(
        &self,
        goal: &Goal,
        request: Option<&str>,
        upon: Upon,
    ) -> Result<Outcome, TransactionError> {
        let began = Instant::now();
        self.progress.tell(Phase::Preparing, "looking at the host");
        let last = self.journal.read()?;
        let known = last.as_ref().and_then(Record::database_file);
        let observed = self.observe(self.settings, known).map_err(TransactionError::Observe)?;
        let stands = |record: &Record| upon == Upon::Last || stands(record, goal, &observed);
        let unfinished = last.clone().filter(stands);
        let way_back = unfinished.map(|record| record.checkpoint);
        let staged = last.as_ref().and_then(|record| staged_by(record, &observed));
        let planned = goal.plan(self.settings, &observed, way_back.as_ref()).and_then(|plan| {
            let asked = (goal, &plan);
            refuse_while_staged(self.settings, &observed, staged, asked).map(|()| plan)
        });
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(refusal) => {
                return ended(Phase::Preparing.after(Event::Refused)?, Some(refusal), vec![]);
            }
        };
        if plan.is_empty() {
            if let Err(failure) = self.prove(goal, request, &observed) {
                let failure = Some(failure);
                return Ok(Outcome { end: End::Refused, failure, notes: plan.notes });
            }
            return ended(Phase::Preparing.after(Event::NothingToDo)?, None, plan.notes);
        }
        // a way back, and what was begun, is never refused
        let may_refuse = goal.wants_bridge() && way_back.is_none();
        let (baseline, mut said) = match self.baseline(&plan, &observed, may_refuse) {
            Ok((baseline, said)) => (Some(baseline), said),
            Err(refusal) => {
                return ended(Phase::Preparing.after(Event::Refused)?, Some(refusal), plan.notes);
            }
        };
        plan.notes.append(&mut said);
        if let Some(refusal) = self.changed_since(&plan, &observed) {
            return ended(Phase::Preparing.after(Event::Refused)?, Some(refusal), vec![]);
        }
        let is_first = way_back.is_none();
        let former = last.and_then(|last| match upon {
            Upon::Last => None,
            Upon::Beside => Some(last).filter(|last| !last.is_open()),
            Upon::Nothing => former::upon(last, goal, &plan, &observed),
        });
        let checkpoint = way_back.unwrap_or_else(|| Checkpoint {
            schema: CHECKPOINT_SCHEMA,
            transaction: transaction_id(&observed),
            before: observed,
        });
        let record = Record {
            schema: JOURNAL_SCHEMA,
            goal: goal.clone(),
            settings: self.settings.clone(),
            request: request.map(str::to_owned),
            checkpoint,
            phase: Phase::Preparing.after(Event::CheckpointWritten)?,
            failure: None,
            baseline,
            former: former.map(Box::new),
        };
        self.begin(record, plan, began, is_first)
    }

    /// From the first write of the record, before which nothing has changed, to the end.
    ///
    /// `is_first`: its checkpoint is of no earlier transaction that was left half done.
    fn begin(
        &self,
        mut record: Record,
        plan: Plan,
        began: Instant,
        is_first: bool,
    ) -> Result<Outcome, TransactionError> {
        self.journal.write(&record)?;
        self.journal.begin_progress(began);
        self.journal.note("the way back is on disk");
        if let Err(error) = self.arm(&record, &plan) {
            return self.unarmed(record, &error, is_first);
        }
        match self.apply_and_verify(&mut record, &plan)? {
            Ok(mut said) => {
                said.splice(0..0, plan.notes);
                self.close(record, Event::Closed, said)
            }
            Err(failure) => self.take_back(record, failure, Event::Failed),
        }
    }

    fn observe(
        &self,
        settings: &Settings,
        known: Option<&str>,
    ) -> Result<Observed, observe::ObserveError> {
        observe::observe_knowing(self.executor, settings, known)
    }

    /// What the steps said of what they could not do.
    fn apply_and_verify(
        &self,
        record: &mut Record,
        plan: &Plan,
    ) -> Result<Result<Vec<String>, Failure>, TransactionError> {
        if plan.steps().any(boot::needs_program)
            && let Err(error) = self.deadman.put_copy(self.executor, self.journal.directory())
        {
            return Ok(Err(failure_of(&error)));
        }
        let said = match self.apply(record.phase, plan) {
            Ok(said) => said,
            Err(error) => return Ok(Err(failure_of(&error))),
        };
        record.phase = record.phase.after(Event::StepsDone)?;
        if let Err(failure) = self.verify(record, Way::Forth).and_then(|()| self.confirm(record)) {
            return Ok(Err(failure));
        }
        record.phase = record.phase.after(Event::Verified)?;
        Ok(Ok(said))
    }

    fn apply(&self, phase: Phase, plan: &Plan) -> Result<Vec<String>, ApplyError> {
        let (mut number, mut said) = (0, Vec::new());
        for stage in &plan.stages {
            let began = Instant::now();
            for step in &stage.steps {
                let words = step.to_string();
                self.journal.note_step(number, &words);
                self.progress.tell(phase, &words);
                self.deadman.grant(limit(step));
                let before = said.len();
                self.executor.apply_noting(step, &mut said)?;
                for words in said.iter().skip(before) {
                    tracing::warn!(%step, "{words}");
                    self.journal.note(words);
                }
                number += 1;
            }
            let ms = began.elapsed().as_secs_f64() * 1000.0;
            let words = format!("took {ms:.1} ms: {}", stage.title);
            self.journal.note(&words);
            self.progress.tell(phase, &words);
        }
        Ok(said)
    }

    fn left_to_do(&self, record: &Record, way: Way) -> Result<Plan, Failure> {
        let (settings, checkpoint) = (&record.settings, &record.checkpoint);
        self.deadman.grant(LOOK);
        let observed = if way == Way::Harbour || record.goal.is_of_network_alone() {
            observe::reachability(self.executor, settings, record.database_file())
        } else {
            self.observe(settings, record.database_file())
        };
        let observed = observed.map_err(|error| failure_of(&error))?;
        match way {
            Way::Forth => record.goal.plan(settings, &observed, Some(checkpoint)),
            Way::Back => record.goal.plan_back(settings, &observed, checkpoint),
            Way::Harbour => Goal::plan_harbour(settings, &observed, checkpoint),
        }
        .map_err(|refusal| failure_of(&refusal))
    }

    /// Looks again until nothing is left to do.
    fn verify(&self, record: &Record, way: Way) -> Result<(), Failure> {
        let words = "looking again: nothing may be left to do";
        self.journal.note(words);
        self.progress.tell(record.phase, words);
        let mut left = self.left_to_do(record, way);
        for _ in 1..LOOKS {
            if matches!(&left, Ok(plan) if plan.is_empty()) {
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
            left = self.left_to_do(record, way);
        }
        let left = left?;
        if left.is_empty() {
            return Ok(());
        }
        let steps: Vec<String> = left.steps().take(3).map(Step::to_string).collect();
        Err(Failure {
            reason: "VerifyFailed".into(),
            message: format!(
                "every step succeeded, but a second look finds {} left, first: {}",
                left.steps().count(),
                steps.join("; ")
            ),
        })
    }

    fn close(
        &self,
        mut record: Record,
        event: Event,
        notes: Vec<String>,
    ) -> Result<Outcome, TransactionError> {
        // who disarms owns the host; a dead-man that was faster lets nothing be written any more
        self.deadman.disarm()?;
        record.phase = record.phase.after(event)?;
        self.journal.write(&record)?;
        self.deadman.relieve_former(self.journal);
        let outcome = ended_with(record, notes)?;
        self.journal.note(&format!("ended: {:?}", outcome.end));
        Ok(outcome)
    }
}

/// What becomes of the last transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upon {
    /// It is over.
    Nothing,
    /// Its checkpoint is the new one's.
    Last,
    /// It is kept, and is the last one again.
    Beside,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forth,
    Back,
    Harbour,
}

fn touches_network(step: &Step) -> bool {
    matches!(step, Step::Handover(_) | Step::Ovs(_))
}

fn ended(
    phase: Phase,
    refusal: Option<Refusal>,
    notes: Vec<String>,
) -> Result<Outcome, TransactionError> {
    let Phase::Ended(end) = phase else {
        return Err(Illegal { phase, event: Event::Closed }.into());
    };
    let failure = refusal.map(|refusal| failure_of(&refusal));
    Ok(Outcome { end, failure, notes })
}

fn ended_with(record: Record, notes: Vec<String>) -> Result<Outcome, TransactionError> {
    let Phase::Ended(end) = record.phase else {
        return Err(Illegal { phase: record.phase, event: Event::Closed }.into());
    };
    Ok(Outcome { end, failure: record.failure, notes })
}

fn failure_of(error: &dyn Reasoned) -> Failure {
    Failure { reason: error.reason().into(), message: chain(error) }
}

/// Unique per host and boot, and sortable by nobody: the journal holds only one.
fn transaction_id(observed: &Observed) -> String {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let boot: String = observed.host.boot_id.chars().take(8).collect();
    format!("{boot}-{}", uuid.trim())
}
