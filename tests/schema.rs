//! The JSON Schema takes what the reader takes: every recorded input and every shipped manifest that is valid.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use ofop::desired::schema::{Scope, schema};
use ofop::desired::yaml::{self, Data, Node};
use serde_json::{Map, Value, json};

/// A tree as an editor sees it.
fn json_of(node: &Node) -> Value {
    match &node.data {
        Data::Null => Value::Null,
        Data::Bool(value) => json!(value),
        Data::Int(number) => json!(number),
        Data::BigInt(_) => json!(u64::MAX),
        Data::Float(number) => json!(number),
        Data::Text(text) | Data::Timestamp(text) => json!(text),
        Data::List(items) => items.iter().map(json_of).collect(),
        Data::Map(entries) => {
            let entries = entries.iter().map(|entry| {
                let key = match &entry.key.data {
                    Data::Text(text) => text.clone(),
                    other => format!("{other:?}"),
                };
                (key, json_of(&entry.value))
            });
            Value::Object(entries.collect::<Map<_, _>>())
        }
    }
}

fn validator(scope: Scope) -> Validator {
    jsonschema::validator_for(&schema(scope)).unwrap()
}

fn complaints(validator: &Validator, text: &str) -> Vec<String> {
    let node = yaml::read(text).unwrap().unwrap();
    let instance = json_of(&node);
    validator.iter_errors(&instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn what_openfactory_accepts_is_valid() {
    // Non-finite floats have no JSON, and the rest is refused by the reader too.
    const NOT_ACCEPTED: &[&str] = &[
        "yaml/dup-app",
        "yaml/key-alias",
        "yaml/data-top-key",
        "float/cpus='\"1e400\"'",
        "app/set:apps.a.routing.port=int0",
        "ext/set:devices.m.connector.agent.port=p65536",
    ];
    let cases = std::fs::read_to_string("tests/examples/validation.jsonl").unwrap();
    let (apps, devices) = (validator(Scope::Apps), validator(Scope::Devices));
    let mut checked = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let validator = match case["kind"].as_str() {
            Some("apps") => &apps,
            Some("devices") => &devices,
            _ => continue,
        };
        if case["accepted"] != json!(true) || NOT_ACCEPTED.contains(&name) {
            continue;
        }
        let complaints = complaints(validator, case["yaml"].as_str().unwrap());
        assert!(complaints.is_empty(), "{name}: {complaints:#?}");
        checked += 1;
    }
    assert!(checked > 80, "{checked}");
}

fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            manifests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
            && path.file_name().is_some_and(|name| name != "uns.yml")
        {
            found.push(path);
        }
    }
}

#[test]
fn shipped_and_recorded_manifests_are_valid() {
    let mut paths = Vec::new();
    manifests(Path::new("desired"), &mut paths);
    manifests(Path::new("tests/examples/recordings"), &mut paths);
    let validator = validator(Scope::All);
    let mut checked = 0;
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("apps:") && !text.contains("devices:") || path.to_string_lossy().contains("unknown-field") {
            continue;
        }
        let complaints = complaints(&validator, &text);
        assert!(complaints.is_empty(), "{}: {complaints:#?}", path.display());
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn mistakes_are_found() {
    let validator = validator(Scope::All);
    for (text, place) in [
        ("apps: {a: {uuid: 5, image: i}}", "/apps/a/uuid"),
        ("apps: {a: {uuid: A}}", "/apps/a"),
        ("apps: {a: {uuid: A, image: i, enviroment: []}}", "/apps/a"),
        ("apps: {a: {uuid: A, image: i, metrics: {port: 70000}}}", "/apps/a/metrics"),
        ("apps: {a: {uuid: A, image: i, image_pull_policy: never}}", "/apps/a/image_pull_policy"),
        ("apps: {a: {uuid: A, image: i, routing: {expose: maybe}}}", "/apps/a/routing"),
        ("devices: {d: {uuid: D, connector: {type: ouch}}}", "/devices/d/connector"),
        ("app: {}", ""),
        ("apps: {}\nx-ofop: {suspended: true}", "/x-ofop"),
        ("apps: {}\nx-ofop: {ignore: [replica]}", "/x-ofop"),
        ("apps: {}\nx-ofop: {ignore: [limits.disk]}", "/x-ofop"),
        ("apps: {}\nx-ofop: {resources: {app/A: {resources: {}}}}", "/x-ofop"),
    ] {
        let complaints = complaints(&validator, text);
        assert!(complaints.iter().any(|complaint| complaint.starts_with(place)), "{text}: {complaints:?}");
    }
}

#[test]
fn what_a_file_says_to_the_operator_is_valid() {
    let validator = validator(Scope::All);
    for text in [
        "apps: {}\nx-ofop:\nx-other: [1]",
        "apps: {}\nx-ofop: {suspend: yes, prune: false, ignore: [replicas, 'mounts[/data]', limits.cpus, m-agent/image]}",
        "apps: {}\nx-ofop: {resources: {app/A: {suspend: false, ignore: [environment.A, labels.traefik.enable]}}}",
    ] {
        assert_eq!(complaints(&validator, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn every_field_has_a_description_and_defaults_are_said() {
    fn walk(value: &Value, path: &str) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let described = property["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(described, "{path}.{name} has no description");
            }
        }
    }
    let schema = schema(Scope::All);
    let Some(shapes) = schema["$defs"].as_object() else { panic!("no definitions") };
    for (name, shape) in shapes {
        walk(shape, name);
    }
    assert_eq!(schema["$defs"]["deploy"]["properties"]["replicas"]["default"], json!(1));
    assert_eq!(schema["$defs"]["metrics"]["properties"]["path"]["default"], json!("/metrics"));
}

#[test]
fn windows_are_described() {
    let validator = validator(Scope::All);
    let with =
        |settings: &str| complaints(&validator, &format!("apps: {{a: {{uuid: A, image: i}}}}\nx-ofop: {settings}\n"));
    let good = "{allow: 0 22 * * MON-FRI, for: 1d6h, zone: Europe/Berlin}";
    let lists =
        format!("{{repairs: window, windows: [{good}], resources: {{app/A: {{windows: [], repairs: always}}}}}}");
    assert_eq!(with(&lists), [""; 0]);
    for wrong in [
        "{windows: [{allow: 0 22 * * *, for: 6 hours, zone: UTC}]}",
        "{windows: [{allow: 0 22 * * *, zone: UTC}]}",
        "{windows: [{allow: 0 22 * * *, for: 6h}]}",
        "{windows: [{forbid: 0 22 * * *, for: 6h, zone: UTC}]}",
        "{windows: 0 22 * * *}",
        "{repairs: never}",
    ] {
        assert!(!with(wrong).is_empty(), "{wrong}");
    }
}
