//! The thread that writes the history, and what it does about a file that cannot be written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tracing::{info, warn};

use super::super::archive::Limits;
use super::super::database::{FileError, set_aside};
use super::entry::{ResourceEntry, RevisionEntry};
use super::file::HistoryFile;
use super::recorder::News;
use super::{IN_MEMORY, RETRY};
use crate::clock::{Clock, rfc3339};
use crate::model::ResourceId;

/// How many jobs may wait for the thread; more of them would say the same.
pub(super) const JOBS: usize = 64;

/// How many rows of resources wait for a file at most; the oldest are dropped, and counted.
const MOST_WAITING: usize = 20_000;

/// How often old revisions are let go of while no new ones come.
const PRUNE: Duration = Duration::from_secs(600);

/// What the thread is asked to do.
pub(super) enum Job {
    /// Write what waits.
    Write,
    /// Say when everything that came before was written, or could not be.
    Flush(SyncSender<()>),
}

/// What waits to be written: the newest state of each row.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    revisions: BTreeMap<u64, RevisionEntry>,
    resources: BTreeMap<(u64, ResourceId), ResourceEntry>,
    dropped: u64,
}

impl Waiting {
    /// Adds rows, in the place of older states of the same.
    pub(super) fn add(&mut self, news: News) {
        self.revisions.extend(news.revisions);
        let resources = news.resources.into_iter();
        self.resources.extend(resources.map(|(key, resource)| ((key, resource.resource.clone()), resource)));
        while self.resources.len() > MOST_WAITING {
            self.resources.pop_first();
            self.dropped += 1;
        }
    }

    /// Puts rows back that could not be written; a newer state stays.
    fn put_back(&mut self, news: News) {
        for (key, entry) in news.revisions {
            self.revisions.entry(key).or_insert(entry);
        }
        for (key, resource) in news.resources {
            self.resources.entry((key, resource.resource.clone())).or_insert(resource);
        }
        self.add(News::default());
    }

    fn take(&mut self) -> News {
        let resources = std::mem::take(&mut self.resources).into_iter();
        News {
            revisions: std::mem::take(&mut self.revisions).into_iter().collect(),
            resources: resources.map(|((key, _), resource)| (key, resource)).collect(),
        }
    }
}

/// What the thread shares with whoever writes and reads.
pub(super) struct Shared {
    /// None: in memory alone.
    path: Option<PathBuf>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    pub(super) waiting: Mutex<Waiting>,
    /// The file, or what stands in for it.
    pub(super) tables: Mutex<Option<HistoryFile>>,
    condition: Mutex<Condition>,
    told_dropped: AtomicU64,
    /// Called when the warnings change.
    pub(super) changed: Mutex<Option<Box<dyn Fn() + Send>>>,
}

/// What is wrong with the file.
#[derive(Debug, Default)]
struct Condition {
    trouble: Option<String>,
    set_aside: Option<String>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).field("limits", &self.limits).finish_non_exhaustive()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded are rows and single values, which no panic leaves half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(path: Option<PathBuf>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Shared {
            path,
            limits,
            clock,
            waiting: Mutex::default(),
            tables: Mutex::default(),
            condition: Mutex::default(),
            told_dropped: AtomicU64::new(0),
            changed: Mutex::default(),
        }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let dropped = self.told_dropped.load(Ordering::Acquire);
        let lost = (dropped > 0).then(|| format!("{dropped} changes of resources are missing in the history"));
        let condition = lock(&self.condition);
        condition.trouble.iter().chain(&condition.set_aside).cloned().chain(lost).collect()
    }

    pub(super) fn trouble(&self, trouble: Option<String>) {
        let mut condition = lock(&self.condition);
        if condition.trouble == trouble {
            return;
        }
        match &trouble {
            Some(trouble) => warn!("{trouble}"),
            None => info!("the history is written to its file again"),
        }
        condition.trouble = trouble;
        drop(condition);
        self.tell();
    }

    fn tell(&self) {
        if let Some(changed) = &*lock(&self.changed) {
            changed();
        }
    }
}

