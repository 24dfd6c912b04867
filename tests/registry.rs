//! The registry behind Kafka and ksqlDB: a real broker, and a stand-in for ksqlDB over its topics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use kafka::Kafka;
use ksqldb::{Ksqldb, Slow};
use ofop::clock::SystemClock;
use ofop::model::record::{AssetRecord, Attribute, CoordinatorProtocol, RecordOwner, Uns};
use ofop::model::{
    AssetUuid, Availability, FailureKind, InstanceName, Record, RecordId, RecordStep, RegistrySnapshot, ResourceId,
    Scalar,
};
use ofop::registry::Registry;
use ofop::registry::openfactory::{
    FindingKind, KafkaSettings, KsqldbSettings, OpenfactoryRegistry, OpenfactorySettings, check, init,
};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use serde_json::Value;

/// How long anything may take before a test gives up on it.
const LONG: Duration = Duration::from_secs(30);

struct World {
    kafka: Kafka,
    ksqldb: Ksqldb,
}

impl World {
    async fn start() -> World {
        let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
        let ksqldb = Ksqldb::start(&kafka.address()).await;
        let world = World { kafka, ksqldb };
        init(&world.settings(), |_| {}).await.unwrap();
        world
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

    /// Every message of a topic so far: key and payload, empty for a tombstone.
    async fn messages(&self, topic: &'static str) -> Vec<(String, String)> {
        let brokers = self.kafka.address();
        tokio::task::spawn_blocking(move || kafka::messages(&brokers, topic)).await.unwrap()
    }

    /// An app says something of itself, as OpenFactory's library does.
    async fn says(&self, asset: &str, id: &str, value: &str, tag: &str, kind: &str) {
        let (kafka, words) = (self.kafka.address(), [asset, id, value, tag, kind].map(str::to_owned));
        tokio::task::spawn_blocking(move || {
            let [asset, id, value, tag, kind] = &words;
            kafka::says(&kafka, asset, id, value, tag, kind);
        })
        .await
        .unwrap();
    }
}

/// Looks again and again until the registry shows what is expected.
async fn eventually(registry: &OpenfactoryRegistry, what: &str, expected: impl Fn(&RegistrySnapshot) -> bool) {
    let mut events = Box::pin(registry.events());
    let looking = async {
        loop {
            if registry.observe().await.is_ok_and(|snapshot| expected(&snapshot)) {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
            registry.refresh();
        }
    };
    tokio::time::timeout(LONG, looking).await.unwrap_or_else(|_| panic!("never seen: {what}"));
}

fn uuid(text: &str) -> AssetUuid {
    AssetUuid::new(text).unwrap()
}

fn owner(resource: &ResourceId) -> RecordOwner {
    RecordOwner { instance: InstanceName::new("test").unwrap(), resource: resource.clone(), kept: false }
}

fn asset(name: &str) -> AssetRecord {
    AssetRecord {
        uuid: uuid(name),
        asset_type: "MTConnectAgent".into(),
        docker_service: "cnc-1-agent".into(),
        references_above: vec!["CNC-1".into()],
        references_below: Vec::new(),
        uns: Some(Uns {
            levels: vec![("inc".into(), "Acme".into()), ("line".into(), Scalar::Int(7))],
            uns_id: "Acme/7".into(),
        }),
        attributes: vec![Attribute {
            id: "agent_port".into(),
            value: Scalar::Int(5000),
            tag: "NetworkPort".into(),
            kind: "Events".into(),
        }],
    }
}

fn found<'a>(snapshot: &'a RegistrySnapshot, id: &RecordId) -> Option<&'a Record> {
    snapshot.records.get(id).map(|found| &found.record)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_written_read_taken_back_and_forgotten() {
    let world = World::start().await;
    let registry = world.registry();
    // Names that would end a text or a name in SQL, or a key in another encoding.
    for name in ["CNC-1-AGENT", "it's `odd`; -- \"ü\" ${x} 机器"] {
        let resource = ResourceId::device(uuid("CNC-1"));
        let record = Arc::new(Record::Asset(asset(name)));
        let id = record.id();
        registry.execute(&RecordStep::Register { record: Arc::clone(&record), owner: owner(&resource) }).await.unwrap();
        eventually(&registry, "the asset", |snapshot| {
            let Some(Record::Asset(seen)) = found(snapshot, &id) else { return false };
            let uns = seen.uns.as_ref();
            seen.asset_type == "MTConnectAgent"
                && seen.docker_service == "cnc-1-agent"
                && seen.references_above == ["CNC-1"]
                && seen.references_below.is_empty()
                && uns.is_some_and(|uns| uns.uns_id == "Acme/7" && uns.levels.len() == 2)
                && seen.attributes.iter().any(|port| port.id == "agent_port" && port.value == "5000".into())
                && snapshot.records[&id].owner == Some(owner(&resource))
        })
        .await;

        let nowhere = Arc::new(Record::Asset(AssetRecord { uns: None, ..asset(name) }));
        registry.execute(&RecordStep::Register { record: nowhere, owner: owner(&resource) }).await.unwrap();
        eventually(
            &registry,
            "the asset without a place",
            |snapshot| matches!(found(snapshot, &id), Some(Record::Asset(seen)) if seen.uns.is_none()),
        )
        .await;

        registry.execute(&RecordStep::Deregister { record: Arc::clone(&record) }).await.unwrap();
        eventually(&registry, "the mark alone", |snapshot| {
            matches!(found(snapshot, &id), Some(Record::Asset(seen)) if seen.asset_type.is_empty())
                && snapshot.records[&id].owner == Some(owner(&resource))
        })
        .await;
        assert!(!world.ksqldb.table("ASSETS_TYPE").contains_key(name));
        assert!(!world.ksqldb.table("DOCKER_SERVICES").contains_key(name));

        registry.execute(&RecordStep::Forget { record: id.clone() }).await.unwrap();
        eventually(&registry, "nothing", |snapshot| found(snapshot, &id).is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_and_metrics_targets_follow_their_device_and_app() {
    let world = World::start().await;
    let registry = world.registry();
    let resource = ResourceId::app(uuid("APP-1"));
    for record in [
        Record::Connector { device: uuid("CNC-1"), config: r#"{"uuid":"CNC-1","it's":"'"}"#.into() },
        Record::MetricsTarget { asset: uuid("APP-1"), host: "app-1".into(), port: 4000, path: "/m".into() },
    ] {
        let record = Arc::new(record);
        registry.execute(&RecordStep::Register { record: Arc::clone(&record), owner: owner(&resource) }).await.unwrap();
        eventually(&registry, "the record", |snapshot| found(snapshot, &record.id()) == Some(&*record)).await;
        registry.execute(&RecordStep::Deregister { record: Arc::clone(&record) }).await.unwrap();
        eventually(&registry, "its end", |snapshot| found(snapshot, &record.id()).is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_somebody_else_is_reported_without_the_timer() {
    let world = World::start().await;
    let registry = world.registry();
    eventually(&registry, "an empty registry", |snapshot| snapshot.records.is_empty()).await;
    let mut events = Box::pin(registry.events());
    // The consumer begins at the end of its topics when it is ready, so the first words may come too early.
    let heard = async {
        for round in 0.. {
            world.says("ROBOT", "AssetType", &format!("OpenFactoryApp{round}"), "AssetType", "OpenFactory").await;
            if tokio::time::timeout(Duration::from_secs(2), events.next()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, heard).await.expect("no hint came");
    eventually(&registry, "the stranger's asset", |snapshot| {
        snapshot.records.get(&RecordId::Asset(uuid("ROBOT"))).is_some_and(|found| found.owner.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_is_waited_for_told_once_and_told_again_when_it_comes_up_anew() {
    let world = World::start().await;
    let registry = world.registry();
    let resource = ResourceId::device(uuid("PLC-1"));
    let record = Arc::new(Record::CoordinatorDevice {
        device: uuid("PLC-1"),
        protocol: CoordinatorProtocol::Opcua,
        config: r#"{"uuid":"PLC-1"}"#.into(),
    });
    let step = RecordStep::Register { record: Arc::clone(&record), owner: owner(&resource) };
    eventually(&registry, "an answer", |_| true).await;
    assert_eq!(registry.execute(&step).await.unwrap_err().kind, FailureKind::Dependency);

    let device =
        Arc::new(Record::Asset(AssetRecord { uuid: uuid("PLC-1"), asset_type: "Device".into(), ..asset("PLC-1") }));
    registry.execute(&RecordStep::Register { record: device, owner: owner(&resource) }).await.unwrap();
    world.says("COORD", "AssetType", "OPCUA.Coordinator", "AssetType", "OpenFactory").await;
    world.says("COORD", "avail", "AVAILABLE", "Availability", "Events").await;
    eventually(&registry, "the coordinator", |snapshot| {
        snapshot.availability.get(&uuid("COORD")) == Some(&Availability::Available)
            && found(snapshot, &RecordId::Asset(uuid("COORD"))).is_some()
    })
    .await;
    registry.execute(&step).await.unwrap();
    eventually(&registry, "the device as known", |snapshot| found(snapshot, &record.id()) == Some(&*record)).await;
    let told = world.ksqldb.table("ASSETS")["COORD|register_device_CMD"]["VALUE"].as_str().unwrap().to_owned();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["arguments"]["device_config"], r#"{"uuid":"PLC-1"}"#);

    world.says("COORD", "avail", "UNAVAILABLE", "Availability", "Events").await;
    world.says("COORD", "avail", "AVAILABLE", "Availability", "Events").await;
    eventually(&registry, "that it must be told again", |snapshot| is_unsure(snapshot, &record.id())).await;
    registry.execute(&step).await.unwrap();
    eventually(&registry, "the device as known again", |snapshot| found(snapshot, &record.id()) == Some(&*record))
        .await;

    // Another one that would be chosen first does not take the device over, nor is it told to let it go.
    world.says("A-COORD", "AssetType", "OPCUA.Coordinator", "AssetType", "OpenFactory").await;
    world.says("A-COORD", "avail", "AVAILABLE", "Availability", "Events").await;
    eventually(&registry, "another coordinator", |snapshot| snapshot.availability.contains_key(&uuid("A-COORD"))).await;
    registry.execute(&step).await.unwrap();
    registry.execute(&RecordStep::Deregister { record: Arc::clone(&record) }).await.unwrap();
    eventually(&registry, "the device as unknown", |snapshot| found(snapshot, &record.id()).is_none()).await;
    let commands: Vec<String> = world.ksqldb.table("ASSETS").into_keys().filter(|key| key.contains("_CMD")).collect();
    assert_eq!(commands, ["COORD|deregister_device_CMD", "COORD|register_device_CMD"]);
}

/// The coordinator may know the device or not.
fn is_unsure(snapshot: &RegistrySnapshot, id: &RecordId) -> bool {
    matches!(found(snapshot, id), Some(Record::CoordinatorDevice { config, .. }) if config.is_empty())
}

/// The operator dies at some moment while it tells a coordinator of a device, and the manifest is gone when it is
/// back: wherever that was, whoever was told can be found under our mark.
#[tokio::test(flavor = "multi_thread")]
async fn telling_a_coordinator_that_is_cut_short_leaves_a_trace() {
    const CUTS: u64 = 30;
    let world = World::start().await;
    let registry = world.registry();
    world.says("COORD", "AssetType", "SHDR.Coordinator", "AssetType", "OpenFactory").await;
    world.says("COORD", "avail", "AVAILABLE", "Availability", "Events").await;
    eventually(&registry, "the coordinator", |snapshot| snapshot.availability.contains_key(&uuid("COORD"))).await;
    let record = |name: &str| Record::CoordinatorDevice {
        device: uuid(name),
        protocol: CoordinatorProtocol::Shdr,
        config: format!("{{\"uuid\":\"{name}\"}}"),
    };
    let step = |name: &str| RecordStep::Register {
        record: Arc::new(record(name)),
        owner: owner(&ResourceId::device(uuid(name))),
    };
    // What takes longest the first time is done: topics are known, the producer is connected.
    registry.execute(&step("WARM-UP")).await.unwrap();
    let begun = tokio::time::Instant::now();
    registry.execute(&step("WARM-UP")).await.unwrap();
    let whole = begun.elapsed();
    let names: Vec<String> = (0..CUTS).map(|cut| format!("SHDR-{cut}")).collect();
    for (cut, name) in (0..).zip(&names) {
        let _ = tokio::time::timeout(whole * cut / 24, registry.execute(&step(name))).await;
    }
    world.says("LAST", "AssetType", "OpenFactoryApp", "AssetType", "OpenFactory").await;
    eventually(&registry, "everything", |snapshot| found(snapshot, &RecordId::Asset(uuid("LAST"))).is_some()).await;
    // What a row alone cannot tell, since every command replaces the one before it: all that the coordinator heard.
    let heard = world.messages("ofa_assets").await;
    let told = |name: &str| {
        let config = format!("{{\"uuid\":\"{name}\"}}");
        commands(&heard).any(|(id, arguments)| id == "register_device_CMD" && arguments["device_config"] == *config)
    };
    let snapshot = registry.observe().await.unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for name in &names {
        let record = record(name);
        let found = snapshot.records.get(&record.id());
        let owned = found.is_some_and(|found| found.owner == Some(owner(&ResourceId::device(uuid(name)))));
        let counts = found.is_some_and(|found| found.record == record);
        assert!(owned || !told(name), "{name} was told and cannot be found: {found:?}");
        assert!(told(name) || !counts, "{name} counts as told and was not");
        kinds.insert((told(name), owned, counts));
    }
    assert!(kinds.len() > 1, "nothing was cut: {kinds:?}");

    // Its successor takes back what is left of each.
    let successor = world.registry();
    successor.observe().await.unwrap();
    for name in names.iter().filter(|name| told(name)) {
        successor.execute(&RecordStep::Deregister { record: Arc::new(record(name)) }).await.unwrap();
    }
    let heard = world.messages("ofa_assets").await;
    for name in names.iter().filter(|name| told(name)) {
        let let_go = |(id, arguments): (String, Value)| {
            id == "deregister_device_CMD" && arguments["device_uuid"] == *name.as_str()
        };
        assert!(commands(&heard).any(let_go), "{name}");
    }
}

/// The commands that the coordinator heard: their names and arguments.
fn commands(heard: &[(String, String)]) -> impl Iterator<Item = (String, Value)> {
    heard.iter().filter(|(key, _)| key == "COORD").filter_map(|(_, said)| {
        let said: Value = serde_json::from_str(said).unwrap();
        let id = said["ID"].as_str().unwrap().to_owned();
        let command: Value = serde_json::from_str(said["VALUE"].as_str()?).ok()?;
        Some((id, command["arguments"].clone()))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_fail_are_errors_and_a_sudden_void_is_not_believed() {
    let world = World::start().await;
    let registry = world.registry();
    let resource = ResourceId::app(uuid("APP-1"));
    let record = Arc::new(Record::Asset(asset("APP-1")));
    registry.execute(&RecordStep::Register { record: Arc::clone(&record), owner: owner(&resource) }).await.unwrap();
    eventually(&registry, "the asset", |snapshot| found(snapshot, &record.id()).is_some()).await;
    let faults = world.ksqldb.faults();

    faults.status.store(503, Ordering::SeqCst);
    faults.failing.store(2, Ordering::SeqCst);
    registry.refresh();
    assert!(registry.observe().await.is_ok(), "two refusals in a row are ridden out");

    faults.failing.store(1000, Ordering::SeqCst);
    registry.refresh();
    let error = registry.observe().await.unwrap_err();
    assert!(error.message.contains("not ready (HTTP 503)"), "{error}");
    faults.failing.store(0, Ordering::SeqCst);

    faults.cut.store(true, Ordering::SeqCst);
    registry.refresh();
    let error = registry.observe().await.unwrap_err();
    assert!(error.message.contains("was cut"), "{error}");
    faults.cut.store(false, Ordering::SeqCst);

    faults.empty.store(true, Ordering::SeqCst);
    registry.refresh();
    let snapshot = registry.observe().await.unwrap();
    assert!(!snapshot.complete, "an empty registry is no evidence of absence");
    faults.empty.store(false, Ordering::SeqCst);
    registry.refresh();
    assert!(registry.observe().await.unwrap().complete);

    world.ksqldb.lose("ASSETS_TYPE", "APP-1");
    registry.refresh();
    let snapshot = registry.observe().await.unwrap();
    assert!(matches!(found(&snapshot, &record.id()), Some(Record::Asset(seen)) if seen.asset_type.is_empty()));

    *faults.credentials.lock().unwrap() = Some("Basic dXNlcjpwYXNz".into());
    registry.refresh();
    let error = registry.observe().await.unwrap_err();
    assert!(error.message.contains("credentials") && error.hint.unwrap().contains("OFOP_KSQLDB_USERNAME"));
    let mut settings = world.settings();
    settings.ksqldb.username = Some("user".into());
    settings.ksqldb.password = Some("pass".into());
    settings.ksqldb.insecure_credentials = true;
    let registry = OpenfactoryRegistry::new(settings, Arc::new(SystemClock::new())).unwrap();
    assert!(registry.observe().await.is_ok());

    faults.hang.store(true, Ordering::SeqCst);
    registry.refresh();
    let error = registry.observe().await.unwrap_err();
    assert!(error.message.contains("did not answer within"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn checking_says_what_fits_and_setting_up_may_be_repeated() {
    let world = World::start().await;
    init(&world.settings(), |line| assert!(line.ends_with("is there"), "{line}")).await.unwrap();
    let findings = check(&world.settings()).await;
    assert!(findings.iter().all(|finding| finding.kind == FindingKind::Good), "{findings:#?}");

    // Credentials in the address are used, and shown nowhere.
    *world.ksqldb.faults().credentials.lock().unwrap() = Some("Basic dTpwNHNz".into());
    let mut within = world.settings();
    within.ksqldb.url = world.ksqldb.url().replace("http://", "http://u:p4ss@");
    within.ksqldb.insecure_credentials = true;
    let findings = check(&within).await;
    assert!(findings.iter().all(|finding| finding.kind == FindingKind::Good), "{findings:#?}");
    assert!(!format!("{within:?}{findings:?}").contains("p4ss"), "{findings:#?}");
    *world.ksqldb.faults().credentials.lock().unwrap() = None;

    let mut wrong = world.settings();
    wrong.ksqldb.url = "http://127.0.0.1:9".into();
    let findings = check(&wrong).await;
    let bad = findings.iter().find(|finding| finding.kind == FindingKind::Bad).unwrap();
    assert!(bad.message.contains("cannot be reached") && bad.hint.as_ref().unwrap().contains("KSQLDB_URL"));

    let mut secure = world.settings();
    secure.ksqldb.url = world.ksqldb.url().replace("http://", "https://");
    let ca = tempfile::NamedTempFile::new().unwrap();
    secure.ksqldb.certificate_authority = Some(ca.path().to_owned());
    let findings = check(&secure).await;
    assert!(findings.iter().any(|finding| finding.kind == FindingKind::Bad), "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_reported_of_a_registry_that_is_set_up_while_it_is_watched() {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    let ksqldb = Ksqldb::start(&kafka.address()).await;
    let world = World { kafka, ksqldb };
    let registry = world.registry();
    assert!(registry.observe().await.is_err());
    init(&world.settings(), |_| {}).await.unwrap();
    // No timer within the hour, and nobody asks.
    let mut events = std::pin::pin!(registry.events());
    tokio::time::timeout(LONG, events.next()).await.expect("that it can be read").unwrap();
    world.says("PRESS", "AssetType", "Device", "AssetType", "OpenFactory").await;
    tokio::time::timeout(LONG, events.next()).await.expect("the change").unwrap();
    assert!(registry.observe().await.unwrap().records.contains_key(&RecordId::Asset(uuid("PRESS"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_up_finds_what_the_topics_hold_already() {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    // A cluster that was there before, with its own idea of topics.
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.address()).create().unwrap();
    let stream = NewTopic::new("ofa_assets", 3, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let connectors = NewTopic::new("device_connector_topic", 2, TopicReplication::Fixed(1));
    let connectors = connectors.set("cleanup.policy", "compact");
    // A run before this one was interrupted after it had made a topic: nothing was ever written to it.
    let types = NewTopic::new("assets_types_topic", 3, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let types = types.set("cleanup.policy", "compact");
    let made = admin.create_topics([&stream, &connectors, &types], &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let ksqldb = Ksqldb::start(&kafka.address()).await;
    let world = World { kafka, ksqldb };
    for asset in ["PRESS", "LATHE", "MILL"] {
        world.says(asset, "AssetType", "Device", "AssetType", "OpenFactory").await;
        world.says(asset, "avail", "AVAILABLE", "Availability", "Events").await;
    }
    // One that was deleted, and one that is back since.
    world.says("MILL", "AssetType", "delete", "AssetType", "OpenFactory").await;
    world.says("LATHE", "AssetType", "delete", "AssetType", "OpenFactory").await;
    world.says("LATHE", "AssetType", "Device", "AssetType", "OpenFactory").await;
    init(&world.settings(), |line| assert!(line.ends_with(" made"), "{line}")).await.unwrap();

    let registry = world.registry();
    eventually(&registry, "the assets that were there before", |snapshot| {
        let is_there = |name: &str| found(snapshot, &RecordId::Asset(uuid(name))).is_some();
        let available = snapshot.availability.get(&uuid("LATHE")) == Some(&Availability::Available);
        is_there("PRESS") && is_there("LATHE") && !is_there("MILL") && available
    })
    .await;
    let types = world.messages("assets_types_topic").await;
    assert!(types.iter().all(|(_, payload)| !payload.is_empty()), "no tombstone of long ago: {types:?}");
    // From now on one is written.
    world.says("PRESS", "AssetType", "delete", "AssetType", "OpenFactory").await;
    eventually(&registry, "that it is gone", |found| !found.records.contains_key(&RecordId::Asset(uuid("PRESS"))))
        .await;
    assert!(world.messages("assets_types_topic").await.contains(&("PRESS".to_owned(), String::new())));
    init(&world.settings(), |line| assert!(line.ends_with(" is there"), "{line}")).await.unwrap();
    // Somebody gives one of them the broker's default policy.
    let policy = rdkafka::admin::AlterConfig::new(rdkafka::admin::ResourceSpecifier::Topic("device_connector_topic"));
    let policy = policy.set("cleanup.policy", "delete");
    assert!(admin.alter_configs([&policy], &AdminOptions::new()).await.unwrap()[0].is_ok());
    let findings = check(&world.settings()).await;
    let bad: Vec<_> = findings.iter().filter(|finding| finding.kind != FindingKind::Good).collect();
    assert!(bad.len() == 1 && bad[0].message.contains("device_connector_topic"), "{bad:#?}");
    let hint = bad[0].hint.as_ref().unwrap();
    assert!(hint.contains(&format!("--bootstrap-server {}", world.kafka.address())), "{hint}");
}

/// ksqlDB has lost its command topic; the topics of Kafka are as they were.
#[tokio::test(flavor = "multi_thread")]
async fn setting_up_over_old_topics_brings_nothing_back_that_was_taken_back() {
    let world = World::start().await;
    let registry = world.registry();
    let resource = ResourceId::app(uuid("KEPT"));
    let record = |name: &str| Arc::new(Record::Asset(asset(name)));
    for name in ["KEPT", "GONE"] {
        registry.execute(&RecordStep::Register { record: record(name), owner: owner(&resource) }).await.unwrap();
        eventually(&registry, name, |snapshot| found(snapshot, &record(name).id()).is_some()).await;
    }
    registry.execute(&RecordStep::Deregister { record: record("GONE") }).await.unwrap();
    registry.execute(&RecordStep::Forget { record: record("GONE").id() }).await.unwrap();
    eventually(&registry, "nothing of it", |snapshot| found(snapshot, &record("GONE").id()).is_none()).await;
    let derived = ["assets_types_topic", "docker_services_topic", "assets_avail_topic"];
    let mut before = Vec::new();
    for topic in derived {
        before.push(world.messages(topic).await);
    }

    world.ksqldb.lose_metastore();
    let mut lines = Vec::new();
    init(&world.settings(), |line| lines.push(line.to_owned())).await.unwrap();
    assert!(lines.iter().any(|line| line.contains("ASSETS_TYPE_STREAM begins with what comes next")), "{lines:#?}");
    // The queries read in order: whatever they derive again is there when this one is.
    world.says("LATE", "AssetType", "Device", "AssetType", "OpenFactory").await;
    world.says("LATE", "DockerService", "late", "DockerService", "OpenFactory").await;
    world.says("LATE", "avail", "AVAILABLE", "Availability", "Events").await;
    let registry = world.registry();
    eventually(&registry, "the asset that came after", |snapshot| {
        found(snapshot, &RecordId::Asset(uuid("LATE"))).is_some()
            && snapshot.availability.contains_key(&uuid("LATE"))
            && matches!(found(snapshot, &record("KEPT").id()), Some(Record::Asset(kept)) if kept.docker_service == "cnc-1-agent")
            && snapshot.records[&record("KEPT").id()].owner == Some(owner(&resource))
    })
    .await;
    assert!(found(&registry.observe().await.unwrap(), &record("GONE").id()).is_none(), "it is back");
    for (topic, before) in derived.iter().zip(before) {
        let after = world.messages(topic).await;
        let (old, new) = after.split_at(before.len());
        assert_eq!(old, before, "{topic}");
        assert!(new.iter().all(|(key, _)| key == "LATE"), "{topic} holds again what it held: {new:?}");
    }
    init(&world.settings(), |line| assert!(line.ends_with("is there"), "{line}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_up_says_what_does_not_fit_and_waits_for_what_is_slow() {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.address()).create().unwrap();
    let hour = NewTopic::new("docker_services_topic", 1, TopicReplication::Fixed(1)).set("retention.ms", "3600000");
    assert!(admin.create_topics([&hour], &AdminOptions::new()).await.unwrap()[0].is_ok());
    let ksqldb = Ksqldb::start(&kafka.address()).await;
    let world = World { kafka, ksqldb };

    let error = init(&world.settings(), |_| {}).await.unwrap_err();
    for part in [
        "DOCKER_SERVICES_STREAM",
        "topic docker_services_topic has retention.ms=3600000",
        "needs retention.ms=604800000",
    ] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    let hint = error.hint.unwrap();
    let command = format!(
        "--bootstrap-server {} --alter --entity-type topics --entity-name docker_services_topic",
        world.kafka.address()
    );
    assert!(hint.contains(&command), "{hint}");
    // What the command in the hint does.
    let (_, wanted) = hint.split_once("--add-config retention.ms=").unwrap();
    let wanted: String = wanted.chars().take_while(char::is_ascii_digit).collect();
    let config = rdkafka::admin::AlterConfig::new(rdkafka::admin::ResourceSpecifier::Topic("docker_services_topic"));
    let config = config.set("retention.ms", &wanted);
    assert!(admin.alter_configs([&config], &AdminOptions::new()).await.unwrap()[0].is_ok());

    // It goes on, with a server that is slow: one that says so, one that a proxy gives up, one that says nothing at all.
    let slow = vec![
        Slow::Silent(Duration::from_secs(11)),
        Slow::Unanswered(Duration::from_millis(700)),
        Slow::Queued(Duration::from_secs(1)),
    ];
    *world.ksqldb.faults().slow.lock().unwrap() = slow;
    let mut lines = Vec::new();
    init(&world.settings(), |line| lines.push(line.to_owned())).await.unwrap();
    assert!(world.ksqldb.faults().slow.lock().unwrap().is_empty());
    assert!(lines.iter().any(|line| line.contains("is being made, for ")), "{lines:#?}");
    assert!(lines[0] == "ASSETS_STREAM is there", "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.ends_with(" made")).count() + 3, 20, "{lines:#?}");
    init(&world.settings(), |line| assert!(line.ends_with("is there"), "{line}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_cannot_be_joined_are_named_with_their_partitions_and_what_to_do() {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.address()).create().unwrap();
    let topics = [("ofa_assets", 3), ("asset_to_uns_map_topic", 1)];
    let topics = topics.map(|(name, partitions)| NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
    assert!(admin.create_topics(&topics, &AdminOptions::new()).await.unwrap().iter().all(Result::is_ok));
    let ksqldb = Ksqldb::start(&kafka.address()).await;
    let world = World { kafka, ksqldb };
    let sentence = "topic asset_to_uns_map_topic has 1 partition and needs 3, as many as topic ofa_assets";
    let command =
        format!("kafka-topics.sh --bootstrap-server {} --delete --topic asset_to_uns_map_topic", world.kafka.address());

    let error = init(&world.settings(), |_| {}).await.unwrap_err();
    assert!(error.message.contains("ASSETS_STREAM_UNS cannot be made") && error.message.contains(sentence), "{error}");
    assert!(error.hint.unwrap().contains(&command));
    // Only other parts of OpenFactory need it.
    let findings = check(&world.settings()).await;
    let found =
        findings.iter().find(|finding| finding.message.contains(sentence)).unwrap_or_else(|| panic!("{findings:#?}"));
    assert_eq!(found.kind, FindingKind::Warning);
    assert!(found.hint.as_ref().unwrap().contains(&command));

    // What the hint says, with the means that the stand-in has: both topics go, that of the table among them.
    world.ksqldb.lose_metastore();
    let gone = ["asset_to_uns_map_topic", "ASSET_TO_UNS_MAP"];
    assert!(admin.delete_topics(&gone, &AdminOptions::new()).await.unwrap().iter().all(Result::is_ok));
    let again = async {
        // The broker deletes in its own time.
        while init(&world.settings(), |_| {}).await.is_err() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(6 * LONG, again).await.expect("it goes on");
    let findings = check(&world.settings()).await;
    assert!(!findings.iter().any(|finding| finding.message.contains("needs 3")), "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_forgets_is_told() {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    let ksqldb = Ksqldb::start(&kafka.address()).await;
    let world = World { kafka, ksqldb };
    // As OpenFactory's own script does it: the topic is made by a stream, with the broker's default policy.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    for sql in [
        "CREATE STREAM ASSETS_STREAM (ASSET_UUID VARCHAR KEY, ID VARCHAR, VALUE VARCHAR, TAG VARCHAR, TYPE VARCHAR, \
         ATTRIBUTES MAP<VARCHAR, VARCHAR>) WITH (KAFKA_TOPIC='ofa_assets', PARTITIONS=1, VALUE_FORMAT='JSON');",
        "CREATE STREAM ASSETS_TYPE_STREAM WITH (KAFKA_TOPIC='assets_types_topic', PARTITIONS=1, VALUE_FORMAT='JSON') \
         AS SELECT ASSET_UUID, VALUE AS TYPE FROM ASSETS_STREAM WHERE ID='AssetType' AND TYPE='OpenFactory' \
         EMIT CHANGES;",
    ] {
        let answer = client
            .post(format!("{}/ksql", world.ksqldb.url()))
            .header("accept", "application/vnd.ksql.v1+json")
            .body(serde_json::json!({"ksql": sql}).to_string())
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
    init(&world.settings(), |_| {}).await.unwrap();
    let findings = check(&world.settings()).await;
    let warnings: Vec<_> = findings.iter().filter(|finding| finding.kind != FindingKind::Good).collect();
    assert_eq!(warnings.len(), 1, "{findings:#?}");
    assert!(warnings[0].message.contains("assets_types_topic") && warnings[0].message.contains("168 h"));

    // By a clock that is four days ahead the record is past half of its time.
    struct Ahead(SystemClock);
    impl ofop::clock::Clock for Ahead {
        fn now(&self) -> Duration {
            self.0.now()
        }
        fn wall(&self) -> std::time::SystemTime {
            self.0.wall() + Duration::from_secs(4 * 24 * 3600)
        }
    }
    let registry = OpenfactoryRegistry::new(world.settings(), Arc::new(Ahead(SystemClock::new()))).unwrap();
    let resource = ResourceId::app(uuid("APP-1"));
    let record = Arc::new(Record::Asset(asset("APP-1")));
    registry.execute(&RecordStep::Register { record: Arc::clone(&record), owner: owner(&resource) }).await.unwrap();
    eventually(&registry, "that the record expires", |snapshot| {
        snapshot.expiring.contains(&record.id()) && snapshot.warnings.iter().any(|warning| warning.contains("168 h"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_in_trouble_fails_a_step_and_recovers() {
    let mut world = World::start().await;
    let registry = world.registry();
    let resource = ResourceId::app(uuid("APP-1"));
    let record = Arc::new(Record::Asset(asset("APP-1")));
    let step = RecordStep::Register { record: Arc::clone(&record), owner: owner(&resource) };
    registry.execute(&step).await.unwrap();
    world.kafka.stop();
    let failure = registry.execute(&step).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert!(failure.message.contains("ofa_assets") || failure.message.contains("topic"), "{failure}");
    let world = tokio::task::spawn_blocking(move || {
        world.kafka.resume();
        world
    })
    .await
    .unwrap();
    registry.execute(&step).await.unwrap();
    eventually(&registry, "the asset", |snapshot| found(snapshot, &record.id()).is_some()).await;
    drop(world);
}

#[test]
fn keys_are_placed_as_javas_clients_do() {
    // Vectors of the Java client's murmur2 with six partitions: a tombstone must land where its row is.
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("places", 6, 1).unwrap();
    let producer: rdkafka::producer::BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    use rdkafka::producer::{BaseRecord, Producer};
    for key in ["asset-1", "CNC-1", "机器"] {
        producer.send(BaseRecord::<str, str>::to("places").key(key).payload("x")).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LONG).unwrap();
    let consumer: rdkafka::consumer::BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "x")
        .create()
        .unwrap();
    use rdkafka::consumer::Consumer;
    let counts: Vec<i64> =
        (0..6).map(|partition| consumer.fetch_watermarks("places", partition, LONG).unwrap().1).collect();
    let mut expected = vec![0; 6];
    for key in ["asset-1", "CNC-1", "机器"] {
        expected[(murmur2(key.as_bytes()) & 0x7fff_ffff) as usize % 6] += 1;
    }
    assert_eq!(counts, expected);
    assert_eq!((murmur2(b"asset-1") & 0x7fff_ffff) % 6, 0, "measured against the Java client");
}

/// The hash of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`), after its published definition.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ u32::try_from(data.len()).unwrap();
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}
