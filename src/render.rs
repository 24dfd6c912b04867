//! What manifests compile to, as `ofop render` prints it.
//!
//! ```json
//! {"resources": [{"resource": "app/SCHEDULER", "origin": {"file": "desired/app_x.yml", "line": 3},
//!   "services": ["the body that the engine receives, less our ownership labels"],
//!   "records": [{"source": "ASSETS_STREAM", "key": "SCHEDULER", "value": {}}]}],
//!  "errors": [{"file": "", "line": 1, "column": 1, "path": "apps.x.image", "message": "", "hint": ""}]}
//! ```
//!
//! `source` is the ksqlDB stream or table whose topic receives the message; `value` is null for a tombstone,
//! times are null, and `key` is null for a command to a coordinator, which is found when it is sent. On the
//! docker platform a service is the body that creates a container, with the name that travels beside it.
//!
//! This is the one output that shows environment values: it prints what the files say, for whoever wrote them. Values of
//! secret variables, which are not in the files, are masked.

use serde_json::{Map, Value, json};

use crate::model::{Desired, DesiredResource, HiddenValues, PlatformKind, Problem, Record, ServiceSpec, Severity};
use crate::platform::{docker, swarm};
use crate::registry::messages;

/// The whole state as one JSON value.
pub fn render(desired: &Desired, platform: PlatformKind) -> Value {
    let errors: Vec<&Problem> = desired.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    json!({
        "resources": desired.resources.values().map(|one| resource(one, platform)).collect::<Vec<_>>(),
        "errors": errors,
    })
}

fn resource(resource: &DesiredResource, platform: PlatformKind) -> Value {
    let services: Vec<Value> = resource.services.iter().map(|service| body(&service.spec, platform)).collect();
    let records: Vec<Value> = resource.records.iter().flat_map(|record| said(record)).collect();
    json!({
        "resource": resource.id,
        "origin": resource.origin,
        "services": services,
        "records": records,
    })
}

fn body(spec: &ServiceSpec, platform: PlatformKind) -> Value {
    match platform {
        PlatformKind::Swarm => swarm::body::create_body(spec, None),
        PlatformKind::Docker => {
            let mut named = Map::from_iter([("Name".to_owned(), json!(spec.name))]);
            if let Value::Object(body) = docker::body::create_body(spec, None) {
                named.extend(body);
            }
            Value::Object(named)
        }
    }
}

fn said(record: &Record) -> Vec<Value> {
    messages::register(record, None, None)
        .into_iter()
        .map(|message| json!({"source": message.source, "key": message.key.known(), "value": message.value}))
        .collect()
}

/// Takes values of secret variables out of the environments of services.
pub fn mask_environments(value: &mut Value, hidden: &HiddenValues) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mask_environments(item, hidden)),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, field)| match field {
            Value::Array(variables) if name == "Env" => {
                for variable in variables {
                    if let Value::String(text) = variable {
                        *text = hidden.mask_environment(text).into_owned();
                    }
                }
            }
            field => mask_environments(field, hidden),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// JSON as a YAML document in block style. Every text is quoted as in JSON, which YAML reads alike, so that
/// nothing depends on how a reader guesses types.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                nested(item, indent + 2, true, out);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (key, field)) in fields.iter().enumerate() {
                // The first field of an object inside a list stands on the line of its dash.
                if index > 0 || !out.ends_with("- ") {
                    out.push_str(&" ".repeat(indent));
                }
                out.push_str(&plain_or_quoted(key));
                out.push(':');
                nested(field, indent + 2, false, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            out.push_str(&" ".repeat(indent));
            out.push_str(&inline(value));
            out.push('\n');
        }
    }
}

/// What follows a dash or a key: on the same line if it is short, below it otherwise.
fn nested(value: &Value, indent: usize, in_list: bool, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push(if in_list { ' ' } else { '\n' });
            block(value, indent, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            out.push(' ');
            out.push_str(&inline(value));
            out.push('\n');
        }
    }
}

/// A value on one line. JSON leaves some characters bare that YAML wants escaped.
fn inline(value: &Value) -> String {
    let json = value.to_string();
    let bare =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if !json.contains(bare) {
        return json;
    }
    json.chars().map(|c| if bare(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// Keys that no YAML reader takes for anything but a text stay bare.
fn plain_or_quoted(key: &str) -> String {
    const WORDS: [&str; 8] = ["y", "n", "yes", "no", "on", "off", "true", "false"];
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && key != "null"
        && !WORDS.iter().any(|word| key.eq_ignore_ascii_case(word))
        && !key.eq_ignore_ascii_case("null");
    if plain { key.to_owned() } else { inline(&Value::from(key)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_holds_what_json_holds() {
        let value = json!({
            "resources": [{"resource": "app/A", "services": [{"Env": ["A=1", "no"], "Labels": {"a b": "x\n"}}]}],
            "errors": [],
            "on": [[1, null], {}],
        });
        assert_eq!(
            yaml(&value),
            concat!(
                "resources:\n",
                "  - resource: \"app/A\"\n",
                "    services:\n",
                "      - Env:\n",
                "          - \"A=1\"\n",
                "          - \"no\"\n",
                "        Labels:\n",
                "          \"a b\": \"x\\n\"\n",
                "errors: []\n",
                "\"on\":\n",
                "  -\n",
                "    - 1\n",
                "    - null\n",
                "  - {}\n",
            )
        );
    }
}
