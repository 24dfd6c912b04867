//! From the answers of ksqlDB to records. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::answer::{Cell, Query};
use super::evidence::{Facts, SaidOf};
use super::ksqldb::identifier;
use crate::model::record::{CoordinatorProtocol, DeviceCoordinator, Uns};
use crate::model::{AssetUuid, Availability, ObservedRecord, Record, RecordId, RegistrySnapshot, Scalar, Source};
use crate::registry::rows::{self, Attributes, Tables};

/// Attribute of a device: which coordinator was told of it, and what.
pub(super) const MANAGED_COORDINATOR: &str = "managed_coordinator";

/// Something about each asset.
type Of<T> = BTreeMap<AssetUuid, T>;

/// The type of each asset. Rows without a usable uuid are passed over here and below: they cannot be ours.
pub(super) const TYPES: Query<'static, Of<String>, 2> =
    Query { sql: "SELECT ASSET_UUID, TYPE FROM ASSETS_TYPE;", columns: ["*", "TYPE"], take: texts };

/// The service of each asset.
pub(super) const SERVICES: Query<'static, Of<String>, 2> =
    Query { sql: "SELECT * FROM DOCKER_SERVICES;", columns: ["*", "DOCKER_SERVICE"], take: texts };

/// What each asset says of its availability.
pub(super) const AVAILABILITY: Query<'static, Of<Availability>, 2> = Query {
    sql: "SELECT * FROM ASSETS_AVAIL;",
    columns: ["*", "AVAILABILITY"],
    take: |availability, [uuid, said]| {
        if let (Some(uuid), Some(said)) = (asset(uuid), text(said)) {
            let there = if said == "AVAILABLE" { Availability::Available } else { Availability::Unavailable };
            availability.insert(uuid, there);
        }
    },
};

/// The place of each asset in the namespace.
pub(super) const PLACES: Query<'static, Of<Uns>, 3> = Query {
    sql: "SELECT * FROM ASSET_TO_UNS_MAP;",
    columns: ["*", "UNS_ID", "UNS_LEVELS"],
    take: |places, [uuid, id, levels]| {
        if let (Some(uuid), Some(id)) = (asset(uuid), text(id)) {
            let place = match levels {
                Some(Cell::Map(levels)) => rows::place(id.to_owned(), levels),
                Some(_) | None => Uns { levels: Vec::new(), uns_id: id.to_owned() },
            };
            places.insert(uuid, place);
        }
    },
};

/// The connector configuration of each device.
pub(super) const CONNECTORS: Query<'static, Of<String>, 2> =
    Query { sql: "SELECT * FROM DEVICE_CONNECTOR;", columns: ["*", "CONNECTOR_CONFIG"], take: texts };

/// Where to scrape metrics: host, port and path.
pub(super) const TARGETS: Query<'static, Of<(String, u16, String)>, 4> = Query {
    sql: "SELECT * FROM METRICS_TARGETS;",
    columns: ["*", "HOST", "PORT", "PATH"],
    take: |targets, [uuid, host, port, path]| {
        let port = port.and_then(Cell::words).and_then(|port| port.parse().ok());
        if let (Some(uuid), Some(host), Some(port)) = (asset(uuid), text(host), port) {
            targets.insert(uuid, (host.to_owned(), port, text(path).unwrap_or_default().to_owned()));
        }
    },
};

/// The attributes that describe assets, not their samples.
pub(super) const ATTRIBUTES: Query<'static, Said, 6> = Query {
    sql: "SELECT ASSET_UUID, ID, VALUE, TYPE, TAG, TIMESTAMP FROM ASSETS \
          WHERE TYPE = 'OpenFactory' OR TAG = 'NetworkPort' OR ID = 'avail' OR ID = 'agent_avail';",
    columns: ["ASSET_UUID", "ID", "VALUE", "TYPE", "TAG", "TIMESTAMP"],
    take: Said::take,
};

/// The same queries, of whose rows nothing is made.
pub(super) const COUNTS: [Query<'static, (), 0>; 7] = [
    counting(&TYPES),
    counting(&SERVICES),
    counting(&AVAILABILITY),
    counting(&PLACES),
    counting(&CONNECTORS),
    counting(&TARGETS),
    counting(&ATTRIBUTES),
];

