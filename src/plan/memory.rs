//! How the memory of one pass becomes that of the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Command, ConditionKind, Desired, DesiredResource, Examined, FailureKind, Going, Health, Hold, InstanceName, Ledger,
    Note, Observed, Plan, PlannedStep, PruneVerdict, Reason, Record, RecordId, RecordStep, ResourceId, ResourcePlan,
    Revision, RolloutScope, RunId, ServiceId, ServiceName, ServiceStep, SharedMap, SpecHash, Step, StepFailure, Sync,
    TaskView, Wait,
};

use super::Policy;
use super::attempts::{Attempt, Attempts, NotedAttempt, attempt};
use super::contest::Contests;
use super::holds::{Ends, hold};
use super::notebook::Notebook;
use super::records::is_taken_back;

/// What the operator remembers between passes. What its notebook does not keep can be lost without harm: removals then
/// take one more look, and deadlines begin anew.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    /// Services that were seen without a reason to exist, and the generation of the snapshot that showed it.
    pub orphan_services: BTreeMap<ServiceId, u64>,
    /// The same for records.
    pub orphan_records: BTreeMap<RecordId, u64>,
    /// Services that are being removed, and for which resource they ran: their tasks outlive them.
    pub departing: BTreeMap<ServiceId, ResourceId>,
    /// Since when tasks that end hold up the taking back of a record.
    pub ending: BTreeMap<ServiceId, Duration>,
    /// Records written or taken back a moment ago (`None`), with the time until which the registry may say
    /// otherwise.
    pub expected: BTreeMap<RecordId, (Option<Written>, Duration)>,
    /// Since when an asset's rows have stayed away, for assets that are being taken back.
    pub gone_since: BTreeMap<RecordId, Duration>,
    /// What outlives the operator: whatever says so below.
    pub notebook: Notebook,
    /// Updates that the engine rolled back: not tried again until the manifest changes. Noted, since the engine
    /// forgets what it rolled back.
    pub rolled_back: BTreeMap<ServiceName, SpecHash>,
    /// Updates that the engine may still undo.
    pub attempts: Attempts,
    /// Since when a resource has been on its way.
    pub progressing_since: BTreeMap<ResourceId, Duration>,
    /// When an update that replaces tasks was sent, until the engine reports on it: as long as it does not, the tasks that
    /// are seen to run are those of the version before.
    pub replacing: BTreeMap<ServiceName, (ServiceId, Duration)>,
    /// Since when a task runs whose forerunners failed again and again, by the task's id; none for one that ran already
    /// when we first looked.
    pub running_since: BTreeMap<String, Option<Duration>>,
    /// The engine's tasks were seen at least once.
    pub has_looked: bool,
    /// Since when nothing describes a resource that exists, and which revision was the first without it.
    pub orphaned: BTreeMap<ResourceId, (Duration, Revision)>,
    /// Resources that are new and do not run yet: since when, and which revision brought them in.
    pub newcomers: BTreeMap<ResourceId, (Duration, Revision)>,
    /// Since when a condition holds, by its kind and reason.
    pub condition_since: BTreeMap<(ResourceId, ConditionKind, String), Duration>,
    /// What each resource looked like when it was last seen in sync: what of it is missing later was lost.
    pub synced: SharedMap<ResourceId, Arc<DesiredResource>>,
    /// The last plan of each resource, and both sides as it saw them: the next plan looks at what has changed since.
    pub planned: SharedMap<ResourceId, Arc<ResourcePlan>>,
    /// Those that are not at rest.
    pub restless: BTreeSet<ResourceId>,
    /// Both sides, matched.
    pub ledger: Arc<Ledger>,
    /// Resources whose removal a person has confirmed and that are not gone yet.
    pub confirmed: BTreeSet<ResourceId>,
    /// What was managed when the guard began to hold removals back; empty while it does not.
    pub guarded: BTreeSet<ResourceId>,
    /// A person confirmed removals beyond the guard, for the next plan.
    pub confirm_next: bool,
    /// Resources that a person told us to leave alone. Noted.
    pub suspended: BTreeMap<ResourceId, Hold>,
    /// Resources that a person took down and that stay away, with the time, RFC 3339. Noted.
    pub taken_down: BTreeMap<ResourceId, String>,
    /// A person has us leave everything alone. Noted.
    pub suspended_all: Option<Hold>,
    /// A person has changes from manifests wait, of everything; repairs go on. Noted.
    pub freeze: Option<Hold>,
    /// Holds whose time is over, and which of them have ended for good.
    pub ends: Ends,
    /// Since when a resource that is suspended, or was taken down, is neither described nor there.
    pub absent_since: BTreeMap<ResourceId, Duration>,
    /// Resources of which a rolled-back update may be tried again.
    pub retry: BTreeSet<ResourceId>,
    /// Writes that may be undone by somebody else.
    pub contests: Contests,
    /// Which run of the operator this is, once it has written something.
    pub run: Option<RunId>,
    /// Resources of which the last reading showed something of somebody else's: the reason and the message of the conflict.
    /// It holds while the registry cannot be read.
    pub others: BTreeMap<ResourceId, (&'static str, String)>,
    /// Since when a reading does not prove that a resource may have the services that it lacks.
    pub doubted: BTreeMap<ResourceId, Duration>,
    /// Resources that rollouts change. Noted as long as they are not proven.
    pub going: BTreeMap<ResourceId, Going>,
    /// How many resources each rollout changes.
    pub rollout_sizes: BTreeMap<RolloutScope, usize>,
    /// Resources whose changes a person has let out whatever their windows say, until they are in force. Noted.
    pub started: BTreeSet<ResourceId>,
    /// Since when resources that others come after are in sync and run.
    pub steady: BTreeMap<ResourceId, Duration>,
    /// The revision that was planned for last.
    pub planned_for: Revision,
    /// The revision whose rollout a person gave up. Noted.
    pub aborted: Option<Revision>,
    /// Resources that a person asked to take over, until that is done. Noted.
    pub adopting: BTreeMap<ResourceId, Adoption>,
}

