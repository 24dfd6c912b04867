//! A small factory as a pass sees it, for tests of what the operator says of itself.

#![allow(dead_code, reason = "every test file that includes this uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ofop::model::record::{AssetRecord, RecordOwner};
use ofop::model::service::{EnvVar, Mark, SpecHash};
use ofop::model::{
    AssetUuid, CommitInfo, Condition, ConditionKind, Desired, DesiredResource, DesiredService, Drift, DriftType,
    FieldChange, Health, InstanceName, Observed, ObservedRecord, ObservedService, Origin, Plan, PlannedStep,
    PlatformSnapshot, Reason, Record, RegistrySnapshot, ResourceId, ResourcePlan, Revision, Rollout, ServiceId,
    ServiceName, ServiceSpec, ServiceStep, SourceKind, SourcePlace, SourceTrouble, Step, Suspension, Sync, TaskState,
    TaskView, UpdateState, Verdict,
};
use ofop::report::{Pass, Report, Retry, SourceView};

/// A value that must never be seen anywhere.
pub(crate) const SECRET: &str = "s3ntinel-0f-a-secret";

/// Wall time at the monotonic time zero: 2026-01-02T03:04:05Z.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_767_323_045);

pub(crate) fn instance() -> InstanceName {
    InstanceName::new("test").unwrap()
}

pub(crate) fn app(uuid: &str) -> ResourceId {
    ResourceId::app(AssetUuid::new(uuid).unwrap())
}

pub(crate) fn device(uuid: &str) -> ResourceId {
    ResourceId::device(AssetUuid::new(uuid).unwrap())
}

/// The world and what was decided about it; each test changes what it is about.
pub(crate) struct Factory {
    pub(crate) desired: Desired,
    pub(crate) platform: Option<PlatformSnapshot>,
    pub(crate) registry: Option<RegistrySnapshot>,
    pub(crate) plan: Option<Plan>,
    pub(crate) retries: BTreeMap<ResourceId, Retry>,
    pub(crate) source_error: Option<SourceTrouble>,
    pub(crate) place: SourcePlace,
    pub(crate) read_ago: Option<Duration>,
    pub(crate) platform_error: Option<String>,
    pub(crate) registry_error: Option<String>,
    /// The manual clock: monotonic time, and wall time counted from [`EPOCH`].
    pub(crate) now: Duration,
}

impl Factory {
    /// Nothing is described, nothing exists, everything can be read.
    pub(crate) fn empty() -> Self {
        Factory {
            desired: Desired { revision: Revision("0123456789abcdef".into()), complete: true, ..Desired::default() },
            platform: Some(PlatformSnapshot { generation: 1, complete: true, ..PlatformSnapshot::default() }),
            registry: Some(RegistrySnapshot { generation: 1, complete: true, ..RegistrySnapshot::default() }),
            plan: Some(Plan::default()),
            retries: BTreeMap::new(),
            source_error: None,
            place: SourcePlace {
                kind: SourceKind::Directory,
                location: "desired".into(),
                branch: None,
                path: "".into(),
            },
            read_ago: Some(Duration::ZERO),
            platform_error: None,
            registry_error: None,
            now: Duration::from_secs(1),
        }
    }

    /// An app that runs and matches, with a secret in its environment.
    pub(crate) fn with_app(mut self, uuid: &str) -> Self {
        self.add(app(uuid));
        self
    }

