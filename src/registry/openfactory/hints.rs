//! Follows the topics of state: their messages say when to read, and what they hold is the witness of what is read.
//! Where they cannot be followed, people are told, since whatever others write is then seen on the timer alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::kafka::KafkaSettings;
use super::kafka::follow::{Event, Follower};
use super::ksqldb::Ksqldb;
use super::log::Log;
use crate::clock::Clock;
use crate::model::Source;

/// After a message, how long to wait for its companions before reading: registering an asset is ten messages.
const GATHER: Duration = Duration::from_millis(150);
/// How long to wait before Kafka is asked again after a failure, and how long nothing may fail until hints count as
/// coming.
const AGAIN: Duration = Duration::from_secs(10);
/// How often it is looked whether the topics are still the same: partitions that were added hold keys that nobody hears
/// of, and a topic that was made anew holds none of those that were read.
const SAME_TOPICS: Duration = Duration::from_secs(30);
/// So many failures in a row are told to people. One is a broker that restarts.
const TOLD: u32 = 2;
/// The sources whose topics are followed: all but the stream of every attribute of every machine.
pub(super) const FOLLOWED: [Source; 6] = [
    Source::AssetsType,
    Source::AssetsAvail,
    Source::DockerServices,
    Source::AssetToUnsMapRaw,
    Source::DeviceConnectorSource,
    Source::MetricsTargetsSource,
];

/// The log, shared by who follows the topics and who reads the tables.
#[derive(Clone, Default)]
pub(super) struct SharedLog(Arc<Mutex<Log>>);

impl SharedLog {
    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the topics of state.
pub(super) struct Listener {
    kafka: KafkaSettings,
    clock: Arc<dyn Clock>,
    /// Woken when something changed.
    wake: Arc<Notify>,
    /// What the topics hold.
    log: SharedLog,
    /// Why no hints come; none while they do.
    silence: watch::Sender<Option<String>>,
    again: Duration,
    failures: u32,
}

impl Listener {
    /// Wakes `wake` when the registry may have changed, keeps `log`, and says in `silence` why it cannot.
    pub(super) fn new(
        kafka: KafkaSettings,
        clock: Arc<dyn Clock>,
        wake: Arc<Notify>,
        log: SharedLog,
        silence: watch::Sender<Option<String>>,
    ) -> Listener {
        Listener { kafka, clock, wake, log, silence, again: AGAIN, failures: 0 }
    }

    /// For ever.
    pub(super) async fn listen(mut self, ksqldb: Ksqldb) {
        loop {
            // Whoever reads tells what is wrong with ksqlDB.
            if let Ok(topics) = ksqldb.topics(&FOLLOWED).await
                && self.follow(&topics).await.is_ok()
            {
                continue;
            }
            tokio::time::sleep(self.again).await;
        }
    }

    /// Follows topics for as long as that works and they stay the same; for a while only if ksqlDB lacks some, as they may
    /// be made any time.
    async fn follow(&mut self, topics: &BTreeMap<Source, String>) -> Result<(), ()> {
        let ended = self.hear(topics).await;
        self.log.lock().ends();
        ended.map_err(|reason| {
            tracing::debug!(reason, "Kafka gives no hints");
            self.failures += 1;
            if self.failures == TOLD {
                tracing::warn!(reason, "Kafka does not tell of changes in the registry; they are seen on the timer");
            }
            if self.failures >= TOLD && self.silence.borrow().as_ref() != Some(&reason) {
                self.tell(Some(reason));
            }
        })
    }

    async fn hear(&mut self, topics: &BTreeMap<Source, String>) -> Result<(), String> {
        let mut follower = Follower::new(&self.kafka, topics).await?;
        let is_whole = follower.topics() == FOLLOWED.len();
        // What was written since the last reading and before this moment.
        self.wake.notify_one();
        let mut history = Some(Log::new(topics.iter().map(|(source, topic)| (*source, topic.clone()))));
        let begun = Instant::now();
        let mut well = false;
        let mut look = begun + self.again;
        let mut wake: Option<Instant> = None;
        loop {
            let next = wake.map_or(look, |wake| wake.min(look));
            let event = tokio::select! {
                event = follower.next() => Some(event?),
                () = tokio::time::sleep_until(next) => None,
            };
            match event {
                Some(Event::Message { source, offset, key, trace }) => match &mut history {
                    Some(log) => log.take(source, offset, &key, trace, None),
                    None => {
                        self.log.lock().take(source, offset, &key, trace, Some(self.clock.now()));
                        wake.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                },
                Some(Event::CaughtUp) => {
                    if let Some(mut log) = history.take() {
                        log.is_caught_up();
                        self.log.lock().replace(log);
                        self.wake.notify_one();
                    }
                }
                None => {
                    let now = Instant::now();
                    if wake.is_some_and(|wake| wake <= now) {
                        wake = None;
                        self.wake.notify_one();
                    }
                    if look <= now {
                        if !well {
                            well = true;
                            self.hears();
                            if !is_whole {
                                return Ok(());
                            }
                        }
                        if !follower.is_current().await? {
                            return Ok(());
                        }
                        look = Instant::now() + SAME_TOPICS;
                    }
                }
            }
        }
    }

    /// Nothing has failed for a while.
    fn hears(&mut self) {
        self.failures = 0;
        if self.silence.borrow().is_some() {
            tracing::info!("Kafka tells of changes in the registry again");
            self.tell(None);
        }
    }

    fn tell(&self, silence: Option<String>) {
        self.silence.send_replace(silence);
        self.wake.notify_one();
    }
}

/// What people are told of it.
pub(super) fn sentence(silence: &str, interval: Duration) -> String {
    format!(
        "Kafka does not tell of changes in the registry: {silence}; they are seen when it is read on the timer, every \
         {} s",
        interval.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test(flavor = "multi_thread")]
    async fn people_are_told_why_no_hints_come_and_when_they_come_again() {
        let cluster = MockCluster::new(1).unwrap();
        let topics: BTreeMap<Source, String> =
            FOLLOWED.iter().map(|source| (*source, source.as_str().to_lowercase())).collect();
        for topic in topics.values() {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        let kafka = KafkaSettings { brokers: cluster.bootstrap_servers(), options: BTreeMap::new() };
        let (told, mut silence) = watch::channel(None);
        let wake = Arc::new(Notify::new());
        let log = SharedLog::default();
        let clock = Arc::new(SystemClock::new());
        let mut listener = Listener::new(kafka, clock, Arc::clone(&wake), log.clone(), told);
        listener.again = Duration::from_secs(3);
        let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;

        cluster.request_errors(RDKafkaApiKey::Fetch, &[denied; 500]);
        assert_eq!(listener.follow(&topics).await, Err(()));
        assert_eq!(*silence.borrow_and_update(), None, "once is no reason to wake anybody");
        assert_eq!(listener.follow(&topics).await, Err(()));
        assert_eq!(silence.borrow_and_update().as_deref(), Some("ofop may not Read its topics"));
        wake.notified().await;
        assert_eq!(listener.follow(&topics).await, Err(()));
        assert!(!silence.has_changed().unwrap(), "and one word is enough");

        cluster.clear_request_errors(RDKafkaApiKey::Fetch);
        let well = tokio::time::timeout(Duration::from_secs(20), silence.wait_for(Option::is_none));
        tokio::select! {
            ended = listener.follow(&topics) => panic!("{ended:?}"),
            well = well => drop(well.unwrap().unwrap()),
        }
    }
}
