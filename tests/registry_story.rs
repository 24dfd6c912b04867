//! Both halves of the truth: the real program, a real engine, a real broker, and the stand-in for ksqlDB.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;
#[path = "support/operator.rs"]
mod operator;

use std::sync::atomic::Ordering;

use engine::{IDLE, IDLE_2, TestEngine};
use kafka::Kafka;
use ksqldb::Ksqldb;
use operator::Operator;
use serde_json::Value;

/// The password of ksqlDB, and how it goes over the wire with its user.
const PASSWORD: &str = "pw-sentinel-3141";
const CREDENTIALS: &str = "b2ZvcDpwdy1zZW50aW5lbC0zMTQx";

struct Plant {
    engine: TestEngine,
    kafka: Kafka,
    ksqldb: Ksqldb,
    ofop: Operator,
    // Last, since the stand-in runs on it.
    _runtime: tokio::runtime::Runtime,
}

impl Plant {
    /// Everything but the daemon, the registry set up by `ofop registry init`.
    fn new() -> Plant {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let engine = TestEngine::swarm();
        let kafka = Kafka::start();
        let ksqldb = runtime.block_on(Ksqldb::start(&kafka.address()));
        let ofop = Operator::new(&engine.host());
        *ksqldb.faults().credentials.lock().unwrap() = Some(format!("Basic {CREDENTIALS}"));
        let settings = format!(
            "KAFKA_BROKER={}\nKSQLDB_URL={}/\nMTCONNECT_PRODUCER_IMAGE={IDLE}\nOFOP_KSQLDB_USERNAME=ofop\n\
             OFOP_KSQLDB_PASSWORD={PASSWORD}\nOFOP_KSQLDB_INSECURE_CREDENTIALS=true\nOPENFACTORY_UNS_SCHEMA=uns.yml\n",
            kafka.address(),
            ksqldb.url()
        );
        std::fs::write(ofop.folder().join(".ofaenv"), settings).unwrap();
        let schema = "namespace_structure:\n  - line: ANY\n  - dry: ANY\n  - asset: ANY\n  - attribute: ANY\n\
                      uns_template: line/dry/asset/attribute\n";
        std::fs::write(ofop.folder().join("uns.yml"), schema).unwrap();
        let made = ofop.run(&["registry", "init"]);
        assert_eq!(made.code, Some(0), "{}", made.err);
        let checked = ofop.run(&["registry", "check"]);
        assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
        Plant { engine, kafka, ksqldb, ofop, _runtime: runtime }
    }

    /// The asset's row in a table, whatever column is asked for; none when there is no row.
    fn row(&self, table: &str, key: &str, column: &str) -> Option<String> {
        let rows = self.ksqldb.table(table);
        Some(rows.get(key)?.get(column)?.as_str()?.to_owned())
    }

    fn service(&self, name: &str) -> Value {
        let services = self.engine.get("/services");
        services.as_array().unwrap().iter().find(|service| service["Spec"]["Name"] == name).cloned().unwrap_or_default()
    }

    fn registered(&self, asset: &str, kind: &str) {
        self.ofop.wait(&format!("{asset} is registered"), || {
            self.row("ASSETS_TYPE", asset, "TYPE").as_deref() == Some(kind)
                && self.row("ASSETS", &format!("{asset}|managed_by"), "VALUE").as_deref() == Some("default")
        });
    }

    /// No row of it is left, and its mark is cleared.
    fn gone(&self, asset: &str) {
        self.ofop.wait(&format!("nothing of {asset} is left"), || {
            self.row("ASSETS_TYPE", asset, "TYPE").is_none()
                && self.row("DOCKER_SERVICES", asset, "DOCKER_SERVICE").is_none()
                && self.row("ASSETS", &format!("{asset}|managed_by"), "VALUE").as_deref() == Some("")
        });
    }

    /// Neither the log nor anything that is served holds the password.
    fn keeps_secrets(&self) {
        let served = ["/", "/metrics", "/api/v1/resources", "/api/v1/plan", "/healthz", "/readyz"];
        let mut texts: Vec<String> = served.iter().map(|path| self.ofop.try_get(path).unwrap()).collect();
        texts.push(self.ofop.log());
        texts.push(self.ofop.run(&["events", "-o", "json"]).out);
        for text in texts {
            assert!(!text.is_empty() && !text.contains(PASSWORD) && !text.contains(CREDENTIALS), "{text}");
        }
    }

