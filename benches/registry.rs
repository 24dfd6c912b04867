//! The registry at its budgets: reading 10,000 assets, registering 1,000 beside a bare producer that writes the same
//! bytes to the same broker, and how long after the messages of somebody else an event begins a pass.
//!
//! ksqlDB is a server here that answers at once: with canned rows of 10,000 assets, of all but one, or of none, so that
//! every round registers everything from scratch. Kafka is a real broker, started as the tests do it. Figures and the
//! machine are in `docs/performance.md`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a bench may stop at what cannot be, says how it goes, and measures real time"
)]

#[path = "../tests/support/kafka.rs"]
mod kafka;

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::StreamExt;
use ofop::clock::SystemClock;
use ofop::model::record::{AssetRecord, RecordOwner};
use ofop::model::{AssetUuid, InstanceName, Record, RecordId, RecordStep, Source};
use ofop::reconcile::{ConvergeOptions, Happening, Parts, converge};
use ofop::registry::Registry;
use ofop::registry::messages::{self, Stamp};
use ofop::registry::openfactory::{KafkaSettings, KsqldbSettings, OpenfactoryRegistry, OpenfactorySettings};
use ofop::report::EventOutcome;
use ofop::testing::{World, app};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const READ: usize = 10_000;
const REGISTERED: usize = 1_000;
/// Rounds that are measured side by side, and those before them that are not.
const ROUNDS: usize = 21;
const WARM_UP: usize = 8;
/// How often it is measured when a change of somebody else is reported.
const REPORTED: usize = 20;

/// A server that knows the topics of all sources and has an answer ready for every table.
struct Ksqldb {
    /// By the name of the table: all rows, and those that are left while `fewer`.
    answers: BTreeMap<&'static str, (Bytes, Bytes)>,
    fewer: AtomicBool,
}

fn topic(source: Source) -> &'static str {
    match source {
        Source::AssetsStream => "ofa_assets",
        Source::AssetsType => "assets_types_topic",
        Source::AssetsAvail => "assets_avail_topic",
        Source::DockerServices => "docker_services_topic",
        Source::AssetToUnsMapRaw => "asset_to_uns_map_topic",
        Source::DeviceConnectorSource => "device_connector_topic",
        Source::MetricsTargetsSource => "metrics_targets_topic",
    }
}

