//! The cache behind `observe`, and the task that keeps it warm.
//!
//! # Flow
//!
//! ```text
//! connect ─► events ─► read everything ─► follow: an event ─► read that one service
//!    ▲                                                     and its tasks, soon and then less often
//!    └── wait, longer each time ◄── lost,         a timer, a request ─► read everything
//!                                  silent, failed  tasks of others under way ─► read all tasks, ever less often
//! ```
//!
//! Events say where to look and never what to believe. They are collected by a reader of their own, so that a
//! long read never makes the engine drop us as a slow listener; what comes in meanwhile is joined.
//!
//! # Guarantees
//!
//! - An event is looked into at once, also while everything is being read.
//! - Swarm has no events for tasks: those of a service are read again quickly after something changed about it and while
//!   they are on their way, then ever less often; the reads take at most a tenth of the time. What an event costs does
//!   not grow with the number of services.
//! - A full read that finds services changed about which no event came means that the stream is dead, whatever
//!   the connection says: it is opened anew.
//! - After a failed read everybody is told so until one succeeds; after a doubtful one the snapshot is incomplete.

mod pace;
mod pending;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::convert::Hint;
use super::notes::Place;
use super::state::{Changed, Known, State};
use super::{convert, reads};
use crate::model::{
    InstanceName, Mark, ObservedService, PlatformSnapshot, Rollout, ServiceId, ServiceSpec, TaskView, UpdateState,
};
use crate::platform::PlatformError;
use crate::platform::engine::{Act, CallError, Engine, encode};
use crate::platform::locked;
use pace::{Near, Tasks};
use pending::{Batch, Pending};

const EVENTS: Act = Act::read("follow the events");

/// What is asked of the event stream. Others (health checks, executions) are many and tell us nothing.
const EVENT_FILTER: &str = r#"{"type":["service","network","node","container","config"],"event":["create","update","remove","destroy","start","die"]}"#;

/// Between two attempts to connect: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long an event about a change that a full read found may be late. Events come within milliseconds.
const EVENT_DELAY: Duration = Duration::from_secs(2);
/// From this many changed services on, one list is cheaper than a call for each.
const LIST_INSTEAD: usize = 64;
/// Single services read at the same time.
const READS_AT_ONCE: usize = 4;
/// How long an observer waits for a full read that was asked for. Longer than the longest call.
const OBSERVE_TIME: Duration = Duration::from_secs(65);

/// See the module.
pub(super) struct Cache {
    engine: Engine,
    /// Time between full reads.
    resync: Duration,
    place: Place,
    state: Mutex<State>,
    pending: Mutex<Pending>,
    /// Full reads that were begun.
    begun: AtomicU64,
    /// The full read that observers wait for.
    wanted: AtomicU64,
    health: watch::Sender<Health>,
    changed: watch::Sender<u64>,
    wake: Notify,
}

#[derive(Default)]
struct Health {
    /// The last full read that ended.
    ended: u64,
    /// Why it failed.
    error: Option<PlatformError>,
}

