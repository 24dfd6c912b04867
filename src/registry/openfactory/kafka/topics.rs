//! Topics as the brokers have them, and hints from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::heard::{Heard, unmakeable};
use super::{KafkaSettings, METADATA_TIME};
use crate::registry::RegistryError;

/// How often it is looked whether waiting for the brokers has become pointless.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Which topics exist, with their number of partitions. Blocks, at most for [`METADATA_TIME`]; `is_pointless` ends
/// the waiting earlier.
pub(super) fn partitions<C: ClientContext>(
    client: &Client<C>,
    is_pointless: impl Fn() -> bool,
) -> Result<BTreeMap<String, usize>, KafkaError> {
    let mut left = METADATA_TIME;
    let metadata = loop {
        left = left.saturating_sub(LOOK_UP);
        match client.fetch_metadata(None, LOOK_UP) {
            Ok(metadata) => break metadata,
            Err(error) if left.is_zero() || is_pointless() => return Err(error),
            Err(_) => {}
        }
    };
    Ok(metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none())
        .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
        .collect())
}

/// How long a topic keeps its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct TopicPolicy {
    /// `cleanup.policy`: `compact`, `delete` or both.
    pub(in super::super) cleanup: String,
    /// `retention.ms`; none for ever.
    pub(in super::super) retention: Option<Duration>,
}

impl TopicPolicy {
    /// When the oldest state is lost, if it ever is.
    pub(in super::super) fn expiry(&self) -> Option<Duration> {
        if self.cleanup.split(',').any(|policy| policy.trim() == "delete") { self.retention } else { None }
    }
}

/// Asks the brokers for the policies of topics.
pub(in super::super) async fn policies(
    settings: &KafkaSettings,
    topics: &BTreeSet<String>,
) -> Result<BTreeMap<String, TopicPolicy>, RegistryError> {
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let admin: AdminClient<DefaultClientContext> =
        settings.client().create().map_err(|error| unmakeable(&error, settings))?;
    let wanted: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIME));
    let answers = admin
        .describe_configs(&wanted, &options)
        .await
        .map_err(|error| Heard::default().explain(&error, &settings.brokers))?;
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
pub(in super::super) struct Hints {
    consumer: Arc<StreamConsumer>,
    topics: usize,
}

impl Hints {
    /// Begins to follow those of the topics that exist.
    pub(in super::super) async fn new(
        settings: &KafkaSettings,
        topics: &BTreeSet<String>,
    ) -> Result<Hints, KafkaError> {
        let consumer: StreamConsumer = settings
            .client()
            .set("group.id", "ofop")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "latest")
            .create()?;
        let consumer = Arc::new(consumer);
        let asked = Arc::clone(&consumer);
        let existing = tokio::task::spawn_blocking(move || partitions(asked.client(), || false))
            .await
            .map_err(|_| KafkaError::Canceled)??;
        let mut places = TopicPartitionList::new();
        let found: Vec<_> = existing.iter().filter(|(topic, _)| topics.contains(*topic)).collect();
        for (topic, partitions) in &found {
            for partition in 0..**partitions {
                places.add_partition_offset(topic, i32::try_from(partition).unwrap_or(i32::MAX), Offset::End)?;
            }
        }
        consumer.assign(&places)?;
        Ok(Hints { consumer, topics: found.len() })
    }

    /// How many topics are followed.
    pub(in super::super) fn topics(&self) -> usize {
        self.topics
    }

    /// Waits for the next message. The message itself does not matter.
    pub(in super::super) async fn next(&self) -> Result<(), KafkaError> {
        self.consumer.recv().await.map(|_| ())
    }
}