impl Ksqldb {
    /// So many assets, of which so many are left while there are fewer. Attributes stay: a row of `ASSETS` never goes.
    fn new(assets: usize, left: usize) -> Self {
        let mut answers = BTreeMap::new();
        let mut table = |name, schema: &str, rows: &mut dyn Iterator<Item = Value>| {
            let mut text = format!("[{}", json!({"header": {"queryId": "q", "schema": schema}}));
            let gone = uuid(left);
            let mut fewer = None;
            for row in rows {
                if name != "ASSETS" && row[0] == *gone {
                    fewer = Some(text.clone());
                }
                write!(text, ",\n{}", json!({"row": {"columns": row}})).unwrap();
            }
            let fewer = fewer.unwrap_or_else(|| text.clone());
            answers.insert(name, (Bytes::from(text + "]\n"), Bytes::from(fewer + "]\n")));
        };
        let all = || 0..assets;
        let types = &mut all().map(|at| json!([uuid(at), "OpenFactoryApp"]));
        table("ASSETS_TYPE", "`ASSET_UUID` STRING KEY, `TYPE` STRING", types);
        let services = &mut all().map(|at| json!([uuid(at), uuid(at).to_lowercase()]));
        table("DOCKER_SERVICES", "`ASSET_UUID` STRING KEY, `DOCKER_SERVICE` STRING", services);
        let availability = &mut all().map(|at| json!([uuid(at), "AVAILABLE"]));
        table("ASSETS_AVAIL", "`ASSET_UUID` STRING KEY, `AVAILABILITY` STRING", availability);
        let places = &mut all().map(|at| {
            let levels = json!({"enterprise": "acme", "line": format!("L{}", at % 40), "asset": uuid(at)});
            json!([uuid(at), format!("acme/L{}/{}", at % 40, uuid(at)), levels, 1_767_323_045_678_u64])
        });
        let schema =
            "`ASSET_UUID` STRING KEY, `UNS_ID` STRING, `UNS_LEVELS` MAP<STRING, STRING>, `UPDATED_AT` TIMESTAMP";
        table("ASSET_TO_UNS_MAP", schema, places);
        let connectors = &mut all().step_by(10).map(|at| {
            let config = json!({"uuid": uuid(at), "connector": {"type": "mtconnect", "agent": {"port": 5000}}});
            json!([uuid(at), config.to_string()])
        });
        table("DEVICE_CONNECTOR", "`ASSET_UUID` STRING KEY, `CONNECTOR_CONFIG` STRING", connectors);
        let schema = "`APPLICATION_UUID` STRING KEY, `HOST` STRING, `PORT` INTEGER, `PATH` STRING";
        table("METRICS_TARGETS", schema, &mut std::iter::empty());
        let attributes = &mut all().flat_map(|at| {
            let uuid = uuid(at);
            let line = format!("L{}", at % 40);
            let place = format!("acme/{line}/{uuid}");
            [
                ("managed_by", "ManagedBy", "plant-a".to_owned()),
                ("managed_resource", "ManagedBy", format!("app/{uuid}")),
                ("managed_prune", "ManagedBy", String::new()),
                ("AssetType", "AssetType", "OpenFactoryApp".to_owned()),
                ("DockerService", "DockerService", uuid.to_lowercase()),
                ("references_below", "AssetsReferences", String::new()),
                ("references_above", "AssetsReferences", String::new()),
                ("enterprise", "UNSLevel", "acme".to_owned()),
                ("line", "UNSLevel", line),
                ("asset", "UNSLevel", uuid.clone()),
                ("uns_id", "UNSId", place),
                ("avail", "Availability", "AVAILABLE".to_owned()),
            ]
            .map(|(id, tag, value)| json!([uuid, id, value, "OpenFactory", tag, "2026-01-02T03:04:05.678Z"]))
        });
        let schema =
            "`ASSET_UUID` STRING, `ID` STRING, `VALUE` STRING, `TYPE` STRING, `TAG` STRING, `TIMESTAMP` STRING";
        table("ASSETS", schema, attributes);
        Ksqldb { answers, fewer: AtomicBool::new(false) }
    }

    /// Serves for as long as the runtime lives; the address.
    async fn serve(self: Arc<Self>) -> String {
        let app = Router::new().route("/ksql", post(describe)).route("/query", post(query)).with_state(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        format!("http://{address}")
    }
}

fn uuid(number: usize) -> String {
    format!("PRESS-{number:05}")
}

fn sql(body: &Bytes) -> String {
    let request: Value = serde_json::from_slice(body).unwrap();
    request["ksql"].as_str().unwrap().to_owned()
}

async fn describe(body: Bytes) -> String {
    let sql = sql(&body);
    let source = Source::ALL.into_iter().find(|source| sql.contains(&format!("`{}`", source.as_str())));
    let source = source.unwrap_or_else(|| panic!("unexpected: {sql}"));
    json!([{"sourceDescription": {"type": "STREAM", "topic": topic(source)}}]).to_string()
}

async fn query(State(ksqldb): State<Arc<Ksqldb>>, body: Bytes) -> Bytes {
    let sql = sql(&body);
    let table = sql.split(" FROM ").nth(1).unwrap().split([' ', ';']).next().unwrap();
    let (all, fewer) = &ksqldb.answers[table];
    if ksqldb.fewer.load(Ordering::SeqCst) { fewer.clone() } else { all.clone() }
}

fn registry(kafka: &str, ksqldb: &str) -> OpenfactoryRegistry {
    let settings = OpenfactorySettings {
        kafka: KafkaSettings { brokers: kafka.to_owned(), options: BTreeMap::new() },
        ksqldb: KsqldbSettings { url: ksqldb.to_owned(), ..KsqldbSettings::default() },
        interval: Duration::from_secs(3600),
    };
    OpenfactoryRegistry::new(settings, Arc::new(SystemClock::new())).unwrap()
}

/// Makes the topics of all sources.
async fn make_topics(kafka: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka).create().unwrap();
    // What a topic keeps for ever need not be asked for its age.
    let topics =
        Source::ALL.map(|source| NewTopic::new(topic(source), 1, TopicReplication::Fixed(1)).set("retention.ms", "-1"));
    admin.create_topics(&topics, &AdminOptions::new()).await.unwrap();
}

