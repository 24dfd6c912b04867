//! A world in memory that obeys the engine's and the registry's rules as far as planning depends on them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ofop::model::record::{AssetRecord, DeviceCoordinator};
use ofop::model::service::EnvVar;
use ofop::model::{
    AssetUuid, Availability, Desired, DesiredResource, DesiredService, Examined, FailureKind, Handling, InstanceName,
    Mark, Notes, NotesView, Observed, ObservedRecord, ObservedService, Origin, Plan, PlatformSnapshot, Reason, Record,
    RecordId, RecordStep, RegistrySnapshot, ResourceId, ResourcePlan, Revision, Rollout, RolloutPolicy, ServiceId,
    ServiceName, ServiceSpec, ServiceStep, SharedMap, SpecHash, Step, StepFailure, StepVerb, TaskState, TaskView,
    UpdateState, Wait,
};
use ofop::plan::{Guard, Memory, Policy, plan};

/// Time between two passes.
pub(crate) const TICK: Duration = Duration::from_secs(5);

pub(crate) fn policy() -> Policy {
    Policy {
        instance: InstanceName::new("test").unwrap(),
        run: None,
        prune: true,
        // The small-plant rule has tests of its own: worlds here are small.
        guard: Guard { fraction: 1.0, ..Guard::default() },
        prune_delay: Duration::ZERO,
        prune_last: false,
        windows: ofop::model::Windows::default(),
        prune_confirmed: false,
        scope: None,
        remove: BTreeSet::new(),
        adopt: BTreeMap::new(),
        progress_deadline: Duration::from_secs(120),
        rollout: RolloutPolicy::default(),
        expectation: Duration::from_secs(20),
    }
}

/// What a plan does, step by step.
pub(crate) fn verbs(plan: &Plan) -> Vec<(StepVerb, String, Reason)> {
    let steps = plan.resources.values().flat_map(|resource| &resource.steps);
    steps.map(|step| (step.step.verb(), step.step.object(), step.reason)).collect()
}

/// What it says of one app.
pub(crate) fn one<'a>(plan: &'a Plan, id: &str) -> &'a ResourcePlan {
    &plan.resources[&app_id(id)]
}

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

pub(crate) fn uuid(text: &str) -> AssetUuid {
    AssetUuid::new(text).unwrap()
}

pub(crate) fn app_id(text: &str) -> ResourceId {
    ResourceId::app(uuid(text))
}

/// A hash of every field, environment values included.
pub(crate) fn hash(spec: &ServiceSpec) -> SpecHash {
    let env: Vec<String> = spec.env.iter().map(EnvVar::joined).collect();
    let mut hasher = DefaultHasher::new();
    format!("{spec:?}{env:?}").hash(&mut hasher);
    SpecHash(format!("{:016x}", hasher.finish()))
}

pub(crate) fn service(spec: ServiceSpec) -> DesiredService {
    DesiredService { hash: hash(&spec), spec: Arc::new(spec), follow_digest: false }
}

pub(crate) fn asset(id: &str, kind: &str, service: &str) -> AssetRecord {
    AssetRecord {
        uuid: uuid(id),
        asset_type: kind.into(),
        docker_service: service.into(),
        references_above: Vec::new(),
        references_below: Vec::new(),
        uns: None,
        attributes: Vec::new(),
    }
}

/// An app with one service and one asset per replica.
pub(crate) fn app(id: &str, change: impl FnOnce(&mut ServiceSpec)) -> DesiredResource {
    let mut spec = ServiceSpec::new(name(id), "registry/app:1");
    spec.env = vec![EnvVar::new("APP_UUID", id), EnvVar::new("TOKEN", "s3cret-value")];
    spec.networks = vec!["factory-net".into()];
    change(&mut spec);
    let assets = if spec.replicas == 1 {
        vec![id.to_owned()]
    } else {
        (1..=spec.replicas).map(|replica| format!("{id}-{replica}")).collect()
    };
    let records = assets
        .iter()
        .map(|asset_id| Arc::new(Record::Asset(asset(asset_id, "OpenFactoryApp", spec.name.as_str()))))
        .collect();
    DesiredResource {
        id: app_id(id),
        origin: Origin { file: format!("app_{id}.yml").into(), line: 2 },
        services: vec![service(spec)],
        records,
        handling: Handling::default(),
        frozen: false,
    }
}