    pub(crate) fn add(&mut self, id: ResourceId) {
        let name = ServiceName::new(id.uuid.as_str()).unwrap_or_else(|_| ServiceName::new("odd").unwrap());
        let mut spec = ServiceSpec::new(name.clone(), "press:1.0");
        spec.env.push(EnvVar::new("TOKEN", SECRET));
        let record = Record::Asset(AssetRecord {
            uuid: id.uuid.clone(),
            asset_type: "OpenFactoryApp".into(),
            docker_service: name.to_string(),
            references_above: Vec::new(),
            references_below: Vec::new(),
            uns: None,
            attributes: Vec::new(),
        });
        let origin = Origin { file: "desired/app_press.yml".into(), line: 3 };
        let service_id = ServiceId(format!("id-of-{name}"));
        self.platform.as_mut().unwrap().services.insert(
            name,
            Arc::new(ObservedService {
                id: service_id.clone(),
                version: 7,
                spec: Arc::new(spec.clone()),
                foreign_mode: None,
                mark: Some(Mark {
                    instance: instance(),
                    resource: id.clone(),
                    spec: SpecHash("hash".into()),
                    revision: Revision("0123456789abcdef".into()),
                    origin: origin.to_string(),
                    kept: Some(false),
                    terms: ofop::model::RemovalTerms::default(),
                    options: Vec::new(),
                    run: None,
                }),
                runs_operator: false,
                container_labels: BTreeMap::new(),
                update: UpdateState::Completed,
                rollout: Rollout::default(),
                created_at: "2026-01-01T00:00:00Z".into(),
            }),
        );
        self.platform.as_mut().unwrap().tasks.insert(service_id, Arc::new([task(TaskState::Running, "")]));
        self.registry.as_mut().unwrap().records.insert(
            record.id(),
            Arc::new(ObservedRecord {
                record: record.clone(),
                owner: Some(RecordOwner { instance: instance(), resource: id.clone(), kept: false }),
            }),
        );
        self.plan.as_mut().unwrap().resources.insert(
            id.clone(),
            Arc::new(ResourcePlan {
                origin: Some(origin.clone()),
                steps: Vec::new(),
                held: Vec::new(),
                drift: Vec::new(),
                ignored: Vec::new(),
                sync: Sync::Synced,
                health: Health::Healthy,
                conditions: Vec::new(),
                verdict: Verdict::Settled,
            }),
        );
        let service = DesiredService { spec: Arc::new(spec), hash: SpecHash("hash".into()), follow_digest: false };
        self.desired.resources.insert(
            id.clone(),
            Arc::new(DesiredResource {
                id,
                origin,
                services: vec![service],
                records: vec![Arc::new(record)],
                handling: ofop::model::Handling::default(),
                frozen: false,
            }),
        );
    }

    pub(crate) fn planned(&mut self, id: &ResourceId) -> &mut ResourcePlan {
        Arc::make_mut(self.plan.as_mut().unwrap().resources.get_mut(id).unwrap())
    }

    /// Somebody edited the service of a resource: drift, and a step that names the secret old and new value.
    pub(crate) fn drift(&mut self, id: &ResourceId) {
        let step = update_step(&self.desired.resources[id].services[0].spec, id);
        let planned = self.planned(id);
        planned.sync = Sync::OutOfSync;
        planned.drift = vec![Drift {
            drift: DriftType::Modified,
            object: format!("service {}", id.uuid.as_str().to_lowercase()),
            fields: vec!["environment.TOKEN".into()],
        }];
        planned.steps = vec![step];
    }

    pub(crate) fn heal(&mut self, id: &ResourceId) {
        let planned = self.planned(id);
        planned.sync = Sync::Synced;
        planned.drift.clear();
        planned.steps.clear();
    }

    pub(crate) fn condition(&mut self, id: &ResourceId, kind: ConditionKind, reason: &str, message: &str) {
        let since = self.now;
        let condition = Condition { kind, reason: reason.into(), message: message.into(), since };
        self.planned(id).conditions.push(condition);
    }

    /// From now on what is described stems from a commit.
    pub(crate) fn commit(&mut self, id: &str, subject: &str) {
        self.place = SourcePlace {
            kind: SourceKind::Git,
            location: "https://git.plant/plant.git".into(),
            branch: Some("main".into()),
            path: "factory".into(),
        };
        self.desired.revision = Revision(id.into());
        self.desired.commit = Some(commit(id, subject));
    }

