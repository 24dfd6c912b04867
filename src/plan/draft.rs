//! The plan of one resource while it is being made.

use crate::model::{
    Condition, ConditionKind, Doubt, Drift, DriftType, FieldChange, Gate, HeldStep, Ignored, PlannedStep, Reason, Step,
    Suspension, Wait,
};

use super::context::Context;
use crate::model::ResourceId;

/// What has been found out and decided about one resource so far.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent findings, not a state")]
pub(super) struct Draft {
    pub(super) steps: Vec<PlannedStep>,
    pub(super) held: Vec<HeldStep>,
    pub(super) drift: Vec<Drift>,
    pub(super) ignored: Vec<Ignored>,
    pub(super) notes: Vec<Note>,
    /// Something does not match.
    pub(super) differs: bool,
    /// Something could not be read.
    pub(super) unknown: bool,
    /// Something is missing and cannot be made now: nothing new is put on top of it.
    pub(super) blocked: bool,
    /// The engine undid an update of it, which is held.
    pub(super) rolled_back: bool,
    /// It waits for something that is not ours.
    pub(super) waiting: bool,
    /// A stranger is in the way.
    pub(super) conflict: bool,
    /// A record of it belongs to somebody else: no service is made or changed that this record should name.
    pub(super) foreign_record: bool,
    /// When the newest task failed of those services whose tasks do not all run, as the engine writes it.
    pub(super) last_failure: Option<String>,
}

/// A condition without its time.
pub(super) struct Note {
    pub(super) kind: ConditionKind,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Draft {
    /// Plans a step, now or when what it waits for has come.
    pub(super) fn step(&mut self, step: Step, reason: Reason, changes: Vec<FieldChange>, wait: Option<Wait>) {
        let step = PlannedStep { step, reason, changes };
        self.differs = true;
        match wait {
            None => self.steps.push(step),
            Some(wait) => self.held.push(HeldStep { step, wait }),
        }
    }

    /// Notes drift.
    pub(super) fn drift(&mut self, drift: DriftType, object: String, changes: &[FieldChange]) {
        self.differs = true;
        self.drift.push(Drift { drift, object, fields: changes.iter().map(|change| change.field.clone()).collect() });
    }

    /// Notes when a task failed; the newest counts.
    pub(super) fn failed_at(&mut self, at: Option<&str>) {
        if at > self.last_failure.as_deref() {
            self.last_failure = at.map(str::to_owned);
        }
    }

    /// Notes a condition.
    pub(super) fn note(&mut self, kind: ConditionKind, reason: &'static str, message: String) {
        self.notes.push(Note { kind, reason, message });
    }

    /// A stranger is in the way.
    pub(super) fn conflict(&mut self, reason: &'static str, message: String) {
        self.differs = true;
        self.conflict = true;
        self.note(ConditionKind::Conflict, reason, message);
    }

    /// It waits for something that is not there.
    pub(super) fn wait_for(&mut self, reason: &'static str, message: String) {
        self.waiting = true;
        self.note(ConditionKind::Waiting, reason, message);
    }

    /// Holds a step of which the reading of the registry does not prove that it is needed, or that it may be taken.
    pub(super) fn unproven(&mut self, step: Step, reason: Reason, changes: Vec<FieldChange>, doubt: &Doubt) {
        self.unknown = true;
        self.waiting |= doubt.lasting;
        let wait = Wait::Evidence { lasting: doubt.lasting };
        self.held.push(HeldStep { step: PlannedStep { step, reason, changes }, wait });
        let known = self.notes.iter().any(|note| note.reason == doubt.reason.as_str() && note.message == doubt.message);
        if !known {
            self.note(ConditionKind::Waiting, doubt.reason.as_str(), doubt.message.clone());
        }
    }

    /// Holds everything until the notes were read: they may say that the resource is suspended or was taken down, or that
    /// the engine undid the update.
    pub(super) fn await_notes(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        self.hold(steps, &Wait::Notes);
    }

    /// Holds the rest of the resource while the attempt at one of its updates is being noted, so that its steps stay in
    /// order.
    pub(super) fn await_attempts(&mut self) {
        if self.held.iter().any(|held| held.wait == Wait::AttemptNoted) {
            let steps = std::mem::take(&mut self.steps);
            self.hold(steps, &Wait::AttemptNoted);
        }
    }

    /// Holds every step until the next repair of what somebody undoes.
    pub(super) fn await_repair(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        self.hold(steps, &Wait::Contested);
    }

    /// Holds what a rollout does not let go yet: steps that could be taken, and those whose attempt is being noted.
    pub(super) fn await_rollout(&mut self, gate: &Gate, concerns: impl Fn(&PlannedStep) -> bool) {
        for held in self.held.iter_mut().filter(|held| held.wait == Wait::AttemptNoted && concerns(&held.step)) {
            held.wait = Wait::Rollout(gate.clone());
        }
        let (concerned, free) = std::mem::take(&mut self.steps).into_iter().partition(concerns);
        self.steps = free;
        self.hold(concerned, &Wait::Rollout(gate.clone()));
    }

    /// Puts these before everything else that is held.
    fn hold(&mut self, steps: Vec<PlannedStep>, wait: &Wait) {
        let mut held: Vec<HeldStep> = steps.into_iter().map(|step| HeldStep { step, wait: wait.clone() }).collect();
        held.append(&mut self.held);
        self.held = held;
    }

    /// Turns every step into one that waits: the resource is suspended.
    pub(super) fn suspend(&mut self, by: Suspension, message: String) {
        for held in self
            .held
            .iter_mut()
            .filter(|held| matches!(held.wait, Wait::AttemptNoted | Wait::Contested | Wait::Rollout(_)))
        {
            held.wait = Wait::Suspended(by);
        }
        let steps = std::mem::take(&mut self.steps);
        self.hold(steps, &Wait::Suspended(by));
        self.note(ConditionKind::Suspended, by.as_str(), message);
    }

    /// Conditions with the time since which they hold: the kind and the reason are what makes two the same.
    pub(super) fn conditions(&mut self, context: &Context<'_>, id: &ResourceId) -> Vec<Condition> {
        self.notes
            .drain(..)
            .map(|note| {
                let key = (id.clone(), note.kind, note.reason.to_owned());
                let since = context.memory.condition_since.get(&key).copied().unwrap_or(context.at);
                Condition { kind: note.kind, reason: key.2, message: note.message, since }
            })
            .collect()
    }
}