/// A device with adapter, agent and producer.
pub(crate) fn device(id: &str) -> DesiredResource {
    let stem = id.to_lowercase();
    let part = |part: &str| service(ServiceSpec::new(name(&format!("{stem}-{part}")), format!("registry/{part}:1")));
    let mut device = asset(id, "Device", "");
    device.references_below = vec![format!("{id}-PRODUCER"), format!("{id}-AGENT")];
    let mut agent = asset(&format!("{id}-AGENT"), "MTConnectAgent", &format!("{stem}-agent"));
    agent.references_above = vec![id.into()];
    let mut producer = asset(&format!("{id}-PRODUCER"), "KafkaProducer", &format!("{stem}-producer"));
    producer.references_above = vec![id.into()];
    DesiredResource {
        id: ResourceId::device(uuid(id)),
        origin: Origin { file: format!("dev_{id}.yml").into(), line: 3 },
        services: vec![part("adapter"), part("agent"), part("producer")],
        records: vec![
            Arc::new(Record::Asset(device)),
            Arc::new(Record::Asset(agent)),
            Arc::new(Record::Asset(producer)),
            Arc::new(Record::Connector { device: uuid(id), config: format!("{{\"uuid\":\"{id}\"}}") }),
        ],
        handling: Handling::default(),
        frozen: false,
    }
}

pub(crate) fn desired(resources: impl IntoIterator<Item = DesiredResource>) -> Desired {
    let resources: SharedMap<ResourceId, Arc<DesiredResource>> =
        resources.into_iter().map(|resource| (resource.id.clone(), Arc::new(resource))).collect();
    Desired {
        revision: Revision("0123456789abcdef".into()),
        files: resources.len(),
        resources,
        complete: true,
        ..Desired::default()
    }
}

/// What exists.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) now: Duration,
    /// By how many seconds the wall clock has jumped.
    pub(crate) jumped: i64,
    pub(crate) generation: u64,
    pub(crate) services: BTreeMap<ServiceName, ObservedService>,
    pub(crate) tasks: BTreeMap<ServiceId, Vec<TaskView>>,
    pub(crate) records: BTreeMap<RecordId, ObservedRecord>,
    pub(crate) availability: BTreeMap<AssetUuid, Availability>,
    pub(crate) coordinators: BTreeMap<AssetUuid, DeviceCoordinator>,
    pub(crate) expiring: BTreeSet<RecordId>,
    pub(crate) networks: BTreeSet<String>,
    pub(crate) digests: BTreeMap<String, String>,
    pub(crate) unresolved: BTreeMap<String, String>,
    pub(crate) unreadable: BTreeMap<String, String>,
    pub(crate) notes: Notes,
    pub(crate) notes_version: u64,
    pub(crate) notes_unread: bool,
    /// Writes of notes get lost.
    pub(crate) notes_lost: bool,
    pub(crate) platform_complete: bool,
    pub(crate) registry_complete: bool,
    /// Updates of these services are rolled back.
    pub(crate) fails_update: BTreeSet<ServiceName>,
    /// Images that no node can get.
    pub(crate) missing_images: BTreeSet<String>,
    /// The failure action of these services, and of those above, is `rollback`.
    pub(crate) rolls_back: BTreeSet<ServiceName>,
    /// What the last read showed: like the real adapters, a read hands out the same value for what has not changed.
    seen_services: BTreeMap<ServiceName, Arc<ObservedService>>,
    seen_records: BTreeMap<RecordId, Arc<ObservedRecord>>,
    made: u64,
}

/// What a read shows, with the values of the one before where they are equal.
fn seen<K: Ord + Clone, T: PartialEq + Clone>(now: &BTreeMap<K, T>, before: &mut BTreeMap<K, Arc<T>>) {
    let shown = now.iter().map(|(key, value)| match before.get(key) {
        Some(known) if **known == *value => (key.clone(), Arc::clone(known)),
        Some(_) | None => (key.clone(), Arc::new(value.clone())),
    });
    *before = shown.collect();
}

impl Default for World {
    fn default() -> Self {
        World {
            now: Duration::from_secs(100),
            jumped: 0,
            generation: 0,
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
            records: BTreeMap::new(),
            availability: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            expiring: BTreeSet::new(),
            networks: BTreeSet::from(["factory-net".to_owned()]),
            digests: BTreeMap::new(),
            unresolved: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            notes: Notes::new(),
            notes_version: 0,
            notes_unread: false,
            notes_lost: false,
            platform_complete: true,
            registry_complete: true,
            fails_update: BTreeSet::new(),
            missing_images: BTreeSet::new(),
            rolls_back: BTreeSet::new(),
            seen_services: BTreeMap::new(),
            seen_records: BTreeMap::new(),
            made: 0,
        }
    }
}

