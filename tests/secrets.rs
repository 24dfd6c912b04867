//! What an engine says of values that it was given is shown to nobody: the real program on a real engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/operator.rs"]
mod operator;

use engine::{IDLE, TestEngine};
use operator::Operator;

/// A template that can be parsed and not be filled in, which only the engine finds out, with what Go's `fmt` rewrites.
const REFUSED: &str = "hunter2-sentinel {{index \"sentinel\" 99}} 100%-Gsentinel %Sentinel";

fn manifest(name: &str, value: &str) -> String {
    format!(
        "apps:\n  {name}:\n    uuid: {}\n    image: {IDLE}\n    environment:\n      - 'MASK={value}'\n    networks: \
         [factory-net]\n",
        name.to_uppercase()
    )
}

#[test]
fn what_the_engine_quotes_of_a_value_is_shown_nowhere() {
    let engine = TestEngine::swarm();
    let mut ofop = Operator::new(&engine.host());
    ofop.write("old.yml", &manifest("old", "plain"));
    ofop.start();
    ofop.settles("app/OLD");

    // Refused as a new service, and as an update of one.
    ofop.write("new.yml", &manifest("new", REFUSED));
    ofop.write("old.yml", &manifest("old", REFUSED));
    let refused = |id: &str| ofop.try_get(&format!("/api/v1/resources/{id}")).unwrap_or_default();
    for id in ["app/NEW", "app/OLD"] {
        ofop.wait("the refusal is shown", || refused(id).contains("expanding env"));
    }

    let mut shown = vec![ofop.log(), refused("app/NEW"), refused("app/OLD")];
    for path in ["/", "/resources/app/NEW", "/app/NEW", "/metrics", "/api/v1/resources", "/api/v1/plan"] {
        shown.extend(ofop.try_get(path));
    }
    for arguments in [
        &["plan"][..],
        &["plan", "-o", "json"],
        &["apply"],
        &["get", "all", "-o", "wide"],
        &["get", "all", "-o", "json"],
        &["describe", "app/NEW"],
        &["describe", "app/OLD"],
        &["events"],
        &["events", "-o", "json"],
        &["reconcile"],
    ] {
        let ran = ofop.run(arguments);
        shown.extend([ran.out, ran.err]);
    }
    for text in &shown {
        assert!(!text.to_lowercase().contains("sentinel") && !text.contains("hunter2"), "{text}");
    }
    assert!(shown.iter().any(|text| text.contains("MASK=<hidden>")), "the variable is named: {shown:?}");
    assert_eq!(ofop.signal("TERM"), Some(0));
}

#[test]
fn a_secret_variable_is_shown_nowhere_whatever_the_engine_says_of_it() {
    let engine = TestEngine::swarm();
    let mut ofop = Operator::new(&engine.host());
    std::fs::write(ofop.folder().join(".ofaenv"), "LINE_SECRET=hunter2sentinel\n").unwrap();
    // The engine has no such image, no such network and no such node.
    ofop.write("image.yml", "apps: {image: {uuid: IMAGE, image: 'nowhere.invalid/press:${LINE_SECRET}'}}\n");
    ofop.write(
        "net.yml",
        &format!("apps: {{net: {{uuid: NET, image: {IDLE}, networks: ['net-${{LINE_SECRET}}']}}}}\n"),
    );
    let constraint = "deploy: {placement: {constraints: ['node.labels.line == ${LINE_SECRET}']}}";
    ofop.write("node.yml", &format!("apps: {{node: {{uuid: NODE, image: {IDLE}, {constraint}}}}}\n"));
    ofop.start();
    let resource = |id: &str| ofop.try_get(&format!("/api/v1/resources/{id}")).unwrap_or_default();
    ofop.wait("the image is shown", || resource("app/IMAGE").contains("press:(hidden)"));
    ofop.wait("the network is missed", || resource("app/NET").contains("net-(hidden)"));
    ofop.wait("no node fits", || resource("app/NODE").contains("no suitable node"));
    let mut shown = vec![ofop.log()];
    for path in [
        "/",
        "/resources/app/IMAGE",
        "/resources/app/NET",
        "/resources/app/NODE",
        "/metrics",
        "/api/v1/resources",
        "/api/v1/plan",
        "/api/v1/events",
    ] {
        shown.push(ofop.try_get(path).unwrap());
    }
    for arguments in [
        &["plan"][..],
        &["plan", "-o", "json"],
        &["plan", "-o", "markdown"],
        &["validate"],
        &["render"],
        &["render", "-o", "json"],
        &["get", "all", "-o", "wide"],
        &["get", "all", "-o", "json"],
        &["get", "all", "-o", "yaml"],
        &["describe", "app/IMAGE"],
        &["describe", "app/NODE"],
        &["events"],
        &["events", "-o", "json"],
    ] {
        let ran = ofop.run(arguments);
        shown.extend([ran.out, ran.err]);
    }
    shown.push(ofop.log());
    for text in &shown {
        assert!(!text.contains("sentinel"), "{text}");
    }
    assert_eq!(ofop.signal("TERM"), Some(0));
}

#[test]
fn templates_that_swarm_cannot_fill_in_are_refused_without_an_engine() {
    let ofop = Operator::new("unix:///nowhere.sock");
    for (value, valid) in [
        ("{{.Task.Slot}} of {{.Service.Name}}", true),
        ("{{\"{{\"}} .Extension }}", true),
        ("{{ .Extension }}-%Y", false),
        ("ab{{+cd", false),
        ("{{Kirsch", false),
        ("{{env \"HOME\"}}", false),
    ] {
        ofop.write("app.yml", &manifest("press", value));
        let ran = ofop.run(&["validate"]);
        assert_eq!(ran.code == Some(0), valid, "{value}: {}{}", ran.out, ran.err);
        if !valid {
            assert!(
                ran.out.contains("app.yml:2") && ran.out.contains("MASK") && ran.out.contains("{{\"{{\"}}"),
                "{}",
                ran.out
            );
            assert!(!ran.out.contains("Extension") && !ran.out.contains("Kirsch"), "{}", ran.out);
        }
        // Plain Docker takes a value as it is.
        let ran = ofop.run(&["validate", "--platform", "docker"]);
        assert_eq!(ran.code, Some(0), "{value}: {}{}", ran.out, ran.err);
    }
}
