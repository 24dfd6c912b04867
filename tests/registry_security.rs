//! Kafka and ksqlDB behind TLS and credentials: what works, and what an administrator is told of what does not.
//!
//! A real broker with its own certificate authority, SASL PLAIN and SCRAM; the stand-in for ksqlDB behind TLS and
//! Basic authentication.

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
#[path = "support/tls.rs"]
mod tls;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kafka::{Kafka, LIMITED_USER, SASL_PASSWORD, SASL_USER};
use ksqldb::Ksqldb;
use ofop::clock::SystemClock;
use ofop::model::record::{AssetRecord, RecordOwner};
use ofop::model::{AssetUuid, FailureKind, InstanceName, Record, RecordStep};
use ofop::registry::Registry;
use ofop::registry::openfactory::{KafkaSettings, KsqldbSettings, OpenfactoryRegistry, OpenfactorySettings};
use tls::Authority;

const KSQLDB_USER: &str = "reader";
const KSQLDB_PASSWORD: &str = "battery-staple-9";
/// `reader:battery-staple-9`.
const BASIC: &str = "Basic cmVhZGVyOmJhdHRlcnktc3RhcGxlLTk=";
/// What somebody mistyped. No message may ever hold it.
const WRONG: &str = "mistyped-secret-5";

struct World {
    authority: Authority,
    /// Signs nothing that is used here.
    stranger: Authority,
    kafka: Kafka,
    ksqldb: Ksqldb,
    /// Where the stand-in speaks TLS.
    secure_ksqldb: u16,
    folder: tempfile::TempDir,
    // Last, since the stand-in runs on it.
    runtime: tokio::runtime::Runtime,
}

/// How a command ended and what it said.
struct Said {
    code: Option<i32>,
    text: String,
    took: Duration,
}

impl World {
    fn start() -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let authority = Authority::new();
        let kafka = Kafka::start_secure(&authority.key_and_certificate());
        let ksqldb = runtime.block_on(Ksqldb::start(&kafka.address()));
        let secure_ksqldb = runtime.block_on(authority.in_front_of(ksqldb.socket()));
        *ksqldb.faults().credentials.lock().unwrap() = Some(BASIC.into());
        World {
            authority,
            stranger: Authority::new(),
            kafka,
            ksqldb,
            secure_ksqldb,
            folder: tempfile::tempdir().unwrap(),
            runtime,
        }
    }

    fn registry(&self, password: &str) -> OpenfactoryRegistry {
        self.registry_as("SCRAM-SHA-256", SASL_USER, password)
    }

    fn registry_as(&self, mechanism: &str, user: &str, password: &str) -> OpenfactoryRegistry {
        let ca = self.authority.ca();
        let options = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
            ("ssl.ca.location", ca.to_str().unwrap()),
        ];
        let settings = OpenfactorySettings {
            kafka: KafkaSettings {
                brokers: format!("127.0.0.1:{}", self.kafka.secure().sasl_ssl),
                options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            },
            ksqldb: KsqldbSettings {
                url: format!("https://127.0.0.1:{}", self.secure_ksqldb),
                username: Some(KSQLDB_USER.into()),
                password: Some(KSQLDB_PASSWORD.into()),
                certificate_authority: Some(ca.clone()),
                insecure_credentials: false,
            },
            interval: Duration::from_secs(3600),
        };
        OpenfactoryRegistry::new(settings, Arc::new(SystemClock::new())).unwrap()
    }

    /// `ofop` with settings that work, changed by these.
    fn ofop(&self, arguments: &[&str], changes: &[(&str, &str)]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ofop"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("KAFKA_BROKER", format!("127.0.0.1:{}", self.kafka.secure().sasl_ssl))
            .env("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
            .env("KAFKA_SASL_MECHANISM", "PLAIN")
            .env("KAFKA_SASL_USERNAME", SASL_USER)
            .env("KAFKA_SASL_PASSWORD", SASL_PASSWORD)
            .env("KAFKA_SSL_CA_LOCATION", self.authority.ca())
            .env("KSQLDB_URL", format!("https://127.0.0.1:{}", self.secure_ksqldb))
            .env("OFOP_KSQLDB_USERNAME", KSQLDB_USER)
            .env("OFOP_KSQLDB_PASSWORD", KSQLDB_PASSWORD)
            .env("OFOP_KSQLDB_CA_FILE", self.authority.ca());
        for (name, value) in changes {
            if value.is_empty() {
                command.env_remove(name);
            } else {
                command.env(name, value);
            }
        }
        let began = Instant::now();
        let output = command.output().unwrap();
        let took = began.elapsed();
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        for secret in [SASL_PASSWORD, KSQLDB_PASSWORD, WRONG, BASIC] {
            assert!(!text.contains(secret), "{arguments:?} {changes:?} tells a secret:\n{text}");
        }
        Said { code: output.status.code(), text, took }
    }

    /// `ofop registry check` finds something wrong, in time, and says all of this about it.
    fn complains(&self, changes: &[(&str, &str)], words: &[&str]) {
        let said = self.ofop(&["registry", "check"], changes);
        assert_eq!(said.code, Some(2), "{changes:?}:\n{}", said.text);
        let wrong: Vec<&str> = said.text.lines().skip_while(|line| !line.starts_with("wrong")).collect();
        let wrong = wrong.join("\n");
        for word in words {
            assert!(wrong.contains(word), "{changes:?}: {word:?} is not said:\n{}", said.text);
        }
        assert!(said.took < Duration::from_secs(25), "{changes:?} took {:?}", said.took);
    }

    /// It works, whatever is written is read.
    fn works(&self, changes: &[(&str, &str)]) {
        let said = self.ofop(&["registry", "check"], changes);
        assert_eq!(said.code, Some(0), "{changes:?}:\n{}", said.text);
        assert!(!said.text.contains("wrong"), "{}", said.text);
    }
}

