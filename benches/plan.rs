//! How long planning takes, and how that grows with the factory: when nothing is to be done, when one app changed, when
//! one service was removed by hand, and when everything has to be looked at, over 100, 10,000 and 100,000 apps. Each is a
//! plan and what memory learns from it. Figures and the machine are in `docs/performance.md`.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench may stop at what cannot be, and measures real time"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ofop::model::record::{AssetRecord, RecordOwner};
use ofop::model::service::EnvVar;
use ofop::model::{
    AssetUuid, Desired, DesiredResource, DesiredService, InstanceName, Mark, Observed, ObservedRecord, ObservedService,
    Origin, PlatformSnapshot, Record, RegistrySnapshot, ResourceId, Revision, Rollout, ServiceId, ServiceName,
    ServiceSpec, SpecHash, TaskState, TaskView, UpdateState,
};
use ofop::plan::{Guard, Memory, Policy, plan};

/// How many apps.
const SIZES: [usize; 3] = [100, 10_000, 100_000];

fn spec(at: usize) -> ServiceSpec {
    let name = ServiceName::new(&format!("press-line-{at:05}")).unwrap();
    let mut spec = ServiceSpec::new(name, format!("ghcr.io/factory/app-{}:1.{}", at % 50, at % 7));
    spec.env = [
        ("APP_UUID", format!("PRESS-LINE-{at:05}")),
        ("KAFKA_BROKER", "broker-1:9092,broker-2:9092,broker-3:9092".into()),
        ("KSQLDB_URL", "http://ksqldb-server:8088".into()),
        ("ASSET_ROUTER_URL", "http://asset-router:5000".into()),
        ("DOCKER_SERVICE", format!("press-line-{at:05}")),
        ("OPENFACTORY_LOG_BACKEND", "text".into()),
        ("MODE", "production".into()),
        ("LINE", format!("{}", at % 100)),
        ("KSQLDB_LOG_LEVEL", "WARNING".into()),
        ("SWARM_TASK_SLOT", "{{.Task.Slot}}".into()),
        ("SWARM_TASK_ID", "{{.Task.ID}}".into()),
        ("SWARM_SERVICE_NAME", "{{.Service.Name}}".into()),
        ("SWARM_NODE_HOSTNAME", "{{.Node.Hostname}}".into()),
        ("SWARM_REPLICAS", "1".into()),
    ]
    .into_iter()
    .map(|(name, value)| EnvVar::new(name, value))
    .collect();
    spec.networks = vec!["factory-net".into()];
    spec.constraints = vec!["node.role == worker".into()];
    if at.is_multiple_of(4) {
        let stem = format!("ofa-press-line-{at:05}");
        spec.labels = BTreeMap::from([
            ("traefik.enable".to_owned(), "true".to_owned()),
            (format!("traefik.http.routers.{stem}.rule"), format!("Host(`press-line-{at:05}.plant`)")),
            (format!("traefik.http.routers.{stem}.entrypoints"), "web".to_owned()),
            (format!("traefik.http.services.{stem}.loadbalancer.server.port"), "4000".to_owned()),
        ]);
    }
    spec
}

fn id(at: usize) -> ResourceId {
    ResourceId::app(AssetUuid::new(format!("PRESS-LINE-{at:05}")).unwrap())
}

fn record(at: usize) -> Record {
    Record::Asset(AssetRecord {
        uuid: id(at).uuid,
        asset_type: "OpenFactoryApp".into(),
        docker_service: format!("press-line-{at:05}"),
        references_above: Vec::new(),
        references_below: Vec::new(),
        uns: None,
        attributes: Vec::new(),
    })
}

fn hash(at: usize) -> SpecHash {
    SpecHash(format!("{at:064x}"))
}

fn desired(apps: usize) -> Desired {
    let resource = |at| DesiredResource {
        id: id(at),
        origin: Origin { file: format!("line/app_{at:05}.yml").into(), line: 2 },
        services: vec![DesiredService { spec: Arc::new(spec(at)), hash: hash(at), follow_digest: false }],
        records: vec![Arc::new(record(at))],
        handling: ofop::model::Handling::default(),
        frozen: false,
    };
    Desired {
        revision: Revision("0123456789abcdef".into()),
        resources: (0..apps).map(|at| (id(at), Arc::new(resource(at)))).collect(),
        complete: true,
        files: apps,
        ..Desired::default()
    }
}

