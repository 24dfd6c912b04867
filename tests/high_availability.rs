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
fn down_beside_a_daemon_is_its_work_and_keeps_the_resource_away_until_it_is_resumed() {
    let engine = TestEngine::swarm();
    let mut daemon = operator(&engine, &[("press", IDLE), ("mill", IDLE)]);
    daemon.start();
    daemon.settles("app/PRESS");
    daemon.settles("app/MILL");
    // Somebody at another desk, who knows no address but that in the lease.
    let mut person = operator(&engine, &[]);
    let shown = person.run(&["down", "app/MILL", "--dry-run"]);
    assert!(shown.code == Some(0) && shown.out.contains("remove service mill"), "{shown:?}");
    let ran = person.run(&["down", "app/MILL"]);
    assert!(ran.code == Some(2) && ran.err.contains("--yes") && ran.err.contains("no terminal"), "{ran:?}");
    let ran = person.run(&["down"]);
    assert!(ran.code == Some(2) && ran.err.contains("--all"), "{ran:?}");
    person.set("OFOP_TOKEN", "");
    let ran = person.run(&["down", "app/MILL", "--yes"]);
    assert!(ran.code == Some(2) && ran.err.contains("--token-file"), "{ran:?}");
    person.set("OFOP_TOKEN", operator::TOKEN);
    assert_eq!(image(&engine, "mill"), IDLE, "nothing was changed so far");

    let ran = person.run(&["down", "app/MILL", "--yes"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("1 of 1 gone"), "{ran:?}");
    assert_eq!(image(&engine, "mill"), "");
    let mill = daemon.resource("app/MILL");
    assert_eq!((&mill["sync"], &mill["health"]), (&"Synced".into(), &"Suspended".into()), "{mill}");
    assert_eq!(daemon.metric("ofop_taken_down "), Some(1.0));
    assert!(daemon.try_get("/").unwrap().contains("kept away until"));
    assert!(leads(&daemon), "it never lost the lease");

    // It stays away over a restart.
    assert_eq!(daemon.signal("TERM"), Some(0));
    daemon.start();
    daemon.settles("app/PRESS");
    daemon.wait("it is known to be taken down", || daemon.metric("ofop_taken_down ") == Some(1.0));
    let passes = || daemon.metric("ofop_reconcile_total{result=\"success\"}").unwrap_or_default();
    let before = passes();
    daemon.wait("it has looked again", || passes() > before + 2.0);
    assert_eq!(image(&engine, "mill"), "");
    let got = person.run(&["get", "all", "--address", &daemon.address().unwrap()]);
    assert!(got.out.contains("app/MILL") && got.out.contains("Suspended"), "{got:?}");

    let ran = daemon.run(&["resume", "app/MILL"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    daemon.settles("app/MILL");
    assert_eq!(image(&engine, "mill"), IDLE);

    // Who holds the lease, since when, where: for whoever looks for themselves too.
    let got = person.run(&["get", "all", "--desired", "desired"]);
    let line = got.err.lines().find(|line| line.starts_with("lease: held by")).unwrap_or_default();
    assert!(line.contains(&daemon.address().unwrap()) && line.contains(" since 20"), "{got:?}");
    let got = person.run(&["get", "all", "--desired", "desired", "-o", "json"]);
    let json: Value = serde_json::from_str(&got.out).unwrap();
    assert_eq!(json["lease"]["holder"]["address"].as_str(), daemon.address().as_deref());
    assert!(json["lease"]["holder"]["since"].as_str().is_some_and(|since| since.starts_with("20")), "{json}");

    // Everything is only meant by whoever says so, and a daemon that died is no daemon.
    for command in ["suspend", "resume"] {
        let ran = daemon.run(&[command]);
        assert!(ran.code == Some(2) && ran.err.contains("--all"), "{ran:?}");
    }
    daemon.kill();
    let got = person.run(&["get", "all", "--desired", "desired"]);
    assert!(got.err.contains("lease: last held by") && got.err.contains("does not answer"), "{got:?}");
    let ran = person.run(&["down", "--all", "--yes"]);
    assert!(ran.code == Some(0) && ran.out.ends_with("2 of 2 gone\n"), "{ran:?}");
    assert_eq!(engine.get("/services"), Value::Array(Vec::new()));
}

#[test]
fn down_beside_a_daemon_asks_on_a_terminal_and_takes_files_and_everything() {
    let engine = TestEngine::swarm();
    let mut daemon = operator(&engine, &[("press", IDLE), ("mill", IDLE), ("lathe", IDLE)]);
    daemon.start();
    for resource in ["app/PRESS", "app/MILL", "app/LATHE"] {
        daemon.settles(resource);
    }
    // No, an empty line, and Ctrl-C change nothing.
    let before = versions(&engine);
    for (keys, code) in [("n\r", Some(2)), ("\r", Some(2)), ("\u{3}", Some(130))] {
        let ran = daemon.run_on_terminal(&["down", "app/MILL"], "take down app/MILL? [y/N]", keys);
        assert_eq!(ran.code, code, "{keys:?}: {ran:?}");
        assert_eq!(ran.out.contains("nothing was changed"), code == Some(2), "{ran:?}");
    }
    assert_eq!(versions(&engine), before);
    assert_eq!(daemon.metric("ofop_taken_down "), Some(0.0));

    let ran = daemon.run_on_terminal(&["down", "app/MILL"], "[y/N]", "y\r");
    assert!(ran.code == Some(0) && ran.out.contains("1 of 1 gone"), "{ran:?}");
    assert_eq!(image(&engine, "mill"), "");

    // What a file describes, and then everything: what is away already counts as gone.
    let ran = daemon.run(&["down", "desired/press.yml", "--yes"]);
    assert!(ran.code == Some(0) && ran.out.starts_with("1 of 1 gone"), "{ran:?}");
    assert_eq!((image(&engine, "press"), image(&engine, "lathe")), (String::new(), IDLE.to_owned()));
    let ran = daemon.run(&["down", "--all", "--yes"]);
    assert!(ran.code == Some(0) && ran.out.starts_with("3 of 3 gone"), "{ran:?}");
    assert_eq!(engine.get("/services"), Value::Array(Vec::new()));
    assert_eq!(daemon.metric("ofop_taken_down "), Some(3.0));
    assert!(leads(&daemon), "it never lost the lease");
}

#[test]
fn two_daemons_with_one_state_directory_are_one_holder_and_one_standby_that_says_so() {
    let engine = TestEngine::swarm();
    two_daemons_with_one_state_directory(&engine, &[]);
    let engine = TestEngine::plain(&[]);
    engine.import_images();
    engine.ok("POST", "/networks/create", r#"{"Name":"factory-net"}"#);
    two_daemons_with_one_state_directory(&engine, &[("DEPLOYMENT_PLATFORM", "docker")]);
}

/// Both see the same manifests and write into the same state directory.
fn two_daemons_with_one_state_directory(engine: &TestEngine, variables: &[(&str, &str)]) {
    let state = tempfile::tempdir().unwrap();
    let daemon = || {
        let mut daemon = operator(engine, &[("press", IDLE), ("mill", IDLE)]);
        daemon.set("OFOP_STATE_DIR", state.path().to_str().unwrap());
        variables.iter().for_each(|(name, value)| daemon.set(name, value));
        daemon
    };
    let (mut one, mut other) = (daemon(), daemon());
    one.start();
    one.settles("app/PRESS");
    other.start();
    other.wait("the second daemon says that it is a standby", || {
        other.log().contains("is a standby") && other.metric("ofop_leader ") == Some(0.0)
    });
    other.wait("it sees the same", || other.resource("app/MILL")["sync"] == "Synced");
    assert!(leads(&one));
    assert_eq!(steps(&other), 0, "{}", other.log());

    // The lock, or the lease, of the first one is what commands meet as well.
    let ran = other.run(&["apply"]);
    assert!(ran.code == Some(2) && ran.err.contains("holds the lease"), "{ran:?}");
    if !variables.is_empty() {
        let ran = other.run(&["apply", "--take-over"]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        let process = one.process().to_string();
        assert!(ran.err.contains("has locked") && ran.err.contains(&format!("kill {process}")), "{ran:?}");
        assert!(leads(&one));
        // A stranger's container is taken over when a person says so, there too.
        engine.ok("POST", "/containers/create?name=lathe", &format!(r#"{{"Image":"{IDLE_2}"}}"#));
        one.write("lathe.yml", &app("lathe", IDLE));
        other.write("lathe.yml", &app("lathe", IDLE));
        let conflict = |resource: &Value| resource["conditions"].to_string().contains("Conflict");
        one.wait("it is a conflict", || conflict(&one.resource("app/LATHE")));
        let ran = one.run(&["adopt", "app/LATHE", "--yes"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        one.settles("app/LATHE");
        assert_eq!(engine.get("/containers/lathe/json")["Config"]["Image"], IDLE);
        // The daemon takes a resource down there too, and keeps it away.
        let ran = other.run(&["down", "app/MILL", "--yes"]);
        assert!(ran.code == Some(0) && ran.out.starts_with("1 of 1 gone"), "{ran:?}");
    }
    one.kill();
    other.wait("the standby takes over", || leads(&other));
    other.settles("app/PRESS");
    assert!(!other.log().contains("database is locked"), "{}", other.log());
    if !variables.is_empty() {
        other.wait("what was taken down stays away", || other.resource("app/MILL")["health"] == "Suspended");
        assert!(other.resource("app/MILL")["services"].as_array().is_none_or(Vec::is_empty));
    }
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

#[test]
fn notes_of_an_older_ofop_without_a_lease_are_heeded_with_a_warning() {
    let engine = TestEngine::swarm();
    let labels = serde_json::json!({
        "io.openfactory.operator/instance": "default",
        "io.openfactory.operator/note/suspended/app/MILL": "2026-01-02T03:04:05Z",
    });
    let config = serde_json::json!({"Name": "ofop-default", "Data": "eA==", "Labels": labels});
    engine.ok("POST", "/configs/create", &config.to_string());
    let mut one = operator(&engine, &[("press", IDLE), ("mill", IDLE)]);
    one.start();
    one.settles("app/PRESS");
    assert!(leads(&one));
    assert!(one.log().contains("knows of no lease") && one.log().contains("end it if it still runs"), "{}", one.log());
    one.wait("what was noted holds", || one.resource("app/MILL")["health"] == "Suspended");
    assert_eq!(image(&engine, "mill"), "");
}

#[test]
fn labels_that_somebody_edited_to_rubbish_stop_writes_for_a_while_and_remove_nothing() {
    let engine = TestEngine::swarm();
    let mut one = operator(&engine, &[("press", IDLE)]);
    one.set("OFOP_LEASE", "2s");
    one.set("OFOP_LEASE_RENEW", "500ms");
    one.start();
    one.settles("app/PRESS");
    let spoil = |label: &str, text: &str| {
        // The daemon renews its lease meanwhile: try until the version is still the newest.
        one.wait("the label is edited", || {
            let config = engine.get("/configs")[0].clone();
            let mut spec = config["Spec"].clone();
            spec["Labels"][format!("io.openfactory.operator/lease/{label}")] = text.into();
            let (id, version) = (config["ID"].as_str().unwrap(), &config["Version"]["Index"]);
            let path = format!("/configs/{id}/update?version={version}");
            engine.call("POST", &path, &spec.to_string()).0 == 200
        });
    };
    spoil("epoch", "rubbish");
    one.wait("it says what is wrong", || one.log().contains("the lease cannot be understood"));
    assert!(one.log().contains("its `epoch` is not a number"), "{}", one.log());
    one.wait("it writes the lease anew", || {
        leads(&one) && engine.get("/configs")[0]["Spec"]["Labels"]["io.openfactory.operator/lease/epoch"] != "rubbish"
    });
    // A lease from the future is one like any other: it is over when it does not move.
    spoil("epoch", &u64::MAX.to_string());
    spoil("holder", "future/1/1");
    one.wait("it is a standby, or has waited already", || {
        one.log().contains("is a standby") || one.metric("ofop_lease_epoch ").is_some_and(|epoch| epoch > 1e18)
    });
    one.wait("it holds the lease again", || leads(&one));
    one.write("mill.yml", &app("mill", IDLE));
    one.settles("app/MILL");
    assert_eq!(image(&engine, "press"), IDLE, "nothing was removed");
}