    fn events(&self, resource: &str, word: &str) -> usize {
        let events = self.ofop.run(&["events", "-o", "json"]);
        assert_eq!(events.code, Some(0), "{}", events.err);
        events.out.lines().filter(|line| line.contains(resource) && line.contains(word)).count()
    }
}

/// Its levels are no texts, although the registry keeps them as such.
fn app(uuid: &str, image: &str, replicas: u32) -> String {
    format!(
        "apps:\n  a:\n    uuid: {uuid}\n    image: {image}\n    networks: [factory-net]\n    \
         uns: {{line: 7, dry: true}}\n    deploy: {{replicas: {replicas}}}\n"
    )
}

#[test]
fn assets_are_adopted_registered_scaled_put_back_and_taken_back() {
    let mut plant = Plant::new();

    // What OpenFactory's command line deployed and registered is taken over without a restart.
    plant.ofop.write("scheduler.yml", &app("SCHEDULER", IDLE, 1));
    let rendered = plant.ofop.run(&["render", "desired", "-o", "json"]);
    let rendered: Value = serde_json::from_str(&rendered.out).unwrap();
    plant.engine.ok("POST", "/services/create", &rendered["resources"][0]["services"][0].to_string());
    let brokers = plant.kafka.address();
    for (id, value) in [
        ("AssetType", "OpenFactoryApp"),
        ("DockerService", "scheduler"),
        ("references_below", ""),
        ("references_above", ""),
    ] {
        let tag = if id.starts_with("ref") { "AssetsReferences" } else { id };
        kafka::says(&brokers, "SCHEDULER", id, value, tag, "OpenFactory");
    }
    // An asset of which no manifest speaks, and one that another operator manages.
    kafka::says(&brokers, "ROBOT", "avail", "AVAILABLE", "Availability", "Events");
    kafka::says(&brokers, "THEIRS", "managed_by", "plant-b", "ManagedBy", "OpenFactory");
    kafka::says(&brokers, "THEIRS", "managed_resource", "device/THEIRS", "ManagedBy", "OpenFactory");
    for other in ["ROBOT", "THEIRS"] {
        kafka::says(&brokers, other, "AssetType", "Device", "AssetType", "OpenFactory");
    }
    plant.ofop.wait("the assets are registered", || {
        ["SCHEDULER", "ROBOT", "THEIRS"].iter().all(|asset| plant.row("ASSETS_TYPE", asset, "TYPE").is_some())
    });
    let owners = |plant: &Plant| -> Vec<String> {
        let shown = plant.ofop.run(&["get", "assets"]);
        assert_eq!(shown.code, Some(0), "{}", shown.err);
        shown.out.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let others = ["ROBOT - Device foreign yes", "THEIRS - Device by plant-b -"];
    assert_eq!(owners(&plant), [&["SCHEDULER app/SCHEDULER OpenFactoryApp to adopt -"], &others[..]].concat());
    let before = plant.service("scheduler");
    let task = |plant: &Plant| {
        let tasks = plant.engine.get("/tasks");
        let mut ids: Vec<String> =
            tasks.as_array().unwrap().iter().map(|task| task["ID"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    let tasks = task(&plant);
    plant.ofop.start();
    plant.ofop.settles("app/SCHEDULER");
    plant.registered("SCHEDULER", "OpenFactoryApp");
    assert_eq!(plant.row("ASSET_TO_UNS_MAP", "SCHEDULER", "UNS_ID").unwrap(), "7/True/SCHEDULER");
    assert_eq!(plant.service("scheduler")["ID"], before["ID"]);
    assert_eq!(task(&plant), tasks, "adopting restarts no task");
    kafka::says(&brokers, "SCHEDULER", "avail", "AVAILABLE", "Availability", "Events");
    plant.ofop.wait("it is available", || plant.row("ASSETS_AVAIL", "SCHEDULER", "AVAILABILITY").is_some());
    assert_eq!(owners(&plant), [&["SCHEDULER app/SCHEDULER OpenFactoryApp ours yes"], &others[..]].concat());

    // A device with a producer of ours: three assets that refer to each other, and its connector.
    plant.ofop.write(
        "device.yml",
        "devices:\n  m:\n    uuid: CNC-1\n    connector:\n      type: mtconnect\n      agent: {ip: 10.0.0.7, port: 5000}\n",
    );
    plant.ofop.settles("device/CNC-1");
    plant.registered("CNC-1", "Device");
    plant.registered("CNC-1-PRODUCER", "KafkaProducer");
    plant.registered("CNC-1-AGENT", "MTConnectAgent");
    assert_eq!(plant.row("ASSETS", "CNC-1|references_below", "VALUE").unwrap(), "CNC-1-PRODUCER, CNC-1-AGENT");
    assert_eq!(plant.row("ASSETS", "CNC-1-AGENT|agent_port", "VALUE").unwrap(), "5000");
    assert!(plant.row("DEVICE_CONNECTOR", "CNC-1", "CONNECTOR_CONFIG").unwrap().contains("\"ip\":\"10.0.0.7\""));

    // One asset for each replica, and the surplus ones gone after scaling down.
    plant.ofop.write("scheduler.yml", &app("SCHEDULER", IDLE, 3));
    for replica in ["SCHEDULER-1", "SCHEDULER-2", "SCHEDULER-3"] {
        plant.registered(replica, "OpenFactoryApp");
    }
    plant.gone("SCHEDULER");
    plant.ofop.write("scheduler.yml", &app("SCHEDULER", IDLE, 1));
    plant.registered("SCHEDULER", "OpenFactoryApp");
    for replica in ["SCHEDULER-1", "SCHEDULER-2", "SCHEDULER-3"] {
        plant.gone(replica);
    }
    plant.ofop.settles("app/SCHEDULER");

    // Somebody takes a row away: put back. Somebody writes another service into it: mended.
    kafka::produce(&brokers, "assets_types_topic", "SCHEDULER", None);
    plant.ofop.wait("it was seen", || plant.events("SCHEDULER", "unregistered") > 0);
    plant.registered("SCHEDULER", "OpenFactoryApp");
    kafka::says(&brokers, "SCHEDULER", "DockerService", "elsewhere", "DockerService", "OpenFactory");
    plant.ofop.wait("it was seen", || plant.events("SCHEDULER", "stale_record") > 0);
    plant.ofop.wait("the row is as it was", || {
        plant.row("DOCKER_SERVICES", "SCHEDULER", "DOCKER_SERVICE").as_deref() == Some("scheduler")
    });
    plant.ofop.settles("app/SCHEDULER");

    // A file that goes takes its services and its rows with it.
    plant.ofop.delete("device.yml");
    for asset in ["CNC-1", "CNC-1-PRODUCER", "CNC-1-AGENT"] {
        plant.gone(asset);
    }
    assert!(plant.row("DEVICE_CONNECTOR", "CNC-1", "CONNECTOR_CONFIG").is_none());
    assert_eq!(owners(&plant)[1..], others, "what is not ours is as it was");
    assert!(plant.service("cnc-1-producer").is_null());
    assert_eq!(plant.ofop.signal("TERM"), Some(0));
}

#[test]
fn outages_lag_and_a_death_between_service_and_record_cost_nothing() {
    let mut plant = Plant::new();
    let faults = |plant: &Plant, failing: usize| {
        plant.ksqldb.faults().status.store(503, Ordering::SeqCst);
        plant.ksqldb.faults().failing.store(failing, Ordering::SeqCst);
    };
    // ksqlDB is away at the start: services come up, no record is written, and the daemon says so.
    faults(&plant, usize::MAX);
    plant.ofop.write("press.yml", &app("PRESS", IDLE, 1));
    plant.ofop.start();
    plant.ofop.wait("the service runs", || !plant.service("press").is_null());
    plant.ofop.wait("it says so", || plant.ofop.metric("ofop_registry_up") == Some(0.0));
    let id = plant.service("press")["ID"].as_str().unwrap().to_owned();
    plant.engine.ok("DELETE", &format!("/services/{id}"), "");
    plant.ofop.wait("the service is back", || {
        let now = plant.service("press");
        !now.is_null() && now["ID"] != id.as_str()
    });

    // It dies there, between the service and its record; its successor finishes when ksqlDB is back.
    plant.ofop.kill();
    assert!(plant.row("ASSETS_TYPE", "PRESS", "TYPE").is_none());
    plant.ofop.start_with(&["-vv"]);
    faults(&plant, 0);
    plant.ofop.settles("app/PRESS");
    plant.registered("PRESS", "OpenFactoryApp");

    // A table that lags is waited for, and nothing is written twice meanwhile.
    plant.ksqldb.faults().lag.store(300, Ordering::SeqCst);
    plant.ofop.write("other.yml", &app("OTHER", IDLE, 1));
    plant.ofop.settles("app/OTHER");
    plant.registered("OTHER", "OpenFactoryApp");
    plant.ksqldb.faults().lag.store(0, Ordering::SeqCst);
    plant.ofop.write("press.yml", &app("PRESS", IDLE_2, 1));
    plant.ofop.settles("app/PRESS");
    assert_eq!(plant.events("OTHER", "register"), 1);

    // Kafka goes away in the middle: the service comes up, its record fails in time and says why, and is written
    // when Kafka is back.
    plant.kafka.stop();
    plant.ofop.write("third.yml", &app("THIRD", IDLE, 1));
    plant.ofop.wait("the service runs", || !plant.service("third").is_null());
    plant.ofop.wait("the record fails", || plant.events("app/THIRD", "Kafka did not take a message") > 0);
    assert!(plant.row("ASSETS_TYPE", "THIRD", "TYPE").is_none());
    plant.kafka.resume();
    plant.ofop.settles("app/THIRD");
    plant.registered("THIRD", "OpenFactoryApp");

    // A void is not believed: nobody is registered anew, and nothing is taken away.
    let before = plant.events("app/", "register");
    plant.ksqldb.faults().empty.store(true, Ordering::SeqCst);
    plant.ofop.wait("it cannot tell", || plant.ofop.resource("app/PRESS")["sync"] == "Unknown");
    assert_eq!(plant.events("app/", "register"), before);
    plant.ksqldb.faults().empty.store(false, Ordering::SeqCst);
    plant.ofop.settles("app/PRESS");

    // The password is changed under it: it says so, and what to do.
    let before = plant.ksqldb.faults().credentials.lock().unwrap().replace("Basic other".into());
    plant.ofop.wait("it says so", || {
        let log = plant.ofop.log();
        log.contains("refuses the credentials") && log.contains("OFOP_KSQLDB_PASSWORD_FILE")
    });
    *plant.ksqldb.faults().credentials.lock().unwrap() = before;
    plant.ofop.settles("app/PRESS");
    plant.keeps_secrets();
    assert_eq!(plant.ofop.signal("TERM"), Some(0));
}

#[test]
fn a_device_waits_for_its_coordinator_and_is_made_known_to_it() {
    let mut plant = Plant::new();
    plant.ofop.write(
        "shdr.yml",
        "devices:\n  s:\n    uuid: SHDR-1\n    connector:\n      type: shdr\n      host: 10.0.0.9\n      port: 7878\n      \
         data:\n        temp: {tag: Temperature, type: Samples}\n",
    );
    plant.ofop.start();
    plant.ofop.wait("the device waits", || plant.ofop.resource("device/SHDR-1")["health"] == "Waiting");
    assert!(plant.ofop.resource("device/SHDR-1").to_string().contains("SHDR.Coordinator"));

    let brokers = plant.kafka.address();
    kafka::says(&brokers, "COORD", "AssetType", "SHDR.Coordinator", "AssetType", "OpenFactory");
    kafka::says(&brokers, "COORD", "avail", "AVAILABLE", "Availability", "Events");
    plant.ofop.settles("device/SHDR-1");
    let told = plant.row("ASSETS", "COORD|register_device_CMD", "VALUE").unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let config: Value = serde_json::from_str(told["arguments"]["device_config"].as_str().unwrap()).unwrap();
    assert_eq!((&config["uuid"], &config["connector"]["port"]), (&Value::from("SHDR-1"), &Value::from(7878)));

    plant.ofop.delete("shdr.yml");
    // The last resource of all: a person confirms.
    plant.ofop.wait("the removal is held", || plant.ofop.metric("ofop_prune_blocked") == Some(1.0));
    assert_eq!(plant.ofop.run(&["reconcile", "--confirm-prune"]).code, Some(0));
    plant.gone("SHDR-1");
    let told = plant.row("ASSETS", "COORD|deregister_device_CMD", "VALUE").unwrap();
    assert!(told.contains("SHDR-1"), "{told}");
    assert!(plant.row("ASSETS_TYPE", "COORD", "TYPE").is_some(), "the coordinator is somebody else's");
    assert_eq!(plant.ofop.signal("TERM"), Some(0));
}
