//! `docs/take-over.md`, played: services and records as OpenFactory's command line makes them, on a real engine and a real
//! broker, are taken over, and given back. Tasks are counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;
#[path = "support/operator.rs"]
mod operator;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::{IDLE, TestEngine};
use kafka::Kafka;
use ksqldb::Ksqldb;
use operator::Operator;
use serde_json::{Value, json};

/// Recorded runs of OpenFactory's command line, and the resources that they made.
const RECORDINGS: [(&str, &str); 4] = [
    ("001-apps-minimal", "app/APP-1"),
    ("048-apps-routing-expose", "app/Dash-Board"),
    ("080-apps-replicas-3", "app/Rep-App"),
    ("212-dev-mtc-adapter-image", "device/Cnc_2"),
];

/// What the tag v0.6.6 does not set.
const NEWER: &str = "SWARM_";

/// What leaves a service of the tag as it is.
const SPARED: &str = "x-ofop: {ignore: [replicas, environment.SWARM_TASK_SLOT, environment.SWARM_TASK_ID, \
                      environment.SWARM_SERVICE_NAME, environment.SWARM_NODE_HOSTNAME, environment.SWARM_REPLICAS]}\n";

/// A factory that OpenFactory's command line deployed, and an operator that does not run yet.
struct Plant {
    engine: TestEngine,
    kafka: Kafka,
    ksqldb: Ksqldb,
    ofop: Operator,
    // Last, since the stand-in runs on it.
    _runtime: tokio::runtime::Runtime,
}

fn recording(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/recordings").join(name)
}

impl Plant {
    fn new() -> Plant {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let engine = TestEngine::swarm();
        let kafka = Kafka::start();
        let ksqldb = runtime.block_on(Ksqldb::start(&kafka.address()));
        let ofop = Operator::new(&engine.host());
        let settings = format!(
            "KAFKA_BROKER={}\nKSQLDB_URL={}\nASSET_ROUTER_URL=http://asset-router:8000\n\
             OPENFACTORY_BASE_DOMAIN=plant.example\nOPENFACTORY_UNS_SCHEMA=uns.yml\nOPENFACTORY_VERSION=v0.6.6\n\
             MTCONNECT_AGENT_IMAGE={IDLE}\nMTCONNECT_PRODUCER_IMAGE={IDLE}\nOFOP_MTCONNECT_AGENT_CONFIG=agent.cfg\n",
            kafka.address(),
            ksqldb.url()
        );
        let write = |name: &str, text: &str| std::fs::write(ofop.folder().join(name), text).unwrap();
        write(".ofaenv", &settings);
        // The recordings leave the text out that the original gives its agents; the guide says how to keep it.
        write("agent.cfg", "<the agent configuration>");
        let schema = std::fs::read_to_string(recording("001-apps-minimal").join("uns.yml")).unwrap();
        write("uns.yml", &schema);
        let made = ofop.run(&["registry", "init"]);
        assert_eq!(made.code, Some(0), "{}", made.err);
        Plant { engine, kafka, ksqldb, ofop, _runtime: runtime }
    }

    /// A text of a recording with the addresses and images of this factory.
    fn here(&self, text: &str) -> String {
        [
            ("broker-1:9092,broker-2:9092", &*self.kafka.address()),
            ("http://ksqldb:8088", &self.ksqldb.url()),
            ("busybox:local", IDLE),
            ("reg/adapter:1", IDLE),
            ("ghcr.io/openfactoryio/mtcagent:v2.5.0.11", IDLE),
            ("ghcr.io/openfactoryio/kafka-mtc-producer:v0.6.6", IDLE),
        ]
        .iter()
        .fold(text.to_owned(), |text, (recorded, ours)| text.replace(recorded, ours))
    }

