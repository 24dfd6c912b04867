//! Setting up: the streams, tables and topics that OpenFactory needs, where they are missing.
//!
//! # Guarantees
//!
//! - What exists is left as it is. A second run does nothing, and one that was interrupted goes on where it ended.
//! - Nothing that was taken back returns: a stream over a topic that has held messages begins with what comes next.
//! - A statement that ksqlDB has not answered is looked for before it is called failed: a slow server carries it out all
//!   the same.
//!
//! # Errors
//! When ksqlDB or Kafka refuses; the message names the topic, the setting and its values where they do not fit.

pub(super) mod mismatch;

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use self::mismatch::{JoinMismatch, Mismatch};
use super::OpenfactorySettings;
use super::kafka::topics::policies;
use super::kafka::{KafkaSettings, METADATA_TIME, Writer};
use super::ksqldb::{KsqlError, Ksqldb};
use super::setup::topics_of_all;
use super::sources::{Begin, NEEDED, Needed};
use crate::registry::RegistryError;

/// How long a stream or table that was not confirmed is looked for: the slowest `CREATE … AS` that was measured took 10 s,
/// on a busy machine.
const LOOKED_FOR: Duration = Duration::from_secs(40);
/// How long to wait between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often a partition without a leader is asked for again, [`LOOK_AGAIN`] apart.
const LEADER_TRIES: u32 = 40;
/// How often a person who waits is told what for.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Makes the streams and tables that are missing; those that exist are left as they are. Topics whose state must
/// outlive the broker's retention are made compacted before ksqlDB makes them otherwise. `progress` takes a line for each
/// of them, and one every few seconds while something takes long.
///
/// # Errors
/// When ksqlDB or Kafka refuses; what was made until then stays, and running it again goes on from there.
pub async fn init(settings: &OpenfactorySettings, mut progress: impl FnMut(&str)) -> Result<(), RegistryError> {
    let ksqldb = Ksqldb::new(settings.ksqldb.clone())?;
    let known = topics_of_all(&ksqldb).await.map_err(|error| error.explain(ksqldb.url()))?;
    let kafka = settings.kafka.clone();
    let topics = tokio::task::spawn_blocking(move || Writer::new(kafka).partitions())
        .await
        .map_err(|error| RegistryError { message: error.to_string(), hint: None })??;
    // A stream can be joined to a table with as many partitions only.
    let attributes = known.get(NEEDED[0].name).map(String::as_str).or(NEEDED[0].topic);
    let partitions = attributes.and_then(|topic| topics.get(topic)).copied().unwrap_or(1);
    for needed in &NEEDED {
        if known.contains_key(needed.name) {
            progress(&format!("{} is there", needed.name));
            continue;
        }
        let existing = needed.topic.and_then(|topic| Some((topic, *topics.get(topic)?)));
        if let (Some(topic), true, None) = (needed.topic, needed.is_state, existing) {
            make_compacted(&settings.kafka, topic, partitions, attributes).await?;
        }
        let derived_before = match existing {
            Some((topic, count)) => has_held(&settings.kafka, topic, count).await?,
            None => false,
        };
        let begin = needed.begins(derived_before);
        if begin == Begin::Latest && needed.begins(false) == Begin::Earliest {
            let topic = needed.topic.unwrap_or(needed.name);
            progress(&format!("{} begins with what comes next: topic {topic} holds what came before", needed.name));
        }
        let count = existing.map_or(partitions, |(_, count)| count);
        make(&ksqldb, needed, count, begin, &mut progress)
            .await
            .map_err(|error| refused(needed, &error, &ksqldb, &settings.kafka.brokers))?;
        progress(&format!("{} made", needed.name));
    }
    Ok(())
}

/// Why something cannot be made, and what to do about it.
fn refused(needed: &Needed, error: &KsqlError, ksqldb: &Ksqldb, brokers: &str) -> RegistryError {
    let text = error.to_string();
    if let Some(mismatch) = Mismatch::parse(&text) {
        let source = needed.reads().map(topic_of);
        return RegistryError {
            message: format!("{} cannot be made: {}", needed.name, mismatch.sentence(source)),
            hint: Some(mismatch.hint(brokers)),
        };
    }
    if let Some(join) = JoinMismatch::parse(&text, |alias| needed.joined(alias).map(topic_of)) {
        return RegistryError {
            message: format!("{} cannot be made: {}", needed.name, join.sentence()),
            hint: Some(join.hint(brokers)),
        };
    }
    let RegistryError { message, hint } = error.explain(ksqldb.url());
    let hint = match error {
        KsqlError::Statement { .. } => Some("the log of the ksqlDB server says more".to_owned()),
        KsqlError::Silent => Some(format!(
            "it was looked for during {} s more: if the server is only slow, run `ofop registry init` again, which goes on \
             from there",
            LOOKED_FOR.as_secs()
        )),
        _ => hint,
    };
    RegistryError { message: format!("{} cannot be made: {message}", needed.name), hint }
}

