//! OpenFactory's own registry: written through Kafka, read through ksqlDB.
//!
//! # Flow
//!
//! ```text
//! execute(step) ─► messages ─► topics (looked up with DESCRIBE) ─► one batch to Kafka, all acknowledged
//!
//! a message on a derived topic, a timer, refresh() ─► reader: seven queries, one after the other ─► snapshot
//! ```
//!
//! # Invariants
//!
//! - A reading is whole or it is an error; every query's answer has its closing bracket.
//! - A reading that is suddenly much smaller than the one before says `complete: false` until it has stayed so
//!   for a while: pull queries are known to miss rows (ksql#4170), and a table that is being rebuilt is empty.
//! - Hints say only *when* to read. The stream of all attributes is not followed: every machine's samples go
//!   through it.
//! - Topics are never created by writing to them.

mod answer;
mod coordinator;
pub mod evidence;
mod failure;
mod hints;
mod init;
mod kafka;
mod ksqldb;
pub mod log;
mod reader;
mod setup;
mod sources;
#[cfg(test)]
mod statements;
mod tables;
#[cfg(test)]
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::Stream;
use tokio::sync::Mutex;

use self::kafka::{Outgoing, UnderWay, Writer};
use self::ksqldb::Ksqldb;
use self::reader::Reader;
use crate::clock::{Clock, rfc3339};
use crate::model::record::RecordOwner;
use crate::model::{AssetUuid, FailureKind, Record, RecordId, RecordStep, RegistrySnapshot, Source, StepFailure};
use crate::registry::messages::{self, Message, Said, Stamp};
use crate::registry::{Registry, RegistryError};

pub use self::init::init;
pub use self::kafka::KafkaSettings;
pub use self::ksqldb::KsqldbSettings;
pub use self::setup::{Finding, FindingKind, check};

/// Where the registry is and how often it is read.
#[derive(Debug, Clone)]
pub struct OpenfactorySettings {
    /// Kafka.
    pub kafka: KafkaSettings,
    /// ksqlDB.
    pub ksqldb: KsqldbSettings,
    /// How often everything is read whether or not something was reported.
    pub interval: Duration,
}

/// How long a topic counts as that of its stream or table: somebody may have made that anew over another one.
const TOPICS_LAST: Duration = Duration::from_secs(300);

/// How long it is kept in mind that a row was taken back here, where topics are not followed: the registry shows it
/// within a minute, even while ksqlDB rebalances.
const OURS_LAST: Duration = Duration::from_secs(600);

type Topics = Arc<BTreeMap<Source, String>>;

/// The registry behind Kafka and ksqlDB.
pub struct OpenfactoryRegistry {
    ksqldb: Ksqldb,
    writer: Writer,
    reader: Reader,
    clock: Arc<dyn Clock>,
    /// The topics that ksqlDB named, and when; looked up by whoever needs them first, while others wait.
    topics: Mutex<Option<(Topics, Duration)>>,
}

impl OpenfactoryRegistry {
    /// Begins to read in the background; must be called within a Tokio runtime. A server that is away is no
    /// error here: [`Registry::observe`] says so, and the reader keeps trying.
    ///
    /// # Errors
    /// When the settings themselves cannot work.
    pub fn new(settings: OpenfactorySettings, clock: Arc<dyn Clock>) -> Result<OpenfactoryRegistry, RegistryError> {
        let ksqldb = Ksqldb::new(settings.ksqldb.clone())?;
        let reader = Reader::start(ksqldb.clone(), settings.kafka.clone(), settings.interval, Arc::clone(&clock));
        Ok(OpenfactoryRegistry { ksqldb, writer: Writer::new(settings.kafka), reader, clock, topics: Mutex::default() })
    }

    async fn send(&self, messages: Vec<Message>) -> Result<(), StepFailure> {
        let topics = self.topics(&messages).await?;
        let taken_back: Vec<(Source, AssetUuid)> = messages.iter().filter_map(taken_back_by).collect();
        let written: BTreeSet<AssetUuid> = messages
            .iter()
            .filter(|message| taken_back_by(message).is_none())
            .filter_map(|message| message.key.known())
            .cloned()
            .collect();
        let under_way = self.hand_over(&messages, &topics)?;
        // A thousand steps may wait at once, and need not hold what they said.
        drop(messages);
        let sent = self.writer.ended(under_way).await;
        if sent.as_ref().is_err_and(|failure| failure.kind == FailureKind::Dependency) {
            // The topic is gone: ksqlDB may know another one by now.
            *self.topics.lock().await = None;
        }
        if sent.is_ok() {
            let now = self.clock.now();
            let mut log = self.reader.log().lock();
            log.forget(now.saturating_sub(OURS_LAST));
            written.iter().for_each(|uuid| log.wrote(uuid));
            for (source, uuid) in taken_back {
                log.took_back(source, uuid, now);
            }
        }
        sent
    }

    fn hand_over(&self, messages: &[Message], topics: &BTreeMap<Source, String>) -> Result<UnderWay, StepFailure> {
        let mut outgoing = Vec::with_capacity(messages.len());
        for message in messages {
            let (Some(key), Some(topic)) = (message.key.known(), topics.get(&message.source)) else {
                let source = message.source.as_str();
                return Err(StepFailure::new(FailureKind::Rejected, format!("a message for {source} has no address")));
            };
            let payload = message.value.as_ref().map(json).transpose().map_err(|error| {
                StepFailure::new(FailureKind::Rejected, format!("a message about {key} has no form in JSON: {error}"))
            })?;
            outgoing.push(Outgoing { topic, key: key.as_str(), payload });
        }
        self.writer.send(&outgoing)
    }

