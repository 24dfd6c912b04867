//! Environment variables, in OpenFactory's order.

use std::fmt::Write as _;

use crate::desired::manifest::{App, Storage};
use crate::model::service::EnvVar;
use crate::model::{ServiceName, Settings};

/// Where `APP_UUID` stands: OpenFactory puts it first, except for the replicas of an app on plain Docker,
/// where it takes it out of the list and adds each replica's own at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UuidPosition {
    First,
    Last,
}

/// What every container of an app gets, less what Swarm adds.
pub(super) fn app(
    app: &App,
    uuid: &str,
    position: UuidPosition,
    service: &ServiceName,
    settings: &Settings,
) -> Vec<EnvVar> {
    let mut env = Vec::with_capacity(16 + app.environment.len());
    let app_uuid = EnvVar::new("APP_UUID", uuid);
    if position == UuidPosition::First {
        env.push(app_uuid.clone());
    }
    env.push(EnvVar::new("KAFKA_BROKER", &settings.kafka_broker));
    env.push(EnvVar::new("KSQLDB_URL", settings.ksqldb_url.trim_end_matches('/')));
    env.push(EnvVar::new("ASSET_ROUTER_URL", &settings.asset_router_url));
    env.push(EnvVar::new("DOCKER_SERVICE", service.as_str()));
    if let Some(backend) = &settings.log_backend {
        env.push(EnvVar::new("OPENFACTORY_LOG_BACKEND", backend));
    }
    if let Some(directory) = &settings.text_log_directory {
        env.push(EnvVar::new("OPENFACTORY_TEXT_LOG_DIRECTORY", directory));
    }
    if let Some(routing) = &app.routing {
        if let Some(port) = routing.port {
            env.push(EnvVar::new("PORT", port.to_string()));
        }
        if settings.dev {
            env.push(EnvVar::new("OPENFACTORY_ROOT_PATH", format!("/{}", service.normal())));
        }
    }
    if let Some(backends) = &app.storage {
        env.push(EnvVar::new("STORAGE", storage(backends)));
    }
    // Taking it out of the list takes out one that the user gave, too.
    let taken = |variable: &&EnvVar| position == UuidPosition::First || variable.name != "APP_UUID";
    env.extend(app.environment.iter().filter(taken).cloned());
    if !app.environment.iter().any(|variable| variable.name == "KSQLDB_LOG_LEVEL") {
        env.push(EnvVar::new("KSQLDB_LOG_LEVEL", &settings.ksqldb_log_level));
    }
    if position == UuidPosition::Last {
        env.push(app_uuid);
    }
    env
}

/// What Swarm fills in for each task, at the end of every service's environment.
pub(super) fn swarm(replicas: u64) -> [EnvVar; 5] {
    [
        EnvVar::new("SWARM_TASK_SLOT", "{{.Task.Slot}}"),
        EnvVar::new("SWARM_TASK_ID", "{{.Task.ID}}"),
        EnvVar::new("SWARM_SERVICE_NAME", "{{.Service.Name}}"),
        EnvVar::new("SWARM_NODE_HOSTNAME", "{{.Node.Hostname}}"),
        EnvVar::new("SWARM_REPLICAS", replicas.to_string()),
    ]
}

/// `STORAGE`: the backends as JSON in Python's style. Their names are `[A-Za-z0-9_-]+`: nothing to escape.
fn storage(storage: &[Storage]) -> String {
    let mut json = String::from("{");
    for (index, backend) in storage.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(json, "{comma}\"{}\": {}", backend.name, backend.json);
    }
    json.push('}');
    json
}
