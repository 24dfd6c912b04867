//! What waits for its sinks, and what was told: a SQLite file in the state directory.
//!
//! # Guarantees
//!
//! - What is decided and the memory that it changes are written together: a crash before that decides again, one after it
//!   delivers what is there.
//! - A message stays until its sink has taken it, and goes after [`KEEP`], or when [`MOST`] newer ones wait for the same sink;
//!   both are counted.
//! - A file that cannot be used stops nobody: everything goes on in memory, and [`Outbox::trouble`] says why.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension as _, params};

use super::decide::Memory;
use super::message::Payload;
use crate::report::database::{Database, FileError, Layout, set_aside};

/// Name of the file in the state directory.
pub const FILE: &str = "notify.db";

/// How many messages may wait for one sink.
pub const MOST: usize = 1_000;

/// How long a message waits for a sink, in milliseconds: three days, as over a weekend.
pub const KEEP: u64 = 3 * 24 * 3_600_000;

/// How long a standby keeps what it would have sent, in milliseconds: whoever holds the lease has sent it by then, or told
/// its metrics that it cannot.
pub const TAKE_OVER: u64 = 5 * 60_000;

/// Ours are marked `OFNO`.
const LAYOUT: Layout = Layout { application: 0x4f46_4e4f, version: 1, schema: SCHEMA };

const SCHEMA: &str = "
    CREATE TABLE memory (id INTEGER PRIMARY KEY CHECK (id = 1), value TEXT NOT NULL) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sink TEXT NOT NULL,
        commit_id TEXT,
        created INTEGER NOT NULL,
        held INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        payload TEXT NOT NULL
    ) STRICT;
    CREATE INDEX outbox_by_sink ON outbox (sink, id);
";

/// A message for one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its number in the file.
    pub id: i64,
    /// When it was decided, in milliseconds since 1970-01-01 UTC.
    pub created: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What it is.
    pub payload: Payload,
}

/// A message that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLetter {
    /// For which sink.
    pub sink: String,
    /// What it is.
    pub payload: Payload,
    /// It waits, since another operator sends the same.
    pub held: bool,
}

/// What waits for one sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many messages.
    pub count: usize,
    /// When the oldest was decided, in milliseconds since 1970-01-01 UTC.
    pub oldest: Option<u64>,
}

/// The file.
#[derive(Debug)]
pub struct Outbox {
    path: PathBuf,
    database: Database,
    trouble: Option<String>,
    /// What waited too long or for too many others, by sink, until somebody takes it.
    dropped: Vec<String>,
}

/// A row as it is stored.
type Row = (i64, String, Option<String>, i64, bool, i64, String);

