//! The embedded registry: records in, the same records out, and what becomes of a file that is shared, lost,
//! locked or damaged.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ofop::clock::SystemClock;
use ofop::model::record::{AssetRecord, Attribute, CoordinatorProtocol, RecordOwner, Uns};
use ofop::model::{
    AssetUuid, FailureKind, InstanceName, ObservedRecord, Record, RecordId, RecordStep, RegistrySnapshot, Scalar,
};
use ofop::registry::Registry;
use ofop::registry::embedded::{EmbeddedRegistry, FILE};

fn uuid(text: &str) -> AssetUuid {
    AssetUuid::new(text).unwrap()
}

fn owner(resource: &str) -> RecordOwner {
    RecordOwner { instance: InstanceName::new("plant-a").unwrap(), resource: resource.parse().unwrap(), kept: false }
}

fn device() -> AssetRecord {
    AssetRecord {
        uuid: uuid("CNC-1"),
        asset_type: "Device".into(),
        docker_service: String::new(),
        references_above: vec!["CELL, with a comma".split(',').next().unwrap().into(), "LINE".into()],
        references_below: vec!["CNC-1-PRODUCER".into(), "CNC-1-AGENT".into()],
        uns: Some(Uns {
            levels: vec![
                ("site".into(), Scalar::Text("south".into())),
                ("line".into(), Scalar::Int(7)),
                ("ratio".into(), Scalar::Float(1.5)),
                ("dry".into(), Scalar::Bool(true)),
                ("asset".into(), Scalar::Text("CNC-1".into())),
            ],
            uns_id: "south/7/1.5/True/CNC-1".into(),
        }),
        attributes: vec![
            Attribute {
                id: "z_port".into(),
                value: Scalar::Text("5000".into()),
                tag: "NetworkPort".into(),
                kind: "Events".into(),
            },
            Attribute { id: "a_flag".into(), value: Scalar::Bool(false), tag: "T".into(), kind: "Events".into() },
            Attribute { id: "b_size".into(), value: Scalar::Float(2.0), tag: "T".into(), kind: "Samples".into() },
        ],
    }
}

fn all_records() -> Vec<Record> {
    vec![
        Record::Asset(device()),
        Record::Connector { device: uuid("CNC-1"), config: r#"{"uuid":"CNC-1"}"#.into() },
        Record::Asset(AssetRecord {
            uuid: uuid("CAM"),
            asset_type: "OpenFactoryApp".into(),
            docker_service: "cam".into(),
            references_above: vec![],
            references_below: vec![],
            uns: None,
            attributes: vec![],
        }),
        Record::MetricsTarget { asset: uuid("CAM"), host: "cam".into(), port: 4000, path: "/metrics".into() },
    ]
}

fn registry(dir: &Path) -> EmbeddedRegistry {
    EmbeddedRegistry::new(dir, Arc::new(SystemClock::new()))
}

fn resource_of(record: &Record) -> &'static str {
    if record.id().asset().as_str() == "CAM" { "app/CAM" } else { "device/CNC-1" }
}

async fn register(registry: &EmbeddedRegistry, record: Record) {
    let owner = owner(resource_of(&record));
    registry.execute(&RecordStep::Register { record: Arc::new(record), owner }).await.unwrap();
}

async fn filled(dir: &Path) -> EmbeddedRegistry {
    let registry = registry(dir);
    for record in all_records() {
        register(&registry, record).await;
    }
    registry
}

fn expected() -> Vec<ObservedRecord> {
    let marked = |record: Record| ObservedRecord { owner: Some(owner(resource_of(&record))), record };
    let mut expected: Vec<_> = all_records().into_iter().map(marked).collect();
    expected.sort_by_key(|observed| observed.record.id());
    expected
}

fn found(snapshot: &RegistrySnapshot) -> Vec<ObservedRecord> {
    snapshot.records.values().map(|record| record.as_ref().clone()).collect()
}

