//! What holds for any ksqlDB and Kafka, the stand-in or a real one: `tests/registry.sh --ksqldb URL --kafka HOSTS` runs the
//! suite below against a server of one's own. It writes assets of its own names alone, and takes them back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where it cannot go on"
)]

#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;

use std::path::Path;
use std::process::{Command, Output};

use kafka::Kafka;
use ksqldb::Ksqldb;

fn script(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/registry.sh");
    Command::new(script).args(arguments).arg("--suite").arg(std::env::current_exe().unwrap()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_script_runs_the_suite_against_any_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let kafka = Kafka::start();
    let ksqldb = runtime.block_on(Ksqldb::start(&kafka.address()));
    let ran = script(&["--ksqldb", &ksqldb.url(), "--kafka", &kafka.address()]);
    assert!(ran.status.success(), "{}", text(&ran));
    assert!(text(&ran).contains("6 passed; 0 failed"), "{}", text(&ran));

    // Nobody there is said, and is no success.
    for (arguments, word) in [
        (vec!["--ksqldb", "http://127.0.0.1:9", "--kafka", &kafka.address()], "ksqlDB"),
        (vec!["--ksqldb", &ksqldb.url(), "--kafka", "127.0.0.1:9"], "Kafka"),
        (vec!["--ksqldb", &ksqldb.url()], "usage"),
    ] {
        let refused = script(&arguments);
        assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
        assert!(text(&refused).contains(word), "{word}: {}", text(&refused));
    }
}

/// Run by the script.
mod suite {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::StreamExt;
    use ofop::clock::SystemClock;
    use ofop::model::record::{AssetRecord, Attribute, RecordOwner, Uns};
    use ofop::model::{AssetUuid, InstanceName, Record, RecordId, RecordStep, RegistrySnapshot, ResourceId, Scalar};
    use ofop::registry::Registry;
    use ofop::registry::openfactory::{
        FindingKind, KafkaSettings, KsqldbSettings, OpenfactoryRegistry, OpenfactorySettings, check, init,
    };
    use serde_json::Value;

    use crate::kafka;
    use crate::ksqldb::capture::{self, one};

    const LONG: Duration = Duration::from_secs(120);

    fn variable(name: &str) -> String {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run tests/registry.sh"))
    }

    fn settings() -> OpenfactorySettings {
        let options = std::env::var("OFOP_TEST_KAFKA_OPTIONS").unwrap_or_default();
        let options = options.split_whitespace().map(|option| option.split_once('=').expect("name=value"));
        OpenfactorySettings {
            kafka: KafkaSettings {
                brokers: variable("OFOP_TEST_KAFKA"),
                options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            },
            ksqldb: KsqldbSettings {
                url: variable("OFOP_TEST_KSQLDB"),
                insecure_credentials: true,
                ..KsqldbSettings::default()
            },
            interval: Duration::from_secs(5),
        }
    }

    /// A registry that is set up.
    async fn registry() -> OpenfactoryRegistry {
        init(&settings(), |line| println!("{line}")).await.unwrap();
        OpenfactoryRegistry::new(settings(), Arc::new(SystemClock::new())).unwrap()
    }

    /// A name that nobody else has.
    fn name(what: &str) -> AssetUuid {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        AssetUuid::new(format!("OFOP-SUITE-{what}-{}", since.as_millis())).unwrap()
    }

    fn owner(uuid: &AssetUuid) -> RecordOwner {
        let resource = ResourceId::app(uuid.clone());
        RecordOwner { instance: InstanceName::new("ofop-suite").unwrap(), resource, kept: false }
    }

    fn asset(uuid: &AssetUuid) -> AssetRecord {
        AssetRecord {
            uuid: uuid.clone(),
            asset_type: "OpenFactoryApp".into(),
            docker_service: "ofop-suite".into(),
            references_above: vec!["A".into(), "B".into()],
            references_below: Vec::new(),
            uns: Some(Uns {
                levels: vec![("inc".into(), "Acmé \"x\"".into()), ("line".into(), Scalar::Int(7))],
                uns_id: "Acmé/7".into(),
            }),
            attributes: vec![Attribute {
                id: "agent_port".into(),
                value: Scalar::Int(5000),
                tag: "NetworkPort".into(),
                kind: "Events".into(),
            }],
        }
    }

    async fn eventually(registry: &OpenfactoryRegistry, what: &str, expected: impl Fn(&RegistrySnapshot) -> bool) {
        let mut events = Box::pin(registry.events());
        let looking = async {
            while !registry.observe().await.is_ok_and(|snapshot| expected(&snapshot)) {
                let _ = tokio::time::timeout(Duration::from_millis(300), events.next()).await;
                registry.refresh();
            }
        };
        tokio::time::timeout(LONG, looking).await.unwrap_or_else(|_| panic!("never seen: {what}"));
    }

    async fn written_and_taken_back(record: Record, uuid: &AssetUuid, seen: impl Fn(&Record) -> bool) {
        let registry = registry().await;
        let (record, id) = (Arc::new(record.clone()), record.id());
        registry
            .execute(&ofop::model::RecordStep::Register { record: Arc::clone(&record), owner: owner(uuid) })
            .await
            .unwrap();
        eventually(&registry, "the record", |snapshot| {
            snapshot.records.get(&id).is_some_and(|found| seen(&found.record))
        })
        .await;
        registry.execute(&RecordStep::Deregister { record }).await.unwrap();
        let is_gone = |snapshot: &RegistrySnapshot| match snapshot.records.get(&id).map(|found| &found.record) {
            Some(Record::Asset(asset)) => asset.asset_type.is_empty(),
            Some(_) => false,
            None => true,
        };
        eventually(&registry, "its end", is_gone).await;
        registry.execute(&RecordStep::Forget { record: id.clone() }).await.unwrap();
        eventually(&registry, "nothing", |snapshot| !snapshot.records.contains_key(&id)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a server: tests/registry.sh"]
    async fn setting_up_may_be_repeated_and_checking_finds_nothing_wrong() {
        init(&settings(), |line| println!("{line}")).await.unwrap();
        init(&settings(), |line| assert!(line.ends_with("is there"), "{line}")).await.unwrap();
        let waiting = async {
            // A table that was just made has no host for a moment.
            loop {
                let findings = check(&settings()).await;
                if findings.iter().all(|finding| finding.kind != FindingKind::Bad) {
                    return;
                }
                println!("{findings:#?}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("nothing is wrong in the end");
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a server: tests/registry.sh"]
    async fn an_asset_is_written_read_taken_back_and_forgotten() {
        let uuid = name("ASSET");
        written_and_taken_back(Record::Asset(asset(&uuid)), &uuid, |record| {
            let Record::Asset(seen) = record else { return false };
            seen.asset_type == "OpenFactoryApp"
                && seen.docker_service == "ofop-suite"
                && seen.references_above == ["A", "B"]
                && seen.uns.as_ref().is_some_and(|uns| uns.uns_id == "Acmé/7" && uns.levels.len() == 2)
                && seen.attributes.iter().any(|port| port.id == "agent_port" && port.value == "5000".into())
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a server: tests/registry.sh"]
    async fn a_connector_is_written_read_and_taken_back() {
        let uuid = name("DEVICE");
        let config = r#"{"uuid":"X","tag":"Température d'huile \"A\""}"#;
        let record = Record::Connector { device: uuid.clone(), config: config.into() };
        written_and_taken_back(record.clone(), &uuid, move |seen| *seen == record).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a server: tests/registry.sh"]
    async fn a_metrics_target_is_written_read_and_taken_back() {
        let uuid = name("TARGET");
        let record = Record::MetricsTarget { asset: uuid.clone(), host: "h".into(), port: 4000, path: "/m".into() };
        written_and_taken_back(record.clone(), &uuid, move |seen| *seen == record).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a server: tests/registry.sh"]
    async fn an_asset_that_somebody_else_deletes_is_not_there() {
        let registry = registry().await;
        let uuid = name("OTHER");
        let says = |value: &'static str| {
            let (brokers, uuid) = (variable("OFOP_TEST_KAFKA"), uuid.clone());
            tokio::task::spawn_blocking(move || {
                kafka::says(&brokers, uuid.as_str(), "AssetType", value, "AssetType", "OpenFactory");
            })
        };
        let id = RecordId::Asset(uuid.clone());
        says("Device").await.unwrap();
        eventually(&registry, "the asset", |snapshot| snapshot.records.contains_key(&id)).await;
        // Its row and the tombstone for it race, and either may come last.
        says("delete").await.unwrap();
        eventually(&registry, "its end", |snapshot| !snapshot.records.contains_key(&id)).await;
    }

    /// What a real server refused is refused, with the same status and code, in the same form.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a server: tests/registry.sh"]
    async fn statements_are_refused_as_they_were_captured() {
        drop(registry().await);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().http1_only().build().unwrap();
        let mut compared = 0;
        let mut differs = BTreeMap::new();
        for entry in std::fs::read_dir(capture::folder()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let single = ["query-", "ksql-", "describe-", "ages-", "bad-", "not-"];
            if !single.iter().any(|begin| name.starts_with(begin))
                || name.contains("describe-all")
                || name == "query-get.txt"
            {
                continue;
            }
            let (request, captured) = one(&name);
            if captured.code() < 400 {
                continue;
            }
            // What the captured server expected of its topics is another number on another cluster.
            let answer = client
                .post(format!("{}{}", variable("OFOP_TEST_KSQLDB"), request.path))
                .header("accept", &request.accept)
                .body(request.body.clone())
                .send()
                .await
                .unwrap();
            let status = answer.status().as_u16();
            let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            let wanted: Value = serde_json::from_str(&captured.body).unwrap();
            let seen = (status, kind.as_ref(), &body["@type"], &body["error_code"]);
            let expected =
                (captured.code(), captured.headers.get("content-type"), &wanted["@type"], &wanted["error_code"]);
            if seen != expected {
                differs.insert(name, format!("{seen:?} instead of {expected:?}: {}", body["message"]));
            }
            compared += 1;
        }
        assert!(compared >= 15, "{compared}");
        assert!(differs.is_empty(), "{differs:#?}");
    }
}
