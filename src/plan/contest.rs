//! Changes of ours that somebody undoes again and again: another operator, an autoscaler, a person with another tool.
//!
//! A write that has to be made again, for the same wish and to the same field, was undone in between. After
//! [`UNDONE`] of them within [`WITHIN`] the object is contested: repairs back off, from [`FIRST_PAUSE`] up to
//! [`LONGEST_PAUSE`], and a condition says which field, both values, and who wrote last if the mark tells. It ends when
//! nothing was undone for [`WITHIN`], when the manifest changes, or when a person resumes or reconciles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Memory;
use super::context::Context;
use super::draft::Draft;
use crate::model::{
    ConditionKind, FieldChange, Mark, Observed, Plan, PlannedStep, Reason, Record, RecordStep, ResourceId, RunId,
    ServiceStep, SpecHash, Step, Wait,
};

/// After so many writes to one field that were undone …
const UNDONE: usize = 3;

/// … within this time the object is contested; and it is so no more when none was undone for as long.
const WITHIN: Duration = Duration::from_secs(10 * 60);

/// How long the first repair of a contested object waits after the last one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// How long repairs wait at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// A write shows in what is observed within this time; until then a plan may rest on an observation that began before.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// What a write asks for.
#[derive(Debug, Clone, PartialEq)]
enum Wish {
    Service(SpecHash),
    Gone,
    Record(Arc<Record>),
}

/// What is remembered of writes to one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Contest {
    wish: Wish,
    /// When each field was written.
    fields: BTreeMap<String, Vec<Duration>>,
    /// Whether what was written last has been seen since.
    seen: bool,
    last_write: Duration,
    last_undone: Duration,
    /// Repairs since it has been contested; none while it is not.
    repairs: Option<u32>,
    /// What to tell of it.
    message: String,
    reason: &'static str,
}

/// Objects that were written, by their resource and how a step names them.
pub type Contests = BTreeMap<(ResourceId, String), Contest>;

/// What a step asks for; none for one that nobody can undo, or that is made again for a reason of its own.
fn wish(step: &PlannedStep) -> Option<Wish> {
    match step.reason {
        Reason::ImageMoved | Reason::Expiring => return None,
        Reason::New
        | Reason::ManifestChanged
        | Reason::Missing
        | Reason::Modified
        | Reason::Adopt
        | Reason::Orphaned
        | Reason::Unregistered
        | Reason::StaleRecord
        | Reason::Requested => {}
    }
    match &step.step {
        Step::Service(ServiceStep::Create { mark, .. }) | Step::Service(ServiceStep::Update { mark, .. }) => {
            Some(Wish::Service(mark.spec.clone()))
        }
        Step::Service(ServiceStep::Remove { .. }) => Some(Wish::Gone),
        Step::Record(RecordStep::Register { record, .. }) => Some(Wish::Record(Arc::clone(record))),
        Step::Record(RecordStep::Deregister { .. } | RecordStep::Forget { .. }) => None,
    }
}

/// The fields that a step writes, in words.
fn fields(step: &PlannedStep) -> impl Iterator<Item = &str> {
    let whole = match &step.step {
        Step::Service(ServiceStep::Create { .. }) => Some("existence"),
        Step::Service(ServiceStep::Remove { .. }) => Some("absence"),
        Step::Record(RecordStep::Register { .. }) if step.changes.is_empty() => Some("existence"),
        Step::Service(ServiceStep::Update { .. }) | Step::Record(_) => None,
    };
    whole.into_iter().chain(step.changes.iter().map(|change| change.field.as_str()))
}

impl Contest {
    /// The field of a step that was written and undone often enough, if there is one.
    fn undone<'a>(&self, step: &'a PlannedStep, now: Duration) -> Option<(&'a str, usize)> {
        let recent = |times: &Vec<Duration>| times.iter().filter(|at| now.saturating_sub(**at) <= WITHIN).count();
        let counts = fields(step).filter_map(|field| Some((field, recent(self.fields.get(field)?))));
        counts.filter(|(_, count)| *count >= UNDONE || self.repairs.is_some()).max_by_key(|(_, count)| *count)
    }

    /// When the next repair may be made.
    fn next_repair(&self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(self.repairs.unwrap_or(0)).unwrap_or(u32::MAX));
        self.last_write + pause.min(LONGEST_PAUSE)
    }

    /// Whether what was written last can have been seen in an observation of this time.
    fn is_settled(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_write) >= SHOWN_WITHIN
    }
}

/// Holds repairs of what is contested, and says so.
pub(super) fn hold(context: &Context<'_>, draft: &mut Draft, id: &ResourceId) {
    if context.memory.contests.is_empty() {
        return;
    }
    let waits = |step: &PlannedStep| {
        contest_of(context.memory, id, step)
            .filter(|contest| contest.undone(step, context.at).is_some())
            .is_some_and(|contest| contest.next_repair() > context.at)
    };
    if draft.steps.iter().any(waits) {
        // what belongs together goes on together: a record without its service would be the next thing to fight over
        draft.await_repair();
    }
    let told = context.memory.contests.range((id.clone(), String::new())..).take_while(|((of, _), _)| of == id);
    for (_, contest) in told.filter(|(_, contest)| contest.repairs.is_some()) {
        draft.note(ConditionKind::Contested, contest.reason, contest.message.clone());
    }
}

