//! What the topics of state say last of each key. Pure.
//!
//! The topics behind `ASSETS_TYPE`, `DOCKER_SERVICES`, `ASSET_TO_UNS_MAP`, `DEVICE_CONNECTOR` and `METRICS_TARGETS` are
//! followed from their oldest message. They are small: one message for each time that an asset is registered, not for
//! each of its samples. Of each key only the offset of its last message is kept, and whether that leaves a row.
//!
//! The topic of every attribute (`ASSETS_STREAM`) and that of `ASSETS` are not followed, since every machine's samples go
//! through them, nor is that of availability kept: a coordinator that is not shown as available is waited for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::model::{AssetUuid, Source};

/// The sources whose topics are witnesses.
pub const WITNESSES: [Source; 5] = [
    Source::AssetsType,
    Source::DockerServices,
    Source::AssetToUnsMapRaw,
    Source::DeviceConnectorSource,
    Source::MetricsTargetsSource,
];

/// The most keys of a topic that are kept. A topic with more is no witness.
const MAX_KEYS: usize = 200_000;

/// What a message leaves of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// A row that is shown.
    Row,
    /// No row, or one that counts as none.
    Nothing,
    /// What was before: ksqlDB passes over what it cannot read.
    Unchanged,
}

/// The last message of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Its offset in its partition.
    pub offset: i64,
    /// Whether it leaves a row.
    pub is_row: bool,
    /// When it came; none for what was there when following began.
    pub at: Option<Duration>,
}

/// One topic.
#[derive(Debug, Default)]
struct Topic {
    name: String,
    keys: BTreeMap<AssetUuid, Last>,
    /// It has more keys than are kept.
    overflows: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Log {
    topics: BTreeMap<Source, Topic>,
    /// Everything up to the end was taken in, and what comes is.
    whole: bool,
    /// What was written here: a tombstone that brokers have acknowledged was seen, whether or not topics are followed.
    ours: BTreeMap<(Source, AssetUuid), Duration>,
}

impl Log {
    /// Begins with nothing taken in of these topics.
    pub fn new(topics: impl IntoIterator<Item = (Source, String)>) -> Log {
        let topics = topics
            .into_iter()
            .filter(|(source, _)| WITNESSES.contains(source))
            .map(|(source, name)| (source, Topic { name, ..Topic::default() }))
            .collect();
        Log { topics, ..Log::default() }
    }

    /// Takes a message in. `at` is none while what was there before is read.
    pub fn take(&mut self, source: Source, offset: i64, key: &[u8], trace: Trace, at: Option<Duration>) {
        let Some(topic) = self.topics.get_mut(&source).filter(|topic| !topic.overflows) else { return };
        // A key that is none of ours to understand is none that a record has.
        let Some(uuid) = std::str::from_utf8(key).ok().and_then(|key| AssetUuid::new(key).ok()) else { return };
        let is_row = match trace {
            Trace::Row => true,
            Trace::Nothing => false,
            Trace::Unchanged => return,
        };
        if is_row && !self.ours.is_empty() {
            self.ours.remove(&(source, uuid.clone()));
        }
        topic.keys.insert(uuid, Last { offset, is_row, at });
        if topic.keys.len() > MAX_KEYS {
            topic.keys.clear();
            topic.overflows = true;
        }
    }

    /// Everything that was there is taken in.
    pub fn is_caught_up(&mut self) {
        self.whole = true;
    }

    /// Nothing more will come; what was taken in stays.
    pub fn ends(&mut self) {
        self.whole = false;
    }

    /// Replaces what was known by another one that has caught up.
    pub fn replace(&mut self, log: Log) {
        let ours = std::mem::take(&mut self.ours);
        *self = log;
        self.ours = ours;
    }

    /// Whether every topic is followed to its end.
    pub fn is_whole(&self) -> bool {
        self.whole && WITNESSES.iter().all(|source| self.topics.get(source).is_some_and(|topic| !topic.overflows))
    }

    /// A message that takes a row away was acknowledged.
    pub fn took_back(&mut self, source: Source, uuid: AssetUuid, now: Duration) {
        self.ours.insert((source, uuid), now);
    }

    /// Something of an asset was written here: that it was taken back counts no more.
    pub fn wrote(&mut self, uuid: &AssetUuid) {
        self.ours.retain(|(_, taken_back), _| taken_back != uuid);
    }

    /// Forgets what was written here longer ago than that.
    pub fn forget(&mut self, before: Duration) {
        self.ours.retain(|_, at| *at >= before);
    }

    /// The last message of a key.
    pub fn last(&self, source: Source, uuid: &AssetUuid) -> Option<Last> {
        self.topics.get(&source)?.keys.get(uuid).copied()
    }

    /// Every key of which a topic says that it has a row.
    pub fn rows(&self, source: Source) -> impl Iterator<Item = (&AssetUuid, Last)> {
        let keys = self.topics.get(&source).into_iter().flat_map(|topic| &topic.keys);
        keys.filter(|(_, last)| last.is_row).map(|(uuid, last)| (uuid, *last))
    }

    /// Whether a message that took the row away was seen, or sent.
    pub fn is_taken_back(&self, source: Source, uuid: &AssetUuid) -> bool {
        self.last(source, uuid).is_some_and(|last| !last.is_row) || self.ours.contains_key(&(source, uuid.clone()))
    }

