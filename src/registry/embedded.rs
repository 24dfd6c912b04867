//! The registry of a machine without Kafka and ksqlDB: a SQLite file with tables of the same names, filled by
//! the same messages.
//!
//! It serves one machine, trials and tests. Coordinators live in Kafka, so OPC UA and SHDR devices need the
//! real registry, and are told so.
//!
//! # Guarantees
//!
//! - A step is one transaction: it is done or it is not. Taking an asset back removes all of it at once; nothing
//!   is left to forget later.
//! - Several processes may use the file. What another one wrote is seen by the next `observe`.
//! - The file may be lost at any time: it is made anew with the next write, and convergence fills it. It is made
//!   with the first write, so that looking leaves nothing behind. A damaged file is reported, never replaced.
//! - Only its owner may read it: connector configurations may hold addresses and credentials.

mod tables;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use tokio::sync::Notify;

use super::messages::{self, Message, Stamp};
use super::{Registry, RegistryError, rows};
use crate::clock::{Clock, rfc3339};
use crate::model::{AssetUuid, FailureKind, Record, RecordStep, RegistrySnapshot, StepFailure};

/// Name of the file in the state directory.
pub const FILE: &str = "registry.sqlite";

/// How long a call waits for another process's transaction; they take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often other processes' writes are looked for. Nobody but a second `ofop` writes here.
const POLL: Duration = Duration::from_secs(2);

/// A registry in a file.
#[derive(Clone)]
pub struct EmbeddedRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    store: Mutex<Store>,
    /// The next `observe` reads everything.
    refresh: AtomicBool,
    wrote: Notify,
}

#[derive(Default)]
struct Store {
    open: Option<Open>,
    /// The last full read and the state of the file that it was made on.
    seen: Option<(State, Arc<RegistrySnapshot>)>,
    generation: u64,
    /// Why the last write failed.
    write_error: Option<String>,
    /// Connections made so far.
    opened: u64,
}

struct Open {
    connection: Connection,
    serial: u64,
    /// Device and inode of the file: a deleted file stays usable, and useless, for whoever has it open.
    identity: (u64, u64),
    /// Own writes, which SQLite does not count.
    writes: u64,
}

/// What tells two states of the file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    /// `others` counts other connections' commits since this one, the `serial`-th, was opened.
    At {
        serial: u64,
        others: i64,
        own: u64,
    },
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("it cannot be opened: {0}")]
    File(#[from] io::Error),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("it is a database of something else")]
    Stranger,
    #[error("its tables have version {0}, which this program does not know")]
    Version(i32),
}

impl EmbeddedRegistry {
    /// The registry in this directory, which is made when something is first written.
    pub fn new(state_dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            path: state_dir.into().join(FILE),
            clock,
            store: Mutex::default(),
            refresh: AtomicBool::new(false),
            wrote: Notify::new(),
        };
        EmbeddedRegistry { shared: Arc::new(shared) }
    }

    /// Runs blocking work on the store.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &mut Store) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let shared = self.shared.clone();
        let work = move || {
            let mut store = shared.store();
            let done = work(&shared, &mut store);
            if done.is_err() {
                // Whatever it was, a fresh connection knows nothing of it.
                store.open = None;
            }
            done
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(_) => Err(Trouble::File(io::Error::other("the work was cut short"))),
        }
    }

    async fn write(&self, messages: Vec<Message>, whole: Whole) -> Result<(), StepFailure> {
        let done = self.with_store(move |shared, store| {
            let done = shared.write(store, &messages, &whole);
            store.wrote(done.as_ref().err().map(|trouble| shared.sentence(trouble)));
            done
        });
        let done = done.await.map_err(|trouble| self.shared.failure(&trouble));
        if done.is_ok() {
            self.shared.wrote.notify_waiters();
        }
        done
    }

    fn stamp(&self) -> Stamp {
        let now = self.shared.clock.wall();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Stamp {
            timestamp: rfc3339(now).into(),
            epoch_millis: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            // Only commands to coordinators have one, and they are not served here.
            correlation_id: String::new(),
        }
    }
}

/// What happens to everything else that is known of an asset.
enum Whole {
    /// It stays.
    Keep,
    /// It is replaced: what the record does not say is not so.
    Replace(AssetUuid),
    /// It is removed.
    Remove(AssetUuid),
}

impl Registry for EmbeddedRegistry {
    async fn observe(&self) -> Result<Arc<RegistrySnapshot>, RegistryError> {
        let again = self.shared.refresh.swap(false, Ordering::SeqCst);
        let seen = self.with_store(move |shared, store| shared.observe(store, again)).await;
        seen.map_err(|trouble| {
            self.shared.refresh.fetch_or(again, Ordering::SeqCst);
            self.shared.error(&trouble)
        })
    }