/// How long until the next repair of a held step.
pub(super) fn pause(context: &Context<'_>, id: &ResourceId, step: &PlannedStep) -> Option<Duration> {
    contest_of(context.memory, id, step).map(|contest| contest.next_repair().saturating_sub(context.at))
}

fn contest_of<'a>(memory: &'a Memory, id: &ResourceId, step: &PlannedStep) -> Option<&'a Contest> {
    let contest = memory.contests.get(&(id.clone(), step.step.object()))?;
    (wish(step).as_ref() == Some(&contest.wish)).then_some(contest)
}

impl Memory {
    /// Takes in a write that worked.
    pub(super) fn wrote(&mut self, id: &ResourceId, step: &PlannedStep, now: Duration) {
        let Some(wish) = wish(step) else { return };
        let is_record = matches!(wish, Wish::Record(_));
        let contest = self.contests.entry((id.clone(), step.step.object())).or_insert_with(|| Contest {
            wish: wish.clone(),
            fields: BTreeMap::new(),
            seen: true,
            last_write: now,
            last_undone: now,
            repairs: None,
            message: String::new(),
            reason: "UndoneByOthers",
        });
        if contest.wish != wish {
            (contest.wish, contest.repairs) = (wish, None);
            contest.fields.clear();
        }
        if !contest.seen {
            // a registry that follows its topics late shows the same difference again: nobody undid anything
            contest.fields.clear();
        }
        contest.seen = !is_record;
        contest.last_write = now;
        contest.last_undone = contest.last_undone.max(now);
        contest.repairs = contest.repairs.map(|repairs| repairs.saturating_add(1));
        for field in fields(step) {
            let times = contest.fields.entry(field.to_owned()).or_default();
            times.retain(|at| now.saturating_sub(*at) <= WITHIN);
            times.push(now);
        }
    }

    /// Which writes have been undone, and which are over.
    pub(super) fn learn_contests(&mut self, observed: &Observed, plan: &Plan) {
        if self.contests.is_empty() {
            return;
        }
        let now = observed.at;
        let run = self.run.clone();
        for ((id, object), contest) in &mut self.contests {
            if let (Wish::Record(record), Some(registry)) = (&contest.wish, &observed.registry) {
                contest.seen |= registry.records.get(&record.id()).is_some_and(|found| found.record == **record);
            }
            let Some(resource) = plan.resources.get(id) else { continue };
            let held = resource.held.iter().filter(|held| held.wait == Wait::Contested).map(|held| &held.step);
            let needed = resource.steps.iter().chain(held).find(|step| step.step.object() == *object);
            let Some(step) = needed.filter(|step| wish(step).as_ref() == Some(&contest.wish)) else { continue };
            if !contest.is_settled(now) && contest.repairs.is_none() {
                continue;
            }
            contest.last_undone = now;
            if let Some((field, count)) = contest.undone(step, now).filter(|_| contest.seen) {
                let mark = mark_of(observed, &step.step);
                (contest.reason, contest.message) = words(id, step, field, count, mark, run.as_ref());
                contest.repairs.get_or_insert(0);
            }
        }
        self.contests.retain(|_, contest| now.saturating_sub(contest.last_undone) <= WITHIN);
    }
}

/// The mark on the service that a step is about.
fn mark_of<'a>(observed: &'a Observed, step: &Step) -> Option<&'a Mark> {
    let name = match step {
        Step::Service(ServiceStep::Create { spec, .. }) | Step::Service(ServiceStep::Update { spec, .. }) => &spec.name,
        Step::Service(ServiceStep::Remove { name, .. }) => name,
        Step::Record(_) => return None,
    };
    observed.platform.as_ref()?.services.get(name)?.mark.as_ref()
}

/// The reason of the condition, and its message.
fn words(
    id: &ResourceId,
    step: &PlannedStep,
    field: &str,
    count: usize,
    mark: Option<&Mark>,
    run: Option<&RunId>,
) -> (&'static str, String) {
    let object = step.step.object();
    let what = match (&step.step, step.changes.iter().find(|change| change.field == field)) {
        (_, Some(change)) => {
            let (ours, theirs) = (shown(change, change.to.as_ref()), shown(change, change.from.as_ref()));
            format!("{field} of {object} is set to {ours} and changed back to {theirs}")
        }
        (Step::Service(ServiceStep::Remove { .. }), None) => format!("{object} is removed and made again"),
        (_, None) => format!("{object} is made and removed again"),
    };
    let other = mark.filter(|mark| mark.run.as_ref().is_some_and(|writer| Some(writer) != run));
    let (reason, who) = match other {
        Some(mark) => {
            let writer = mark.run.as_ref().map(RunId::as_str).unwrap_or_default();
            let who = format!("another operator of instance {} (run {writer}, spec {})", mark.instance, mark.spec.0);
            ("OtherOperator", who)
        }
        None => ("UndoneByOthers", "somebody who leaves no mark".to_owned()),
    };
    let message = format!(
        "{who} undoes changes again and again: {what}, {count} times within 10 minutes; repairs wait up to 5 minutes now. \
         Find out who else changes it; `ofop suspend {id}`, or `ignore` in the manifest's `x-ofop`, leaves it alone, and \
         `ofop resume {id}` tries again at once"
    );
    (reason, message)
}

fn shown(change: &FieldChange, value: Option<&String>) -> String {
    match value {
        _ if change.secret => "(hidden)".into(),
        Some(value) => value.clone(),
        None => "nothing".into(),
    }
}
