//! OpenFactory's settings that shape what a manifest compiles to. The names are those of its environment.

use serde::Serialize;

/// What runs the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformKind {
    /// Docker Swarm services.
    Swarm,
    /// Plain containers on one host.
    Docker,
}

impl PlatformKind {
    /// `swarm` or `docker`.
    pub fn as_str(self) -> &'static str {
        match self {
            PlatformKind::Swarm => "swarm",
            PlatformKind::Docker => "docker",
        }
    }
}

/// Settings that compiling depends on. Anything here that changes makes every resource compile again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `DEPLOYMENT_PLATFORM`.
    pub platform: PlatformKind,
    /// `KAFKA_BROKER`, comma-separated; empty when not set.
    pub kafka_broker: String,
    /// `KSQLDB_URL` without a trailing slash; empty when not set.
    pub ksqldb_url: String,
    /// `ASSET_ROUTER_URL`; empty when not set.
    pub asset_router_url: String,
    /// `OPENFACTORY_BASE_DOMAIN`; empty when not set.
    pub base_domain: String,
    /// `OPENFACTORY_NETWORK`.
    pub network: String,
    /// `OPENFACTORY_VERSION`: the tag of OpenFactory's own images.
    pub version: String,
    /// `OPENFACTORY_ENV=dev`: path-based routing on localhost.
    pub dev: bool,
    /// `OPENFACTORY_LOG_BACKEND`; none when set to nothing.
    pub log_backend: Option<String>,
    /// `OPENFACTORY_TEXT_LOG_DIRECTORY`.
    pub text_log_directory: Option<String>,
    /// `KSQLDB_LOG_LEVEL`.
    pub ksqldb_log_level: String,
    /// `MTCONNECT_AGENT_IMAGE`.
    pub mtconnect_agent_image: String,
    /// `MTCONNECT_PRODUCER_IMAGE`.
    pub mtconnect_producer_image: String,
    /// Text of the MTConnect agent's configuration; none for the built-in one.
    pub mtconnect_agent_config: Option<String>,
    /// `OPENFACTORY_UNS_SCHEMA`: path of the namespace schema.
    pub uns_schema: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            platform: PlatformKind::Swarm,
            kafka_broker: String::new(),
            ksqldb_url: String::new(),
            asset_router_url: String::new(),
            base_domain: String::new(),
            network: "factory-net".into(),
            version: "latest".into(),
            dev: false,
            log_backend: Some("text".into()),
            text_log_directory: None,
            ksqldb_log_level: "WARNING".into(),
            mtconnect_agent_image: "ghcr.io/openfactoryio/mtcagent:v2.5.0.11".into(),
            mtconnect_producer_image: "ghcr.io/openfactoryio/kafka-mtc-producer:latest".into(),
            mtconnect_agent_config: None,
            uns_schema: None,
        }
    }
}