    /// The manifest of a recording, with more before it.
    fn manifest(&self, name: &str, before: &str) {
        let folder = recording(name);
        let file = ["apps.yml", "devices.yml"].into_iter().find(|file| folder.join(file).exists()).unwrap();
        let text = self.here(&std::fs::read_to_string(folder.join(file)).unwrap());
        let desired = self.ofop.folder().join("desired");
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|extension| extension == "xml") {
                std::fs::copy(&entry, desired.join(entry.file_name().unwrap())).unwrap();
            }
        }
        self.ofop.write(&format!("{name}.yml"), &format!("{before}{text}"));
    }

    /// Does what OpenFactory's command line did in a recording: its services, then its messages.
    fn deploy(&self, name: &str, change: impl Fn(&mut Value)) {
        let text = self.here(&std::fs::read_to_string(recording(name).join("expected.json")).unwrap());
        let recorded: Value = serde_json::from_str(&text).unwrap();
        for body in recorded["services"].as_array().unwrap() {
            let mut body = body.clone();
            change(&mut body);
            self.engine.ok("POST", "/services/create", &body.to_string());
        }
        for message in recorded["kafka"].as_array().unwrap() {
            let (topic, key) = (message["topic"].as_str().unwrap(), message["key"].as_str().unwrap());
            kafka::produce(&self.kafka.address(), topic, key, message["value"].as_str());
        }
    }

    /// Every task that ever was, with its state.
    fn tasks(&self) -> BTreeMap<String, String> {
        let tasks = self.engine.get("/tasks");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        tasks.as_array().unwrap().iter().map(|task| (text(&task["ID"]), text(&task["Status"]["State"]))).collect()
    }

    /// All tasks, once as many run as services want.
    fn running(&self, count: usize) -> BTreeSet<String> {
        self.ofop.wait(&format!("{count} tasks run"), || {
            self.tasks().values().filter(|state| *state == "running").count() == count
        });
        self.tasks().into_keys().collect()
    }

    fn services(&self) -> BTreeMap<String, Value> {
        let services = self.engine.get("/services");
        let name = |service: &Value| service["Spec"]["Name"].as_str().unwrap().to_owned();
        services.as_array().unwrap().iter().map(|service| (name(service), service["Spec"].clone())).collect()
    }

    fn marked(&self) -> BTreeSet<String> {
        let marked = |spec: &Value| !spec["Labels"]["io.openfactory.operator/instance"].is_null();
        self.services().into_iter().filter(|(_, spec)| marked(spec)).map(|(name, _)| name).collect()
    }

    /// What a pass would do: verb, object, reason and the fields that change, marks aside.
    fn plan(&self) -> Vec<(String, String, String, Vec<String>)> {
        let ran = self.ofop.run(&["plan", "-o", "json"]);
        let plan: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
        let mut steps = Vec::new();
        for resource in plan["resources"].as_object().unwrap().values() {
            let all = resource["steps"].as_array().unwrap().iter().chain(resource["held"].as_array().unwrap());
            for step in all {
                let text = |name: &str| step[name].as_str().unwrap().to_owned();
                let fields = step["changes"].as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap());
                let fields = fields.filter(|field| !field.starts_with("mark."));
                let fields = fields.map(str::to_owned).collect();
                steps.push((text("verb"), text("object"), text("reason"), fields));
            }
        }
        steps
    }
}

