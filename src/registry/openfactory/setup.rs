//! Whether Kafka and ksqlDB are as OpenFactory needs them, and setting them up where they are not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::OpenfactorySettings;
use super::kafka::topics::policies;
use super::kafka::{KafkaSettings, PARTITIONER, Writer};
use super::ksqldb::{KsqlError, Ksqldb};
use super::tables::COUNTS;
use crate::model::Source;
use crate::registry::RegistryError;

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// As it should be.
    Good,
    /// Works, with a drawback.
    Warning,
    /// Must be mended.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub kind: FindingKind,
    /// What was found, as a sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    fn good(message: impl Into<String>) -> Finding {
        Finding { kind: FindingKind::Good, message: message.into(), hint: None }
    }

    fn bad(message: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { kind: FindingKind::Bad, message: message.into(), hint: Some(hint.into()) }
    }
}

impl From<RegistryError> for Finding {
    fn from(error: RegistryError) -> Self {
        Finding { kind: FindingKind::Bad, message: error.message, hint: error.hint }
    }
}

/// A stream or table that OpenFactory works with.
struct Needed {
    name: &'static str,
    /// A topic to make first, so that its state is kept for ever instead of for the broker's default time.
    compacted_topic: Option<&'static str>,
    statement: &'static str,
}