/// A person's word that a resource may be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// From which instance, beside what carries no owner.
    pub from: Option<InstanceName>,
    /// When the first plan heeded it.
    pub since: Option<Duration>,
}

/// How long a person's word to adopt lasts when it cannot be carried out: what stands in the way by then needs another
/// look by a person.
const ADOPT_WITHIN: Duration = Duration::from_secs(10 * 60);

/// A record that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What it says.
    pub record: Arc<Record>,
    /// What its mark says beside whose it is: [`crate::model::record::RecordOwner::kept`].
    pub kept: bool,
}

impl Memory {
    /// What is still true after others may have acted: what people said and was not noted yet. Everything else is seen
    /// or read anew, as after a restart.
    pub fn after_a_gap(&self) -> Memory {
        // Nor does what is somebody else's stop being so.
        Memory { notebook: self.notebook.reopened(), others: self.others.clone(), ..Memory::default() }
    }

    /// The same without the last plans: the next one examines everything.
    #[must_use]
    pub fn without_plans(&self) -> Memory {
        Memory { planned: SharedMap::new(), restless: BTreeSet::new(), ledger: Arc::default(), ..self.clone() }
    }

    /// Takes in what is noted, by us or by a forerunner, and what is over by the clock on the wall. To be called before every
    /// plan.
    pub fn recall(&mut self, observed: &Observed) {
        if let Some(platform) = &observed.platform
            && self.notebook.see(&platform.notes, observed.at)
        {
            self.recollect();
        }
        self.drop_what_is_over(observed.wall);
    }

    /// Takes back what was learned of notes since `notebook` was copied: by an operator that may not write them, whose
    /// notes would never be kept.
    pub fn restore_notes(&mut self, notebook: Notebook) {
        self.notebook = notebook;
        self.attempts.unsent.clear();
        self.ends = Ends::default();
        self.recollect();
    }