const fn counting<T, const N: usize>(query: &Query<'static, T, N>) -> Query<'static, (), 0> {
    const fn nothing(_: &mut (), _: [Option<&Cell<'_>>; 0]) {}
    Query { sql: query.sql, columns: [], take: nothing }
}

/// What came of all queries.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) types: Of<String>,
    pub(super) services: Of<String>,
    pub(super) availability: Of<Availability>,
    pub(super) places: Of<Uns>,
    pub(super) connectors: Of<String>,
    pub(super) targets: Of<(String, u16, String)>,
    pub(super) attributes: Said,
}

impl Answers {
    /// What they show of each asset, as far as evidence goes.
    pub(super) fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        let Said { assets, last, .. } = &self.attributes;
        let all = assets.iter().chain(last.as_ref().map(|(uuid, said)| (uuid, said)));
        for (uuid, Describes { evidence, .. }) in all.filter(|(_, said)| said.evidence != SaidOf::default()) {
            facts.said(uuid.clone(), *evidence);
        }
        for (uuid, _) in self.types.iter().filter(|(_, kind)| *kind != rows::DELETED) {
            facts.row(Source::AssetsType, uuid);
        }
        let rows: [(Source, &mut dyn Iterator<Item = &AssetUuid>); 4] = [
            (Source::DockerServices, &mut self.services.keys()),
            (Source::AssetToUnsMapRaw, &mut self.places.keys()),
            (Source::DeviceConnectorSource, &mut self.connectors.keys()),
            (Source::MetricsTargetsSource, &mut self.targets.keys()),
        ];
        for (source, uuids) in rows {
            uuids.for_each(|uuid| facts.row(source, uuid));
        }
        facts
    }
}

/// When each row of a table was written, in milliseconds since 1970.
pub(super) type Ages = Vec<(AssetUuid, u64)>;

/// The table whose rows tell how old the records of a source are, with the name that OpenFactory gives its key; none
/// for a source that no record depends on.
pub(super) fn aging(source: Source) -> Option<(&'static str, &'static str)> {
    match source {
        Source::AssetsType => Some(("ASSETS_TYPE", "ASSET_UUID")),
        Source::DockerServices => Some(("DOCKER_SERVICES", "ASSET_UUID")),
        Source::AssetToUnsMapRaw => Some(("ASSET_TO_UNS_MAP", "ASSET_UUID")),
        Source::DeviceConnectorSource => Some(("DEVICE_CONNECTOR", "ASSET_UUID")),
        Source::MetricsTargetsSource => Some(("METRICS_TARGETS", "APPLICATION_UUID")),
        // Availability is for the assets themselves to say.
        Source::AssetsStream | Source::AssetsAvail => None,
    }
}

/// The statement for the ages of a table's rows. The server takes `*` only where it stands alone, so that the key is
/// named.
pub(super) fn ages_statement(table: &str, key: &str) -> String {
    format!("SELECT {}, ROWTIME FROM {table};", column(key))
}

/// The query for the ages of a table's rows.
pub(super) fn ages(statement: &str) -> Query<'_, Ages, 2> {
    let take: fn(&mut Ages, [Option<&Cell<'_>>; 2]) = |ages, [uuid, at]| {
        if let (Some(uuid), Some(Cell::Number(at))) = (asset(uuid), at) {
            ages.extend(at.as_u64().map(|at| (uuid, at)));
        }
    };
    Query { sql: statement, columns: ["*", "ROWTIME"], take }
}

/// A name as ksqlDB takes it: in backticks where it is not one of its own upper-case names.
fn column(name: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(plain) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(identifier(name))
    }
}

/// The records whose rows have lived through half of the time that their topic keeps them.
pub(super) fn expiring(source: Source, ages: Ages, wall: SystemTime, expiry: Duration) -> BTreeSet<RecordId> {
    let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    ages.into_iter()
        .filter(|(_, at)| now.saturating_sub(Duration::from_millis(*at)) > expiry / 2)
        .map(|(uuid, _)| match source {
            Source::DeviceConnectorSource => RecordId::Connector(uuid),
            Source::MetricsTargetsSource => RecordId::MetricsTarget(uuid),
            Source::AssetsStream
            | Source::AssetsType
            | Source::AssetsAvail
            | Source::DockerServices
            | Source::AssetToUnsMapRaw => RecordId::Asset(uuid),
        })
        .collect()
}