    fn refresh(&self) {
        self.shared.refresh.store(true, Ordering::SeqCst);
    }

    async fn execute(&self, step: &RecordStep) -> Result<(), StepFailure> {
        match step {
            RecordStep::Register { record, owner } => {
                let whole = match record.as_ref() {
                    Record::Asset(asset) => Whole::Replace(asset.uuid.clone()),
                    Record::Connector { .. } | Record::MetricsTarget { .. } => Whole::Keep,
                    Record::CoordinatorDevice { .. } => return Err(no_coordinator()),
                };
                self.write(messages::register(record, Some(owner), Some(&self.stamp())), whole).await
            }
            RecordStep::Deregister { record } => {
                let whole = match record.as_ref() {
                    Record::Asset(asset) => Whole::Remove(asset.uuid.clone()),
                    Record::Connector { .. } | Record::MetricsTarget { .. } => Whole::Keep,
                    Record::CoordinatorDevice { .. } => return Err(no_coordinator()),
                };
                self.write(messages::deregister(record, Some(&self.stamp())), whole).await
            }
            RecordStep::Forget { record } => self.write(Vec::new(), Whole::Remove(record.asset().clone())).await,
        }
    }

    fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        futures_util::stream::unfold(self.clone(), |registry| async move {
            loop {
                tokio::select! {
                    () = registry.shared.wrote.notified() => break,
                    () = tokio::time::sleep(POLL) => {}
                }
                // A file that cannot be used is news as well: `observe` says why.
                if registry.with_store(|shared, store| shared.changed(store)).await.unwrap_or(true) {
                    break;
                }
            }
            Some(((), registry))
        })
    }
}

fn no_coordinator() -> StepFailure {
    StepFailure::new(
        FailureKind::Dependency,
        "OPC UA and SHDR devices are served by a coordinator, which needs Kafka and ksqlDB: set KAFKA_BROKER and \
         KSQLDB_URL, and use `--registry openfactory`",
    )
}

impl Store {
    /// Notes how a write ended, for the next look to show.
    fn wrote(&mut self, error: Option<String>) {
        if self.write_error != error {
            self.write_error = error;
            self.seen = None;
        }
    }
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open file; none when there is none and none shall be made.
    fn open<'a>(&self, store: &'a mut Store, make: bool) -> Result<Option<&'a mut Open>, Trouble> {
        let identity = identity(&self.path)?;
        if identity.is_none() || store.open.as_ref().map(|open| open.identity) != identity {
            store.open = None;
        }
        if identity.is_none() && !make {
            return Ok(None);
        }
        if store.open.is_none() {
            if identity.is_none() {
                self.make()?;
            }
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            // In WAL mode this loses at most the last writes with the power; convergence writes them again.
            connection.pragma_update(None, "synchronous", "normal")?;
            tables::prepare(&mut connection)?;
            let identity = identity_or_gone(&self.path)?;
            store.opened += 1;
            store.open = Some(Open { connection, serial: store.opened, identity, writes: 0 });
        }
        Ok(store.open.as_mut())
    }

    /// Makes the directory and the file for their owner only; SQLite gives its other files the same mode.
    fn make(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path).map(drop)
    }

    fn state(&self, store: &mut Store) -> Result<State, Trouble> {
        Ok(match self.open(store, false)? {
            None => State::Missing,
            Some(open) => {
                let others = open.connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
                State::At { serial: open.serial, others, own: open.writes }
            }
        })
    }

    /// Whether there is something that the last `observe` has not seen.
    fn changed(&self, store: &mut Store) -> Result<bool, Trouble> {
        let state = self.state(store)?;
        Ok(store.seen.as_ref().is_none_or(|(seen, _)| *seen != state))
    }

    fn observe(&self, store: &mut Store, again: bool) -> Result<Arc<RegistrySnapshot>, Trouble> {
        // Before the read: what is written in between is seen next time.
        let state = self.state(store)?;
        if let Some((seen, snapshot)) = &store.seen
            && *seen == state
            && !again
        {
            return Ok(snapshot.clone());
        }
        let (tables, availability) = match self.open(store, false)? {
            None => Default::default(),
            Some(open) => {
                let transaction = open.connection.transaction()?;
                tables::read(&transaction)?
            }
        };
        store.generation += 1;
        let mut snapshot = RegistrySnapshot {
            generation: store.generation,
            complete: true,
            records: rows::records(tables),
            availability: availability.into_iter().collect(),
            write_error: store.write_error.clone(),
            ..RegistrySnapshot::default()
        };
        if let Some((_, before)) = &store.seen {
            snapshot.share_with(before);
        }
        let snapshot = Arc::new(snapshot);
        store.seen = Some((state, snapshot.clone()));
        Ok(snapshot)
    }

    fn write(&self, store: &mut Store, messages: &[Message], whole: &Whole) -> Result<(), Trouble> {
        let open = self.open(store, true)?;
        let Some(open) = open else { return Err(io::Error::other("it was not made").into()) };
        let transaction = open.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Whole::Replace(uuid) = whole {
            tables::forget(&transaction, uuid)?;
            tables::displace(&transaction, uuid)?;
        }
        for message in messages {
            tables::apply(&transaction, message)?;
        }
        if let Whole::Remove(uuid) = whole {
            tables::forget(&transaction, uuid)?;
        }
        transaction.commit()?;
        open.writes += 1;
        Ok(())
    }

    fn sentence(&self, trouble: &Trouble) -> String {
        let path = self.path.display();
        match code(trouble) {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                format!("the embedded registry `{path}` is locked by another process")
            }
            Some(ErrorCode::DatabaseCorrupt) => format!("the embedded registry `{path}` is damaged"),
            Some(ErrorCode::NotADatabase) => format!("the embedded registry `{path}` is not a SQLite database"),
            Some(ErrorCode::DiskFull) => format!("the disk of the embedded registry `{path}` is full"),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                format!("the embedded registry `{path}` cannot be opened for writing")
            }
            Some(_) | None => format!("the embedded registry `{path}` cannot be used: {trouble}"),
        }
    }

    fn error(&self, trouble: &Trouble) -> RegistryError {
        let hint = match (trouble, code(trouble)) {
            (Trouble::Stranger | Trouble::Version(_), _)
            | (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) => {
                "stop the operator and move the file away; it is filled again from the manifests"
            }
            (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => {
                "look for another operator or a SQLite shell that keeps a transaction open"
            }
            (_, Some(ErrorCode::DiskFull)) => "make room; nothing is lost",
            (_, _) => "check the directory's owner and mode, or choose another one with `--state-dir`",
        };
        RegistryError { message: self.sentence(trouble), hint: Some(hint.into()) }
    }

    fn failure(&self, trouble: &Trouble) -> StepFailure {
        let kind = match code(trouble) {
            // The only error that may come after the last byte was written.
            Some(ErrorCode::SystemIoFailure) => FailureKind::Ambiguous,
            Some(_) | None => FailureKind::Unavailable,
        };
        StepFailure::new(kind, self.sentence(trouble))
    }
}

