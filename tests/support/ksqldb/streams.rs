//! Persistent queries: each follows its topics by itself, at its own pace, as each of the server's does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value};

use super::Shared;
use super::catalog::Source;
use super::eval::{self, Column, ROWTIME, Row, holds, value};
use super::sql::{Expr, Select};

/// How often the topics are looked at for further partitions.
const PARTITIONS_AGAIN: Duration = Duration::from_secs(1);
/// How long the broker may take to say which topics there are.
const ANSWER: Duration = Duration::from_secs(1);
/// Of 20 deletions 13 ended as a row `delete`: the query that derives the row came after the one that writes the
/// tombstone.
const ROW_LAST: (u64, u64) = (13, 20);

/// One message of a topic.
pub(super) struct Message {
    partition: i32,
    offset: i64,
    pub(super) key: Option<String>,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) time: i64,
    arrived: Instant,
}

/// A row of a table.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) row: Row,
    pub(super) partition: i32,
    /// When it was last written, among all rows.
    pub(super) order: u64,
}

pub(super) type Store = BTreeMap<String, Kept>;

/// What a query reads.
pub(super) struct Input {
    pub(super) source: String,
    pub(super) topic: String,
    columns: Vec<Column>,
    keyed: bool,
    table: bool,
    /// Where it begins, by partition; from the beginning where nothing is said.
    pub(super) from: BTreeMap<i32, i64>,
    read: usize,
    /// The rows of a table so far, for joins and lists.
    rows: BTreeMap<String, Row>,
    /// Their keys by the group that they belong to.
    members: BTreeMap<String, BTreeSet<String>>,
}

impl Input {
    pub(super) fn new(source: &Source) -> Input {
        Input {
            source: source.name.clone(),
            topic: source.topic.clone(),
            columns: source.columns.clone(),
            keyed: source.keyed,
            table: source.table,
            from: BTreeMap::new(),
            read: 0,
            rows: BTreeMap::new(),
            members: BTreeMap::new(),
        }
    }
}

/// What a query does.
#[derive(Clone)]
pub(super) enum Plan {
    /// The rows of a source table.
    Materialise,
    /// A stream or table made of others.
    Query {
        select: Box<Select>,
        items: Vec<(String, Expr)>,
        table: bool,
        topic: String,
        /// Its value is one column in the format KAFKA, where null is a tombstone.
        null_value: bool,
    },
}

pub(super) struct Running {
    /// The stream or table that it makes.
    name: String,
    /// Whether it keeps rows, which can be asked for.
    keeps: bool,
    plan: Plan,
    inputs: Vec<Input>,
}

impl Running {
    pub(super) fn new(name: String, keeps: bool, plan: Plan, inputs: Vec<Input>) -> Running {
        Running { name, keeps, plan, inputs }
    }
}

/// Reads every topic from its beginning and runs the queries, until the server ends.
pub(super) fn follow(shared: &Shared) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &shared.brokers)
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "2")
        .create()
        .unwrap();
    let mut reading = Reading::default();
    let mut order = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        reading.assign(shared);
        let mut moved = reading.take(shared);
        // Two queries that write one topic race: neither waits for the other.
        let mut running = shared.running.lock().unwrap();
        let backwards = shared.faults.row_last(ROW_LAST);
        let count = running.len();
        for index in 0..count {
            let at = if backwards { count - 1 - index } else { index };
            moved |= pump(shared, &producer, &mut running[at], &mut order);
        }
        drop(running);
        producer.poll(Duration::ZERO);
        if !moved {
            reading.wait();
        }
    }
    let _ = producer.flush(Duration::from_secs(1));
}

/// The consumer of all topics.
#[derive(Default)]
struct Reading {
    consumer: Option<BaseConsumer>,
    places: BTreeSet<(String, i32)>,
    topics: BTreeSet<String>,
    next: BTreeMap<(String, i32), i64>,
    looked: Option<Instant>,
    taken: Option<(String, Message)>,
}

