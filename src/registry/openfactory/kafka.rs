//! Writing to Kafka.

mod batch;
pub(super) mod follow;
mod heard;
#[cfg(test)]
mod tests;
pub(super) mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use self::batch::Batch;
use self::heard::{Heard, reason};
use crate::model::{FailureKind, StepFailure};
use crate::registry::RegistryError;

/// How long a message may take until the broker has it everywhere, retries included. librdkafka's own default
/// of five minutes would hold a resource for as long.
const MESSAGE_TIME: Duration = Duration::from_secs(15);
/// How long the broker may take to tell about topics.
pub(super) const METADATA_TIME: Duration = Duration::from_secs(10);
/// How long to wait at most before connecting again: librdkafka's own ten seconds are most of the time that a
/// message has.
const RECONNECT: Duration = Duration::from_secs(2);
/// OpenFactory's writers are Java and Python clients that agree on this one: another partitioner would put a
/// tombstone into another partition than the row that it should delete.
pub(super) const PARTITIONER: &str = "murmur2_random";

/// How to reach the brokers.
#[derive(Clone, Default)]
pub struct KafkaSettings {
    /// `KAFKA_BROKER`: comma-separated `HOST:PORT`.
    pub brokers: String,
    /// Options of librdkafka for TLS and SASL, by their own names (`security.protocol`, `sasl.username`, …).
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl KafkaSettings {
    /// The settings of a client for these brokers.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "ofop");
        // Where it tells of connections that brokers close.
        config.set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.max.ms", RECONNECT.as_millis().to_string())
            .set("socket.timeout.ms", METADATA_TIME.as_millis().to_string());
        config
    }
}

/// A message whose topic is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing<'a> {
    /// Kafka topic.
    pub(super) topic: &'a str,
    /// The bare uuid.
    pub(super) key: &'a str,
    /// JSON; none is a tombstone, a message whose payload is null.
    pub(super) payload: Option<Vec<u8>>,
}

/// A producer that is made anew after a fatal error.
pub(super) struct Writer {
    settings: KafkaSettings,
    message_time: Duration,
    producer: Mutex<Option<Made>>,
}

/// A producer, and what it hears of its connections.
#[derive(Clone)]
struct Made {
    producer: Arc<ThreadedProducer<Heard>>,
    heard: Heard,
}

/// Messages that were handed over and have not all ended.
pub(super) struct UnderWay {
    batch: Arc<Batch>,
    made: Made,
}

impl Writer {
    pub(super) fn new(settings: KafkaSettings) -> Writer {
        Writer { settings, message_time: MESSAGE_TIME, producer: Mutex::new(None) }
    }

