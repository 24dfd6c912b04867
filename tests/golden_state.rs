//! What earlier versions left, on disk and in the cluster, is read by this one without a write: `tests/golden/VERSION`.
//!
//! With `OFOP_GOLDEN=DIR` the program plays the same story and leaves what it leaves in DIR, to be kept when a version is
//! released.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/operator.rs"]
mod operator;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::{IDLE, IDLE_2, TestEngine};
use operator::Operator;
use serde_json::{Value, json};

/// What is kept of a version: the state directory, the manifests, the services and the config as the engine shows them.
const STATE: &str = "state";
const DESIRED: &str = "desired";
const CLUSTER: &str = "cluster.json";

/// Where the configs that this operator keeps are told from others.
const CONFIG: &str = "ofop-default";

fn manifest(uuid: &str, image: &str, more: &str) -> String {
    let name = uuid.to_lowercase();
    format!(
        "{more}apps:\n  {name}:\n    uuid: {uuid}\n    image: {image}\n    environment:\n      - MODE=auto\n    \
         networks: [factory-net]\n"
    )
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The services, and the config with notes and lease, as far as they can be made again.
fn cluster(engine: &TestEngine) -> Value {
    let specs = |path: &str| -> Vec<Value> {
        let mut specs: Vec<Value> =
            engine.get(path).as_array().unwrap().iter().map(|found| found["Spec"].clone()).collect();
        specs.sort_by_key(|spec| spec["Name"].to_string());
        specs
    };
    json!({"services": specs("/services"), "configs": specs("/configs")})
}

/// How often each object was written to.
fn versions(engine: &TestEngine) -> BTreeMap<String, u64> {
    let services = engine.get("/services");
    let version = |found: &Value| {
        (found["Spec"]["Name"].as_str().unwrap().to_owned(), found["Version"]["Index"].as_u64().unwrap())
    };
    services.as_array().unwrap().iter().map(version).collect()
}

fn notes(engine: &TestEngine) -> BTreeMap<String, String> {
    let configs = engine.get("/configs");
    let labels = configs[0]["Spec"]["Labels"].as_object().cloned().unwrap_or_default();
    let notes = labels.into_iter().filter(|(label, _)| label.starts_with("io.openfactory.operator/note/"));
    notes.map(|(label, text)| (label, text.as_str().unwrap().to_owned())).collect()
}

/// Plays the story with this program, and keeps what it leaves.
fn record(target: &Path) {
    let engine = TestEngine::swarm();
    let mut ofop = Operator::new(&engine.host());
    ofop.write("press.yml", &manifest("PRESS", IDLE, "x-ofop: {prune: false, after: [app/MILL]}\n"));
    ofop.write("mill.yml", &manifest("MILL", IDLE, ""));
    ofop.write("lathe.yml", &manifest("LATHE", IDLE, ""));
    ofop.start();
    for app in ["MILL", "PRESS", "LATHE"] {
        ofop.settles(&format!("app/{app}"));
    }
    ofop.write("mill.yml", &manifest("MILL", IDLE_2, ""));
    ofop.wait("the new image is asked for", || {
        engine.get("/services/mill")["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == IDLE_2
    });
    ofop.settles("app/MILL");
    let suspended = ofop.run(&["suspend", "app/LATHE"]);
    assert_eq!(suspended.code, Some(0), "{}", suspended.err);
    ofop.wait("it is noted", || !notes(&engine).is_empty());
    assert_eq!(ofop.signal("TERM"), Some(0));
    fs::create_dir_all(target).unwrap();
    copy(&ofop.folder().join(".ofop"), &target.join(STATE));
    copy(&ofop.folder().join("desired"), &target.join(DESIRED));
    let text = serde_json::to_string_pretty(&cluster(&engine)).unwrap();
    fs::write(target.join(CLUSTER), text + "\n").unwrap();
}

/// A cluster and a folder as a version left them, and an operator that does not run yet.
fn world(version: &Path) -> (TestEngine, Operator) {
    let engine = TestEngine::swarm();
    let ofop = Operator::new(&engine.host());
    copy(&version.join(STATE), &ofop.folder().join(".ofop"));
    copy(&version.join(DESIRED), &ofop.folder().join("desired"));
    let cluster: Value = serde_json::from_str(&fs::read_to_string(version.join(CLUSTER)).unwrap()).unwrap();
    let network = engine.get("/networks/factory-net")["Id"].clone();
    for service in cluster["services"].as_array().unwrap() {
        let mut service = service.clone();
        // Everything but ids of networks can be asked for as it was.
        for place in service["TaskTemplate"]["Networks"].as_array_mut().unwrap() {
            place["Target"] = network.clone();
        }
        engine.ok("POST", "/services/create", &service.to_string());
    }
    // The engine itself writes to a service until its tasks run.
    engine.wait("everything runs", || {
        let tasks = engine.get("/tasks");
        tasks.as_array().unwrap().iter().filter(|task| task["Status"]["State"] == "running").count() == 3
    });
    for config in cluster["configs"].as_array().unwrap() {
        engine.ok("POST", "/configs/create", &config.to_string());
    }
    (engine, ofop)
}

fn kept() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut kept: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    kept
}

#[test]
fn this_version_starts_on_what_every_earlier_one_left_and_writes_to_no_service_and_no_record() {
    if let Some(target) = std::env::var_os("OFOP_GOLDEN") {
        record(Path::new(&target));
    }
    assert!(kept().iter().any(|version| version.ends_with("0.1.0")));
    for version in kept() {
        let (engine, mut ofop) = world(&version);
        let (before, noted) = (versions(&engine), notes(&engine));
        assert!(!noted.is_empty() && before.len() == 3, "{}", version.display());
        ofop.start();
        for app in ["PRESS", "MILL"] {
            ofop.settles(&format!("app/{app}"));
        }
        // What a person said then still holds.
        ofop.wait("it is suspended", || ofop.resource("app/LATHE")["health"] == "Suspended");
        let plan = ofop.run(&["plan"]);
        assert_eq!(plan.code, Some(0), "{}{}", plan.out, plan.err);
        let reconciled = ofop.run(&["reconcile", "--wait"]);
        assert_eq!(reconciled.code, Some(0), "{}", reconciled.err);
        assert_eq!(versions(&engine), before, "{}: a service was written to", version.display());
        assert_eq!(notes(&engine), noted, "{}", version.display());
        // Events and history go on from there.
        let events = ofop.run(&["events", "--for", "app/MILL"]);
        assert!(events.out.contains("create service mill") && events.out.contains("update service mill"), "{events:?}");
        let history = ofop.run(&["history", "-o", "json"]);
        let history: Value = serde_json::from_str(&history.out).unwrap_or_else(|_| panic!("{history:?}"));
        assert_eq!(history["history"].as_array().map(Vec::len), Some(2), "{history}");
        let metrics = ofop.try_get("/metrics").unwrap();
        let taken = metrics.lines().filter(|line| line.starts_with("ofop_steps_total{") && !line.ends_with(" 0"));
        assert_eq!(taken.collect::<Vec<_>>(), Vec::<&str>::new(), "no step was taken, of a record neither");
        let assets = ofop.run(&["get", "assets"]);
        for app in ["PRESS", "MILL", "LATHE"] {
            assert!(assets.out.contains(app), "{}", assets.out);
        }
        assert_eq!(ofop.signal("TERM"), Some(0));
    }
}

#[test]
fn what_a_newer_version_left_is_refused_in_words_and_stays_as_it_is() {
    let version = kept().pop().unwrap();
    let (engine, mut ofop) = world(&version);
    let before = (versions(&engine), cluster(&engine));

    // The state directory.
    let form = ofop.folder().join(".ofop/format");
    fs::write(&form, "2\n").unwrap();
    for command in ["run", "plan", "apply", "get"] {
        let ran = ofop.run(&[command]);
        assert_eq!(ran.code, Some(2), "{command}");
        assert!(ran.err.contains("is of a newer ofop (format 2; this one knows 1)"), "{command}: {}", ran.err);
    }
    fs::remove_file(&form).unwrap();

    // Notes and lease.
    let config = engine.get("/configs")[0].clone();
    let mut spec = config["Spec"].clone();
    spec["Labels"]["io.openfactory.operator/format"] = "2".into();
    let path = format!("/configs/{}/update?version={}", config["ID"].as_str().unwrap(), config["Version"]["Index"]);
    engine.ok("POST", &path, &spec.to_string());
    let applied = ofop.run(&["apply"]);
    assert_eq!(applied.code, Some(2), "{applied:?}");
    assert!(applied.err.contains("is of a newer ofop (format 2"), "{}", applied.err);
    ofop.write("mill.yml", &manifest("MILL", IDLE, ""));
    ofop.start();
    ofop.wait("it says why it does nothing", || ofop.log().contains("is of a newer ofop"));
    ofop.wait("it has looked", || !ofop.resource("app/MILL").is_null());
    assert_eq!(ofop.signal("TERM"), Some(0));
    assert_eq!(versions(&engine), before.0);
    assert_eq!(engine.get("/configs")[0]["Spec"], spec, "{CONFIG}");
}
