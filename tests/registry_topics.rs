//! Kafka under the registry: topics as witnesses of what is read, brokers that restart, topics that change while they are
//! followed. A real broker, and a stand-in for ksqlDB over its topics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use kafka::Kafka;
use ksqldb::{Ksqldb, recovery};
use ofop::clock::SystemClock;
use ofop::model::record::{AssetRecord, RecordOwner, Uns};
use ofop::model::{
    AssetUuid, FailureKind, InstanceName, Proof, Record, RecordStep, RegistrySnapshot, ResourceId, Source,
};
use ofop::registry::Registry;
use ofop::registry::messages::{self, Message, Stamp};
use ofop::registry::openfactory::{KafkaSettings, KsqldbSettings, OpenfactoryRegistry, OpenfactorySettings, init};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

/// How long anything may take before a test gives up on it.
const LONG: Duration = Duration::from_secs(120);
const TYPES: &str = "assets_types_topic";

struct World {
    kafka: Kafka,
    ksqldb: Ksqldb,
}

impl World {
    async fn start() -> World {
        let world = World::bare().await;
        init(&world.settings(), |_| {}).await.unwrap();
        world
    }

    async fn bare() -> World {
        let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
        let ksqldb = Ksqldb::start(&kafka.address()).await;
        World { kafka, ksqldb }
    }

    fn settings(&self) -> OpenfactorySettings {
        OpenfactorySettings {
            kafka: KafkaSettings { brokers: self.kafka.address(), options: BTreeMap::new() },
            ksqldb: KsqldbSettings { url: self.ksqldb.url(), ..KsqldbSettings::default() },
            interval: Duration::from_secs(3600),
        }
    }

    fn registry(&self) -> OpenfactoryRegistry {
        OpenfactoryRegistry::new(self.settings(), Arc::new(SystemClock::new())).unwrap()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.kafka.address()).create().unwrap()
    }

    /// A row of a type, as ksqlDB would write it, and nothing else of the asset.
    async fn writes_type(&self, asset: &str) {
        let (brokers, asset) = (self.kafka.address(), asset.to_owned());
        let write = move || kafka::produce(&brokers, TYPES, &asset, Some(r#"{"TYPE":"Device"}"#));
        tokio::task::spawn_blocking(write).await.unwrap();
    }

    /// Somebody else writes this, whom the registry under test knows nothing of.
    async fn writes(&self, messages: Vec<Message>) {
        let brokers = self.kafka.address();
        let write = move || {
            for Message { source, key, value } in messages {
                let key = key.known().unwrap().to_string();
                let payload = value.map(|value| serde_json::to_string(&value).unwrap());
                kafka::produce(&brokers, topic(source), &key, payload.as_deref());
            }
        };
        tokio::task::spawn_blocking(write).await.unwrap();
    }
}

/// The topic of a source, as `init` makes it.
fn topic(source: Source) -> &'static str {
    match source {
        Source::AssetsStream => "ofa_assets",
        Source::AssetsType => TYPES,
        Source::AssetsAvail => "assets_avail_topic",
        Source::DockerServices => "docker_services_topic",
        Source::AssetToUnsMapRaw => "asset_to_uns_map_topic",
        Source::DeviceConnectorSource => "device_connector_topic",
        Source::MetricsTargetsSource => "metrics_targets_topic",
    }
}

/// Waits for events alone until the registry shows what is expected. Nothing is refreshed, and the timer is an hour away.
async fn reported(registry: &OpenfactoryRegistry, what: &str, expected: impl Fn(&RegistrySnapshot) -> bool) {
    let mut events = Box::pin(registry.events());
    let waiting = async {
        while !registry.observe().await.is_ok_and(|snapshot| expected(&snapshot)) {
            events.next().await.unwrap();
        }
    };
    if tokio::time::timeout(LONG, waiting).await.is_err() {
        panic!("never reported: {what}; last: {:#?}", registry.observe().await);
    }
}