#[tokio::test]
async fn every_record_reads_back_as_it_was_written_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let registry = filled(dir.path()).await;
    let snapshot = registry.observe().await.unwrap();
    assert!(snapshot.complete);
    assert_eq!(found(&snapshot), expected());
    // Writing the same again changes nothing.
    for record in all_records() {
        register(&registry, record).await;
    }
    assert_eq!(found(&registry.observe().await.unwrap()), expected());
}

#[tokio::test]
async fn looking_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let snapshot = registry(&state).observe().await.unwrap();
    assert!(snapshot.complete && snapshot.records.is_empty());
    assert!(!state.exists());
}

#[tokio::test]
async fn what_a_record_no_longer_says_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let registry = filled(dir.path()).await;
    let plain = AssetRecord { uns: None, attributes: vec![], references_above: vec![], ..device() };
    register(&registry, Record::Asset(plain.clone())).await;
    let snapshot = registry.observe().await.unwrap();
    assert_eq!(snapshot.records[&RecordId::Asset(uuid("CNC-1"))].record, Record::Asset(plain));
}

#[tokio::test]
async fn an_asset_that_is_taken_back_is_gone_at_once_with_what_belongs_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let registry = filled(dir.path()).await;
    registry.execute(&RecordStep::Deregister { record: Arc::new(Record::Asset(device())) }).await.unwrap();
    let left: Vec<_> = registry.observe().await.unwrap().records.keys().cloned().collect();
    assert_eq!(left, [RecordId::Asset(uuid("CAM")), RecordId::MetricsTarget(uuid("CAM"))]);
    // What is left to do when something else began it, and what was done already, are no errors.
    registry.execute(&RecordStep::Forget { record: RecordId::Asset(uuid("CNC-1")) }).await.unwrap();
    registry.execute(&RecordStep::Deregister { record: Arc::new(Record::Asset(device())) }).await.unwrap();
}

#[tokio::test]
async fn a_single_record_is_taken_back_alone() {
    let dir = tempfile::tempdir().unwrap();
    let registry = filled(dir.path()).await;
    let target = all_records().pop().unwrap();
    registry.execute(&RecordStep::Deregister { record: Arc::new(target) }).await.unwrap();
    let records = registry.observe().await.unwrap();
    assert!(!records.records.contains_key(&RecordId::MetricsTarget(uuid("CAM"))));
    assert_eq!(records.records.len(), 3);
}

#[tokio::test]
async fn devices_of_coordinators_need_the_real_registry_and_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let record = Arc::new(Record::CoordinatorDevice {
        device: uuid("PLC"),
        protocol: CoordinatorProtocol::Opcua,
        config: "{}".into(),
    });
    let step = RecordStep::Register { record, owner: owner("device/PLC") };
    let failure = registry(dir.path()).execute(&step).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Dependency);
    assert!(failure.message.contains("--registry openfactory"), "{failure}");
}

#[tokio::test]
async fn an_observation_is_read_again_only_when_something_changed_or_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let registry = filled(dir.path()).await;
    let first = registry.observe().await.unwrap();
    assert!(Arc::ptr_eq(&first, &registry.observe().await.unwrap()));
    registry.refresh();
    let second = registry.observe().await.unwrap();
    assert_eq!(second.generation, first.generation + 1);
    register(&registry, Record::Asset(AssetRecord { uns: None, ..device() })).await;
    let third = registry.observe().await.unwrap();
    assert_eq!(third.generation, second.generation + 1);
}

#[tokio::test]
async fn what_another_process_writes_is_seen_and_announced() {
    let dir = tempfile::tempdir().unwrap();
    let ours = filled(dir.path()).await;
    ours.observe().await.unwrap();
    let mut events = pin!(ours.events());
    let theirs = registry(dir.path());
    theirs.execute(&RecordStep::Deregister { record: Arc::new(Record::Asset(device())) }).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), events.next()).await.expect("no event came").unwrap();
    assert_eq!(ours.observe().await.unwrap().records.len(), 2);
}

