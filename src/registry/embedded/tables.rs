//! The tables in SQLite, named as in ksqlDB, and what a message does to them.

use rusqlite::{Connection, Transaction, params};
use serde_json::{Map, Value};

use super::Trouble;
use crate::model::{AssetUuid, Availability, Source};
use crate::registry::messages::{Key, Message};
use crate::registry::rows::{Tables, place, scalar};

/// Written into the file's header, so that no other database is mistaken for ours: "ofop".
pub(super) const APPLICATION_ID: i32 = 0x6f66_6f70;

/// Version of the tables.
pub(super) const VERSION: i32 = 1;

/// `ASSETS` holds the attribute's value as ksqlDB would show it, and as JSON to keep its type.
const SCHEMA: &str = "
CREATE TABLE ASSETS (
    KEY TEXT PRIMARY KEY, ASSET_UUID TEXT NOT NULL, ID TEXT NOT NULL,
    VALUE TEXT, TAG TEXT NOT NULL, TYPE TEXT NOT NULL, TIMESTAMP TEXT, VALUE_JSON TEXT NOT NULL
);
CREATE INDEX ASSETS_BY_UUID ON ASSETS (ASSET_UUID);
CREATE TABLE ASSETS_TYPE (ASSET_UUID TEXT PRIMARY KEY, TYPE TEXT NOT NULL);
CREATE TABLE ASSETS_AVAIL (ASSET_UUID TEXT PRIMARY KEY, AVAILABILITY TEXT NOT NULL);
CREATE TABLE DOCKER_SERVICES (ASSET_UUID TEXT PRIMARY KEY, DOCKER_SERVICE TEXT NOT NULL);
CREATE TABLE ASSET_TO_UNS_MAP (
    ASSET_UUID TEXT PRIMARY KEY, UNS_ID TEXT NOT NULL, UNS_LEVELS TEXT NOT NULL, UPDATED_AT INTEGER
);
CREATE TABLE DEVICE_CONNECTOR (ASSET_UUID TEXT PRIMARY KEY, CONNECTOR_CONFIG TEXT NOT NULL);
CREATE TABLE METRICS_TARGETS (
    ASSET_UUID TEXT PRIMARY KEY, HOST TEXT NOT NULL, PORT TEXT NOT NULL, PATH TEXT NOT NULL
);
";

/// Makes the tables in an empty file, or checks that they are ours.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), Trouble> {
    let header = |connection: &Connection, name: &str| -> rusqlite::Result<i32> {
        connection.pragma_query_value(None, name, |row| row.get(0))
    };
    let (mut application, mut version) = (header(connection, "application_id")?, header(connection, "user_version")?);
    if application == 0 && version == 0 {
        // Two processes may find the file empty; the second one waits here and finds it filled.
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let objects: i64 = transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if objects == 0 {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        (application, version) = (header(connection, "application_id")?, header(connection, "user_version")?);
    }
    match (application, version) {
        (APPLICATION_ID, VERSION) => Ok(()),
        (APPLICATION_ID, newer) => Err(Trouble::Version(newer)),
        (_, _) => Err(Trouble::Stranger),
    }
}

/// Does what the topics and tables behind a message's source would do.
pub(super) fn apply(transaction: &Transaction<'_>, message: &Message) -> Result<(), Trouble> {
    let Key::Asset(uuid) = &message.key else {
        return Ok(());
    };
    let table = match message.source {
        Source::AssetsStream => {
            return match &message.value {
                Some(value) => attribute(transaction, uuid, value),
                None => Ok(()),
            };
        }
        Source::AssetsType => "ASSETS_TYPE",
        Source::AssetsAvail => "ASSETS_AVAIL",
        Source::DockerServices => "DOCKER_SERVICES",
        Source::AssetToUnsMapRaw => "ASSET_TO_UNS_MAP",
        Source::DeviceConnectorSource => "DEVICE_CONNECTOR",
        Source::MetricsTargetsSource => "METRICS_TARGETS",
    };
    let Some(value) = &message.value else { return remove(transaction, table, uuid) };
    match message.source {
        Source::AssetToUnsMapRaw => match field(value, "UNS_ID") {
            Some(Value::String(uns_id)) => transaction.execute(
                "INSERT OR REPLACE INTO ASSET_TO_UNS_MAP VALUES (?1, ?2, ?3, ?4)",
                params![
                    uuid.as_str(),
                    uns_id,
                    field(value, "UNS_LEVELS").unwrap_or(&Value::Null).to_string(),
                    field(value, "UPDATED_AT").and_then(Value::as_i64)
                ],
            )?,
            Some(_) | None => return remove(transaction, table, uuid),
        },
        Source::DeviceConnectorSource => transaction.execute(
            "INSERT OR REPLACE INTO DEVICE_CONNECTOR VALUES (?1, ?2)",
            params![uuid.as_str(), shown(field(value, "CONNECTOR_CONFIG"))],
        )?,
        Source::MetricsTargetsSource => transaction.execute(
            "INSERT OR REPLACE INTO METRICS_TARGETS VALUES (?1, ?2, ?3, ?4)",
            params![
                uuid.as_str(),
                shown(field(value, "HOST")),
                shown(field(value, "PORT")),
                shown(field(value, "PATH"))
            ],
        )?,
        Source::AssetsType => {
            transaction.execute("INSERT OR REPLACE INTO ASSETS_TYPE VALUES (?1, ?2)", derived(uuid, value))?
        }
        Source::AssetsAvail => {
            transaction.execute("INSERT OR REPLACE INTO ASSETS_AVAIL VALUES (?1, ?2)", derived(uuid, value))?
        }
        Source::DockerServices => {
            transaction.execute("INSERT OR REPLACE INTO DOCKER_SERVICES VALUES (?1, ?2)", derived(uuid, value))?
        }
        Source::AssetsStream => 0,
    };
    Ok(())
}