/// Looks until the registry shows what is expected.
async fn eventually(registry: &OpenfactoryRegistry, what: &str, expected: impl Fn(&RegistrySnapshot) -> bool) {
    let mut events = Box::pin(registry.events());
    let looking = async {
        loop {
            if registry.observe().await.is_ok_and(|snapshot| expected(&snapshot)) {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(500), events.next()).await;
            registry.refresh();
        }
    };
    if tokio::time::timeout(LONG, looking).await.is_err() {
        panic!("never seen: {what}; last: {:#?}", registry.observe().await);
    }
}

fn uuid(text: &str) -> AssetUuid {
    AssetUuid::new(text).unwrap()
}

fn step(name: &str) -> (RecordStep, Arc<Record>) {
    let record = Arc::new(Record::Asset(AssetRecord {
        uuid: uuid(name),
        asset_type: "OpenFactoryApp".into(),
        docker_service: name.to_lowercase(),
        references_above: Vec::new(),
        references_below: Vec::new(),
        uns: Some(Uns { levels: vec![("inc".into(), "Acme".into())], uns_id: "Acme".into() }),
        attributes: Vec::new(),
    }));
    let owner = RecordOwner {
        instance: InstanceName::new("test").unwrap(),
        resource: ResourceId::app(uuid(name)),
        kept: false,
    };
    (RecordStep::Register { record: Arc::clone(&record), owner }, record)
}

/// The reading proves everything.
fn is_proven(snapshot: &RegistrySnapshot) -> bool {
    snapshot.complete && snapshot.evidence == ofop::model::Evidence::default()
}

