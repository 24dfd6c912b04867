//! Facts in OpenFactory's asset registry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::{AssetUuid, InstanceName, InvalidName, ResourceId};

/// One fact that a resource needs the registry to hold. How it becomes Kafka messages or rows is the
/// registry's business; planning compares these values.
#[derive(Clone, PartialEq, Eq)]
pub enum Record {
    /// An asset with its attributes and its place in the namespace.
    Asset(AssetRecord),
    /// The connector configuration of a device.
    Connector {
        /// The device.
        device: AssetUuid,
        /// The device as compact JSON, nulls left out.
        config: String,
    },
    /// Where to scrape metrics of one replica (docker platform only).
    MetricsTarget {
        /// The app's asset.
        asset: AssetUuid,
        /// Host name, which is the container's name.
        host: String,
        /// Port 1–65535, written as text in the message.
        port: u16,
        /// URL path.
        path: String,
    },
    /// A device that a coordinator serves, made known to it by a command.
    CoordinatorDevice {
        /// The device.
        device: AssetUuid,
        /// Which kind of coordinator.
        protocol: CoordinatorProtocol,
        /// The device as JSON, nulls kept: the command's `device_config`. Empty where the coordinator may know the
        /// device or not: telling it was cut short, or it has started anew since.
        config: String,
    },
}

/// A device's configuration holds the environment of its adapter, and is not shown.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Asset(asset) => asset.fmt(f),
            Record::Connector { config, .. } | Record::CoordinatorDevice { config, .. } => {
                write!(f, "{} <{} bytes>", self.id(), config.len())
            }
            Record::MetricsTarget { host, port, path, .. } => write!(f, "{} {host}:{port}{path}", self.id()),
        }
    }
}

impl Record {
    /// What identifies the record.
    pub fn id(&self) -> RecordId {
        match self {
            Record::Asset(asset) => RecordId::Asset(asset.uuid.clone()),
            Record::Connector { device, .. } => RecordId::Connector(device.clone()),
            Record::MetricsTarget { asset, .. } => RecordId::MetricsTarget(asset.clone()),
            Record::CoordinatorDevice { device, .. } => RecordId::CoordinatorDevice(device.clone()),
        }
    }
}

/// What identifies a record. The order is the order in which records of a resource are written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordId {
    /// `device_config` known to a coordinator.
    CoordinatorDevice(AssetUuid),
    /// An asset.
    Asset(AssetUuid),
    /// A device's connector configuration.
    Connector(AssetUuid),
    /// A replica's metrics target.
    MetricsTarget(AssetUuid),
}

impl RecordId {
    /// The asset that the record is about.
    pub fn asset(&self) -> &AssetUuid {
        match self {
            RecordId::CoordinatorDevice(uuid)
            | RecordId::Asset(uuid)
            | RecordId::Connector(uuid)
            | RecordId::MetricsTarget(uuid) => uuid,
        }
    }

    /// `asset`, `connector`, `metrics-target` or `coordinator-device`.
    pub fn kind(&self) -> &'static str {
        match self {
            RecordId::CoordinatorDevice(_) => "coordinator-device",
            RecordId::Asset(_) => "asset",
            RecordId::Connector(_) => "connector",
            RecordId::MetricsTarget(_) => "metrics-target",
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.asset())
    }
}

impl FromStr for RecordId {
    type Err = InvalidName;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (kind, uuid) = text.split_once(' ').unwrap_or((text, ""));
        let uuid = AssetUuid::new(uuid)?;
        match kind {
            "coordinator-device" => Ok(RecordId::CoordinatorDevice(uuid)),
            "asset" => Ok(RecordId::Asset(uuid)),
            "connector" => Ok(RecordId::Connector(uuid)),
            "metrics-target" => Ok(RecordId::MetricsTarget(uuid)),
            _ => Err(InvalidName { what: "record", reason: "must begin with its kind, as in `asset CNC-1`".into() }),
        }
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for RecordId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An asset as the registry holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetRecord {
    /// The asset's uuid, the key of its messages.
    pub uuid: AssetUuid,
    /// `OpenFactoryApp`, `Device`, `MTConnectAgent` or `KafkaProducer`; other texts when observed.
    pub asset_type: String,
    /// Name of the service that embodies the asset; empty for none.
    pub docker_service: String,
    /// Assets that this one belongs to, newest first.
    pub references_above: Vec<String>,
    /// Assets that belong to this one, newest first.
    pub references_below: Vec<String>,
    /// Place in the unified namespace.
    pub uns: Option<Uns>,
    /// Further attributes, such as `agent_port`, in the order in which they are written.
    pub attributes: Vec<Attribute>,
}

/// A place in the unified namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uns {
    /// Level and value, in the order of the namespace.
    pub levels: Vec<(String, Scalar)>,
    /// Values joined by the template's separator.
    pub uns_id: String,
}