/// An attribute, and what ksqlDB's queries derive from it.
fn attribute(transaction: &Transaction<'_>, uuid: &AssetUuid, message: &Value) -> Result<(), Trouble> {
    let value = field(message, "VALUE").unwrap_or(&Value::Null);
    let id = shown(field(message, "ID")).unwrap_or_default();
    let time = message.pointer("/attributes/timestamp").and_then(Value::as_str);
    transaction.execute(
        "INSERT OR REPLACE INTO ASSETS VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            format!("{uuid}|{id}"),
            uuid.as_str(),
            id,
            shown(Some(value)),
            shown(field(message, "TAG")).unwrap_or_default(),
            shown(field(message, "TYPE")).unwrap_or_default(),
            time,
            value.to_string()
        ],
    )?;
    let derive = |table: &str| -> Result<(), Trouble> {
        let row = params![uuid.as_str(), shown(Some(value)).unwrap_or_default()];
        transaction.execute(&format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2)"), row)?;
        Ok(())
    };
    match id.as_str() {
        "AssetType" => derive("ASSETS_TYPE"),
        "DockerService" => derive("DOCKER_SERVICES"),
        "avail" => derive("ASSETS_AVAIL"),
        _ => Ok(()),
    }
}

/// Forgets everything that was said about an asset on `ASSETS_STREAM`.
pub(super) fn forget(transaction: &Transaction<'_>, uuid: &AssetUuid) -> Result<(), Trouble> {
    remove(transaction, "ASSETS", uuid)
}

/// Forgets where an asset stands in the namespace.
pub(super) fn displace(transaction: &Transaction<'_>, uuid: &AssetUuid) -> Result<(), Trouble> {
    remove(transaction, "ASSET_TO_UNS_MAP", uuid)
}

fn remove(transaction: &Transaction<'_>, table: &str, uuid: &AssetUuid) -> Result<(), Trouble> {
    transaction.execute(&format!("DELETE FROM {table} WHERE ASSET_UUID = ?1"), [uuid.as_str()])?;
    Ok(())
}

/// A field of a message; ksqlDB reads names without regard to case.
fn field<'a>(message: &'a Value, name: &str) -> Option<&'a Value> {
    message.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A value as text, as ksqlDB shows it.
fn shown(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A row of one of the tables that ksqlDB derives, when somebody writes to its topic.
fn derived(uuid: &AssetUuid, value: &Value) -> (String, String) {
    let text = field(value, "VALUE").or_else(|| field(value, "TYPE")).unwrap_or(value);
    (uuid.to_string(), shown(Some(text)).unwrap_or_default())
}

/// Everything that is there.
pub(super) fn read(
    connection: &Connection,
) -> Result<(Tables, std::collections::BTreeMap<AssetUuid, Availability>), Trouble> {
    let mut tables = Tables::default();
    let mut rows = connection.prepare("SELECT ASSET_UUID, ID, VALUE_JSON, TAG, TYPE FROM ASSETS ORDER BY rowid")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(uuid) = AssetUuid::new(row.get::<_, String>(0)?) else { continue };
        let value: Value = serde_json::from_str(row.get_ref(2)?.as_str().unwrap_or("null")).unwrap_or(Value::Null);
        let [id, tag, kind] = [row.get_ref(1)?, row.get_ref(3)?, row.get_ref(4)?];
        let [id, tag, kind] = [id, tag, kind].map(|text| text.as_str().unwrap_or_default());
        tables.attributes.entry(uuid).or_default().take(id, scalar(&value), tag, kind);
    }
    pairs(connection, "SELECT ASSET_UUID, TYPE FROM ASSETS_TYPE", |uuid, kind| {
        tables.types.insert(uuid, kind);
    })?;
    pairs(connection, "SELECT ASSET_UUID, DOCKER_SERVICE FROM DOCKER_SERVICES", |uuid, service| {
        tables.services.insert(uuid, service);
    })?;
    pairs(connection, "SELECT ASSET_UUID, CONNECTOR_CONFIG FROM DEVICE_CONNECTOR", |uuid, config| {
        tables.connectors.insert(uuid, config);
    })?;
    let mut availability = std::collections::BTreeMap::new();
    pairs(connection, "SELECT ASSET_UUID, AVAILABILITY FROM ASSETS_AVAIL", |uuid, text| {
        let said = if text == "AVAILABLE" { Availability::Available } else { Availability::Unavailable };
        availability.insert(uuid, said);
    })?;
    let mut rows = connection.prepare("SELECT ASSET_UUID, UNS_ID, UNS_LEVELS FROM ASSET_TO_UNS_MAP")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(uuid) = AssetUuid::new(row.get::<_, String>(0)?) else { continue };
        let levels: Map<String, Value> = serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default();
        tables.places.insert(uuid, place(row.get(1)?, &levels));
    }
    let mut rows = connection.prepare("SELECT ASSET_UUID, HOST, PORT, PATH FROM METRICS_TARGETS")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(uuid) = AssetUuid::new(row.get::<_, String>(0)?) else { continue };
        // A port that nobody could scrape differs from every wanted one, and so is written anew.
        let port = row.get::<_, String>(2)?.parse().unwrap_or(0);
        tables.targets.insert(uuid, (row.get(1)?, port, row.get(3)?));
    }
    Ok((tables, availability))
}

fn pairs(connection: &Connection, sql: &str, mut each: impl FnMut(AssetUuid, String)) -> Result<(), Trouble> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Ok(uuid) = AssetUuid::new(row.get::<_, String>(0)?) {
            each(uuid, row.get(1)?);
        }
    }
    Ok(())
}