fn sql(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Outbox {
    /// Opens the file in this directory, or makes it. Blocks. Whatever is wrong with the file is a trouble.
    ///
    /// # Errors
    /// When there cannot even be one in memory.
    pub fn open(directory: &Path) -> Result<Self, String> {
        let path = directory.join(FILE);
        let opened = Database::open(&path, &LAYOUT).or_else(|error| {
            if !error.is_damage() {
                return Err(error);
            }
            // What was told is forgotten; what still fails is told again.
            set_aside(&path)?;
            Database::open(&path, &LAYOUT)
        });
        let (database, trouble) = match opened {
            Ok(database) => (database, None),
            Err(error) => (in_memory()?, Some(in_memory_only(&path, &error))),
        };
        Ok(Outbox { path, database, trouble, dropped: Vec::new() })
    }

    /// Why the file is not used, and what to do.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The sinks for which a message was dropped, each once for each message, since this was last asked.
    pub fn take_dropped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.dropped)
    }

    /// What was told. One that cannot be understood counts as none: what still fails is told again.
    pub fn memory(&self) -> Memory {
        let read = self
            .database
            .connection
            .query_row("SELECT value FROM memory WHERE id = 1", [], |row| row.get::<_, String>(0));
        read.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Keeps what was decided together with the memory. A newer state of a commit takes the place of one that waits.
    pub fn keep(&mut self, memory: &Memory, letters: &[NewLetter], now: u64) {
        if let Err(error) = self.try_keep(memory, letters, now) {
            self.fall_back(&error);
            // In memory it fails only without memory.
            if let Err(error) = self.try_keep(memory, letters, now) {
                self.trouble = Some(in_memory_only(&self.path, &error));
            }
        }
    }

    fn try_keep(&mut self, memory: &Memory, letters: &[NewLetter], now: u64) -> Result<(), FileError> {
        self.database.check_place()?;
        let transaction = self.database.connection.transaction()?;
        let text = serde_json::to_string(memory).map_err(std::io::Error::from)?;
        transaction.execute("INSERT OR REPLACE INTO memory (id, value) VALUES (1, ?1)", [text])?;
        let mut dropped = Vec::new();
        for NewLetter { sink, payload, held } in letters {
            let commit = match payload {
                Payload::Commit(status) => Some(&status.commit),
                Payload::Message(_) => None,
            };
            if let Some(commit) = commit {
                transaction.execute("DELETE FROM outbox WHERE sink = ?1 AND commit_id = ?2", params![sink, commit])?;
            }
            let payload = serde_json::to_string(payload).map_err(std::io::Error::from)?;
            transaction.execute(
                "INSERT INTO outbox (sink, commit_id, created, held, payload) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![sink, commit, sql(now), held, payload],
            )?;
            let over = transaction.execute(
                "DELETE FROM outbox WHERE sink = ?1 AND id <= (SELECT id FROM outbox WHERE sink = ?1 \
                 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                params![sink, sql(MOST as u64)],
            )?;
            dropped.extend(std::iter::repeat_n(sink.clone(), over));
        }
        {
            let mut old = transaction.prepare("DELETE FROM outbox WHERE created < ?1 AND held = 0 RETURNING sink")?;
            let sinks = old.query_map([sql(now.saturating_sub(KEEP))], |row| row.get::<_, String>(0))?;
            dropped.extend(sinks.collect::<Result<Vec<_>, _>>()?);
        }
        // Another operator sent these.
        transaction
            .execute("DELETE FROM outbox WHERE held = 1 AND created < ?1", [sql(now.saturating_sub(TAKE_OVER))])?;
        transaction.commit()?;
        self.dropped.extend(dropped);
        Ok(())
    }

    /// From now on this operator sends: what it would have sent in the last [`TAKE_OVER`] as well, since whoever held the
    /// lease may have died over it.
    pub fn take_over(&mut self, now: u64) {
        let since = sql(now.saturating_sub(TAKE_OVER));
        let connection = &self.database.connection;
        let freed = connection
            .execute("DELETE FROM outbox WHERE held = 1 AND created < ?1", [since])
            .and_then(|_| connection.execute("UPDATE outbox SET held = 0 WHERE held = 1", []));
        if let Err(error) = freed {
            self.fall_back(&FileError::from(error));
        }
    }

    /// The oldest message for a sink.
    pub fn next(&mut self, sink: &str) -> Option<Letter> {
        let read = || -> Result<Option<(i64, i64, i64, String)>, FileError> {
            Ok(self
                .database
                .connection
                .query_row(
                    "SELECT id, created, attempts, payload FROM outbox WHERE sink = ?1 AND held = 0 ORDER BY id LIMIT 1",
                    [sink],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
                )
                .optional()?)
        };
        let (id, created, attempts, text) = match read() {
            Ok(found) => found?,
            Err(error) => {
                self.fall_back(&error);
                return None;
            }
        };
        let Ok(payload) = serde_json::from_str(&text) else {
            // Another version of ofop wrote it.
            self.remove(id);
            self.dropped.push(sink.to_owned());
            return None;
        };
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        Some(Letter { id, created: unsigned(created), attempts, payload })
    }

    /// The sink has taken it, or never will.
    pub fn remove(&mut self, id: i64) {
        let removed = self.database.connection.execute("DELETE FROM outbox WHERE id = ?1", [id]);
        if let Err(error) = removed {
            self.fall_back(&FileError::from(error));
            // It may be sent once more than it should; never once less.
            let _ = self.database.connection.execute("DELETE FROM outbox WHERE id = ?1", [id]);
        }
    }

    /// It was tried and not taken.
    pub fn tried(&mut self, id: i64) {
        // Only a poor count comes of it when this fails.
        let _ = self.database.connection.execute("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?1", [id]);
    }

    /// Lets go of what waits for sinks that are none of these.
    pub fn retain(&mut self, sinks: &[String]) {
        let others = || -> Result<Vec<String>, FileError> {
            let mut all = self.database.connection.prepare("SELECT DISTINCT sink FROM outbox")?;
            let named = all.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            Ok(named.into_iter().filter(|sink| !sinks.contains(sink)).collect())
        };
        for sink in others().unwrap_or_default() {
            // What stays is in nobody's way.
            let _ = self.database.connection.execute("DELETE FROM outbox WHERE sink = ?1", [sink]);
        }
    }

    /// What waits for a sink.
    pub fn waiting(&self, sink: &str) -> Waiting {
        let row = self.database.connection.query_row(
            "SELECT COUNT(*), MIN(created) FROM outbox WHERE sink = ?1 AND held = 0",
            [sink],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
        );
        let (count, oldest) = row.unwrap_or((0, None));
        Waiting { count: usize::try_from(count).unwrap_or(0), oldest: oldest.map(unsigned) }
    }

    /// Goes on in memory with whatever can still be read.
    fn fall_back(&mut self, error: &FileError) {
        let Ok(fresh) = in_memory() else { return };
        let read = || -> Result<Vec<Row>, FileError> {
            let connection = &self.database.connection;
            let mut all = connection.prepare(
                "SELECT id, sink, commit_id, created, held, attempts, payload FROM outbox ORDER BY id LIMIT 10000",
            )?;
            let rows = all.query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        for (id, sink, commit, created, held, attempts, payload) in read().unwrap_or_default() {
            // In memory it fails only without memory. The number stays: somebody may be delivering it.
            let _ = fresh.connection.execute(
                "INSERT INTO outbox (id, sink, commit_id, created, held, attempts, payload) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id, sink, commit, created, held, attempts, payload],
            );
        }
        self.trouble = Some(in_memory_only(&self.path, error));
        self.database = fresh;
    }
}

fn in_memory() -> Result<Database, String> {
    Database::in_memory(&LAYOUT).map_err(|error| format!("notifications cannot be kept: {error}"))
}

fn in_memory_only(path: &Path, error: &FileError) -> String {
    format!(
        "notifications that wait are kept in memory only, and lost with a restart: `{}` cannot be used: {error}; {}",
        path.display(),
        error.hint()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::message::{CommitState, CommitStatus};

    fn commit(id: &str, state: CommitState) -> Payload {
        let (description, instance) = (String::new(), "default".to_owned());
        Payload::Commit(CommitStatus { commit: id.to_owned(), state, description, link: None, instance })
    }

    fn letter(sink: &str, id: &str, state: CommitState, held: bool) -> NewLetter {
        NewLetter { sink: sink.to_owned(), payload: commit(id, state), held }
    }

    fn keep(outbox: &mut Outbox, sink: &str, id: &str, held: bool, now: u64) {
        outbox.keep(&Memory::default(), &[letter(sink, id, CommitState::Pending, held)], now);
    }

    fn waiting(outbox: &Outbox, sink: &str) -> usize {
        outbox.waiting(sink).count
    }

    #[test]
    fn what_waits_and_what_was_told_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        let memory = Memory { cursor: Some(7), ..Memory::default() };
        outbox.keep(&memory, &[letter("a", "1", CommitState::Failure, false)], 5);
        drop(outbox);
        let mut outbox = Outbox::open(folder.path()).unwrap();
        assert_eq!((outbox.memory(), outbox.trouble()), (memory, None));
        let letter = outbox.next("a").unwrap();
        assert_eq!((letter.created, &letter.payload), (5, &commit("1", CommitState::Failure)));
        outbox.tried(letter.id);
        assert_eq!(outbox.next("a").unwrap().attempts, 1);
        outbox.remove(letter.id);
        assert_eq!(outbox.next("a"), None);
    }

    #[test]
    fn a_queue_is_bounded_in_number_and_in_age_and_counts_what_it_drops() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        for number in 0..=MOST {
            keep(&mut outbox, "a", &number.to_string(), false, 1_000);
        }
        keep(&mut outbox, "b", "x", false, 2_000);
        assert_eq!((waiting(&outbox, "a"), waiting(&outbox, "b")), (MOST, 1));
        assert_eq!(outbox.take_dropped(), ["a"]);
        keep(&mut outbox, "b", "y", false, 1_001 + KEEP);
        assert_eq!((waiting(&outbox, "a"), waiting(&outbox, "b")), (0, 2));
        assert_eq!(outbox.take_dropped().len(), MOST);
    }

    #[test]
    fn a_newer_state_of_a_commit_takes_the_place_of_one_that_waits() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        keep(&mut outbox, "a", "1", false, 1);
        keep(&mut outbox, "a", "2", false, 2);
        outbox.keep(&Memory::default(), &[letter("a", "1", CommitState::Success, false)], 3);
        assert_eq!(waiting(&outbox, "a"), 2);
        let first = outbox.next("a").unwrap();
        assert_eq!(first.payload, commit("2", CommitState::Pending));
        outbox.remove(first.id);
        assert_eq!(outbox.next("a").unwrap().payload, commit("1", CommitState::Success));
    }

    #[test]
    fn a_standby_holds_what_it_would_have_sent_for_as_long_as_a_take_over_needs() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        keep(&mut outbox, "a", "old", true, 1_000);
        keep(&mut outbox, "a", "new", true, 1_000 + TAKE_OVER);
        assert_eq!((outbox.next("a"), waiting(&outbox, "a")), (None, 0));
        outbox.take_over(2_000 + TAKE_OVER);
        assert_eq!(waiting(&outbox, "a"), 1);
        assert_eq!(outbox.next("a").unwrap().payload, commit("new", CommitState::Pending));
        assert!(outbox.take_dropped().is_empty(), "another operator sent it");
    }

    #[test]
    fn a_file_that_goes_away_or_is_damaged_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        keep(&mut outbox, "a", "1", false, 1);
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        keep(&mut outbox, "a", "2", false, 2);
        assert!(outbox.trouble().unwrap().contains("kept in memory only"), "{:?}", outbox.trouble());
        assert_eq!(waiting(&outbox, "a"), 2, "what waited is not lost with the file");
        drop(outbox);
        for name in [format!("{FILE}-wal"), format!("{FILE}-shm")] {
            let _ = std::fs::remove_file(folder.path().join(name));
        }
        std::fs::write(folder.path().join(FILE), [b'x'; 5_000]).unwrap();
        let mut outbox = Outbox::open(folder.path()).unwrap();
        assert_eq!(outbox.trouble(), None);
        keep(&mut outbox, "a", "3", false, 3);
        assert_eq!(waiting(&outbox, "a"), 1);
        std::fs::write(folder.path().join("other"), "").unwrap();
        let refused = Outbox::open(&folder.path().join("other")).unwrap();
        assert!(refused.trouble().is_some());
    }
}