    /// Rebuilds from the notebook everything that rests on notes.
    fn recollect(&mut self) {
        self.suspended_all = None;
        self.freeze = None;
        self.suspended.clear();
        self.taken_down.clear();
        self.rolled_back.clear();
        self.attempts.noted.clear();
        self.aborted = None;
        self.started.clear();
        let mut going = BTreeMap::new();
        let adopting = std::mem::take(&mut self.adopting);
        for (note, text) in self.notebook.notes() {
            match note {
                Note::SuspendedAll => self.suspended_all = Some(Hold::parse(text)),
                Note::Suspended(id) => _ = self.suspended.insert(id, Hold::parse(text)),
                Note::Freeze => self.freeze = Some(Hold::parse(text)),
                Note::TakenDown(id) => _ = self.taken_down.insert(id, text.to_owned()),
                Note::Adopting(id) => {
                    let since = adopting.get(&id).and_then(|adoption| adoption.since);
                    let from = (!text.is_empty()).then(|| InstanceName::new(text)).transpose();
                    self.adopting.extend(from.ok().map(|from| (id, Adoption { from, since })));
                }
                Note::Going(id) => going.extend(Going::parse(text).map(|noted| (id, noted))),
                Note::Started(id) => _ = self.started.insert(id),
                Note::RolloutAborted => self.aborted = Some(Revision(text.into())),
                Note::RolledBack(service) => _ = self.rolled_back.insert(service, SpecHash(text.to_owned())),
                Note::Attempted(service) => {
                    self.attempts.noted.extend(NotedAttempt::parse(text).map(|noted| (service, noted)));
                }
            }
        }
        self.recollect_rollouts(going);
    }

    /// Takes in what a pass saw and decided. To be called once per plan, before its steps are carried out.
    pub fn learn(&mut self, desired: &Desired, observed: &Observed, plan: &Plan) {
        self.planned = plan.resources.clone();
        self.restless.clone_from(&plan.restless);
        self.ledger = Arc::clone(&plan.ledger);
        self.learn_sightings(desired, observed, plan);
        self.learn_endings(observed, plan);
        self.learn_records(observed, plan);
        self.learn_updates(desired, observed, plan);
        self.learn_ends();
        self.learn_suspensions(desired, observed, plan);
        self.learn_succession(desired, observed, plan);
        self.learn_running(observed, plan);
        self.learn_times(observed.at, plan);
        self.learn_synced(desired, plan);
        self.learn_confirmations(plan);
        self.learn_adoptions(desired, observed.at, plan);
        self.learn_others(observed, plan);
        self.learn_contests(observed, plan);
        self.learn_rollouts(plan);
        if !observed.platform.as_ref().is_some_and(|platform| self.notebook.may_hide_something(&platform.notes)) {
            self.retry.clear();
        }
    }

    /// Takes in what became of a step. `now` is monotonic time.
    pub fn step_done(
        &mut self,
        policy: &Policy,
        resource: &ResourceId,
        step: &PlannedStep,
        outcome: &Result<(), StepFailure>,
        now: Duration,
    ) {
        // a call whose answer was lost may have worked
        let may_have_worked = match outcome {
            Ok(()) => true,
            Err(failure) => failure.kind == FailureKind::Ambiguous,
        };
        if !may_have_worked {
            return;
        }
        if outcome.is_ok() {
            self.run.clone_from(&policy.run);
            self.wrote(resource, step, now);
        }
        let until = now + policy.expectation;
        match &step.step {
            Step::Service(ServiceStep::Create { .. }) => {
                self.progressing_since.insert(resource.clone(), now);
            }
            Step::Service(ServiceStep::Update { id, version, spec, mark, .. }) => {
                self.progressing_since.insert(resource.clone(), now);
                self.await_beginning(step, now);
                let sent = Attempt { spec: attempt(mark, spec), id: id.clone(), version: *version };
                self.attempts.was_sent(&spec.name, sent);
            }
            Step::Service(ServiceStep::Remove { id, .. }) => {
                self.departing.insert(id.clone(), resource.clone());
            }
            Step::Record(RecordStep::Register { record, owner }) if outcome.is_ok() => {
                let written = Written { record: Arc::clone(record), kept: owner.kept };
                self.expected.insert(record.id(), (Some(written), until));
            }
            Step::Record(RecordStep::Deregister { record }) if outcome.is_ok() => {
                self.expected.insert(record.id(), (None, until));
            }
            Step::Record(RecordStep::Register { .. } | RecordStep::Deregister { .. }) => {}
            Step::Record(RecordStep::Forget { record }) => {
                self.gone_since.remove(record);
            }
        }
    }

