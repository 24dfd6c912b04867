//! A registry that shows what was written only after a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Call, Fault, Faults, Rng};
use crate::model::record::{AssetRecord, CoordinatorProtocol, DeviceCoordinator, RecordOwner};
use crate::model::{
    AssetUuid, Availability, FailureKind, ObservedRecord, Record, RecordId, RecordStep, RegistrySnapshot, StepFailure,
};
use crate::registry::{Registry, RegistryError};

/// A registry in memory. Clones share it; it outlives the operator.
#[derive(Debug, Clone)]
pub struct FakeRegistry {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
    written: watch::Sender<usize>,
    start: Instant,
}

#[derive(Debug)]
struct Inner {
    /// What was written.
    truth: BTreeMap<RecordId, ObservedRecord>,
    /// What reads show.
    visible: BTreeMap<RecordId, Arc<ObservedRecord>>,
    /// What reads will show, in the order of writing, and from when on.
    coming: Vec<(Duration, RecordId, Option<ObservedRecord>)>,
    /// Rows that come back by themselves if they are still gone then.
    ghosts: Vec<(Duration, RecordId, ObservedRecord)>,
    availability: BTreeMap<AssetUuid, Availability>,
    /// Which coordinator was told of each device.
    coordinators: BTreeMap<AssetUuid, DeviceCoordinator>,
    /// What the coordinators themselves know of each device.
    known: BTreeMap<AssetUuid, String>,
    generation: u64,
    rng: Rng,
    faults: Faults,
    scripted: Vec<Option<Fault>>,
    /// The next write in several parts ends after so many of them.
    cut: Option<usize>,
    lag: Duration,
    down: bool,
    hangs: bool,
    slow: Duration,
    latency: Duration,
    sound: bool,
    calls: Vec<Call>,
}

/// A row that comes back does so within this time: ksqlDB's derived tables follow within seconds.
const GHOST: u64 = 8_000;
/// How long a write takes.
const LATENCY: Duration = Duration::from_millis(5);
/// A producer gives a message up after this long.
const TIMEOUT: Duration = Duration::from_secs(15);