fn code(trouble: &Trouble) -> Option<ErrorCode> {
    match trouble {
        Trouble::Sqlite(error) => error.sqlite_error_code(),
        Trouble::File(_) | Trouble::Stranger | Trouble::Version(_) => None,
    }
}

fn identity(path: &std::path::Path) -> io::Result<Option<(u64, u64)>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity_or_gone(path: &std::path::Path) -> io::Result<(u64, u64)> {
    identity(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::model::record::AssetRecord;

    fn asset(uuid: &str) -> Whole {
        Whole::Replace(AssetUuid::new(uuid).unwrap())
    }

    fn messages(uuid: &str, bytes: usize) -> Vec<Message> {
        let record = Record::Asset(AssetRecord {
            uuid: AssetUuid::new(uuid).unwrap(),
            asset_type: "OpenFactoryApp".into(),
            docker_service: "x".repeat(bytes),
            references_above: Vec::new(),
            references_below: Vec::new(),
            uns: None,
            attributes: Vec::new(),
        });
        messages::register(&record, None, None)
    }

    #[tokio::test]
    async fn a_write_that_fails_is_shown_until_one_works() {
        let directory = tempfile::tempdir().unwrap();
        let registry = EmbeddedRegistry::new(directory.path(), Arc::new(SystemClock::new()));
        registry.write(messages("A", 1), asset("A")).await.unwrap();
        assert_eq!(registry.observe().await.unwrap().write_error, None);
        // What SQLite says of a full disk, it says of a file that may not grow.
        registry
            .with_store(|shared, store| {
                let open = shared.open(store, true)?.unwrap();
                let pages: i64 = open.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
                Ok(open.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
            })
            .await
            .unwrap();
        let failure = registry.write(messages("B", 100_000), asset("B")).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unavailable);
        let seen = registry.observe().await.unwrap();
        assert!(seen.write_error.as_ref().is_some_and(|error| error.ends_with("is full")), "{:?}", seen.write_error);
        assert!(seen.complete && seen.records.len() == 1, "what was written before can be read");
        registry.write(messages("B", 100_000), asset("B")).await.unwrap();
        assert_eq!(registry.observe().await.unwrap().write_error, None);
    }
}