/// What a coordinator was told of a device, as the value of [`MANAGED_COORDINATOR`].
///
/// It outlives the version that wrote it: a member that is missing has its default, and one that nothing here knows
/// is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(super) struct Told {
    /// The coordinator's uuid.
    pub(super) coordinator: String,
    /// Which kind it is.
    pub(super) protocol: String,
    /// The device's configuration; none while it is not sure what the coordinator knows.
    pub(super) device_config: Option<String>,
}

/// What the attributes of one asset say.
#[derive(Default)]
struct Describes {
    attributes: Attributes,
    /// What they say of tables that are made of the same messages, and of owners.
    evidence: SaidOf,
}

/// What the attributes of all assets say.
#[derive(Default)]
pub(super) struct Said {
    assets: Of<Describes>,
    /// The asset of the last row, which is not among the others: a partition shows the attributes of an asset one after
    /// the other.
    last: Option<(AssetUuid, Describes)>,
    /// When each asset last said that it is available.
    came_up: Of<String>,
    /// What was noted of each device's coordinator, and when.
    told: Of<(Told, String)>,
}

impl Said {
    fn take(&mut self, [uuid, id, value, kind, tag, timestamp]: [Option<&Cell<'_>>; 6]) {
        let (Some(uuid), Some(id), Some(value)) = (text(uuid), text(id), value.and_then(Cell::words)) else { return };
        let [kind, tag, timestamp] = [kind, tag, timestamp].map(|found| text(found).unwrap_or_default());
        if SaidOf::matters(id, kind)
            && let Some(said) = self.of(uuid)
        {
            said.evidence.take(id, &value);
        }
        match id {
            MANAGED_COORDINATOR => {
                if let (Ok(uuid), Ok(told)) = (AssetUuid::new(uuid), serde_json::from_str(&value)) {
                    self.told.insert(uuid, (told, timestamp.to_owned()));
                }
            }
            "avail" | "agent_avail" => {
                // RFC 3339 in UTC: the order of the texts is the order of the times.
                if value == "AVAILABLE" && self.came_up.get(uuid).is_none_or(|last| **last < *timestamp) {
                    self.came_up.extend(AssetUuid::new(uuid).ok().map(|uuid| (uuid, timestamp.to_owned())));
                }
            }
            _ if !Attributes::matters(id, tag) => {}
            _ => {
                if let Some(said) = self.of(uuid) {
                    said.attributes.take(id, Scalar::Text(value.into_owned()), tag, kind);
                }
            }
        }
    }

    /// What is known of an asset so far; none for a uuid that cannot be one.
    fn of(&mut self, uuid: &str) -> Option<&mut Describes> {
        if self.last.as_ref().is_none_or(|(last, _)| last.as_str() != uuid) {
            let next = match self.assets.remove_entry(uuid) {
                Some(known) => known,
                None => (AssetUuid::new(uuid).ok()?, Describes::default()),
            };
            self.assets.extend(self.last.replace(next));
        }
        self.last.as_mut().map(|(_, said)| said)
    }
}

/// Puts the answers together.
pub(super) fn assemble(answers: Answers) -> RegistrySnapshot {
    let Answers { types, services, availability, places, connectors, targets, attributes } = answers;
    let Said { assets, last, came_up, told } = attributes;
    let attributes = assets.into_iter().chain(last).map(|(uuid, said)| (uuid, said.attributes)).collect();
    let known: Vec<(AssetUuid, DeviceCoordinator, String)> = told
        .into_iter()
        .filter_map(|(device, (told, at))| {
            let coordinator = coordinator_of(&told)?;
            let config = known_config(&coordinator, &told, &at, &came_up, &types).unwrap_or_default().to_owned();
            Some((device, coordinator, config))
        })
        .collect();
    let tables = Tables { attributes, types, services, places, connectors, targets };
    let mut snapshot = RegistrySnapshot {
        complete: true,
        records: rows::records(tables),
        availability: availability.into_iter().collect(),
        ..RegistrySnapshot::default()
    };
    for (device, coordinator, config) in known {
        let record = Record::CoordinatorDevice { device: device.clone(), protocol: coordinator.protocol, config };
        let owner = snapshot.records.get(&RecordId::Asset(device.clone())).and_then(|found| found.owner.clone());
        snapshot.records.insert(record.id(), Arc::new(ObservedRecord { record, owner }));
        snapshot.coordinators.insert(device, coordinator);
    }
    snapshot
}

fn texts(found: &mut Of<String>, [uuid, value]: [Option<&Cell<'_>>; 2]) {
    if let (Some(uuid), Some(value)) = (asset(uuid), text(value)) {
        found.insert(uuid, value.to_owned());
    }
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
    came_up: &Of<String>,
    types: &Of<String>,
) -> Option<&'a str> {
    if types.get(&coordinator.uuid).map(String::as_str) != Some(coordinator.protocol.coordinator_type()) {
        return None;
    }
    // RFC 3339 in UTC: the order of the texts is the order of the times.
    if came_up.get(&coordinator.uuid).is_some_and(|came_up| **came_up > *at) {
        return None;
    }
    told.device_config.as_deref()
}

fn asset(cell: Option<&Cell<'_>>) -> Option<AssetUuid> {
    AssetUuid::new(text(cell)?).ok()
}

fn text<'a>(cell: Option<&'a Cell<'_>>) -> Option<&'a str> {
    cell.and_then(Cell::text)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::super::answer::Decoder;
    use super::*;

    fn answer<T: Default, const N: usize>(query: &Query<'_, T, N>, schema: &str, rows: &[Value]) -> T {
        let mut list = vec![json!({"header": {"queryId": "q", "schema": schema}})];
        list.extend(rows.iter().map(|row| json!({"row": {"columns": row}})));
        let mut decoder = Decoder::new(query);
        decoder.feed(json!(list).to_string().as_bytes()).unwrap();
        decoder.finish().unwrap().value
    }

    /// What is read when these assets have these types, and these messages were written to `ASSETS_STREAM`.
    pub(in super::super) fn snapshot(types: &[(&str, &str)], messages: &[(&str, Value)]) -> RegistrySnapshot {
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
        assemble(Answers {
            types: answer(&TYPES, "`ASSET_UUID` STRING KEY, `TYPE` STRING", &types),
            attributes: answer(
                &ATTRIBUTES,
                "`ASSET_UUID` STRING, `ID` STRING, `VALUE` STRING, `TYPE` STRING, `TAG` STRING, `TIMESTAMP` STRING",
                &attributes,
            ),
            ..Answers::default()
        })
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
            assert_eq!(config(snapshot(&there, &[("PLC-1", note.clone()), ("COORD", up)])), expected);
        }
        assert_eq!(config(snapshot(&[], &[("PLC-1", note.clone())])), "", "it is not registered any more");
        assert_eq!(
            config(snapshot(&[("COORD", "OpenFactoryApp")], &[("PLC-1", note.clone())])),
            "",
            "it is another thing"
        );
    }