impl FakeRegistry {
    /// An empty registry that shows writes at once, in a tokio runtime.
    pub fn new(seed: u64) -> Self {
        FakeRegistry {
            inner: Arc::new(Mutex::new(Inner {
                truth: BTreeMap::new(),
                visible: BTreeMap::new(),
                coming: Vec::new(),
                ghosts: Vec::new(),
                availability: BTreeMap::new(),
                coordinators: BTreeMap::new(),
                known: BTreeMap::new(),
                generation: 0,
                rng: Rng::new(seed),
                faults: Faults::default(),
                scripted: Vec::new(),
                cut: None,
                lag: Duration::ZERO,
                down: false,
                hangs: false,
                slow: Duration::ZERO,
                latency: LATENCY,
                sound: false,
                calls: Vec::new(),
            })),
            changed: watch::Sender::new(0),
            written: watch::Sender::new(0),
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

    /// The next write to a coordinator, which has three parts, fails after so many of them.
    pub fn cut(&self, parts: usize) {
        self.inner().cut = Some(parts);
    }

    /// How long what was written stays invisible.
    pub fn lag(&self, lag: Duration) {
        self.inner().lag = lag;
    }

    /// Whether it can be reached.
    pub fn down(&self, down: bool) {
        self.inner().down = down;
    }

    /// Whether reads that begin from now on never end.
    pub fn hang(&self, hangs: bool) {
        self.inner().hangs = hangs;
    }

    /// How long each part of a write takes.
    pub fn latency(&self, time: Duration) {
        self.inner().latency = time;
    }

    /// How long reads take that begin from now on. They show what is there when they begin.
    pub fn slow(&self, time: Duration) {
        self.inner().slow = time;
    }

    /// What an asset says of itself.
    pub fn available(&self, asset: &AssetUuid, availability: Availability) {
        self.inner().availability.insert(asset.clone(), availability);
        self.tell();
    }

    /// A coordinator stops. When it starts again, nobody can say whether it still knows its devices.
    pub fn coordinator_stops(&self, coordinator: &AssetUuid) {
        self.available(coordinator, Availability::Unavailable);
    }

    /// A coordinator starts, and has forgotten its devices or not.
    pub fn coordinator_starts(&self, coordinator: &AssetUuid, forgets: bool) {
        let now = self.now();
        let mut inner = self.inner();
        let told: Vec<AssetUuid> = inner
            .coordinators
            .iter()
            .filter(|(_, known)| known.uuid == *coordinator)
            .map(|(device, _)| device.clone())
            .collect();
        for device in told {
            if forgets {
                inner.known.remove(&device);
            }
            let id = RecordId::CoordinatorDevice(device);
            if let Some(ObservedRecord { record, owner }) = inner.truth.get(&id).cloned() {
                inner.set(id, Some(ObservedRecord { record: unsure(&record), owner }), now);
            }
        }
        drop(inner);
        self.available(coordinator, Availability::Available);
    }

    /// The devices that coordinators know, with their configurations.
    pub fn known_to_coordinators(&self) -> BTreeMap<AssetUuid, String> {
        self.inner().known.clone()
    }

    /// How many writes so far.
    pub fn writes(&self) -> usize {
        *self.written.borrow()
    }

    /// Tells about each write as it comes in.
    pub fn watch_writes(&self) -> watch::Receiver<usize> {
        self.written.subscribe()
    }

    /// How many reads have shown something.
    pub fn reads(&self) -> u64 {
        self.inner().generation
    }

    /// Every write so far.
    pub fn calls(&self) -> Vec<Call> {
        self.inner().calls.clone()
    }

    /// Every record that was written and not taken back.
    pub fn records(&self) -> BTreeMap<RecordId, ObservedRecord> {
        let mut inner = self.inner();
        inner.advance(self.now());
        inner.truth.clone()
    }

    /// Somebody else writes a record.
    pub fn write(&self, record: Record, owner: Option<RecordOwner>) {
        let now = self.now();
        let mut inner = self.inner();
        let id = record.id();
        inner.set(id, Some(ObservedRecord { record, owner }), now);
        drop(inner);
        self.touched();
    }

    /// Somebody else deletes a record.
    pub fn erase(&self, id: &RecordId) {
        let now = self.now();
        self.inner().set(id.clone(), None, now);
        self.touched();
    }

    /// What a read that begins now shows.
    fn read(&self) -> Result<Arc<RegistrySnapshot>, RegistryError> {
        let now = self.now();
        let mut inner = self.inner();
        inner.advance(now);
        let Inner { rng, faults, .. } = &mut *inner;
        let (fails, cut, partial) =
            (rng.chance(faults.reads_fail), rng.chance(faults.reads_incomplete), rng.chance(faults.reads_partial));
        if fails || inner.down {
            return Err(RegistryError { message: "the registry does not answer".into(), hint: None });
        }
        inner.generation += 1;
        let mut records = inner.visible.clone();
        if cut || partial {
            records.retain(|_, _| !inner.rng.chance(30));
        }
        Ok(Arc::new(RegistrySnapshot {
            generation: inner.generation,
            complete: !cut,
            records: records.into(),
            availability: inner.availability.clone().into(),
            coordinators: inner.coordinators.clone(),
            ..RegistrySnapshot::default()
        }))
    }

    fn touched(&self) {
        let lost = {
            let mut inner = self.inner();
            let percent = inner.faults.events_lost;
            inner.rng.chance(percent)
        };
        if !lost {
            self.tell();
        }
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

    /// Carries out the first `parts` parts of a step; whatever happens to the operator, they happen.
    async fn carry_out(&self, step: &RecordStep, parts: usize) -> Result<(), StepFailure> {
        let (registry, step) = (self.clone(), step.clone());
        let work = tokio::spawn(async move {
            for part in 0..parts {
                let latency = registry.inner().latency;
                sleep(latency).await;
                let now = registry.now();
                registry.inner().apply(&step, part, now)?;
                registry.touched();
            }
            Ok(())
        });
        work.await.unwrap_or_else(|_| Err(StepFailure::new(FailureKind::Ambiguous, "the registry died")))
    }

    /// As many parts as a step has, less those that are cut off.
    async fn carry_out_some(&self, step: &RecordStep) {
        let some = self.inner().rng.below(parts(step));
        let _ = self.carry_out(step, usize::try_from(some).unwrap_or_default()).await;
    }
}

/// Telling a coordinator, and having it let a device go, is done in three parts: a note, the command, another note.
fn parts(step: &RecordStep) -> u64 {
    match step {
        RecordStep::Register { record, .. } | RecordStep::Deregister { record }
            if matches!(**record, Record::CoordinatorDevice { .. }) =>
        {
            3
        }
        _ => 1,
    }
}

fn unsure(record: &Record) -> Record {
    match record {
        Record::CoordinatorDevice { device, protocol, .. } => {
            Record::CoordinatorDevice { device: device.clone(), protocol: *protocol, config: String::new() }
        }
        other => other.clone(),
    }
}

impl Inner {
    fn set(&mut self, id: RecordId, record: Option<ObservedRecord>, now: Duration) {
        match &record {
            Some(record) => self.truth.insert(id.clone(), record.clone()),
            None => self.truth.remove(&id),
        };
        let seen = now + self.lag;
        self.coming.push((seen, id, record));
    }

    fn advance(&mut self, now: Duration) {
        let ghosts = std::mem::take(&mut self.ghosts);
        for (at, id, record) in ghosts {
            if at > now {
                self.ghosts.push((at, id, record));
            } else if self.truth.get(&id).is_some_and(|present| is_empty(&present.record)) {
                self.set(id, Some(record), at);
            }
        }
        let coming = std::mem::take(&mut self.coming);
        for (at, id, record) in coming {
            if at > now {
                self.coming.push((at, id, record));
                continue;
            }
            match record {
                Some(record) => self.visible.insert(id, Arc::new(record)),
                None => self.visible.remove(&id),
            };
        }
    }

    /// The coordinator of a kind that listens.
    fn listening(&self, protocol: CoordinatorProtocol) -> Result<DeviceCoordinator, StepFailure> {
        let kind = protocol.coordinator_type();
        self.truth
            .values()
            .filter_map(|found| match &found.record {
                Record::Asset(asset) if asset.asset_type == kind => Some(&asset.uuid),
                _ => None,
            })
            .find(|uuid| self.availability.get(*uuid) == Some(&Availability::Available))
            .map(|uuid| DeviceCoordinator { uuid: uuid.clone(), protocol })
            .ok_or_else(|| StepFailure::new(FailureKind::Dependency, format!("no {kind} is available")))
    }

    /// One part of telling a coordinator.
    fn tell(&mut self, record: &Record, owner: &RecordOwner, part: usize, now: Duration) -> Result<(), StepFailure> {
        let Record::CoordinatorDevice { device, protocol, config } = record else { return Ok(()) };
        let owned = |record| Some(ObservedRecord { record, owner: Some(owner.clone()) });
        match part {
            0 => {
                let coordinator = self.listening(*protocol)?;
                let id = RecordId::Asset(device.clone());
                let asset = match self.truth.get(&id) {
                    Some(found) => found.record.clone(),
                    None => Record::Asset(AssetRecord {
                        uuid: device.clone(),
                        asset_type: String::new(),
                        docker_service: String::new(),
                        references_above: Vec::new(),
                        references_below: Vec::new(),
                        uns: None,
                        attributes: Vec::new(),
                    }),
                };
                self.set(id, owned(asset), now);
                self.coordinators.insert(device.clone(), coordinator);
                self.set(record.id(), owned(unsure(record)), now);
            }
            1 => drop(self.known.insert(device.clone(), config.clone())),
            _ => self.set(record.id(), owned(record.clone()), now),
        }
        Ok(())
    }

    /// One part of having a coordinator let a device go.
    fn let_go(&mut self, record: &Record, part: usize, now: Duration) -> Result<(), StepFailure> {
        let Record::CoordinatorDevice { device, protocol, .. } = record else { return Ok(()) };
        match part {
            0 => {
                self.listening(*protocol)?;
                if let Some(ObservedRecord { record, owner }) = self.truth.get(&record.id()).cloned() {
                    self.set(record.id(), Some(ObservedRecord { record: unsure(&record), owner }), now);
                }
            }
            1 => drop(self.known.remove(device)),
            _ => {
                self.coordinators.remove(device);
                self.set(record.id(), None, now);
            }
        }
        Ok(())
    }

    fn apply(&mut self, step: &RecordStep, part: usize, now: Duration) -> Result<(), StepFailure> {
        self.advance(now);
        match step {
            RecordStep::Register { record, owner } if parts(step) > 1 => self.tell(record, owner, part, now),
            RecordStep::Deregister { record } if parts(step) > 1 => self.let_go(record, part, now),
            RecordStep::Register { record, owner } => {
                let record = ObservedRecord { record: Record::clone(record), owner: Some(owner.clone()) };
                self.set(record.record.id(), Some(record), now);
                Ok(())
            }
            RecordStep::Deregister { record } => {
                let id = record.id();
                let Some(found) = self.truth.get(&id).cloned() else { return Ok(()) };
                let Record::Asset(asset) = &found.record else {
                    self.set(id, None, now);
                    return Ok(());
                };
                let percent = self.faults.resurrections;
                if !asset.asset_type.is_empty() && self.rng.chance(percent) {
                    let at = now + Duration::from_millis(self.rng.below(GHOST));
                    self.ghosts.push((at, id.clone(), found.clone()));
                }
                let mut asset = asset.clone();
                asset.asset_type.clear();
                asset.docker_service.clear();
                asset.references_above.clear();
                asset.references_below.clear();
                self.set(id, Some(ObservedRecord { record: Record::Asset(asset), owner: found.owner }), now);
                Ok(())
            }
            RecordStep::Forget { record } => {
                self.set(record.clone(), None, now);
                Ok(())
            }
        }
    }
}

/// An asset that was taken back and not forgotten yet.
fn is_empty(record: &Record) -> bool {
    matches!(record, Record::Asset(asset) if asset.asset_type.is_empty())
}

impl Registry for FakeRegistry {
    async fn observe(&self) -> Result<Arc<RegistrySnapshot>, RegistryError> {
        let hangs = self.inner().hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
        let slow = self.inner().slow;
        let answer = self.read();
        sleep(slow).await;
        self.inner().sound = answer.as_ref().is_ok_and(|snapshot| snapshot.complete);
        answer
    }

    fn refresh(&self) {}
    async fn execute(&self, step: &RecordStep) -> Result<(), StepFailure> {
        let fault = {
            let mut inner = self.inner();
            let scripted = (!inner.scripted.is_empty()).then(|| inner.scripted.remove(0));
            let percent = inner.faults.writes;
            let fault = match scripted {
                Some(fault) => fault,
                None if inner.down => Some(Fault::RequestLost),
                None if inner.rng.chance(percent) => inner.rng.pick(&Fault::ALL).copied(),
                None => None,
            };
            let call =
                Call { at: self.now(), verb: step.verb(), object: step.object(), id: None, fault, sound: inner.sound };
            inner.calls.push(call);
            self.written.send_replace(inner.calls.len());
            fault
        };
        let lost = || Err(StepFailure::new(FailureKind::Ambiguous, "the acknowledgement was lost"));
        let whole = usize::try_from(parts(step)).unwrap_or_default();
        let cut = if whole > 1 { self.inner().cut.take() } else { None };
        if let Some(parts) = cut {
            let _ = self.carry_out(step, parts).await;
            return Err(StepFailure::new(FailureKind::Unavailable, "no broker can be reached any more"));
        }
        match fault {
            Some(Fault::Refused) => {
                self.carry_out_some(step).await;
                sleep(LATENCY).await;
                Err(StepFailure::new(FailureKind::Unavailable, "no broker can be reached"))
            }
            Some(Fault::RequestLost) => {
                self.carry_out_some(step).await;
                sleep(TIMEOUT).await;
                lost()
            }
            Some(Fault::AnswerLost) => {
                let _ = self.carry_out(step, whole).await;
                sleep(TIMEOUT).await;
                lost()
            }
            Some(Fault::LateCommit) => {
                let delay = Duration::from_millis(self.inner().rng.below(10_000));
                let (registry, step) = (self.clone(), step.clone());
                tokio::spawn(async move {
                    sleep(delay).await;
                    registry.carry_out(&step, whole).await
                });
                lost()
            }
            // Writes are absolute: nobody can be overtaken.
            Some(Fault::Overtaken) | None => self.carry_out(step, whole).await,
        }
    }

    fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        super::hints(&self.changed)
    }
}