fn message<'a>(snapshot: &'a RegistrySnapshot, name: &str) -> Option<&'a str> {
    match snapshot.evidence.of(&uuid(name)) {
        Proof::Proven => None,
        Proof::Unproven(doubt) => Some(&doubt.message),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_that_somebody_registers_or_takes_back_is_reported_without_the_timer() {
    let world = World::start().await;
    let registry = world.registry();
    let (RecordStep::Register { record, owner }, _) = step("APP-1") else { panic!() };
    let stamp = Stamp {
        timestamp: "2026-01-02T03:04:05.678Z".into(),
        epoch_millis: 1_767_323_045_678,
        correlation_id: "".into(),
    };
    let has_type = |snapshot: &RegistrySnapshot| match snapshot.records.get(&record.id()).map(|found| &found.record) {
        Some(Record::Asset(asset)) => !asset.asset_type.is_empty(),
        Some(_) | None => false,
    };
    // Where everything is proven, no reading comes by itself before the timer.
    reported(&registry, "an empty registry", |snapshot| is_proven(snapshot) && snapshot.records.is_empty()).await;
    world.writes(messages::register(&record, Some(&owner), Some(&stamp))).await;
    reported(&registry, "the asset", has_type).await;
    reported(&registry, "the asset as proven", |snapshot| is_proven(snapshot) && has_type(snapshot)).await;
    world.writes(messages::deregister(&record, Some(&stamp))).await;
    reported(&registry, "the end of the asset", |snapshot| !has_type(snapshot)).await;
    reported(&registry, "its end as proven", |snapshot| is_proven(snapshot) && !has_type(snapshot)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_its_topic_holds_and_its_table_does_not_show_is_not_absent() {
    let world = World::start().await;
    let registry = world.registry();
    let (register, record) = step("APP-1");
    registry.execute(&register).await.unwrap();
    eventually(&registry, "a proven reading", |snapshot| {
        is_proven(snapshot) && snapshot.records.contains_key(&record.id())
    })
    .await;
    // The timer is an hour away: proof came by itself, and another reading is not made for it.
    world.ksqldb.lose("ASSETS_TYPE", "APP-1");
    eventually(&registry, "the contradiction", |snapshot| {
        let said = message(snapshot, "APP-1").unwrap_or_default();
        said.contains("topic assets_types_topic holds asset APP-1 (offset 0)") && message(snapshot, "OTHER").is_none()
    })
    .await;

    // A command that starts now has never seen the row, and does not take it for absent either.
    world.ksqldb.faults().empty.store(true, Ordering::SeqCst);
    let started = world.registry();
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(15) {
        if let Ok(snapshot) = started.observe().await {
            assert!(message(&snapshot, "APP-1").is_some(), "{snapshot:#?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        started.refresh();
    }
    world.ksqldb.faults().empty.store(false, Ordering::SeqCst);
    registry.execute(&register).await.unwrap();
    eventually(&registry, "that it is shown again", is_proven).await;

    // Taken back by its tombstones it is gone at once, with the row of its place.
    registry.execute(&RecordStep::Deregister { record: Arc::clone(&record) }).await.unwrap();
    eventually(&registry, "that it is gone", |snapshot| {
        is_proven(snapshot) && world.ksqldb.table("ASSET_TO_UNS_MAP").is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_and_topics_that_are_made_anew_are_followed() {
    let world = World::start().await;
    let registry = world.registry();
    eventually(&registry, "a proven reading", is_proven).await;
    let admin = world.admin();
    let made = admin.create_partitions(&[NewPartitions::new(TYPES, 4)], &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let names: Vec<String> = (0..12).map(|number| format!("ADDED-{number}")).collect();
    for name in &names {
        world.writes_type(name).await;
    }
    let all_doubted =
        |names: &[String], snapshot: &RegistrySnapshot| names.iter().all(|name| message(snapshot, name).is_some());
    eventually(&registry, "what came to the new partitions", |snapshot| all_doubted(&names, snapshot)).await;

    let deleted = admin.delete_topics(&[TYPES], &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let anew = NewTopic::new(TYPES, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let making = async {
        while !admin.create_topics([&anew], &AdminOptions::new()).await.unwrap().iter().all(Result::is_ok) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LONG, making).await.expect("the topic is made anew");
    let after = vec!["ANEW-1".to_owned(), "ANEW-2".to_owned()];
    for name in &after {
        world.writes_type(name).await;
    }
    eventually(&registry, "what came to the new topic", |snapshot| all_doubted(&after, snapshot)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_under_a_reading_and_a_write_costs_neither() {
    let mut world = World::start().await;
    let registry = Arc::new(world.registry());
    let (register, record) = step("APP-1");
    registry.execute(&register).await.unwrap();
    eventually(&registry, "the asset", |snapshot| is_proven(snapshot) && snapshot.records.contains_key(&record.id()))
        .await;
    world.kafka.stop();
    // What is read meanwhile is as it was.
    registry.refresh();
    let snapshot = registry.observe().await.unwrap();
    assert!(snapshot.complete && snapshot.records.contains_key(&record.id()), "{snapshot:#?}");
    let (second, record) = step("APP-2");
    let write = {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.execute(&second).await })
    };
    let world = tokio::task::spawn_blocking(move || {
        world.kafka.resume();
        world
    })
    .await
    .unwrap();
    // A busy machine may need longer for the broker than a write may take: then it is a failure that passes.
    if let Err(failure) = write.await.unwrap() {
        assert_eq!(failure.kind, FailureKind::Unavailable, "{failure}");
        let (again, _) = step("APP-2");
        registry.execute(&again).await.unwrap();
    }
    eventually(&registry, "both assets, proven", |snapshot| {
        is_proven(snapshot) && snapshot.records.contains_key(&record.id())
    })
    .await;
    // The topics are followed again.
    world.writes_type("AFTER").await;
    eventually(&registry, "what came after", |snapshot| message(snapshot, "AFTER").is_some()).await;
}

/// The broker is killed while queries of a reading hang, while topics are being followed from their beginning, and while
/// registrations are on their way, some of them acknowledged and others not.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_in_the_middle_of_readings_and_writes_loses_nothing() {
    const WRITERS: usize = 8;
    const ASSETS: usize = 400;
    let mut world = World::start().await;
    let registry = Arc::new(world.registry());
    let (register, record) = step("APP-0");
    registry.execute(&register).await.unwrap();
    eventually(&registry, "the asset", |snapshot| is_proven(snapshot) && snapshot.records.contains_key(&record.id()))
        .await;

    // And one that has never read anything follows the topics from their beginning.
    let started = world.registry();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (registry, acknowledged) = (Arc::clone(&registry), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let mut ended = Vec::new();
                for number in (1..=ASSETS).filter(|number| number % WRITERS == writer) {
                    let outcome = registry.execute(&step(&format!("APP-{number}")).0).await;
                    acknowledged.fetch_add(usize::from(outcome.is_ok()), Ordering::SeqCst);
                    ended.push((number, outcome));
                }
                ended
            })
        })
        .collect();
    let some = async {
        while acknowledged.load(Ordering::SeqCst) < WRITERS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, some).await.expect("some are acknowledged");
    // A reading is under way: its first query was sent, and is not answered before the broker is gone.
    world.ksqldb.play(vec![recovery::Step::server(recovery::Server::Paused, LONG)]);
    registry.refresh();
    let reading = {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move { registry.observe().await })
    };
    // What was admitted before the pause is answered meanwhile.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answered = world.ksqldb.requests();
    world.kafka.stop();
    let before = acknowledged.load(Ordering::SeqCst);
    assert!(before < ASSETS, "all were written before the broker was gone");
    assert_eq!(world.ksqldb.requests(), answered, "the reading is under way");
    world.ksqldb.play(Vec::new());
    let snapshot = reading.await.unwrap().unwrap();
    assert!(snapshot.records.contains_key(&record.id()), "{snapshot:#?}");
    let world = tokio::task::spawn_blocking(move || {
        world.kafka.resume();
        world
    })
    .await
    .unwrap();
    let (mut done, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for writer in writers {
        for (number, outcome) in writer.await.unwrap() {
            match outcome {
                Ok(()) => drop(done.insert(format!("APP-{number}"))),
                Err(failure) => {
                    assert!(matches!(failure.kind, FailureKind::Unavailable | FailureKind::Ambiguous), "{failure}");
                    failed.insert(number);
                }
            }
        }
    }
    // What failed is sent again as a whole.
    for number in &failed {
        registry.execute(&step(&format!("APP-{number}")).0).await.unwrap();
    }
    for registry in [&*registry, &started] {
        eventually(registry, "all of them, proven", |snapshot| {
            let is_whole = |number| match snapshot.records.get(&step(&format!("APP-{number}")).1.id()) {
                Some(found) => found.record == *step(&format!("APP-{number}")).1 && found.owner.is_some(),
                None => false,
            };
            is_proven(snapshot) && (0..=ASSETS).all(is_whole)
        })
        .await;
    }
    // What was acknowledged was neither lost nor written twice.
    let brokers = world.kafka.address();
    let messages = tokio::task::spawn_blocking(move || kafka::messages(&brokers, "ofa_assets")).await.unwrap();
    let mut marks: BTreeMap<String, usize> = BTreeMap::new();
    for (key, payload) in messages {
        *marks.entry(key).or_default() += usize::from(payload.contains("\"managed_by\""));
    }
    assert!(done.iter().all(|name| marks.get(name) == Some(&1)), "{marks:?}");
    println!("{before} of {ASSETS} were acknowledged when the broker was killed, {} failed", failed.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_the_brokers_defaults_is_read_and_its_mended_policy_noticed() {
    let world = World::bare().await;
    let admin = world.admin();
    // As a cluster has it on which OpenFactory's topics were made by hand.
    let names = ["ofa_assets", "asset_to_uns_map_topic", "device_connector_topic", "metrics_targets_topic"];
    let topics: Vec<NewTopic<'_>> =
        names.iter().map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1))).collect();
    let made = admin.create_topics(&topics, &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    init(&world.settings(), |_| {}).await.unwrap();
    let settings = OpenfactorySettings { interval: Duration::from_secs(1), ..world.settings() };
    let registry = OpenfactoryRegistry::new(settings, Arc::new(SystemClock::new())).unwrap();
    let warns =
        |snapshot: &RegistrySnapshot, topic: &str| snapshot.warnings.iter().any(|warning| warning.contains(topic));
    eventually(&registry, "the warnings", |snapshot| {
        names[1..].iter().all(|topic| warns(snapshot, topic)) && is_proven(snapshot)
    })
    .await;
    let snapshot = registry.observe().await.unwrap();
    assert!(!snapshot.warnings.iter().any(|warning| warning.contains("cannot be read")), "{:?}", snapshot.warnings);
    for topic in &names[1..] {
        let compact = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", "compact");
        let altered = admin.alter_configs([&compact], &AdminOptions::new()).await.unwrap();
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
    }
    eventually(&registry, "that the policies are mended", |snapshot| snapshot.warnings.is_empty()).await;
}
