//! The part that reads topics: rows of tables, and streams that are made of other streams.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

use super::declared::{Declared, Query, partitions};
use super::sql::holds;
use super::{Row, Shared};

/// Reads every topic from its beginning, keeps rows, and runs the queries that write streams.
pub(super) fn follow(shared: &Shared) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &shared.brokers)
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let mut assigned = Vec::new();
    let mut consumer: Option<BaseConsumer> = None;
    let mut done: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut seen = Seen::default();
    while !shared.stop.load(Ordering::SeqCst) {
        let mut topics: Vec<String> = shared
            .declared
            .lock()
            .unwrap()
            .values()
            .map(|declared| declared.topic.clone())
            .filter(|topic| !topic.is_empty())
            .collect();
        topics.sort();
        topics.dedup();
        if topics != assigned {
            let made: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", &shared.brokers)
                .set("group.id", "stand-in")
                .set("enable.auto.commit", "false")
                .set("auto.offset.reset", "earliest")
                .create()
                .unwrap();
            let mut places = TopicPartitionList::new();
            for topic in &topics {
                for partition in 0..i32::try_from(partitions(&made, topic).unwrap()).unwrap() {
                    let last = done.get(&(topic.clone(), partition));
                    let offset = last.map_or(Offset::Beginning, |last| Offset::Offset(last + 1));
                    places.add_partition_offset(topic, partition, offset).unwrap();
                }
            }
            made.assign(&places).unwrap();
            (consumer, assigned) = (Some(made), topics);
        }
        let Some(consumer) = &consumer else {
            std::thread::park_timeout(Duration::from_millis(20));
            continue;
        };
        seen.catch_up(shared, &producer);
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else { continue };
        let lag = shared.faults.lag.load(Ordering::SeqCst);
        if lag > 0 {
            std::thread::park_timeout(Duration::from_millis(lag));
        }
        let place = (message.partition(), message.offset());
        done.insert((message.topic().to_owned(), place.0), place.1);
        let key = String::from_utf8(message.key().unwrap_or_default().to_vec()).unwrap();
        let time = message.timestamp().to_millis().unwrap_or_default();
        let row = take(shared, message.topic(), &key, message.payload(), time);
        if let Some(row) = row.filter(|_| message.topic() == "ofa_assets") {
            seen.next(&producer, Assertion { place, key, row });
        }
    }
    let _ = producer.flush(Duration::from_secs(1));
}

/// A message of the stream that all others are made of.
struct Assertion {
    place: (i32, i64),
    key: String,
    row: Row,
}

/// What queries have been given: a new one reads the stream from where it begins.
#[derive(Default)]
struct Seen {
    all: Vec<Assertion>,
    queries: BTreeMap<String, Declared>,
}

impl Seen {
    fn catch_up(&mut self, shared: &Shared, producer: &BaseProducer) {
        let declared = shared.declared.lock().unwrap().clone();
        for (name, made) in declared.into_iter().filter(|(_, declared)| declared.query.is_some()) {
            if !self.queries.contains_key(&name) {
                self.all.iter().for_each(|assertion| give(producer, &made, assertion));
                self.queries.insert(name, made);
            }
        }
    }

    fn next(&mut self, producer: &BaseProducer, assertion: Assertion) {
        self.queries.values().for_each(|made| give(producer, made, &assertion));
        self.all.push(assertion);
    }
}

fn give(producer: &BaseProducer, stream: &Declared, Assertion { place: (partition, offset), key, row }: &Assertion) {
    if stream.from.get(partition).is_some_and(|from| offset < from) {
        return;
    }
    match &stream.query {
        Some(Query::Select { columns, condition }) if holds(condition, row) => {
            let out: Map<String, Value> = columns
                .iter()
                .skip(1)
                .map(|(column, alias)| (alias.clone(), row.get(column).cloned().unwrap_or(Value::Null)))
                .collect();
            produce(producer, &stream.topic, key, Some(&Value::Object(out)));
        }
        Some(Query::Tombstones { condition }) if holds(condition, row) => produce(producer, &stream.topic, key, None),
        Some(Query::Repartition) => {
            let id = row.get("ID").and_then(Value::as_str).unwrap_or_default();
            let get = |column: &str| row.get(column).cloned().unwrap_or(Value::Null);
            let out = json!({
                "ASSET_UUID": key, "ID": id, "VALUE": get("VALUE"), "TYPE": get("TYPE"), "TAG": get("TAG"),
                "TIMESTAMP": row.get("ATTRIBUTES").and_then(|found| found.get("timestamp")),
            });
            produce(producer, &stream.topic, &format!("{key}|{id}"), Some(&out));
        }
        Some(Query::Select { .. } | Query::Tombstones { .. } | Query::Rows { .. } | Query::Unfollowed) | None => {}
    }
}

/// Keeps the row of a message, and hands it out.
fn take(shared: &Shared, topic: &str, key: &str, payload: Option<&[u8]>, time: i64) -> Option<Row> {
    let value: Option<Map<String, Value>> = payload.and_then(|payload| serde_json::from_slice(payload).ok());
    let declared = shared.declared.lock().unwrap().clone();
    let (_, source) = declared
        .iter()
        .find(|(_, declared)| declared.topic == topic && declared.query.is_none())
        .or_else(|| declared.iter().find(|(_, declared)| declared.topic == topic))?;
    let Some(value) = value else {
        // A tombstone deletes a row of a table; a stream passes over it.
        shared.rows.lock().unwrap().entry(topic.to_owned()).or_default().remove(key);
        return None;
    };
    let mut row: Row = value.into_iter().map(|(name, value)| (name.to_uppercase(), value)).collect();
    for (column, kind) in &source.columns {
        // A number or truth value in a text column becomes text, as the server's JSON format has it.
        if kind == "STRING"
            && let Some(value) = row.get_mut(column)
            && !matches!(value, Value::String(_) | Value::Null)
        {
            *value = Value::String(value.to_string());
        }
        // So do the values of a map of texts.
        if let (true, Some(Value::Object(map))) = (kind == "MAP", row.get_mut(column)) {
            for value in map.values_mut().filter(|value| !matches!(value, Value::String(_) | Value::Null)) {
                *value = Value::String(value.to_string());
            }
        }
        if kind == "INTEGER"
            && let Some(number) = row.get(column).and_then(Value::as_str).and_then(|text| text.parse::<i64>().ok())
        {
            row.insert(column.clone(), json!(number));
        }
    }
    row.insert(source.columns[0].0.clone(), json!(key));
    row.insert("ROWTIME".into(), json!(time));
    shared.rows.lock().unwrap().entry(topic.to_owned()).or_default().insert(key.to_owned(), row.clone());
    Some(row)
}

fn produce(producer: &BaseProducer, topic: &str, key: &str, value: Option<&Value>) {
    let text = value.map(Value::to_string);
    let record = BaseRecord::to(topic).key(key);
    let record = match &text {
        Some(text) => record.payload(text),
        None => record,
    };
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.poll(Duration::ZERO);
}
