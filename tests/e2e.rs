//! The story that a person plays by hand, with the real program on a real engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[allow(dead_code, clippy::expect_used, reason = "support for tests")]
#[path = "support/https.rs"]
mod https;
#[path = "support/operator.rs"]
mod operator;

use engine::{IDLE, IDLE_2, TestEngine};
use https::{Answer, Server};
use operator::{Operator, Ran};
use serde_json::Value;

/// Apps of these names in one manifest, each with a secret in its environment.
fn manifest(names: &[&str], image: &str) -> String {
    let mut text = String::from("apps:\n");
    for name in names {
        text.push_str(&format!(
            "  {name}:\n    uuid: {}\n    image: {image}\n    environment:\n      - PASSWORD=hunter2-sentinel\n    \
             networks: [factory-net]\n",
            name.to_uppercase()
        ));
    }
    text
}

/// A service as the engine shows it; null when it does not exist.
fn service(engine: &TestEngine, name: &str) -> Value {
    let services = engine.get("/services");
    services.as_array().unwrap().iter().find(|service| service["Spec"]["Name"] == name).cloned().unwrap_or_default()
}

fn image(engine: &TestEngine, name: &str) -> String {
    service(engine, name)["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned()
}

fn id(engine: &TestEngine, name: &str) -> String {
    service(engine, name)["ID"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_file_is_dropped_edited_broken_mistyped_and_removed() {
    let engine = TestEngine::swarm();
    let mut ofop = Operator::new(&engine.host());
    ofop.write("press.yml", &manifest(&["press"], IDLE));
    ofop.write("other.yml", &manifest(&["other"], IDLE));
    ofop.start();
    ofop.settles("app/PRESS");
    ofop.settles("app/OTHER");
    let untouched = service(&engine, "other")["Version"]["Index"].clone();

    // Edited: updated in place, and nobody else is written to.
    let before = id(&engine, "press");
    ofop.write("press.yml", &manifest(&["press"], IDLE_2));
    ofop.wait("the service has the new image", || image(&engine, "press") == IDLE_2);
    ofop.settles("app/PRESS");
    assert_eq!(id(&engine, "press"), before);
    assert_eq!(service(&engine, "other")["Version"]["Index"], untouched);

    // Removed by hand: back at once.
    engine.ok("DELETE", &format!("/services/{before}"), "");
    ofop.wait("the service is back", || !id(&engine, "press").is_empty() && id(&engine, "press") != before);
    ofop.settles("app/PRESS");

    // Edited and scaled by hand: put back.
    engine.edit_service(&id(&engine, "press"), |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["Env"].as_array_mut().unwrap().push("SABOTAGE=1".into());
        spec["Mode"]["Replicated"]["Replicas"] = 3.into();
    });
    ofop.wait("the service is as described", || {
        let spec = service(&engine, "press")["Spec"].clone();
        spec["Mode"]["Replicated"]["Replicas"] == 1 && !spec.to_string().contains("SABOTAGE")
    });
    ofop.settles("app/PRESS");

    // Who has no manifests at hand sees through the daemon's eyes.
    let without = |arguments: &[&str]| {
        let mut command = ofop.command(arguments);
        Ran::of(&command.env_remove("OFOP_DESIRED").output().unwrap())
    };
    ofop.wait("the daemon has seen the same as somebody who looks now", || {
        let (seen, looked) = (without(&["get", "all"]), ofop.run(&["get", "all"]));
        assert!(seen.err.contains("as the daemon at 127.0.0.1:"), "{}", seen.err);
        seen.code == Some(0) && seen.out == looked.out && seen.out.contains("app/PRESS  Synced  Healthy")
    });
    let described = without(&["describe", "app/PRESS"]);
    assert!(described.out.contains("press present, 1/1 running"), "{}", described.out);
    assert!(described.out.contains("update service press"), "its events are told: {}", described.out);
    let nobody = without(&["get", "--address", "127.0.0.1:1"]);
    assert_eq!(nobody.code, Some(2));
    for word in ["no daemon answers at 127.0.0.1:1", "--desired", "--git", "--address"] {
        assert!(nobody.err.contains(word), "{}", nobody.err);
    }

    // Mistyped: nothing but a clear error.
    let version = service(&engine, "press")["Version"]["Index"].clone();
    ofop.write("press.yml", &manifest(&["press"], IDLE).replace("image:", "imgae:"));
    ofop.wait("the error shows", || ofop.metric("ofop_manifest_errors").is_some_and(|errors| errors > 0.0));
    let validated = ofop.run(&["validate"]);
    assert_eq!(validated.code, Some(2));
    assert!(
        validated.out.contains("press.yml:4:5") && validated.out.contains("did you mean `image`?"),
        "{}",
        validated.out
    );
    assert!(ofop.log().contains("press.yml:4:5"), "{}", ofop.log());
    assert_eq!(service(&engine, "press")["Version"]["Index"], version);
    ofop.write("press.yml", &manifest(&["press"], IDLE_2));
    ofop.wait("no error shows", || ofop.metric("ofop_manifest_errors") == Some(0.0));

    // Its file deleted: removed, with its record.
    ofop.delete("press.yml");
    ofop.wait("nothing of it is left", || id(&engine, "press").is_empty() && ofop.resource("app/PRESS").is_null());
    assert!(!ofop.run(&["get", "assets"]).out.contains("PRESS"));

    // All files deleted: guarded until a person says so.
    ofop.delete("other.yml");
    ofop.wait("the removal is held", || ofop.metric("ofop_prune_blocked") == Some(1.0));
    assert!(!id(&engine, "other").is_empty());
    let confirmed = ofop.run(&["reconcile", "--confirm-prune"]);
    assert_eq!(confirmed.code, Some(0), "{}", confirmed.err);
    ofop.wait("nothing of it is left", || id(&engine, "other").is_empty() && ofop.resource("app/OTHER").is_null());

    // Through all of it, no value of an environment variable was shown.
    let events = ofop.run(&["events", "-o", "json"]);
    assert_eq!(events.code, Some(0), "{}", events.err);
    assert!(events.out.contains("environment.SABOTAGE"));
    let status = ofop.try_get("/api/v1/resources").unwrap();
    for text in [&ofop.log(), &events.out, &validated.out, &status, &ofop.try_get("/metrics").unwrap()] {
        assert!(!text.contains("sentinel"), "{text}");
    }
    assert_eq!(ofop.signal("TERM"), Some(0));
}

#[test]
fn a_killed_daemon_leaves_nothing_that_its_successor_cannot_finish() {
    let engine = TestEngine::swarm();
    let mut ofop = Operator::new(&engine.host());
    let names: Vec<String> = (0..12).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ofop.write("all.yml", &manifest(&names, IDLE));
    let services = || engine.get("/services").as_array().unwrap().len();

    // Killed amid creating, again and again: the first service that is new is the signal.
    for _ in 0..3 {
        let before = services();
        ofop.start();
        ofop.wait("one more service exists", || services() > before || services() == names.len());
        ofop.kill();
    }
    ofop.start();
    for name in &names {
        ofop.settles(&format!("app/{}", name.to_uppercase()));
    }
    assert_eq!(services(), names.len());

    // Killed amid updating.
    ofop.write("all.yml", &manifest(&names, IDLE_2));
    ofop.wait("one is updated", || names.iter().any(|name| image(&engine, name) == IDLE_2));
    ofop.kill();
    ofop.start();
    ofop.wait("all are updated", || names.iter().all(|name| image(&engine, name) == IDLE_2));

    // Killed amid removing half of them, records included.
    ofop.write("all.yml", &manifest(&names[..6], IDLE_2));
    ofop.wait("the removal is held", || ofop.metric("ofop_prune_blocked") == Some(6.0));
    ofop.wait("the lease of the one before is over", || ofop.metric("ofop_leader ") == Some(1.0));
    assert_eq!(ofop.run(&["reconcile", "--confirm-prune"]).code, Some(0));
    ofop.wait("one is removed", || services() < names.len());
    ofop.kill();
    ofop.start();
    // What the first one was told is not known to the second: the rest may be within the guard or not.
    ofop.wait("the rest is gone or held", || {
        let leads = ofop.metric("ofop_leader ") == Some(1.0);
        if leads && ofop.metric("ofop_prune_blocked").is_some_and(|held| held > 0.0) {
            assert_eq!(ofop.run(&["reconcile", "--confirm-prune"]).code, Some(0));
        }
        services() == 6 && !ofop.run(&["get", "assets", "-o", "name"]).out.contains("asset/M11")
    });
    for name in &names[..6] {
        ofop.settles(&format!("app/{}", name.to_uppercase()));
    }
    assert_eq!(ofop.signal("INT"), Some(0));
}

#[test]
fn one_shot_commands_plan_apply_show_and_tear_down() {
    let engine = TestEngine::swarm();
    let ofop = Operator::new(&engine.host());
    ofop.write("a.yml", &manifest(&["alpha"], IDLE));
    ofop.write("b.yml", &manifest(&["beta"], IDLE));

    let plan = ofop.run(&["plan"]);
    assert_eq!(plan.code, Some(1), "{}", plan.err);
    assert!(plan.out.contains("create service alpha"), "{}", plan.out);

    // Only what a path describes.
    let applied = ofop.run(&["apply", "desired/a.yml", "--wait"]);
    assert_eq!(applied.code, Some(0), "{} {}", applied.out, applied.err);
    assert!(id(&engine, "beta").is_empty() && !id(&engine, "alpha").is_empty());

    // Everything; then there is nothing left to do.
    let applied = ofop.run(&["apply", "--wait"]);
    assert_eq!(applied.code, Some(0), "{} {}", applied.out, applied.err);
    assert!(applied.err.contains("create service beta"), "{}", applied.err);
    assert_eq!(ofop.run(&["plan"]).code, Some(0));
    let again = ofop.run(&["apply"]);
    assert_eq!((again.code, again.out.as_str()), (Some(0), "nothing to do; 2 of 2 in sync\n"));

    let shown = ofop.run(&["get", "all"]);
    assert_eq!(shown.code, Some(0));
    assert!(shown.out.lines().all(|line| line.chars().count() <= 80), "{}", shown.out);
    assert!(shown.out.contains("app/ALPHA  Synced  Healthy  1/1"), "{}", shown.out);
    let names = ofop.run(&["get", "all", "-o", "name"]).out;
    assert_eq!(names, "app/ALPHA\napp/BETA\nservice/alpha\nservice/beta\nasset/ALPHA\nasset/BETA\n");
    let json: Value = serde_json::from_str(&ofop.run(&["get", "services", "-o", "json"]).out).unwrap();
    assert_eq!(json["services"][0]["resource"], "app/ALPHA");

    let described = ofop.run(&["describe", "app/ALPHA"]).out;
    assert!(
        described.contains("alpha present, 1/1 running") && described.contains("asset ALPHA registered"),
        "{described}"
    );
    assert_eq!(ofop.run(&["describe", "app/NOBODY"]).code, Some(2));

    // Edited: the plan shows names of variables, values only when asked.
    ofop.write("a.yml", &manifest(&["alpha"], IDLE).replace("hunter2-sentinel", "other-sentinel"));
    let plan = ofop.run(&["plan"]);
    assert_eq!(plan.code, Some(1));
    assert!(plan.out.contains("environment.PASSWORD") && !plan.out.contains("sentinel"), "{}", plan.out);
    assert!(ofop.run(&["plan", "--show-secrets"]).out.contains("other-sentinel"));
    assert!(!ofop.run(&["plan", "-o", "json"]).out.contains("sentinel"));

    let down = ofop.run(&["down", "desired", "--yes"]);
    assert_eq!(down.code, Some(0), "{} {}", down.out, down.err);
    assert!(down.out.ends_with("; 2 of 2 gone\n"), "{}", down.out);
    assert_eq!(engine.get("/services"), Value::Array(Vec::new()));
    for ran in [&applied, &shown, &down] {
        assert!(!format!("{ran:?}").contains("sentinel"));
    }
}

#[test]
fn a_device_model_out_of_reach_after_a_restart_holds_removals_and_nothing_else() {
    let (engine, server) = (TestEngine::swarm(), Server::start());
    let mut ofop = Operator::new(&engine.host());
    let settings = format!(
        "OFOP_CA_FILE={}\nOFOP_MODEL_HOSTS=127.0.0.1\nMTCONNECT_AGENT_IMAGE={IDLE}\nMTCONNECT_PRODUCER_IMAGE={IDLE}\n",
        server.ca().display()
    );
    std::fs::write(ofop.folder().join(".ofaenv"), settings).unwrap();
    server.answer(Answer::text("<MTConnectDevices/>"));
    ofop.write(
        "device.yml",
        &format!(
            "devices:\n  cnc:\n    uuid: CNC\n    connector:\n      type: mtconnect\n      agent:\n        port: 0\n        \
             device_xml: {}\n        adapter: {{ip: 10.0.0.7, port: 7878}}\n        \
             deploy: {{resources: {{reservations: {{cpus: 0.01}}}}}}\n",
            server.url("/cnc.xml?token=sentinel")
        ),
    );
    ofop.write("stays.yml", &manifest(&["stays"], IDLE));
    ofop.write("goes.yml", &manifest(&["goes"], IDLE));
    ofop.start();
    for resource in ["device/CNC", "app/STAYS", "app/GOES"] {
        ofop.settles(resource);
    }
    assert_eq!(ofop.signal("TERM"), Some(0));
    let services = || ["cnc-agent", "cnc-producer", "goes"].map(|name| service(&engine, name)["Version"].clone());
    let before = services();

    // Its successor has never seen the model, and cannot get it.
    server.away(true);
    ofop.delete("goes.yml");
    ofop.write("stays.yml", &manifest(&["stays"], IDLE_2));
    ofop.start();
    ofop.wait("others go on", || image(&engine, "stays") == IDLE_2);
    ofop.settles("app/STAYS");
    ofop.wait("removals are held", || ofop.metric("ofop_prune_blocked") == Some(2.0));
    let device = ofop.resource("device/CNC");
    assert_eq!(device["sync"], "Unknown", "{device}");
    assert_eq!(device["conditions"][0]["reason"], "InvalidManifests", "{device}");
    assert_eq!(services(), before);
    let log = ofop.log();
    assert!(log.contains("cannot be read: cannot be fetched") && !log.contains("sentinel"), "{log}");

    // The server is back: what ran is what is wanted, and what may go goes.
    server.away(false);
    ofop.wait("nothing of the other is left", || service(&engine, "goes").is_null());
    ofop.settles("device/CNC");
    assert_eq!(services()[..2], before[..2]);
    assert_eq!(ofop.signal("TERM"), Some(0));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let engine = TestEngine::plain(&[]);
    let ofop = Operator::new(&engine.host());
    let names: Vec<String> = (0..400).map(|n| format!("app-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ofop.write("all.yml", &manifest(&names, IDLE));
    let mut child = ofop.command(&["render"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Dropped unread: whatever is written meets a closed pipe.
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_people_said_and_what_swarm_rolled_back_survives_the_operator() {
    let engine = TestEngine::swarm();
    let mut ofop = Operator::new(&engine.host());
    for name in ["press", "saw"] {
        ofop.write(&format!("{name}.yml"), &manifest(&[name], IDLE));
    }
    ofop.start();
    ofop.settles("app/PRESS");
    ofop.settles("app/SAW");

    // Somebody has updates of the saw rolled back when they fail, and the next one does.
    engine.edit_service(&id(&engine, "saw"), |spec| {
        spec["UpdateConfig"] =
            serde_json::json!({"Parallelism": 1, "FailureAction": "rollback", "Monitor": 10_000_000_000_i64, "MaxFailureRatio": 0});
    });
    ofop.write("saw.yml", &manifest(&["saw"], engine::FAILING));
    ofop.wait("the update is rolled back", || ofop.resource("app/SAW")["health"] == "RolledBack");
    assert_eq!(image(&engine, "saw"), IDLE);
    let suspended = ofop.run(&["suspend", "app/PRESS"]);
    assert_eq!(suspended.code, Some(0), "{}", suspended.err);
    let noted = || engine.get("/configs")[0]["Spec"]["Labels"].to_string();
    ofop.wait("both are noted", || noted().contains("suspended/app/PRESS") && noted().contains("rolled-back/saw"));
    ofop.kill();

    // Its successor knows both, as does whoever looks without a daemon.
    let version = service(&engine, "saw")["Version"]["Index"].clone();
    let press = id(&engine, "press");
    engine.ok("DELETE", &format!("/services/{press}"), "");
    let plan = ofop.run(&["plan"]);
    assert!(plan.out.contains("create service press") && plan.out.contains("waits for `resume`"), "{}", plan.out);
    assert!(plan.out.contains("waits for another manifest, or `resume`"), "{}", plan.out);
    ofop.start();
    ofop.wait("it is suspended", || ofop.resource("app/PRESS")["health"] == "Suspended");
    ofop.wait("it is rolled back", || ofop.resource("app/SAW")["health"] == "RolledBack");
    // Two more full looks change neither.
    let passes = || ofop.metric("ofop_reconcile_total{result=\"success\"}").unwrap_or_default();
    let before = passes();
    ofop.wait("it has looked again", || passes() > before + 1.0);
    assert!(id(&engine, "press").is_empty());
    assert_eq!(service(&engine, "saw")["Version"]["Index"], version);

    // A suspension of everything is noted before the daemon ends.
    ofop.wait("the lease of the one before is over", || ofop.metric("ofop_leader ") == Some(1.0));
    assert_eq!(ofop.run(&["suspend", "--all"]).code, Some(0));
    assert_eq!(ofop.signal("TERM"), Some(0));
    ofop.start();
    ofop.wait("everything is suspended", || ofop.metric("ofop_suspended") == Some(1.0));
    let resumed = ofop.run(&["resume", "--all"]);
    assert!(resumed.err.contains("still suspended by themselves: app/PRESS"), "{}", resumed.err);
    assert_eq!(ofop.run(&["resume", "app/PRESS"]).code, Some(0));
    ofop.settles("app/PRESS");
    ofop.write("saw.yml", &manifest(&["saw"], IDLE_2));
    ofop.settles("app/SAW");
    // An attempt may be noted between two looks.
    ofop.wait("nothing is noted any more", || {
        !noted().contains("operator/note/") && ofop.metric("ofop_notes_unsaved") == Some(0.0)
    });
    assert_eq!(ofop.signal("TERM"), Some(0));
}