/// What memory saves a plan from looking at again changes nothing in it, nor in what is learned from it.
pub(crate) fn same_as_from_nothing(
    plan: &Plan,
    desired: &Desired,
    observed: &Observed,
    policy: &Policy,
    memory: &Memory,
) {
    let difference = ofop::plan::difference_from_whole(plan, desired, observed, policy, memory);
    assert_eq!(difference, None, "examined {:?}", plan.examined);
    if let Examined::Only(examined) = &plan.examined {
        assert!(plan.restless.is_subset(examined));
    }
    let learned = |plan: &Plan, mut memory: Memory| {
        memory.learn(desired, observed, plan);
        memory
    };
    let without = memory.without_plans();
    let whole = ofop::plan::plan(desired, observed, policy, &without);
    assert_eq!(whole.examined, Examined::Everything);
    let (with, without) = (learned(plan, memory.clone()), learned(&whole, without));
    if with != without {
        let (with, without) = (format!("{with:#?}"), format!("{without:#?}"));
        let differs = with.lines().zip(without.lines()).position(|(one, other)| one != other).unwrap_or_default();
        let part = |text: &str| text.lines().skip(differs.saturating_sub(12)).take(24).collect::<Vec<_>>().join("\n");
        panic!("learned\n{}\nand from nothing\n{}", part(&with), part(&without));
    }
}

impl World {
    /// What the clock on the wall shows: 2026-01-02T03:02:25Z as the world begins, and on from there.
    pub(crate) fn wall(&self) -> Timestamp {
        Timestamp::from_second(1_767_322_845 + i64::try_from(self.now.as_secs()).unwrap() + self.jumped).unwrap()
    }

    /// A full read.
    pub(crate) fn observe(&mut self) -> Observed {
        self.generation += 1;
        for (name, service) in &mut self.services {
            service.rollout.rolls_back = self.rolls_back.contains(name) || self.fails_update.contains(name);
        }
        seen(&self.services, &mut self.seen_services);
        seen(&self.records, &mut self.seen_records);
        let (services, records) = (self.seen_services.clone(), self.seen_records.clone());
        Observed {
            at: self.now,
            wall: self.wall(),
            platform: Some(Arc::new(PlatformSnapshot {
                generation: self.generation,
                complete: self.platform_complete,
                services: services.into(),
                tasks: self.tasks.iter().map(|(id, tasks)| (id.clone(), Arc::from(tasks.clone()))).collect(),
                networks: self.networks.clone(),
                nodes: BTreeMap::new(),
                digests: self.digests.clone(),
                unresolved: self.unresolved.clone(),
                unreadable: self.unreadable.clone(),
                notes: match self.notes_unread {
                    true => NotesView::Unread("no answer".into()),
                    false => NotesView::Read { version: self.notes_version, notes: Arc::new(self.notes.clone()) },
                },
            })),
            registry: Some(Arc::new(RegistrySnapshot {
                generation: self.generation,
                complete: self.registry_complete,
                records: records.into(),
                availability: self.availability.clone().into(),
                coordinators: self.coordinators.clone(),
                expiring: self.expiring.clone(),
                ..RegistrySnapshot::default()
            })),
            registry_stands_in: false,
        }
    }

    /// What the one note is about is neither described nor there: the note stays for a while, and then goes.
    pub(crate) fn forgets_its_note(&mut self, without: &Desired, memory: &mut Memory) {
        for _ in 0..5 {
            self.pass(without, &policy(), memory);
        }
        assert_eq!(self.notes.len(), 1, "a file that is moved is gone for a moment");
        self.now += Duration::from_secs(601);
        self.pass(without, &policy(), memory);
        self.pass(without, &policy(), memory);
        assert!(self.notes.is_empty());
    }

    /// One pass: observe, plan, learn, take every step, let time go by.
    pub(crate) fn pass(&mut self, desired: &Desired, policy: &Policy, memory: &mut Memory) -> Plan {
        let observed = self.observe();
        memory.recall(&observed);
        let plan = plan(desired, &observed, policy, memory);
        same_as_from_nothing(&plan, desired, &observed, policy, memory);
        memory.learn(desired, &observed, &plan);
        for (id, resource) in &plan.resources {
            for step in &resource.steps {
                let outcome = self.apply(&step.step);
                memory.step_done(policy, id, step, &outcome, self.now);
                if outcome.is_err() {
                    break;
                }
            }
        }
        self.note(memory);
        self.tick();
        plan
    }