    /// Takes in a person's word, said at this wall time, RFC 3339.
    pub fn command(&mut self, command: &Command, time: &str) {
        match command {
            Command::Reconcile { confirm_prune } => {
                self.confirm_next |= confirm_prune;
                self.contests.clear();
            }
            Command::ReconcileOne(id) => self.contests.retain(|(of, _), _| of != id),
            Command::Suspend(Some(id), term) => {
                let hold = hold(self.suspended.get(id), time, term);
                self.notebook.set(&Note::Suspended(id.clone()), Some(hold.note()));
                self.suspended.insert(id.clone(), hold);
            }
            Command::Suspend(None, term) => {
                let hold = hold(self.suspended_all.as_ref(), time, term);
                self.notebook.set(&Note::SuspendedAll, Some(hold.note()));
                self.suspended_all = Some(hold);
            }
            Command::Freeze(term) => {
                let hold = hold(self.freeze.as_ref(), time, term);
                self.notebook.set(&Note::Freeze, Some(hold.note()));
                self.freeze = Some(hold);
            }
            Command::EndFreeze => {
                self.freeze = None;
                self.notebook.set(&Note::Freeze, None);
            }
            Command::Down(id) => {
                let since = self.taken_down.entry(id.clone()).or_insert_with(|| time.to_owned());
                self.notebook.set(&Note::TakenDown(id.clone()), Some(since.clone()));
            }
            Command::Adopt { resource, from } => {
                self.adopting.insert(resource.clone(), Adoption { from: from.clone(), since: None });
                let text = from.as_ref().map(ToString::to_string).unwrap_or_default();
                self.notebook.set(&Note::Adopting(resource.clone()), Some(text));
            }
            Command::Resume(Some(id)) => {
                self.suspended.remove(id);
                self.notebook.set(&Note::Suspended(id.clone()), None);
                self.taken_down.remove(id);
                self.notebook.set(&Note::TakenDown(id.clone()), None);
                self.retry.insert(id.clone());
                self.give_another_try(id);
                self.contests.retain(|(of, _), _| of != id);
            }
            Command::RolloutStart(id) => {
                self.started.insert(id.clone());
                self.notebook.set(&Note::Started(id.clone()), Some(String::new()));
            }
            Command::RolloutResume => self.resume_rollouts(),
            Command::RolloutAbort => self.abort_rollouts(),
            Command::Resume(None) => {
                self.suspended_all = None;
                self.contests.clear();
                self.notebook.set(&Note::SuspendedAll, None);
            }
        }
    }

    /// Whether a person wants this resource left alone.
    pub fn is_suspended(&self, id: &ResourceId) -> bool {
        self.suspended_all.is_some() || self.suspended.contains_key(id)
    }

    /// Sightings count only when everything was read and every manifest is valid, and only in a row. What a person named
    /// is to go whatever the manifests say.
    fn learn_sightings(&mut self, desired: &Desired, observed: &Observed, plan: &Plan) {
        let (mut services, mut records) = (BTreeSet::<&ServiceId>::new(), BTreeSet::<RecordId>::new());
        let counts = |step: &PlannedStep| desired.complete || step.reason == Reason::Requested;
        for (id, resource) in plan.restless() {
            let held = resource.held.iter().map(|held| &held.step);
            for step in resource.steps.iter().chain(held) {
                match &step.step {
                    Step::Service(ServiceStep::Remove { id: service, .. }) => {
                        if counts(step) {
                            services.insert(service);
                        }
                        self.departing.insert(service.clone(), id.clone());
                    }
                    Step::Record(RecordStep::Deregister { record }) if counts(step) => {
                        records.insert(record.id());
                    }
                    Step::Service(ServiceStep::Create { .. } | ServiceStep::Update { .. }) | Step::Record(_) => {}
                }
            }
        }
        self.orphan_services.retain(|id, _| services.contains(id));
        self.orphan_records.retain(|id, _| records.contains(id));
        if let Some(platform) = observed.platform.as_ref().filter(|platform| platform.complete) {
            for id in services {
                self.orphan_services.entry(id.clone()).or_insert(platform.generation);
            }
        } else {
            self.orphan_services.clear();
        }
        if let Some(registry) = observed.registry.as_ref().filter(|registry| registry.complete) {
            for id in records {
                self.orphan_records.entry(id).or_insert(registry.generation);
            }
        } else {
            self.orphan_records.clear();
        }
    }

