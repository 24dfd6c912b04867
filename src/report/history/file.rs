//! The tables of the history, in a file or in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::database::{Database, FileError, Layout, check, open_to_read};
use super::HistoryQuery;
use super::entry::{ResourceEntry, RevisionEntry};
use super::recorder::News;
use crate::model::Revision;

/// Ours are marked `OFHI`.
const LAYOUT: Layout = Layout { application: 0x4f46_4849, version: 1, schema: SCHEMA };

const SCHEMA: &str = "
    CREATE TABLE revisions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        revision TEXT NOT NULL,
        time TEXT NOT NULL,
        entry TEXT NOT NULL
    ) STRICT;
    CREATE INDEX revisions_by_time ON revisions (time);
    CREATE TABLE resources (
        number INTEGER NOT NULL REFERENCES revisions (id) ON DELETE CASCADE,
        resource TEXT NOT NULL,
        entry TEXT NOT NULL,
        PRIMARY KEY (number, resource)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX resources_by_resource ON resources (resource, number);
";

/// The open tables.
#[derive(Debug)]
pub(super) struct HistoryFile {
    database: Database,
    /// Where revisions of this process lie, by their keys.
    rows: BTreeMap<u64, i64>,
}

impl HistoryFile {
    /// Opens the file for writing, and makes it with its directory when it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        HistoryFile::of(Database::open(path, &LAYOUT)?)
    }

    /// The same in memory.
    pub(super) fn in_memory() -> Result<Self, FileError> {
        HistoryFile::of(Database::in_memory(&LAYOUT)?)
    }

    fn of(database: Database) -> Result<Self, FileError> {
        database.connection.pragma_update(None, "foreign_keys", true)?;
        Ok(HistoryFile { database, rows: BTreeMap::new() })
    }

    /// Writes all of it or nothing.
    pub(super) fn write(&mut self, news: &News) -> Result<(), FileError> {
        self.database.check_place()?;
        // Whoever else writes to the file is waited for before anything is read.
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = self.database.connection.transaction_with_behavior(behavior)?;
        let mut rows = self.rows.clone();
        for (key, entry) in &news.revisions {
            let row = match rows.get(key) {
                Some(row) => Some(*row),
                None => newest_of(&transaction, &entry.revision)?,
            };
            match row {
                Some(row) => {
                    // Of two processes on one file, the one that saw it first says since when.
                    let stored: Option<String> = transaction
                        .query_row("SELECT time FROM revisions WHERE id = ?1", [row], |row| row.get(0))
                        .optional()?;
                    let first_seen = stored.map_or(entry.first_seen.clone(), |time| time.min(entry.first_seen.clone()));
                    let text = json(&RevisionEntry { first_seen: first_seen.clone(), ..entry.clone() })?;
                    let parameters = params![row, first_seen, text];
                    transaction.execute("UPDATE revisions SET time = ?2, entry = ?3 WHERE id = ?1", parameters)?;
                    rows.insert(*key, row);
                }
                None => {
                    transaction.execute(
                        "INSERT INTO revisions (revision, time, entry) VALUES (?1, ?2, ?3)",
                        params![entry.revision.0, entry.first_seen, json(entry)?],
                    )?;
                    rows.insert(*key, transaction.last_insert_rowid());
                }
            }
        }
        for (key, resource) in &news.resources {
            // A revision that was let go of takes no more resources.
            let Some(row) = rows.get(key) else { continue };
            write_resource(&transaction, *row, resource)?;
        }
        transaction.commit()?;
        // An older one is not written to any more.
        while rows.len() > 2 {
            rows.pop_first();
        }
        self.rows = rows;
        Ok(())
    }

    /// Lets go of revisions that began before `oldest` (RFC 3339), and of the oldest tenth again and again while the
    /// tables hold more than `bytes`; never of the newest one.
    pub(super) fn prune(&mut self, oldest: &str, bytes: u64) -> Result<(), FileError> {
        let connection = &self.database.connection;
        let mut removed = connection
            .execute("DELETE FROM revisions WHERE time < ?1 AND id < (SELECT MAX(id) FROM revisions)", [oldest])?;
        while self.database.used()? > bytes {
            let gone = connection.execute(
                "DELETE FROM revisions WHERE id < (SELECT MAX(id) FROM revisions) AND id <= \
                 (SELECT id FROM revisions ORDER BY id LIMIT 1 OFFSET (SELECT COUNT(*) / 10 FROM revisions))",
                [],
            )?;
            if gone == 0 {
                break;
            }
            removed += gone;
        }
        if removed > 0 {
            self.database.give_back()?;
        }
        Ok(())
    }

    /// The revisions that a query asks for, newest first.
    pub(super) fn read(&self, query: &HistoryQuery) -> Result<Vec<RevisionEntry>, FileError> {
        select(&self.database.connection, query)
    }

    /// The newest revision, with its resources.
    pub(super) fn newest(&self) -> Result<Option<RevisionEntry>, FileError> {
        let query = HistoryQuery { limit: 1, resources: true, ..HistoryQuery::default() };
        Ok(self.read(&query)?.pop())
    }
}

