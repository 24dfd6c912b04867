//! Changes on a real engine: how many apps a bad commit takes down, what halts, what goes on, order and windows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where it cannot go on, and waits for a real engine"
)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/operator.rs"]
mod operator;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::{FAILING, IDLE, IDLE_2, TestEngine};
use operator::Operator;
use serde_json::Value;

const APPS: usize = 8;

fn apps(image: &str) -> String {
    let app = |number| {
        format!("  press-{number}:\n    uuid: PRESS-{number}\n    image: {image}\n    networks: [factory-net]\n")
    };
    (0..APPS).map(app).fold("apps:\n".to_owned(), |text, app| text + &app)
}

/// Names of the services of which a task runs.
fn running(engine: &TestEngine) -> BTreeSet<String> {
    let tasks = engine.get("/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D");
    let runs = |task: &&Value| task["Status"]["State"] == "running";
    let ids: BTreeSet<&str> =
        tasks.as_array().unwrap().iter().filter(runs).filter_map(|task| task["ServiceID"].as_str()).collect();
    let services = engine.get("/services");
    let services = services.as_array().unwrap().iter();
    let named = services.filter(|service| service["ID"].as_str().is_some_and(|id| ids.contains(id)));
    named.map(|service| service["Spec"]["Name"].as_str().unwrap().to_owned()).collect()
}

/// How many services have this image.
fn with_image(engine: &TestEngine, image: &str) -> usize {
    let services = engine.get("/services");
    let image_of = |service: &Value| service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].to_string();
    services.as_array().unwrap().iter().filter(|service| image_of(service).contains(&format!("{image}\""))).count()
}