/// A figure of this process in MiB.
fn memory(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1024.0
}

/// Forgets the highest resident memory so far.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

async fn read(registry: &OpenfactoryRegistry) -> Duration {
    let began = Instant::now();
    registry.refresh();
    let seen = registry.observe().await.unwrap();
    assert_eq!(seen.records.len(), READ + READ / 10);
    began.elapsed()
}

/// From the request for a reading to its snapshot: seven queries over loopback, decoded and put together.
fn reading(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let ksqldb = Arc::new(Ksqldb::new(READ, READ));
    let bytes: usize = ksqldb.answers.values().map(|(full, _)| full.len()).sum();
    // Nobody listens there: writing is not what is measured.
    let (url, kafka) = (runtime.block_on(Arc::clone(&ksqldb).serve()), "127.0.0.1:9");
    forget_peak();
    let before = memory("VmRSS");
    let registry = runtime.block_on(async {
        let registry = registry(kafka, &url);
        registry.observe().await.unwrap();
        registry
    });
    let first = memory("VmHWM") - before;
    forget_peak();
    let between = memory("VmRSS");
    runtime.block_on(read(&registry));
    let again = memory("VmHWM") - between;
    eprintln!(
        "{READ} assets, {:.1} MiB of answers: {first:.0} MiB at the most for the first reading, {:.0} MiB held after \
         it, {again:.0} MiB at the most for the next one",
        bytes as f64 / f64::from(1 << 20),
        between - before,
    );
    let mut group = c.benchmark_group("registry");
    group.sample_size(20);
    group.bench_function("reading 10,000 assets", |bencher| {
        bencher.iter_custom(|times| {
            runtime.block_on(async {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    spent += read(&registry).await;
                }
                spent
            })
        });
    });
    group.finish();
}

/// A Swarm on which the services of all apps run, as described and marked.
async fn deployed() -> World {
    let world = World::new(1);
    world.swarm.latency(Duration::ZERO);
    for number in 0..REGISTERED {
        world.source.write_silently(&format!("{number:04}.yml"), app(&uuid(number), "example/press:1", ""));
    }
    let operator = world.start();
    let left = world.settle(Duration::from_secs(600)).await;
    assert!(left.is_empty(), "{left:?}");
    operator.crash().await;
    world
}

/// The same bytes as registering all apps writes.
fn same_messages() -> Vec<(&'static str, String, String)> {
    (0..REGISTERED).flat_map(|number| messages_of(&uuid(number))).collect()
}

/// What registering an app writes: topic, key and value of each message.
fn messages_of(uuid: &str) -> Vec<(&'static str, String, String)> {
    let stamp = Stamp {
        timestamp: "2026-01-02T03:04:05.678Z".into(),
        epoch_millis: 1_767_323_045_678,
        correlation_id: String::new(),
    };
    let uuid = AssetUuid::new(uuid).unwrap();
    let resource = format!("app/{uuid}").parse().unwrap();
    let record = Record::Asset(AssetRecord {
        asset_type: "OpenFactoryApp".into(),
        docker_service: uuid.as_str().to_lowercase(),
        references_above: Vec::new(),
        references_below: Vec::new(),
        uns: None,
        attributes: Vec::new(),
        uuid,
    });
    let owner = RecordOwner { instance: InstanceName::new("factory").unwrap(), resource, kept: false };
    messages::register(&record, Some(&owner), Some(&stamp))
        .into_iter()
        .map(|message| {
            let key = message.key.known().unwrap().to_string();
            (topic(message.source), key, serde_json::to_string(&message.value).unwrap())
        })
        .collect()
}

