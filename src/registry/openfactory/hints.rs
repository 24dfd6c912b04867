//! Hints from Kafka that the registry changed. They say when to read, never what is so; but where none can come, people
//! are told, since whatever others write is then seen on the timer alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::kafka::KafkaSettings;
use super::kafka::topics::Hints;
use super::ksqldb::Ksqldb;
use crate::model::Source;

/// After a message, how long to wait for its companions before reading: registering an asset is ten messages.
const GATHER: Duration = Duration::from_millis(150);
/// How long to wait before Kafka is asked again after a failure, and how long nothing may fail until hints count as
/// coming.
const AGAIN: Duration = Duration::from_secs(10);
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

/// Follows the topics of state.
pub(super) struct Listener {
    kafka: KafkaSettings,
    /// Woken when something changed.
    wake: Arc<Notify>,
    /// Why no hints come; none while they do.
    silence: watch::Sender<Option<String>>,
    again: Duration,
    failures: u32,
}

impl Listener {
    /// Wakes `wake` when the registry may have changed, and says in `silence` why it cannot.
    pub(super) fn new(kafka: KafkaSettings, wake: Arc<Notify>, silence: watch::Sender<Option<String>>) -> Listener {
        Listener { kafka, wake, silence, again: AGAIN, failures: 0 }
    }

    /// For ever.
    pub(super) async fn listen(mut self, ksqldb: Ksqldb) {
        loop {
            // Whoever reads tells what is wrong with ksqlDB.
            if let Ok(topics) = ksqldb.topics(&FOLLOWED).await
                && self.follow(&topics.into_values().collect()).await.is_ok()
            {
                continue;
            }
            tokio::time::sleep(self.again).await;
        }
    }

    /// Follows topics for as long as that works; for a while only if some do not exist, as they may be made any time.
    async fn follow(&mut self, topics: &BTreeSet<String>) -> Result<(), ()> {
        self.hear(topics).await.map_err(|reason| {
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

    async fn hear(&mut self, topics: &BTreeSet<String>) -> Result<(), String> {
        let hints = Hints::new(&self.kafka, topics).await?;
        let wake = Arc::clone(&self.wake);
        // What was written since the last reading and before this moment.
        wake.notify_one();
        let mut hearing = std::pin::pin!(pass_on(&hints, &wake));
        if let Ok(ended) = tokio::time::timeout(self.again, &mut hearing).await {
            return ended;
        }
        self.failures = 0;
        if self.silence.borrow().is_some() {
            tracing::info!("Kafka tells of changes in the registry again");
            self.tell(None);
        }
        if hints.topics() < FOLLOWED.len() { Ok(()) } else { hearing.await }
    }

    fn tell(&self, silence: Option<String>) {
        self.silence.send_replace(silence);
        self.wake.notify_one();
    }
}

async fn pass_on(hints: &Hints, wake: &Notify) -> Result<(), String> {
    loop {
        hints.next().await?;
        let _ = tokio::time::timeout(GATHER, async { while hints.next().await.is_ok() {} }).await;
        wake.notify_one();
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
    use std::collections::BTreeMap;

    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn people_are_told_why_no_hints_come_and_when_they_come_again() {
        let cluster = MockCluster::new(1).unwrap();
        let topics: BTreeSet<String> = FOLLOWED.iter().map(|source| source.as_str().to_lowercase()).collect();
        for topic in &topics {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        let kafka = KafkaSettings { brokers: cluster.bootstrap_servers(), options: BTreeMap::new() };
        let (told, mut silence) = watch::channel(None);
        let wake = Arc::new(Notify::new());
        let mut listener = Listener { again: Duration::from_secs(3), ..Listener::new(kafka, Arc::clone(&wake), told) };
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
