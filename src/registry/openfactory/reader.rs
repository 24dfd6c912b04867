//! Reads the registry in the background, so that a pass never waits for seven queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::{Stream, stream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::hints::{self, Listener};
use super::kafka::KafkaSettings;
use super::ksqldb::{KsqlError, Ksqldb};
use super::setup::Forgetful;
use super::tables::{self, Answers};
use crate::clock::Clock;
use crate::model::{RecordId, RegistrySnapshot};
use crate::registry::RegistryError;

/// How long `observe` waits for a reading that it needs: longer than one query may take, so that a server that hangs
/// is called so, and long enough for a slow one.
const PATIENCE: Duration = Duration::from_secs(15);
/// After writing, how long ksqlDB is given to follow before looking, if no derived topic tells earlier.
const LAG: Duration = Duration::from_millis(500);
/// How long to wait before the policies are asked for again after a failure.
const POLICIES_AGAIN: Duration = Duration::from_secs(10);
/// How often the policies of the topics are looked at.
const POLICIES: Duration = Duration::from_secs(600);
/// A reading that lost more assets than this, and more than half of them, is not believed at once.
const FEW: usize = 5;
/// How long such a reading must stay the same before it is believed.
const BELIEF: Duration = Duration::from_secs(60);

/// What the reader last found.
#[derive(Clone, Default)]
struct State {
    /// The number of requests for a fresh reading that this one covers.
    covers: u64,
    result: Option<Result<Arc<RegistrySnapshot>, RegistryError>>,
    /// The last snapshot, whatever came after.
    latest: Option<Arc<RegistrySnapshot>>,
    /// Counts changes of what `observe` answers.
    changes: u64,
}

struct Shared {
    requested: AtomicU64,
    wake: Arc<Notify>,
    soon: Notify,
}

/// The handle; dropping it ends the reading.
pub(super) struct Reader {
    shared: Arc<Shared>,
    state: watch::Receiver<State>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Reader {
    pub(super) fn start(ksqldb: Ksqldb, kafka: KafkaSettings, interval: Duration, clock: Arc<dyn Clock>) -> Reader {
        let shared = Arc::new(Shared { requested: AtomicU64::new(0), wake: Arc::default(), soon: Notify::new() });
        let (sender, state) = watch::channel(State::default());
        let (found, forgetful) = watch::channel(Vec::new());
        let (told, silence) = watch::channel(None);
        let troubles = Troubles { forgetful, silence };
        let listener = Listener::new(kafka.clone(), Arc::clone(&shared.wake), told);
        let tasks = vec![
            tokio::spawn(read_forever(ksqldb.clone(), Arc::clone(&shared), sender, troubles, interval, clock)),
            tokio::spawn(listener.listen(ksqldb.clone())),
            tokio::spawn(look_at_policies(ksqldb, kafka, found, Arc::clone(&shared))),
        ];
        Reader { shared, state, tasks }
    }

    /// What was read last; waits for a reading that was asked for, but not for long.
    pub(super) async fn observe(&self) -> Result<Arc<RegistrySnapshot>, RegistryError> {
        let wanted = self.shared.requested.load(Ordering::SeqCst);
        let mut state = self.state.clone();
        let fresh = state.wait_for(|state| state.result.is_some() && state.covers >= wanted);
        match tokio::time::timeout(PATIENCE, fresh).await {
            Ok(Ok(state)) => state.result.clone().unwrap_or_else(|| Err(waiting())),
            Ok(Err(_)) | Err(_) => Err(waiting()),
        }
    }

    /// The last snapshot, however old.
    pub(super) fn latest(&self) -> Option<Arc<RegistrySnapshot>> {
        self.state.borrow().latest.clone()
    }

    pub(super) fn refresh(&self) {
        self.shared.requested.fetch_add(1, Ordering::SeqCst);
        self.shared.wake.notify_one();
    }

    /// Something was written: have a look when ksqlDB may have followed.
    pub(super) fn look_soon(&self) {
        self.shared.soon.notify_one();
    }

    pub(super) fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        let mut state = self.state.clone();
        let seen = state.borrow_and_update().changes;
        stream::unfold((state, seen), |(mut state, seen)| async move {
            let changes = state.wait_for(|state| state.changes != seen).await.ok()?.changes;
            Some(((), (state, changes)))
        })
    }
}

fn waiting() -> RegistryError {
    RegistryError { message: format!("the registry has not answered for {} s", PATIENCE.as_secs()), hint: None }
}

/// What others find out about Kafka.
struct Troubles {
    /// Topics that lose what they are told.
    forgetful: watch::Receiver<Vec<Forgetful>>,
    /// Why it gives no hints.
    silence: watch::Receiver<Option<String>>,
}

impl Troubles {
    /// For people.
    fn sentences(&self, topics: &[Forgetful], interval: Duration) -> Vec<String> {
        let silence = self.silence.borrow();
        let silence = silence.as_ref().map(|silence| hints::sentence(silence, interval));
        topics.iter().map(Forgetful::sentence).chain(silence).collect()
    }
}

