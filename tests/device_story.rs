//! Devices of every connector on both platforms: the real program, a real engine, a real broker, and the stand-in
//! for ksqlDB.
//!
//! Both stories run at once on one engine and one registry, as operators of two names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/proxy.rs"]
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};

use engine::{IDLE, TestEngine};
use kafka::Kafka;
use ksqldb::Ksqldb;
use operator::{Operator, Ran};
use proxy::{Fault, Proxy};
use serde_json::Value;

/// What both stories share; it ends with the last of them.
struct Plant {
    engine: TestEngine,
    kafka: Kafka,
    ksqldb: Ksqldb,
    // Last, since the stand-in runs on it.
    runtime: tokio::runtime::Runtime,
}

fn plant() -> Arc<Plant> {
    static SHARED: Mutex<Weak<Plant>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(plant) = shared.upgrade() {
        return plant;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let kafka = Kafka::start();
    let ksqldb = runtime.block_on(Ksqldb::start(&kafka.address()));
    let plant = Arc::new(Plant { engine: TestEngine::swarm(), kafka, ksqldb, runtime });
    *shared = Arc::downgrade(&plant);
    plant
}

/// One operator. The names of all that it wants begin with its platform's, in capitals: `SWARM-CNC`.
struct Story {
    plant: Arc<Plant>,
    platform: &'static str,
    proxy: Proxy,
    ofop: Operator,
    _folder: tempfile::TempDir,
}

impl Story {
    fn new(platform: &'static str) -> Story {
        let plant = plant();
        // Short, since the path of a socket may have at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("ofd").tempdir().unwrap();
        let proxy = {
            let _runtime = plant.runtime.enter();
            Proxy::start(&plant.engine.socket(), folder.path())
        };
        let ofop = Operator::new(&proxy.host());
        let settings = format!(
            "KAFKA_BROKER={}\nKSQLDB_URL={}\nOFOP_INSTANCE={platform}\nMTCONNECT_AGENT_IMAGE={IDLE}\n\
             MTCONNECT_PRODUCER_IMAGE={IDLE}\nOPENFACTORY_UNS_SCHEMA=uns.yml\n",
            plant.kafka.address(),
            plant.ksqldb.url()
        );
        std::fs::write(ofop.folder().join(".ofaenv"), settings).unwrap();
        let schema = "namespace_structure:\n  - plant: north\n  - line: ANY\n  - asset: ANY\n  - attribute: ANY\n\
                      uns_template: plant/line/asset/attribute\n";
        std::fs::write(ofop.folder().join("uns.yml"), schema).unwrap();
        Story { plant, platform, proxy, ofop, _folder: folder }
    }

    /// A name of this story's: `CNC` is `SWARM-CNC`.
    fn uuid(&self, short: &str) -> String {
        format!("{}-{short}", self.platform.to_uppercase())
    }

    /// The name of a service: `CNC-AGENT` is `swarm-cnc-agent`.
    fn name(&self, short: &str) -> String {
        self.uuid(short).to_lowercase()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.ofop.run(&[arguments, &["--platform", self.platform]].concat())
    }

    fn start(&mut self) {
        self.ofop.start_with(&["--platform", self.platform]);
    }

    fn settle(&self, devices: &[&str]) {
        for device in devices {
            self.ofop.settles(&format!("device/{}", self.uuid(device)));
        }
    }

    /// A service as the engine has it: its id, and what moves with everything that is done to it.
    fn services(&self) -> BTreeMap<String, (String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = if self.platform == "swarm" { "/services" } else { "/containers/json?all=true" };
        let all = self.plant.engine.get(all);
        let all = all.as_array().unwrap().iter().map(|found| match self.platform {
            "swarm" => (text(&found["Spec"]["Name"]), (text(&found["ID"]), found["Version"].to_string())),
            _ => {
                let name = text(&found["Names"][0]).trim_start_matches('/').to_owned();
                (name, (text(&found["Id"]), found["Created"].to_string()))
            }
        });
        // Containers of the other story's tasks have names of their own, and so have its services.
        let ours = format!("{}-", self.platform);
        all.filter(|(name, _)| name.starts_with(&ours) && !name.contains('.')).collect()
    }

    fn service(&self, short: &str) -> Option<(String, String)> {
        self.services().remove(&self.name(short))
    }

    /// Removes a service by hand.
    fn sabotage(&self, short: &str) {
        let (id, _) = self.service(short).unwrap();
        let path = if self.platform == "swarm" { "/services/" } else { "/containers/" };
        self.plant.engine.ok("DELETE", &format!("{path}{id}?force=true"), "");
    }

    /// The environment of a service as the engine has it; null while there is none, as between a container and the one that
    /// takes its place.
    fn environment(&self, short: &str) -> Value {
        let Some((id, _)) = self.service(short) else { return Value::Null };
        if self.platform == "swarm" {
            let found = self.plant.engine.get(&format!("/services/{id}"));
            found["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"].clone()
        } else {
            self.plant.engine.get(&format!("/containers/{id}/json"))["Config"]["Env"].clone()
        }
    }

    /// What a request that creates this service holds, and no other.
    fn creates(&self, short: &str) -> String {
        let name = self.name(short);
        if self.platform == "swarm" { format!("\"Name\":\"{name}\"") } else { format!("create?name={name}") }
    }

    /// What the first request that removes this service holds, and no other.
    fn removes(&self, short: &str) -> String {
        let (id, _) = self.service(short).unwrap();
        if self.platform == "swarm" { format!("DELETE /services/{id}") } else { format!("/containers/{id}/stop") }
    }

    /// The daemon dies while its next request that holds this is on its way.
    fn dies_at(&mut self, request: &str, cause: impl FnOnce(&mut Story)) {
        self.proxy.fault(request, Fault::Hold);
        cause(self);
        self.ofop.wait(&format!("it asks for {request}"), || self.proxy.met(request) > 0);
        self.ofop.kill();
        self.proxy.heal();
    }

    /// What was done to the services of a device since the daemon started, in order.
    fn did(&self, verb: &str, device: &str) -> Vec<String> {
        let events = self.run(&["events"]);
        assert_eq!(events.code, Some(0), "{}", events.err);
        let before = format!("device/{} {verb} service {}-", self.uuid(device), self.name(device));
        let done = events.out.lines().filter(|line| line.ends_with(": done"));
        let rest = done.filter_map(|line| line.split_once(&before)).map(|(_, rest)| rest);
        rest.filter_map(|rest| Some(rest.split_once(' ')?.0.to_owned())).collect()
    }

    /// The last of what was done to services of a device. What a daemon did before it died is told by the next one, but for
    /// what it had not written down yet.
    fn did_last(&self, verb: &str, device: &str, parts: &[&str]) {
        let done = self.did(verb, device);
        assert!(done.iter().map(String::as_str).collect::<Vec<_>>().ends_with(parts), "{verb} {device}: {done:?}");
    }

    /// A column of an asset's row.
    fn row(&self, table: &str, key: &str, column: &str) -> Option<String> {
        Some(self.plant.ksqldb.table(table).get(key)?.get(column)?.as_str()?.to_owned())
    }

    fn registered(&self, short: &str, kind: &str, service: &str) {
        let asset = self.uuid(short);
        self.ofop.wait(&format!("{asset} is registered"), || {
            self.row("ASSETS_TYPE", &asset, "TYPE").as_deref() == Some(kind)
                && self.row("DOCKER_SERVICES", &asset, "DOCKER_SERVICE").as_deref() == Some(service)
                && self.row("ASSETS", &format!("{asset}|managed_by"), "VALUE").as_deref() == Some(self.platform)
        });
    }

    /// No row of the asset is left.
    fn unregistered(&self, short: &str) {
        let asset = self.uuid(short);
        self.ofop.wait(&format!("no row of {asset} is left"), || {
            let tables = ["ASSETS_TYPE", "DOCKER_SERVICES", "DEVICE_CONNECTOR"];
            // OpenFactory leaves a row without values in the map of the namespace.
            tables.iter().all(|table| !self.plant.ksqldb.table(table).contains_key(&asset))
                && self.row("ASSET_TO_UNS_MAP", &asset, "UNS_ID").is_none()
        });
    }

    /// Devices of which a coordinator of this kind was told so, whoever's it is.
    fn told(&self, command: &str) -> BTreeSet<String> {
        let mut devices = BTreeSet::new();
        for (_, message) in kafka::messages(&self.plant.kafka.address(), "ofa_assets") {
            let Ok(message) = serde_json::from_str::<Value>(&message) else { continue };
            let said = message["VALUE"].as_str().filter(|_| message["ID"] == format!("{command}_CMD"));
            let Some(said) = said.and_then(|said| serde_json::from_str::<Value>(said).ok()) else { continue };
            let config = said["arguments"]["device_config"].as_str().map(serde_json::from_str::<Value>);
            let uuid = match config {
                Some(config) => config.unwrap()["uuid"].clone(),
                None => said["arguments"]["device_uuid"].clone(),
            };
            devices.extend(uuid.as_str().map(str::to_owned));
        }
        devices
    }
}

/// An adapter, an agent and a producer of ours, and an agent with somebody else's adapter.
fn mtconnect(story: &Story) -> (String, String) {
    let port = if story.platform == "swarm" { 7001 } else { 7101 };
    let cnc = format!(
        "devices:\n  cnc:\n    uuid: {}\n    uns: {{line: l1}}\n    connector:\n      type: mtconnect\n      agent:\n        \
         port: {port}\n        device_xml: models/cnc.xml\n        deploy:\n          resources:\n            \
         limits: {{cpus: 0.8, memory: 64Mi}}\n            reservations: {{cpus: 0.01}}\n          \
         placement: {{constraints: ['node.role=manager']}}\n        adapter:\n          image: {IDLE}\n          \
         port: 7878\n          environment: ['PASSWORD=hunter2-sentinel=']\n          \
         deploy: {{resources: {{reservations: {{cpus: 0.01}}}}}}\n",
        story.uuid("CNC")
    );
    let mill = format!(
        "devices:\n  mill:\n    uuid: {}\n    connector:\n      type: mtconnect\n      agent:\n        port: 0\n        \
         device_xml: models/mill.xml\n        deploy: {{resources: {{reservations: {{cpus: 0.01}}}}}}\n        \
         adapter: {{ip: 10.0.0.7, port: 7878}}\n",
        story.uuid("MILL")
    );
    (cnc, mill)
}

/// Devices without services, and one with a producer only.
fn others(story: &Story) -> String {
    format!(
        "devices:\n  oven:\n    uuid: {}\n    connector:\n      type: opcua\n      \
         server: {{uri: 'opc.tcp://10.0.0.8:4840'}}\n      variables:\n        \
         temp: {{node_id: 'ns=2;i=7', tag: Temperature}}\n  saw:\n    uuid: {}\n    connector: {{type: shdr, \
         host: 10.0.0.9, port: 7878, data: {{temp: {{tag: Temperature, type: Samples}}}}}}\n  lathe:\n    uuid: {}\n    \
         connector: {{type: mtconnect, agent: {{ip: 10.0.0.10, port: 443}}}}\n",
        story.uuid("OVEN"),
        story.uuid("SAW"),
        story.uuid("LATHE"),
    )
}

/// A device XML, written as an editor does.
fn model(story: &Story, name: &str, text: &str) {
    let folder = story.ofop.folder().join("desired/models");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

const DEVICES: [&str; 5] = ["CNC", "MILL", "OVEN", "SAW", "LATHE"];

fn devices_of_every_connector(platform: &'static str) {
    let mut story = Story::new(platform);
    let (cnc, mill) = mtconnect(&story);
    model(&story, "cnc.xml", "<MTConnectDevices feed=\"100%\"/>");
    model(&story, "mill.xml", "<MTConnectDevices/>");
    story.ofop.write("cnc.yml", &cnc);
    let made = story.run(&["registry", "init"]);
    assert_eq!(made.code, Some(0), "{}", made.err);

    // Three services, in order: the plan says so, and a death after the first of them changes nothing.
    let plan = story.run(&["plan"]);
    assert_eq!(plan.code, Some(1), "{}", plan.err);
    let at = |part: &str| plan.out.find(&format!("create service {}", story.name(part))).unwrap();
    assert!(at("CNC-ADAPTER") < at("CNC-AGENT") && at("CNC-AGENT") < at("CNC-PRODUCER"), "{}", plan.out);
    story.dies_at(&story.creates("CNC-AGENT"), Story::start);
    assert_eq!(story.services().into_keys().collect::<Vec<_>>(), [story.name("CNC-ADAPTER")]);
    story.start();
    story.settle(&["CNC"]);
    story.did_last("create", "CNC", &["agent", "producer"]);
    let one = |story: &Story| ["CNC-ADAPTER", "CNC-AGENT", "CNC-PRODUCER"].map(|part| story.service(part).unwrap());
    let first = one(&story);

    // One resource: three assets that refer to each other, the device's place in the namespace, its connector.
    story.registered("CNC", "Device", "");
    story.registered("CNC-AGENT", "MTConnectAgent", &story.name("CNC-AGENT"));
    story.registered("CNC-PRODUCER", "KafkaProducer", &story.name("CNC-PRODUCER"));
    let below = story.row("ASSETS", &format!("{}|references_below", story.uuid("CNC")), "VALUE").unwrap();
    assert_eq!(below, format!("{}, {}", story.uuid("CNC-PRODUCER"), story.uuid("CNC-AGENT")));
    let uns = story.row("ASSET_TO_UNS_MAP", &story.uuid("CNC"), "UNS_ID").unwrap();
    assert_eq!(uns, format!("north/l1/{}", story.uuid("CNC")));
    let environment = story.environment("CNC-AGENT").to_string();
    assert!(environment.contains(&format!("ADAPTER_IP={}", story.name("CNC-ADAPTER"))), "{environment}");
    assert!(environment.contains("100%"), "{environment}");
    let described = story.run(&["describe", &format!("device/{}", story.uuid("CNC"))]).out;
    for part in ["CNC-ADAPTER", "CNC-AGENT", "CNC-PRODUCER"] {
        assert!(described.contains(&format!("{} present, 1/1 running", story.name(part))), "{described}");
    }

    // Devices of all the other kinds. Those without services wait for somebody who serves them.
    story.ofop.write("mill.yml", &mill);
    story.ofop.write("others.yml", &others(&story));
    story.settle(&["MILL", "LATHE"]);
    story.did_last("create", "MILL", &["agent", "producer"]);
    assert!(story.environment("MILL-AGENT").to_string().contains("ADAPTER_IP=10.0.0.7"));
    assert!(story.environment("LATHE-PRODUCER").to_string().contains("MTC_AGENT=https://10.0.0.10:443"));
    for (device, coordinator, kind) in [("OVEN", "OPC", "OPCUA"), ("SAW", "SHDR", "SHDR")] {
        let id = format!("device/{}", story.uuid(device));
        story.ofop.wait("the device is known and waits or is served", || {
            let resource = story.ofop.resource(&id);
            resource["health"] == "Waiting" && resource.to_string().contains(&format!("{kind}.Coordinator"))
                || resource["health"] == "Healthy"
        });
        let (brokers, asset) = (story.plant.kafka.address(), story.uuid(coordinator));
        kafka::says(&brokers, &asset, "AssetType", &format!("{kind}.Coordinator"), "AssetType", "OpenFactory");
        kafka::says(&brokers, &asset, "avail", "AVAILABLE", "Availability", "Events");
        story.ofop.settles(&id);
        story.registered(device, "Device", "");
        assert!(story.told("register_device").contains(&story.uuid(device)));
    }
    let listed = story.run(&["get", "devices", "-o", "name"]).out;
    let mut expected = DEVICES.map(|device| format!("device/{}\n", story.uuid(device)));
    expected.sort();
    assert_eq!(listed, expected.concat());
    assert_eq!(story.run(&["plan"]).code, Some(0), "{}", story.run(&["plan"]).out);

    // Another device XML: the agent alone is updated.
    model(&story, "cnc.xml", "<MTConnectDevices feed=\"90%\"/>");
    story.ofop.wait("the agent has the new model", || {
        story.service("CNC-AGENT").is_some() && story.environment("CNC-AGENT").to_string().contains("90%")
    });
    story.settle(&["CNC"]);
    let second = one(&story);
    assert_eq!((&second[0], &second[2]), (&first[0], &first[2]), "adapter and producer were not touched");
    assert_ne!(second[1], first[1]);

    // The agent is removed by hand: it alone is made again.
    story.sabotage("CNC-AGENT");
    story.ofop.wait("the agent is back", || story.service("CNC-AGENT").is_some_and(|(id, _)| id != second[1].0));
    story.settle(&["CNC"]);
    let third = one(&story);
    assert_eq!((&third[0], &third[2]), (&first[0], &first[2]), "adapter and producer were not touched");

    // Its file goes: torn down as a whole, last started first, also when the daemon dies in between.
    let agent = story.removes("CNC-AGENT");
    story.dies_at(&agent, |story| story.ofop.delete("cnc.yml"));
    assert!(story.service("CNC-PRODUCER").is_none());
    assert!(story.service("CNC-AGENT").is_some() && story.service("CNC-ADAPTER").is_some());
    story.start();
    story.ofop.wait("no service of it is left", || {
        story.service("CNC-AGENT").is_none() && story.service("CNC-ADAPTER").is_none()
    });
    for asset in ["CNC", "CNC-AGENT", "CNC-PRODUCER"] {
        story.unregistered(asset);
    }
    story.did_last("remove", "CNC", &["agent", "adapter"]);
    assert!(!story.ofop.log().contains("sentinel"));
    story.settle(&["MILL", "OVEN", "SAW", "LATHE"]);
    assert_eq!(story.ofop.signal("TERM"), Some(0));

    // The same by commands: what is missing is put back, and at last everything goes.
    story.sabotage("MILL-AGENT");
    let applied = story.run(&["apply", "desired/mill.yml", "--wait"]);
    assert_eq!(applied.code, Some(0), "{} {}", applied.out, applied.err);
    assert!(story.service("MILL-AGENT").is_some());
    let down = story.run(&["down", "desired", "--yes"]);
    assert_eq!(down.code, Some(0), "{} {}", down.out, down.err);
    assert_eq!(story.services(), BTreeMap::new());
    for asset in ["MILL", "MILL-AGENT", "MILL-PRODUCER", "OVEN", "SAW", "LATHE", "LATHE-AGENT", "LATHE-PRODUCER"] {
        story.unregistered(asset);
    }
    let told = story.told("deregister_device");
    assert!(told.contains(&story.uuid("OVEN")) && told.contains(&story.uuid("SAW")), "{told:?}");
}

#[test]
fn devices_of_every_connector_live_and_go_on_a_swarm() {
    devices_of_every_connector("swarm");
}

#[test]
fn devices_of_every_connector_live_and_go_on_plain_docker() {
    devices_of_every_connector("docker");
}
