//! The engine's own words, as far as we read them. Null and absent are the same; unknown fields are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

pub(super) use crate::platform::swarm::raw::HealthConfig;

/// Null as the default value.
fn lenient<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// An element of `GET /containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
}

/// An element of `GET /networks`.
#[derive(Debug, Deserialize)]
pub(super) struct Network {
    #[serde(rename = "Id")]
    pub(super) id: String,
    #[serde(rename = "Name")]
    pub(super) name: String,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) created: String,
    /// Id of the image.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) image: String,
    pub(super) state: State,
    pub(super) config: Config,
    pub(super) host_config: HostConfig,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) network_settings: NetworkSettings,
}

/// Whether it runs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) status: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) exit_code: i64,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) error: String,
    #[serde(default, rename = "OOMKilled", deserialize_with = "lenient")]
    pub(super) oom_killed: bool,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) started_at: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) finished_at: String,
}

/// What runs; also what an image brings along.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) image: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) env: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) cmd: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) healthcheck: HealthConfig,
    /// Seconds.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) stop_timeout: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) hostname: String,
}

/// Where and within which bounds it runs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) network_mode: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) mounts: Vec<Mount>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) binds: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) ulimits: Vec<Ulimit>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) nano_cpus: i64,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) memory: i64,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) port_bindings: BTreeMap<String, Option<Vec<Binding>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Mount {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) source: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) target: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) read_only: bool,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) volume_options: VolumeOptions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeOptions {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) driver_config: Driver,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Driver {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) options: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Ulimit {
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) soft: i64,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) hard: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Binding {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) host_port: String,
}

/// The networks that it is attached to, by name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) networks: BTreeMap<String, serde::de::IgnoredAny>,
}

/// `GET /images/{id}/json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Image {
    #[serde(default, rename = "Config", deserialize_with = "lenient")]
    pub(super) config: Config,
}

/// An answer to creating something.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) id: String,
}

/// A line of `GET /events`.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(default, rename = "Type", deserialize_with = "lenient")]
    pub(super) kind: String,
    #[serde(default, rename = "Actor", deserialize_with = "lenient")]
    pub(super) actor: Actor,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Actor {
    #[serde(default, rename = "ID", deserialize_with = "lenient")]
    pub(super) id: String,
    #[serde(default, rename = "Attributes", deserialize_with = "lenient")]
    pub(super) attributes: BTreeMap<String, String>,
}