fn observed(apps: usize) -> Observed {
    let instance = InstanceName::new("default").unwrap();
    let mut platform = PlatformSnapshot { generation: 7, complete: true, ..PlatformSnapshot::default() };
    platform.networks.insert("factory-net".into());
    let mut registry = RegistrySnapshot { generation: 7, complete: true, ..RegistrySnapshot::default() };
    for at in 0..apps {
        let spec = spec(at);
        let service_id = ServiceId(format!("{:025x}", at.wrapping_mul(0x9e37_79b9)));
        let task = TaskView {
            id: format!("task{at}"),
            slot: 1,
            state: TaskState::Running,
            wanted: true,
            error: String::new(),
            node: "node".into(),
            since: "2026-01-02T03:04:05Z".into(),
        };
        platform.tasks.insert(service_id.clone(), Arc::new([task]));
        let mark = Mark {
            instance: instance.clone(),
            resource: id(at),
            spec: hash(at),
            revision: Revision::default(),
            origin: String::new(),
            kept: Some(false),
            terms: ofop::model::RemovalTerms::default(),
            options: Vec::new(),
            run: None,
        };
        let service = ObservedService {
            id: service_id,
            version: 10,
            container_labels: spec.labels.clone(),
            foreign_mode: None,
            mark: Some(mark),
            runs_operator: false,
            update: UpdateState::None,
            rollout: Rollout::default(),
            created_at: String::new(),
            spec: Arc::new(spec),
        };
        platform.services.insert(service.spec.name.clone(), Arc::new(service));
        let owner = Some(RecordOwner { instance: instance.clone(), resource: id(at), kept: false });
        let record = record(at);
        registry.records.insert(record.id(), Arc::new(ObservedRecord { record, owner }));
    }
    Observed {
        at: Duration::from_secs(60),
        wall: jiff::Timestamp::UNIX_EPOCH,
        platform: Some(Arc::new(platform)),
        registry: Some(Arc::new(registry)),
        registry_stands_in: false,
    }
}

fn policy() -> Policy {
    Policy {
        instance: InstanceName::new("default").unwrap(),
        run: None,
        prune: true,
        guard: Guard::default(),
        prune_delay: Duration::from_secs(10),
        prune_last: true,
        windows: ofop::model::Windows::default(),
        prune_confirmed: false,
        scope: None,
        remove: std::collections::BTreeSet::new(),
        adopt: std::collections::BTreeMap::new(),
        progress_deadline: Duration::from_secs(600),
        rollout: ofop::model::RolloutPolicy::default(),
        expectation: Duration::from_secs(60),
    }
}

fn planning(criterion: &mut Criterion) {
    for apps in SIZES {
        let (desired, observed, policy) = (desired(apps), observed(apps), policy());
        let mut memory = Memory::default();
        let first = plan(&desired, &observed, &policy, &memory);
        assert!(first.is_empty(), "the bench must measure a plan without steps");
        memory.learn(&desired, &observed, &first);
        let mut group = criterion.benchmark_group(format!("{apps} apps"));
        let measure = |desired: &Desired, observed: &Observed, before: &Memory, steps: usize| {
            // What the pass before left is not part of the pass.
            let mut memory = before.clone();
            let began = Instant::now();
            let plan = plan(desired, observed, &policy, &memory);
            memory.learn(desired, observed, &plan);
            let took = began.elapsed();
            assert_eq!(plan.steps(), steps);
            black_box((plan, memory));
            took
        };
        let mut bench = |name: &str, desired: &Desired, observed: &Observed, before: &Memory, steps: usize| {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| measure(desired, observed, before, steps)).sum());
            });
        };
        bench("nothing to do", &desired, &observed, &memory, 0);

        let mut changed = desired.clone();
        let one = id(apps / 2);
        let mut resource = (*changed.resources[&one]).clone();
        let mut other = (*resource.services[0].spec).clone();
        other.image.push_str("-next");
        resource.services[0] =
            DesiredService { spec: Arc::new(other), hash: SpecHash("f".repeat(64)), follow_digest: false };
        changed.resources.insert(one, Arc::new(resource));
        bench("one app changed", &changed, &observed, &memory, 1);

        let mut platform = (**observed.platform.as_ref().unwrap()).clone();
        platform.services.remove(&spec(apps / 3).name);
        let removed = Observed { platform: Some(Arc::new(platform)), ..observed.clone() };
        bench("one service removed", &desired, &removed, &memory, 1);

        bench("everything is looked at, nothing to do", &desired, &observed, &Memory::default(), 0);

        let nothing = Observed {
            at: observed.at,
            wall: observed.wall,
            platform: Some(Arc::new(PlatformSnapshot {
                complete: true,
                networks: ["factory-net".to_owned()].into(),
                ..PlatformSnapshot::default()
            })),
            registry: Some(Arc::new(RegistrySnapshot { complete: true, ..RegistrySnapshot::default() })),
            registry_stands_in: false,
        };
        bench("all are new", &desired, &nothing, &Memory::default(), 2 * apps);
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = planning
}
criterion_main!(benches);
