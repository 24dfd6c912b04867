//! The recordings and what we render, in one normal form: everything that means the same is the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Facts about one object by name of the fact: a service's fields, a message's value.
pub(crate) type Facts = BTreeMap<String, Value>;

/// The agent's configuration is of our own writing.
const AGENT_CONFIG: &str = "AGENT_CFG_FILE";

/// Swarm services by name.
pub(crate) fn services(bodies: &[Value]) -> BTreeMap<String, Facts> {
    bodies.iter().map(|body| (text(&body["Name"]), service(body))).collect()
}

fn service(body: &Value) -> Facts {
    let template = &body["TaskTemplate"];
    let container = &template["ContainerSpec"];
    let mut facts = Facts::new();
    let mut put = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    put("image", container["Image"].clone());
    put("command", list(&container["Command"]));
    put("args", list(&container["Args"]));
    put("env", env(&container["Env"]));
    put("user", container["User"].clone());
    put("labels", object(&body["Labels"]));
    put("container labels", object(&container["Labels"]));
    put("mounts", mounts(&container["Mounts"]));
    put("ulimits", list(&container["Ulimits"]));
    put("limits", object(&template["Resources"]["Limits"]));
    put("reservations", object(&template["Resources"]["Reservations"]));
    put("constraints", list(&template["Placement"]["Constraints"]));
    put("networks", list(&template["Networks"]));
    put("mode", body["Mode"].clone());
    put("ports", list(&body["EndpointSpec"]["Ports"]));
    facts
}

/// Containers by name, from pairs of name and body.
pub(crate) fn containers(bodies: impl IntoIterator<Item = (String, Value)>) -> BTreeMap<String, Facts> {
    bodies.into_iter().map(|(name, body)| (name, container(&body))).collect()
}

fn container(body: &Value) -> Facts {
    let host = &body["HostConfig"];
    let mut facts = Facts::new();
    let mut put = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    put("image", body["Image"].clone());
    put("entrypoint", list(&body["Entrypoint"]));
    put("command", list(&body["Cmd"]));
    put("env", env(&body["Env"]));
    put("user", body["User"].clone());
    put("labels", object(&body["Labels"]));
    put("network", host["NetworkMode"].clone());
    put("mounts", mounts(&host["Mounts"]));
    put("ulimits", list(&host["Ulimits"]));
    put("cpus", host["NanoCpus"].clone());
    put("memory", host["Memory"].clone());
    put("ports", object(&host["PortBindings"]));
    facts
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Absent, null and empty mean the same.
fn list(value: &Value) -> Value {
    if value.is_null() { json!([]) } else { value.clone() }
}

fn object(value: &Value) -> Value {
    if value.is_null() { json!({}) } else { value.clone() }
}

fn env(value: &Value) -> Value {
    let variables = value.as_array().cloned().unwrap_or_default();
    let blind = |variable: &Value| {
        let variable = text(variable);
        match variable.split_once('=') {
            Some((AGENT_CONFIG, content)) if !content.is_empty() => json!(AGENT_CONFIG),
            _ => json!(variable),
        }
    };
    variables.iter().map(blind).collect()
}

fn mounts(value: &Value) -> Value {
    let mut mounts = value.as_array().cloned().unwrap_or_default();
    for mount in mounts.iter_mut().filter_map(Value::as_object_mut) {
        mount.retain(|key, value| !(value.is_null() || key == "ReadOnly" && *value == json!(false)));
    }
    Value::Array(mounts)
}

/// Messages by source, key and attribute: the last one counts.
#[derive(Debug, Default)]
pub(crate) struct Messages(pub(crate) BTreeMap<String, Value>);

/// The device that a command is about: a command bears no key until its coordinator is known.
fn device_of(command: &Value) -> String {
    let arguments = &command["arguments"];
    let config: Option<Value> = arguments["device_config"].as_str().map(|json| serde_json::from_str(json).unwrap());
    text(&config.map_or_else(|| arguments["device_uuid"].clone(), |config| config["uuid"].clone()))
}

impl Messages {
    pub(crate) fn add(&mut self, source: &str, key: Option<&str>, value: &Value) {
        let mut value = value.clone();
        forget_times(&mut value);
        let id = text(&value["ID"]);
        let key = match id.ends_with("_CMD") {
            true => format!("(coordinator of {})", device_of(&value["VALUE"])),
            false => key.unwrap_or_default().to_owned(),
        };
        self.0.insert(format!("{source} {key} {id}").trim_end().to_owned(), value);
    }

    /// The messages that a recording holds, Kafka's and those that went through ksqlDB's `INSERT`.
    pub(crate) fn recorded(kafka: &[Value], ksql: &[Value]) -> Self {
        let mut messages = Messages::default();
        for message in kafka {
            let value = match &message["value"] {
                Value::String(json) => serde_json::from_str(json).unwrap(),
                other => other.clone(),
            };
            messages.add(source_of(&text(&message["topic"])), message["key"].as_str(), &value);
        }
        for statement in ksql {
            if let Some((device, config)) = inserted(&text(&statement["sql"])) {
                messages.add("DEVICE_CONNECTOR_SOURCE", Some(&device), &json!({"CONNECTOR_CONFIG": config}));
            }
        }
        messages
    }
}

/// The source behind a topic, as the registry that was recorded had it.
fn source_of(topic: &str) -> &'static str {
    match topic {
        "ofa_assets" => "ASSETS_STREAM",
        "assets_types_topic" => "ASSETS_TYPE",
        "assets_avail_topic" => "ASSETS_AVAIL",
        "docker_services_topic" => "DOCKER_SERVICES",
        "asset_to_uns_map_topic" => "ASSET_TO_UNS_MAP_RAW",
        "device_connector_topic" => "DEVICE_CONNECTOR_SOURCE",
        "metrics_targets_topic" => "METRICS_TARGETS_SOURCE",
        other => panic!("a topic that nothing is known of: {other}"),
    }
}

/// Key and value of `INSERT INTO DEVICE_CONNECTOR_SOURCE (…) VALUES ('key', 'value');`.
fn inserted(sql: &str) -> Option<(String, String)> {
    let values = sql.split_once("INSERT INTO DEVICE_CONNECTOR_SOURCE")?.1.split_once("VALUES ('")?.1;
    let (key, rest) = values.split_once("', '")?;
    let config = rest.trim_end().strip_suffix("');")?;
    Some((key.replace("''", "'"), config.replace("''", "'")))
}

/// Times and correlation ids differ from run to run; commands carry them inside a JSON text.
fn forget_times(value: &mut Value) {
    match value {
        Value::Object(fields) => forget_in(fields),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn forget_in(fields: &mut Map<String, Value>) {
    let is_command = fields.get("ID").is_some_and(|id| text(id).ends_with("_CMD"));
    for (name, field) in fields.iter_mut() {
        match name.as_str() {
            "timestamp" | "UPDATED_AT" | "updated_at" | "correlation_id" => *field = Value::Null,
            "VALUE" if is_command => {
                let mut command: Value = serde_json::from_str(&text(field)).unwrap();
                forget_times(&mut command);
                *field = command;
            }
            _ => forget_times(field),
        }
    }
}