impl Cache {
    pub(super) fn new(engine: Engine, resync: Duration, instance: &InstanceName) -> Cache {
        Cache {
            engine,
            resync,
            place: Place::of(instance),
            state: Mutex::default(),
            pending: Mutex::default(),
            begun: AtomicU64::new(0),
            wanted: AtomicU64::new(1),
            health: watch::Sender::default(),
            changed: watch::Sender::default(),
            wake: Notify::new(),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where the notes are.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Reads the notes again.
    pub(super) async fn read_notes(&self) {
        let notes = self.place.read(&self.engine).await;
        self.with(|state| state.notes(notes));
    }

    /// Asks for a full read that begins after this call.
    pub(super) fn refresh(&self) {
        self.wanted.fetch_max(self.begun.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// What was last asked for, as soon as it is there.
    pub(super) async fn snapshot(&self) -> Result<Arc<PlatformSnapshot>, PlatformError> {
        let wanted = self.wanted.load(Ordering::SeqCst);
        let mut health = self.health.subscribe();
        let ended = health.wait_for(|health| health.ended >= wanted);
        match tokio::time::timeout(OBSERVE_TIME, ended).await {
            Ok(Ok(health)) => {
                if let Some(error) = &health.error {
                    return Err(error.clone());
                }
            }
            Ok(Err(_)) | Err(_) => {
                return Err(PlatformError {
                    message: format!(
                        "the Docker Engine at {} did not answer within {} s",
                        self.engine.address(),
                        OBSERVE_TIME.as_secs()
                    ),
                    hint: None,
                });
            }
        }
        Ok(locked(&self.state).snapshot())
    }

    /// Counts changes of what `snapshot` answers.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Lets `change` touch what is known, and tells everybody if it says that something changed.
    pub(super) fn with(&self, change: impl FnOnce(&mut State) -> bool) {
        let changed = change(&mut locked(&self.state));
        if changed {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// A service that we have just created. What it is we know, all but its version: it is read back a moment
    /// later, many at once when many are created. An update planned before that names version 0 and is a conflict.
    pub(super) fn created(&self, id: ServiceId, spec: &Arc<ServiceSpec>, mark: &Mark) {
        let service = ObservedService {
            id: id.clone(),
            version: 0,
            spec: Arc::clone(spec),
            foreign_mode: None,
            mark: Some(mark.clone()),
            runs_operator: false,
            container_labels: spec.labels.clone(),
            update: UpdateState::None,
            rollout: Rollout::default(),
            created_at: String::new(),
        };
        locked(&self.pending).created(&id);
        let known = Known::Service { service: Arc::new(service), unknown_networks: Vec::new() };
        self.with(|state| state.learn(id.clone(), 0, known));
        self.tasks_soon(&id);
    }

    /// A service that we have just changed: reads it back, so that the next snapshot has it.
    pub(super) async fn wrote(&self, id: &ServiceId) {
        locked(&self.pending).wrote(id);
        if self.read_service(id, false).await.is_err() {
            self.doubt();
        }
        self.tasks_soon(id);
    }

    /// A service that we have just removed.
    pub(super) fn removed(&self, id: &ServiceId) {
        self.with(|state| state.forget(id));
        self.tasks_soon(id);
    }

    /// What is known may be stale: says so until a full read that begins now has ended.
    pub(super) fn doubt(&self) {
        self.with(State::doubt);
        self.refresh();
    }

    /// Names of networks by id.
    pub(super) fn network_names(&self) -> convert::NetworkNames {
        locked(&self.state).names().clone()
    }

    fn tasks_soon(&self, id: &ServiceId) {
        locked(&self.pending).tasks_soon(id);
        self.wake.notify_one();
    }

    /// Reads one service again. An absent one is forgotten if an event has said that it was removed.
    async fn read_service(&self, id: &ServiceId, removed: bool) -> Result<(), CallError> {
        let mut names = self.network_names();
        let known_names = names.len();
        match reads::service(&self.engine, id, &mut names).await? {
            Some((version, known)) => self.with(|state| {
                if names.len() > known_names {
                    state.learn_names(names);
                }
                state.learn(id.clone(), version, known)
            }),
            None if removed => self.with(|state| state.forget(id)),
            // The engine turns some of its own failures into this answer: a list decides.
            None => self.refresh(),
        }
        Ok(())
    }

    /// Keeps the cache warm, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut wait = FIRST_WAIT;
        loop {
            let began = Instant::now();
            let error = match self.connect().await {
                Ok(mut events) => {
                    tracing::debug!(api = self.engine.api(), "following the swarm");
                    let end = self.follow(&mut events).await;
                    events.reader.abort();
                    end
                }
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                tracing::debug!(%error, "lost the swarm");
            }
            self.with(State::doubt);
            if began.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            // A pause always; then more of it, unless somebody asks.
            sleep(FIRST_WAIT).await;
            let rest = Instant::now() + wait.saturating_sub(FIRST_WAIT);
            while !self.is_wanted() && Instant::now() < rest {
                tokio::select! {
                    () = sleep_until(rest) => {}
                    () = self.wake.notified() => {}
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > self.begun.load(Ordering::SeqCst)
    }

    /// Opens the stream of events and reads everything after that, so that nothing falls between the two.
    async fn connect(self: &Arc<Self>) -> Result<Events, PlatformError> {
        let attempt = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let connect = async {
            self.engine.negotiate().await?;
            let path = format!("/events?filters={}", encode(EVENT_FILTER));
            let explain = |error: CallError| error.explain(self.engine.address());
            let mut lines = self.engine.lines(EVENTS, &path).await.map_err(explain)?;
            let cache = Arc::clone(self);
            let reader = tokio::spawn(async move {
                while let Some(line) = lines.next().await? {
                    // Other people's configs are no matter of ours.
                    let hint = convert::event(&line).filter(|hint| match hint {
                        Hint::Config(name) => name == cache.place.name(),
                        Hint::Service(_) | Hint::ServiceRemoved(_) | Hint::Tasks(_) | Hint::Networks | Hint::Nodes => {
                            true
                        }
                    });
                    if let Some(hint) = hint {
                        locked(&cache.pending).hint(hint);
                        cache.wake.notify_one();
                    }
                }
                Ok(())
            });
            let events = Events { reader };
            self.read_everything().await.map_err(explain)?;
            Ok(events)
        };
        let connected = connect.await;
        self.ended(attempt, connected.as_ref().err());
        connected
    }

    /// Reads everything once more.
    async fn read_again(&self) -> Result<Changed, PlatformError> {
        let attempt = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let read = self.read_everything().await.map_err(|error| error.explain(self.engine.address()));
        self.ended(attempt, read.as_ref().err());
        read
    }

    /// Reads everything; says what had changed.
    async fn read_everything(&self) -> Result<Changed, CallError> {
        let reading = reads::everything(&self.engine, &self.place, &self.state).await?;
        let mut changed = Changed::default();
        self.with(|state| {
            changed = state.finish(reading);
            changed.services || changed.others
        });
        Ok(changed)
    }

    /// Tells those who wait that a full read has ended, and everybody if that made a difference.
    fn ended(&self, attempt: u64, error: Option<&PlatformError>) {
        let mut differs = false;
        self.health.send_modify(|health| {
            differs = health.error.as_ref() != error;
            *health = Health { ended: attempt, error: error.cloned() };
        });
        if differs {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Follows events, timers and requests until the connection has to be made anew.
    async fn follow(&self, events: &mut Events) -> Option<PlatformError> {
        let mut next_full = Instant::now() + self.resync;
        let mut tasks = Tasks::new(self.resync);
        let mut near = Near::new(self.resync);
        let mut doubted: Option<Doubted> = None;
        // A long read goes on beside everything else: an event must not wait for its end.
        let mut reading: Option<Reading<'_>> = None;
        // Nor must the tasks of a service wait for those of all others.
        let mut near_reading: Option<Reading<'_>> = None;
        loop {
            let now = Instant::now();
            if let Some(doubt) = &doubted
                && now >= doubt.until
            {
                if locked(&self.pending).last().is_none_or(|last| last < doubt.from) {
                    tracing::debug!("services change and no event says so: opening the stream anew");
                    return None;
                }
                doubted = None;
            }
            let restless =
                reading.is_none() && (tasks.asked || locked(&self.state).is_restless_beside(near.services()));
            if reading.is_none() {
                if self.is_wanted() || now >= next_full {
                    let read = async { Read::Everything(self.read_again().await) };
                    reading = Some(Reading { began: now, read: read.boxed() });
                } else if restless && now >= tasks.next {
                    tasks.asked = false;
                    let read = async { Read::Tasks(self.read_tasks().await) };
                    reading = Some(Reading { began: now, read: read.boxed() });
                }
            }
            let batch = locked(&self.pending).take(now);
            if !batch.is_empty() {
                if let Err(error) = self.look(&batch).await {
                    tracing::debug!(%error, "cannot read what an event is about");
                    self.doubt();
                }
                let few = near.ask(&batch);
                if batch.nodes || batch.networks || !few {
                    tasks.ask();
                }
                continue;
            }
            if near.due().is_some_and(|due| due <= now) {
                let services = near.begin();
                let read = async move { Read::Near(self.read_near(services).await) };
                near_reading = Some(Reading { began: now, read: read.boxed() });
            }
            let mut until = if restless { next_full.min(tasks.next) } else { next_full };
            if reading.is_some() {
                // Its end decides what comes next.
                until = now + self.resync;
            }
            until = doubted.as_ref().map_or(until, |doubt| until.min(doubt.until));
            until = until.min(locked(&self.pending).due().unwrap_or(until)).min(near.due().unwrap_or(until));
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.wake.notified() => {}
                _ = &mut events.reader => return None,
                Read::Near(read) = end_of(&mut near_reading) => {
                    let began = near_reading.take().map_or(now, |reading| reading.began);
                    match read {
                        Ok(Some(changed)) => {
                            near.were_read(began, changed, |id| locked(&self.state).is_on_its_way(id));
                        }
                        Ok(None) => {
                            near.leave();
                            tasks.ask();
                        }
                        Err(error) => {
                            tracing::debug!(%error, "cannot read the tasks of a service");
                            near.leave();
                            self.doubt();
                        }
                    }
                }
                read = end_of(&mut reading) => {
                    let began = reading.take().map_or(now, |reading| reading.began);
                    match read {
                        Read::Everything(Ok(changed)) => {
                            if changed.services && doubted.is_none() {
                                let from = began.checked_sub(EVENT_DELAY).unwrap_or(began);
                                doubted = Some(Doubted { from, until: Instant::now() + EVENT_DELAY });
                            }
                            next_full = Instant::now() + self.resync;
                            tasks.were_read(began, changed != Changed::default());
                        }
                        Read::Everything(Err(error)) => return Some(error),
                        Read::Tasks(Ok(changed)) => tasks.were_read(began, changed),
                        Read::Tasks(Err(error)) => {
                            tracing::debug!(%error, "cannot read tasks");
                            tasks.were_read(began, false);
                            self.doubt();
                        }
                        Read::Near(_) => {}
                    }
                }
            }
        }
    }

    /// Looks where events point.
    async fn look(&self, batch: &Batch) -> Result<(), CallError> {
        if batch.nodes || batch.services.len() + batch.removed.len() > LIST_INSTEAD {
            self.refresh();
            return Ok(());
        }
        if batch.networks {
            let (names, attachable) = reads::networks(&self.engine).await?;
            self.with(|state| state.networks(names, attachable));
        }
        if batch.notes {
            self.read_notes().await;
        }
        let removed = batch.removed.iter().map(|id| (id, true));
        let changed = batch.services.difference(&batch.removed).map(|id| (id, false));
        let mut reads = futures_util::stream::iter(removed.chain(changed))
            .filter(|(id, removed)| {
                let ours = *removed && locked(&self.state).is_removed(id);
                async move { !ours }
            })
            .map(|(id, removed)| self.read_service(id, removed))
            .buffer_unordered(READS_AT_ONCE)
            .boxed();
        while let Some(read) = reads.next().await {
            read?;
        }
        Ok(())
    }

    async fn read_tasks(&self) -> Result<bool, CallError> {
        let began = locked(&self.state).begin_tasks();
        let (tasks, _) = reads::tasks(&self.engine).await?;
        let mut changed = false;
        self.with(|state| {
            changed = state.tasks(tasks, began);
            changed
        });
        Ok(changed)
    }

    /// Reads the tasks of these services; says whether they had changed, and nothing if a list of all has to tell.
    async fn read_near(&self, services: BTreeSet<ServiceId>) -> Result<Option<bool>, CallError> {
        let (gone, there): (BTreeSet<_>, BTreeSet<_>) = {
            let state = locked(&self.state);
            services.into_iter().partition(|id| !state.is_there(id))
        };
        let mut found: Vec<(ServiceId, Arc<[TaskView]>)> = Vec::new();
        if !there.is_empty() {
            let Some(tasks) = reads::tasks_of(&self.engine, &there).await? else { return Ok(None) };
            found.extend(there.into_iter().map(|id| {
                let tasks = tasks.get(&id).cloned().unwrap_or_default();
                (id, tasks)
            }));
        }
        for id in gone {
            let known = locked(&self.state).known_tasks(&id);
            if known.len() > LIST_INSTEAD {
                return Ok(None);
            }
            let left = reads::tasks_left(&self.engine, &known).await?;
            found.push((id, left));
        }
        let mut changed = false;
        self.with(|state| {
            for (id, tasks) in found {
                changed |= state.tasks_of(&id, tasks);
            }
            changed
        });
        Ok(Some(changed))
    }
}

/// A long read that goes on.
struct Reading<'a> {
    began: Instant,
    read: BoxFuture<'a, Read>,
}

/// What came of it.
enum Read {
    /// All there is; what had changed.
    Everything(Result<Changed, PlatformError>),
    /// All tasks; whether they had changed.
    Tasks(Result<bool, CallError>),
    /// The tasks of single services; whether they had changed, and nothing if a list of all has to tell.
    Near(Result<Option<bool>, CallError>),
}

/// The end of a read, if one goes on.
async fn end_of(reading: &mut Option<Reading<'_>>) -> Read {
    match reading {
        Some(reading) => (&mut reading.read).await,
        None => std::future::pending().await,
    }
}

/// A stream of events that should have told of a change, and did not yet.
struct Doubted {
    /// An event since then clears it.
    from: Instant,
    /// When the stream is given up.
    until: Instant,
}

/// The stream of events, read by a task of its own.
struct Events {
    reader: tokio::task::JoinHandle<Result<(), CallError>>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
