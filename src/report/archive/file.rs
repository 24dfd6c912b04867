//! The file: its tables and its bounds.

use std::io;
use std::path::Path;

use rusqlite::{Connection, Row, params};

use super::super::database::{Database, Layout, open_to_read};
pub(super) use super::super::database::{FileError, set_aside};
use super::super::events::{Entry, EventQuery};

/// Ours are marked `OFEV`.
const LAYOUT: Layout = Layout { application: 0x4f46_4556, version: 1, schema: SCHEMA };

const SCHEMA: &str = "
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        time TEXT NOT NULL,
        type TEXT NOT NULL,
        resource TEXT,
        event TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_resource ON events (resource, id) WHERE resource IS NOT NULL;
    CREATE INDEX events_by_time ON events (time);
";

/// An event out of the file.
pub(super) struct Stored {
    pub(super) run: String,
    pub(super) sequence: u64,
    /// None where another version of ofop wrote what this one does not know.
    pub(super) entry: Option<Entry>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct EventFile {
    database: Database,
    /// It was made by this opening.
    pub(super) is_new: bool,
}

impl EventFile {
    /// Opens the file for writing, and makes it with its directory when it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let database = Database::open(path, &LAYOUT)?;
        let is_new = database.is_new;
        Ok(EventFile { database, is_new })
    }

    /// Adds events, all or none.
    pub(super) fn append(&mut self, run: &str, entries: &[Entry]) -> Result<(), FileError> {
        self.database.check_place()?;
        let transaction = self.database.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO events (run, sequence, time, type, resource, event) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for entry in entries {
                let resource = entry.resource().map(ToString::to_string);
                let text = serde_json::to_string(entry).map_err(io::Error::from)?;
                let sequence = i64::try_from(entry.sequence()).unwrap_or(i64::MAX);
                insert.execute(params![run, sequence, entry.time(), entry.kind().as_str(), resource, text])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Lets go of events from before `oldest` (RFC 3339), and of the oldest tenth again and again while the file holds
    /// more than `bytes`.
    pub(super) fn prune(&mut self, oldest: &str, bytes: u64) -> Result<(), FileError> {
        let connection = &self.database.connection;
        let mut removed = connection.execute("DELETE FROM events WHERE time < ?1", [oldest])?;
        while self.database.used()? > bytes {
            let gone = connection.execute(
                "DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id LIMIT 1 \
                 OFFSET (SELECT COUNT(*) / 10 FROM events))",
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

    /// The highest number of an event, and the last `count` events, oldest first.
    pub(super) fn last(&self, count: usize) -> Result<(u64, Vec<Entry>), FileError> {
        let connection = &self.database.connection;
        let highest: Option<i64> = connection.query_row("SELECT MAX(sequence) FROM events", [], |row| row.get(0))?;
        let query = EventQuery { limit: count, ..EventQuery::default() };
        let entries = select(connection, &query)?.into_iter().filter_map(|stored| stored.entry).collect();
        Ok((highest.and_then(|highest| u64::try_from(highest).ok()).unwrap_or(0), entries))
    }
}

/// Reads from the file without ever changing it: the last events that a query asks for, oldest first.
pub(super) fn read(path: &Path, query: &EventQuery) -> Result<Vec<Stored>, FileError> {
    select(&open_to_read(path)?, query)
}

fn select(connection: &Connection, query: &EventQuery) -> Result<Vec<Stored>, FileError> {
    let mut statement = connection.prepare(
        "SELECT run, sequence, event FROM events \
         WHERE sequence > ?1 AND (?2 IS NULL OR time >= ?2) AND (?3 IS NULL OR resource = ?3) \
         AND (?4 IS NULL OR type = ?4) ORDER BY id DESC LIMIT ?5",
    )?;
    let parameters = params![
        i64::try_from(query.after).unwrap_or(i64::MAX),
        query.since,
        query.resource.as_ref().map(ToString::to_string),
        query.kind.map(super::super::events::EventType::as_str),
        i64::try_from(query.limit).unwrap_or(i64::MAX),
    ];
    let stored = |row: &Row<'_>| {
        let sequence = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        let entry = serde_json::from_str(row.get_ref(2)?.as_str()?).ok();
        Ok(Stored { run: row.get(0)?, sequence, entry })
    };
    let mut rows = statement.query_map(parameters, stored)?.collect::<Result<Vec<_>, _>>()?;
    rows.reverse();
    Ok(rows)
}
