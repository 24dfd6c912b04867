//! Whether Kafka and ksqlDB are as OpenFactory needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::OpenfactorySettings;
use super::hints::{self, FOLLOWED};
use super::init::mismatch::JoinMismatch;
use super::kafka::topics::{Hints, TopicPolicy, policies};
use super::kafka::{KafkaSettings, PARTITIONER, Writer};
use super::ksqldb::{KsqlError, Ksqldb};
use super::sources::NEEDED;
use super::tables::COUNTS;
use crate::model::Source;
use crate::registry::RegistryError;

/// How long a broker may take to refuse to be listened to.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

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
    let known = match topics_of_all(ksqldb).await {
        Ok(known) => known,
        Err(error) => {
            findings.push(error.explain(ksqldb.url()).into());
            return BTreeMap::new();
        }
    };
    findings.push(Finding::good(format!("ksqlDB answers at {}", ksqldb.url())));
    findings.extend(completeness(|name| known.contains_key(name)));
    for query in &COUNTS {
        let table =
            query.sql.split(" FROM ").nth(1).and_then(|rest| rest.split([' ', ';']).next()).unwrap_or(query.sql);
        if !known.contains_key(table) {
            continue;
        }
        match ksqldb.pull(query).await {
            Ok(answer) => findings.push(Finding::good(format!("table {table} answers with {} rows", answer.rows))),
            Err(KsqlError::Statement { message, .. } | KsqlError::NotQueryable(message)) => {
                findings.push(Finding::bad(
                    format!("table {table} does not answer: {message}"),
                    "a table can be read when it was made with CREATE TABLE … AS SELECT or CREATE SOURCE TABLE, and \
                 table scans are allowed (ksql.query.pull.table.scan.enabled)",
                ))
            }
            Err(error) => {
                let RegistryError { message, hint } = error.explain(ksqldb.url());
                let message = format!("table {table} does not answer: {message}");
                findings.push(Finding { kind: FindingKind::Bad, message, hint });
                // The others would keep a person waiting just as long, to say the same.
                break;
            }
        }
    }
    let topic = |source: Source| Some((source, known.get(source.as_str())?.clone()));
    Source::ALL.into_iter().filter_map(topic).collect()
}