    fn learn_endings(&mut self, observed: &Observed, plan: &Plan) {
        let waits: BTreeSet<&ServiceId> = plan
            .restless()
            .flat_map(|(_, resource)| &resource.held)
            .filter_map(|held| match &held.wait {
                Wait::TasksEnding(ids) => Some(ids),
                Wait::SecondSighting
                | Wait::Services
                | Wait::RowsStayAway
                | Wait::Dependency
                | Wait::Conflict
                | Wait::RolledBack
                | Wait::AttemptNoted
                | Wait::Contested
                | Wait::Notes
                | Wait::Evidence { .. }
                | Wait::Suspended(_)
                | Wait::PruneDelay(_)
                | Wait::Successor(_)
                | Wait::Rollout(_)
                | Wait::Prune(_) => None,
            })
            .flatten()
            .collect();
        let Some(platform) = &observed.platform else { return };
        if self.departing.is_empty() && self.ending.is_empty() && waits.is_empty() {
            return;
        }
        let present: BTreeSet<&ServiceId> = platform.services.values().map(|service| &service.id).collect();
        let lives = |id: &ServiceId| {
            platform.tasks.get(id).is_some_and(|tasks| tasks.iter().any(|task| task.state.is_active()))
        };
        self.departing.retain(|id, _| present.contains(id) || lives(id));
        let ends = |id: &ServiceId| {
            let on_its_way = |task: &TaskView| task.state.is_active() && !(task.wanted && present.contains(id));
            platform.tasks.get(id).is_some_and(|tasks| tasks.iter().any(on_its_way))
        };
        // a wait that has run out stays run out for as long as such tasks are there
        self.ending.retain(|id, _| ends(id));
        for id in waits {
            self.ending.entry(id.clone()).or_insert(observed.at);
        }
    }

    /// Whether the registry does not show yet what was written to it a moment ago.
    pub fn awaits_rows(&self, observed: &Observed) -> bool {
        let Some(registry) = &observed.registry else { return false };
        let shows = |id: &RecordId| registry.records.get(id).is_some_and(|found| !is_taken_back(&found.record));
        let awaits = |(id, (written, until)): (&RecordId, &(Option<Written>, Duration))| {
            *until > observed.at && written.is_some() != shows(id)
        };
        self.expected.iter().any(awaits)
    }

    fn learn_records(&mut self, observed: &Observed, plan: &Plan) {
        self.expected.retain(|_, (_, until)| *until > observed.at);
        let Some(registry) = observed.registry.as_ref().filter(|registry| registry.complete) else { return };
        let taken_back = |id: &RecordId| registry.records.get(id).is_some_and(|found| is_taken_back(&found.record));
        self.gone_since.retain(|id, _| taken_back(id));
        for id in &plan.ledger.taken_back {
            if !self.gone_since.contains_key(id) {
                self.gone_since.insert(id.clone(), observed.at);
            }
        }
    }