/// What the thread works with.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The tables are those of the file.
    in_file: bool,
    /// After a failure: not before this time, on the monotonic clock.
    next_try: Option<Duration>,
    /// When old revisions were last let go of, on the monotonic clock.
    pruned: Option<Duration>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Writer { shared, in_file: false, next_try: None, pruned: None }
    }

    /// Opens the file, in the place of a damaged one if need be, or tables in memory; the newest revision in it.
    pub(super) fn open(&mut self) -> Option<RevisionEntry> {
        let mut newest = None;
        if self.shared.path.is_some() {
            for _ in 0..2 {
                match self.open_file() {
                    Ok(found) => {
                        newest = found;
                        break;
                    }
                    Err(error) => {
                        self.failed(&error);
                        if !error.is_damage() {
                            self.next_try = Some(self.shared.clock.now() + RETRY);
                            break;
                        }
                    }
                }
            }
        }
        self.stand_in();
        newest
    }

    fn open_file(&mut self) -> Result<Option<RevisionEntry>, FileError> {
        let Some(path) = &self.shared.path else { return Ok(None) };
        let mut file = HistoryFile::open(path)?;
        file.prune(&self.oldest(), self.shared.limits.bytes)?;
        let newest = file.newest()?;
        *lock(&self.shared.tables) = Some(file);
        self.in_file = true;
        Ok(newest)
    }

    /// Keeps the history in memory while there is no file.
    fn stand_in(&mut self) {
        let mut tables = lock(&self.shared.tables);
        if tables.is_none() {
            // It fails without memory, when there is nothing left to do.
            *tables = HistoryFile::in_memory().ok();
        }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let (mut closing, mut flushes) = (false, Vec::new());
            match jobs.recv_timeout(RETRY) {
                Ok(job) => flushes.extend(std::iter::once(job).chain(jobs.try_iter().take(JOBS))),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => closing = true,
            }
            let now = self.shared.clock.now();
            if self.shared.path.is_none() {
                self.write_in_memory();
            } else if closing || self.next_try.is_none_or(|next| next <= now) {
                self.next_try = (!self.attempt(now)).then_some(now + RETRY);
            } else {
                self.write_in_memory();
            }
            for job in flushes {
                if let Job::Flush(done) = job {
                    // Whoever asked may have left.
                    let _ = done.send(());
                }
            }
            if closing {
                *lock(&self.shared.tables) = None;
                return;
            }
        }
    }

    /// Writes what waits into the file, a new one if the present one is damaged or gone; whether that worked.
    fn attempt(&mut self, now: Duration) -> bool {
        for _ in 0..2 {
            let error = match self.write(now) {
                Ok(()) => {
                    self.shared.trouble(None);
                    return true;
                }
                Err(error) => error,
            };
            self.failed(&error);
            if !error.is_damage() && !matches!(error, FileError::Gone) {
                break;
            }
        }
        self.write_in_memory();
        false
    }

    fn write(&mut self, now: Duration) -> Result<(), FileError> {
        if !self.in_file {
            self.open_file()?;
        }
        let news = lock(&self.shared.waiting).take();
        let (oldest, bytes) = (self.oldest(), self.shared.limits.bytes);
        let mut tables = lock(&self.shared.tables);
        let Some(file) = &mut *tables else { return Ok(()) };
        if !news.is_empty() {
            let written = file.write(&news);
            if let Err(error) = written {
                drop(tables);
                self.keep(news);
                return Err(error);
            }
        }
        if !news.is_empty() || self.pruned.is_none_or(|pruned| pruned + PRUNE <= now) {
            file.prune(&oldest, bytes)?;
            self.pruned = Some(now);
        }
        Ok(())
    }

    /// Rows that could not be written wait for the next try.
    fn keep(&self, news: News) {
        let mut waiting = lock(&self.shared.waiting);
        waiting.put_back(news);
        let dropped = waiting.dropped;
        drop(waiting);
        if self.shared.told_dropped.swap(dropped, Ordering::AcqRel) != dropped {
            self.shared.tell();
        }
    }

    /// Lets whoever reads see what waits for the file, which goes on waiting.
    fn write_in_memory(&mut self) {
        self.stand_in();
        let news = lock(&self.shared.waiting).take();
        if news.is_empty() {
            return;
        }
        let oldest = self.oldest();
        let mut tables = lock(&self.shared.tables);
        if let Some(memory) = tables.as_mut().filter(|_| !self.in_file) {
            // Memory neither fills up nor moves away: the bound sees to the one, and nobody to the other.
            let _ = memory.write(&news).and_then(|()| memory.prune(&oldest, IN_MEMORY));
        }
        drop(tables);
        if self.shared.path.is_some() {
            self.keep(news);
        }
    }

    fn oldest(&self) -> String {
        rfc3339(self.shared.clock.wall().checked_sub(self.shared.limits.keep).unwrap_or(UNIX_EPOCH))
    }

    fn failed(&mut self, error: &FileError) {
        let Some(file) = &self.shared.path else { return };
        let path = file.display();
        self.in_file = false;
        *lock(&self.shared.tables) = None;
        if error.is_damage() {
            match set_aside(file) {
                Ok(aside) => {
                    let said = format!(
                        "the history in `{path}` could not be read ({error}): the file was moved to `{}`, and a new \
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
            "the history of revisions is kept in memory only, and lost with a restart: `{path}` cannot be written: \
             {error}; {}",
            error.hint()
        )));
    }
}