/// Reads from a file without ever changing it: the revisions that a query asks for, newest first.
pub(super) fn read(path: &Path, query: &HistoryQuery) -> Result<Vec<RevisionEntry>, FileError> {
    let connection = open_to_read(path)?;
    check(&connection, &LAYOUT)?;
    select(&connection, query)
}

/// The newest revision, if it is of this revision: another process on the same file may have begun it.
fn newest_of(connection: &Connection, revision: &Revision) -> Result<Option<i64>, FileError> {
    let newest: Option<(i64, String)> = connection
        .query_row("SELECT id, revision FROM revisions ORDER BY id DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(newest.filter(|(_, other)| *other == revision.0).map(|(id, _)| id))
}

fn write_resource(connection: &Connection, number: i64, resource: &ResourceEntry) -> Result<(), FileError> {
    let id = resource.resource.to_string();
    let stored: Option<String> = connection
        .prepare_cached("SELECT entry FROM resources WHERE number = ?1 AND resource = ?2")?
        .query_row(params![number, id], |row| row.get(0))
        .optional()?;
    let stored = stored.and_then(|text| serde_json::from_str::<ResourceEntry>(&text).ok());
    let text = match stored {
        Some(stored) => json(&resource.clone().merged(stored))?,
        None => json(resource)?,
    };
    connection
        .prepare_cached("INSERT OR REPLACE INTO resources (number, resource, entry) VALUES (?1, ?2, ?3)")?
        .execute(params![number, id, text])?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, FileError> {
    Ok(serde_json::to_string(value).map_err(io::Error::from)?)
}

fn select(connection: &Connection, query: &HistoryQuery) -> Result<Vec<RevisionEntry>, FileError> {
    let mut statement = connection.prepare(
        "SELECT revisions.id, revisions.entry, resources.entry FROM revisions \
         LEFT JOIN resources ON resources.number = revisions.id AND resources.resource = ?1 \
         WHERE (?1 IS NULL OR resources.entry IS NOT NULL) AND (?2 IS NULL OR revisions.id < ?2) \
         AND (?3 IS NULL OR substr(revisions.revision, 1, length(?3)) = ?3) ORDER BY revisions.id DESC LIMIT ?4",
    )?;
    let parameters = params![
        query.resource.as_ref().map(ToString::to_string),
        query.before.map(|before| i64::try_from(before).unwrap_or(i64::MAX)),
        query.revision,
        i64::try_from(query.limit).unwrap_or(i64::MAX),
    ];
    let stored = |row: &Row<'_>| -> Result<Option<RevisionEntry>, rusqlite::Error> {
        // What another version wrote, and this one cannot read, is left out.
        let Ok(mut entry) = serde_json::from_str::<RevisionEntry>(row.get_ref(1)?.as_str()?) else { return Ok(None) };
        entry.number = u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
        let resource: Option<String> = row.get(2)?;
        entry.resources = resource.and_then(|text| serde_json::from_str(&text).ok()).into_iter().collect();
        Ok(Some(entry))
    };
    let entries = statement.query_map(parameters, stored)?.collect::<Result<Vec<_>, _>>()?;
    let mut entries: Vec<RevisionEntry> = entries.into_iter().flatten().collect();
    if query.resources && query.resource.is_none() {
        for entry in &mut entries {
            entry.resources = resources_of(connection, entry.number)?;
        }
    }
    Ok(entries)
}

/// The resources of one revision, sorted as text.
fn resources_of(connection: &Connection, number: u64) -> Result<Vec<ResourceEntry>, FileError> {
    let mut statement = connection.prepare_cached("SELECT entry FROM resources WHERE number = ?1 ORDER BY resource")?;
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let entries = statement.query_map([number], |row| row.get::<_, String>(0))?;
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
}
