//! The tables in SQLite, named as in ksqlDB, and what a message does to them.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Trouble;
use crate::model::{AssetUuid, Availability, Scalar, Source};
use crate::registry::messages::{Key, Message, Said, SaidAttribute, SaidPlace};
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
    match &message.value {
        Some(Said::Attribute(said)) => attribute(transaction, uuid, said),
        Some(Said::Place(SaidPlace { uns_id, uns_levels, updated_at, asset_uuid: _ })) => {
            let updated_at = updated_at.and_then(|at| i64::try_from(at).ok());
            write(
                transaction,
                "INSERT OR REPLACE INTO ASSET_TO_UNS_MAP VALUES (?1, ?2, ?3, ?4)",
                params![uuid.as_str(), uns_id, json(uns_levels), updated_at],
            )
        }
        Some(Said::Nowhere(_)) => displace(transaction, uuid),
        Some(Said::Connector { connector_config }) => write(
            transaction,
            "INSERT OR REPLACE INTO DEVICE_CONNECTOR VALUES (?1, ?2)",
            params![uuid.as_str(), connector_config],
        ),
        Some(Said::Target { host, port, path }) => write(
            transaction,
            "INSERT OR REPLACE INTO METRICS_TARGETS VALUES (?1, ?2, ?3, ?4)",
            params![uuid.as_str(), host, port, path],
        ),
        None => match message.source {
            // A stream has no rows that a tombstone could remove.
            Source::AssetsStream => Ok(()),
            Source::AssetsType => remove(transaction, "ASSETS_TYPE", uuid),
            Source::AssetsAvail => remove(transaction, "ASSETS_AVAIL", uuid),
            Source::DockerServices => remove(transaction, "DOCKER_SERVICES", uuid),
            Source::AssetToUnsMapRaw => displace(transaction, uuid),
            Source::DeviceConnectorSource => remove(transaction, "DEVICE_CONNECTOR", uuid),
            Source::MetricsTargetsSource => remove(transaction, "METRICS_TARGETS", uuid),
        },
    }
}

/// An attribute, and what ksqlDB's queries derive from it.
fn attribute(transaction: &Transaction<'_>, uuid: &AssetUuid, said: &SaidAttribute) -> Result<(), Trouble> {
    let SaidAttribute { id, value, tag, kind, time } = said;
    let shown = shown(value);
    write(
        transaction,
        "INSERT OR REPLACE INTO ASSETS VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![format!("{uuid}|{id}"), uuid.as_str(), id, shown, tag, kind, time.timestamp.as_deref(), json(value)],
    )?;
    let derived = match &**id {
        "AssetType" => "INSERT OR REPLACE INTO ASSETS_TYPE VALUES (?1, ?2)",
        "DockerService" => "INSERT OR REPLACE INTO DOCKER_SERVICES VALUES (?1, ?2)",
        "avail" => "INSERT OR REPLACE INTO ASSETS_AVAIL VALUES (?1, ?2)",
        _ => return Ok(()),
    };
    write(transaction, derived, params![uuid.as_str(), shown.unwrap_or_default()])
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
    write(transaction, &format!("DELETE FROM {table} WHERE ASSET_UUID = ?1"), [uuid.as_str()])
}

/// Runs a statement, which is parsed the first time only.
fn write(transaction: &Transaction<'_>, sql: &str, row: impl rusqlite::Params) -> Result<(), Trouble> {
    transaction.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

/// A value as text, as ksqlDB shows it.
fn shown(value: &Scalar) -> Option<String> {
    match value {
        Scalar::Null => None,
        Scalar::Text(text) => Some(text.clone()),
        Scalar::Bool(_) | Scalar::Int(_) | Scalar::Float(_) => Some(json(value)),
    }
}

fn json(value: &impl Serialize) -> String {
    // Texts, numbers and maps of them always have a form in JSON.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Everything that is there.
pub(super) fn read(connection: &Connection) -> Result<(Tables, BTreeMap<AssetUuid, Availability>), Trouble> {
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
    let mut availability = BTreeMap::new();
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
