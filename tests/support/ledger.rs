//! Who wrote what: every message of every topic of the registry, from the oldest on, less what the test wrote itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "support for tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::kafka;

/// Topics that nobody writes to but whoever registers: the operator, and the test.
const WRITTEN: [&str; 4] = ["ofa_assets", "asset_to_uns_map_topic", "device_connector_topic", "metrics_targets_topic"];
/// Topics that ksqlDB derives from the first of them. Only tombstones are written there by others.
const DERIVED: [&str; 3] = ["assets_types_topic", "docker_services_topic", "assets_avail_topic"];
/// Topics of the streams that ksqlDB writes for others.
const STREAMS: [&str; 2] = ["enriched_assets_stream_topic", "ofa_assets_uns"];

/// Makes all of them with the broker's defaults, which is what a broker does that makes topics by itself.
pub(crate) async fn make_topics(brokers: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let names = WRITTEN.into_iter().chain(DERIVED).chain(STREAMS);
    let topics: Vec<NewTopic<'_>> = names.map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1))).collect();
    let made = admin.create_topics(&topics, &AdminOptions::new()).await.unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) topic: &'static str,
    pub(crate) key: String,
    /// Empty for a tombstone.
    pub(crate) payload: String,
}

impl Entry {
    /// The attribute that it sets, and its value.
    pub(crate) fn attribute(&self) -> Option<(String, String)> {
        let said: Value = serde_json::from_str(&self.payload).ok()?;
        let value = &said["VALUE"];
        Some((said["ID"].as_str()?.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
    }

    /// Whether it registers an asset: each registration says the type once.
    pub(crate) fn registers(&self) -> bool {
        self.attribute().is_some_and(|(id, _)| id == "AssetType")
    }
}

/// What an asset says of itself: the asset, `ID`, `VALUE`, `TAG`, `TYPE`.
pub(crate) type Saying<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

/// Keeps the account.
pub(crate) struct Ledger {
    brokers: String,
    /// How many messages of each topic are accounted for.
    seen: BTreeMap<&'static str, usize>,
    /// What the test wrote, and how often, until it was found.
    own: BTreeMap<Entry, usize>,
    /// Assets that the test has OpenFactory delete, each with the number of tombstones that ksqlDB may derive.
    deleted: BTreeMap<(&'static str, String), usize>,
    /// Attributes that others are to write, by asset and `ID`, and how often.
    expected: BTreeMap<(String, String), usize>,
}

impl Ledger {
    pub(crate) fn new(brokers: &str) -> Ledger {
        Ledger {
            brokers: brokers.to_owned(),
            seen: BTreeMap::new(),
            own: BTreeMap::new(),
            deleted: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }

    /// An attribute that others are to write so many times; it counts as accounted for.
    pub(crate) fn expect(&mut self, asset: &str, id: &str, times: usize) {
        *self.expected.entry((asset.to_owned(), id.to_owned())).or_default() += times;
    }

    /// Says something as other parts of OpenFactory do, and notes it.
    pub(crate) fn says(&mut self, sayings: &[Saying<'_>]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        for (asset, id, value, tag, kind) in sayings {
            let time = ofop::clock::rfc3339(ofop::clock::Clock::wall(&ofop::clock::SystemClock::new()));
            let said = json!({"ID": id, "VALUE": value, "TAG": tag, "TYPE": kind, "attributes": {"timestamp": time}});
            let entry = Entry { topic: WRITTEN[0], key: (*asset).to_owned(), payload: said.to_string() };
            let mut record = BaseRecord::to(entry.topic).key(&entry.key).payload(&entry.payload);
            while let Err((_, back)) = producer.send(record) {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            if *value == "delete" {
                let topic = if *id == "AssetType" { DERIVED[0] } else { DERIVED[2] };
                *self.deleted.entry((topic, entry.key.clone())).or_default() += 1;
            }
            *self.own.entry(entry).or_default() += 1;
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    /// What others wrote since this was last asked, in the order of each topic.
    pub(crate) fn others(&mut self) -> Vec<Entry> {
        let mut others = Vec::new();
        for topic in WRITTEN.into_iter().chain(DERIVED) {
            let all = kafka::messages(&self.brokers, topic);
            let seen = self.seen.insert(topic, all.len()).unwrap_or_default();
            for (key, payload) in all.into_iter().skip(seen) {
                let entry = Entry { topic, key, payload };
                if !self.is_own(&entry) {
                    others.push(entry);
                }
            }
        }
        others
    }

    fn is_own(&mut self, entry: &Entry) -> bool {
        if DERIVED.contains(&entry.topic) {
            if !entry.payload.is_empty() {
                return true;
            }
            let left = self.deleted.get_mut(&(entry.topic, entry.key.clone())).filter(|left| **left > 0);
            return left.map(|left| *left -= 1).is_some();
        }
        let expected = entry.attribute().and_then(|(id, _)| self.expected.get_mut(&(entry.key.clone(), id)));
        let left = self.own.get_mut(entry).or(expected).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }
}

/// What OpenFactory's own command line says when it registers an asset, with the mark of an operator where it has one.
pub(crate) fn registration<'a>(
    asset: &'a str,
    kind: &'a str,
    service: &'a str,
    owner: Option<(&'a str, &'a str)>,
) -> Vec<Saying<'a>> {
    let mut sayings = Vec::new();
    if let Some((instance, resource)) = owner {
        sayings.push((asset, "managed_by", instance, "ManagedBy", "OpenFactory"));
        sayings.push((asset, "managed_resource", resource, "ManagedBy", "OpenFactory"));
    }
    sayings.push((asset, "AssetType", kind, "AssetType", "OpenFactory"));
    sayings.push((asset, "DockerService", service, "DockerService", "OpenFactory"));
    sayings.push((asset, "references_below", "", "AssetsReferences", "OpenFactory"));
    sayings.push((asset, "references_above", "", "AssetsReferences", "OpenFactory"));
    sayings.push((asset, "avail", "AVAILABLE", "Availability", "Events"));
    sayings
}
