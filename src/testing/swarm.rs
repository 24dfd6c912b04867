//! A small model of Docker Swarm behind the adapter's cache.
//!
//! Services have ids, versions and tasks that start, fail, linger and roll back over time; names are unique;
//! an update names the version that it was planned on. What the operator sees is a cache: patched when an event
//! arrives, made anew by a full read, and wrong as long as neither happens.

mod observe;
mod state;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

pub use self::state::FakeService;

use self::observe::Cache;
use self::state::Swarm;
use super::{Fault, Faults, Rng};
use crate::model::{
    FailureKind, Mark, NoteEdits, Notes, PlatformSnapshot, ServiceId, ServiceName, ServiceSpec, ServiceStep,
    StepFailure, StepVerb,
};
use crate::platform::{Platform, PlatformError};

/// A write that reached the engine, or was meant to.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// When.
    pub at: Duration,
    /// What.
    pub verb: StepVerb,
    /// To what: `service scheduler`.
    pub object: String,
    /// The full id that a destructive call named.
    pub id: Option<ServiceId>,
    /// What went wrong, if a fault was drawn.
    pub fault: Option<Fault>,
    /// The last read before it was complete.
    pub sound: bool,
}

/// A Swarm in memory. Clones share it; it outlives the operator.
#[derive(Debug, Clone)]
pub struct FakeSwarm {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
    written: watch::Sender<usize>,
    noted: watch::Sender<usize>,
    start: Instant,
}

#[derive(Debug)]
struct Inner {
    swarm: Swarm,
    cache: Cache,
    rng: Rng,
    faults: Faults,
    /// What the next writes meet, before anything is drawn.
    scripted: Vec<Option<Fault>>,
    latency: Duration,
    reads_take: Duration,
    calls: Vec<Call>,
    /// What the next writes of notes meet, before anything is drawn.
    scripted_notes: Vec<Option<Fault>>,
}

/// How long a call that a fault makes slow takes.
const SLOW: Duration = Duration::from_secs(8);
/// A write without leader is given up after this long (swarmkit).
const LATEST_COMMIT: u64 = 19_000;

impl FakeSwarm {
    /// An empty Swarm with the network `factory-net`, in a tokio runtime.
    pub fn new(seed: u64) -> Self {
        FakeSwarm {
            inner: Arc::new(Mutex::new(Inner {
                swarm: Swarm::default(),
                cache: Cache::default(),
                rng: Rng::new(seed),
                faults: Faults::default(),
                scripted: Vec::new(),
                latency: Duration::from_millis(10),
                reads_take: Duration::ZERO,
                calls: Vec::new(),
                scripted_notes: Vec::new(),
            })),
            changed: watch::Sender::new(0),
            written: watch::Sender::new(0),
            noted: watch::Sender::new(0),
            start: Instant::now(),
        }
    }