/// One round of the loop in which every asset is registered: from the plan to the last acknowledgement.
async fn register(world: &World, registry: &Arc<OpenfactoryRegistry>) -> Duration {
    let (parts, _) = world.parts();
    let Parts { loader, compiler, platform, clock, report, leadership, .. } = parts;
    let registry = Arc::clone(registry);
    let parts = Parts { loader, compiler, platform, registry, clock, report, commands: None, leadership };
    let (mut began, mut ended, mut steps) = (None, None, 0);
    // This ksqlDB never shows what was written, and the end would wait for that.
    let stop = CancellationToken::new();
    let done = converge(parts, world.options.clone(), ConvergeOptions::default(), stop.clone(), |what| match what {
        Happening::Planned(plan) if plan.steps() > 0 => drop(began.get_or_insert_with(Instant::now)),
        Happening::Planned(_) => {}
        Happening::Step(_) => {
            steps += 1;
            ended = Some(Instant::now());
            if steps == REGISTERED {
                stop.cancel();
            }
        }
    })
    .await;
    let worked = done.events.iter().filter(|event| event.outcome == EventOutcome::Succeeded).count();
    assert!(worked == REGISTERED, "{worked} of {steps} steps: {:?}", done.registry_error);
    ended.unwrap() - began.unwrap()
}

/// From the first message to the last acknowledgement. No `flush`: after the last acknowledgement it waits for up to
/// 100 ms for nothing, which would make ours look twice as fast as it is.
fn produce(producer: &BaseProducer<Counted>, messages: &[(&str, String, String)]) -> Duration {
    let counted = &producer.context().0;
    counted.store(0, Ordering::SeqCst);
    let began = Instant::now();
    for (topic, key, payload) in messages {
        producer.send(BaseRecord::to(topic).key(key).payload(payload)).map_err(|(error, _)| error).unwrap();
    }
    while counted.load(Ordering::SeqCst) < messages.len() {
        producer.poll(Duration::from_millis(1));
        assert!(began.elapsed() < Duration::from_secs(60), "the broker does not answer");
    }
    began.elapsed()
}

