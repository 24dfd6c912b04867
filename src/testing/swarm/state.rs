//! The state of the engine, and how writes and time change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    FailureKind, Mark, NoteEdits, Notes, ObservedService, Rollout, ServiceId, ServiceSpec, ServiceStep, SpecHash,
    StepFailure, TaskState, TaskView, UpdateState,
};

/// A service as the engine holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeService {
    /// Full id.
    pub id: ServiceId,
    /// Raft index of its last change.
    pub version: u64,
    /// What is asked for.
    pub spec: ServiceSpec,
    /// Our labels.
    pub mark: Option<Mark>,
    /// Another mode than replicated.
    pub foreign_mode: Option<String>,
    /// What the engine says of its last update.
    pub update: UpdateState,
    /// What it says beside that, and whether it goes back when an update fails; by default it stops half-way.
    pub rollout: Rollout,
    /// How many updates by an operator it has taken.
    pub updates: usize,
    /// When the tasks of the present spec began.
    began: Duration,
    /// What a rollback goes back to.
    previous: Option<Box<(ServiceSpec, Option<Mark>)>>,
    /// Tasks are being replaced, or are about to be.
    rolling: bool,
}

/// The engine.
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) services: BTreeMap<ServiceId, FakeService>,
    pub(super) networks: BTreeSet<String>,
    pub(super) digests: BTreeMap<String, String>,
    pub(super) notes: Arc<Notes>,
    pub(super) notes_version: u64,
    pub(super) leader: bool,
    /// Tasks of removed services, and until when they run.
    lingering: BTreeMap<ServiceId, (Vec<TaskView>, Duration)>,
    index: u64,
    made: u64,
}

/// A task starts within this time.
const STARTUP: Duration = Duration::from_secs(2);
/// The engine watches an updated task this long before it rolls back.
const MONITOR: Duration = Duration::from_secs(5);
/// Tasks go on this long after their service is gone (Engine 20.10, with the default stop grace period).
const STOPPING: Duration = Duration::from_secs(10);
/// An image that cannot run has this tag.
const BROKEN: &str = ":broken";
/// An image that no registry holds has this tag: nodes reject the task, and its successor five seconds later.
const ABSENT: &str = ":absent";
/// The default restart delay.
const RESTART: Duration = Duration::from_secs(5);
/// How many ended tasks of a replica the engine keeps.
const KEPT_TASKS: u64 = 5;
/// An image that the engine refuses although its reference is well formed has this tag, as where an authorization plugin
/// lets only some images in.
const FORBIDDEN: &str = ":forbidden";

impl Default for Swarm {
    fn default() -> Self {
        Swarm {
            services: BTreeMap::new(),
            networks: BTreeSet::from(["factory-net".to_owned()]),
            digests: BTreeMap::new(),
            notes: Arc::default(),
            notes_version: 0,
            leader: true,
            lingering: BTreeMap::new(),
            index: 10,
            made: 0,
        }
    }
}

impl Swarm {
    /// Lets time do its work.
    pub(super) fn advance(&mut self, now: Duration) {
        self.lingering.retain(|_, (_, until)| *until > now);
        for id in self.services.keys().cloned().collect::<Vec<_>>() {
            let rolling = self.services.get(&id).is_some_and(|service| service.rolling && service.began < now);
            if !rolling {
                continue;
            }
            let index = self.next_index();
            if let Some(service) = self.services.get_mut(&id) {
                service.roll(index, now);
            }
        }
    }

    /// Carries out a step, as the engine would.
    pub(super) fn apply(&mut self, step: &ServiceStep, now: Duration) -> Result<(), StepFailure> {
        self.advance(now);
        if !self.leader {
            return Err(StepFailure::new(FailureKind::Unavailable, "the swarm does not have a leader"));
        }
        match step {
            ServiceStep::Create { spec, mark } => {
                self.check(spec)?;
                if self.services.values().any(|service| service.spec.name == spec.name) {
                    return Err(StepFailure::new(FailureKind::Exists, "name conflicts with an existing object"));
                }
                self.create(ServiceSpec::clone(spec), Some(mark.clone()), now);
                Ok(())
            }
            ServiceStep::Update { id, version, spec, container_labels: _, mark } => {
                self.check(spec)?;
                let index = self.next_index();
                let Some(service) = self.services.get_mut(id) else {
                    return Err(StepFailure::new(FailureKind::Gone, "service not found"));
                };
                if service.version != *version {
                    return Err(StepFailure::new(FailureKind::Conflict, "update out of sequence"));
                }
                let old = (std::mem::replace(&mut service.spec, ServiceSpec::clone(spec)), service.mark.clone());
                service.mark = Some(mark.clone());
                service.updated(old, index, now);
                service.updates += 1;
                Ok(())
            }
            ServiceStep::Remove { id, .. } => {
                if self.services.contains_key(id) {
                    self.remove(&id.clone(), now);
                    Ok(())
                } else {
                    Err(StepFailure::new(FailureKind::Gone, "service not found"))
                }
            }
        }
    }