/// The topic behind a stream or table of ours; behind what it is made of, where ksqlDB names its own.
fn topic_of(name: &'static str) -> &'static str {
    let Some(needed) = NEEDED.iter().find(|needed| needed.name == name) else { return name };
    needed.topic.unwrap_or_else(|| needed.reads().map_or(name, topic_of))
}

/// Makes a stream or table and waits until it is there, since the next one is made of it.
async fn make(
    ksqldb: &Ksqldb,
    needed: &Needed,
    partitions: usize,
    begin: Begin,
    progress: &mut impl FnMut(&str),
) -> Result<(), KsqlError> {
    let statement = needed.statement(partitions);
    let mut waited = Duration::ZERO;
    let mut tell =
        |waited: Duration| progress(&format!("{} is being made, for {} s now", needed.name, waited.as_secs()));
    let mut sent = std::pin::pin!(ksqldb.make(&statement, begin == Begin::Earliest));
    let answer = loop {
        match tokio::time::timeout(TOLD_EVERY, &mut sent).await {
            Ok(answer) => break answer,
            Err(_) => {
                waited += TOLD_EVERY;
                tell(waited);
            }
        }
    };
    let failure = match answer {
        Ok(true) => return Ok(()),
        Ok(false) => None,
        Err(error) if may_be_under_way(&error) => Some(error),
        Err(error) => return Err(error),
    };
    let looking = async {
        let mut ticks = 0_u32;
        loop {
            match ksqldb.topic(needed.name).await {
                Ok(_) => return Ok(()),
                Err(refused @ KsqlError::Refused(_)) => return Err(refused),
                // Not yet, or the server is too busy to say.
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            ticks += 1;
            if (LOOK_AGAIN * ticks).as_millis().is_multiple_of(TOLD_EVERY.as_millis()) {
                tell(waited + LOOK_AGAIN * ticks);
            }
        }
    };
    match tokio::time::timeout(LOOKED_FOR, looking).await {
        Ok(found) => found,
        Err(_) => Err(failure.unwrap_or(KsqlError::Silent)),
    }
}

/// Whether the server may carry a statement out although it did not say so.
fn may_be_under_way(error: &KsqlError) -> bool {
    match error {
        KsqlError::Silent
        | KsqlError::Cut
        | KsqlError::Unreachable(_)
        | KsqlError::NotReady { .. }
        | KsqlError::Failed { .. } => true,
        KsqlError::Tls(_)
        | KsqlError::NotHttp
        | KsqlError::Refused(_)
        | KsqlError::NotQueryable(_)
        | KsqlError::Missing(_)
        | KsqlError::Statement { .. }
        | KsqlError::Answer(_) => false,
    }
}

/// Whether a topic has ever held a message, also if it was forgotten since. One that was made and never written to, as by
/// a run that was interrupted, is as good as none.
async fn has_held(kafka: &KafkaSettings, topic: &str, partitions: usize) -> Result<bool, RegistryError> {
    let problem = |reason: String| RegistryError {
        message: format!("whether topic {topic} holds messages cannot be told: {reason}"),
        hint: Some("may this user Describe topics on KAFKA_BROKER?".into()),
    };
    let mut tries = 0;
    loop {
        let (settings, name) = (kafka.clone(), topic.to_owned());
        let looked = tokio::task::spawn_blocking(move || has_messages(&settings, &name, partitions)).await;
        match looked.map_err(|error| problem(error.to_string()))? {
            Ok(held) => return Ok(held),
            // A topic that was made a moment ago, or a broker that starts.
            Err(error) if tries < LEADER_TRIES && awaits_leader(&error) => {
                tries += 1;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(problem(error.to_string())),
        }
    }
}

fn has_messages(kafka: &KafkaSettings, topic: &str, partitions: usize) -> Result<bool, KafkaError> {
    let consumer: BaseConsumer = kafka.client().create()?;
    for partition in 0..partitions {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        if consumer.fetch_watermarks(topic, partition, METADATA_TIME)?.1 > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a partition will have a leader in a moment.
fn awaits_leader(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        matches!(
            code,
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    })
}

async fn make_compacted(
    kafka: &KafkaSettings,
    topic: &str,
    partitions: usize,
    source: Option<&str>,
) -> Result<(), RegistryError> {
    let problem = |reason: String| RegistryError {
        message: format!("topic {topic} cannot be made: {reason}"),
        hint: Some("may this user create topics on KAFKA_BROKER?".into()),
    };
    let admin: AdminClient<DefaultClientContext> =
        kafka.client().create().map_err(|error| problem(error.to_string()))?;
    let partitions = i32::try_from(partitions).map_err(|error| problem(error.to_string()))?;
    // ksqlDB refuses to write a stream to a topic whose retention is not that of the stream's source, although it does
    // not matter for a compacted one.
    let retention = match source {
        Some(source) => policies(kafka, &[source.to_owned()].into()).await?.remove(source),
        None => None,
    };
    let retention = retention.map(|policy| policy.retention.map_or(-1, |time| time.as_millis().cast_signed()));
    let retention = retention.map(|milliseconds| milliseconds.to_string());
    // -1: as many replicas as the cluster's default says.
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    if let Some(retention) = &retention {
        new = new.set("retention.ms", retention);
    }
    let made = admin.create_topics([&new], &AdminOptions::new()).await.map_err(|error| problem(error.to_string()))?;
    match made.into_iter().next() {
        Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(problem(code.to_string())),
        None => Err(problem("no answer".into())),
    }
}
