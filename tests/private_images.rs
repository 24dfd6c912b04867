//! Images that only exist in a registry behind a password, on a real engine: Docker Swarm and plain containers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/image_registry.rs"]
mod image_registry;
#[path = "support/operator.rs"]
mod operator;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use engine::{IDLE, IDLE_2, TestEngine};
use image_registry::{ADDRESS, ImageRegistry, PASSWORD, USER, login};
use operator::{Operator, Ran};
use serde_json::{Value, json};

const TAG: &str = "app:1";
const WRONG: &str = "not the password";

fn manifest(policy: &str) -> String {
    format!(
        "apps:\n  press:\n    uuid: PRESS\n    image: {ADDRESS}/{TAG}\n    image_pull_policy: {policy}\n    \
         networks: [factory-net]\n"
    )
}

/// Pushes an image, and takes it from the engine under every name that could run.
fn push_away(engine: &TestEngine, registry: &ImageRegistry, image: &str) -> String {
    let digest = registry.push(image, TAG);
    for name in [format!("{ADDRESS}/{TAG}"), image.to_owned()] {
        engine.ok("DELETE", &format!("/images/{name}?force=true"), "");
    }
    assert!(!engine.get("/images/json").to_string().contains(ADDRESS), "the registry alone has it");
    digest
}

/// An operator whose `DOCKER_CONFIG` is a folder of its own.
fn operator(engine: &TestEngine, settings: &str) -> Operator {
    let mut ofop = Operator::new(&engine.host());
    let docker = config(&ofop);
    std::fs::create_dir(docker.parent().unwrap()).unwrap();
    ofop.set("DOCKER_CONFIG", docker.parent().unwrap().to_str().unwrap());
    std::fs::write(ofop.folder().join(".ofaenv"), settings).unwrap();
    ofop
}

fn config(ofop: &Operator) -> PathBuf {
    ofop.folder().join("docker").join("config.json")
}

fn write_config(ofop: &Operator, text: &str) {
    std::fs::write(config(ofop), text).unwrap();
}

