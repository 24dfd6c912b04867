//! What records say, as messages in OpenFactory's shape.
//!
//! Every message is absolute state under its key and may be sent again; the last one counts.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::model::record::{AssetRecord, CoordinatorProtocol, RecordOwner, Scalar, Uns};
use crate::model::{AssetUuid, Record, Source};

/// Attribute that carries the name of the operator that owns an asset.
pub const MANAGED_BY: &str = "managed_by";
/// Attribute that carries the resource that an asset was registered for.
pub const MANAGED_RESOURCE: &str = "managed_resource";
/// Attribute that says `false` when the resource stays although the manifests no longer describe it; else empty.
pub const MANAGED_PRUNE: &str = "managed_prune";
/// `TAG` of these.
const MANAGED_TAG: &str = "ManagedBy";
/// `TAG` of references between assets.
const REFERENCES_TAG: &str = "AssetsReferences";
/// `TYPE` of everything that OpenFactory itself says about an asset.
const OPENFACTORY: &str = "OpenFactory";

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The stream or table whose topic receives it.
    pub source: Source,
    /// What it is about.
    pub key: Key,
    /// What it says; none is a tombstone.
    pub value: Option<Said>,
}

/// What a message says. As JSON it is what OpenFactory's own writers say, down to the case of the names.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Said {
    /// On `ASSETS_STREAM`: an attribute of an asset, or a command to it.
    Attribute(SaidAttribute),
    /// On `ASSET_TO_UNS_MAP_RAW`: where an asset stands in the namespace.
    Place(SaidPlace),
    /// The same: that it stands nowhere.
    Nowhere(SaidNowhere),
    /// On `DEVICE_CONNECTOR_SOURCE`.
    #[serde(rename_all = "UPPERCASE")]
    Connector {
        /// The connector's configuration, JSON as text.
        connector_config: String,
    },
    /// On `METRICS_TARGETS_SOURCE`: where to scrape metrics.
    #[serde(rename_all = "UPPERCASE")]
    Target {
        /// Host name.
        host: String,
        /// Port, as text.
        port: String,
        /// URL path.
        path: String,
    },
}

/// See [`Said::Attribute`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub struct SaidAttribute {
    /// Which attribute.
    pub id: Cow<'static, str>,
    /// Its value, with its type kept; what JSON has no number for becomes null.
    pub value: Scalar,
    /// What sort of attribute it is.
    pub tag: Cow<'static, str>,
    /// What sort of writer says so.
    #[serde(rename = "TYPE")]
    pub kind: Cow<'static, str>,
    /// When it was said.
    #[serde(rename = "attributes")]
    pub time: SaidAt,
}

/// When an attribute was said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SaidAt {
    /// RFC 3339 in UTC.
    pub timestamp: Option<Arc<str>>,
}

/// See [`Said::Place`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub struct SaidPlace {
    /// The asset.
    pub asset_uuid: AssetUuid,
    /// Values of all levels, joined.
    pub uns_id: String,
    /// Level and value, in the order of the namespace.
    pub uns_levels: SaidLevels,
    /// Milliseconds since 1970.
    pub updated_at: Option<u64>,
}

/// See [`Said::Nowhere`]. The names are in lower case as OpenFactory writes them: ksqlDB reads them without regard to
/// case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SaidNowhere {
    /// The asset.
    pub asset_uuid: AssetUuid,
    /// Always null.
    pub uns_id: (),
    /// Always null.
    pub uns_levels: (),
    /// Milliseconds since 1970.
    pub updated_at: Option<u64>,
}

/// Levels of the namespace, written as a map in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidLevels(pub Vec<(String, Scalar)>);

impl Serialize for SaidLevels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(level, value)| (level, value)))
    }
}

/// The key of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// An asset's uuid.
    Asset(AssetUuid),
    /// The uuid of a coordinator of this kind: known only when one is chosen, see [`addressed`].
    Coordinator(CoordinatorProtocol),
}

