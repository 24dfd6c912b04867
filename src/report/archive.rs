//! Events that outlive the operator: a SQLite file in the state directory, bounded by days and by size.
//!
//! # Flow
//!
//! ```text
//! Report ── write(entry) ──► bounded queue ──► thread ──► events.db        (never waits; what does not fit is counted)
//! Report ◄── read(query) ─────────────────────────────── events.db        (a connection of its own, read only)
//! ```
//!
//! # Guarantees
//!
//! - Nothing that reconciles ever waits for the file: a full queue drops an event and counts it.
//! - A file that cannot be used stops nobody. Events stay in memory, [`Archive::warnings`] says why and what to do, and
//!   the file is tried again every [`RETRY`].
//! - A damaged file is set aside under a name that is said, and a new one begins.
//! - A file of a newer version, or of another program, is left alone.

mod file;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use tracing::{info, warn};

use self::file::{EventFile, FileError};
use super::events::{Entry, EventQuery, GLOBAL_EVENTS};
use crate::clock::{Clock, rfc3339};

/// Name of the file in the state directory.
pub const FILE: &str = "events.db";

/// How many events may wait for the file: several rollouts of thousands of services, in less than a megabyte of
/// pointers.
const QUEUE: usize = 8_192;

/// How many events one transaction takes at most.
const BATCH: usize = 512;

/// How often a file that cannot be used is tried again.
pub const RETRY: Duration = Duration::from_secs(10);

/// How often old events are let go of while no new ones come.
const PRUNE: Duration = Duration::from_secs(600);

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Older events go.
    pub keep: Duration,
    /// The oldest events go while the file holds more than this, in bytes.
    pub bytes: u64,
}

/// What the file held when it was opened.
#[derive(Debug, Default)]
pub struct Restored {
    /// The highest number of an event; events are numbered on from it.
    pub sequence: u64,
    /// The last events, oldest first.
    pub entries: Vec<Entry>,
}

/// The file of one run of the operator.
#[derive(Debug)]
pub struct Archive {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    limits: Limits,
    /// Tells our events in the file from those of others that write to it.
    run: String,
    clock: Arc<dyn Clock>,
    condition: Mutex<Condition>,
    /// Of our events, those with numbers from the first to the second lie in the file.
    first: AtomicU64,
    last: AtomicU64,
    dropped: AtomicU64,
    /// Called when the warnings change.
    changed: Mutex<Option<Box<dyn Fn() + Send>>>,
}

/// What is wrong with the file.
#[derive(Debug, Default)]
struct Condition {
    trouble: Option<String>,
    set_aside: Option<String>,
}