/// The topic of every stream and table of OpenFactory that ksqlDB knows.
pub(super) async fn topics_of_all(ksqldb: &Ksqldb) -> Result<BTreeMap<&'static str, String>, KsqlError> {
    let mut known = BTreeMap::new();
    for needed in &NEEDED {
        match ksqldb.topic(needed.name).await {
            Ok(topic) => drop(known.insert(needed.name, topic)),
            Err(KsqlError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}

/// What is there and what is missing, in a sentence or two. Streams that only feed a table count as well: without them
/// the table answers, and what it says is never true again.
fn completeness(is_there: impl Fn(&str) -> bool) -> Vec<Finding> {
    let missing = |for_others: bool| {
        let names = NEEDED.iter().filter(|needed| needed.for_others == for_others && !is_there(needed.name));
        names.map(|needed| needed.name).collect::<Vec<_>>()
    };
    let (ours, others) = (missing(false), missing(true));
    let mut findings = Vec::new();
    let hint = "`ofop registry init` makes what is missing and leaves the rest as it is";
    if !ours.is_empty() {
        findings.push(Finding::bad(format!("ksqlDB has no {}", ours.join(", ")), hint));
    }
    if !others.is_empty() {
        let message = format!("ksqlDB has no {}: other parts of OpenFactory may look for them", others.join(", "));
        findings.push(Finding { kind: FindingKind::Warning, message, hint: Some(hint.into()) });
    }
    if findings.is_empty() {
        findings.push(Finding::good(format!("OpenFactory's {} streams and tables are there", NEEDED.len())));
    }
    findings
}

async fn check_kafka(settings: &OpenfactorySettings, topics: &BTreeMap<Source, String>, findings: &mut Vec<Finding>) {
    let kafka = settings.kafka.clone();
    let names: Vec<String> = topics.values().cloned().collect();
    let (partitions, hidden) = match tokio::task::spawn_blocking(move || Writer::new(kafka).topics(&names)).await {
        Ok(Ok(found)) => found,
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
            None if hidden.contains(topic) => findings.push(Finding::bad(
                format!("topic {topic} of {} may not be described: whether it exists cannot be told", source.as_str()),
                format!("allow Describe and Write on topic {topic}"),
            )),
            None => findings.push(Finding::bad(
                format!("topic {topic} of {} does not exist", source.as_str()),
                "ksqlDB and KAFKA_BROKER may belong to different clusters",
            )),
        }
    }
    findings.extend(check_join(&settings.kafka.brokers, topics, &partitions));
    findings.extend(check_hints(settings, topics).await);
    let names = topics.values().filter(|topic| partitions.contains_key(*topic)).cloned().collect();
    match policies(&settings.kafka, &names).await {
        Ok(policies) => findings.extend(check_policies(&settings.kafka.brokers, topics, &names, &policies)),
        Err(error) => findings.push(error.into()),
    }
}

/// Whether ksqlDB can join the attributes of assets to their places: only topics with as many partitions as each other.
fn check_join(
    brokers: &str,
    topics: &BTreeMap<Source, String>,
    partitions: &BTreeMap<String, usize>,
) -> Option<Finding> {
    let side = |source: Source| {
        let topic = topics.get(&source)?;
        Some((topic.clone(), i64::try_from(*partitions.get(topic)?).ok()?))
    };
    let join = JoinMismatch { left: side(Source::AssetsStream)?, right: side(Source::AssetToUnsMapRaw)? };
    (join.left.1 != join.right.1).then(|| Finding {
        kind: FindingKind::Warning,
        message: format!(
            "ASSETS_STREAM_UNS, which other parts of OpenFactory read, cannot be made: {}",
            join.sentence()
        ),
        hint: Some(join.hint(brokers)),
    })
}

/// Whether changes are heard of. What the broker refuses it refuses at once.
async fn check_hints(settings: &OpenfactorySettings, topics: &BTreeMap<Source, String>) -> Option<Finding> {
    let followed = FOLLOWED.iter().filter_map(|source| topics.get(source)).cloned().collect();
    let refused = match Hints::new(&settings.kafka, &followed).await {
        Ok(hints) if hints.topics() == 0 => return None,
        Ok(hints) => match tokio::time::timeout(REFUSED_WITHIN, hints.next()).await {
            Ok(Err(reason)) => reason,
            Ok(Ok(())) | Err(_) => return Some(Finding::good("Kafka tells of changes in the registry")),
        },
        Err(reason) => reason,
    };
    Some(Finding {
        kind: FindingKind::Warning,
        message: hints::sentence(&refused, settings.interval),
        hint: Some("allow Read on the topics of state".into()),
    })
}

/// Which topics forget, which of these `names` may, and how to mend it.
fn check_policies(
    brokers: &str,
    topics: &BTreeMap<Source, String>,
    names: &BTreeSet<String>,
    policies: &BTreeMap<String, TopicPolicy>,
) -> Vec<Finding> {
    let warning = |message, hint| Finding { kind: FindingKind::Warning, message, hint: Some(hint) };
    let mut findings = Vec::new();
    for forgetful in forgetful(topics, policies) {
        let hint = format!(
            "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {} \
             --add-config cleanup.policy=compact",
            forgetful.topic
        );
        findings.push(warning(forgetful.sentence(), hint));
    }
    let unknown: Vec<&str> = names.iter().filter(|name| !policies.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let message =
            format!("whether {} forget cannot be told: their configuration may not be read", unknown.join(", "));
        findings.push(warning(message, "allow DescribeConfigs on these topics".to_owned()));
    }
    if findings.is_empty() && !names.is_empty() {
        findings.push(Finding::good("no topic of state forgets"));
    }
    findings
}

/// Topics of state whose policy forgets it.
pub(super) async fn forgetful_topics(ksqldb: &Ksqldb, kafka: &KafkaSettings) -> Result<Vec<Forgetful>, RegistryError> {
    let topics = ksqldb.topics(&Source::ALL).await.map_err(|error| error.explain(ksqldb.url()))?;
    let names = topics.values().cloned().collect();
    Ok(forgetful(&topics, &policies(kafka, &names).await?))
}

fn forgetful(topics: &BTreeMap<Source, String>, policies: &BTreeMap<String, TopicPolicy>) -> Vec<Forgetful> {
    topics
        .iter()
        // Attributes are a stream of events, kept for as long as people want to look back; the table ASSETS has
        // its own compacted changelog.
        .filter(|(source, _)| **source != Source::AssetsStream)
        .filter_map(|(source, topic)| {
            let expiry = policies.get(topic)?.expiry()?;
            Some(Forgetful { source: *source, topic: topic.clone(), expiry })
        })
        .collect()
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
        let time = match self.expiry.as_secs() {
            seconds if seconds < 7200 => format!("{} min", seconds / 60),
            seconds => format!("{} h", seconds / 3600),
        };
        format!(
            "topic {} of {} has a cleanup.policy with delete: what it says is lost after {time}, and written again before \
             that as long as ofop runs",
            self.topic,
            self.source.as_str(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_forget_or_may_are_told_with_what_to_do() {
        let policy = |cleanup: &str, minutes: u64| TopicPolicy {
            cleanup: cleanup.into(),
            retention: Some(Duration::from_secs(minutes * 60)),
        };
        let topics: BTreeMap<Source, String> =
            [(Source::AssetsType, "types".to_owned()), (Source::AssetsAvail, "avail".to_owned())].into();
        let names: BTreeSet<String> = topics.values().cloned().collect();
        let look = |policies: &[(&str, TopicPolicy)]| {
            let policies = policies.iter().map(|(topic, policy)| ((*topic).to_owned(), policy.clone())).collect();
            check_policies("b:1", &topics, &names, &policies)
        };
        let fine = look(&[("types", policy("compact", 1)), ("avail", policy("compact", 1))]);
        assert!(fine.len() == 1 && fine[0].kind == FindingKind::Good, "{fine:?}");
        let [forgets, unknown] = look(&[("types", policy("compact,delete", 90))]).try_into().unwrap();
        assert!(forgets.message.contains("topic types of ASSETS_TYPE") && forgets.message.contains("90 min"));
        assert!(forgets.hint.unwrap().starts_with("kafka-configs.sh --bootstrap-server b:1 "));
        assert!(unknown.message.contains("whether avail forget"), "{unknown:?}");
        assert!(unknown.hint.unwrap().contains("DescribeConfigs"));
    }

    #[test]
    fn what_is_missing_is_said_once_and_what_only_others_need_is_no_error() {
        let without = |missing: &'static [&'static str]| completeness(move |name| !missing.contains(&name));
        let [all] = without(&[]).try_into().unwrap();
        assert_eq!(
            (all.kind, all.message.as_str()),
            (FindingKind::Good, "OpenFactory's 20 streams and tables are there")
        );
        // The table ASSETS_TYPE would answer, and never learn of another asset.
        let [ours] = without(&["ASSETS_TYPE_STREAM", "ASSETS"]).try_into().unwrap();
        assert_eq!((ours.kind, ours.message.as_str()), (FindingKind::Bad, "ksqlDB has no ASSETS, ASSETS_TYPE_STREAM"));
        let [others] = without(&["ASSETS_UNS"]).try_into().unwrap();
        assert_eq!(others.kind, FindingKind::Warning);
        assert!(others.hint.unwrap().contains("ofop registry init"));
    }
}
