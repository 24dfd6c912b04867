//! The value of a secret variable is shown by nothing, wherever a manifest puts it.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ofop::compile::Compiler;
use ofop::desired::{ParseContext, ParsedTree, parse};
use ofop::model::{HiddenValues, PlatformKind, Settings};
use ofop::render;
use proptest::prelude::*;
use serde_json::Value;

/// Every kind of text that a manifest has.
const MANIFEST: &str = "\
apps:
  press:
    uuid: PRESS
    image: plant/press:r${TAG_SECRET}
    environment:
      - 'A=${TEXT_SECRET}'
      - 'B=x${TAG_SECRET}y'
    networks: ['${TEXT_SECRET}']
    routing: {expose: true, port: 80, hostname: '${TAG_SECRET}'}
    storage: {data: {type: nfs, server: nas, remote_path: '/x/${TAG_SECRET}', mount_point: /data}}
    deploy: {placement: {constraints: ['node.labels.line == ${TAG_SECRET}']}}
devices:
  plc:
    uuid: PLC
    connector:
      type: opcua
      server: {uri: 'opc.tcp://me:${TEXT_SECRET}@plc:4840'}
      variables: {Temp: {node_id: 'ns=3;s=${TEXT_SECRET}', tag: '${TAG_SECRET}'}}
";

/// What everything that prints this manifest prints, before and after it is masked.
struct Shown {
    valid: bool,
    plain: Vec<String>,
    masked: Vec<String>,
}

fn show(text: &str, variables: &[(&str, &str)]) -> Shown {
    let hidden = HiddenValues::default();
    let all: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let context = ParseContext {
        secret: Arc::new(all.keys().cloned().collect::<BTreeSet<_>>()),
        variables: Arc::new(all),
        hidden: hidden.clone(),
        ..ParseContext::new(PlatformKind::Swarm)
    };
    let parsed = parse(&"plant.yml".into(), text, [0; 32], &context);
    let valid = parsed.manifest.is_some();
    let mut plain: Vec<String> = parsed.problems.iter().map(|problem| format!("{problem} {problem:?}")).collect();
    plain.push(serde_json::to_string(&parsed.problems).unwrap());
    let tree = ParsedTree { files: vec![parsed], ..ParsedTree::default() };
    let desired = Compiler::new(Settings::default()).compile(&tree);
    plain.push(format!("{:?}", desired.problems));
    let mut rendered = render::render(&desired, PlatformKind::Swarm);
    plain.push(rendered.to_string());
    render::mask_environments(&mut rendered, &hidden);
    let shown = [render::yaml(&rendered), rendered.to_string(), serde_json::to_string_pretty(&rendered).unwrap()];
    let masked = plain[..plain.len() - 1].iter().chain(&shown).map(|text| hidden.mask(text).into_owned()).collect();
    Shown { valid, plain, masked }
}