    /// What may go wrong from now on.
    pub fn faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    /// What the next writes meet, in order; `None` for nothing.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.inner().scripted.extend(faults);
    }

    /// What the next writes of notes meet, in order; `None` for nothing.
    pub fn script_notes(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.inner().scripted_notes.extend(faults);
    }

    /// What is noted.
    pub fn notes(&self) -> Notes {
        Notes::clone(&self.inner().swarm.notes)
    }

    /// Somebody throws the notes away.
    pub fn lose_notes(&self) {
        let mut inner = self.inner();
        (inner.swarm.notes, inner.swarm.notes_version) = Default::default();
        drop(inner);
        self.touched();
    }

    /// How many writes of notes so far; they are no steps.
    pub fn note_writes(&self) -> usize {
        *self.noted.borrow()
    }

    /// Tells about each write of notes as it comes in.
    pub fn watch_notes(&self) -> watch::Receiver<usize> {
        self.noted.subscribe()
    }

    /// How long a write takes.
    pub fn latency(&self, latency: Duration) {
        self.inner().latency = latency;
    }

    /// How long a read takes.
    pub fn reads_take(&self, time: Duration) {
        self.inner().reads_take = time;
    }

    /// Whether there is a leader: without one reads fail and so do writes.
    pub fn leader(&self, leader: bool) {
        self.inner().swarm.leader = leader;
        self.tell();
    }

    /// How many writes so far.
    pub fn writes(&self) -> usize {
        *self.written.borrow()
    }

    /// Tells about each write as it comes in.
    pub fn watch_writes(&self) -> watch::Receiver<usize> {
        self.written.subscribe()
    }

    /// Every write so far.
    pub fn calls(&self) -> Vec<Call> {
        self.inner().calls.clone()
    }

    /// The writes of one verb.
    pub fn count(&self, verb: StepVerb) -> usize {
        self.inner().calls.iter().filter(|call| call.verb == verb).count()
    }

    /// Every service that exists, by name.
    pub fn services(&self) -> Vec<FakeService> {
        let mut inner = self.inner();
        inner.swarm.advance(self.now());
        let mut services: Vec<_> = inner.swarm.services.values().cloned().collect();
        services.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        services
    }

    /// The service of a name.
    pub fn service(&self, name: &str) -> Option<FakeService> {
        self.services().into_iter().find(|service| service.spec.name.as_str() == name)
    }

    /// Somebody else creates a service; its id.
    pub fn deploy(&self, spec: ServiceSpec, mark: Option<Mark>) -> ServiceId {
        let now = self.now();
        let id = self.inner().swarm.create(spec, mark, now);
        self.touched();
        id
    }

    /// Somebody else edits a service.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut FakeService)) {
        let now = self.now();
        self.inner().swarm.edit(name, now, edit);
        self.touched();
    }

    /// Somebody orders a rollback of a service.
    pub fn roll_back(&self, name: &str) {
        let now = self.now();
        self.inner().swarm.roll_back(name, now);
        self.touched();
    }

    /// Somebody else removes a service.
    pub fn remove(&self, name: &str) {
        let now = self.now();
        self.inner().swarm.remove_by_name(name, now);
        self.touched();
    }

    /// The same without an event.
    pub fn remove_silently(&self, name: &str) {
        let now = self.now();
        self.inner().swarm.remove_by_name(name, now);
    }

    /// A network that exists or not.
    pub fn network(&self, name: &str, exists: bool) {
        let mut inner = self.inner();
        if exists {
            inner.swarm.networks.insert(name.to_owned());
        } else {
            inner.swarm.networks.remove(name);
        }
        drop(inner);
        self.touched();
    }

    /// The digest that an image's tag points to.
    pub fn publish(&self, image: &str, digest: &str) {
        self.inner().swarm.digests.insert(image.to_owned(), digest.to_owned());
    }

    /// Wakes the operator although nothing changed, as an engine's events often do.
    pub fn poke(&self) {
        self.tell();
    }

    /// Something changed: the cache is patched and the operator told, unless the event is lost.
    fn touched(&self) {
        let mut inner = self.inner();
        let lost = inner.faults.events_lost;
        if inner.rng.chance(lost) {
            return;
        }
        inner.cache.patch = true;
        drop(inner);
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a step out now.
    fn commit(&self, step: &ServiceStep) -> Result<(), StepFailure> {
        let now = self.now();
        let outcome = self.inner().swarm.apply(step, now);
        if outcome.is_ok() {
            self.touched();
        }
        outcome
    }
}

impl Platform for FakeSwarm {
    async fn observe(&self, follow: &BTreeSet<String>) -> Result<Arc<PlatformSnapshot>, PlatformError> {
        let time = self.inner().reads_take;
        if !time.is_zero() {
            sleep(time).await;
        }
        let now = self.now();
        let mut inner = self.inner();
        let Inner { swarm, cache, rng, faults, .. } = &mut *inner;
        swarm.advance(now);
        cache.observe(swarm, rng, faults, follow, now)
    }

    fn refresh(&self) {
        self.inner().cache.wanted = true;
    }