    /// Hands all messages over to be sent at once. Messages of one key keep their order.
    pub(super) fn send(&self, messages: &[Outgoing<'_>]) -> Result<UnderWay, StepFailure> {
        let made = self.producer().map_err(|error| {
            StepFailure::new(FailureKind::Rejected, heard::unmakeable(&error, &self.settings).message)
        })?;
        let batch = Arc::new(Batch::new(messages.len()));
        for message in messages {
            let mut record = BaseRecord::with_opaque_to(message.topic, Arc::clone(&batch)).key(message.key);
            if let Some(payload) = &message.payload {
                record = record.payload(payload);
            }
            if let Err((error, _)) = made.producer.send(record) {
                batch.ended(Err((error, message.topic)));
            }
        }
        Ok(UnderWay { batch, made })
    }

    /// Waits until the brokers have every one of them. All are absolute state: after any failure the whole may be
    /// sent again.
    pub(super) async fn ended(&self, under_way: UnderWay) -> Result<(), StepFailure> {
        let UnderWay { batch, made: Made { producer, heard } } = under_way;
        let first = batch.all().await;
        let Some((error, topic)) = first else {
            heard.forget();
            return Ok(());
        };
        let fatal = producer.client().fatal_error().map(|(code, _)| code);
        self.replace_if_dead(&producer).await;
        // What ends a producer is told once; its messages only say that it has ended.
        Err(failure(&error, fatal.or(error.rdkafka_error_code()), &topic, &heard))
    }

    /// A producer that has met a fatal error takes no further message, ever.
    async fn replace_if_dead(&self, producer: &Arc<ThreadedProducer<Heard>>) {
        let Some((_, reason)) = producer.client().fatal_error() else { return };
        let dead = {
            let mut held = self.lock();
            // Whoever else was sending may have been faster.
            let is_it = held.as_ref().is_some_and(|made| Arc::ptr_eq(&made.producer, producer));
            if is_it { held.take() } else { None }
        };
        if let Some(dead) = dead {
            tracing::warn!(reason, "the Kafka producer failed for good and is made anew");
            // Dropping it ends its thread, which may take a moment.
            let _ = tokio::task::spawn_blocking(move || drop(dead)).await;
        }
    }

    /// Which topics exist, with their number of partitions. Blocks.
    pub(super) fn partitions(&self) -> Result<BTreeMap<String, usize>, RegistryError> {
        let Made { producer, heard } = self.producer().map_err(|error| heard::unmakeable(&error, &self.settings))?;
        topics::partitions(producer.client(), || heard.is_decided())
            .map_err(|error| heard.explain(&error, &self.settings.brokers))
    }

    /// The same, and which of `names` may not be described: the brokers leave these out of the list of all. Blocks.
    pub(super) fn topics(
        &self,
        names: &[String],
    ) -> Result<(BTreeMap<String, usize>, BTreeSet<String>), RegistryError> {
        let partitions = self.partitions()?;
        let Made { producer, heard } = self.producer().map_err(|error| heard::unmakeable(&error, &self.settings))?;
        let is_hidden = |name: &&String| {
            let asked = topics::partitions_of(producer.client(), std::slice::from_ref(*name), || heard.is_decided());
            asked.is_err_and(|error| error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed))
        };
        let hidden = names.iter().filter(|name| !partitions.contains_key(*name)).filter(is_hidden).cloned().collect();
        Ok((partitions, hidden))
    }

    fn producer(&self) -> Result<Made, KafkaError> {
        let mut held = self.lock();
        if let Some(made) = &*held {
            return Ok(made.clone());
        }
        let heard = Heard::default();
        let producer = self
            .settings
            .client()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", PARTITIONER)
            // A step waits for its acknowledgement, and messages of many steps meet in one request anyway.
            .set("linger.ms", "1")
            .set("message.timeout.ms", self.message_time.as_millis().to_string())
            // Before the message itself is given up, so that a topic that is gone is called so.
            .set("topic.metadata.propagation.max.ms", (self.message_time / 3).as_millis().to_string())
            .create_with_context(heard.clone())?;
        let made = Made { producer: Arc::new(producer), heard };
        *held = Some(made.clone());
        Ok(made)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Made>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a failed delivery means.
fn failure(error: &KafkaError, code: Option<RDKafkaErrorCode>, topic: &str, heard: &Heard) -> StepFailure {
    let kind = match code {
        // The message may be in the log: it is absolute state, so that sending it again does no harm.
        Some(RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::RequestTimedOut) => FailureKind::Unavailable,
        Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopicOrPartition,
        ) => FailureKind::Dependency,
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::PolicyViolation,
        ) => FailureKind::Rejected,
        _ => FailureKind::Unavailable,
    };
    let before = match code {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Some(""),
        // Since that version Write on one topic is enough.
        Some(RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            Some(", and before Kafka 2.8 IdempotentWrite on the cluster")
        }
        _ => None,
    };
    if let (Some(before), Some(code)) = (before, code) {
        let why = heard::words_of(code);
        let message = format!(
            "Kafka did not take a message for topic {topic}: {why}; allow Describe and Write on topic {topic}{before}"
        );
        return StepFailure::new(kind, message);
    }
    let why = heard.words().map(|words| format!(" ({words})")).unwrap_or_default();
    StepFailure::new(kind, format!("Kafka did not take a message for topic {topic}: {}{why}", reason(error)))
}