impl Reading {
    /// Follows the topics of all sources, and partitions that were added to them.
    fn assign(&mut self, shared: &Shared) {
        let topics: BTreeSet<String> = {
            let catalog = shared.catalog.lock().unwrap();
            // What was there before anybody made something has no topic here.
            let made = catalog.sources.values().filter(|source| !source.statement.is_empty());
            made.map(|source| source.topic.clone()).collect()
        };
        let due = self.looked.is_none_or(|looked| looked.elapsed() > PARTITIONS_AGAIN);
        if topics == self.topics && !due {
            return;
        }
        self.looked = Some(Instant::now());
        // One question about all topics: the broker may be away, and whoever waits for this thread then must not.
        let Ok(metadata) = shared.reader.fetch_metadata(None, ANSWER) else { return };
        let found = metadata.topics().iter().filter(|topic| topics.contains(topic.name()));
        let assigned: BTreeSet<(String, i32)> = found
            .flat_map(|topic| topic.partitions().iter().map(|partition| (topic.name().to_owned(), partition.id())))
            .collect();
        if assigned == self.places {
            self.topics = topics;
            return;
        }
        let made: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &shared.brokers)
            .set("group.id", "stand-in")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let mut places = TopicPartitionList::new();
        for (topic, partition) in &assigned {
            let next = self.next.get(&(topic.clone(), *partition));
            let offset = next.map_or(Offset::Beginning, |next| Offset::Offset(*next));
            places.add_partition_offset(topic, *partition, offset).unwrap();
        }
        made.assign(&places).unwrap();
        let known: BTreeSet<&str> = assigned.iter().map(|(topic, _)| topic.as_str()).collect();
        // A topic that the broker does not show yet is looked for again soon.
        let pending = topics.iter().any(|topic| !known.contains(topic.as_str()));
        (self.consumer, self.topics) = (Some(made), if pending { BTreeSet::new() } else { topics });
        self.places = assigned;
    }

    /// Takes what has come; whether there was something.
    fn take(&mut self, shared: &Shared) -> bool {
        let mut found = Vec::from_iter(self.taken.take());
        while found.len() < 1000
            && let Some(message) = self.poll(Duration::ZERO)
        {
            found.push(message);
        }
        let any = !found.is_empty();
        let mut logs = shared.logs.lock().unwrap();
        for (topic, message) in found {
            self.next.insert((topic.clone(), message.partition), message.offset + 1);
            logs.entry(topic).or_default().push(Arc::new(message));
        }
        any
    }

    fn wait(&mut self) {
        self.taken = self.poll(Duration::from_millis(10));
    }

    fn poll(&self, patience: Duration) -> Option<(String, Message)> {
        let Some(consumer) = &self.consumer else {
            std::thread::park_timeout(patience);
            return None;
        };
        let message = consumer.poll(patience)?.ok()?;
        let key = message.key().map(|key| String::from_utf8_lossy(key).into_owned());
        let taken = Message {
            partition: message.partition(),
            offset: message.offset(),
            key,
            payload: message.payload().map(<[u8]>::to_vec),
            time: message.timestamp().to_millis().unwrap_or_default(),
            arrived: Instant::now(),
        };
        Some((message.topic().to_owned(), taken))
    }
}

/// Lets a query take what has come for it; whether there was something.
fn pump(shared: &Shared, producer: &BaseProducer, running: &mut Running, order: &mut u64) -> bool {
    let lag = shared.faults.lag_of(&running.name);
    let mut moved = false;
    // Tables first: a stream that is joined to one should find its row.
    for side in (0..running.inputs.len()).rev() {
        let topic = running.inputs[side].topic.clone();
        let new: Vec<Arc<Message>> = {
            let logs = shared.logs.lock().unwrap();
            let log = logs.get(&topic).map(Vec::as_slice).unwrap_or_default();
            let ripe = |message: &&Arc<Message>| lag.is_zero() || message.arrived.elapsed() >= lag;
            log[running.inputs[side].read..].iter().take_while(ripe).cloned().collect()
        };
        running.inputs[side].read += new.len();
        moved |= !new.is_empty();
        for message in new {
            if running.inputs[side].from.get(&message.partition).is_some_and(|from| message.offset < *from) {
                continue;
            }
            let changes = step(running, side, &message);
            *order += 1;
            write(shared, producer, running, &message, changes, *order);
        }
    }
    moved
}

/// Rows that come of a message: a key, and the row or its end.
type Changes = Vec<(Option<String>, Option<Row>)>;