#[test]
fn a_factory_of_the_main_branch_is_taken_over_and_given_back_without_one_restart() {
    let mut plant = Plant::new();
    for (name, _) in RECORDINGS {
        plant.deploy(name, |_| {});
        plant.manifest(name, "x-ofop: {suspend: true}\n");
    }
    // Deployed by the same command line, and described nowhere.
    let own = json!({"Name": "own-app", "TaskTemplate": {"ContainerSpec": {"Image": IDLE}}});
    plant.engine.ok("POST", "/services/create", &own.to_string());
    kafka::says(&plant.kafka.address(), "OWN-APP", "AssetType", "OpenFactoryApp", "AssetType", "OpenFactory");
    let wanted = plant.services().len() + 2; // One of them has three replicas.
    let before = plant.running(wanted);
    plant.ofop.wait("everything is registered", || plant.ksqldb.table("ASSETS_TYPE").len() == 9);

    // Nothing but adoption would happen, and nothing of it restarts a task.
    for (name, _) in RECORDINGS {
        plant.manifest(name, "");
    }
    let services: Vec<_> = plant.plan().into_iter().filter(|(_, object, ..)| object.starts_with("service ")).collect();
    assert_eq!(services.len(), 6, "{services:#?}");
    for (verb, object, reason, fields) in services {
        assert_eq!((&*verb, &*reason, fields), ("update", "adopt", vec![]), "{object}");
    }

    // In stages: all of it suspended, then file by file.
    for (name, _) in RECORDINGS {
        plant.manifest(name, "x-ofop: {suspend: true}\n");
    }
    plant.ofop.start();
    plant.ofop.wait("it has looked", || plant.ofop.resource("app/APP-1")["health"] == "Suspended");
    assert_eq!(plant.marked(), BTreeSet::new());
    for (at, (name, resource)) in RECORDINGS.iter().enumerate() {
        plant.manifest(name, "");
        plant.ofop.settles(resource);
        for (_, later) in &RECORDINGS[at + 1..] {
            let waits = plant.ofop.resource(later);
            assert_eq!(waits["health"], "Suspended", "{resource} is taken over, and {later} waits: {waits}");
        }
    }
    assert_eq!(plant.marked().len(), 6);
    let ran = plant.ofop.run(&["plan"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(plant.running(wanted), before, "taking over restarts nothing");

    // Side by side: what the other tool deploys without a file is its own, also while the daemon runs.
    let own = plant.services()["own-app"].clone();
    plant.engine.ok(
        "POST",
        "/services/create",
        &json!({"Name": "next-app", "TaskTemplate": own["TaskTemplate"]}).to_string(),
    );
    let with_next = plant.running(wanted + 1);
    let reconciled = plant.ofop.run(&["reconcile", "--wait"]);
    assert_eq!(reconciled.code, Some(0), "{}", reconciled.err);
    assert_eq!(plant.services()["own-app"], own);
    // And what it takes away although a file describes it comes back.
    let id = |plant: &Plant| plant.engine.get("/services/app-1")["ID"].as_str().map(str::to_owned);
    let first = id(&plant).unwrap();
    plant.engine.ok("DELETE", "/services/app-1", "");
    plant.ofop.wait("it is back", || plant.services().contains_key("app-1") && id(&plant).unwrap() != first);
    plant.ofop.settles("app/APP-1");
    let restarted = plant.running(wanted + 1);
    assert_eq!(restarted.difference(&with_next).count(), 1);

    // The way back: it ends, and everything goes on as it is. Marks are labels, and go without a restart.
    assert_eq!(plant.ofop.signal("TERM"), Some(0));
    for name in plant.marked() {
        plant.engine.edit_service(&name, |spec| {
            spec["Labels"].as_object_mut().unwrap().retain(|label, _| !label.starts_with("io.openfactory.operator/"));
        });
    }
    plant.engine.ok("DELETE", "/configs/ofop-default", "");
    let kept = plant.running(wanted + 1);
    assert_eq!(kept.difference(&restarted).count(), 0, "giving back restarts nothing");
    assert_eq!(plant.marked(), BTreeSet::new());
}

#[test]
fn a_factory_of_the_tag_is_taken_over_without_a_restart_and_then_with_one_each_when_it_suits() {
    let mut plant = Plant::new();
    let (name, resource) = RECORDINGS[0];
    plant.deploy(name, |body| {
        let container = &mut body["TaskTemplate"]["ContainerSpec"];
        container["Env"].as_array_mut().unwrap().retain(|variable| !variable.as_str().unwrap().starts_with(NEWER));
    });
    plant.manifest(name, "");
    let before = plant.running(1);
    plant.ofop.wait("it is registered", || plant.ksqldb.table("ASSETS_TYPE").len() == 1);

    // It says what would restart, and why.
    let steps = plant.plan();
    let (verb, _, reason, fields) = steps.iter().find(|(_, object, ..)| object == "service app-1").unwrap();
    assert_eq!((&**verb, &**reason), ("update", "adopt"));
    assert!(!fields.is_empty() && fields.iter().all(|field| field.starts_with("environment.SWARM_")), "{fields:?}");

    plant.manifest(name, SPARED);
    plant.ofop.start();
    plant.ofop.settles(resource);
    assert_eq!(plant.marked().len(), 1);
    assert_eq!(plant.running(1), before, "the mark alone is written");

    plant.manifest(name, "");
    plant.ofop.wait("the service is as the manifest says", || plant.services()["app-1"].to_string().contains(NEWER));
    plant.ofop.settles(resource);
    let after = plant.running(1);
    assert_eq!(after.difference(&before).count(), 1, "once");
}