    /// A pass, and the one after it where the first had to note an attempt.
    pub(crate) fn noted_pass(&mut self, desired: &Desired, policy: &Policy, memory: &mut Memory) -> Plan {
        let plan = self.pass(desired, policy, memory);
        let mut held = plan.resources.values().flat_map(|resource| &resource.held);
        if held.any(|held| held.wait == Wait::AttemptNoted) {
            assert_eq!(plan.steps(), 0);
            return self.pass(desired, policy, memory);
        }
        plan
    }

    /// Writes down what memory has noted.
    pub(crate) fn note(&mut self, memory: &mut Memory) {
        let edits = memory.notebook.unsent();
        memory.notebook.sent(&edits, self.now);
        if edits.is_empty() || self.notes_lost {
            return;
        }
        self.notes_version += 1;
        for (key, text) in edits {
            match text {
                Some(text) => self.notes.insert(key, text),
                None => self.notes.remove(&key),
            };
        }
    }

    /// Passes until a plan is empty; fails when that takes too many.
    pub(crate) fn converge(&mut self, desired: &Desired, policy: &Policy, memory: &mut Memory) -> Vec<Plan> {
        let mut plans = Vec::new();
        for _ in 0..40 {
            let plan = self.pass(desired, policy, memory);
            let done = plan.is_empty();
            plans.push(plan);
            if done {
                return plans;
            }
        }
        panic!("not converged: {:#?}", plans.last());
    }

    /// Passes while steps are taken; what is held for good may stay.
    pub(crate) fn settle(&mut self, desired: &Desired, policy: &Policy, memory: &mut Memory) -> Plan {
        let mut quiet = 0;
        for _ in 0..60 {
            let plan = self.pass(desired, policy, memory);
            quiet = if plan.steps() == 0 { quiet + 1 } else { 0 };
            // longer than anything that ripens with time alone
            if quiet > 16 {
                return plan;
            }
        }
        panic!("never settles");
    }

    /// Time goes by: tasks of removed services end.
    pub(crate) fn tick(&mut self) {
        self.now += TICK;
        let present: BTreeSet<ServiceId> = self.services.values().map(|service| service.id.clone()).collect();
        self.tasks.retain(|id, tasks| {
            let ended = tasks.iter().all(|task| !task.state.is_active());
            for task in tasks {
                if !present.contains(id) {
                    task.state = TaskState::Shutdown;
                    task.wanted = false;
                }
            }
            present.contains(id) || !ended
        });
    }

    pub(crate) fn apply(&mut self, step: &Step) -> Result<(), StepFailure> {
        let fail = |kind, what: &str| Err(StepFailure::new(kind, what));
        match step {
            Step::Service(ServiceStep::Create { spec, mark }) => {
                if self.services.contains_key(&spec.name) || self.unreadable.contains_key(spec.name.as_str()) {
                    return fail(FailureKind::Exists, "name is taken");
                }
                if spec.networks.iter().any(|network| !self.networks.contains(network)) {
                    return fail(FailureKind::Dependency, "network not found");
                }
                self.insert((**spec).clone(), Some(mark.clone()));
            }
            Step::Service(ServiceStep::Update { id, version, spec, container_labels, mark }) => {
                let rolls_back = self.fails_update.contains(&spec.name);
                let Some(service) = self.services.get_mut(&spec.name).filter(|service| service.id == *id) else {
                    return fail(FailureKind::Gone, "no such service");
                };
                if service.version != *version {
                    return fail(FailureKind::Conflict, "update out of sequence");
                }
                assert!(service.foreign_mode.is_none(), "the engine refuses to change a mode");
                service.version += 2;
                let mut restarts = (**spec).clone();
                restarts.labels = service.spec.labels.clone();
                restarts.replicas = service.spec.replicas;
                let replaces_tasks = restarts != *service.spec;
                service.rollout.by_hand = false;
                service.rollout.started = if replaces_tasks { format!("t{}", service.version) } else { String::new() };
                if rolls_back && replaces_tasks {
                    service.update = UpdateState::RollbackCompleted("task failed".into());
                    return Ok(());
                }
                service.update = if replaces_tasks { UpdateState::Completed } else { UpdateState::None };
                service.container_labels = container_labels.clone();
                service.mark = Some(mark.clone());
                service.spec = Arc::clone(spec);
                let id = service.id.clone();
                if replaces_tasks || spec.replicas != self.tasks[&id].len() as u64 {
                    self.tasks.insert(id.clone(), self.tasks_of(&id, spec));
                }
            }
            Step::Service(ServiceStep::Remove { id, .. }) => {
                let Some(name) =
                    self.services.values().find(|found| found.id == *id).map(|found| found.spec.name.clone())
                else {
                    return fail(FailureKind::Gone, "no such service");
                };
                self.services.remove(&name);
            }
            Step::Record(RecordStep::Register { record, owner }) => {
                self.records
                    .insert(record.id(), ObservedRecord { record: (**record).clone(), owner: Some(owner.clone()) });
            }
            Step::Record(RecordStep::Deregister { record }) => match self.records.get_mut(&record.id()) {
                Some(ObservedRecord { record: Record::Asset(asset), .. }) => {
                    asset.asset_type = String::new();
                    asset.docker_service = String::new();
                }
                Some(_) => drop(self.records.remove(&record.id())),
                None => {}
            },
            Step::Record(RecordStep::Forget { record }) => drop(self.records.remove(record)),
        }
        Ok(())
    }

