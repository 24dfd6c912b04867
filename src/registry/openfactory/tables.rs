//! From the answers of ksqlDB to records. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::answer::Rows;
use crate::model::record::{Attribute, CoordinatorProtocol, DeviceCoordinator};
use crate::model::{AssetUuid, Availability, ObservedRecord, Record, RecordId, RegistrySnapshot, Scalar, Source};
use crate::registry::rows::{self, Tables};

/// Attribute of a device: which coordinator was told of it, and what.
pub(super) const MANAGED_COORDINATOR: &str = "managed_coordinator";

/// What is asked, in this order: one scan at a time.
pub(super) const QUERIES: [&str; 7] = [
    "SELECT ASSET_UUID, TYPE FROM ASSETS_TYPE;",
    "SELECT * FROM DOCKER_SERVICES;",
    "SELECT * FROM ASSETS_AVAIL;",
    "SELECT * FROM ASSET_TO_UNS_MAP;",
    "SELECT * FROM DEVICE_CONNECTOR;",
    "SELECT * FROM METRICS_TARGETS;",
    "SELECT ASSET_UUID, ID, VALUE, TYPE, TAG, TIMESTAMP FROM ASSETS \
     WHERE TYPE = 'OpenFactory' OR TAG = 'NetworkPort' OR ID = 'avail' OR ID = 'agent_avail';",
];

/// The query for the age of a source's rows, where records depend on them.
pub(super) fn ages(source: Source) -> Option<&'static str> {
    match source {
        Source::AssetsType => Some("SELECT ASSET_UUID, ROWTIME FROM ASSETS_TYPE;"),
        Source::DockerServices => Some("SELECT ASSET_UUID, ROWTIME FROM DOCKER_SERVICES;"),
        Source::AssetToUnsMapRaw => Some("SELECT ASSET_UUID, ROWTIME FROM ASSET_TO_UNS_MAP;"),
        // The columns of these two are named differently by OpenFactory's own scripts and by ours.
        Source::DeviceConnectorSource => Some("SELECT *, ROWTIME FROM DEVICE_CONNECTOR;"),
        Source::MetricsTargetsSource => Some("SELECT *, ROWTIME FROM METRICS_TARGETS;"),
        // Availability is for the assets themselves to say.
        Source::AssetsStream | Source::AssetsAvail => None,
    }
}

/// The records whose rows have lived through half of the time that their topic keeps them.
pub(super) fn expiring(source: Source, rows: &Rows, wall: SystemTime, expiry: Duration) -> BTreeSet<RecordId> {
    let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let old =
        |at: &Value| at.as_u64().is_some_and(|millis| now.saturating_sub(Duration::from_millis(millis)) > expiry / 2);
    rows.select(["*", "ROWTIME"])
        .filter(|[_, at]| at.is_some_and(old))
        .filter_map(|[uuid, _]| {
            let uuid = asset(uuid)?;
            Some(match source {
                Source::DeviceConnectorSource => RecordId::Connector(uuid),
                Source::MetricsTargetsSource => RecordId::MetricsTarget(uuid),
                Source::AssetsStream
                | Source::AssetsType
                | Source::AssetsAvail
                | Source::DockerServices
                | Source::AssetToUnsMapRaw => RecordId::Asset(uuid),
            })
        })
        .collect()
}

/// What a coordinator was told of a device, as the value of [`MANAGED_COORDINATOR`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Told {
    /// The coordinator's uuid.
    pub(super) coordinator: String,
    /// Which kind it is.
    pub(super) protocol: String,
    /// The device's configuration; none while it is not sure what the coordinator knows.
    pub(super) device_config: Option<String>,
}

/// When each asset last said that it is available, and when each device's coordinator was told.
#[derive(Default)]
struct Times<'a> {
    came_up: BTreeMap<AssetUuid, &'a str>,
    told: BTreeMap<AssetUuid, (Told, &'a str)>,
}

