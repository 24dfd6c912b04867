//! `image_pull_policy` on a real swarm with a real image registry whose tags move.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/image_registry.rs"]
mod image_registry;
#[path = "support/operator.rs"]
mod operator;

use engine::{IDLE, IDLE_2, TestEngine};
use image_registry::{ADDRESS, ImageRegistry};
use operator::Operator;
use serde_json::Value;

/// The tag that moves.
const TAG: &str = "app:1";

/// An app for each pull policy, of the policy's name, with the image that moves.
fn manifest(policies: &[&str]) -> String {
    let mut text = String::from("apps:\n");
    for policy in policies {
        text.push_str(&format!(
            "  {policy}:\n    uuid: {}\n    image: {ADDRESS}/{TAG}\n    image_pull_policy: {policy}\n    \
             networks: [factory-net]\n",
            policy.to_uppercase()
        ));
    }
    text
}

/// An operator that often looks where tags point, with more settings.
fn operator(engine: &TestEngine, more: &str) -> Operator {
    let ofop = Operator::new(&engine.host());
    std::fs::write(ofop.folder().join(".ofaenv"), format!("OFOP_FOLLOW_INTERVAL=200ms\n{more}")).unwrap();
    ofop
}

/// A service as the engine shows it; null when it does not exist.
fn service(engine: &TestEngine, name: &str) -> Value {
    let services = engine.get("/services");
    services.as_array().unwrap().iter().find(|service| service["Spec"]["Name"] == name).cloned().unwrap_or_default()
}