impl Key {
    /// The uuid, if it is known without looking.
    pub fn known(&self) -> Option<&AssetUuid> {
        match self {
            Key::Asset(uuid) => Some(uuid),
            Key::Coordinator(_) => None,
        }
    }
}

/// The same messages with those for a coordinator addressed to this one.
pub fn addressed(mut messages: Vec<Message>, coordinator: &AssetUuid) -> Vec<Message> {
    for message in &mut messages {
        if let Key::Coordinator(_) = message.key {
            message.key = Key::Asset(coordinator.clone());
        }
    }
    messages
}

/// What makes two sendings of one message differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Wall time, RFC 3339 in UTC.
    pub timestamp: Arc<str>,
    /// The same in milliseconds since 1970.
    pub epoch_millis: u64,
    /// A fresh uuid by which the answer to a command can be told; empty where no command is sent.
    pub correlation_id: String,
}

/// The messages that make a record so. Without a stamp, everything that a stamp says is null.
pub fn register(record: &Record, owner: Option<&RecordOwner>, stamp: Option<&Stamp>) -> Vec<Message> {
    match record {
        Record::Asset(asset) => register_asset(asset, owner, stamp),
        Record::Connector { device, config } => {
            let said = Said::Connector { connector_config: config.clone() };
            vec![says(Source::DeviceConnectorSource, device, said)]
        }
        Record::MetricsTarget { asset, host, port, path } => {
            let said = Said::Target { host: host.clone(), port: port.to_string(), path: path.clone() };
            vec![says(Source::MetricsTargetsSource, asset, said)]
        }
        Record::CoordinatorDevice { device: _, protocol, config } => {
            let sender = match protocol {
                CoordinatorProtocol::Opcua => "opcua-connector",
                CoordinatorProtocol::Shdr => "ofa-cli",
            };
            vec![command(*protocol, "register_device", sender, &json!({"device_config": config}), stamp)]
        }
    }
}

/// The messages that take a record back.
pub fn deregister(record: &Record, stamp: Option<&Stamp>) -> Vec<Message> {
    match record {
        Record::Asset(asset) => deregister_asset(asset, stamp),
        Record::Connector { device, config: _ } => vec![tombstone(Source::DeviceConnectorSource, device)],
        Record::MetricsTarget { asset, host: _, port: _, path: _ } => {
            vec![tombstone(Source::MetricsTargetsSource, asset)]
        }
        Record::CoordinatorDevice { device, protocol, config: _ } => {
            let sender = match protocol {
                CoordinatorProtocol::Opcua => "opcua-connector",
                CoordinatorProtocol::Shdr => "shdr-connector",
            };
            vec![command(*protocol, "deregister_device", sender, &json!({"device_uuid": device}), stamp)]
        }
    }
}

/// The messages that put our mark on an asset. They come before all others, so that whatever follows, however far it
/// gets, can be found and taken back.
pub fn mark(asset: &AssetUuid, owner: &RecordOwner, stamp: Option<&Stamp>) -> Vec<Message> {
    let prune = if owner.kept { "false" } else { "" };
    vec![
        managed(asset, MANAGED_BY, owner.instance.to_string(), stamp),
        managed(asset, MANAGED_RESOURCE, owner.resource.to_string(), stamp),
        managed(asset, MANAGED_PRUNE, prune.to_owned(), stamp),
    ]
}

/// The messages that clear our mark from an asset: the end of taking it back.
pub fn forget(asset: &AssetUuid, stamp: Option<&Stamp>) -> Vec<Message> {
    [MANAGED_BY, MANAGED_RESOURCE, MANAGED_PRUNE].map(|id| managed(asset, id, String::new(), stamp)).into()
}

