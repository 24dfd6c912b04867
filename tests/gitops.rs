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

use std::os::unix::fs::PermissionsExt as _;

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
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
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
    let run = |ofop: &Operator, arguments: &[&str]| ofop.run(&[arguments, &repository[..]].concat());
    assert_eq!(run(&ofop, &["plan"]).code, Some(0));
    let plan = run(&ofop, &["plan", "--revision", &second[..10]]);
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

    let status: Value = serde_json::from_str(&ofop.try_get("/api/v1/resources").unwrap()).unwrap();
    let source = &status["source"];
    assert_eq!((&source["kind"], &source["state"]), (&"git".into(), &"up".into()), "{source}");
    assert_eq!(source["commit"]["subject"], "Revert \"A better press\"");
    let reverted = source["commit"]["short"].as_str().unwrap().to_owned();
    assert_eq!(status["revision"], source["commit"]["id"]);

    // The token expires: what is in force is looked after, and nothing is removed.
    std::fs::write(&token, "expired").unwrap();
    ofop.wait("the trouble shows", || ofop.metric("ofop_source_trouble{reason=\"denied\"}") == Some(1.0));
    let press = service(&engine, "press")["ID"].as_str().unwrap().to_owned();
    engine.ok("DELETE", &format!("/services/{press}"), "");
    ofop.settles("app/PRESS");
    let ready = ofop.try_get("/readyz").unwrap();
    assert!(ready.contains("denied since"), "{ready}");
    assert_eq!(ofop.metric("ofop_source_up"), Some(0.0));
    let plan = run(&ofop, &["plan"]);
    assert_eq!(plan.code, Some(2));
    assert!(plan.err.contains("the server refuses our credentials"), "{}", plan.err);
    let shown = run(&ofop, &["get", "apps"]);
    assert_eq!(shown.code, Some(0));
    assert!(
        shown.err.contains(&format!("commit {reverted} \"Revert")) && shown.err.contains("(denied)"),
        "{}",
        shown.err
    );
    assert_eq!(run(&ofop, &["apply"]).code, Some(2), "nobody asked for an old commit");
    std::fs::write(&token, "s3cret-sentinel").unwrap();
    ofop.wait("the trouble is over", || ofop.metric("ofop_source_up") == Some(1.0));

    // A commit can be put in force once by hand, where no daemon runs.
    let told = ofop.run(&["events"]).out;
    assert_eq!(ofop.signal("TERM"), Some(0));
    for line in [
        format!("source commit {} \"The press and another\" by Line Team: in force", &first[..12]),
        format!("source commit {} \"A better press\" by Line Team: in force", &second[..12]),
        "source (denied): the server refuses our credentials, or wants some".into(),
        "source: the newest manifests are in force again".into(),
    ] {
        assert!(told.contains(&line), "{line}\n{told}");
    }
    let applied = ofop.run(&[&["apply", "--wait", "--revision", &second], &repository[..]].concat());
    assert_eq!(applied.code, Some(0), "{}{}", applied.out, applied.err);
    assert_eq!(image(&engine, "press"), IDLE_2);

    // Started again with a list of allowed signers, the daemon takes none of the commits so far.
    let ann = plant.key("ann");
    let signers = plant.dir.path().join("signers");
    let public = std::fs::read_to_string(ann.with_extension("pub")).unwrap();
    std::fs::write(&signers, format!("line@plant.example {public}")).unwrap();
    plant.sign_with(&ann);
    let trusted = ["--interval", "1h", "--verify-signatures", signers.to_str().unwrap()];
    ofop.start_with(&[&repository[..], &trusted].concat());
    let refused = || ofop.metric("ofop_source_trouble{reason=\"unverified\"}") == Some(1.0);
    ofop.wait("the unsigned commit is refused", refused);
    assert_eq!(image(&engine, "press"), IDLE_2);

    // Signed, the same is taken; told to look, the daemon looks before the interval is over.
    let signed = plant.push_with("Signed by Line Team", &["-S"]);
    assert_eq!(ofop.run(&["reconcile"]).code, Some(0));
    ofop.wait("the press has the old image", || image(&engine, "press") == IDLE);
    ofop.wait("the trouble is over", || ofop.metric("ofop_source_up") == Some(1.0));

    // An unsigned commit that removes everything removes nothing.
    plant.git(&plant.work, &["rm", "-q", "-r", "factory"]);
    plant.write("factory/none.txt", "");
    plant.push("Nobody signed this");
    assert_eq!(ofop.run(&["reconcile"]).code, Some(0));
    ofop.wait("the unsigned commit is refused", refused);
    let status: Value = serde_json::from_str(&ofop.try_get("/api/v1/resources").unwrap()).unwrap();
    assert_eq!(status["source"]["trouble"]["refused"]["subject"], "Nobody signed this");
    assert_eq!((&status["revision"], &status["prune"]["state"]), (&signed.clone().into(), &"nothing".into()));
    let page = ofop.try_get("/").unwrap();
    assert!(page.contains("Signed by Line Team") && page.contains("is not signed"), "{page}");
    let described = run(&ofop, &["describe", "app/PRESS", "--verify-signatures", signers.to_str().unwrap()]).out;
    assert!(
        described.contains("Signed by Line Team") && described.contains("not the newest (unverified"),
        "{described}"
    );

    // A signed one that takes one of two away does.
    plant.git(&plant.work, &["reset", "-q", "--hard", &signed]);
    plant.git(&plant.work, &["rm", "-q", "factory/other.yml"]);
    plant.push_with("No other", &["-S"]);
    assert_eq!(ofop.run(&["reconcile"]).code, Some(0));
    ofop.wait("the other is gone", || service(&engine, "other").is_null());
    let status = ofop.try_get("/api/v1/resources").unwrap();
    for text in [&ofop.log(), &status, &applied.err, &plan.err, &told, &page] {
        assert!(!text.contains("sentinel"), "{text}");
    }
}