fn image(engine: &TestEngine, name: &str) -> String {
    service(engine, name)["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned()
}

/// Ids of the images that a service's containers run.
fn running(engine: &TestEngine, name: &str) -> Vec<Value> {
    let containers = engine.get("/containers/json");
    let of_service = |container: &&Value| container["Labels"]["com.docker.swarm.service.name"] == name;
    containers.as_array().unwrap().iter().filter(of_service).map(|container| container["ImageID"].clone()).collect()
}

fn image_id(engine: &TestEngine, image: &str) -> Value {
    engine.get(&format!("/images/{image}/json"))["Id"].clone()
}

fn pinned(digest: &str) -> String {
    format!("{ADDRESS}/{TAG}@{digest}")
}

/// How often the engine has said that it could not ask the registry where a tag points.
fn failed_lookups(engine: &TestEngine) -> usize {
    engine.log().lines().filter(|line| line.contains("/distribution/") && line.contains("returned error")).count()
}

/// Waits for two lookups that failed from their beginning to their end.
fn looks_in_vain(engine: &TestEngine, ofop: &Operator) {
    let before = failed_lookups(engine);
    ofop.wait("lookups fail", || failed_lookups(engine) >= before + 2);
}

#[test]
fn a_tag_that_moves_is_followed_under_always_and_by_nobody_under_missing() {
    let engine = TestEngine::swarm();
    let registry = ImageRegistry::start(&engine);
    let first = registry.push(IDLE, TAG);
    let mut ofop = operator(&engine, "");
    ofop.write("apps.yml", &manifest(&["always", "missing"]));
    ofop.start();
    ofop.settles("app/ALWAYS");
    ofop.settles("app/MISSING");
    assert_eq!(image(&engine, "always"), pinned(&first));
    assert_eq!(image(&engine, "missing"), format!("{ADDRESS}/{TAG}"));
    assert_eq!(running(&engine, "always"), [image_id(&engine, IDLE)]);
    let (id, untouched) = (service(&engine, "always")["ID"].clone(), service(&engine, "missing")["Version"].clone());
    assert_eq!(ofop.run(&["plan"]).code, Some(0));

    // Moved while nobody looks: the plan says what and why.
    assert_eq!(ofop.signal("TERM"), Some(0));
    let second = registry.push(IDLE_2, TAG);
    assert_ne!(first, second);
    let plan = ofop.run(&["plan"]);
    assert_eq!(plan.code, Some(1), "{plan:?}");
    assert!(plan.out.contains("image tag moved") && plan.out.contains(&second), "{}", plan.out);
    assert!(!plan.out.contains("MISSING"), "{}", plan.out);
    ofop.start();
    ofop.wait("the service has the second image", || image(&engine, "always") == pinned(&second));
    ofop.wait("the second image runs alone", || running(&engine, "always") == [image_id(&engine, IDLE_2)]);
    ofop.settles("app/ALWAYS");

    // Moved while the daemon runs: it follows by itself.
    assert_eq!(registry.push(IDLE, TAG), first);
    ofop.wait("the service has the first image", || image(&engine, "always") == pinned(&first));
    ofop.wait("the first image runs alone", || running(&engine, "always") == [image_id(&engine, IDLE)]);
    ofop.settles("app/ALWAYS");
    let events = ofop.run(&["events", "-o", "json"]);
    assert_eq!(events.out.matches(r#""reason":"image_moved""#).count(), 2, "{}", events.out);

    // Always the same service, and the other one was not written to.
    assert_eq!(service(&engine, "always")["ID"], id);
    assert_eq!(service(&engine, "missing")["Version"], untouched);
    assert_eq!(ofop.signal("TERM"), Some(0));
}

#[test]
fn a_registry_that_is_away_moves_nothing() {
    let engine = TestEngine::swarm();
    let mut registry = ImageRegistry::start(&engine);
    let first = registry.push(IDLE, TAG);
    let mut ofop = operator(&engine, "");
    ofop.write("apps.yml", &manifest(&["always"]));
    ofop.start();
    ofop.settles("app/ALWAYS");
    assert_eq!(image(&engine, "always"), pinned(&first));
    let before = service(&engine, "always");

    registry.stop();
    looks_in_vain(&engine, &ofop);
    assert_eq!(service(&engine, "always"), before);
    assert_eq!(ofop.resource("app/ALWAYS")["sync"], "Synced");

    // What was last known is what a service that must be made anew gets.
    engine.ok("DELETE", &format!("/services/{}", before["ID"].as_str().unwrap()), "");
    ofop.wait("the service is back", || !matches!(service(&engine, "always")["ID"].as_str(), None | Some("")));
    assert_eq!(image(&engine, "always"), pinned(&first));
    ofop.settles("app/ALWAYS");

    // A daemon that never knew where the tag points takes the service as it is, and repairs the rest of it.
    assert_eq!(ofop.signal("TERM"), Some(0));
    let before = service(&engine, "always");
    ofop.start();
    ofop.settles("app/ALWAYS");
    looks_in_vain(&engine, &ofop);
    assert_eq!(ofop.run(&["plan"]).code, Some(0));
    assert_eq!(service(&engine, "always"), before);
    engine.edit_service(before["ID"].as_str().unwrap(), |spec| {
        spec["Mode"]["Replicated"]["Replicas"] = 2.into();
    });
    ofop.wait("the service is as described", || {
        service(&engine, "always")["Spec"]["Mode"]["Replicated"]["Replicas"] == 1
    });
    assert_eq!(image(&engine, "always"), pinned(&first));

    // The registry is back, and the tag moves.
    registry.resume();
    let second = registry.push(IDLE_2, TAG);
    ofop.wait("the service has the second image", || image(&engine, "always") == pinned(&second));
    ofop.settles("app/ALWAYS");
    assert_eq!(ofop.signal("TERM"), Some(0));
}

#[test]
fn a_registry_that_was_never_reached_keeps_nobody_from_running() {
    let engine = TestEngine::swarm();
    let mut registry = ImageRegistry::start(&engine);
    let digest = registry.push(IDLE, TAG);
    registry.stop();
    let image = |platform: &str| match platform {
        "swarm" => image(&engine, "swarm-app"),
        _ => {
            let (status, found) = engine.call("GET", "/containers/docker-app/json", "");
            let found: Value = serde_json::from_str(&found).unwrap();
            if status == 200 { found["Config"]["Image"].as_str().unwrap().to_owned() } else { String::new() }
        }
    };
    let platforms = ["swarm", "docker"];
    let mut operators = platforms.map(|platform| {
        let mut ofop = operator(&engine, &format!("OFOP_INSTANCE={platform}\nDEPLOYMENT_PLATFORM={platform}\n"));
        ofop.write("app.yml", &manifest(&["always"]).replace("ALWAYS", &format!("{platform}-APP")));
        ofop.start();
        ofop
    });
    for (ofop, platform) in operators.iter().zip(platforms) {
        // What the engine has of it runs, and that it is not pinned is said.
        let id = format!("app/{platform}-APP");
        ofop.settles(&id);
        assert_eq!(image(platform), format!("{ADDRESS}/{TAG}"));
        let said = ofop.run(&["describe", &id]).out;
        assert!(said.contains("Unresolved (TagUnresolved)") && said.contains("connection refused"), "{said}");
        assert!(ofop.run(&["get", "apps"]).out.contains("cannot tell where the tag"), "{said}");
    }
    registry.resume();
    for (ofop, platform) in operators.iter_mut().zip(platforms) {
        let id = format!("app/{platform}-APP");
        ofop.wait("the image is pinned", || image(platform) == pinned(&digest));
        ofop.settles(&id);
        assert_eq!(ofop.resource(&id)["conditions"], serde_json::json!([]));
        assert_eq!(ofop.signal("TERM"), Some(0));
    }
}
