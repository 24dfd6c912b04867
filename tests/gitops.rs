//! A repository that a real daemon follows: from nothing to a running application, and whatever happens to it then.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/https.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod https;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/repository.rs"]
mod repository;

use engine::{IDLE, IDLE_2, TestEngine};
use https::Server;
use operator::Operator;
use repository::Plant;
use serde_json::Value;

/// `x-access-token:s3cret-sentinel`, as the server wants it.
const AUTHORIZATION: &str = "Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0LXNlbnRpbmVs";

fn app(name: &str, image: &str) -> String {
    let uuid = name.to_uppercase();
    format!("apps:\n  {name}:\n    uuid: {uuid}\n    image: {image}\n    networks: [factory-net]\n")
}

fn service(engine: &TestEngine, name: &str) -> Value {
    let services = engine.get("/services");
    services.as_array().unwrap().iter().find(|service| service["Spec"]["Name"] == name).cloned().unwrap_or_default()
}

fn image(engine: &TestEngine, name: &str) -> String {
    service(engine, name)["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_repository_is_followed_from_its_first_commit_on() {
    let (engine, plant, server) = (TestEngine::swarm(), Plant::new(), Server::start());
    let hub = plant.dir.path().join("hub");
    server.serve_git(&hub, Some(AUTHORIZATION));
    let mut ofop = Operator::new(&engine.host());
    let (token, authorities) = (ofop.folder().join("token"), server.ca());
    std::fs::write(&token, "s3cret-sentinel\n").unwrap();
    ofop.set("OFOP_GIT_TOKEN_FILE", token.to_str().unwrap());
    ofop.set("OFOP_CA_FILE", authorities.to_str().unwrap());
    let url = server.url("/git/plant.git");
    // OFOP_DESIRED is set as well: the flag goes before it.
    let repository = ["--git", &url, "--path", "factory"];
    ofop.start_with(&[&repository[..], &["--interval", "1s"]].concat());

    // An empty repository: nothing to do, and nothing is done until there is a commit.
    ofop.wait("the daemon says what is missing", || {
        ofop.try_get("/api/v1/resources").is_some_and(|status| status.contains("has no default branch"))
    });
    plant.write("factory/press.yml", &app("press", IDLE));
    plant.write("factory/other.yml", &app("other", IDLE));
    let first = plant.push("The press and another");
    ofop.settles("app/PRESS");
    ofop.settles("app/OTHER");
    let label = "io.openfactory.operator/revision";
    assert_eq!(service(&engine, "press")["Spec"]["Labels"][label], first);
    let untouched = service(&engine, "other");

    // What a proposal would do, before it is merged.
    plant.write("factory/press.yml", &app("press", IDLE_2));
    let second = plant.push_to("A better press", "refs/pull/1/head");
    let run = |arguments: &[&str]| ofop.run(&[arguments, &repository[..]].concat());
    assert_eq!(run(&["plan"]).code, Some(0));
    let plan = run(&["plan", "--revision", &second[..10]]);
    assert_eq!(plan.code, Some(1), "{}{}", plan.out, plan.err);
    assert!(plan.out.contains("update service press") && !plan.out.contains("other"), "{}", plan.out);
    let checkout = plant.work.join("factory");
    assert_eq!(ofop.run(&["plan", "--desired", checkout.to_str().unwrap()]).code, Some(1));

    // Merged: rolled out, and nobody else is written to for it.
    plant.git(&plant.work, &["push", "-q", "origin", "HEAD"]);
    ofop.wait("the press has the new image", || image(&engine, "press") == IDLE_2);
    ofop.settles("app/PRESS");
    assert_eq!(service(&engine, "press")["Spec"]["Labels"][label], second);
    assert_eq!(service(&engine, "other"), untouched);

    // Reverted.
    plant.git(&plant.work, &["revert", "--no-edit", "HEAD"]);
    plant.git(&plant.work, &["push", "-q", "origin", "HEAD"]);
    ofop.wait("the press has the old image", || image(&engine, "press") == IDLE);
    ofop.settles("app/PRESS");

    // A commit can be put in force once by hand, where no daemon runs.
    assert_eq!(ofop.signal("TERM"), Some(0));
    let applied = ofop.run(&[&["apply", "--wait", "--revision", &second], &repository[..]].concat());
    assert_eq!(applied.code, Some(0), "{}{}", applied.out, applied.err);
    assert_eq!(image(&engine, "press"), IDLE_2);

    // Started again, the daemon follows the branch; told to look, it looks before the interval is over.
    ofop.start_with(&[&repository[..], &["--interval", "1h"]].concat());
    ofop.wait("the press has the old image", || image(&engine, "press") == IDLE);
    plant.git(&plant.work, &["rm", "-q", "factory/other.yml"]);
    plant.push("No other");
    assert_eq!(ofop.run(&["reconcile"]).code, Some(0));
    ofop.wait("the other is gone", || service(&engine, "other").is_null());
    let status = ofop.try_get("/api/v1/resources").unwrap();
    for text in [&ofop.log(), &status, &applied.err, &plan.err] {
        assert!(!text.contains("sentinel"), "{text}");
    }
}