    pub(crate) fn remove(&mut self, id: &ResourceId) {
        self.desired.resources.remove(id);
        self.plan.as_mut().unwrap().resources.remove(id);
    }

    pub(crate) fn wall(&self) -> SystemTime {
        UNIX_EPOCH + EPOCH + self.now
    }

    /// Tells a report of a pass over this world, then lets the clock go on.
    pub(crate) fn tell(&mut self, report: &Report, then: Duration) {
        if let Some(plan) = &mut self.plan {
            let judged = plan.resources.iter().map(|(id, planned)| {
                let verdict = ofop::plan::judge(id, planned, None);
                (id.clone(), Arc::new(ResourcePlan { verdict, ..(**planned).clone() }))
            });
            plan.resources = judged.collect();
            let restless = plan.resources.iter().filter(|(_, planned)| !planned.verdict.is_settled());
            plan.restless = restless.map(|(id, _)| id.clone()).collect();
        }
        let observed = Observed {
            at: self.now,
            wall: ofop::clock::timestamp(self.wall()),
            platform: self.platform.clone().map(Arc::new),
            registry: self.registry.clone().map(Arc::new),
            registry_stands_in: false,
        };
        report.pass(&Pass {
            wall: self.wall(),
            took: Duration::from_millis(3),
            desired: &Arc::new(self.desired.clone()),
            observed: &observed,
            plan: self.plan.clone().map(Arc::new).as_ref(),
            retries: &self.retries,
            source: SourceView { place: &self.place, read_ago: self.read_ago },
            source_error: self.source_error.as_ref(),
            platform_error: self.platform_error.as_deref(),
            registry_error: self.registry_error.as_deref(),
            notes_error: None,
            notes_unsaved: 0,
        });
        self.now += then;
    }
}

/// A commit of the line team's, made a minute before [`EPOCH`].
pub(crate) fn commit(id: &str, subject: &str) -> CommitInfo {
    let time = EPOCH - Duration::from_secs(60);
    CommitInfo { id: id.into(), author: "Line Team".into(), subject: subject.into(), time, replaced: None }
}

pub(crate) fn task(state: TaskState, error: &str) -> TaskView {
    TaskView {
        id: "t1k2j3h4g5f6d7s8a9q0w1e2r".into(),
        slot: 1,
        state,
        wanted: true,
        error: error.into(),
        node: "n1".into(),
        since: "2026-01-02T03:04:05.000Z".into(),
    }
}

impl Factory {
    /// Somebody has a resource left alone.
    pub(crate) fn suspend(&mut self, id: &ResourceId, by: Suspension) {
        if by == Suspension::Manifest {
            let described = self.desired.resources.get_mut(id).unwrap();
            Arc::make_mut(described).handling.suspend = true;
        }
        let planned = self.planned(id);
        planned.health = Health::Suspended;
        planned.conditions.push(Condition {
            kind: ConditionKind::Suspended,
            reason: by.as_str().into(),
            message: "left alone".into(),
            since: Duration::ZERO,
        });
    }
}

pub(crate) fn update_step(spec: &Arc<ServiceSpec>, id: &ResourceId) -> PlannedStep {
    PlannedStep {
        step: Step::Service(ServiceStep::Update {
            id: ServiceId(format!("id-of-{}", spec.name)),
            version: 7,
            spec: Arc::clone(spec),
            container_labels: spec.labels.clone(),
            mark: Mark {
                instance: instance(),
                resource: id.clone(),
                spec: SpecHash("hash".into()),
                revision: Revision("0123456789abcdef".into()),
                origin: "desired/app_press.yml:3".into(),
                kept: Some(false),
                terms: ofop::model::RemovalTerms::default(),
                options: Vec::new(),
                run: None,
            },
        }),
        reason: Reason::Modified,
        changes: vec![FieldChange {
            field: "environment.TOKEN".into(),
            from: Some(format!("{SECRET}-old")),
            to: Some(SECRET.into()),
            secret: true,
        }],
    }
}
