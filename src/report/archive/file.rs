//! The file: its schema, its bounds, and what can be wrong with it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use super::super::events::{Entry, EventQuery};

/// The version of the tables, as `PRAGMA user_version` holds it.
const VERSION: i32 = 1;

/// Marks the file as ours, as `PRAGMA application_id` holds it: `OFEV`.
const APPLICATION: i32 = 0x4f46_4556;

/// How long a call waits for another process's transaction; they take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The write-ahead log is cut back to this size, in bytes, after it has been carried over.
const MAX_WAL: i64 = 4 << 20;

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

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("it cannot be opened: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("it is a database of something else")]
    Foreign,
    #[error("its tables have version {0}, which this version of ofop does not know")]
    Version(i32),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("somebody moved or deleted it")]
    Gone,
}

impl FileError {
    /// Whether what is in the file can no longer be read, so that a new one must take its place.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            FileError::Damaged(_) => true,
            FileError::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            FileError::Io(_) | FileError::Foreign | FileError::Version(_) | FileError::Gone => false,
        }
    }

    /// What a person can do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            FileError::Foreign | FileError::Version(_) => "move it away, or choose another directory with --state-dir",
            FileError::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => "make room on its disk",
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    "look for a SQLite shell that keeps a transaction open"
                }
                Some(_) | None => "check the owner, mode and disk of the state directory",
            },
            FileError::Io(_) | FileError::Damaged(_) | FileError::Gone => {
                "check the owner, mode and disk of the state directory"
            }
        }
    }
}

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
    connection: Connection,
    path: PathBuf,
    /// Device and inode: a deleted file stays usable, and useless, for whoever has it open.
    identity: (u64, u64),
    /// It was made by this opening.
    pub(super) is_new: bool,
}

impl EventFile {
    /// Opens the file for writing, and makes it with its directory when it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let is_new = !path.exists();
        if is_new {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            // SQLite gives its other files the same mode.
            OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // Only has an effect before the first table: then room is given back as events go.
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update_and_check(None, "journal_size_limit", MAX_WAL, |_| Ok(()))?;
        // In WAL mode this loses at most the last events with the power.
        connection.pragma_update(None, "synchronous", "normal")?;
        prepare(&mut connection)?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(FileError::Damaged(verdict));
        }
        let identity = identity(path).ok_or(FileError::Gone)?;
        Ok(EventFile { connection, path: path.to_owned(), identity, is_new })
    }

    /// Adds events, all or none.
    pub(super) fn append(&mut self, run: &str, entries: &[Entry]) -> Result<(), FileError> {
        if identity(&self.path) != Some(self.identity) {
            return Err(FileError::Gone);
        }
        let transaction = self.connection.transaction()?;
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
        let mut removed = self.connection.execute("DELETE FROM events WHERE time < ?1", [oldest])?;
        while self.used()? > bytes {
            let gone = self.connection.execute(
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
            // A statement that yields rows until it is done.
            let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        Ok(())
    }

    /// How many bytes of the file hold something.
    fn used(&self) -> Result<u64, FileError> {
        let number = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let used = (number("page_count")? - number("freelist_count")?).saturating_mul(number("page_size")?);
        Ok(u64::try_from(used).unwrap_or(0))
    }

    /// The highest number of an event, and the last `count` events, oldest first.
    pub(super) fn last(&self, count: usize) -> Result<(u64, Vec<Entry>), FileError> {
        let highest: Option<i64> =
            self.connection.query_row("SELECT MAX(sequence) FROM events", [], |row| row.get(0))?;
        let query = EventQuery { limit: count, ..EventQuery::default() };
        let entries = select(&self.connection, &query)?.into_iter().filter_map(|stored| stored.entry).collect();
        Ok((highest.and_then(|highest| u64::try_from(highest).ok()).unwrap_or(0), entries))
    }
}

/// Reads from the file without ever changing it: the last events that a query asks for, oldest first.
pub(super) fn read(path: &Path, query: &EventQuery) -> Result<Vec<Stored>, FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    select(&connection, query)
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

/// Makes the tables in a new file; refuses a file that is not ours or newer than we are.
fn prepare(connection: &mut Connection) -> Result<(), FileError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = transaction.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    } else if application != APPLICATION {
        return Err(FileError::Foreign);
    } else if version != VERSION {
        return Err(FileError::Version(version));
    }
    transaction.commit()?;
    Ok(())
}

/// Where a damaged file is put: beside where it was, over one that was put there before.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = with(".damaged");
    fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        // They belong to the file that is gone; a missing one is none to worry about.
        let _ = fs::rename(with(suffix), with(&format!(".damaged{suffix}")));
    }
    Ok(aside)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