    /// The topics that these messages are for.
    async fn topics(&self, messages: &[Message]) -> Result<Topics, StepFailure> {
        let mut known = self.topics.lock().await;
        let now = self.clock.now();
        let missing = |topics: &BTreeMap<Source, String>| {
            messages.iter().map(|message| message.source).find(|source| !topics.contains_key(source))
        };
        if let Some((topics, at)) = &*known
            && now.saturating_sub(*at) < TOPICS_LAST
            && missing(topics).is_none()
        {
            return Ok(Arc::clone(topics));
        }
        let topics = self.ksqldb.topics(&Source::ALL).await.map_err(|error| {
            StepFailure::new(FailureKind::Unavailable, format!("ksqlDB names no topics to write to: {error}"))
        })?;
        let topics = Arc::new(topics);
        *known = Some((Arc::clone(&topics), now));
        match missing(&topics) {
            None => Ok(topics),
            Some(source) => Err(StepFailure::new(
                FailureKind::Dependency,
                format!("{} is missing in ksqlDB; `ofop registry init` makes it", source.as_str()),
            )),
        }
    }

    /// What was read last, for choosing a coordinator.
    fn latest(&self) -> Result<Arc<RegistrySnapshot>, StepFailure> {
        self.reader.latest().ok_or_else(|| StepFailure::new(FailureKind::Unavailable, "the registry was not read yet"))
    }

    /// The same, unless it contradicts itself: the coordinator that serves a device may be what it does not show.
    fn latest_complete(&self) -> Result<Arc<RegistrySnapshot>, StepFailure> {
        let latest = self.latest()?;
        match &latest.evidence.doubt {
            Some(doubt) if !latest.complete => Err(StepFailure::new(FailureKind::Unavailable, doubt.message.clone())),
            Some(_) | None => Ok(latest),
        }
    }

    fn stamp(&self) -> Stamp {
        let wall = self.clock.wall();
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamp {
            timestamp: rfc3339(wall).into(),
            epoch_millis: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            correlation_id: String::new(),
        }
    }

    /// The stamp of a command, whose answer can be told by it.
    fn command_stamp(&self, device: &AssetUuid) -> Stamp {
        let since = self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamp { correlation_id: coordinator::correlation_id(device.as_str(), since), ..self.stamp() }
    }

    /// What a step says, in groups, of which each is sent when the brokers have the one before it.
    fn said(&self, step: &RecordStep) -> Result<Vec<Vec<Message>>, StepFailure> {
        match step {
            RecordStep::Register { record, owner } => self.register(record, owner),
            RecordStep::Deregister { record } => self.deregister(record),
            RecordStep::Forget { record: RecordId::Asset(asset) } => {
                Ok(vec![messages::forget(asset, Some(&self.stamp()))])
            }
            // Connectors, targets and devices of a coordinator carry their asset's mark.
            RecordStep::Forget { record: _ } => Ok(Vec::new()),
        }
    }

    fn register(&self, record: &Record, owner: &RecordOwner) -> Result<Vec<Vec<Message>>, StepFailure> {
        if let Record::CoordinatorDevice { device, protocol, .. } = record {
            let stamp = self.command_stamp(device);
            let snapshot = self.latest_complete()?;
            let chosen = coordinator::choose(&snapshot, device, *protocol)?;
            let before = snapshot.coordinators.get(device);
            return Ok(coordinator::tell(record, owner, &chosen, before, &stamp));
        }
        let stamp = self.stamp();
        let mut messages = messages::register(record, Some(owner), Some(&stamp));
        if let Record::Asset(asset) = record
            && asset.uns.is_none()
            && self.reader.latest().is_some_and(|snapshot| has_place(&snapshot, &record.id()))
        {
            messages.push(messages::no_place(&asset.uuid));
        }
        Ok(vec![messages])
    }

    fn deregister(&self, record: &Record) -> Result<Vec<Vec<Message>>, StepFailure> {
        if let Record::CoordinatorDevice { device, protocol, .. } = record {
            let stamp = self.command_stamp(device);
            return coordinator::take_back(&*self.latest_complete()?, device, *protocol, &stamp);
        }
        let mut messages = messages::deregister(record, Some(&self.stamp()));
        if let Record::Asset(asset) = record {
            // OpenFactory's own message leaves a row of nulls for ever.
            messages.push(messages::no_place(&asset.uuid));
        }
        Ok(vec![messages])
    }
}

/// What a message takes back.
fn taken_back_by(message: &Message) -> Option<(Source, AssetUuid)> {
    let takes = matches!(message.value, None | Some(Said::Nowhere(_)));
    takes.then(|| message.key.known()).flatten().map(|uuid| (message.source, uuid.clone()))
}

fn json(said: &Said) -> Result<Vec<u8>, serde_json::Error> {
    // Room for nearly every message, so that it is written in one piece.
    let mut text = Vec::with_capacity(256);
    serde_json::to_writer(&mut text, said)?;
    Ok(text)
}

/// Whether an asset stands somewhere in the namespace.
fn has_place(snapshot: &RegistrySnapshot, id: &RecordId) -> bool {
    snapshot.records.get(id).is_some_and(|found| matches!(&found.record, Record::Asset(asset) if asset.uns.is_some()))
}

impl Registry for OpenfactoryRegistry {
    async fn observe(&self) -> Result<Arc<RegistrySnapshot>, RegistryError> {
        self.reader.observe().await
    }

    fn refresh(&self) {
        self.reader.refresh();
    }

    async fn execute(&self, step: &RecordStep) -> Result<(), StepFailure> {
        let done = async {
            for messages in self.said(step)? {
                self.send(messages).await?;
            }
            Ok(())
        };
        let done = done.await;
        self.reader.look_soon();
        done
    }

    fn events(&self) -> impl Stream<Item = ()> + Send + 'static {
        self.reader.events()
    }
}
