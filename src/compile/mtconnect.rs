//! MTConnect devices: adapter, agent and producer, and the assets that stand for them.

use std::sync::Arc;

use super::app::{Parts, ulimits, warn_docker};
use super::file::Context;
use super::{MAX_ENV_BYTES, device, environment, routing};
use crate::desired::manifest::{Adapter, AdapterAt, Agent, Deploy, Device, Mtconnect, Place, PullPolicy};
use crate::desired::remote::shown;
use crate::model::record::{AssetRecord, Attribute, Scalar};
use crate::model::service::{EnvVar, Port, Resources};
use crate::model::{AssetUuid, InvalidName, PlatformKind, Record, ServiceName, ServiceSpec, Settings};

/// The port that the agent listens on inside its container.
const AGENT_PORT: u16 = 5000;

/// Billionths of a CPU when `deploy` does not say (OpenFactory 0.6.6).
const DEFAULT_CPU_LIMIT: i64 = 1_000_000_000;
/// The same for the reservation.
const DEFAULT_CPU_RESERVATION: i64 = 500_000_000;

/// What the agent's container runs: the device's model and the configuration arrive as variables and are
/// written to files first.
const AGENT_COMMAND: &str = concat!(
    r#"printf "%b" "$XML_MODEL" > device.xml; "#,
    r#"printf "%b" "$AGENT_CFG_FILE" > agent.cfg; "#,
    "mtcagent run agent.cfg"
);

/// Configuration of the MTConnect C++ agent, which fills in `$NAME` from its environment. It passes through
/// `printf %b` on its way: a backslash would have to be doubled.
const AGENT_CONFIG: &str = "\
Devices = device.xml
SchemaVersion = 2.2
Port = 5000
AgentDeviceUUID = $MTC_AGENT_UUID
AllowPut = true
Pretty = true
ReconnectInterval = 1000
BufferSize = 17
MaxAssets = 1024

Adapters {
  adapter {
    UUID = $ADAPTER_UUID
    Host = $ADAPTER_IP
    Port = $ADAPTER_PORT
  }
}

Files {
  schemas {
    Path = /mtconnect/data/schemas
    Location = /schemas/
  }
  styles {
    Path = /mtconnect/data/styles
    Location = /styles/
  }
}

DevicesStyle { Location = /styles/styles.xsl }
StreamsStyle { Location = /styles/styles.xsl }

logger_config {
  logging_level = info
  output = cout
}
";

/// Adds services and records; none after an error, which the context then holds.
pub(super) fn compile(
    device: &Device,
    connector: &Mtconnect,
    path: &str,
    context: &mut Context<'_>,
    parts: &mut Parts,
) -> Option<()> {
    warn(device, connector, path, context);
    let xml = match &connector.agent {
        Agent::External { .. } => None,
        Agent::Ours { device_xml, device_xml_place, adapter: _ } => {
            let field = format!("{path}.connector.agent.device_xml");
            Some(device_model(device_xml, *device_xml_place, field, context)?)
        }
    };
    match build(device, connector, xml.as_deref(), context.settings) {
        Ok(built) => {
            // What is said of the device stays; the rest is what it was compiled to.
            parts.services = built.services;
            parts.records = built.records;
            Some(())
        }
        Err(error) => {
            let hint = "the uuid, with `-agent`, `-adapter` or `-producer` added, becomes the name of a service";
            context.error(device.place, format!("{path}.uuid"), error.to_string(), hint);
            None
        }
    }
}

/// A text as Python reads it: every line ends in `\n`, whatever ended it in the file.
fn universal_newlines(text: &Arc<str>) -> Arc<str> {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { Arc::clone(text) }
}

/// The text of the device XML, if it can travel in an environment variable.
fn device_model(reference: &str, place: Place, field: String, context: &mut Context<'_>) -> Option<Arc<str>> {
    let shown = shown(reference);
    let xml = match context.attachment(reference) {
        Ok(xml) if xml.contains('\0') => {
            let message = format!("device XML `{shown}` holds a NUL character, which no XML may");
            context.error(place, field, message, "is this the right file? it looks like a binary one");
            return None;
        }
        Ok(xml) => universal_newlines(&xml),
        Err(reason) => {
            let message = format!("device XML `{shown}` cannot be read: {reason}");
            let hint = "a path is relative to this file; until it can be read the device stays as it is";
            context.error(place, field, message, hint);
            return None;
        }
    };
    let bytes = "XML_MODEL=".len() + xml.len() + 1;
    if bytes > MAX_ENV_BYTES {
        let message = format!(
            "device XML `{shown}` is too large: it travels in the environment variable XML_MODEL, which would take {bytes} bytes; Linux hands at most {MAX_ENV_BYTES} to a program"
        );
        let hint = "leave out comments and indentation, split the device, or run the agent elsewhere and give its `ip`";
        context.error(place, field, message, hint);
        return None;
    }
    Some(xml)
}

fn warn(device: &Device, connector: &Mtconnect, path: &str, context: &mut Context<'_>) {
    if context.settings.platform != PlatformKind::Docker {
        return;
    }
    if let Some(deploy) = &connector.deploy {
        warn_docker(deploy, device.place, &format!("{path}.connector.agent.deploy"), context);
    }
    if let Agent::Ours { adapter: Adapter { deploy: Some(deploy), .. }, .. } = &connector.agent {
        warn_docker(deploy, device.place, &format!("{path}.connector.agent.adapter.deploy"), context);
    }
}

