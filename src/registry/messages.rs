//! What records say, as messages in OpenFactory's shape.
//!
//! Every message is absolute state under its key and may be sent again; the last one counts.

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
    pub value: Option<Value>,
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
    pub timestamp: String,
    /// The same in milliseconds since 1970.
    pub epoch_millis: u64,
    /// A fresh uuid by which the answer to a command can be told.
    pub correlation_id: String,
}

/// The messages that make a record so. Without a stamp, everything that a stamp says is null.
pub fn register(record: &Record, owner: Option<&RecordOwner>, stamp: Option<&Stamp>) -> Vec<Message> {
    match record {
        Record::Asset(asset) => register_asset(asset, owner, stamp),
        Record::Connector { device, config } => {
            vec![says(Source::DeviceConnectorSource, device, json!({"CONNECTOR_CONFIG": config}))]
        }
        Record::MetricsTarget { asset, host, port, path } => {
            let target = json!({"HOST": host, "PORT": port.to_string(), "PATH": path});
            vec![says(Source::MetricsTargetsSource, asset, target)]
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
    [(MANAGED_BY, json!(owner.instance)), (MANAGED_RESOURCE, json!(owner.resource)), (MANAGED_PRUNE, json!(prune))]
        .into_iter()
        .map(|(id, value)| attribute(asset, id, value, MANAGED_TAG, OPENFACTORY, stamp))
        .collect()
}

/// The messages that clear our mark from an asset: the end of taking it back.
pub fn forget(asset: &AssetUuid, stamp: Option<&Stamp>) -> Vec<Message> {
    [MANAGED_BY, MANAGED_RESOURCE, MANAGED_PRUNE]
        .into_iter()
        .map(|id| attribute(asset, id, json!(""), MANAGED_TAG, OPENFACTORY, stamp))
        .collect()
}

/// The message that takes an asset's place in the namespace away.
pub fn nowhere(asset: &AssetUuid, stamp: Option<&Stamp>) -> Message {
    // Lower-case keys, as OpenFactory writes them: ksqlDB reads them without regard to case.
    let nothing = json!({
        "asset_uuid": asset,
        "uns_id": null,
        "uns_levels": null,
        "updated_at": stamp.map(|stamp| stamp.epoch_millis),
    });
    says(Source::AssetToUnsMapRaw, asset, nothing)
}

fn register_asset(asset: &AssetRecord, owner: Option<&RecordOwner>, stamp: Option<&Stamp>) -> Vec<Message> {
    let uuid = &asset.uuid;
    let ours = |id: &str, value: Value, tag: &str| attribute(uuid, id, value, tag, OPENFACTORY, stamp);
    let mut messages = owner.map(|owner| mark(uuid, owner, stamp)).unwrap_or_default();
    messages.push(ours("AssetType", json!(asset.asset_type), "AssetType"));
    messages.push(ours("DockerService", json!(asset.docker_service), "DockerService"));
    messages.push(ours("references_below", json!(asset.references_below.join(", ")), "AssetsReferences"));
    messages.push(ours("references_above", json!(asset.references_above.join(", ")), "AssetsReferences"));
    if let Some(Uns { levels, uns_id }) = &asset.uns {
        messages.extend(levels.iter().map(|(level, value)| ours(level, scalar(value), "UNSLevel")));
        messages.push(ours("uns_id", json!(uns_id), "UNSId"));
        let levels: serde_json::Map<String, Value> =
            levels.iter().map(|(level, value)| (level.clone(), scalar(value))).collect();
        let place = json!({
            "ASSET_UUID": uuid,
            "UNS_ID": uns_id,
            "UNS_LEVELS": levels,
            "UPDATED_AT": stamp.map(|stamp| stamp.epoch_millis),
        });
        messages.push(says(Source::AssetToUnsMapRaw, uuid, place));
    }
    for further in &asset.attributes {
        let value = scalar(&further.value);
        messages.push(attribute(uuid, &further.id, value, &further.tag, &further.kind, stamp));
    }
    messages
}

fn deregister_asset(asset: &AssetRecord, stamp: Option<&Stamp>) -> Vec<Message> {
    let uuid = &asset.uuid;
    let empty = |id: &str| attribute(uuid, id, json!(""), "AssetsReferences", OPENFACTORY, stamp);
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
    let value =
        attribute_value(&format!("{name}_CMD"), json!(envelope.to_string()), "Method.Command", OPENFACTORY, stamp);
    Message { source: Source::AssetsStream, key: Key::Coordinator(protocol), value: Some(value) }
}

fn attribute(asset: &AssetUuid, id: &str, value: Value, tag: &str, kind: &str, stamp: Option<&Stamp>) -> Message {
    says(Source::AssetsStream, asset, attribute_value(id, value, tag, kind, stamp))
}

fn attribute_value(id: &str, value: Value, tag: &str, kind: &str, stamp: Option<&Stamp>) -> Value {
    json!({
        "ID": id,
        "VALUE": value,
        "TAG": tag,
        "TYPE": kind,
        "attributes": {"timestamp": stamp.map(|stamp| &stamp.timestamp)},
    })
}

/// With its type kept; what JSON has no number for becomes null.
fn scalar(value: &Scalar) -> Value {
    match value {
        Scalar::Null => Value::Null,
        Scalar::Bool(flag) => json!(flag),
        Scalar::Int(number) => json!(number),
        Scalar::Float(number) => json!(number),
        Scalar::Text(text) => json!(text),
    }
}

fn says(source: Source, asset: &AssetUuid, value: Value) -> Message {
    Message { source, key: Key::Asset(asset.clone()), value: Some(value) }
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

    fn short(messages: &[Message]) -> Vec<String> {
        messages
            .iter()
            .map(|message| match &message.value {
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
            messages[0].value.as_ref().map(Value::to_string).unwrap(),
            r#"{"ID":"AssetType","VALUE":"OpenFactoryApp","TAG":"AssetType","TYPE":"OpenFactory","attributes":{"timestamp":"2026-01-02T03:04:05.678Z"}}"#
        );
        assert_eq!(
            messages[7].value.as_ref().map(Value::to_string).unwrap(),
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
        assert_eq!(messages[0].value.as_ref().unwrap()["attributes"]["timestamp"], Value::Null);
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
        let value = message.value.unwrap();
        assert_eq!(value["ID"], "register_device_CMD");
        assert_eq!(
            value["VALUE"],
            r#"{"header":{"correlation_id":"00000000-0000-4000-8000-000000000001","sender_uuid":"ofa-cli","timestamp":"2026-01-02T03:04:05.678Z","signature":null},"arguments":{"device_config":"{\"uuid\":\"SHDR-1\"}"}}"#
        );
        let value = deregister(&record, None).remove(0).value.unwrap();
        assert_eq!(value["ID"], "deregister_device_CMD");
        assert!(value["VALUE"].as_str().unwrap().ends_with(r#""arguments":{"device_uuid":"SHDR-1"}}"#));
    }
}