/// What the thread is asked to do.
enum Job {
    Write(Entry),
    /// Say when everything that came before was written, or could not be.
    Flush(SyncSender<()>),
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded are single values, which no panic leaves half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Archive {
    /// Opens the file in this directory, or makes it. `run` must differ between any two runs. Blocks for as long as
    /// reading the file takes. Whatever is wrong with the file is a warning.
    pub fn open(directory: &Path, limits: Limits, run: String, clock: Arc<dyn Clock>) -> (Self, Restored) {
        let shared = Arc::new(Shared {
            path: directory.join(FILE),
            limits,
            run,
            clock,
            condition: Mutex::default(),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            changed: Mutex::default(),
        });
        let mut writer =
            Writer { shared: Arc::clone(&shared), file: None, waiting: VecDeque::new(), next_try: None, pruned: None };
        let restored = writer.open().unwrap_or_default();
        shared.last.store(restored.sequence, Ordering::Release);
        let (queue, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("events".into()).spawn(move || writer.run(&receiver));
        let thread = thread.inspect_err(|error| shared.trouble(Some(format!("no thread can be started: {error}"))));
        let archive =
            Archive { queue: Mutex::new(thread.is_ok().then_some(queue)), thread: Mutex::new(thread.ok()), shared };
        (archive, restored)
    }

    /// Has a function called whenever [`Archive::warnings`] changes.
    pub(super) fn on_change(&self, changed: impl Fn() + Send + 'static) {
        *lock(&self.shared.changed) = Some(Box::new(changed));
    }

    /// Hands an event over. Never waits.
    pub(super) fn write(&self, entry: &Entry) {
        let queue = lock(&self.queue);
        let sent = queue.as_ref().map(|queue| queue.try_send(Job::Write(entry.clone())));
        match sent {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) | None => self.shared.drop_one(),
        }
    }

    /// The last events that a query asks for, oldest first: those of the file, and of `recent`, which are the newest
    /// in memory, those that the file does not hold. None of this run with a number above `newest`. Blocks while the
    /// file is read.
    pub(super) fn read(&self, query: &EventQuery, recent: Vec<Entry>, newest: u64) -> Vec<Entry> {
        let (first, last) = (self.shared.first.load(Ordering::Acquire), self.shared.last.load(Ordering::Acquire));
        let stored = match file::read(&self.shared.path, query) {
            Ok(stored) => stored,
            // The warnings say why.
            Err(_) => return recent,
        };
        let is_known = |stored: &file::Stored| stored.run != self.shared.run || stored.sequence <= last.min(newest);
        let mut entries: Vec<Entry> = stored.into_iter().filter(is_known).filter_map(|stored| stored.entry).collect();
        let not_in_file = |entry: &Entry| entry.sequence() < first || entry.sequence() > last;
        // Events of before a new file began are older than those in it. Times tell no order: clocks jump.
        let (older, newer) = recent.into_iter().filter(not_in_file).partition::<Vec<_>, _>(|it| it.sequence() < first);
        entries.splice(0..0, older);
        entries.extend(newer);
        entries.drain(..entries.len().saturating_sub(query.limit));
        entries
    }

    /// What a person should know about the file: a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let condition = lock(&self.shared.condition);
        let dropped = self.shared.dropped.load(Ordering::Acquire);
        let lost =
            (dropped > 0).then(|| format!("{dropped} events were not written to `{}`", self.shared.path.display()));
        condition.trouble.iter().chain(&condition.set_aside).cloned().chain(lost).collect()
    }

    /// Waits until what was handed over is written, or could not be. Blocks.
    pub fn flush(&self) {
        let queue = lock(&self.queue).clone();
        let (done, wait) = sync_channel(1);
        if queue.is_some_and(|queue| queue.send(Job::Flush(done)).is_ok()) {
            // An end without an answer is an end as well.
            let _ = wait.recv();
        }
    }