fn build(device: &Device, connector: &Mtconnect, xml: Option<&str>, settings: &Settings) -> Result<Parts, InvalidName> {
    let lower = device.uuid.as_str().to_lowercase();
    let upper = device.uuid.as_str().to_uppercase();
    let agent_uuid = AssetUuid::new(format!("{upper}-AGENT"))?;
    let producer_uuid = AssetUuid::new(format!("{upper}-PRODUCER"))?;
    let agent_name = ServiceName::new(&format!("{lower}-agent"))?;
    let producer_name = ServiceName::new(&format!("{lower}-producer"))?;
    let mut parts = Parts::default();

    let (address, agent_service) = match &connector.agent {
        Agent::External { ip } => (external_address(ip, connector.port), String::new()),
        Agent::Ours { adapter, .. } => {
            let adapter_host = match &adapter.at {
                AdapterAt::Ip(ip) => ip.clone(),
                AdapterAt::Image(image) => {
                    let name = ServiceName::new(&format!("{lower}-adapter"))?;
                    let env = adapter.environment.clone();
                    let spec = service(name.clone(), image, env, adapter.deploy.as_ref(), settings);
                    parts.services.push((spec, PullPolicy::Missing));
                    name.to_string()
                }
            };
            let config = settings.mtconnect_agent_config.as_deref().unwrap_or(AGENT_CONFIG);
            let env = vec![
                EnvVar::new("MTC_AGENT_UUID", agent_uuid.as_str()),
                EnvVar::new("ADAPTER_UUID", &upper),
                EnvVar::new("ADAPTER_IP", adapter_host),
                EnvVar::new("ADAPTER_PORT", adapter.port.to_string()),
                EnvVar::new("XML_MODEL", xml.unwrap_or_default()),
                EnvVar::new("AGENT_CFG_FILE", config),
            ];
            let image = &settings.mtconnect_agent_image;
            let mut spec = service(agent_name.clone(), image, env, connector.deploy.as_ref(), settings);
            spec.command = vec!["sh".into(), "-c".into(), AGENT_COMMAND.into()];
            spec.labels = routing::agent(&agent_name, &lower, AGENT_PORT, settings);
            if connector.port != 0 {
                spec.ports.push(Port::tcp(connector.port, AGENT_PORT));
            }
            parts.services.push((spec, PullPolicy::Missing));
            (format!("http://{agent_name}:{AGENT_PORT}"), agent_name.to_string())
        }
    };

    let env = vec![
        EnvVar::new("KAFKA_BROKER", &settings.kafka_broker),
        EnvVar::new("KAFKA_PRODUCER_UUID", producer_uuid.as_str()),
        EnvVar::new("MTC_AGENT", address),
    ];
    // The producer follows the agent's CPU and placement; memory and open files are the agent's own.
    let deploy = connector.deploy.as_ref().map(|deploy| Deploy {
        limits: Resources { memory_bytes: None, ..deploy.limits },
        reservations: Resources { memory_bytes: None, ..deploy.reservations },
        open_files: None,
        ..deploy.clone()
    });
    let image = &settings.mtconnect_producer_image;
    let spec = service(producer_name.clone(), image, env, deploy.as_ref(), settings);
    parts.services.push((spec, PullPolicy::Missing));

    let below = vec![producer_uuid.to_string(), agent_uuid.to_string()];
    let above = vec![device.uuid.to_string()];
    let port = Attribute {
        id: "agent_port".into(),
        value: Scalar::Int(i64::from(connector.port)),
        tag: "NetworkPort".into(),
        kind: "Events".into(),
    };
    parts.records = vec![
        Record::Asset(device::asset(device, below)),
        Record::Asset(attached(agent_uuid, "MTConnectAgent", agent_service, above.clone(), vec![port])),
        Record::Asset(attached(producer_uuid, "KafkaProducer", producer_name.to_string(), above, Vec::new())),
    ];
    Ok(parts)
}

/// A service of a device: always one task, on OpenFactory's network, with CPU bounds.
fn service(
    name: ServiceName,
    image: &str,
    env: Vec<EnvVar>,
    deploy: Option<&Deploy>,
    settings: &Settings,
) -> ServiceSpec {
    let deploy = deploy.cloned().unwrap_or_default();
    let mut spec = ServiceSpec::new(name, image);
    spec.env = env;
    spec.ulimits = ulimits(&deploy);
    spec.networks = vec![settings.network.clone()];
    let nano_cpus = deploy.limits.nano_cpus.or(Some(DEFAULT_CPU_LIMIT));
    spec.limits = Resources { nano_cpus, ..deploy.limits }.without_zeros();
    match settings.platform {
        PlatformKind::Swarm => {
            spec.env.extend(environment::swarm(1));
            let nano_cpus = deploy.reservations.nano_cpus.or(Some(DEFAULT_CPU_RESERVATION));
            spec.reservations = Resources { nano_cpus, ..deploy.reservations }.without_zeros();
            spec.constraints = deploy.constraints;
        }
        PlatformKind::Docker => spec.limits.memory_bytes = None,
    }
    spec
}

/// Where the producer finds an agent that somebody else runs.
fn external_address(ip: &str, port: u16) -> String {
    let scheme = if port == 443 { "https" } else { "http" };
    format!("{scheme}://{ip}:{port}")
}

fn attached(
    uuid: AssetUuid,
    asset_type: &str,
    docker_service: String,
    references_above: Vec<String>,
    attributes: Vec<Attribute>,
) -> AssetRecord {
    AssetRecord {
        uuid,
        asset_type: asset_type.into(),
        docker_service,
        references_above,
        references_below: Vec::new(),
        uns: None,
        attributes,
    }
}