/// A note of ours on an asset.
pub fn managed(asset: &AssetUuid, id: &'static str, value: String, stamp: Option<&Stamp>) -> Message {
    ours(asset, id.into(), Scalar::Text(value), MANAGED_TAG, stamp)
}

/// The message that deletes the row of an asset's place in the namespace.
pub fn no_place(asset: &AssetUuid) -> Message {
    tombstone(Source::AssetToUnsMapRaw, asset)
}

/// The message by which OpenFactory takes an asset's place in the namespace away. It leaves a row of nulls.
fn nowhere(asset: &AssetUuid, stamp: Option<&Stamp>) -> Message {
    let nowhere = SaidNowhere {
        asset_uuid: asset.clone(),
        uns_id: (),
        uns_levels: (),
        updated_at: stamp.map(|stamp| stamp.epoch_millis),
    };
    says(Source::AssetToUnsMapRaw, asset, Said::Nowhere(nowhere))
}

fn register_asset(asset: &AssetRecord, owner: Option<&RecordOwner>, stamp: Option<&Stamp>) -> Vec<Message> {
    let uuid = &asset.uuid;
    let says_text = |id: &'static str, value: String, tag| ours(uuid, id.into(), Scalar::Text(value), tag, stamp);
    let mut messages = owner.map(|owner| mark(uuid, owner, stamp)).unwrap_or_default();
    messages.extend([
        says_text("AssetType", asset.asset_type.clone(), "AssetType"),
        says_text("DockerService", asset.docker_service.clone(), "DockerService"),
        says_text("references_below", asset.references_below.join(", "), REFERENCES_TAG),
        says_text("references_above", asset.references_above.join(", "), REFERENCES_TAG),
    ]);
    if let Some(Uns { levels, uns_id }) = &asset.uns {
        let said =
            |(level, value): &(String, Scalar)| ours(uuid, level.clone().into(), value.clone(), "UNSLevel", stamp);
        messages.extend(levels.iter().map(said));
        messages.push(says_text("uns_id", uns_id.clone(), "UNSId"));
        let place = SaidPlace {
            asset_uuid: uuid.clone(),
            uns_id: uns_id.clone(),
            uns_levels: SaidLevels(levels.clone()),
            updated_at: stamp.map(|stamp| stamp.epoch_millis),
        };
        messages.push(says(Source::AssetToUnsMapRaw, uuid, Said::Place(place)));
    }
    for further in &asset.attributes {
        messages.push(attribute(
            uuid,
            further.id.clone().into(),
            further.value.clone(),
            further.tag.clone().into(),
            further.kind.clone().into(),
            stamp,
        ));
    }
    messages
}

fn deregister_asset(asset: &AssetRecord, stamp: Option<&Stamp>) -> Vec<Message> {
    let uuid = &asset.uuid;
    let empty = |id: &'static str| ours(uuid, id.into(), Scalar::Text(String::new()), REFERENCES_TAG, stamp);
    let mut messages = vec![
        empty("references_below"),
        empty("references_above"),
        tombstone(Source::AssetsType, uuid),
        tombstone(Source::AssetsAvail, uuid),
        tombstone(Source::DockerServices, uuid),
        nowhere(uuid, stamp),
    ];
    match asset.asset_type.as_str() {
        "OpenFactoryApp" => messages.push(tombstone(Source::MetricsTargetsSource, uuid)),
        "Device" => messages.push(tombstone(Source::DeviceConnectorSource, uuid)),
        _ => {}
    }
    messages
}

/// A command to whichever coordinator is available.
fn command(
    protocol: CoordinatorProtocol,
    name: &str,
    sender: &str,
    arguments: &Value,
    stamp: Option<&Stamp>,
) -> Message {
    let envelope = json!({
        "header": {
            "correlation_id": stamp.map(|stamp| &stamp.correlation_id),
            "sender_uuid": sender,
            "timestamp": stamp.map(|stamp| &stamp.timestamp),
            "signature": null,
        },
        "arguments": arguments,
    });
    let said = said_attribute(
        format!("{name}_CMD").into(),
        Scalar::Text(envelope.to_string()),
        "Method.Command".into(),
        OPENFACTORY.into(),
        stamp,
    );
    Message { source: Source::AssetsStream, key: Key::Coordinator(protocol), value: Some(said) }
}