/// One attribute of an asset on `ASSETS_STREAM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// `ID`.
    pub id: String,
    /// `VALUE`.
    pub value: Scalar,
    /// `TAG`.
    pub tag: String,
    /// `TYPE`.
    pub kind: String,
}

/// A YAML or JSON scalar whose type is kept in messages.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(String),
}

/// Two numbers are the same when every bit of them is: as they are written they differ otherwise.
impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Scalar::Null, Scalar::Null) => true,
            (Scalar::Bool(one), Scalar::Bool(other)) => one == other,
            (Scalar::Int(one), Scalar::Int(other)) => one == other,
            (Scalar::Float(one), Scalar::Float(other)) => one.to_bits() == other.to_bits(),
            (Scalar::Text(one), Scalar::Text(other)) => one == other,
            (Scalar::Null | Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) | Scalar::Text(_), _) => false,
        }
    }
}

impl Eq for Scalar {}

impl Scalar {
    /// As ksqlDB keeps it in a column of text: a truth value as JSON writes it.
    pub fn as_kept(&self) -> String {
        match self {
            Scalar::Bool(truth) => truth.to_string(),
            Scalar::Null | Scalar::Int(_) | Scalar::Float(_) | Scalar::Text(_) => self.python_str(),
        }
    }

    /// As Python's `str()` writes it: `True`, `1.5`, `None`, the text itself.
    pub fn python_str(&self) -> String {
        match self {
            Scalar::Null => "None".into(),
            Scalar::Bool(true) => "True".into(),
            Scalar::Bool(false) => "False".into(),
            Scalar::Int(number) => number.to_string(),
            Scalar::Float(number) => python_float(*number),
            Scalar::Text(text) => text.clone(),
        }
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Scalar::Text(text.to_owned())
    }
}

/// A float as Python's `repr` writes it: the shortest digits that read back the same, `.0` for whole
/// numbers, an exponent below 1e-4 and from 1e16 on.
pub fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    let text = number.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// A kind of coordinator app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CoordinatorProtocol {
    /// `OPCUA.Coordinator`.
    Opcua,
    /// `SHDR.Coordinator`.
    Shdr,
}

impl CoordinatorProtocol {
    /// The asset type of the coordinators that serve this protocol.
    pub fn coordinator_type(self) -> &'static str {
        match self {
            CoordinatorProtocol::Opcua => "OPCUA.Coordinator",
            CoordinatorProtocol::Shdr => "SHDR.Coordinator",
        }
    }
}

/// The coordinator that serves a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceCoordinator {
    /// Its asset.
    pub uuid: AssetUuid,
    /// Its kind.
    pub protocol: CoordinatorProtocol,
}

/// Whether an asset says that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Availability {
    /// `AVAILABLE`.
    Available,
    /// `UNAVAILABLE`, or any other text.
    Unavailable,
}

impl Availability {
    /// `AVAILABLE` or `UNAVAILABLE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Available => "AVAILABLE",
            Availability::Unavailable => "UNAVAILABLE",
        }
    }
}

/// Our mark on a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordOwner {
    /// Attribute `managed_by`.
    pub instance: InstanceName,
    /// Attribute `managed_resource`: what the record was written for, so that it can be taken back as a
    /// whole when its manifest is long gone.
    pub resource: ResourceId,
    /// Attribute `managed_prune` is `false`: the resource stays although the manifests no longer describe it.
    pub kept: bool,
}

/// The ksqlDB sources whose topics receive messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Attributes of assets.
    AssetsStream,
    /// Type of each asset.
    AssetsType,
    /// Availability of each asset.
    AssetsAvail,
    /// Service of each asset.
    DockerServices,
    /// Place of each asset in the namespace.
    AssetToUnsMapRaw,
    /// Connector configuration of each device.
    DeviceConnectorSource,
    /// Metrics targets.
    MetricsTargetsSource,
}

impl Source {
    /// Every source.
    pub const ALL: [Source; 7] = [
        Source::AssetsStream,
        Source::AssetsType,
        Source::AssetsAvail,
        Source::DockerServices,
        Source::AssetToUnsMapRaw,
        Source::DeviceConnectorSource,
        Source::MetricsTargetsSource,
    ];

    /// The name in ksqlDB.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::AssetsStream => "ASSETS_STREAM",
            Source::AssetsType => "ASSETS_TYPE",
            Source::AssetsAvail => "ASSETS_AVAIL",
            Source::DockerServices => "DOCKER_SERVICES",
            Source::AssetToUnsMapRaw => "ASSET_TO_UNS_MAP_RAW",
            Source::DeviceConnectorSource => "DEVICE_CONNECTOR_SOURCE",
            Source::MetricsTargetsSource => "METRICS_TARGETS_SOURCE",
        }
    }
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_in_python() {
        for (number, text) in [
            (1.5, "1.5"),
            (100.0, "100.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123_456_789.0, "123456789.0"),
            (0.00001, "1e-05"),
            (1.5e300, "1.5e+300"),
            (-0.0, "-0.0"),
        ] {
            assert_eq!(python_float(number), text);
        }
    }
}