/// Every text in a JSON document, keys included; the document itself when it is none.
fn texts(document: &str) -> Vec<String> {
    fn walk(value: Value, texts: &mut Vec<String>) {
        match value {
            Value::String(text) => texts.push(text),
            Value::Array(items) => items.into_iter().for_each(|item| walk(item, texts)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    texts.push(name);
                    walk(field, texts);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut texts = vec![document.to_owned()];
    if let Ok(value) = serde_json::from_str(document) {
        walk(value, &mut texts);
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_value_of_a_secret_variable_is_in_any_output(text in "[ -~\u{e4}\u{20ac}]{6,24}", tag in "[a-z0-9]{6,16}") {
        let value = text.trim();
        prop_assume!(value.chars().count() >= 6 && !"(hidden)".contains(value) && !MANIFEST.contains(value));
        let shown = show(MANIFEST, &[("TEXT_SECRET", &text), ("TAG_SECRET", &tag)]);
        let escaped = serde_json::to_string(value).unwrap();
        let escaped = &escaped[1..escaped.len() - 1];
        for document in &shown.masked[shown.masked.len() - 2..] {
            prop_assert!(serde_json::from_str::<Value>(document).is_ok(), "JSON stays JSON: {document}");
        }
        for text in shown.masked.iter().flat_map(|document| texts(document)) {
            prop_assert!(!text.contains(value) && !text.contains(escaped), "{value:?} in {text}");
            prop_assert!(!text.to_lowercase().contains(&tag), "{tag:?} in {text}");
        }
    }
}

#[test]
fn a_secret_is_hidden_where_it_lands_and_what_it_leaves_is_the_same() {
    let shown = show(MANIFEST, &[("TEXT_SECRET", "hunter2-sentinel"), ("TAG_SECRET", "tag2sentinel")]);
    assert!(shown.valid, "{:?}", shown.plain);
    let (plain, masked) = (shown.plain.last().unwrap(), &shown.masked[shown.masked.len() - 2]);
    assert!(plain.contains("plant/press:rtag2sentinel") && plain.contains("A=hunter2-sentinel"), "{plain}");
    for text in ["plant/press:r(hidden)", "A=(hidden)", "B=x(hidden)y", "opc.tcp://me:(hidden)@plc:4840"] {
        assert!(masked.contains(text), "{text} in {masked}");
    }
    let hidden_again = plain.replace("hunter2-sentinel", "(hidden)").replace("tag2sentinel", "(hidden)");
    assert_eq!(&hidden_again, masked);
}

#[test]
fn a_secret_in_a_name_or_a_number_is_refused() {
    let app = |fields: &str| format!("apps:\n  press:\n    uuid: PRESS\n    image: plant/press:1\n{fields}");
    for (text, value, place) in [
        (app("").replace("PRESS", "${X}"), "hunter2", "apps.press.uuid"),
        (app("").replace("PRESS", "P-${X}"), "hunter2", "apps.press.uuid"),
        (app("").replace("  press:", "  ${X}:"), "hunter2", "apps"),
        (app("    routing: {expose: true, port: ${X}}\n"), "48213", "apps.press.routing.port"),
        (app("    deploy: {replicas: ${X}}\n"), "48213", "apps.press.deploy.replicas"),
        (app("    storage: ${X}\n"), "{data: {type: nfs, mount_point: 48213}}", "apps.press.storage"),
    ] {
        let shown = show(&text, &[("X", value)]);
        let told = shown.plain.iter().find(|text| text.contains("`X` is a secret")).unwrap_or_else(|| panic!("{text}"));
        assert!(!shown.valid && told.contains(place), "{told}");
        assert!(shown.masked.iter().all(|shown| !shown.contains(value)), "{:?}", shown.masked);
    }
    assert!(show(&app("    # ${X}\n"), &[("X", "hunter2")]).valid, "a comment is nothing");
}

/// `ofop` in this folder: exit code, standard output, standard error.
fn ofop(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ofop"));
    command.args(arguments).current_dir(folder).env_clear().envs(environment.iter().copied());
    let output = command.env("DOCKER_HOST", "unix:///nowhere.sock").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_shows_a_secret_when_a_person_asks_and_never_else() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        ".ofaenv",
        "LINE_PASSWORD=hunter2sentinel\nMQ_URL=amqp://me:${LINE_PASSWORD}@mq\nPIN=tag2sentinel\nNET=factory-net\n\
         OFOP_SECRET_VARIABLES=PIN,NOTHING_*\n",
    );
    write(
        "app.yml",
        "apps:\n  press:\n    uuid: PRESS\n    image: plant/press:${LINE_PASSWORD}\n    networks: ['${NET}']\n    \
         environment: ['MQ=${MQ_URL}', 'PIN=${PIN}']\n    deploy: {placement: {constraints: ['node.labels.x == ${PIN}']}}\n",
    );
    let secret = |text: &str| text.contains("sentinel") || text.contains("amqp");
    for arguments in [
        &["validate", ".", "-vv"][..],
        &["render", ".", "-vv"],
        &["render", ".", "-o", "json", "-vv", "--log-format", "json"],
        &["plan", "--desired", ".", "-vv"],
        &["apply", "--desired", ".", "-vv"],
    ] {
        let (_, out, error) = ofop(folder.path(), arguments, &[]);
        assert!(!secret(&out) && !secret(&error), "{arguments:?}: {out}{error}");
    }
    let (code, out, error) = ofop(folder.path(), &["render", "."], &[]);
    assert!(code == Some(0) && out.contains("plant/press:(hidden)") && out.contains("factory-net"), "{out}{error}");
    let (_, out, _) = ofop(folder.path(), &["render", ".", "--show-secrets"], &[]);
    for value in ["plant/press:hunter2sentinel", "amqp://me:hunter2sentinel@mq", "tag2sentinel"] {
        assert!(out.contains(value), "{value}: {out}");
    }
    // In an error too, whoever quotes it.
    write("bad.yml", "apps: {bad: {uuid: BAD, image: 'plant/${LINE_PASSWORD}:a b', networks: ['${PIN}', '${PIN}']}}\n");
    let (code, out, error) = ofop(folder.path(), &["validate", ".", "-vv"], &[]);
    assert!(code == Some(2) && out.contains("apps.bad.image"), "{out}{error}");
    assert!(!secret(&out) && !secret(&error), "{out}{error}");
}

#[test]
fn a_list_narrows_what_of_the_process_manifests_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(".ofaenv", "IN_FILE=1\n");
    write(
        "app.yml",
        "apps: {press: {uuid: PRESS, image: 'x:${TAG}', environment: ['A=${LINE_7}', 'B=${IN_FILE}', 'C=${NO:-1}']}}\n",
    );
    let of_process = [("TAG", "1"), ("LINE_7", "north")];
    assert_eq!(ofop(folder.path(), &["validate", "."], &of_process).0, Some(0));
    let listed = |list| [&of_process[..], &[("OFOP_MANIFEST_VARIABLES", list)]].concat();
    assert_eq!(ofop(folder.path(), &["validate", "."], &listed("LINE_*, TAG")).0, Some(0));
    let (code, out, _) = ofop(folder.path(), &["validate", "."], &listed("LINE_*"));
    assert_eq!(code, Some(2));
    assert!(
        out.contains("`TAG` is not one of the variables") && out.contains("add `TAG` to OFOP_MANIFEST_VARIABLES"),
        "{out}"
    );
    assert!(!out.contains("`LINE_7`") && !out.contains("`IN_FILE`"), "{out}");
    let (code, _, error) = ofop(folder.path(), &["validate", "."], &listed("LINE_*,a-b"));
    assert!(code == Some(2) && error.contains("OFOP_MANIFEST_VARIABLES: `a-b` is no name of a variable"), "{error}");
    // A list gives no credential away.
    let (code, out, _) =
        ofop(folder.path(), &["validate", "."], &[&listed("*")[..], &[("GITHUB_TOKEN", "x")]].concat());
    assert_eq!(code, Some(0), "{out}");
    write("app.yml", "apps: {press: {uuid: PRESS, image: 'x:${GITHUB_TOKEN}'}}\n");
    let (code, out, _) =
        ofop(folder.path(), &["validate", "."], &[&listed("*")[..], &[("GITHUB_TOKEN", "x")]].concat());
    assert!(code == Some(2) && out.contains("is a credential"), "{out}");
}