/// Puts the answers to [`QUERIES`] together. Rows without a usable uuid are passed over: they cannot be ours.
pub(super) fn assemble(answers: &[Rows; QUERIES.len()]) -> RegistrySnapshot {
    let [types, services, availability, namespace, connectors, targets, attributes] = answers;
    let mut tables = Tables::default();
    for [uuid, kind] in types.select(["*", "TYPE"]) {
        if let (Some(uuid), Some(kind)) = (asset(uuid), text(kind)) {
            tables.types.insert(uuid, kind.to_owned());
        }
    }
    for [uuid, service] in services.select(["*", "DOCKER_SERVICE"]) {
        if let (Some(uuid), Some(service)) = (asset(uuid), text(service)) {
            tables.services.insert(uuid, service.to_owned());
        }
    }
    for [uuid, id, levels] in namespace.select(["*", "UNS_ID", "UNS_LEVELS"]) {
        if let (Some(uuid), Some(id)) = (asset(uuid), text(id)) {
            let levels = levels.and_then(Value::as_object).cloned().unwrap_or_default();
            tables.places.insert(uuid, (id.to_owned(), levels));
        }
    }
    for [uuid, config] in connectors.select(["*", "CONNECTOR_CONFIG"]) {
        if let (Some(uuid), Some(config)) = (asset(uuid), text(config)) {
            tables.connectors.insert(uuid, config.to_owned());
        }
    }
    for [uuid, host, port, path] in targets.select(["*", "HOST", "PORT", "PATH"]) {
        if let (Some(uuid), Some(host), Some(Ok(port))) =
            (asset(uuid), text(host), port.and_then(words).map(|port| port.parse()))
        {
            let path = text(path).unwrap_or_default().to_owned();
            tables.targets.insert(uuid, (host.to_owned(), port, path));
        }
    }
    let times = take_attributes(attributes, &mut tables);

    let mut snapshot =
        RegistrySnapshot { complete: true, records: rows::records(&tables), ..RegistrySnapshot::default() };
    for [uuid, said] in availability.select(["*", "AVAILABILITY"]) {
        if let (Some(uuid), Some(said)) = (asset(uuid), text(said)) {
            let there = if said == "AVAILABLE" { Availability::Available } else { Availability::Unavailable };
            snapshot.availability.insert(uuid, there);
        }
    }
    for (device, (told, at)) in &times.told {
        let Some(coordinator) = coordinator_of(told) else { continue };
        let config = known_config(&coordinator, told, at, &times, &tables).unwrap_or_default().to_owned();
        let record = Record::CoordinatorDevice { device: device.clone(), protocol: coordinator.protocol, config };
        let owner = snapshot.records.get(&RecordId::Asset(device.clone())).and_then(|found| found.owner.clone());
        snapshot.records.insert(record.id(), Arc::new(ObservedRecord { record, owner }));
        snapshot.coordinators.insert(device.clone(), coordinator);
    }
    snapshot
}

fn take_attributes<'a>(attributes: &'a Rows, tables: &mut Tables) -> Times<'a> {
    let mut times = Times::default();
    for [uuid, id, value, kind, tag, timestamp] in
        attributes.select(["ASSET_UUID", "ID", "VALUE", "TYPE", "TAG", "TIMESTAMP"])
    {
        let (Some(uuid), Some(id), Some(value)) = (asset(uuid), text(id), value.and_then(words)) else { continue };
        let [kind, tag, timestamp] = [kind, tag, timestamp].map(|found| text(found).unwrap_or_default());
        match id {
            MANAGED_COORDINATOR => {
                if let Ok(told) = serde_json::from_str(&value) {
                    times.told.insert(uuid, (told, timestamp));
                }
            }
            "avail" | "agent_avail" => {
                if value == "AVAILABLE" {
                    let last = times.came_up.entry(uuid).or_insert(timestamp);
                    *last = (*last).max(timestamp);
                }
            }
            _ => tables.attributes.entry(uuid).or_default().push(Attribute {
                id: id.to_owned(),
                value: Scalar::Text(value),
                tag: tag.to_owned(),
                kind: kind.to_owned(),
            }),
        }
    }
    times
}

fn coordinator_of(told: &Told) -> Option<DeviceCoordinator> {
    let protocol = [CoordinatorProtocol::Opcua, CoordinatorProtocol::Shdr]
        .into_iter()
        .find(|protocol| protocol.coordinator_type() == told.protocol)?;
    Some(DeviceCoordinator { uuid: AssetUuid::new(&*told.coordinator).ok()?, protocol })
}