    /// Changes notes that still have this version.
    pub(super) fn note(&mut self, edits: &NoteEdits, version: u64) -> Result<(), StepFailure> {
        if !self.leader {
            return Err(StepFailure::new(FailureKind::Unavailable, "the swarm does not have a leader"));
        }
        if self.notes_version != version {
            return Err(StepFailure::new(FailureKind::Conflict, "update out of sequence"));
        }
        self.notes_version = self.next_index();
        let notes = Arc::make_mut(&mut self.notes);
        for (key, text) in edits {
            match text {
                Some(text) => notes.insert(key.clone(), text.clone()),
                None => notes.remove(key),
            };
        }
        Ok(())
    }

    fn check(&self, spec: &ServiceSpec) -> Result<(), StepFailure> {
        match spec.networks.iter().find(|network| !self.networks.contains(*network)) {
            Some(network) => Err(StepFailure::new(FailureKind::Dependency, format!("network {network} not found"))),
            None if spec.image.ends_with(FORBIDDEN) => {
                Err(StepFailure::new(FailureKind::Rejected, "authorization denied by plugin: the image is not allowed"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn create(&mut self, spec: ServiceSpec, mark: Option<Mark>, now: Duration) -> ServiceId {
        let version = self.next_index();
        self.made += 1;
        let id = ServiceId(format!("svc{:022}", self.made));
        let service = FakeService {
            id: id.clone(),
            version,
            spec,
            mark,
            foreign_mode: None,
            update: UpdateState::None,
            rollout: Rollout::default(),
            updates: 0,
            began: now,
            previous: None,
            rolling: false,
        };
        self.services.insert(id.clone(), service);
        id
    }

    pub(super) fn edit(&mut self, name: &str, now: Duration, edit: impl FnOnce(&mut FakeService)) {
        self.advance(now);
        let index = self.next_index();
        if let Some(service) = self.services.values_mut().find(|service| service.spec.name.as_str() == name) {
            let before = (service.spec.clone(), service.mark.clone());
            edit(service);
            service.updated(before, index, now);
        }
    }

    /// `docker service rollback`: exchanges the spec and the one before, with their labels.
    pub(super) fn roll_back(&mut self, name: &str, now: Duration) {
        self.advance(now);
        let index = self.next_index();
        if let Some(service) = self.services.values_mut().find(|service| service.spec.name.as_str() == name)
            && let Some(previous) = &mut service.previous
        {
            std::mem::swap(&mut service.spec, &mut previous.0);
            std::mem::swap(&mut service.mark, &mut previous.1);
            service.version = index;
            service.began = now;
            service.rolling = false;
            service.update = UpdateState::RollbackCompleted("rollback completed".into());
            service.rollout.started = format!("{now:?}");
            service.rollout.by_hand = true;
        }
    }

    pub(super) fn remove_by_name(&mut self, name: &str, now: Duration) {
        let found = self.services.values().find(|service| service.spec.name.as_str() == name);
        if let Some(id) = found.map(|service| service.id.clone()) {
            self.remove(&id, now);
        }
    }

    /// Somebody else is faster with the object of a step.
    pub(super) fn overtake(&mut self, step: &ServiceStep, now: Duration) {
        match step {
            ServiceStep::Create { .. } => {}
            ServiceStep::Update { id, .. } => {
                let index = self.next_index();
                if let Some(service) = self.services.get_mut(id) {
                    service.version = index;
                }
            }
            ServiceStep::Remove { id, .. } => self.remove(&id.clone(), now),
        }
    }

    fn remove(&mut self, id: &ServiceId, now: Duration) {
        let tasks = self.tasks_of(id, now);
        if self.services.remove(id).is_some() {
            let tasks = tasks.into_iter().filter(|task| task.state == TaskState::Running);
            let ending: Vec<_> = tasks.map(|task| TaskView { wanted: false, ..task }).collect();
            if !ending.is_empty() {
                self.lingering.insert(id.clone(), (ending, now + STOPPING));
            }
        }
    }

    /// Every task, by service.
    pub(super) fn tasks(&self, now: Duration) -> BTreeMap<ServiceId, Vec<TaskView>> {
        let lingering = self.lingering.iter().map(|(id, (tasks, _))| (id.clone(), tasks.clone()));
        self.services.keys().map(|id| (id.clone(), self.tasks_of(id, now))).chain(lingering).collect()
    }

    fn tasks_of(&self, id: &ServiceId, now: Duration) -> Vec<TaskView> {
        let Some(service) = self.services.get(id) else { return Vec::new() };
        let age = now.saturating_sub(service.began);
        if service.spec.image.contains(ABSENT) {
            return rejected(id, service, age);
        }
        let pending = service.spec.constraints.iter().any(|constraint| constraint.contains("node.labels.none"));
        let (state, error) = if service.spec.image.contains(BROKEN) {
            (TaskState::Rejected, "No such image")
        } else if pending {
            (TaskState::Pending, "no suitable node (scheduling constraints not satisfied on 1 node)")
        } else if age < STARTUP {
            (TaskState::Preparing, "")
        } else {
            (TaskState::Running, "")
        };
        let task = |slot| TaskView {
            id: format!("{}-{slot}-{}", id.0, service.began.as_millis()),
            slot,
            state,
            wanted: true,
            error: error.into(),
            node: if pending { String::new() } else { "node1".into() },
            since: String::new(),
        };
        (1..=service.spec.replicas).map(task).collect()
    }

    pub(super) fn next_index(&mut self) -> u64 {
        self.index += 1;
        self.index
    }
}

/// Every task of a service whose image is missing: the newest is the one that is meant to run.
fn rejected(id: &ServiceId, service: &FakeService, age: Duration) -> Vec<TaskView> {
    let newest = age.as_secs() / RESTART.as_secs();
    let task = |slot, number: u64| TaskView {
        id: format!("{}-{slot}-{number}", id.0),
        slot,
        state: TaskState::Rejected,
        wanted: number == newest,
        error: format!("No such image: {}", service.spec.image),
        node: "node1".into(),
        since: format!("{:012}", (service.began.as_secs() + number * RESTART.as_secs())),
    };
    let of_slot = |slot| (newest.saturating_sub(KEPT_TASKS - 1)..=newest).map(move |number| task(slot, number));
    (1..=service.spec.replicas).flat_map(of_slot).collect()
}

impl FakeService {
    /// What the engine's list shows of it.
    pub(super) fn seen(&self) -> ObservedService {
        ObservedService {
            id: self.id.clone(),
            version: self.version,
            spec: Arc::new(self.spec.clone()),
            foreign_mode: self.foreign_mode.clone(),
            mark: self.mark.clone(),
            runs_operator: false,
            container_labels: self.spec.labels.clone(),
            update: self.update.clone(),
            rollout: self.rollout.clone(),
            created_at: "2026-01-02T03:04:05Z".into(),
        }
    }

    /// What was before is replaced: the engine reports on no update until it begins to replace tasks.
    fn updated(&mut self, old: (ServiceSpec, Option<Mark>), index: u64, now: Duration) {
        self.version = index;
        self.update = UpdateState::None;
        self.rollout.started = String::new();
        self.rollout.by_hand = false;
        self.rolling = old.0 != self.spec;
        if self.rolling {
            self.began = now;
        }
        self.previous = Some(Box::new(old));
    }

    /// Lets a rollout go on. The engine moves the version whenever its report changes.
    fn roll(&mut self, index: u64, now: Duration) {
        if self.update == UpdateState::None {
            self.update = UpdateState::Updating;
            self.rollout.started = format!("{:?}", self.began);
            self.version = index;
        }
        if now < self.began + MONITOR {
            return;
        }
        self.version = index;
        self.rolling = false;
        let failed = self.spec.image.contains(BROKEN);
        if !failed {
            self.update = UpdateState::Completed;
        } else if let Some(previous) = self.previous.take_if(|_| self.rollout.rolls_back) {
            (self.spec, self.mark) = *previous;
            self.update = UpdateState::RollbackCompleted("task failed".into());
            self.began = now;
        } else {
            self.update = UpdateState::Paused("update paused due to failure".into());
        }
    }

    /// The hash that its mark carries.
    pub fn hash(&self) -> Option<&SpecHash> {
        self.mark.as_ref().map(|mark| &mark.spec)
    }
}