    /// Notes as versions wrote them: add a line for each version that changes the text, and change none.
    #[test]
    fn notes_of_every_version_are_understood() {
        const OF_0_1: &str = r#"{"coordinator":"COORD","protocol":"OPCUA.Coordinator","device_config":"{}"}"#;
        let told = |device_config: Option<&str>| Told {
            coordinator: "COORD".into(),
            protocol: "OPCUA.Coordinator".into(),
            device_config: device_config.map(str::to_owned),
        };
        assert_eq!(
            json!(told(Some("{}"))).to_string(),
            OF_0_1,
            "registries hold the old text: keep the old line, and make sure that it is still understood"
        );
        for (text, expected) in [
            (OF_0_1, told(Some("{}"))),
            (r#"{"coordinator":"COORD","protocol":"OPCUA.Coordinator","device_config":null}"#, told(None)),
            (r#"{"coordinator":"COORD","protocol":"OPCUA.Coordinator"}"#, told(None)),
            (r#"{"coordinator":"COORD","protocol":"OPCUA.Coordinator","device_config":"{}","at":7}"#, told(Some("{}"))),
        ] {
            assert_eq!(serde_json::from_str::<Told>(text).unwrap(), expected, "{text}");
        }
        assert!(
            coordinator_of(&serde_json::from_str("{}").unwrap()).is_none(),
            "a note that names nobody names nobody"
        );
    }
}