    async fn execute(&self, step: &ServiceStep) -> Result<(), StepFailure> {
        let (fault, latency) = {
            let mut inner = self.inner();
            let scripted = (!inner.scripted.is_empty()).then(|| inner.scripted.remove(0));
            let percent = inner.faults.writes;
            let fault = match scripted {
                Some(fault) => fault,
                None if inner.rng.chance(percent) => inner.rng.pick(&Fault::ALL).copied(),
                None => None,
            };
            let slow = inner.faults.slow;
            let latency = if inner.rng.chance(slow) { SLOW } else { inner.latency };
            let id = match step {
                ServiceStep::Update { id, .. } | ServiceStep::Remove { id, .. } => Some(id.clone()),
                ServiceStep::Create { .. } => None,
            };
            let call =
                Call { at: self.now(), verb: step.verb(), object: step.object(), id, fault, sound: inner.cache.sound };
            inner.calls.push(call);
            self.written.send_replace(inner.calls.len());
            (fault, latency)
        };
        let lost = || Err(StepFailure::new(FailureKind::Ambiguous, "the answer was lost"));
        match fault {
            Some(Fault::Refused) => {
                sleep(latency).await;
                Err(StepFailure::new(FailureKind::Unavailable, "the engine cannot be reached"))
            }
            Some(Fault::RequestLost) => {
                sleep(latency + SLOW).await;
                lost()
            }
            Some(Fault::LateCommit) => {
                let delay = Duration::from_millis(self.inner().rng.below(LATEST_COMMIT));
                let (swarm, step) = (self.clone(), step.clone());
                tokio::spawn(async move {
                    sleep(delay).await;
                    swarm.commit(&step)
                });
                sleep(latency).await;
                lost()
            }
            Some(Fault::Overtaken) => {
                let now = self.now();
                self.inner().swarm.overtake(step, now);
                self.touched();
                self.carry_out(step, latency).await
            }
            Some(Fault::AnswerLost) => {
                let _ = self.carry_out(step, latency).await;
                lost()
            }
            None => self.carry_out(step, latency).await,
        }
    }

    async fn note(&self, edits: &NoteEdits) -> Result<(), StepFailure> {
        let (fault, latency, version) = {
            let mut inner = self.inner();
            let scripted = (!inner.scripted_notes.is_empty()).then(|| inner.scripted_notes.remove(0));
            let percent = inner.faults.writes;
            let fault = match scripted {
                Some(fault) => fault,
                None if inner.rng.chance(percent) => inner.rng.pick(&Fault::ALL).copied(),
                None => None,
            };
            (fault, inner.latency, inner.swarm.notes_version)
        };
        self.noted.send_modify(|count| *count += 1);
        let (swarm, edits) = (self.clone(), edits.clone());
        let commit = move |delay: Duration| {
            // The engine goes on with a request whose caller is gone.
            tokio::spawn(async move {
                sleep(delay).await;
                let outcome = swarm.inner().swarm.note(&edits, version);
                if outcome.is_ok() {
                    swarm.touched();
                    swarm.inner().cache.patch = true;
                }
                outcome
            })
        };
        let lost = || Err(StepFailure::new(FailureKind::Ambiguous, "the answer was lost"));
        let died = |_| StepFailure::new(FailureKind::Ambiguous, "the engine died");
        match fault {
            Some(Fault::Refused) => Err(StepFailure::new(FailureKind::Unavailable, "the engine cannot be reached")),
            Some(Fault::RequestLost) => {
                sleep(SLOW).await;
                lost()
            }
            Some(Fault::LateCommit) => {
                commit(Duration::from_millis(self.inner().rng.below(LATEST_COMMIT)));
                sleep(latency).await;
                lost()
            }
            Some(Fault::AnswerLost) => {
                let _ = commit(latency).await;
                lost()
            }
            Some(Fault::Overtaken) => {
                let index = self.inner().swarm.next_index();
                self.inner().swarm.notes_version = index;
                commit(latency).await.map_err(died)?
            }
            None => commit(latency).await.map_err(died)?,
        }
    }

    fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        super::hints(&self.changed)
    }
}

impl FakeSwarm {
    /// The engine goes on with a request whose caller is gone.
    async fn carry_out(&self, step: &ServiceStep, latency: Duration) -> Result<(), StepFailure> {
        let (swarm, step) = (self.clone(), step.clone());
        let half = latency / 2;
        let work = tokio::spawn(async move {
            sleep(half).await;
            let outcome = swarm.commit(&step);
            // The adapter makes its own writes visible at once, whatever becomes of the event.
            swarm.inner().cache.patch |= outcome.is_ok();
            outcome
        });
        let outcome = work.await;
        sleep(half).await;
        outcome.unwrap_or_else(|_| Err(StepFailure::new(FailureKind::Ambiguous, "the engine died")))
    }

    /// A name that no manifest of these tests wants.
    pub fn stranger(name: &str) -> ServiceSpec {
        let name = ServiceName::new(name).unwrap_or_else(|error| unreachable!("{error}"));
        ServiceSpec::new(name, "somebody/else:1")
    }
}