/// Counts how many apps are down at a time, while it lives.
struct Watch {
    most: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Watch {
    fn begin(engine: &Arc<TestEngine>) -> Self {
        let (most, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (engine, counted, end) = (Arc::clone(engine), Arc::clone(&most), Arc::clone(&ended));
        let watcher = std::thread::spawn(move || {
            while !end.load(Ordering::SeqCst) {
                counted.fetch_max(APPS - running(&engine).len().min(APPS), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Watch { most, ended, watcher: Some(watcher) }
    }

    /// The most that were down at a time.
    fn end(mut self) -> usize {
        self.ended.store(true, Ordering::SeqCst);
        self.watcher.take().unwrap().join().unwrap();
        self.most.load(Ordering::SeqCst)
    }
}

fn rollout(ofop: &Operator) -> Value {
    let rollouts = ofop.try_get("/api/v1/rollouts").and_then(|body| serde_json::from_str::<Value>(&body).ok());
    rollouts.unwrap_or_default()[0].clone()
}

fn length(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

#[test]
fn a_bad_commit_takes_down_no_more_than_the_rollout_has_places_and_the_next_one_goes_on() {
    let engine = Arc::new(TestEngine::swarm());
    let mut ofop = Operator::new(&engine.host());
    ofop.set("OFOP_ROLLOUT", "soak=3s");
    ofop.write("apps.yml", &apps(IDLE));
    ofop.start();
    ofop.wait("all run", || running(&engine).len() == APPS && rollout(&ofop).is_null());

    let watch = Watch::begin(&engine);
    ofop.write("apps.yml", &apps(FAILING));
    ofop.wait("one broke", || length(&rollout(&ofop)["failed"]) > 0);
    let status = rollout(&ofop);
    assert_eq!((&status["size"], &status["places"]), (&APPS.into(), &2.into()));
    assert!(length(&status["waiting"]) >= APPS - 2, "{status}");
    assert!((1..=2).contains(&with_image(&engine, FAILING)));
    assert_eq!(ofop.metric("ofop_rollouts_halted"), Some(1.0));
    let ready: Value = serde_json::from_str(&ofop.try_get("/readyz").unwrap()).unwrap();
    assert!(ready["warnings"].to_string().contains("is halted"), "{ready}");

    // A crash and its successor change nothing.
    ofop.kill();
    ofop.start();
    ofop.wait("it is halted", || length(&rollout(&ofop)["waiting"]) >= APPS - 2);
    let shown = ofop.run(&["rollout", "status"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.out.contains("halted") && shown.out.contains(" broke: "), "{}", shown.out);
    let waited = ofop.run(&["reconcile", "--wait", "--timeout", "2m"]);
    assert_eq!(waited.code, Some(3), "{waited:?}");
    assert!((1..=2).contains(&with_image(&engine, FAILING)));
    assert!((1..=2).contains(&watch.end()));

    let watch = Watch::begin(&engine);
    ofop.write("apps.yml", &apps(IDLE_2));
    // The successor waits for the lease, what broke for the end of its restarts, and the others for it.
    let began = std::time::Instant::now();
    while with_image(&engine, IDLE_2) < APPS || running(&engine).len() < APPS {
        assert!(began.elapsed() < Duration::from_secs(300), "the fix is not everywhere: {}", rollout(&ofop));
        std::thread::sleep(Duration::from_millis(200));
    }
    ofop.wait("it is over", || rollout(&ofop).is_null());
    assert!(watch.end() <= 2);
    assert_eq!(ofop.signal("TERM"), Some(0));
}

#[test]
fn order_and_windows_hold_what_is_to_wait() {
    let engine = Arc::new(TestEngine::swarm());
    let mut ofop = Operator::new(&engine.host());
    let files = |db: &str, windows: &str| {
        let app = |name: &str, image: &str| {
            format!("  {name}:\n    uuid: {}\n    image: {image}\n    networks: [factory-net]\n", name.to_uppercase())
        };
        format!(
            "apps:\n{}{}x-ofop:\n  resources:\n    app/SAW: {{after: [app/DB]{windows}}}\n",
            app("db", db),
            app("saw", IDLE)
        )
    };
    ofop.set("OFOP_ROLLOUT", "soak=3s");
    ofop.write("line.yml", &files(FAILING, ""));
    ofop.start();
    ofop.wait("the app waits for what does not run", || {
        ofop.resource("app/SAW")["verdict"]["kind"] == "missing_dependency"
    });
    let services = || -> BTreeSet<String> {
        let services = engine.get("/services");
        let names =
            services.as_array().unwrap().iter().map(|service| service["Spec"]["Name"].as_str().unwrap().to_owned());
        names.collect()
    };
    assert_eq!(services(), BTreeSet::from(["db".to_owned()]));
    ofop.write("line.yml", &files(IDLE, ""));
    ofop.settles("app/SAW");

    // Open for an hour of a day half a year away.
    let month = if jiff::Timestamp::now().to_string()[5..7].parse::<u8>().unwrap() <= 6 { 12 } else { 3 };
    let windows = format!(", windows: [{{allow: '0 0 1 {month} *', for: 1h, zone: UTC}}]");
    ofop.write(
        "line.yml",
        &files(IDLE, &windows)
            .replace(&format!("uuid: SAW\n    image: {IDLE}"), &format!("uuid: SAW\n    image: {IDLE_2}")),
    );
    ofop.wait("it waits for its window", || ofop.resource("app/SAW")["verdict"]["kind"] == "outside_window");
    let waited = ofop.run(&["reconcile", "--wait", "--timeout", "2m"]);
    assert!(waited.code == Some(3) && waited.err.contains("window"), "{waited:?}");
    assert_eq!(with_image(&engine, IDLE_2), 0);
    let started = ofop.run(&["rollout", "start", "app/SAW", "--now"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    ofop.wait("it is let out", || with_image(&engine, IDLE_2) == 1);
    ofop.settles("app/SAW");

    let round = files(IDLE, "").replace("  resources:\n", "  resources:\n    app/DB: {after: [app/SAW]}\n");
    ofop.write("line.yml", &round);
    let checked = ofop.run(&["validate", "desired"]);
    assert_eq!(checked.code, Some(2));
    assert!(checked.err.contains("come after itself") || checked.out.contains("come after itself"), "{checked:?}");
    assert_eq!(ofop.signal("TERM"), Some(0));
}
