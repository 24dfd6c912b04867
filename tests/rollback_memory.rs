//! A real engine that undoes a failing update, and an operator that dies in between: one attempt, whatever happens.

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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engine::{FAILING, IDLE, TestEngine};
use operator::Operator;
use serde_json::{Value, json};

fn manifest(image: &str, round: usize) -> String {
    format!(
        "apps:\n  saw:\n    uuid: SAW\n    image: {image}\n    environment: [MODE={round}]\n    networks: [factory-net]\n"
    )
}

fn service(engine: &TestEngine) -> Value {
    let services = engine.get("/services");
    services.as_array().unwrap().iter().find(|service| service["Spec"]["Name"] == "saw").cloned().unwrap_or_default()
}

fn image(engine: &TestEngine) -> String {
    service(engine)["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned()
}

/// Counts how often the failing image came into force, while it lives.
struct Pushes {
    count: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    watcher: Option<std::thread::JoinHandle<()>>,
}

impl Pushes {
    fn watch(engine: &Arc<TestEngine>) -> Self {
        let (count, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (engine, counted, end) = (Arc::clone(engine), Arc::clone(&count), Arc::clone(&ended));
        let watcher = std::thread::spawn(move || {
            let mut failing = false;
            while !end.load(Ordering::SeqCst) {
                // a rollback takes seconds; this looks far more often
                let now = image(&engine).starts_with(FAILING);
                if now && !failing {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                failing = now;
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Pushes { count, ended, watcher: Some(watcher) }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

#[test]
fn a_failing_update_is_pushed_once_at_whatever_moment_the_operator_dies() {
    let engine = Arc::new(TestEngine::swarm());
    let mut ofop = Operator::new(&engine.host());
    ofop.write("saw.yml", &manifest(IDLE, 0));
    ofop.start();
    ofop.settles("app/SAW");
    let id = service(&engine)["ID"].as_str().unwrap().to_owned();
    engine.edit_service(&id, |spec| {
        spec["UpdateConfig"] =
            json!({"Parallelism": 1, "FailureAction": "rollback", "Monitor": 3_000_000_000_i64, "MaxFailureRatio": 0});
    });
    // Before the push, about the push, within the rollout, within the rollback; by a kill and by an ordinary stop.
    for (round, (milliseconds, signal)) in
        [(50, None), (400, None), (700, None), (1500, Some("TERM")), (4000, None), (9000, Some("TERM"))]
            .into_iter()
            .enumerate()
    {
        ofop.write("saw.yml", &manifest(IDLE, 10 + round));
        ofop.settles("app/SAW");
        let pushes = Pushes::watch(&engine);
        ofop.write("saw.yml", &manifest(FAILING, 10 + round));
        std::thread::sleep(Duration::from_millis(milliseconds));
        match signal {
            Some(signal) => assert_eq!(ofop.signal(signal), Some(0)),
            None => ofop.kill(),
        }
        ofop.start();
        ofop.wait("it is rolled back", || ofop.resource("app/SAW")["health"] == "RolledBack");
        // Once more after everything: what is remembered must last.
        ofop.kill();
        ofop.start();
        let passes = || ofop.metric("ofop_reconcile_total{result=\"success\"}").unwrap_or_default();
        ofop.wait("it has looked twice", || passes() > 2.0);
        ofop.wait("it is held", || ofop.resource("app/SAW")["health"] == "RolledBack");
        assert_eq!(pushes.count(), 1, "stopped after {milliseconds} ms, {signal:?}");
        assert!(image(&engine).starts_with(IDLE), "{}", image(&engine));
    }

    // A person's rollback is no word of the engine's: it is put back.
    ofop.write("saw.yml", &manifest(IDLE, 100));
    ofop.settles("app/SAW");
    ofop.write("saw.yml", &manifest(IDLE, 101));
    ofop.settles("app/SAW");
    ofop.wait("the rollout is over", || service(&engine)["UpdateStatus"]["State"] == "completed");
    let (found, path) = (service(&engine), format!("/services/{id}/update"));
    let version = found["Version"]["Index"].clone();
    engine.ok("POST", &format!("{path}?version={version}&rollback=previous"), &found["Spec"].to_string());
    ofop.wait("it is put back", || {
        let found = service(&engine);
        found["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"].to_string().contains("MODE=101")
            && found["UpdateStatus"]["State"] == "completed"
    });
    ofop.settles("app/SAW");
    let notes = || engine.get("/configs")[0]["Spec"]["Labels"].to_string();
    ofop.wait("nothing is noted any more", || !notes().contains("operator/note/"));
    assert_eq!(ofop.signal("TERM"), Some(0));
}