    /// Writes what waits and lets go of the file. Blocks until that is done or has failed.
    pub fn close(&self) {
        drop(lock(&self.queue).take());
        if let Some(thread) = lock(&self.thread).take() {
            // A thread that panicked has written what it could.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn trouble(&self, trouble: Option<String>) {
        let mut condition = lock(&self.condition);
        if condition.trouble == trouble {
            return;
        }
        match &trouble {
            Some(trouble) => warn!("{trouble}"),
            None => info!("events are written to `{}` again", self.path.display()),
        }
        condition.trouble = trouble;
        drop(condition);
        self.tell();
    }

    fn drop_one(&self) {
        if self.dropped.fetch_add(1, Ordering::AcqRel) == 0 {
            warn!("events come faster than they can be written to `{}`: some are not kept there", self.path.display());
        }
    }

    fn tell(&self) {
        if let Some(changed) = &*lock(&self.changed) {
            changed();
        }
    }
}

/// What the thread works with.
struct Writer {
    shared: Arc<Shared>,
    file: Option<EventFile>,
    waiting: VecDeque<Entry>,
    /// After a failure: not before this time, on the monotonic clock.
    next_try: Option<Duration>,
    /// When old events were last let go of, on the monotonic clock.
    pruned: Option<Duration>,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Job>) {
        loop {
            let (mut closing, mut flushes) = (false, Vec::new());
            match receiver.recv_timeout(RETRY) {
                Ok(job) => {
                    for job in std::iter::once(job).chain(receiver.try_iter().take(BATCH - 1)) {
                        match job {
                            Job::Write(entry) => self.waiting.push_back(entry),
                            Job::Flush(done) => flushes.push(done),
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => closing = true,
            }
            let now = self.shared.clock.now();
            if closing || self.next_try.is_none_or(|next| next <= now) {
                self.next_try = (!self.attempt(now)).then_some(now + RETRY);
            }
            for done in flushes {
                // Whoever asked may have left.
                let _ = done.send(());
            }
            while self.waiting.len() > QUEUE {
                self.waiting.pop_front();
                self.shared.drop_one();
            }
            if closing {
                return;
            }
        }
    }

    /// Writes what waits, into a new file if the present one is damaged or gone; whether that worked.
    fn attempt(&mut self, now: Duration) -> bool {
        for _ in 0..2 {
            let error = match self.flush(now) {
                Ok(()) => {
                    self.shared.trouble(None);
                    return true;
                }
                Err(error) => error,
            };
            self.failed(&error);
            if !error.is_damage() && !matches!(error, FileError::Gone) {
                return false;
            }
        }
        false
    }

    /// Opens the file, in the place of a damaged one if need be; what it holds.
    fn open(&mut self) -> Option<Restored> {
        match self.try_open() {
            Ok(restored) => {
                self.shared.trouble(None);
                Some(restored)
            }
            Err(error) => {
                self.failed(&error);
                // A new file takes the place of a damaged one at once.
                error.is_damage().then(|| self.try_open().inspect_err(|error| self.failed(error)).ok()).flatten()
            }
        }
    }

    fn try_open(&mut self) -> Result<Restored, FileError> {
        let mut file = EventFile::open(&self.shared.path)?;
        let oldest = self.oldest();
        file.prune(&oldest, self.shared.limits.bytes)?;
        let (sequence, entries) = file.last(GLOBAL_EVENTS)?;
        self.file = Some(file);
        Ok(Restored { sequence, entries })
    }

    /// Writes what waits, and lets go of what is too old or too much.
    fn flush(&mut self, now: Duration) -> Result<(), FileError> {
        if self.file.is_none() {
            self.try_open()?;
        }
        let oldest = self.oldest();
        let Some(file) = &mut self.file else { return Ok(()) };
        let wrote = !self.waiting.is_empty();
        while !self.waiting.is_empty() {
            let batch: Vec<Entry> = self.waiting.iter().take(BATCH).cloned().collect();
            file.append(&self.shared.run, &batch)?;
            if std::mem::take(&mut file.is_new) {
                self.shared.first.store(batch.first().map_or(0, Entry::sequence), Ordering::Release);
            }
            self.shared.last.store(batch.last().map_or(0, Entry::sequence), Ordering::Release);
            self.waiting.drain(..batch.len());
        }
        if wrote || self.pruned.is_none_or(|pruned| pruned + PRUNE <= now) {
            file.prune(&oldest, self.shared.limits.bytes)?;
            self.pruned = Some(now);
        }
        Ok(())
    }

    fn oldest(&self) -> String {
        rfc3339(self.shared.clock.wall().checked_sub(self.shared.limits.keep).unwrap_or(UNIX_EPOCH))
    }

    fn failed(&mut self, error: &FileError) {
        let path = self.shared.path.display();
        self.file = None;
        if error.is_damage() {
            match file::set_aside(&self.shared.path) {
                Ok(aside) => {
                    let said = format!(
                        "the events of `{path}` could not be read ({error}): the file was moved to `{}`, and a new \
                         one begun",
                        aside.display()
                    );
                    warn!("{said}");
                    lock(&self.shared.condition).set_aside = Some(said);
                    self.shared.tell();
                    return;
                }
                Err(problem) => warn!("cannot move `{path}` away: {problem}"),
            }
        }
        if matches!(error, FileError::Gone) {
            warn!("`{path}` was moved or deleted: a new one begins");
            return;
        }
        self.shared.trouble(Some(format!(
            "events are kept in memory only, and lost with a restart: `{path}` cannot be written: {error}; {}",
            error.hint()
        )));
    }
}