/// In the order in which they depend on each other.
const NEEDED: [Needed; 15] = [
    Needed {
        name: "ASSETS_STREAM",
        compacted_topic: None,
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_STREAM (ASSET_UUID VARCHAR KEY, ID VARCHAR, VALUE VARCHAR, \
                    TAG VARCHAR, TYPE VARCHAR, ATTRIBUTES MAP<VARCHAR, VARCHAR>) \
                    WITH (KAFKA_TOPIC='ofa_assets', PARTITIONS=1, VALUE_FORMAT='JSON');",
    },
    Needed {
        name: "ENRICHED_ASSETS_STREAM",
        compacted_topic: None,
        statement: "CREATE STREAM IF NOT EXISTS ENRICHED_ASSETS_STREAM \
                    WITH (KAFKA_TOPIC='enriched_assets_stream_topic', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT CONCAT(ASSET_UUID, '|', ID) AS KEY, ASSET_UUID, ID, VALUE, TYPE, TAG, \
                    COALESCE(ATTRIBUTES['timestamp'], 'UNAVAILABLE') AS TIMESTAMP \
                    FROM ASSETS_STREAM PARTITION BY CONCAT(ASSET_UUID, '|', ID) EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS",
        compacted_topic: None,
        statement: "CREATE TABLE IF NOT EXISTS ASSETS AS \
                    SELECT KEY, LATEST_BY_OFFSET(ASSET_UUID) AS ASSET_UUID, LATEST_BY_OFFSET(ID) AS ID, \
                    LATEST_BY_OFFSET(VALUE) AS VALUE, LATEST_BY_OFFSET(TYPE) AS TYPE, \
                    LATEST_BY_OFFSET(TAG) AS TAG, LATEST_BY_OFFSET(TIMESTAMP) AS TIMESTAMP \
                    FROM ENRICHED_ASSETS_STREAM GROUP BY KEY EMIT CHANGES;",
    },
    Needed {
        name: "DOCKER_SERVICES_STREAM",
        compacted_topic: Some("docker_services_topic"),
        statement: "CREATE STREAM IF NOT EXISTS DOCKER_SERVICES_STREAM \
                    WITH (KAFKA_TOPIC='docker_services_topic', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT ASSET_UUID, VALUE AS DOCKER_SERVICE FROM ASSETS_STREAM \
                    WHERE ID='DockerService' AND TYPE='OpenFactory' EMIT CHANGES;",
    },
    Needed {
        name: "DOCKER_SERVICES",
        compacted_topic: None,
        statement: "CREATE SOURCE TABLE IF NOT EXISTS DOCKER_SERVICES (ASSET_UUID VARCHAR PRIMARY KEY, \
                    DOCKER_SERVICE VARCHAR) WITH (KAFKA_TOPIC='docker_services_topic', VALUE_FORMAT='JSON');",
    },
    Needed {
        name: "ASSETS_TYPE_STREAM",
        compacted_topic: Some("assets_types_topic"),
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_TYPE_STREAM \
                    WITH (KAFKA_TOPIC='assets_types_topic', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT ASSET_UUID, VALUE AS TYPE FROM ASSETS_STREAM \
                    WHERE ID='AssetType' AND TYPE='OpenFactory' EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_TYPE",
        compacted_topic: None,
        statement: "CREATE SOURCE TABLE IF NOT EXISTS ASSETS_TYPE (ASSET_UUID VARCHAR PRIMARY KEY, TYPE VARCHAR) \
                    WITH (KAFKA_TOPIC='assets_types_topic', VALUE_FORMAT='JSON');",
    },
    Needed {
        name: "ASSETS_AVAIL_STREAM",
        compacted_topic: Some("assets_avail_topic"),
        statement: "CREATE STREAM IF NOT EXISTS ASSETS_AVAIL_STREAM \
                    WITH (KAFKA_TOPIC='assets_avail_topic', PARTITIONS=1, VALUE_FORMAT='JSON') AS \
                    SELECT ASSET_UUID, VALUE AS AVAILABILITY FROM ASSETS_STREAM \
                    WHERE (ID='avail' OR ID='agent_avail') AND VALUE!='delete' EMIT CHANGES;",
    },
    Needed {
        name: "ASSETS_AVAIL",
        compacted_topic: None,
        statement: "CREATE SOURCE TABLE IF NOT EXISTS ASSETS_AVAIL (ASSET_UUID VARCHAR PRIMARY KEY, \
                    AVAILABILITY VARCHAR) WITH (KAFKA_TOPIC='assets_avail_topic', VALUE_FORMAT='JSON');",
    },
    Needed {
        name: "ASSET_TO_UNS_MAP_RAW",
        compacted_topic: Some("asset_to_uns_map_topic"),
        statement: "CREATE TABLE IF NOT EXISTS ASSET_TO_UNS_MAP_RAW (ASSET_UUID VARCHAR PRIMARY KEY, \
                    UNS_ID VARCHAR, UNS_LEVELS MAP<VARCHAR, VARCHAR>, UPDATED_AT TIMESTAMP) \
                    WITH (KAFKA_TOPIC='asset_to_uns_map_topic', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON', \
                    PARTITIONS=1);",
    },
    Needed {
        name: "ASSET_TO_UNS_MAP",
        compacted_topic: None,
        statement: "CREATE TABLE IF NOT EXISTS ASSET_TO_UNS_MAP AS \
                    SELECT * FROM ASSET_TO_UNS_MAP_RAW EMIT CHANGES;",
    },
    Needed {
        name: "DEVICE_CONNECTOR_SOURCE",
        compacted_topic: Some("device_connector_topic"),
        statement: "CREATE TABLE IF NOT EXISTS DEVICE_CONNECTOR_SOURCE (ASSET_UUID VARCHAR PRIMARY KEY, \
                    CONNECTOR_CONFIG VARCHAR) \
                    WITH (KAFKA_TOPIC='device_connector_topic', VALUE_FORMAT='JSON', PARTITIONS=1);",
    },
    Needed {
        name: "DEVICE_CONNECTOR",
        compacted_topic: None,
        statement: "CREATE TABLE IF NOT EXISTS DEVICE_CONNECTOR AS \
                    SELECT * FROM DEVICE_CONNECTOR_SOURCE EMIT CHANGES;",
    },
    Needed {
        name: "METRICS_TARGETS_SOURCE",
        compacted_topic: Some("metrics_targets_topic"),
        statement: "CREATE TABLE IF NOT EXISTS METRICS_TARGETS_SOURCE (APPLICATION_UUID VARCHAR PRIMARY KEY, \
                    HOST VARCHAR, PORT INTEGER, PATH VARCHAR) \
                    WITH (KAFKA_TOPIC='metrics_targets_topic', VALUE_FORMAT='JSON', PARTITIONS=1);",
    },
    Needed {
        name: "METRICS_TARGETS",
        compacted_topic: None,
        statement: "CREATE TABLE IF NOT EXISTS METRICS_TARGETS AS \
                    SELECT * FROM METRICS_TARGETS_SOURCE EMIT CHANGES;",
    },
];

/// Looks at everything and changes nothing.
pub async fn check(settings: &OpenfactorySettings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let topics = match Ksqldb::new(settings.ksqldb.clone()) {
        Ok(ksqldb) => check_ksqldb(&ksqldb, &mut findings).await,
        Err(error) => {
            findings.push(error.into());
            BTreeMap::new()
        }
    };
    check_kafka(settings, &topics, &mut findings).await;
    findings
}

/// The topics of the sources that we write to, and whether the tables that we read answer.
async fn check_ksqldb(ksqldb: &Ksqldb, findings: &mut Vec<Finding>) -> BTreeMap<Source, String> {
    let mut topics = BTreeMap::new();
    if let Err(error) = ksqldb.statement("SHOW STREAMS;").await {
        findings.push(error.explain(ksqldb.url()).into());
        return topics;
    }
    findings.push(Finding::good(format!("ksqlDB answers at {}", ksqldb.url())));
    let found = match ksqldb.sources(&Source::ALL).await {
        Ok(found) => found,
        Err(error) => {
            findings.push(error.explain(ksqldb.url()).into());
            return topics;
        }
    };
    for source in Source::ALL {
        findings.push(match found.get(&source) {
            Some(found) => Finding::good(format!("{} {} is there", found.kind.to_lowercase(), source.as_str())),
            None => Finding::bad(
                format!("{} is missing", source.as_str()),
                "`ofop registry init` makes OpenFactory's streams and tables",
            ),
        });
    }
    topics.extend(found.into_iter().map(|(source, found)| (source, found.topic)));
    for query in &COUNTS {
        let table =
            query.sql.split(" FROM ").nth(1).and_then(|rest| rest.split([' ', ';']).next()).unwrap_or(query.sql);
        match ksqldb.pull(query).await {
            Ok(answer) => findings.push(Finding::good(format!("table {table} answers with {} rows", answer.rows))),
            Err(KsqlError::Statement { message, .. }) => findings.push(Finding::bad(
                format!("table {table} does not answer: {message}"),
                "a table can be read when it was made with CREATE TABLE … AS SELECT or CREATE SOURCE TABLE, and \
                 table scans are allowed (ksql.query.pull.table.scan.enabled)",
            )),
            Err(error) => {
                let RegistryError { message, hint } = error.explain(ksqldb.url());
                let message = format!("table {table} does not answer: {message}");
                findings.push(Finding { kind: FindingKind::Bad, message, hint });
                if matches!(error, KsqlError::Silent) {
                    // The others would keep a person waiting just as long.
                    break;
                }
            }
        }
    }
    topics
}

async fn check_kafka(settings: &OpenfactorySettings, topics: &BTreeMap<Source, String>, findings: &mut Vec<Finding>) {
    let kafka = settings.kafka.clone();
    let partitions = match tokio::task::spawn_blocking(move || Writer::new(kafka).partitions()).await {
        Ok(Ok(partitions)) => partitions,
        Ok(Err(error)) => return findings.push(error.into()),
        Err(error) => return findings.push(Finding::bad(error.to_string(), "try again")),
    };
    findings.push(Finding::good(format!("Kafka answers at {}", settings.kafka.brokers)));
    findings.push(Finding::good(format!("keys are placed as Java's clients place them ({PARTITIONER})")));
    for (source, topic) in topics {
        match partitions.get(topic) {
            Some(count) => findings.push(Finding::good(format!(
                "topic {topic} of {} has {count} partition{}",
                source.as_str(),
                if *count == 1 { "" } else { "s" }
            ))),
            None => findings.push(Finding::bad(
                format!("topic {topic} of {} does not exist", source.as_str()),
                "ksqlDB and KAFKA_BROKER may belong to different clusters",
            )),
        }
    }
    match forgetful(&settings.kafka, topics).await {
        Ok(forgetful) => findings.extend(forgetful.into_iter().map(|forgetful| Finding {
            kind: FindingKind::Warning,
            message: forgetful.sentence(),
            hint: Some(format!(
                "kafka-configs.sh --alter --entity-type topics --entity-name {} --add-config cleanup.policy=compact",
                forgetful.topic
            )),
        })),
        Err(error) => findings.push(error.into()),
    }
}

/// Topics of state whose policy forgets it.
pub(super) async fn forgetful_topics(ksqldb: &Ksqldb, kafka: &KafkaSettings) -> Result<Vec<Forgetful>, RegistryError> {
    let topics = ksqldb.topics(&Source::ALL).await.map_err(|error| error.explain(ksqldb.url()))?;
    forgetful(kafka, &topics).await
}

async fn forgetful(kafka: &KafkaSettings, topics: &BTreeMap<Source, String>) -> Result<Vec<Forgetful>, RegistryError> {
    let names: BTreeSet<String> = topics.values().cloned().collect();
    let policies = policies(kafka, &names).await?;
    Ok(topics
        .iter()
        // Attributes are a stream of events, kept for as long as people want to look back; the table ASSETS has
        // its own compacted changelog.
        .filter(|(source, _)| **source != Source::AssetsStream)
        .filter_map(|(source, topic)| {
            let expiry = policies.get(topic)?.expiry()?;
            Some(Forgetful { source: *source, topic: topic.clone(), expiry })
        })
        .collect())
}

/// A topic of state whose policy forgets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forgetful {
    /// The stream or table behind it.
    pub(super) source: Source,
    /// The topic.
    pub(super) topic: String,
    /// How long it keeps what it is told.
    pub(super) expiry: Duration,
}

