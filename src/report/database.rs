//! SQLite files in the state directory: how one is opened, what can be wrong with it, and how it stays bounded.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long a call waits for another process's transaction; they take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The write-ahead log is cut back to this size, in bytes, after it has been carried over.
const MAX_WAL: i64 = 4 << 20;

/// What tells a file of ours from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Marks the file as ours, as `PRAGMA application_id` holds it.
    pub(crate) application: i32,
    /// The version of the tables, as `PRAGMA user_version` holds it.
    pub(crate) version: i32,
    /// The statements that make the tables.
    pub(crate) schema: &'static str,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
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
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            FileError::Damaged(_) => true,
            FileError::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            FileError::Io(_) | FileError::Foreign | FileError::Version(_) | FileError::Gone => false,
        }
    }

    /// What a person can do about it.
    pub(crate) fn hint(&self) -> &'static str {
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

/// An open file, for writing.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) connection: Connection,
    path: PathBuf,
    /// Device and inode: a deleted file stays usable, and useless, for whoever has it open. None in memory.
    identity: Option<(u64, u64)>,
    /// It was made by this opening.
    pub(crate) is_new: bool,
}

impl Database {
    /// Opens the file, and makes it with its directory when it is missing.
    pub(crate) fn open(path: &Path, layout: &Layout) -> Result<Self, FileError> {
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
        // What comes next writes to the file, which may be somebody else's.
        if has_tables(&connection)? {
            check(&connection, layout)?;
        }
        // Only has an effect before the first table: then room is given back as rows go.
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update_and_check(None, "journal_size_limit", MAX_WAL, |_| Ok(()))?;
        // In WAL mode this loses at most the last transactions with the power.
        connection.pragma_update(None, "synchronous", "normal")?;
        prepare(&mut connection, layout)?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(FileError::Damaged(verdict));
        }
        let identity = Some(identity(path).ok_or(FileError::Gone)?);
        Ok(Database { connection, path: path.to_owned(), identity, is_new })
    }

    /// The same tables in memory.
    pub(crate) fn in_memory(layout: &Layout) -> Result<Self, FileError> {
        let mut connection = Connection::open_in_memory()?;
        connection.pragma_update(None, "auto_vacuum", "incremental")?;
        prepare(&mut connection, layout)?;
        Ok(Database { connection, path: PathBuf::new(), identity: None, is_new: true })
    }

    /// Makes sure that the file is still where it was opened.
    pub(crate) fn check_place(&self) -> Result<(), FileError> {
        if self.identity.is_some() && identity(&self.path) != self.identity { Err(FileError::Gone) } else { Ok(()) }
    }

    /// How many bytes of the file hold something.
    pub(crate) fn used(&self) -> Result<u64, FileError> {
        let number = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let used = (number("page_count")? - number("freelist_count")?).saturating_mul(number("page_size")?);
        Ok(u64::try_from(used).unwrap_or(0))
    }

    /// Gives back the room of rows that went.
    pub(crate) fn give_back(&self) -> Result<(), FileError> {
        // A statement that yields rows until it is done.
        let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}

/// Opens a file for reading alone; nothing of it is checked.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Makes the tables in a new file; refuses a file that is not ours or newer than we are.
fn prepare(connection: &mut Connection, layout: &Layout) -> Result<(), FileError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    if has_tables(&transaction)? {
        check(&transaction, layout)?;
    } else {
        transaction.execute_batch(layout.schema)?;
        transaction.pragma_update(None, "application_id", layout.application)?;
        transaction.pragma_update(None, "user_version", layout.version)?;
    }
    transaction.commit()?;
    Ok(())
}

fn has_tables(connection: &Connection) -> Result<bool, FileError> {
    let tables: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables > 0)
}

/// Refuses a file that is not ours or newer than we are.
pub(crate) fn check(connection: &Connection, layout: &Layout) -> Result<(), FileError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != layout.application {
        return Err(FileError::Foreign);
    }
    if version != layout.version {
        return Err(FileError::Version(version));
    }
    Ok(())
}

/// Where a damaged file is put: beside where it was, over one that was put there before.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
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