    /// Which resources nothing describes any more, and which ones have come instead.
    fn learn_succession(&mut self, desired: &Desired, observed: &Observed, plan: &Plan) {
        if plan.scoped {
            return;
        }
        let known = |id: &ResourceId| plan.resources.get(id);
        self.orphaned.retain(|id, _| known(id).is_some_and(|resource| resource.origin.is_none()));
        self.newcomers.retain(|id, _| {
            known(id).is_some_and(|resource| {
                resource.origin.is_some() && !matches!(resource.health, Health::Healthy | Health::Suspended)
            })
        });
        let now = || (observed.at, desired.revision.clone());
        for (id, resource) in plan.examined() {
            if resource.origin.is_none() {
                // Without every file nobody knows what is not described.
                if desired.complete && !self.orphaned.contains_key(id) {
                    self.orphaned.insert(id.clone(), now());
                }
                continue;
            }
            if self.newcomers.contains_key(id) {
                continue;
            }
            let held = resource.held.iter().map(|held| &held.step);
            let is_new = |step: &PlannedStep| {
                step.reason == Reason::New && matches!(step.step, Step::Service(ServiceStep::Create { .. }))
            };
            // After a restart the marks alone tell what this revision brought in.
            let came_with_this = || {
                let services = desired.resources.get(id).into_iter().flat_map(|resource| &resource.services);
                let found = observed.platform.iter().flat_map(|platform| {
                    services.clone().filter_map(move |service| platform.services.get(&service.spec.name))
                });
                found.into_iter().any(|found| {
                    found.mark.as_ref().is_some_and(|mark| mark.revision == desired.revision && mark.resource == *id)
                })
            };
            let runs = matches!(resource.health, Health::Healthy | Health::Suspended);
            if resource.steps.iter().chain(held).any(is_new) || (!self.has_looked && !runs && came_with_this()) {
                self.newcomers.insert(id.clone(), now());
            }
        }
    }

    fn learn_times(&mut self, now: Duration, plan: &Plan) {
        for (id, resource) in plan.examined() {
            match resource.health {
                Health::Progressing => {
                    self.progressing_since.entry(id.clone()).or_insert(now);
                }
                // past its deadline it stays so until it runs
                Health::Degraded => {}
                Health::Healthy | Health::RolledBack | Health::Waiting | Health::Suspended | Health::Unknown => {
                    self.progressing_since.remove(id);
                }
            }
        }
        self.progressing_since.retain(|id, _| plan.resources.contains_key(id));
        let before = std::mem::take(&mut self.condition_since);
        for (id, resource) in plan.restless() {
            for condition in &resource.conditions {
                let key = (id.clone(), condition.kind, condition.reason.clone());
                let since = before.get(&key).copied().unwrap_or(condition.since);
                self.condition_since.insert(key, since);
            }
        }
    }

    fn learn_synced(&mut self, desired: &Desired, plan: &Plan) {
        if plan.examined == Examined::Everything {
            self.synced = self.synced.iter().filter(|(id, _)| desired.resources.contains_key(*id)).map(own).collect();
        }
        for (id, resource) in plan.examined.of(&plan.resources) {
            match (desired.resources.get(id), resource) {
                (Some(wanted), Some(resource)) if resource.sync == Sync::Synced => {
                    let same = |known: &Arc<DesiredResource>| Arc::ptr_eq(known, wanted);
                    if !self.synced.get(id).is_some_and(same) {
                        self.synced.insert(id.clone(), Arc::clone(wanted));
                    }
                }
                (Some(_), Some(_) | None) => {}
                (None, _) => _ = self.synced.remove(id),
            }
        }
        // What a person took down was not lost.
        for id in self.taken_down.keys() {
            self.synced.remove(id);
        }
    }

    /// A word to adopt ends with what it is about.
    fn learn_adoptions(&mut self, desired: &Desired, now: Duration, plan: &Plan) {
        let notebook = &mut self.notebook;
        self.adopting.retain(|id, adoption| {
            let since = *adoption.since.get_or_insert(now);
            let done = match plan.resources.get(id) {
                Some(resource) => resource.sync == Sync::Synced,
                None => desired.complete && !plan.scoped,
            };
            let stays = !done && now.saturating_sub(since) < ADOPT_WITHIN;
            if !stays {
                notebook.set(&Note::Adopting(id.clone()), None);
            }
            stays
        });
    }

    fn learn_confirmations(&mut self, plan: &Plan) {
        self.confirm_next = false;
        self.guarded.clone_from(&plan.guarded);
        if plan.prune_confirmed {
            match &plan.prune {
                PruneVerdict::Nothing => {}
                PruneVerdict::Allowed(resources) | PruneVerdict::Blocked { resources, .. } => {
                    self.confirmed.extend(resources.iter().cloned());
                }
            }
        }
        // gone, or described again
        self.confirmed.retain(|id| plan.resources.get(id).is_some_and(|resource| resource.origin.is_none()));
    }
}

/// An entry of a map as one of its own.
fn own<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}