/// Nothing of a password is in a text, as it is or as it is sent.
fn says_no_secret(text: &str) {
    for password in [PASSWORD, WRONG] {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{password}"));
        for secret in [password, encoded.as_str(), "eyJ1c2VybmFtZSI6"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

fn said(ran: &Ran) -> String {
    let text = format!("{}{}", ran.out, ran.err);
    says_no_secret(&text);
    text
}

fn services(engine: &TestEngine) -> Vec<Value> {
    engine.get("/services").as_array().unwrap().clone()
}

/// Ids of the containers that run, of one service or of none.
fn containers(engine: &TestEngine) -> Vec<String> {
    let found = engine.get("/containers/json");
    found.as_array().unwrap().iter().map(|container| container["Id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_image_behind_a_password_is_deployed_with_what_docker_login_keeps() {
    let engine = TestEngine::swarm();
    let registry = ImageRegistry::protected(&engine);
    push_away(&engine, &registry, IDLE_2);
    let ofop = operator(&engine, "");
    ofop.write("app.yml", &manifest("missing"));

    // Nobody creates what no node could run.
    write_config(&ofop, &login(WRONG));
    let ran = ofop.run(&["apply"]);
    let text = said(&ran);
    assert_eq!(ran.code, Some(3), "{text}");
    let file = config(&ofop);
    let words =
        format!("{ADDRESS} refuses the credentials for it in {}: `docker login {ADDRESS}` again", file.display());
    assert!(text.contains(&words) && text.contains("unauthorized"), "{text}");
    assert_eq!(services(&engine), Vec::<Value>::new());

    write_config(&ofop, &login(PASSWORD));
    let ran = ofop.run(&["apply", "--wait"]);
    assert_eq!(ran.code, Some(0), "{}", said(&ran));
    let first = containers(&engine);
    assert_eq!(first.len(), 1);

    // Credentials are nothing that could differ, and others alone restart nothing.
    let version = services(&engine)[0]["Version"].clone();
    for config in [login(WRONG), "{}".to_owned(), login(PASSWORD)] {
        write_config(&ofop, &config);
        let ran = ofop.run(&["plan"]);
        assert_eq!(ran.code, Some(0), "{}", said(&ran));
    }
    assert_eq!(services(&engine)[0]["Version"], version);
    // Those that are refused are in the way of nothing that needs no pull.
    let id = services(&engine)[0]["ID"].as_str().unwrap().to_owned();
    let without_mark = || engine.edit_service(&id, |spec| spec["Labels"] = json!({}));
    engine.ok("DELETE", &format!("/images/{ADDRESS}/{TAG}?force=true"), "");
    write_config(&ofop, &login(WRONG));
    without_mark();
    let ran = ofop.run(&["apply", "--wait"]);
    assert_eq!(ran.code, Some(0), "{}", said(&ran));
    // Others go with an update of something else: here a mark that somebody took away.
    let mut others: Value = serde_json::from_str(&login(PASSWORD)).unwrap();
    others["auths"][ADDRESS]["registrytoken"] = "another".into();
    write_config(&ofop, &others.to_string());
    without_mark();
    let ran = ofop.run(&["apply", "--wait"]);
    assert_eq!(ran.code, Some(0), "{}", said(&ran));
    assert_ne!(services(&engine)[0]["Spec"]["Labels"], json!({}), "the mark is back");
    // A restart would have begun by now: the engine itself scales the service, which it does in order.
    engine.edit_service(&id, |spec| spec["Mode"]["Replicated"]["Replicas"] = 2.into());
    engine.wait("a second task runs", || containers(&engine).len() == 2);
    assert!(containers(&engine).contains(&first[0]));
}

#[test]
fn a_service_that_was_made_before_the_login_is_given_credentials_once_by_hand() {
    let engine = TestEngine::swarm();
    let registry = ImageRegistry::protected(&engine);
    push_away(&engine, &registry, IDLE_2);
    let ofop = operator(&engine, "");
    ofop.write("app.yml", &manifest("missing"));
    // That nobody logged in may be meant: nodes may have the image already.
    let ran = ofop.run(&["apply"]);
    assert_eq!(ran.code, Some(0), "{}", said(&ran));
    // Engines up to 28 say `No such image`, those from 29 on `failed to resolve reference`, or what the registry says.
    ofop.wait("no image is what is said", || said(&ofop.run(&["describe", "app/PRESS"])).contains("ImageMissing"));

    write_config(&ofop, &login(PASSWORD));
    let update = ["-H", &engine.host(), "service", "update", "--detach", "--with-registry-auth", "press"];
    let docker = Command::new("docker").args(update).env("DOCKER_CONFIG", config(&ofop).parent().unwrap()).output();
    assert!(docker.unwrap().status.success());
    let ran = ofop.run(&["apply", "--wait"]);
    assert_eq!(ran.code, Some(0), "{}", said(&ran));
    assert_eq!(containers(&engine).len(), 1);
    assert_eq!(ofop.run(&["plan"]).code, Some(0));
}

#[test]
fn a_followed_tag_is_looked_up_with_credentials_and_a_daemon_takes_new_ones_as_they_come() {
    let engine = TestEngine::swarm();
    let registry = ImageRegistry::protected(&engine);
    let first = push_away(&engine, &registry, IDLE_2);
    let mut ofop = operator(&engine, "OFOP_FOLLOW_INTERVAL=200ms\n");
    ofop.write("app.yml", &manifest("always"));
    let image = || {
        let services = services(&engine);
        let image = services
            .first()
            .and_then(|service| service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().map(str::to_owned));
        image.unwrap_or_default()
    };

    write_config(&ofop, &login(WRONG));
    ofop.start();
    ofop.wait("the resource says why", || {
        let resource = ofop.resource("app/PRESS").to_string();
        says_no_secret(&resource);
        resource.contains("TagUnresolved") && resource.contains("refuses the credentials for it in")
    });
    let events = || ofop.run(&["events", "-o", "json"]);
    ofop.wait("the step fails", || said(&events()).contains("refuses the credentials for it in"));
    assert_eq!(image(), "");

    write_config(&ofop, &login(PASSWORD));
    ofop.settles("app/PRESS");
    ofop.wait("the image is pinned", || image() == format!("{ADDRESS}/{TAG}@{first}"));
    let second = registry.push(IDLE, TAG);
    ofop.wait("the tag is followed", || image() == format!("{ADDRESS}/{TAG}@{second}"));
    ofop.settles("app/PRESS");
    for command in [&["describe", "app/PRESS"][..], &["get", "all"]] {
        said(&ofop.run(command));
    }
    said(&events());
    assert_eq!(ofop.signal("TERM"), Some(0));
    says_no_secret(&ofop.log());
}

#[test]
fn plain_containers_get_private_images_with_what_a_helper_keeps() {
    let engine = TestEngine::swarm();
    let registry = ImageRegistry::protected(&engine);
    push_away(&engine, &registry, IDLE_2);
    let mut ofop = operator(&engine, "DEPLOYMENT_PLATFORM=docker\n");
    ofop.write("app.yml", &manifest("missing"));

    // Without any.
    let ran = ofop.run(&["apply"]);
    let text = said(&ran);
    assert_eq!(ran.code, Some(3), "{text}");
    assert!(text.contains(&format!("holds no credentials for {ADDRESS}")), "{text}");

    // With a helper that is not there.
    write_config(&ofop, &json!({"credHelpers": {ADDRESS: "ofop-test"}}).to_string());
    let ran = ofop.run(&["apply"]);
    let text = said(&ran);
    assert_eq!(ran.code, Some(3), "{text}");
    assert!(text.contains("docker-credential-ofop-test cannot be run"), "{text}");

    // With one that knows a password, first the wrong one.
    let programs = ofop.folder().join("programs");
    std::fs::create_dir(&programs).unwrap();
    ofop.set("PATH", &format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    let helper = programs.join("docker-credential-ofop-test");
    let knows = |password: &str| {
        let answer = json!({"ServerURL": ADDRESS, "Username": USER, "Secret": password});
        let text = format!("#!/bin/sh\nread -r server\n[ \"$1 $server\" = 'get {ADDRESS}' ] && echo '{answer}'\n");
        std::fs::write(&helper, text).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    knows(WRONG);
    let ran = ofop.run(&["apply"]);
    let text = said(&ran);
    assert_eq!(ran.code, Some(3), "{text}");
    assert!(text.contains(&format!("{ADDRESS} refuses the credentials")), "{text}");
    assert_eq!(containers(&engine), Vec::<String>::new());

    knows(PASSWORD);
    let ran = ofop.run(&["apply", "--wait"]);
    assert_eq!(ran.code, Some(0), "{}", said(&ran));
    assert_eq!(containers(&engine).len(), 1);
}
