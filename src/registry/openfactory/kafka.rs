//! Writing to Kafka, and hints from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::model::{FailureKind, StepFailure};
use crate::registry::RegistryError;

/// How long a message may take until the broker has it everywhere, retries included. librdkafka's own default
/// of five minutes would hold a resource for as long.
const MESSAGE_TIME: Duration = Duration::from_secs(15);
/// How long the broker may take to tell about topics.
const METADATA_TIME: Duration = Duration::from_secs(10);
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
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "ofop");
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("allow.auto.create.topics", "false")
            .set("socket.timeout.ms", METADATA_TIME.as_millis().to_string());
        config
    }
}

/// A message whose topic is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    /// Kafka topic.
    pub(super) topic: String,
    /// The bare uuid.
    pub(super) key: String,
    /// JSON; none is a tombstone, a message whose payload is null.
    pub(super) payload: Option<String>,
}

/// A producer that is made anew after a fatal error.
pub(super) struct Writer {
    settings: KafkaSettings,
    producer: Mutex<Option<Arc<FutureProducer>>>,
}

impl Writer {
    pub(super) fn new(settings: KafkaSettings) -> Writer {
        Writer { settings, producer: Mutex::new(None) }
    }

    /// Sends all messages at once and waits until the brokers have every one of them. Messages of one key keep
    /// their order. All are absolute state: after any failure the whole may be sent again.
    pub(super) async fn send(&self, messages: &[Outgoing]) -> Result<(), StepFailure> {
        let producer = self.producer()?;
        let sent: Vec<_> = messages
            .iter()
            .map(|message| {
                let mut record = FutureRecord::<String, String>::to(&message.topic).key(&message.key);
                if let Some(payload) = &message.payload {
                    record = record.payload(payload);
                }
                producer.send_result(record).map_err(|(error, _)| error)
            })
            .collect();
        let mut first = None;
        for (delivery, message) in join_all(sent.into_iter().map(|sent| async {
            match sent {
                Ok(delivery) => match delivery.await {
                    Ok(result) => result.map(|_| ()).map_err(|(error, _)| error),
                    Err(_) => Err(KafkaError::Canceled),
                },
                Err(error) => Err(error),
            }
        }))
        .await
        .into_iter()
        .zip(messages)
        {
            if let Err(error) = delivery {
                first.get_or_insert((error, &message.topic));
            }
        }
        let Some((error, topic)) = first else { return Ok(()) };
        if producer.client().fatal_error().is_some() {
            tracing::warn!("the Kafka producer failed for good and is made anew");
            *self.lock() = None;
        }
        Err(failure(&error, topic))
    }

    /// Which of the topics exist, with their number of partitions.
    pub(super) fn partitions(&self) -> Result<BTreeMap<String, usize>, RegistryError> {
        let producer = self.producer().map_err(|failure| unreachable(&self.settings, failure.message))?;
        let metadata = producer
            .client()
            .fetch_metadata(None, METADATA_TIME)
            .map_err(|error| unreachable(&self.settings, reason(&error)))?;
        Ok(metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
            .collect())
    }

    fn producer(&self) -> Result<Arc<FutureProducer>, StepFailure> {
        let mut held = self.lock();
        if let Some(producer) = &*held {
            return Ok(Arc::clone(producer));
        }
        let made: FutureProducer = self
            .settings
            .client()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", PARTITIONER)
            .set("linger.ms", "5")
            .set("message.timeout.ms", MESSAGE_TIME.as_millis().to_string())
            .create()
            .map_err(|error| {
                StepFailure::new(FailureKind::Rejected, format!("no Kafka producer: {}", reason(&error)))
            })?;
        let made = Arc::new(made);
        *held = Some(Arc::clone(&made));
        Ok(made)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<FutureProducer>>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a topic keeps its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicPolicy {
    /// `cleanup.policy`: `compact`, `delete` or both.
    pub(super) cleanup: String,
    /// `retention.ms`; none for ever.
    pub(super) retention: Option<Duration>,
}

impl TopicPolicy {
    /// When the oldest state is lost, if it ever is.
    pub(super) fn expiry(&self) -> Option<Duration> {
        if self.cleanup.split(',').any(|policy| policy.trim() == "delete") { self.retention } else { None }
    }
}

/// Asks the brokers for the policies of topics.
pub(super) async fn policies(
    settings: &KafkaSettings,
    topics: &BTreeSet<String>,
) -> Result<BTreeMap<String, TopicPolicy>, RegistryError> {
    let admin: AdminClient<DefaultClientContext> =
        settings.client().create().map_err(|error| unreachable(settings, reason(&error)))?;
    let wanted: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIME));
    let answers =
        admin.describe_configs(&wanted, &options).await.map_err(|error| unreachable(settings, reason(&error)))?;
    let mut policies = BTreeMap::new();
    for (topic, answer) in topics.iter().zip(answers) {
        let Ok(answer) = answer else { continue };
        let get = |name: &str| answer.get(name).and_then(|entry| entry.value.clone());
        let retention = get("retention.ms").and_then(|text| text.parse::<u64>().ok()).map(Duration::from_millis);
        let cleanup = get("cleanup.policy").unwrap_or_default();
        policies.insert(topic.clone(), TopicPolicy { cleanup, retention });
    }
    Ok(policies)
}

/// Follows topics from their end; [`Hints::next`] says that something was written to one of them.
pub(super) struct Hints {
    consumer: StreamConsumer,
}

impl Hints {
    /// Begins to follow `topics` (with their number of partitions).
    pub(super) fn new(settings: &KafkaSettings, topics: &BTreeMap<String, usize>) -> Result<Hints, KafkaError> {
        let consumer: StreamConsumer = settings
            .client()
            .set("group.id", "ofop")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "latest")
            .create()?;
        let mut places = TopicPartitionList::new();
        for (topic, partitions) in topics {
            for partition in 0..*partitions {
                places.add_partition_offset(topic, i32::try_from(partition).unwrap_or(i32::MAX), Offset::End)?;
            }
        }
        consumer.assign(&places)?;
        Ok(Hints { consumer })
    }

    /// Waits for the next message. The message itself does not matter.
    pub(super) async fn next(&self) -> Result<(), KafkaError> {
        self.consumer.recv().await.map(|_| ())
    }
}

/// What a failed delivery means.
fn failure(error: &KafkaError, topic: &str) -> StepFailure {
    let kind = match error.rdkafka_error_code() {
        // The message may be in the log: it is absolute state, so that sending it again does no harm.
        Some(RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::RequestTimedOut) => FailureKind::Unavailable,
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => FailureKind::Dependency,
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::PolicyViolation,
        ) => FailureKind::Rejected,
        _ => FailureKind::Unavailable,
    };
    StepFailure::new(kind, format!("Kafka did not take a message for topic {topic}: {}", reason(error)))
}

fn unreachable(settings: &KafkaSettings, reason: String) -> RegistryError {
    RegistryError {
        message: format!("Kafka cannot be used: {reason}"),
        hint: Some(format!(
            "is a broker running at KAFKA_BROKER={}, and does it want TLS or SASL (KAFKA_SECURITY_PROTOCOL, …)?",
            settings.brokers
        )),
    }
}

/// librdkafka's words for an error: they hold no credentials.
fn reason(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}