impl Forgetful {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        format!(
            "topic {} of {} has cleanup.policy=delete: what it says is lost after {} h, and written again before \
             that as long as ofop runs",
            self.topic,
            self.source.as_str(),
            self.expiry.as_secs() / 3600
        )
    }
}

/// Makes the streams and tables that are missing; those that exist are left as they are. Topics whose state must
/// outlive the broker's retention are made compacted before ksqlDB makes them otherwise.
///
/// # Errors
/// When ksqlDB or Kafka refuses; what was made until then stays, and running it again goes on from there.
pub async fn init(settings: &OpenfactorySettings, mut progress: impl FnMut(&str)) -> Result<(), RegistryError> {
    let ksqldb = Ksqldb::new(settings.ksqldb.clone())?;
    for needed in NEEDED {
        match ksqldb.describe(needed.name).await {
            Ok(_) => {
                progress(&format!("{} is there", needed.name));
                continue;
            }
            Err(KsqlError::Statement { .. }) => {}
            Err(error) => return Err(error.explain(ksqldb.url())),
        }
        if let Some(topic) = needed.compacted_topic {
            make_compacted(&settings.kafka, topic).await?;
        }
        ksqldb.statement(needed.statement).await.map_err(|error| error.explain(ksqldb.url()))?;
        progress(&format!("{} made", needed.name));
    }
    Ok(())
}

async fn make_compacted(kafka: &KafkaSettings, topic: &str) -> Result<(), RegistryError> {
    let problem = |reason: String| RegistryError {
        message: format!("topic {topic} cannot be made: {reason}"),
        hint: Some("may this user create topics on KAFKA_BROKER?".into()),
    };
    let admin: AdminClient<DefaultClientContext> =
        kafka.client().create().map_err(|error| problem(error.to_string()))?;
    // -1: as many replicas as the cluster's default says.
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    let made = admin.create_topics([&new], &AdminOptions::new()).await.map_err(|error| problem(error.to_string()))?;
    match made.into_iter().next() {
        Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(problem(code.to_string())),
        None => Err(problem("no answer".into())),
    }
}