#[tokio::test]
async fn a_lost_file_is_made_anew_by_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let registry = filled(dir.path()).await;
    assert_eq!(registry.observe().await.unwrap().records.len(), 4);
    fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(registry.observe().await.unwrap().records.len(), 0);
    for record in all_records() {
        register(&registry, record).await;
    }
    assert_eq!(found(&registry.observe().await.unwrap()), expected());
    fs::remove_file(dir.path().join(FILE)).unwrap();
    register(&registry, Record::Asset(device())).await;
    assert_eq!(registry.observe().await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let _registry = filled(&state).await;
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    let mut files = 0;
    for entry in fs::read_dir(&state).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        files += 1;
    }
    assert!(files >= 1);
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    let text = "this is no database, but it is somebody's file: ".repeat(100);
    fs::write(&file, &text).unwrap();
    let registry = registry(dir.path());
    let error = registry.observe().await.unwrap_err();
    assert!(error.message.ends_with("is not a SQLite database"), "{error}");
    assert!(error.hint.unwrap().contains("move the file away"));
    let step = RecordStep::Forget { record: RecordId::Asset(uuid("A")) };
    let failure = registry.execute(&step).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    // Once it is out of the way, everything works.
    fs::remove_file(&file).unwrap();
    register(&registry, Record::Asset(device())).await;
    assert_eq!(registry.observe().await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn somebody_elses_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let other = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("CREATE TABLE photos (name TEXT); INSERT INTO photos VALUES ('one');").unwrap();
    let registry = registry(dir.path());
    let step = RecordStep::Forget { record: RecordId::Asset(uuid("A")) };
    let failure = registry.execute(&step).await.unwrap_err();
    assert!(failure.message.contains("database of something else"), "{failure}");
    let tables: i64 = other.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_locked_file_is_unavailable_and_works_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let registry = filled(dir.path()).await;
    let other = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let step = RecordStep::Forget { record: RecordId::Asset(uuid("CAM")) };
    let failure = registry.execute(&step).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert!(failure.message.contains("locked by another process"), "{failure}");
    // Reading goes on meanwhile.
    assert_eq!(registry.observe().await.unwrap().records.len(), 4);
    other.execute_batch("COMMIT").unwrap();
    registry.execute(&step).await.unwrap();
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state"), "a file").unwrap();
    let registry = registry(&dir.path().join("state"));
    let error = registry.observe().await.unwrap_err();
    assert!(error.message.contains("cannot be used"), "{error}");
    let step = RecordStep::Register { record: Arc::new(Record::Asset(device())), owner: owner("device/CNC-1") };
    let failure = registry.execute(&step).await.unwrap_err();
    assert!(failure.message.contains("state"), "{failure}");
}

#[tokio::test]
async fn the_tables_have_ksqldbs_names_and_columns() {
    let dir = tempfile::tempdir().unwrap();
    let _registry = filled(dir.path()).await;
    let sqlite = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    let one = |sql: &str| sqlite.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(one("SELECT TYPE FROM ASSETS_TYPE WHERE ASSET_UUID = 'CNC-1'"), "Device");
    assert_eq!(one("SELECT DOCKER_SERVICE FROM DOCKER_SERVICES WHERE ASSET_UUID = 'CAM'"), "cam");
    assert_eq!(one("SELECT VALUE FROM ASSETS WHERE KEY = 'CNC-1|line'"), "7");
    assert_eq!(one("SELECT UNS_ID FROM ASSET_TO_UNS_MAP WHERE ASSET_UUID = 'CNC-1'"), "south/7/1.5/True/CNC-1");
    assert_eq!(one("SELECT CONNECTOR_CONFIG FROM DEVICE_CONNECTOR"), r#"{"uuid":"CNC-1"}"#);
    assert_eq!(one("SELECT HOST || ':' || PORT || PATH FROM METRICS_TARGETS"), "cam:4000/metrics");
}
