//! What `ofop` asks of an engine is what `deploy/engine-calls.txt` says, and the files for deployment allow no more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/guard.rs"]
mod guard;
#[path = "support/operator.rs"]
mod operator;

use std::collections::BTreeMap;

use engine::{IDLE, IDLE_2, TestEngine};
use guard::{Guard, Rules};
use operator::Operator;
use regex::Regex;
use serde_json::{Value, json};

const CALLS: &str = include_str!("../deploy/engine-calls.txt");

/// A file for deployment, and whose calls its proxy allows.
const FILES: [(&str, &str); 2] =
    [("swarm", include_str!("../deploy/stack.yml")), ("docker", include_str!("../deploy/compose.yml"))];

/// What the stories below do not come to: reads where a list or an engine is at fault, and of images behind a login.
const RARE: [&str; 3] = ["GET /tasks/*", "GET /networks/*", "GET /images/**/json"];

/// The calls for a platform: method and path.
fn calls(platform: &str) -> Vec<(&'static str, &'static str)> {
    let lines = CALLS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .filter(|words| {
            assert!(["both", "swarm", "docker"].contains(&words[0]), "{words:?}");
            words[0] == "both" || words[0] == platform
        })
        .map(|words| (words[1], words[2]))
        .collect()
}

/// A path of the list as a pattern.
fn pattern(path: &str) -> String {
    let part = |part| match part {
        "*" => "[^/]+",
        "**" => "[^/.][^/]*(/[^/.][^/]*)*",
        other => other,
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// What a proxy for a platform is told, by method.
fn patterns(platform: &str) -> BTreeMap<&'static str, String> {
    let mut by_method: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (method, path) in calls(platform) {
        by_method.entry(method).or_default().push(pattern(path));
    }
    let joined = |paths: Vec<String>| format!(r"(/v1\.[0-9]+)?({})", paths.join("|"));
    by_method.into_iter().map(|(method, paths)| (method, joined(paths))).collect()
}

/// What the proxy in a file for deployment is told, by method.
fn told(text: &'static str) -> BTreeMap<&'static str, String> {
    let rules = text.lines().filter_map(|line| line.trim().strip_prefix("- '-allow")?.strip_suffix('\''));
    let rules = rules.filter_map(|rule| rule.split_once('='));
    // Folders that may be mounted are no method.
    rules.filter(|(name, _)| *name != "bindmountfrom").map(|(method, rule)| (method, rule.to_owned())).collect()
}

/// As the proxy in the file for a platform understands what it is told.
fn rules(platform: &str) -> Rules {
    let (_, text) = FILES.into_iter().find(|(name, _)| *name == platform).unwrap();
    let whole = |rule: &str| Regex::new(&format!("^(?:{rule})$")).unwrap();
    told(text).iter().map(|(method, rule)| ((*method).to_owned(), whole(rule))).collect()
}

#[test]
fn the_files_for_deployment_allow_exactly_the_calls_in_the_list() {
    for (platform, text) in FILES {
        assert_eq!(told(text), patterns(platform), "{platform}");
        assert!(text.contains("io.openfactory.operator/self: \"true\""), "{platform}");
    }
}

#[test]
fn what_else_an_engine_does_is_refused() {
    for (method, path) in [
        ("POST", "/v1.41/containers/x/exec"),
        ("POST", "/v1.41/containers/create"),
        ("GET", "/v1.41/secrets"),
        ("POST", "/v1.41/swarm/leave"),
        ("DELETE", "/v1.41/nodes/x"),
        ("POST", "/v1.41/nodes/x/update"),
        ("GET", "/v1.41/services/x/logs"),
        ("GET", "/v1.41/distribution/../secrets/json"),
        ("DELETE", "/v1.41/configs/x"),
        ("PUT", "/v1.41/services/create"),
        ("GET", "/v1.41/services/../secrets"),
    ] {
        let rules = rules("swarm");
        assert!(!rules.iter().any(|(allows, rule)| allows == method && rule.is_match(path)), "{method} {path}");
    }
}

/// Every call of the list was made, rare ones aside, and no other.
fn exactly_what_is_listed(guard: &Guard, platform: &str) {
    assert!(guard.refused().is_empty(), "not in the list: {:?}", guard.refused());
    let made = guard.allowed();
    for (method, path) in calls(platform) {
        let call = format!("{method} {path}");
        let pattern = Regex::new(&format!("^{method} {}$", pattern(path))).unwrap();
        let is_made = made.iter().any(|made| pattern.is_match(made));
        assert!(is_made || RARE.contains(&&*call), "{call} is in the list and was never made: {made:#?}");
    }
}

fn manifest(name: &str, image: &str, more: &str) -> String {
    format!(
        "apps:\n  {name}:\n    uuid: {}\n    image: {image}\n    networks: [factory-net, second-net]\n{more}",
        name.to_uppercase()
    )
}

/// A manifest that says of what it finds that it may be taken over.
fn adopted(name: &str) -> String {
    let handling = format!("x-ofop: {{resources: {{app/{}: {{adopt: true}}}}}}\n", name.to_uppercase());
    manifest(name, IDLE_2, "") + &handling
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list.as_array().unwrap().iter().find(|entry| {
        entry["Spec"]["Name"] == name
            || entry["Names"].as_array().is_some_and(|names| names.contains(&json!(format!("/{name}"))))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_are_applied_updated_repaired_and_removed_through_nothing_but_these_calls() {
    let engine = TestEngine::swarm();
    engine.ok("POST", "/networks/create", r#"{"Name":"second-net","Driver":"overlay"}"#);
    let dir = tempfile::tempdir().unwrap();
    let guard = Guard::start(&engine.socket(), dir.path(), rules("swarm"));
    let mut ofop = Operator::new(&guard.host());
    let service = |name: &str| named(&engine.get("/services"), name).cloned().unwrap_or_default();
    // Somebody runs an operator as a service, and a manifest asks for its name.
    let own = json!({"Name": "operator", "Labels": {"io.openfactory.operator/self": "true"},
        "TaskTemplate": {"ContainerSpec": {"Image": IDLE}}});
    engine.ok("POST", "/services/create", &own.to_string());
    let own = service("operator");

    for name in ["press", "mill", "lathe"] {
        ofop.write(&format!("{name}.yml"), &manifest(name, IDLE, ""));
    }
    ofop.write("operator.yml", &adopted("operator"));
    let applied = ofop.run(&["apply", "--wait"]);
    assert!(applied.err.contains("an operator runs in service operator"), "{applied:?}");
    for name in ["press", "mill", "lathe"] {
        assert!(!service(name).is_null(), "{applied:?}");
    }

    ofop.start();
    ofop.settles("app/PRESS");
    ofop.write("press.yml", &manifest("press", IDLE_2, ""));
    ofop.wait("the service is updated", || {
        service("press")["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == IDLE_2
    });
    ofop.settles("app/PRESS");
    let before = service("press")["ID"].clone();
    engine.ok("DELETE", &format!("/services/{}", before.as_str().unwrap()), "");
    ofop.wait("the service is back", || !service("press").is_null() && service("press")["ID"] != before);
    let adopted = ofop.run(&["adopt", "app/OPERATOR"]);
    assert_ne!(adopted.code, Some(0), "{adopted:?}");
    ofop.delete("lathe.yml");
    ofop.wait("the service is gone", || service("lathe").is_null());
    // Where a followed tag points is asked, if in vain: there is no registry.
    ofop.write("mill.yml", &manifest("mill", "127.0.0.1:1/idle:1", "    image_pull_policy: always\n"));
    ofop.wait("it is asked where the tag points", || {
        guard.allowed().iter().any(|call| call.starts_with("GET /distribution/"))
    });
    ofop.delete("operator.yml");
    ofop.wait("the operator's service is nobody's", || ofop.resource("app/OPERATOR").is_null());
    assert_eq!(service("operator"), own, "never touched");
    assert_eq!(ofop.signal("TERM"), Some(0));
    exactly_what_is_listed(&guard, "swarm");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_kept_on_plain_docker_through_nothing_but_these_calls() {
    let engine = TestEngine::plain(&[]);
    engine.import_images();
    for name in ["factory-net", "second-net"] {
        engine.ok("POST", "/networks/create", &json!({"Name": name}).to_string());
    }
    let dir = tempfile::tempdir().unwrap();
    let guard = Guard::start(&engine.socket(), dir.path(), rules("docker"));
    let mut ofop = Operator::new(&guard.host());
    ofop.set("DEPLOYMENT_PLATFORM", "docker");
    let container = |name: &str| named(&engine.get("/containers/json?all=true"), name).cloned().unwrap_or_default();
    let own = json!({"Image": IDLE, "Labels": {"io.openfactory.operator/self": "true"}});
    engine.ok("POST", "/containers/create?name=operator", &own.to_string());
    let own = container("operator")["Id"].clone();

    for name in ["press", "mill", "lathe"] {
        ofop.write(&format!("{name}.yml"), &manifest(name, IDLE, ""));
    }
    ofop.write("operator.yml", &adopted("operator"));
    let applied = ofop.run(&["apply", "--wait"]);
    assert!(applied.err.contains("an operator runs in service operator"), "{applied:?}");

    ofop.start();
    ofop.settles("app/PRESS");
    ofop.write("press.yml", &manifest("press", IDLE_2, ""));
    ofop.wait("the container is replaced", || container("press")["Image"] == IDLE_2);
    ofop.settles("app/PRESS");
    let press = container("press")["Id"].as_str().unwrap().to_owned();
    engine.ok("POST", &format!("/containers/{press}/pause"), "");
    ofop.wait("the container goes on", || container("press")["State"] == "running");
    engine.ok("DELETE", &format!("/containers/{press}?force=true"), "");
    ofop.wait("the container is back", || container("press")["State"] == "running");
    ofop.delete("lathe.yml");
    ofop.wait("the container is gone", || container("lathe").is_null());
    // A pull is tried, if in vain: there is no registry.
    ofop.write("mill.yml", &manifest("mill", "127.0.0.1:1/idle:1", "    image_pull_policy: always\n"));
    ofop.wait("a pull is tried", || guard.allowed().contains("POST /images/create"));
    ofop.delete("operator.yml");
    ofop.wait("the operator's container is nobody's", || ofop.resource("app/OPERATOR").is_null());
    assert_eq!(container("operator")["Id"], own, "never touched");
    assert_eq!(ofop.signal("TERM"), Some(0));
    exactly_what_is_listed(&guard, "docker");
}