/// A device counts as known to its coordinator while that coordinator is registered and has not come up anew
/// since it was told: one that starts again may have forgotten its devices, or may not.
fn known_config<'a>(
    coordinator: &DeviceCoordinator,
    told: &'a Told,
    at: &str,
    times: &Times<'_>,
    tables: &Tables,
) -> Option<&'a str> {
    if tables.types.get(&coordinator.uuid).map(String::as_str) != Some(coordinator.protocol.coordinator_type()) {
        return None;
    }
    // RFC 3339 in UTC: the order of the texts is the order of the times.
    if times.came_up.get(&coordinator.uuid).is_some_and(|came_up| *came_up > at) {
        return None;
    }
    told.device_config.as_deref()
}

fn asset(value: Option<&Value>) -> Option<AssetUuid> {
    AssetUuid::new(text(value)?).ok()
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

/// A value as text, since ksqlDB keeps what was a number or a truth value as text or as itself.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::answer::Decoder;
    use super::*;

    fn answer(schema: &str, rows: &[Value]) -> Rows {
        let mut list = vec![json!({"header": {"queryId": "q", "schema": schema}})];
        list.extend(rows.iter().map(|row| json!({"row": {"columns": row}})));
        let mut decoder = Decoder::default();
        decoder.feed(json!(list).to_string().as_bytes()).unwrap();
        decoder.finish().unwrap()
    }

    /// What is read when these assets have these types, and these messages were written to `ASSETS_STREAM`.
    pub(in super::super) fn snapshot(types: &[(&str, &str)], messages: &[(&str, &Value)]) -> RegistrySnapshot {
        let types: Vec<Value> = types.iter().map(|(uuid, kind)| json!([uuid, kind])).collect();
        let latest: BTreeMap<String, Value> = messages
            .iter()
            .map(|(uuid, said)| {
                let row = json!([
                    uuid,
                    said["ID"],
                    said["VALUE"],
                    said["TYPE"],
                    said["TAG"],
                    said["attributes"]["timestamp"]
                ]);
                (format!("{uuid}|{}", said["ID"]), row)
            })
            .collect();
        let attributes: Vec<Value> = latest.into_values().collect();
        let mut answers: [Rows; QUERIES.len()] = Default::default();
        answers[0] = answer("`ASSET_UUID` STRING KEY, `TYPE` STRING", &types);
        answers[6] = answer(
            "`ASSET_UUID` STRING, `ID` STRING, `VALUE` STRING, `TYPE` STRING, `TAG` STRING, `TIMESTAMP` STRING",
            &attributes,
        );
        assemble(&answers)
    }

    #[test]
    fn a_device_is_unsure_when_its_coordinator_is_gone_or_came_up_anew() {
        let said = |id: &str, value: &str, at: &str| json!({"ID": id, "VALUE": value, "TYPE": "OpenFactory", "TAG": "", "attributes": {"timestamp": at}});
        let told = r#"{"coordinator":"COORD","protocol":"OPCUA.Coordinator","device_config":"{}"}"#;
        let note = said(MANAGED_COORDINATOR, told, "2026-01-02T00:00:00Z");
        let config = |snapshot: RegistrySnapshot| {
            let found = &snapshot.records[&RecordId::CoordinatorDevice(AssetUuid::new("PLC-1").unwrap())].record;
            let Record::CoordinatorDevice { config, .. } = found else { panic!("{found:?}") };
            config.clone()
        };
        let there = [("COORD", "OPCUA.Coordinator")];
        for (at, expected) in [("2026-01-01T00:00:00Z", "{}"), ("2026-01-03T00:00:00Z", "")] {
            let up = said("avail", "AVAILABLE", at);
            assert_eq!(config(snapshot(&there, &[("PLC-1", &note), ("COORD", &up)])), expected);
        }
        assert_eq!(config(snapshot(&[], &[("PLC-1", &note)])), "", "it is not registered any more");
        assert_eq!(config(snapshot(&[("COORD", "OpenFactoryApp")], &[("PLC-1", &note)])), "", "it is another thing");
    }
}