/// An attribute that OpenFactory itself speaks of.
fn ours(asset: &AssetUuid, id: Cow<'static, str>, value: Scalar, tag: &'static str, stamp: Option<&Stamp>) -> Message {
    attribute(asset, id, value, tag.into(), OPENFACTORY.into(), stamp)
}

fn attribute(
    asset: &AssetUuid,
    id: Cow<'static, str>,
    value: Scalar,
    tag: Cow<'static, str>,
    kind: Cow<'static, str>,
    stamp: Option<&Stamp>,
) -> Message {
    says(Source::AssetsStream, asset, said_attribute(id, value, tag, kind, stamp))
}

fn said_attribute(
    id: Cow<'static, str>,
    value: Scalar,
    tag: Cow<'static, str>,
    kind: Cow<'static, str>,
    stamp: Option<&Stamp>,
) -> Said {
    let time = SaidAt { timestamp: stamp.map(|stamp| Arc::clone(&stamp.timestamp)) };
    Said::Attribute(SaidAttribute { id, value, tag, kind, time })
}

fn says(source: Source, asset: &AssetUuid, said: Said) -> Message {
    Message { source, key: Key::Asset(asset.clone()), value: Some(said) }
}

fn tombstone(source: Source, asset: &AssetUuid) -> Message {
    Message { source, key: Key::Asset(asset.clone()), value: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InstanceName;

    fn uuid(text: &str) -> AssetUuid {
        AssetUuid::new(text).unwrap()
    }

    fn asset() -> AssetRecord {
        AssetRecord {
            uuid: uuid("APP-1"),
            asset_type: "OpenFactoryApp".into(),
            docker_service: "app-1".into(),
            references_above: vec![],
            references_below: vec!["NEW".into(), "OLD".into()],
            uns: Some(Uns {
                levels: vec![("line".into(), Scalar::Int(7)), ("dry".into(), Scalar::Bool(true))],
                uns_id: "7/True".into(),
            }),
            attributes: vec![],
        }
    }

    fn stamp() -> Stamp {
        Stamp {
            timestamp: "2026-01-02T03:04:05.678Z".into(),
            epoch_millis: 1_767_323_045_678,
            correlation_id: "00000000-0000-4000-8000-000000000001".into(),
        }
    }

    fn json(message: &Message) -> Option<Value> {
        message.value.as_ref().map(|said| serde_json::to_value(said).unwrap())
    }

    fn text(message: &Message) -> String {
        serde_json::to_string(message.value.as_ref().unwrap()).unwrap()
    }

    fn short(messages: &[Message]) -> Vec<String> {
        messages
            .iter()
            .map(|message| match json(message) {
                Some(value) => format!("{} {} {}", message.source.as_str(), value["ID"], value["VALUE"]),
                None => format!("{} gone", message.source.as_str()),
            })
            .collect()
    }

    #[test]
    fn an_asset_registers_in_openfactorys_order_with_typed_levels() {
        let messages = register(&Record::Asset(asset()), None, Some(&stamp()));
        assert_eq!(
            short(&messages),
            [
                r#"ASSETS_STREAM "AssetType" "OpenFactoryApp""#,
                r#"ASSETS_STREAM "DockerService" "app-1""#,
                r#"ASSETS_STREAM "references_below" "NEW, OLD""#,
                r#"ASSETS_STREAM "references_above" """#,
                r#"ASSETS_STREAM "line" 7"#,
                r#"ASSETS_STREAM "dry" true"#,
                r#"ASSETS_STREAM "uns_id" "7/True""#,
                "ASSET_TO_UNS_MAP_RAW null null",
            ]
        );
        assert_eq!(
            text(&messages[0]),
            r#"{"ID":"AssetType","VALUE":"OpenFactoryApp","TAG":"AssetType","TYPE":"OpenFactory","attributes":{"timestamp":"2026-01-02T03:04:05.678Z"}}"#
        );
        assert_eq!(
            text(&messages[7]),
            r#"{"ASSET_UUID":"APP-1","UNS_ID":"7/True","UNS_LEVELS":{"line":7,"dry":true},"UPDATED_AT":1767323045678}"#
        );
    }

    #[test]
    fn the_owners_mark_comes_first_and_only_when_there_is_an_owner() {
        let instance = InstanceName::new("plant-a").unwrap();
        let mut owner = RecordOwner { instance, resource: "app/APP-1".parse().unwrap(), kept: false };
        let messages = register(&Record::Asset(asset()), Some(&owner), None);
        assert_eq!(
            short(&messages)[..3],
            [
                r#"ASSETS_STREAM "managed_by" "plant-a""#,
                r#"ASSETS_STREAM "managed_resource" "app/APP-1""#,
                r#"ASSETS_STREAM "managed_prune" """#
            ]
        );
        owner.kept = true;
        let kept = register(&Record::Asset(asset()), Some(&owner), None);
        assert_eq!(short(&kept)[2], r#"ASSETS_STREAM "managed_prune" "false""#);
        assert_eq!(json(&messages[0]).unwrap()["attributes"]["timestamp"], Value::Null);
        assert_eq!(
            short(&forget(&uuid("APP-1"), None)),
            [
                r#"ASSETS_STREAM "managed_by" """#,
                r#"ASSETS_STREAM "managed_resource" """#,
                r#"ASSETS_STREAM "managed_prune" """#
            ]
        );
    }

    #[test]
    fn taking_an_asset_back_leaves_no_row_of_it() {
        let messages = deregister(&Record::Asset(asset()), Some(&stamp()));
        assert_eq!(
            short(&messages),
            [
                r#"ASSETS_STREAM "references_below" """#,
                r#"ASSETS_STREAM "references_above" """#,
                "ASSETS_TYPE gone",
                "ASSETS_AVAIL gone",
                "DOCKER_SERVICES gone",
                "ASSET_TO_UNS_MAP_RAW null null",
                "METRICS_TARGETS_SOURCE gone",
            ]
        );
        let device = AssetRecord { asset_type: "Device".into(), ..asset() };
        let messages = deregister(&Record::Asset(device), None);
        assert_eq!(short(&messages).last().map(String::as_str), Some("DEVICE_CONNECTOR_SOURCE gone"));
    }

    #[test]
    fn a_coordinator_is_told_by_a_command_in_json_text() {
        let record = Record::CoordinatorDevice {
            device: uuid("SHDR-1"),
            protocol: CoordinatorProtocol::Shdr,
            config: r#"{"uuid":"SHDR-1"}"#.into(),
        };
        let message = register(&record, None, Some(&stamp())).remove(0);
        assert_eq!(message.key, Key::Coordinator(CoordinatorProtocol::Shdr));
        let value = json(&message).unwrap();
        assert_eq!(value["ID"], "register_device_CMD");
        assert_eq!(
            value["VALUE"],
            r#"{"header":{"correlation_id":"00000000-0000-4000-8000-000000000001","sender_uuid":"ofa-cli","timestamp":"2026-01-02T03:04:05.678Z","signature":null},"arguments":{"device_config":"{\"uuid\":\"SHDR-1\"}"}}"#
        );
        let value = json(&deregister(&record, None)[0]).unwrap();
        assert_eq!(value["ID"], "deregister_device_CMD");
        assert!(value["VALUE"].as_str().unwrap().ends_with(r#""arguments":{"device_uuid":"SHDR-1"}}"#));
    }
}
