//! Two real daemons of one instance on a real Swarm, and commands beside them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where it cannot go on, and watches real processes do nothing for a while"
)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/operator.rs"]
mod operator;

use std::process::Command;

use engine::{IDLE, IDLE_2, TestEngine};
use operator::Operator;
use serde_json::Value;

/// One app.
fn app(name: &str, image: &str) -> String {
    format!("apps:\n  {name}:\n    uuid: {}\n    image: {image}\n    networks: [factory-net]\n", name.to_uppercase())
}

/// An operator with a short lease, so that a hand-over takes seconds.
fn operator(engine: &TestEngine, manifests: &[(&str, &str)]) -> Operator {
    let mut operator = Operator::new(&engine.host());
    operator.set("OFOP_LEASE", "6s");
    operator.set("OFOP_LEASE_RENEW", "2s");
    for (name, image) in manifests {
        operator.write(&format!("{name}.yml"), &app(name, image));
    }
    operator
}

fn leads(operator: &Operator) -> bool {
    operator.metric("ofop_leader ") == Some(1.0)
}

fn image(engine: &TestEngine, name: &str) -> String {
    let services = engine.get("/services");
    let service = services.as_array().unwrap().iter().find(|service| service["Spec"]["Name"] == name).cloned();
    let spec = service.unwrap_or_default()["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].clone();
    spec.as_str().unwrap_or_default().to_owned()
}

/// The versions of all services: any write to any of them shows.
fn versions(engine: &TestEngine) -> Vec<(String, u64)> {
    let services = engine.get("/services");
    let version =
        |service: &Value| (service["ID"].as_str().unwrap().to_owned(), service["Version"]["Index"].as_u64().unwrap());
    let mut versions: Vec<_> = services.as_array().unwrap().iter().map(version).collect();
    versions.sort();
    versions
}

/// Writes that the daemon carried out, as its log tells them.
fn steps(operator: &Operator) -> usize {
    operator.log().lines().filter(|line| line.contains("\"verb\"")).count()
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap().success());
}

#[test]
fn of_two_daemons_on_different_directories_one_works_and_the_other_says_so_and_takes_over() {
    let engine = TestEngine::swarm();
    let mut one = operator(&engine, &[("press", IDLE), ("mill", IDLE)]);
    let mut other = operator(&engine, &[("press", IDLE_2), ("lathe", IDLE)]);
    one.start();
    one.settles("app/PRESS");
    one.settles("app/MILL");
    other.start();
    other.wait("the second daemon says that it is a standby", || {
        other.log().contains("is a standby") && other.metric("ofop_leader ") == Some(0.0)
    });
    assert!(leads(&one));
    let page = other.try_get("/").unwrap();
    assert!(page.contains("this operator is a standby"), "{page}");
    assert!(other.try_get("/leaderz").is_none(), "503");
    assert!(one.try_get("/leaderz").unwrap().contains("\"leader\":true"));
    other.wait("the standby is ready", || other.try_get("/readyz").is_some());
    let before = versions(&engine);
    std::thread::sleep(std::time::Duration::from_secs(10));
    assert_eq!((versions(&engine), steps(&other)), (before, 0), "nobody fights: {}", other.log());

    // A command beside the daemon refuses, and says who holds the lease and what to do.
    let ran = other.run(&["apply"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("holds the lease") && ran.err.contains("reconcile --wait"), "{ran:?}");
    assert!(ran.err.contains(&one.address().unwrap()), "{ran:?}");
    let ran = other.run(&["down", "app/MILL"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(image(&engine, "mill"), IDLE);
    let ran = other.run(&["suspend", "app/PRESS"]);
    assert!(ran.code == Some(2) && ran.err.contains(&one.address().unwrap()), "{ran:?}");

    // The holder dies. The other one acts once its lease is over, on its own manifests.
    one.kill();
    other.wait("the standby takes over", || leads(&other));
    other.settles("app/PRESS");
    other.settles("app/LATHE");
    assert_eq!(image(&engine, "press"), IDLE_2);
    other.wait("what only the other one described is gone after the prune delay", || image(&engine, "mill").is_empty());
}

#[test]
fn a_daemon_that_was_stopped_for_longer_than_its_lease_writes_nothing_when_it_goes_on() {
    let engine = TestEngine::swarm();
    let mut one = operator(&engine, &[("press", IDLE), ("mill", IDLE)]);
    one.start();
    one.settles("app/PRESS");
    let mut other = operator(&engine, &[("press", IDLE_2), ("mill", IDLE)]);
    other.start();
    other.wait("the other one is a standby", || other.metric("ofop_leader ") == Some(0.0));
    let process = one.process();
    signal(process, "STOP");
    other.wait("the standby takes over", || leads(&other));
    other.settles("app/PRESS");
    let (before, done) = (versions(&engine), steps(&one));
    signal(process, "CONT");
    one.wait("the old holder finds the new one", || one.metric("ofop_leader ") == Some(0.0));
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert_eq!((versions(&engine), steps(&one)), (before, done), "{}", one.log());
    assert_eq!(image(&engine, "press"), IDLE_2);

    // A clean stop hands the lease back: the next one need not wait for its end.
    assert_eq!(other.signal("TERM"), Some(0));
    let lease = engine.get("/configs")[0]["Spec"]["Labels"]["io.openfactory.operator/lease/holder"].clone();
    assert_ne!(lease, Value::Null);
    one.wait("the old holder takes over again", || leads(&one));
    one.settles("app/PRESS");
    assert_eq!(image(&engine, "press"), IDLE);
}

#[test]
fn apply_takes_over_from_a_daemon_only_when_a_person_says_so_and_the_daemon_goes_on_afterwards() {
    let engine = TestEngine::swarm();
    let mut daemon = operator(&engine, &[("press", IDLE)]);
    daemon.start();
    daemon.settles("app/PRESS");
    let person = operator(&engine, &[("press", IDLE_2)]);
    let ran = person.run(&["apply", "--take-over"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(daemon.log().contains("is a standby"), "{}", daemon.log());
    daemon.wait("the daemon goes on with its own manifests", || leads(&daemon) && image(&engine, "press") == IDLE);
    // Without a daemon no word is needed, and nobody waits.
    assert_eq!(daemon.signal("TERM"), Some(0));
    assert_eq!(person.run(&["apply"]).code, Some(0));
    assert_eq!(image(&engine, "press"), IDLE_2);
}

#[test]
fn a_config_of_that_name_that_is_somebody_elses_stops_everything_with_a_clear_message() {
    let engine = TestEngine::swarm();
    engine.ok("POST", "/configs/create", r#"{"Name":"ofop-default","Data":"eA==","Labels":{"team":"blue"}}"#);
    let mut one = operator(&engine, &[("press", IDLE)]);
    one.start();
    one.wait("it says what is wrong", || one.log().contains("exists and is not ours"));
    let ran = one.run(&["apply"]);
    assert!(ran.code == Some(2) && ran.err.contains("is not ours") && ran.err.contains("--instance"), "{ran:?}");
    assert_eq!(image(&engine, "press"), "");
    assert_eq!(engine.get("/configs")[0]["Spec"]["Labels"]["team"], "blue");
}