/// An asset, and whose it is.
fn press() -> (Arc<Record>, RecordOwner) {
    let record = Record::Asset(AssetRecord {
        uuid: AssetUuid::new("PRESS").unwrap(),
        asset_type: "OpenFactoryApp".into(),
        docker_service: "press".into(),
        references_above: Vec::new(),
        references_below: Vec::new(),
        uns: None,
        attributes: Vec::new(),
    });
    let owner = RecordOwner {
        instance: InstanceName::new("test").unwrap(),
        resource: "app/PRESS".parse().unwrap(),
        kept: false,
    };
    (Arc::new(record), owner)
}

#[test]
fn kafka_and_ksqldb_behind_tls_and_credentials() {
    let world = World::start();
    let text = |port: u16| format!("127.0.0.1:{port}");
    let (plain, ssl, sasl_ssl) =
        (world.kafka.address(), text(world.kafka.secure().ssl), text(world.kafka.secure().sasl_ssl));
    let stranger = world.stranger.ca();
    let stranger = stranger.to_str().unwrap();

    let made = world.ofop(&["registry", "init"], &[]);
    assert_eq!(made.code, Some(0), "{}", made.text);
    world.works(&[]);
    world.works(&[("KAFKA_SASL_MECHANISM", "SCRAM-SHA-256")]);
    world.works(&[("KAFKA_BROKER", &ssl), ("KAFKA_SECURITY_PROTOCOL", "SSL"), ("KAFKA_SASL_MECHANISM", "")]);
    let file = world.folder.path().join("password");
    std::fs::write(&file, format!("{SASL_PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    world.works(&[("KAFKA_SASL_PASSWORD", ""), ("KAFKA_SASL_PASSWORD_FILE", file.to_str().unwrap())]);

    // What is written arrives, and what is refused says why.
    let (record, owner) = press();
    let step = RecordStep::Register { record: Arc::clone(&record), owner: owner.clone() };
    world.runtime.block_on(async {
        let registry = world.registry(SASL_PASSWORD);
        registry.execute(&step).await.unwrap();
        let seen = async {
            loop {
                registry.refresh();
                let snapshot = registry.observe().await.unwrap();
                if snapshot.records.get(&record.id()).is_some_and(|found| found.owner.as_ref() == Some(&owner)) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("it is read again");

        let failure = world.registry(WRONG).execute(&step).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unavailable);
        assert!(failure.message.contains("uthentication failed"), "{failure}");
        assert!(!failure.message.contains(WRONG), "{failure}");
    });

    // Kafka: who we are.
    let password = ["KAFKA_SASL_PASSWORD", "uthentication failed"];
    world.complains(&[("KAFKA_SASL_PASSWORD", WRONG)], &password);
    world.complains(&[("KAFKA_SASL_PASSWORD", WRONG), ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-256")], &password);
    world.complains(&[("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")], &["KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"]);
    world.complains(&[("KAFKA_SASL_MECHANISM", "GUESS")], &["KAFKA_SASL_MECHANISM"]);
    // Whom we trust.
    world.complains(&[("KAFKA_SSL_CA_LOCATION", stranger)], &["KAFKA_SSL_CA_LOCATION", "certificate verify failed"]);
    world.complains(&[("KAFKA_SSL_CA_LOCATION", "/nowhere/ca.pem")], &["KAFKA_SSL_CA_LOCATION", "/nowhere/ca.pem"]);
    // What is spoken.
    let protocol = ["KAFKA_SECURITY_PROTOCOL"];
    world.complains(&[("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"), ("KAFKA_BROKER", &ssl)], &protocol);
    world.complains(&[("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"), ("KAFKA_BROKER", &sasl_ssl)], &protocol);
    world.complains(&[("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")], &protocol);
    world.complains(&[("KAFKA_BROKER", &plain)], &protocol);
    world.complains(&[("KAFKA_SECURITY_PROTOCOL", "SSL"), ("KAFKA_BROKER", &sasl_ssl)], &protocol);
    world.complains(&[("KAFKA_SECURITY_PROTOCOL", "TLS")], &["KAFKA_SECURITY_PROTOCOL"]);
    // Where.
    world.complains(&[("KAFKA_BROKER", "no-such-host.invalid:9092")], &["no-such-host.invalid", "KAFKA_BROKER"]);
    world.complains(&[("KAFKA_BROKER", "127.0.0.1:9")], &["127.0.0.1:9", "KAFKA_BROKER"]);

    // ksqlDB likewise.
    let credentials = ["credentials", "OFOP_KSQLDB_PASSWORD"];
    world.complains(&[("OFOP_KSQLDB_PASSWORD", WRONG)], &credentials);
    world.complains(&[("OFOP_KSQLDB_USERNAME", ""), ("OFOP_KSQLDB_PASSWORD", "")], &credentials);
    world.complains(&[("OFOP_KSQLDB_CA_FILE", stranger)], &["OFOP_KSQLDB_CA_FILE", "certificate"]);
    world.complains(&[("OFOP_KSQLDB_CA_FILE", "/nowhere/ca.pem")], &["OFOP_KSQLDB_CA_FILE", "/nowhere/ca.pem"]);
    let http = format!("http://127.0.0.1:{}", world.secure_ksqldb);
    world.complains(&[("KSQLDB_URL", &http)], &["unprotected", "https://"]);
    let open = [("KSQLDB_URL", &*http), ("OFOP_KSQLDB_INSECURE_CREDENTIALS", "true")];
    world.complains(&open, &["TLS", "https://"]);
    let https = world.ksqldb.url().replace("http://", "https://");
    world.complains(&[("KSQLDB_URL", &https)], &["http://"]);
    world.complains(&[("KSQLDB_URL", "https://127.0.0.1:9")], &["cannot be reached", "KSQLDB_URL"]);
    world.complains(&[("KSQLDB_URL", "https://no-such-host.invalid:8088")], &["cannot be reached", "KSQLDB_URL"]);
    // A server that hangs.
    world.ksqldb.faults().hang.store(true, Ordering::SeqCst);
    world.complains(&[], &["did not answer within 10 s"]);
}

/// The rights in `docs/registry.md` are enough, and what is missing is said.
#[test]
fn what_kafka_must_allow() {
    let world = World::start();
    let made = world.ofop(&["registry", "init"], &[]);
    assert_eq!(made.code, Some(0), "{}", made.text);
    let limited = [("KAFKA_SASL_USERNAME", LIMITED_USER)];
    let (record, owner) = press();
    let step = RecordStep::Register { record, owner };
    let registry = || world.registry_as("PLAIN", LIMITED_USER, SASL_PASSWORD);

    world.complains(&limited, &["topic ofa_assets of ASSETS_STREAM may not be described", "allow Describe and Write"]);
    let refused = |failure: &ofop::model::StepFailure| {
        assert_eq!(failure.kind, FailureKind::Rejected, "{failure}");
        assert!(failure.message.contains("allow Describe and Write on topic ofa_assets"), "{failure}");
    };
    refused(&world.runtime.block_on(async { registry().execute(&step).await.unwrap_err() }));
    world.kafka.allow(&["Describe"]);
    let failure = world.runtime.block_on(async { registry().execute(&step).await.unwrap_err() });
    assert!(failure.message.contains("uthorization failed"), "{failure}");
    refused(&failure);

    world.kafka.allow(&["Write"]);
    let said = world.ofop(&["registry", "check"], &limited);
    assert_eq!(said.code, Some(0), "{}", said.text);
    for warning in ["allow DescribeConfigs", "ofop may not Read its topics", "allow Read"] {
        assert!(said.text.contains(warning), "{warning:?} is not said:\n{}", said.text);
    }
    world.runtime.block_on(async {
        let registry = registry();
        registry.execute(&step).await.unwrap();
        let told = async {
            loop {
                registry.refresh();
                let snapshot = registry.observe().await.unwrap();
                if snapshot.warnings.iter().any(|warning| warning.contains("may not Read")) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.expect("people are told");
    });

    world.kafka.allow(&["DescribeConfigs", "Read"]);
    let said = world.ofop(&["registry", "check"], &limited);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert!(said.text.contains("Kafka tells of changes"), "{}", said.text);
    assert!(!said.text.contains("allow "), "{}", said.text);
}