    /// Whether a message about a key came after that moment.
    pub fn changed_since(&self, uuid: &AssetUuid, moment: Duration) -> bool {
        self.topics.values().filter_map(|topic| topic.keys.get(uuid)?.at).any(|at| at >= moment)
            || WITNESSES.iter().any(|source| self.ours.get(&(*source, uuid.clone())).is_some_and(|at| *at >= moment))
    }

    /// The name of a source's topic.
    pub fn topic(&self, source: Source) -> &str {
        self.topics.get(&source).map_or(source.as_str(), |topic| &topic.name)
    }
}

/// What a message on the topic of a source leaves of its key, as ksqlDB reads it: names of fields without regard to
/// case, a value that is no JSON object passed over.
pub fn trace(source: Source, value: Option<&[u8]>) -> Trace {
    let Some(value) = value else { return Trace::Nothing };
    let fields: BTreeMap<Cow<'_, str>, Value> = match serde_json::from_slice(value) {
        Ok(Some(fields)) => fields,
        Ok(None) => return Trace::Nothing,
        Err(_) => return Trace::Unchanged,
    };
    let text = |name: &str| {
        let found = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)?;
        match found {
            Value::Null => None,
            Value::String(text) => Some(Cow::Borrowed(text.as_str())),
            other => Some(Cow::Owned(other.to_string())),
        }
    };
    let is_row = match source {
        // What an asset that OpenFactory removes is called for a moment.
        Source::AssetsType => text("TYPE").is_some_and(|kind| kind != crate::registry::rows::DELETED),
        Source::DockerServices => text("DOCKER_SERVICE").is_some(),
        Source::AssetToUnsMapRaw => text("UNS_ID").is_some(),
        Source::DeviceConnectorSource => text("CONNECTOR_CONFIG").is_some(),
        Source::MetricsTargetsSource => {
            text("HOST").is_some() && text("PORT").is_some_and(|port| port.parse::<u16>().is_ok())
        }
        Source::AssetsStream | Source::AssetsAvail => return Trace::Unchanged,
    };
    if is_row { Trace::Row } else { Trace::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: Source, value: &str) -> Trace {
        trace(source, Some(value.as_bytes()))
    }

    #[test]
    fn a_message_leaves_what_ksqldb_would_show() {
        assert_eq!(trace(Source::AssetsType, None), Trace::Nothing);
        assert_eq!(of(Source::AssetsType, r#"{"TYPE":"Device"}"#), Trace::Row);
        assert_eq!(of(Source::AssetsType, r#"{"type":"Device","more":1}"#), Trace::Row);
        assert_eq!(of(Source::AssetsType, r#"{"TYPE":"delete"}"#), Trace::Nothing);
        assert_eq!(of(Source::AssetsType, r#"{"TYPE":null}"#), Trace::Nothing);
        assert_eq!(of(Source::AssetsType, "null"), Trace::Nothing);
        for odd in ["", "Device", "[1]", "7", "{\"TYPE\":", "<html>"] {
            assert_eq!(of(Source::AssetsType, odd), Trace::Unchanged, "{odd}");
        }
        assert_eq!(of(Source::DockerServices, r#"{"DOCKER_SERVICE":""}"#), Trace::Row);
        assert_eq!(of(Source::AssetToUnsMapRaw, r#"{"asset_uuid":"A","uns_id":null}"#), Trace::Nothing);
        assert_eq!(of(Source::AssetToUnsMapRaw, r#"{"UNS_ID":"a/b","UNS_LEVELS":{}}"#), Trace::Row);
        assert_eq!(of(Source::MetricsTargetsSource, r#"{"HOST":"h","PORT":"4000"}"#), Trace::Row);
        assert_eq!(of(Source::MetricsTargetsSource, r#"{"HOST":"h","PORT":70000}"#), Trace::Nothing);
        let long = format!(r#"{{"CONNECTOR_CONFIG":"{}"}}"#, "x".repeat(1 << 20));
        assert_eq!(of(Source::DeviceConnectorSource, &long), Trace::Row);
    }

    #[test]
    fn the_last_message_of_a_key_counts_and_odd_keys_are_passed_over() {
        let mut log = Log::new([(Source::AssetsType, "types".to_owned()), (Source::AssetsStream, "all".to_owned())]);
        let uuid = AssetUuid::new("A").unwrap();
        let take = |log: &mut Log, offset, key: &[u8], trace| log.take(Source::AssetsType, offset, key, trace, None);
        take(&mut log, 0, b"A", Trace::Row);
        take(&mut log, 1, b"", Trace::Row);
        take(&mut log, 2, b"\xff\xfe", Trace::Row);
        take(&mut log, 3, b"a", Trace::Row);
        take(&mut log, 4, b"A", Trace::Unchanged);
        assert_eq!(log.last(Source::AssetsType, &uuid).unwrap().offset, 0);
        assert!(!log.is_taken_back(Source::AssetsType, &uuid));
        take(&mut log, 5, b"A", Trace::Nothing);
        assert!(log.is_taken_back(Source::AssetsType, &uuid));
        assert_eq!(log.rows(Source::AssetsType).count(), 1, "keys differ by their case");
        assert!(!log.is_whole(), "four topics are not followed");
    }
}
