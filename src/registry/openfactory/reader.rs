//! Reads the registry in the background, so that a pass never waits for seven queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use backon::Retryable;
use futures_util::{Stream, stream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::evidence::{Facts, Judge};
use super::hints::{self, Listener, SharedLog};
use super::kafka::KafkaSettings;
use super::ksqldb::{KsqlError, Ksqldb, patience};
use super::setup::Forgetful;
use super::tables::{self, Ages, Answers};
use crate::clock::Clock;
use crate::model::{RegistrySnapshot, Source};
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
/// How soon a reading follows that may prove what the last one did not, or that tells whether a server is back.
const PROOF_AGAIN: Duration = Duration::from_secs(3);

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
    log: SharedLog,
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
        let log = SharedLog::default();
        let listener = Listener::new(kafka.clone(), Arc::clone(&clock), Arc::clone(&shared.wake), log.clone(), told);
        let reading = read_forever(ksqldb.clone(), Arc::clone(&shared), sender, troubles, log.clone(), interval, clock);
        let tasks = vec![
            tokio::spawn(reading),
            tokio::spawn(listener.listen(ksqldb.clone())),
            tokio::spawn(look_at_policies(ksqldb, kafka, found, Arc::clone(&shared), interval)),
        ];
        Reader { shared, state, log, tasks }
    }

    /// What the topics of state hold.
    pub(super) fn log(&self) -> &SharedLog {
        &self.log
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
    log: SharedLog,
    interval: Duration,
    clock: Arc<dyn Clock>,
) {
    let mut generation = 0;
    let mut judge = Judge::default();
    let mut keys = AgeKeys::new();
    loop {
        let covers = shared.requested.load(Ordering::SeqCst);
        let topics = troubles.forgetful.borrow().clone();
        let result = match read(&ksqldb, &topics, &mut keys, clock.wall()).await {
            Ok(Taken { mut snapshot, facts, disturbed, warnings }) => {
                if let Some(before) = &sender.borrow().latest {
                    snapshot.share_with(before);
                }
                generation += 1;
                snapshot.generation = generation;
                let verdict = judge.judge(facts, &log.lock(), disturbed, clock.now());
                snapshot.complete = verdict.complete;
                snapshot.evidence = verdict.evidence;
                snapshot.warnings = troubles.sentences(&topics, interval);
                snapshot.warnings.extend(warnings.into_iter().chain(verdict.warning));
                Ok(Arc::new(snapshot))
            }
            Err(error) => {
                judge.failed();
                Err(error.explain(ksqldb.url()))
            }
        };
        // While nothing is in doubt, the timer is enough.
        let wait = match &result {
            Ok(snapshot) if !snapshot.evidence.awaits_reading() && snapshot.evidence.unmarked.is_empty() => interval,
            Ok(_) | Err(_) => interval.min(PROOF_AGAIN),
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
            () = tokio::time::sleep(wait) => {}
            () = async { shared.soon.notified().await; tokio::time::sleep(LAG).await } => {}
        }
    }
}

/// What a reading found out, beside the snapshot.
struct Taken {
    snapshot: RegistrySnapshot,
    /// What it shows of each asset.
    facts: Facts,
    /// A query failed in passing, and the reading began anew.
    disturbed: bool,
    /// What could not be found out although the reading counts, each a sentence.
    warnings: Vec<String>,
}

/// One reading. A query that fails in passing begins the whole anew: the tables of a server that comes back do so one
/// by one, so that the answers before the failure and those after it do not belong together.
async fn read(ksqldb: &Ksqldb, topics: &[Forgetful], keys: &mut AgeKeys, wall: SystemTime) -> Result<Taken, KsqlError> {
    let disturbed = AtomicBool::new(false);
    let whole = (|| read_once(ksqldb))
        .retry(patience())
        .when(KsqlError::is_passing)
        .notify(|_, _| disturbed.store(true, Ordering::Relaxed));
    let answers = whole.await?;
    let facts = answers.facts();
    let snapshot = tables::assemble(answers);
    let mut taken = Taken { snapshot, facts, disturbed: disturbed.into_inner(), warnings: Vec::new() };
    for topic in topics {
        match ages(ksqldb, topic.source, keys).await {
            Ok(ages) => {
                let expiring = tables::expiring(topic.source, ages, wall, topic.expiry);
                taken.snapshot.expiring.extend(expiring);
            }
            Err(error) => {
                taken.disturbed |= error.is_passing();
                taken.warnings.push(format!(
                    "how old the rows of {} are cannot be read: {error}; until it can, what topic {} is about to lose \
                     is not written again",
                    topic.source.as_str(),
                    topic.topic
                ));
            }
        }
    }
    Ok(taken)
}

/// The queries of one reading, one after the other.
async fn read_once(ksqldb: &Ksqldb) -> Result<Answers, KsqlError> {
    Ok(Answers {
        types: ksqldb.pull_once(&tables::TYPES).await?.value,
        services: ksqldb.pull_once(&tables::SERVICES).await?.value,
        availability: ksqldb.pull_once(&tables::AVAILABILITY).await?.value,
        places: ksqldb.pull_once(&tables::PLACES).await?.value,
        connectors: ksqldb.pull_once(&tables::CONNECTORS).await?.value,
        targets: ksqldb.pull_once(&tables::TARGETS).await?.value,
        attributes: ksqldb.pull_once(&tables::ATTRIBUTES).await?.value,
    })
}

/// The names of the tables' keys, as ksqlDB told them; asked again after a query by such a name failed.
type AgeKeys = BTreeMap<Source, String>;

async fn ages(ksqldb: &Ksqldb, source: Source, keys: &mut AgeKeys) -> Result<Ages, KsqlError> {
    let Some((table, usual)) = tables::aging(source) else { return Ok(Ages::new()) };
    let key = match keys.remove(&source) {
        Some(key) => key,
        None => ksqldb.describe(table).await?.key.unwrap_or_else(|| usual.to_owned()),
    };
    let ages = ksqldb.pull_once(&tables::ages(&tables::ages_statement(table, &key))).await?.value;
    keys.insert(source, key);
    Ok(ages)
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
                && before.evidence == now.evidence
                && before.expiring == now.expiring
                && before.warnings == now.warnings
        }
        (Some(Err(before)), Err(now)) => before == now,
        (None | Some(_), _) => false,
    }
}

/// Topics that forget are told to people, and what they hold is written again in time.
async fn look_at_policies(
    ksqldb: Ksqldb,
    kafka: KafkaSettings,
    forgetful: watch::Sender<Vec<Forgetful>>,
    shared: Arc<Shared>,
    interval: Duration,
) {
    loop {
        let wait = match super::setup::forgetful_topics(&ksqldb, &kafka).await {
            Ok(found) => {
                if forgetful.send_if_modified(|held| std::mem::replace(held, found) != *held) {
                    shared.wake.notify_one();
                }
                // One that is mended is seen as soon as everything else is.
                if forgetful.borrow().is_empty() { POLICIES } else { interval.min(POLICIES) }
            }
            Err(_) => POLICIES_AGAIN,
        };
        tokio::time::sleep(wait).await;
    }
}
