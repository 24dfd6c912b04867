//! Which revision was rolled out when, and what became of it: kept in a SQLite file in the state directory, bounded by
//! days and by size.
//!
//! # Flow
//!
//! ```text
//! Report ── pass ──► recorder (pure: what of it is news) ──► waiting rows ──► thread ──► history.db
//! Report ◄── read(query), after what waits was written ────────────────────────────── history.db
//! ```
//!
//! # Guarantees
//!
//! - Nothing that reconciles ever waits for the file. What waits for it is the newest state of each row, and bounded.
//! - A file that cannot be used stops nobody: the history goes on in memory, [`RevisionHistory::warnings`] says why and what
//!   to do, and the file is tried again every [`RETRY`]. A damaged file is set aside under a name that is said.
//! - A successor goes on with the revision that its predecessor began: in the same file with what that one wrote, with
//!   another state directory with what it saw itself while it was a standby.
//! - No value of an environment variable is ever part of it.

mod entry;
mod file;
mod recorder;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::entry::{
    FieldEntry, Obstacle, ResourceChange, ResourceEntry, ResourceResult, RevisionEntry, RevisionResult, StepEntry,
};
pub(super) use self::recorder::{News, Recorder, Sighting};
use self::writer::{Job, Shared, Writer, lock};
use super::archive::Limits;
use crate::clock::Clock;
use crate::model::ResourceId;

/// Name of the file in the state directory.
pub const FILE: &str = "history.db";

/// How often a file that cannot be used is tried again.
pub const RETRY: Duration = Duration::from_secs(10);

/// How much is kept in memory where there is no file, in bytes: some thousand changes of resources.
const IN_MEMORY: u64 = 8 << 20;

/// How many revisions a query asks for unless told otherwise.
pub const DEFAULT_LIMIT: usize = 20;

/// How many revisions one answer may hold.
pub const MOST: usize = 1_000;

/// Which revisions are asked for: the newest ones that fit all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Those that touched one resource, with what became of that one.
    pub resource: Option<ResourceId>,
    /// Those of revisions that begin like this.
    pub revision: Option<String>,
    /// Those with lower numbers.
    pub before: Option<u64>,
    /// With every resource that they touched.
    pub resources: bool,
    /// No more than this many.
    pub limit: usize,
}

impl Default for HistoryQuery {
    fn default() -> Self {
        HistoryQuery { resource: None, revision: None, before: None, resources: false, limit: DEFAULT_LIMIT }
    }
}

/// The history of one run of the operator.
#[derive(Debug)]
pub struct RevisionHistory {
    wake: std::sync::Mutex<Option<SyncSender<Job>>>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

/// How a history begins.
#[derive(Debug)]
pub struct Opened {
    /// Where it is kept.
    pub history: RevisionHistory,
    /// The newest revision that was found, with its resources.
    pub newest: Option<RevisionEntry>,
}

impl RevisionHistory {
    /// Opens the file in this directory, or makes it; without a directory the history is kept in memory. Blocks for as
    /// long as reading the file takes. Whatever is wrong with the file is a warning.
    pub fn open(directory: Option<&Path>, limits: Limits, clock: Arc<dyn Clock>) -> Opened {
        let path: Option<PathBuf> = directory.map(|directory| directory.join(FILE));
        let limits = if path.is_some() { limits } else { Limits { bytes: IN_MEMORY, ..limits } };
        let shared = Arc::new(Shared::new(path, limits, clock));
        let mut writer = Writer::new(Arc::clone(&shared));
        let newest = writer.open();
        let (wake, jobs) = sync_channel(writer::JOBS);
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || writer.run(&jobs));
        let thread = thread.inspect_err(|error| shared.trouble(Some(format!("no thread can be started: {error}"))));
        let wake = thread.is_ok().then_some(wake);
        let history = RevisionHistory { wake: wake.into(), thread: thread.ok().into(), shared };
        Opened { history, newest }
    }

    /// Hands over what is news. Never waits.
    pub(super) fn write(&self, news: News) {
        if news.is_empty() {
            return;
        }
        lock(&self.shared.waiting).add(news);
        if let Some(wake) = &*lock(&self.wake) {
            // Whoever has jobs already looks at all that waits.
            let _ = wake.try_send(Job::Write);
        }
    }

    /// The revisions that a query asks for, newest first, as of now. Blocks while the file is read.
    pub(super) fn read(&self, query: &HistoryQuery) -> Vec<RevisionEntry> {
        self.flush();
        // The warnings say why there is none.
        lock(&self.shared.tables).as_ref().and_then(|tables| tables.read(query).ok()).unwrap_or_default()
    }

    /// What a person should know about the file: a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.shared.warnings()
    }

    /// Waits until what was handed over is written, or could not be. Blocks.
    pub fn flush(&self) {
        let wake = lock(&self.wake).clone();
        let (done, wait) = sync_channel(1);
        if wake.is_some_and(|wake| wake.send(Job::Flush(done)).is_ok()) {
            // An end without an answer is an end as well.
            let _ = wait.recv();
        }
    }

    /// Writes what waits and lets go of the file. Blocks until that is done or has failed.
    pub fn close(&self) {
        drop(lock(&self.wake).take());
        if let Some(thread) = lock(&self.thread).take() {
            // A thread that panicked has written what it could.
            let _ = thread.join();
        }
    }

    /// Has a function called whenever [`RevisionHistory::warnings`] changes.
    pub(super) fn on_change(&self, changed: impl Fn() + Send + 'static) {
        *lock(&self.shared.changed) = Some(Box::new(changed));
    }
}

/// Reads the history that a daemon left in this directory, newest first: for a command while no daemon runs.
///
/// # Errors
/// A sentence when there is none, or it cannot be read.
pub fn read_file(directory: &Path, query: &HistoryQuery) -> Result<Vec<RevisionEntry>, String> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Err(format!("there is no `{}`", path.display()));
    }
    file::read(&path, query).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}
