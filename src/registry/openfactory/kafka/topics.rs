//! Topics as the brokers have them, and hints from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::heard::{Heard, reason, unmakeable};
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

/// The same of these topics alone. One that does not exist is left out; one that may not be described is an error, since
/// the brokers leave it out of a list of all as if it did not exist.
pub(super) fn partitions_of<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    is_pointless: impl Fn() -> bool,
) -> Result<BTreeMap<String, usize>, KafkaError> {
    let mut found = BTreeMap::new();
    let mut left = METADATA_TIME;
    for topic in topics {
        let metadata = loop {
            left = left.saturating_sub(LOOK_UP);
            match client.fetch_metadata(Some(topic), LOOK_UP) {
                Ok(metadata) => break metadata,
                Err(error) if left.is_zero() || is_pointless() => return Err(error),
                Err(_) => {}
            }
        };
        for topic in metadata.topics() {
            match topic.error().map(RDKafkaErrorCode::from) {
                None => drop(found.insert(topic.name().to_owned(), topic.partitions().len())),
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed));
                }
                Some(_) => {}
            }
        }
    }
    Ok(found)
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
        // Who may not see a configuration gets an empty one.
        if let Some(cleanup) = get("cleanup.policy") {
            policies.insert(topic.clone(), TopicPolicy { cleanup, retention });
        }
    }
    Ok(policies)
}

/// Follows topics from their end; [`Hints::next`] says that something was written to one of them.
pub(in super::super) struct Hints {
    consumer: Arc<StreamConsumer<Heard>>,
    topics: usize,
}

impl Hints {
    /// Begins to follow those of the topics that exist; or why that cannot be.
    pub(in super::super) async fn new(settings: &KafkaSettings, topics: &BTreeSet<String>) -> Result<Hints, String> {
        let heard = Heard::default();
        let consumer: StreamConsumer<Heard> = settings
            .client()
            .set("group.id", "ofop")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "latest")
            .create_with_context(heard.clone())
            .map_err(|error| unmakeable(&error, settings).message)?;
        let consumer = Arc::new(consumer);
        let asked = Arc::clone(&consumer);
        let existing = tokio::task::spawn_blocking(move || partitions(asked.client(), || heard.is_decided()))
            .await
            .unwrap_or(Err(KafkaError::Canceled))
            .map_err(|error| why_deaf(&consumer, &error))?;
        let mut places = TopicPartitionList::new();
        let found: Vec<_> = existing.iter().filter(|(topic, _)| topics.contains(*topic)).collect();
        let assigned = found
            .iter()
            .flat_map(|(topic, partitions)| (0..**partitions).map(move |partition| (topic, partition)))
            .try_for_each(|(topic, partition)| {
                places.add_partition_offset(topic, i32::try_from(partition).unwrap_or(i32::MAX), Offset::End)
            })
            .and_then(|()| consumer.assign(&places));
        assigned.map_err(|error| why_deaf(&consumer, &error))?;
        Ok(Hints { consumer, topics: found.len() })
    }

    /// How many topics are followed.
    pub(in super::super) fn topics(&self) -> usize {
        self.topics
    }

    /// Waits for the next message, which itself does not matter; or why none will come.
    pub(in super::super) async fn next(&self) -> Result<(), String> {
        loop {
            match self.consumer.recv().await {
                Ok(_) => return Ok(()),
                // The client looks for its group's coordinator although nothing is committed: no right that is needed.
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
                Err(error) => return Err(why_deaf(&self.consumer, &error)),
            }
        }
    }
}

pub(super) fn why_deaf(consumer: &StreamConsumer<Heard>, error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) if matches!(error, KafkaError::MetadataFetch(_)) => {
            "ofop may not Describe its topics".to_owned()
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "ofop may not Read its topics".to_owned(),
        _ => consumer.context().words().unwrap_or_else(|| reason(error)),
    }
}
