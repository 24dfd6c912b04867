//! What an engine says about itself, for whoever looks whether everything is in place.

use serde::Deserialize;

use super::PlatformError;
use super::engine::{Act, Engine};

const INFO: Act = Act::read("say what it is");

/// What an engine says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its version: `20.10.24`.
    pub version: String,
    /// Minor number of the API version that is spoken with it.
    pub api: u32,
    /// Its clock, RFC 3339.
    pub time: String,
    /// `active`, `inactive`, `pending`, `error` or `locked`: how its machine stands to a swarm.
    pub swarm: String,
    /// Why a swarm is in error.
    pub swarm_error: String,
    /// Whether it is a manager.
    pub manager: bool,
    /// Number of managers, as a manager knows it.
    pub managers: u64,
    /// Number of nodes, as a manager knows it.
    pub nodes: u64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Said {
    server_version: String,
    system_time: String,
    swarm: SwarmSaid,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct SwarmSaid {
    local_node_state: String,
    control_available: bool,
    error: String,
    managers: u64,
    nodes: u64,
}

/// Asks the engine.
///
/// # Errors
/// When it cannot be reached, or speaks no version that we know.
pub async fn info(engine: &Engine) -> Result<EngineInfo, PlatformError> {
    let api = engine.negotiate().await?; // I/O
    let said: Said = engine.get(INFO, "/info").await.map_err(|error| error.explain(engine.address()))?; // I/O
    Ok(EngineInfo {
        version: said.server_version,
        api,
        time: said.system_time,
        swarm: said.swarm.local_node_state,
        swarm_error: said.swarm.error,
        manager: said.swarm.control_available,
        managers: said.swarm.managers,
        nodes: said.swarm.nodes,
    })
}