/// Takes everything back that was written under these keys: an asset that the topics hold and ksqlDB does not show is
/// not registered, since it may be somebody's.
fn take_back(producer: &BaseProducer<Counted>, messages: &[(&str, String, String)]) {
    for (topic, key, _) in messages {
        producer.send(BaseRecord::<str, str>::to(topic).key(key)).map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

/// Counts what the broker acknowledged.
struct Counted(AtomicUsize);

impl ClientContext for Counted {}

impl ProducerContext for Counted {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        delivered.as_ref().unwrap();
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn registering(_: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let kafka = kafka::Kafka::start();
    let ksqldb = Arc::new(Ksqldb::new(0, 0));
    let (world, registry) = runtime.block_on(async {
        make_topics(&kafka.address()).await;
        let registry = registry(&kafka.address(), &ksqldb.serve().await);
        registry.observe().await.unwrap();
        // Topics are looked up and the producer is connected, as in the bare case below.
        let record = Arc::new(Record::Connector { device: AssetUuid::new("WARM-UP").unwrap(), config: "{}".into() });
        let owner = RecordOwner {
            instance: InstanceName::new("warm-up").unwrap(),
            resource: "device/WARM-UP".parse().unwrap(),
            kept: false,
        };
        registry.execute(&RecordStep::Register { record, owner }).await.unwrap();
        (deployed().await, Arc::new(registry))
    });
    let messages = same_messages();
    let bytes: usize = messages.iter().map(|(_, key, payload)| key.len() + payload.len()).sum();
    eprintln!("{REGISTERED} assets are {} messages of {} KiB", messages.len(), bytes >> 10);
    let bare: BaseProducer<Counted> = ClientConfig::new()
        .set("bootstrap.servers", kafka.address())
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .create_with_context(Counted(AtomicUsize::new(0)))
        .unwrap();
    produce(&bare, &messages);

    // Side by side, so that whatever else the machine does meets both; at first the broker's own code is still being
    // compiled.
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let bare_time = produce(&bare, &messages);
        take_back(&bare, &messages);
        let our_time = runtime.block_on(register(&world, &registry));
        take_back(&bare, &messages);
        if round >= WARM_UP {
            theirs.push(bare_time);
            ours.push(our_time);
        }
    }
    ours.sort();
    theirs.sort();
    let (ours, theirs) = (ours[ROUNDS / 2], theirs[ROUNDS / 2]);
    let times = ours.as_secs_f64() / theirs.as_secs_f64();
    eprintln!("medians of {ROUNDS}: registering {ours:?}, a bare producer {theirs:?}: {times:.2} times");
}

/// What ksqlDB derives when somebody registers an asset: the topic of a source, and the payload. Whoever takes the asset
/// back writes a tombstone to each. The topic of all attributes, of which ksqlDB makes these, is not followed.
const DERIVED: [(Source, &str); 4] = [
    (Source::AssetsType, r#"{"TYPE":"OpenFactoryApp"}"#),
    (Source::AssetsAvail, r#"{"AVAILABILITY":"AVAILABLE"}"#),
    (Source::DockerServices, r#"{"DOCKER_SERVICE":"press"}"#),
    (Source::AssetToUnsMapRaw, r#"{"UNS_ID":"acme/L0/press","UNS_LEVELS":{}}"#),
];

/// From the first message of an asset that somebody registers among 10,000, or takes back, to the event that begins a
/// pass: the messages arrive, their companions are waited for, all tables are read, and what was read differs.
fn reporting(_: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let kafka = kafka::Kafka::start();
    let last = READ - 1;
    let ksqldb = Arc::new(Ksqldb::new(READ, last));
    ksqldb.fewer.store(true, Ordering::SeqCst);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", kafka.address()).set("linger.ms", "0").create().unwrap();
    let id = RecordId::Asset(AssetUuid::new(uuid(last)).unwrap());
    let mut times = runtime.block_on(async {
        make_topics(&kafka.address()).await;
        let registry = registry(&kafka.address(), &Arc::clone(&ksqldb).serve().await);
        registry.observe().await.unwrap();
        let mut events = std::pin::pin!(registry.events());
        let mut times = Vec::new();
        for round in 0..REPORTED {
            // Until everything that the last round led to is over, the readings that prove it included.
            while tokio::time::timeout(Duration::from_secs(5), events.next()).await.is_ok() {}
            let is_there = round % 2 == 0;
            ksqldb.fewer.store(!is_there, Ordering::SeqCst);
            let key = uuid(last);
            let began = Instant::now();
            for (source, payload) in DERIVED {
                let message = BaseRecord::<str, str>::to(topic(source)).key(&key);
                let message = if is_there { message.payload(payload) } else { message };
                producer.send(message).map_err(|(error, _)| error).unwrap();
            }
            producer.poll(Duration::ZERO);
            tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap();
            times.push(began.elapsed());
            let seen = registry.observe().await.unwrap();
            let found = seen.records.get(&id).map(|found| &found.record);
            assert!(
                matches!(found, Some(Record::Asset(asset)) if asset.asset_type.is_empty() != is_there),
                "{found:?}"
            );
        }
        times
    });
    eprintln!("{times:?}");
    times.sort();
    eprintln!(
        "an asset of somebody else, one of {READ}: {:?} from its first message to the event (median of {REPORTED}; \
         {:?} to {:?})",
        times[REPORTED / 2],
        times[0],
        times[REPORTED - 1]
    );
}

criterion_group!(benches, reading, registering, reporting);
criterion_main!(benches);