fn step(running: &mut Running, side: usize, message: &Message) -> Changes {
    let Running { plan, inputs, .. } = running;
    let input = &mut inputs[side];
    let key_at = if input.keyed { 0 } else { usize::MAX };
    let row = match &message.payload {
        Some(payload) => match eval::row(&input.columns, key_at, message.key.as_deref(), payload, message.time) {
            Some(row) => Some(row),
            None => return Vec::new(),
        },
        None => None,
    };
    if input.table && message.key.is_none() || (!input.table && row.is_none()) {
        return Vec::new();
    }
    let Plan::Query { select, items, table, .. } = plan else { return vec![(message.key.clone(), row)] };
    let alias = select.alias.clone();
    let project = |scope: &eval::Scope<'_>| -> Option<Row> {
        if select.condition.as_ref().is_some_and(|condition| !holds(condition, scope)) {
            return None;
        }
        let mut row: Row = items.iter().map(|(name, expr)| (name.clone(), value(expr, scope))).collect();
        row.insert(ROWTIME.into(), message.time.into());
        Some(row)
    };
    let key_of = |row: &Row| row[&items[0].0].as_str().map(str::to_owned);
    let old = message.key.as_ref().and_then(|key| input.rows.get(key).cloned());
    let remembers = input.table && (select.join.is_some() || select.group_by.is_some());
    if remembers && let Some(key) = &message.key {
        match &row {
            Some(row) => drop(input.rows.insert(key.clone(), row.clone())),
            None => drop(input.rows.remove(key)),
        }
    }
    if let Some(join) = &select.join {
        let (left, right) = inputs.split_at(1);
        let (left, right) = (&left[0], &right[0]);
        let joined = |row: &Row| {
            let place = value(&join.left, &[(&alias, row)]);
            let nothing = Row::new();
            let other = place.as_str().and_then(|place| right.rows.get(place)).unwrap_or(&nothing);
            project(&[(&alias, row), (&join.alias, other)])
        };
        return match (side, *table, row) {
            (0, false, Some(row)) => joined(&row).into_iter().map(|row| (key_of(&row), Some(row))).collect(),
            (0, false, None) | (1, false, _) => Vec::new(),
            (0, true, row) => vec![(message.key.clone(), row.and_then(|row| joined(&row)))],
            (_, true, _) => {
                let touched = left
                    .rows
                    .iter()
                    .filter(|(_, row)| value(&join.left, &[(&alias, row)]).as_str() == message.key.as_deref());
                touched.map(|(key, row)| (Some(key.clone()), joined(row))).collect()
            }
            (_, false, _) => Vec::new(),
        };
    }
    if let (Some(by), true) = (&select.group_by, input.table) {
        let group = |row: &Row| value(by, &[(&alias, row)]).as_str().map(str::to_owned);
        if let Some(key) = &message.key {
            if let Some(left) = old.as_ref().and_then(group).and_then(|group| input.members.get_mut(&group)) {
                left.remove(key);
            }
            if let Some(joined) = row.as_ref().and_then(group) {
                input.members.entry(joined).or_default().insert(key.clone());
            }
        }
        let touched: BTreeSet<String> = [old.as_ref(), row.as_ref()].into_iter().flatten().filter_map(group).collect();
        let whole = |of: &String| {
            let keys = input.members.get(of).into_iter().flatten();
            let members: Vec<&Row> = keys.filter_map(|key| input.rows.get(key)).collect();
            let first = project(&[(&alias, *members.first()?)])?;
            Some(
                items
                    .iter()
                    .map(|(name, expr)| match expr {
                        Expr::Call(function, arguments) if function == "COLLECT_LIST" => {
                            let list: Vec<Value> =
                                members.iter().map(|row| value(&arguments[0], &[(&alias, row)])).collect();
                            (name.clone(), Value::from(list))
                        }
                        _ => (name.clone(), first[name].clone()),
                    })
                    .chain([(ROWTIME.to_owned(), message.time.into())])
                    .collect(),
            )
        };
        return touched.iter().map(|group| (Some(group.clone()), whole(group))).collect();
    }
    match row {
        Some(row) => match project(&[(&alias, &row)]) {
            Some(made) if select.partition_by.is_some() || select.group_by.is_some() => {
                vec![(key_of(&made), Some(made))]
            }
            Some(made) => vec![(message.key.clone(), Some(made))],
            None if *table => vec![(message.key.clone(), None)],
            None => Vec::new(),
        },
        None => vec![(message.key.clone(), None)],
    }
}

fn write(shared: &Shared, producer: &BaseProducer, running: &Running, message: &Message, changes: Changes, order: u64) {
    for (key, mut row) in changes {
        if let (true, Some(key)) = (running.keeps, &key) {
            let mut stores = shared.stores.lock().unwrap();
            let store = stores.entry(running.name.clone()).or_default();
            match &mut row {
                Some(row) => {
                    // The latest value that is not null.
                    if let (Plan::Query { items, .. }, Some(before)) = (&running.plan, store.get(key)) {
                        for (name, expr) in items {
                            let latest = matches!(expr, Expr::Call(function, _) if function == "LATEST_BY_OFFSET");
                            if latest && row[name].is_null() {
                                row.insert(name.clone(), before.row[name].clone());
                            }
                        }
                    }
                    let kept = Kept { row: row.clone(), partition: message.partition, order };
                    store.insert(key.clone(), kept);
                }
                None if store.remove(key).is_none() => continue,
                None => {}
            }
        }
        let Plan::Query { items, topic, null_value, table, .. } = &running.plan else { continue };
        if key.is_none() && *table {
            continue;
        }
        let payload = row.as_ref().and_then(|row| {
            let fields: Map<String, Value> =
                items.iter().skip(1).map(|(name, _)| (name.clone(), row[name].clone())).collect();
            let null = *null_value && fields.values().all(Value::is_null);
            (!null).then(|| Value::Object(fields).to_string())
        });
        produce(producer, topic, key.as_deref(), payload.as_deref(), message.time);
    }
}

pub(super) fn produce(producer: &BaseProducer, topic: &str, key: Option<&str>, payload: Option<&str>, time: i64) {
    loop {
        let mut record = BaseRecord::<str, str>::to(topic).timestamp(time);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        match producer.send(record) {
            Ok(()) => return,
            Err((error, _)) if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) => {
                producer.poll(Duration::from_millis(5));
            }
            // The topic was deleted under the query.
            Err(_) => return,
        }
    }
}
