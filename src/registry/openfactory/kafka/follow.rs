//! Follows topics of state from their oldest message: for a log of what they hold, and for hints that they changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::super::log::{Trace, WITNESSES, trace};
use super::heard::{Heard, unmakeable};
use super::topics::{partitions_of, why_deaf};
use super::{KafkaSettings, METADATA_TIME};
use crate::model::Source;

/// What comes from the topics.
#[derive(Debug)]
pub(in super::super) enum Event {
    /// A message.
    Message {
        /// The source behind its topic.
        source: Source,
        /// Its offset in its partition.
        offset: i64,
        /// Its key.
        key: Vec<u8>,
        /// What it leaves of that.
        trace: Trace,
    },
    /// Everything that was there at the beginning has come.
    CaughtUp,
}

/// A consumer without a group: nothing is committed.
pub(in super::super) struct Follower {
    consumer: Arc<StreamConsumer<Heard>>,
    topics: BTreeMap<String, Source>,
    /// Partitions of each topic; none for one that does not exist.
    partitions: BTreeMap<String, usize>,
    /// One stream for each partition, so that it can be told which one has come to its end.
    messages: SelectAll<BoxStream<'static, (usize, Result<Received, KafkaError>)>>,
    /// For each partition: the offset that comes next, and whether the end was reached.
    places: Vec<Place>,
    caught_up: bool,
}

struct Place {
    topic: String,
    partition: i32,
    next: i64,
    at_end: bool,
}

struct Received {
    offset: i64,
    key: Vec<u8>,
    trace: Trace,
}

impl Received {
    fn new(source: Source, message: &BorrowedMessage<'_>) -> Received {
        let key = message.key().unwrap_or_default().to_owned();
        Received { offset: message.offset(), key, trace: trace(source, message.payload()) }
    }
}

impl Follower {
    /// Begins to follow those of the topics that exist; or why that cannot be.
    pub(in super::super) async fn new(
        settings: &KafkaSettings,
        topics: &BTreeMap<Source, String>,
    ) -> Result<Follower, String> {
        let heard = Heard::default();
        let consumer: StreamConsumer<Heard> = settings
            .client()
            .set("group.id", "ofop")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            // A log that is shorter than what was read of it is another one.
            .set("auto.offset.reset", "error")
            // A topic that is deleted is reported soon.
            .set("topic.metadata.propagation.max.ms", "1000")
            // What waits to be taken in is kept small.
            .set("queued.max.messages.kbytes", "4096")
            .create_with_context(heard.clone())
            .map_err(|error| unmakeable(&error, settings).message)?;
        let consumer = Arc::new(consumer);
        let topics: BTreeMap<String, Source> = topics.iter().map(|(source, topic)| (topic.clone(), *source)).collect();
        let partitions = ask_partitions(&consumer, &topics).await?;
        let mut list = TopicPartitionList::new();
        let mut places = Vec::new();
        for (topic, source) in &topics {
            // What is no witness is followed for hints alone.
            let from = if WITNESSES.contains(source) { Offset::Beginning } else { Offset::End };
            for partition in 0..partitions.get(topic).copied().unwrap_or_default() {
                let partition = i32::try_from(partition).unwrap_or(i32::MAX);
                list.add_partition_offset(topic, partition, from).map_err(|error| why_deaf(&consumer, &error))?;
                places.push(Place { topic: topic.clone(), partition, next: 0, at_end: false });
            }
        }
        consumer.assign(&list).map_err(|error| why_deaf(&consumer, &error))?;
        let mut messages = SelectAll::new();
        for (at, place) in places.iter().enumerate() {
            let Some(queue) = consumer.split_partition_queue(&place.topic, place.partition) else {
                return Err(format!("topic {} lost a partition", place.topic));
            };
            let source = topics.get(&place.topic).copied().unwrap_or(Source::AssetsStream);
            messages.push(received(queue, source).map(move |received| (at, received)).boxed());
        }
        let caught_up = places.is_empty();
        Ok(Follower { consumer, topics, partitions, messages, places, caught_up })
    }

    /// How many topics are followed.
    pub(in super::super) fn topics(&self) -> usize {
        self.partitions.len()
    }

    /// Waits for what comes next; or why nothing will.
    pub(in super::super) async fn next(&mut self) -> Result<Event, String> {
        loop {
            let (at, received) = tokio::select! {
                Some(next) = self.messages.next() => next,
                // Events of the client, and errors that belong to no partition.
                other = self.consumer.recv() => match other {
                    Ok(message) => {
                        let place = self.places.iter().position(|place| {
                            place.topic == message.topic() && place.partition == message.partition()
                        });
                        let source = self.topics.get(message.topic()).copied().unwrap_or(Source::AssetsStream);
                        let Some(at) = place else { continue };
                        (at, Ok(Received::new(source, &message)))
                    }
                    // The client looks for its group's coordinator although nothing is committed: no right that is
                    // needed.
                    Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                        continue;
                    }
                    Err(error) => return Err(why_deaf(&self.consumer, &error)),
                },
            };
            let Some(place) = self.places.get_mut(at) else { continue };
            match received {
                Ok(Received { offset, key, trace }) => {
                    if offset < place.next {
                        return Err(format!("topic {} was made anew", place.topic));
                    }
                    place.next = offset + 1;
                    let source = self.topics.get(&place.topic).copied().unwrap_or(Source::AssetsStream);
                    return Ok(Event::Message { source, offset, key, trace });
                }
                Err(KafkaError::PartitionEOF(_)) => {
                    place.at_end = true;
                    if !self.caught_up && self.places.iter().all(|place| place.at_end) {
                        self.caught_up = true;
                        return Ok(Event::CaughtUp);
                    }
                }
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return Err(format!("topic {} was made anew", place.topic));
                }
                Err(error) => return Err(why_deaf(&self.consumer, &error)),
            }
        }
    }

    /// Whether the topics are still those that are followed: none was added, removed, given more partitions or made anew.
    pub(in super::super) async fn is_current(&mut self) -> Result<bool, String> {
        if ask_partitions(&self.consumer, &self.topics).await? != self.partitions {
            return Ok(false);
        }
        let consumer = Arc::clone(&self.consumer);
        let places: Vec<_> =
            self.places.iter().map(|place| (place.topic.clone(), place.partition, place.next)).collect();
        let reached = tokio::task::spawn_blocking(move || -> KafkaResult<bool> {
            for (topic, partition, next) in places {
                let (_, end) = consumer.fetch_watermarks(&topic, partition, METADATA_TIME)?;
                if end < next {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        let reached = reached.await.unwrap_or(Err(KafkaError::Canceled));
        reached.map_err(|error| why_deaf(&self.consumer, &error))
    }
}

async fn ask_partitions(
    consumer: &Arc<StreamConsumer<Heard>>,
    topics: &BTreeMap<String, Source>,
) -> Result<BTreeMap<String, usize>, String> {
    let asked = Arc::clone(consumer);
    let names: Vec<String> = topics.keys().cloned().collect();
    let heard = consumer.context().clone();
    let found = tokio::task::spawn_blocking(move || partitions_of(asked.client(), &names, || heard.is_decided()));
    found.await.unwrap_or(Err(KafkaError::Canceled)).map_err(|error| why_deaf(consumer, &error))
}

/// The messages of one partition, as far as they matter.
fn received(
    queue: StreamPartitionQueue<Heard>,
    source: Source,
) -> impl futures_util::Stream<Item = Result<Received, KafkaError>> + Send + 'static {
    stream::unfold(queue, move |queue| async move {
        let received = queue.recv().await.map(|message| Received::new(source, &message));
        Some((received, queue))
    })
}