    /// Makes a service that runs.
    pub(crate) fn insert(&mut self, spec: ServiceSpec, mark: Option<Mark>) -> ServiceId {
        self.made += 1;
        let id = ServiceId(format!("id{:023}", self.made));
        self.tasks.insert(id.clone(), self.tasks_of(&id, &spec));
        let service = ObservedService {
            id: id.clone(),
            version: 10,
            container_labels: spec.labels.clone(),
            foreign_mode: None,
            mark,
            runs_operator: false,
            update: UpdateState::None,
            rollout: Rollout::default(),
            created_at: "2026-01-02T03:04:05Z".into(),
            spec: Arc::new(spec),
        };
        self.services.insert(service.spec.name.clone(), service);
        id
    }

    fn tasks_of(&self, id: &ServiceId, spec: &ServiceSpec) -> Vec<TaskView> {
        if self.missing_images.contains(&spec.image) { rejected(id) } else { running(id, spec.replicas) }
    }

    /// The image is there by now, or is gone: what does not run starts, what runs stays.
    pub(crate) fn image(&mut self, image: &str, is_missing: bool) {
        if is_missing {
            self.missing_images.insert(image.to_owned());
            return;
        }
        self.missing_images.remove(image);
        for service in self.services.values().filter(|service| service.spec.image == image) {
            self.tasks.insert(service.id.clone(), running(&service.id, service.spec.replicas));
        }
    }

    /// Whether all tasks of a service run.
    pub(crate) fn runs(&self, service: &str) -> bool {
        self.services.get(&name(service)).is_some_and(|found| {
            self.tasks[&found.id].iter().all(|task| task.state == TaskState::Running && task.wanted)
        })
    }

    /// The same service removed by hand and made again by a stranger.
    pub(crate) fn remove_by_hand(&mut self, service: &str) {
        self.services.remove(&name(service)).unwrap();
        self.tick();
        self.tick();
    }

    /// An edit by hand.
    pub(crate) fn edit(&mut self, service: &str, change: impl FnOnce(&mut ObservedService)) {
        let service = self.services.get_mut(&name(service)).unwrap();
        service.version += 2;
        change(service);
    }
}

/// Tasks that a node refused one after the other.
fn rejected(service: &ServiceId) -> Vec<TaskView> {
    (1..=4)
        .map(|number| TaskView {
            id: format!("{}-rejected-{number}", service.0),
            slot: 1,
            state: TaskState::Rejected,
            wanted: false,
            error: "No such image".into(),
            node: "node".into(),
            since: format!("2026-01-02T03:04:0{number}Z"),
        })
        .collect()
}

fn running(service: &ServiceId, replicas: u64) -> Vec<TaskView> {
    (1..=replicas)
        .map(|slot| TaskView {
            id: format!("{}-{slot}", service.0),
            slot,
            state: TaskState::Running,
            wanted: true,
            error: String::new(),
            node: "node".into(),
            since: "2026-01-02T03:04:05Z".into(),
        })
        .collect()
}