async fn read_forever(
    ksqldb: Ksqldb,
    shared: Arc<Shared>,
    sender: watch::Sender<State>,
    troubles: Troubles,
    interval: Duration,
    clock: Arc<dyn Clock>,
) {
    let mut generation = 0;
    let mut doubt = Doubt::default();
    loop {
        let covers = shared.requested.load(Ordering::SeqCst);
        let topics = troubles.forgetful.borrow().clone();
        let result = match read(&ksqldb, &topics, clock.wall()).await {
            Ok(mut snapshot) => {
                if let Some(before) = &sender.borrow().latest {
                    keep_equal(&mut snapshot, before);
                }
                generation += 1;
                snapshot.generation = generation;
                snapshot.complete = doubt.believes(assets(&snapshot), clock.now());
                snapshot.warnings = troubles.sentences(&topics, interval);
                Ok(Arc::new(snapshot))
            }
            Err(error) => Err(error.explain(ksqldb.url())),
        };
        sender.send_modify(|state| {
            if !same(state.result.as_ref(), &result) {
                state.changes += 1;
            }
            if let Ok(snapshot) = &result {
                state.latest = Some(Arc::clone(snapshot));
            }
            state.covers = covers;
            state.result = Some(result);
        });
        tokio::select! {
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(interval) => {}
            () = async { shared.soon.notified().await; tokio::time::sleep(LAG).await } => {}
        }
    }
}

/// The queries of one reading, one after the other.
async fn read(ksqldb: &Ksqldb, topics: &[Forgetful], wall: SystemTime) -> Result<RegistrySnapshot, KsqlError> {
    let answers = Answers {
        types: ksqldb.pull(&tables::TYPES).await?.value,
        services: ksqldb.pull(&tables::SERVICES).await?.value,
        availability: ksqldb.pull(&tables::AVAILABILITY).await?.value,
        places: ksqldb.pull(&tables::PLACES).await?.value,
        connectors: ksqldb.pull(&tables::CONNECTORS).await?.value,
        targets: ksqldb.pull(&tables::TARGETS).await?.value,
        attributes: ksqldb.pull(&tables::ATTRIBUTES).await?.value,
    };
    let mut snapshot = tables::assemble(answers);
    for topic in topics {
        if let Some(query) = tables::ages(topic.source) {
            let ages = ksqldb.pull(&query).await?.value;
            snapshot.expiring.extend(tables::expiring(topic.source, ages, wall, topic.expiry));
        }
    }
    Ok(snapshot)
}

/// Records that are as they were keep their place in memory: whoever has compared them before need not do it again.
fn keep_equal(now: &mut RegistrySnapshot, before: &RegistrySnapshot) {
    for (id, found) in &mut now.records {
        if let Some(known) = before.records.get(id).filter(|known| **known == *found) {
            *found = Arc::clone(known);
        }
    }
}

fn assets(snapshot: &RegistrySnapshot) -> usize {
    snapshot.records.keys().filter(|id| matches!(id, RecordId::Asset(_))).count()
}

fn same(
    before: Option<&Result<Arc<RegistrySnapshot>, RegistryError>>,
    now: &Result<Arc<RegistrySnapshot>, RegistryError>,
) -> bool {
    match (before, now) {
        (Some(Ok(before)), Ok(now)) => {
            before.complete == now.complete
                && before.records == now.records
                && before.availability == now.availability
                && before.coordinators == now.coordinators
                && before.expiring == now.expiring
                && before.warnings == now.warnings
        }
        (Some(Err(before)), Err(now)) => before == now,
        (None | Some(_), _) => false,
    }
}

/// Tells a registry that lost its assets from one that cannot show them right now.
#[derive(Debug, Default)]
struct Doubt {
    believed: usize,
    /// The smaller number, and since when it has been seen.
    smaller: Option<(usize, Duration)>,
}

impl Doubt {
    fn believes(&mut self, assets: usize, now: Duration) -> bool {
        let lost = self.believed.saturating_sub(assets);
        let much = lost > FEW && lost * 2 > self.believed || assets == 0 && self.believed > 0;
        if !much {
            *self = Doubt { believed: assets, smaller: None };
            return true;
        }
        match self.smaller {
            Some((seen, since)) if assets >= seen && now.saturating_sub(since) >= BELIEF => {
                *self = Doubt { believed: assets, smaller: None };
                true
            }
            Some((seen, _)) if assets >= seen => false,
            Some(_) | None => {
                self.smaller = Some((assets, now));
                false
            }
        }
    }
}

/// Topics that forget are told to people, and what they hold is written again in time.
async fn look_at_policies(
    ksqldb: Ksqldb,
    kafka: KafkaSettings,
    forgetful: watch::Sender<Vec<Forgetful>>,
    shared: Arc<Shared>,
) {
    loop {
        let wait = match super::setup::forgetful_topics(&ksqldb, &kafka).await {
            Ok(found) => {
                if forgetful.send_if_modified(|held| std::mem::replace(held, found) != *held) {
                    shared.wake.notify_one();
                }
                POLICIES
            }
            Err(_) => POLICIES_AGAIN,
        };
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_much_smaller_reading_is_believed_only_when_it_stays() {
        let mut doubt = Doubt::default();
        let at = Duration::from_secs;
        assert!(doubt.believes(100, at(0)));
        assert!(doubt.believes(60, at(1)), "less than half is lost");
        assert!(!doubt.believes(10, at(2)));
        assert!(!doubt.believes(0, at(30)), "still shrinking: the time begins anew");
        assert!(!doubt.believes(0, at(89)));
        assert!(doubt.believes(0, at(90)));
        assert!(doubt.believes(0, at(91)));
    }

    #[test]
    fn a_small_registry_that_turns_empty_is_doubted_too() {
        let mut doubt = Doubt::default();
        assert!(doubt.believes(0, Duration::ZERO));
        assert!(doubt.believes(2, Duration::ZERO));
        assert!(!doubt.believes(0, Duration::ZERO));
        assert!(doubt.believes(2, Duration::ZERO));
    }
}
