//! A stand-in for ksqlDB: its documented wire format over the real topics of a real broker.
//!
//! What it does as the server does: `/ksql` and `/query` with `application/vnd.ksql.v1+json`, `CREATE STREAM`,
//! `CREATE TABLE`, `CREATE SOURCE TABLE`, `… AS SELECT` in the forms that OpenFactory uses, `DESCRIBE … EXTENDED`,
//! `SHOW STREAMS`, pull queries with `=`, `!=`, `AND`-free `OR` conditions. Unknown statements, sources, columns
//! and malformed SQL are errors. Streams made by a query write to their topics through the broker; tables are
//! built from the topics, tombstones delete rows, and everything follows with a lag.
//!
//! What it cannot prove: that the real server takes our `CREATE` statements (it checks their form, not ksqlDB's
//! whole grammar and type rules), its timing under load, its behaviour while tables are rebuilt or fail over,
//! and joins, windows and push queries, which it does not have.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "support for tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

type Row = BTreeMap<String, Value>;

/// A stream or table.
#[derive(Clone)]
struct Declared {
    table: bool,
    /// Pull queries are answered: made by a query, or a source table.
    materialised: bool,
    topic: String,
    /// Name and type; the first is the key.
    columns: Vec<(String, String)>,
    /// For what is made by a query.
    query: Option<Query>,
}

/// What a persistent query does, by its form.
#[derive(Clone)]
enum Query {
    /// `SELECT KEY, LATEST_BY_OFFSET(…) … GROUP BY KEY`, or `SELECT * FROM table`: rows of another topic.
    Rows { of: String },
    /// A stream of chosen rows, written to its own topic under the same key.
    Select { columns: Vec<(String, String)>, condition: Vec<Vec<Term>> },
    /// `PARTITION BY CONCAT(key, '|', ID)`.
    Repartition,
}

/// `COLUMN = 'text'` or `COLUMN != 'text'`.
#[derive(Clone)]
struct Term {
    column: String,
    equal: bool,
    text: String,
}

/// What goes wrong on demand.
#[derive(Default)]
pub(crate) struct Faults {
    /// Milliseconds that tables lie behind their topics.
    pub(crate) lag: AtomicU64,
    /// This many of the next requests are answered with `status`.
    pub(crate) failing: AtomicUsize,
    /// The status for failing requests.
    pub(crate) status: AtomicU16,
    /// Answers stop half-way.
    pub(crate) cut: AtomicBool,
    /// Queries never answer.
    pub(crate) hang: AtomicBool,
    /// Queries answer without rows.
    pub(crate) empty: AtomicBool,
    /// Requests without these Basic credentials are refused.
    pub(crate) credentials: Mutex<Option<String>>,
}

struct Shared {
    brokers: String,
    declared: Mutex<BTreeMap<String, Declared>>,
    /// Rows by topic and key.
    rows: Mutex<BTreeMap<String, BTreeMap<String, Row>>>,
    faults: Arc<Faults>,
    stop: AtomicBool,
}

/// A running stand-in; dropping it ends it.
pub(crate) struct Ksqldb {
    shared: Arc<Shared>,
    port: u16,
    server: tokio::task::JoinHandle<()>,
    follower: Option<JoinHandle<()>>,
}

impl Ksqldb {
    /// Starts on a free port of loopback.
    pub(crate) async fn start(brokers: &str) -> Ksqldb {
        let shared = Arc::new(Shared {
            brokers: brokers.to_owned(),
            declared: Mutex::default(),
            rows: Mutex::default(),
            faults: Arc::default(),
            stop: AtomicBool::new(false),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app =
            Router::new().route("/ksql", post(statement)).route("/query", post(query)).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let following = Arc::clone(&shared);
        let follower = Some(std::thread::spawn(move || follow(&following)));
        Ksqldb { shared, port, server, follower }
    }

    /// The address.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What goes wrong on demand.
    pub(crate) fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The rows of a table as they are now, by key.
    pub(crate) fn table(&self, name: &str) -> BTreeMap<String, Row> {
        let topic = self.shared.declared.lock().unwrap().get(name).map(|declared| rows_of(name, declared));
        topic.and_then(|topic| self.shared.rows.lock().unwrap().get(&topic).cloned()).unwrap_or_default()
    }

    /// Drops a row from a table behind everybody's back.
    pub(crate) fn lose(&self, table: &str, key: &str) {
        let topic = rows_of(table, &self.shared.declared.lock().unwrap()[table]);
        self.shared.rows.lock().unwrap().get_mut(&topic).unwrap().remove(key).unwrap();
    }
}

impl Drop for Ksqldb {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.server.abort();
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
    }
}

// --------------------------------------------------------------------------------------------------- HTTP

struct Refusal(StatusCode, i64, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let kind = if self.1 == 40001 { "statement_error" } else { "generic_error" };
        let body = json!({"@type": kind, "error_code": self.1, "message": self.2, "new_in_some_version": {}});
        (self.0, body.to_string()).into_response()
    }
}

fn malformed(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, 40001, message.into())
}

/// Checks what every request must have and hands out the SQL.
fn admit(shared: &Shared, headers: &HeaderMap, body: &Bytes) -> Result<String, Refusal> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(wanted) = &*shared.faults.credentials.lock().unwrap()
        && header("authorization") != wanted
    {
        return Err(Refusal(StatusCode::UNAUTHORIZED, 40100, "authentication required".into()));
    }
    let failing = &shared.faults.failing;
    if failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        let status = StatusCode::from_u16(shared.faults.status.load(Ordering::SeqCst)).unwrap();
        return Err(Refusal(status, i64::from(status.as_u16()) * 100 + 2, "on demand".into()));
    }
    if header("accept") != "application/vnd.ksql.v1+json" {
        return Err(Refusal(StatusCode::NOT_ACCEPTABLE, 40600, "another Accept is the delimited format".into()));
    }
    let request: Value = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    let sql = request["ksql"].as_str().ok_or_else(|| malformed("no ksql in the request"))?.trim().to_owned();
    match sql.strip_suffix(';') {
        Some(one) if !outside_quotes(one).contains(';') => Ok(one.to_owned()),
        _ => Err(malformed("one statement with a semicolon is expected")),
    }
}

fn outside_quotes(sql: &str) -> String {
    sql.split('\'').step_by(2).collect::<Vec<_>>().join("''")
}

async fn statement(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let sql = admit(&shared, &headers, &body)?;
    let tokens = tokens(&sql)?;
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["SHOW", "STREAMS"] => {
            let names: Vec<Value> = shared
                .declared
                .lock()
                .unwrap()
                .iter()
                .filter(|(_, declared)| !declared.table)
                .map(|(name, declared)| json!({"type": "STREAM", "name": name, "topic": declared.topic}))
                .collect();
            Ok(json!([{"@type": "streams", "statementText": sql, "streams": names}]).to_string().into_response())
        }
        ["DESCRIBE", name, "EXTENDED"] => {
            let declared = shared.declared.lock().unwrap();
            let found = declared
                .get(name.trim_matches('`'))
                .ok_or_else(|| malformed(format!("Could not find STREAM/TABLE '{name}' in the Metastore")))?;
            let description = json!({
                "name": name.trim_matches('`'),
                "type": if found.table { "TABLE" } else { "STREAM" },
                "topic": found.topic,
                "keyFormat": "KAFKA",
                "valueFormat": "JSON",
                "partitions": 1,
            });
            let answer = json!([{"@type": "sourceDescription", "sourceDescription": description, "warnings": []}]);
            Ok(answer.to_string().into_response())
        }
        ["CREATE", ..] => {
            create(&shared, &words).await?;
            let status = json!({"status": "SUCCESS", "message": "created", "queryId": null});
            Ok(json!([{"@type": "currentStatus", "commandStatus": status}]).to_string().into_response())
        }
        ["SELECT", ..] => Err(Refusal(StatusCode::BAD_REQUEST, 40002, "use the /query endpoint".into())),
        _ => Err(malformed(format!("mismatched input '{}'", words.first().unwrap_or(&"")))),
    }
}

async fn query(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let sql = admit(&shared, &headers, &body)?;
    if shared.faults.hang.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let mut text = answer(&shared, &sql)?;
    if shared.faults.cut.load(Ordering::SeqCst) {
        text.truncate(text.len() / 2);
    }
    Ok(Response::builder().header("content-type", "application/vnd.ksql.v1+json").body(Body::from(text)).unwrap())
}

fn answer(shared: &Shared, sql: &str) -> Result<String, Refusal> {
    let tokens = tokens(sql)?;
    let words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let [first, rest @ ..] = words.as_slice() else { return Err(malformed("empty")) };
    let from = rest.iter().position(|word| *word == "FROM").ok_or_else(|| malformed("FROM is missing"))?;
    let name = rest.get(from + 1).ok_or_else(|| malformed("no source"))?;
    if *first != "SELECT" {
        return Err(malformed(format!("mismatched input '{first}'")));
    }
    let declared = shared.declared.lock().unwrap();
    let found = declared.get(*name).ok_or_else(|| malformed(format!("{name} does not exist")))?.clone();
    drop(declared);
    if !found.materialised {
        return Err(malformed(format!("The {name} table isn't queryable")));
    }
    let known = |column: &str| {
        if column == "ROWTIME" {
            return Ok(("ROWTIME".to_owned(), "BIGINT".to_owned()));
        }
        found
            .columns
            .iter()
            .find(|(name, _)| name == column)
            .cloned()
            .ok_or_else(|| malformed(format!("Column '{column}' cannot be resolved")))
    };
    let mut columns: Vec<(String, String)> = Vec::new();
    for part in rest[..from].split(|word| *word == ",") {
        match part {
            ["*"] => columns.extend(found.columns.clone()),
            [column] => columns.push(known(column)?),
            _ => return Err(malformed("columns are names here")),
        }
    }
    let condition = match &rest[from + 2..] {
        [] => Vec::new(),
        ["WHERE", terms @ ..] => condition(terms)?,
        [word, ..] => return Err(malformed(format!("mismatched input '{word}'"))),
    };
    for term in condition.iter().flatten() {
        known(&term.column)?;
    }
    let key = &found.columns[0].0;
    let schema: Vec<String> = columns
        .iter()
        .map(|(column, kind)| format!("`{column}` {kind}{}", if column == key { " KEY" } else { "" }))
        .collect();
    let header = json!({"header": {"queryId": "q", "schema": schema.join(", ")}});
    let mut text = format!("[{header}");
    let rows = shared.rows.lock().unwrap();
    let empty = shared.faults.empty.load(Ordering::SeqCst);
    for row in rows.get(&rows_of(name, &found)).into_iter().flat_map(BTreeMap::values).filter(|_| !empty) {
        if holds(&condition, row) {
            let values: Vec<&Value> =
                columns.iter().map(|(column, _)| row.get(column).unwrap_or(&Value::Null)).collect();
            text.push_str(&format!(",\n{}", json!({"row": {"columns": values}})));
        }
    }
    text.push_str("]\n");
    Ok(text)
}

// ---------------------------------------------------------------------------------------------- statements

/// Splits SQL into words: names in capitals, texts with their quotes, single marks.
fn tokens(sql: &str) -> Result<Vec<String>, Refusal> {
    let mut words = Vec::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '\'' | '`' => {
                let mut word = String::from(c);
                loop {
                    match chars.next() {
                        None => return Err(malformed("a text does not end")),
                        Some(end) if end == c && chars.next_if_eq(&c).is_none() => break,
                        Some(inside) => word.push(inside),
                    }
                }
                word.push(c);
                words.push(word);
            }
            '!' if chars.next_if_eq(&'=').is_some() => words.push("!=".into()),
            ',' | '(' | ')' | '<' | '>' | '=' | '*' | '[' | ']' => words.push(c.into()),
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(more) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(more);
                }
                words.push(word.to_uppercase());
            }
            other => return Err(malformed(format!("extraneous input '{other}'"))),
        }
    }
    Ok(words)
}

/// `A = 'x' OR (B = 'y') AND …`: alternatives of terms that must all hold.
fn condition(words: &[&str]) -> Result<Vec<Vec<Term>>, Refusal> {
    let flat: Vec<&str> = words.iter().copied().filter(|word| !matches!(*word, "(" | ")")).collect();
    // `(A OR B) AND C` means A AND C or B AND C; this is the one form with parentheses that is used.
    let distributed = words.first() == Some(&"(") && words.contains(&"AND");
    let alternatives = if distributed {
        let and = flat.iter().position(|word| *word == "AND").unwrap();
        let (either, both) = (&flat[..and], &flat[and + 1..]);
        either.split(|word| *word == "OR").map(|part| [part, &["AND"], both].concat()).collect()
    } else {
        flat.split(|word| *word == "OR").map(<[&str]>::to_vec).collect::<Vec<_>>()
    };
    alternatives
        .iter()
        .map(|alternative| {
            alternative
                .split(|word| *word == "AND")
                .map(|term| match term {
                    [column, sign @ ("=" | "!="), text] if text.starts_with('\'') => Ok(Term {
                        column: (*column).to_owned(),
                        equal: *sign == "=",
                        text: text.trim_matches('\'').to_owned(),
                    }),
                    _ => Err(malformed(format!("odd condition {term:?}"))),
                })
                .collect()
        })
        .collect()
}

fn holds(condition: &[Vec<Term>], row: &Row) -> bool {
    let term = |term: &Term| {
        row.get(&term.column).and_then(Value::as_str).is_some_and(|text| (text == term.text) == term.equal)
    };
    condition.is_empty() || condition.iter().any(|all| all.iter().all(term))
}

async fn create(shared: &Shared, words: &[&str]) -> Result<(), Refusal> {
    let mut rest = &words[1..];
    let mut take = |expected: &[&str]| {
        let taken = rest.starts_with(expected);
        if taken {
            rest = &rest[expected.len()..];
        }
        taken
    };
    let source = take(&["SOURCE"]);
    let table = match (take(&["STREAM"]), take(&["TABLE"])) {
        (true, false) => false,
        (false, true) => true,
        _ => return Err(malformed("STREAM or TABLE is expected")),
    };
    take(&["IF", "NOT", "EXISTS"]);
    let [name, rest @ ..] = rest else { return Err(malformed("a name is expected")) };
    if shared.declared.lock().unwrap().contains_key(*name) {
        return Ok(());
    }
    let select = rest.iter().position(|word| *word == "AS").filter(|at| rest.get(at + 1) == Some(&"SELECT"));
    let options = options(&rest[..select.unwrap_or(rest.len())])?;
    let made = match select {
        None => {
            let columns = columns(rest)?;
            let topic = options.get("KAFKA_TOPIC").cloned().ok_or_else(|| malformed("KAFKA_TOPIC is missing"))?;
            Declared { table, materialised: source, topic, columns, query: None }
        }
        Some(at) => of_query(shared, name, table, &options, &rest[at + 2..])?,
    };
    if !made.topic.is_empty() {
        make_topic(&shared.brokers, &made.topic).await;
    }
    shared.declared.lock().unwrap().insert((*name).to_owned(), made);
    Ok(())
}

fn of_query(
    shared: &Shared,
    name: &str,
    table: bool,
    options: &BTreeMap<String, String>,
    words: &[&str],
) -> Result<Declared, Refusal> {
    let from = words.iter().position(|word| *word == "FROM").ok_or_else(|| malformed("FROM is missing"))?;
    let of = words.get(from + 1).ok_or_else(|| malformed("no source"))?;
    let parent =
        shared.declared.lock().unwrap().get(*of).cloned().ok_or_else(|| malformed(format!("{of} does not exist")))?;
    let tail = &words[from + 2..];
    let Some((&"CHANGES", tail)) = tail.split_last() else { return Err(malformed("EMIT CHANGES is expected")) };
    let Some((&"EMIT", tail)) = tail.split_last() else { return Err(malformed("EMIT CHANGES is expected")) };
    let topic = options.get("KAFKA_TOPIC").cloned().unwrap_or_else(|| name.to_owned());
    if table {
        let copies = words[..from] == ["*"] && parent.table && tail.is_empty();
        let groups = words.contains(&"LATEST_BY_OFFSET") && tail == ["GROUP", "BY", "KEY"];
        if !copies && !groups {
            return Err(malformed("this table cannot be made here"));
        }
        let query = Some(Query::Rows { of: parent.topic.clone() });
        return Ok(Declared { table, materialised: true, topic: String::new(), columns: parent.columns, query });
    }
    if tail.starts_with(&["PARTITION", "BY", "CONCAT"]) {
        let columns = ["KEY", "ASSET_UUID", "ID", "VALUE", "TYPE", "TAG", "TIMESTAMP"]
            .map(|column| (column.to_owned(), "STRING".to_owned()))
            .to_vec();
        return Ok(Declared { table, materialised: false, topic, columns, query: Some(Query::Repartition) });
    }
    let condition = match tail {
        ["WHERE", terms @ ..] => condition(terms)?,
        _ => return Err(malformed("WHERE is expected")),
    };
    let mut columns = Vec::new();
    for part in words[..from].split(|word| *word == ",") {
        match part {
            [column] => columns.push(((*column).to_owned(), (*column).to_owned())),
            [column, "AS", alias] => columns.push(((*column).to_owned(), (*alias).to_owned())),
            _ => return Err(malformed("columns are names here")),
        }
    }
    for column in columns.iter().map(|(column, _)| column).chain(condition.iter().flatten().map(|term| &term.column)) {
        if !parent.columns.iter().any(|(name, _)| name == column) {
            return Err(malformed(format!("Column '{column}' cannot be resolved")));
        }
    }
    let declared = columns.iter().map(|(_, alias)| (alias.clone(), "STRING".to_owned())).collect();
    let query = Some(Query::Select { columns, condition });
    Ok(Declared { table, materialised: false, topic, columns: declared, query })
}

/// `(NAME TYPE KEY, …)`.
fn columns(words: &[&str]) -> Result<Vec<(String, String)>, Refusal> {
    let mut columns = Vec::new();
    let (mut depth, mut column): (usize, Vec<&str>) = (0, Vec::new());
    for word in words {
        match *word {
            "(" if depth == 0 => depth = 1,
            "<" => depth += 1,
            ">" => depth -= 1,
            ")" | "," if depth == 1 => {
                let [name, kind, ..] = column.as_slice() else { return Err(malformed("a column needs a type")) };
                columns.push(((*name).to_owned(), (*kind).replace("VARCHAR", "STRING")));
                column.clear();
                if *word == ")" {
                    return Ok(columns);
                }
                continue;
            }
            _ => {}
        }
        if depth > 0 && !matches!(*word, "(") {
            column.push(word);
        }
    }
    Err(malformed("columns are expected"))
}

/// `WITH (NAME='value', NAME=value)`.
fn options(words: &[&str]) -> Result<BTreeMap<String, String>, Refusal> {
    let Some(with) = words.iter().position(|word| *word == "WITH") else { return Ok(BTreeMap::new()) };
    let inside = words[with + 1..]
        .strip_prefix(&["("])
        .and_then(|rest| rest.strip_suffix(&[")"]))
        .ok_or_else(|| malformed("options are expected in parentheses"))?;
    inside
        .split(|word| *word == ",")
        .map(|option| match option {
            [name @ ("KAFKA_TOPIC" | "VALUE_FORMAT" | "KEY_FORMAT" | "PARTITIONS"), "=", value] => {
                Ok(((*name).to_owned(), value.trim_matches('\'').to_owned()))
            }
            _ => Err(malformed(format!("odd option {option:?}"))),
        })
        .collect()
}

async fn make_topic(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    // As the server does for streams: the broker's default policy, which is to delete.
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
}

// ------------------------------------------------------------------------------------------------- tables

/// Under which name the rows of a table are kept.
fn rows_of(name: &str, declared: &Declared) -> String {
    match &declared.query {
        Some(Query::Rows { of }) => of.clone(),
        _ if declared.topic.is_empty() => name.to_owned(),
        _ => declared.topic.clone(),
    }
}

/// Reads every topic from its beginning, keeps rows, and runs the queries that write streams.
fn follow(shared: &Shared) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &shared.brokers)
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let mut assigned = Vec::new();
    let mut consumer: Option<BaseConsumer> = None;
    let mut done: BTreeMap<String, i64> = BTreeMap::new();
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
                let offset = done.get(topic).map_or(Offset::Beginning, |last| Offset::Offset(last + 1));
                places.add_partition_offset(topic, 0, offset).unwrap();
            }
            made.assign(&places).unwrap();
            (consumer, assigned) = (Some(made), topics);
        }
        let Some(consumer) = &consumer else {
            std::thread::park_timeout(Duration::from_millis(20));
            continue;
        };
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else { continue };
        let lag = shared.faults.lag.load(Ordering::SeqCst);
        if lag > 0 {
            std::thread::park_timeout(Duration::from_millis(lag));
        }
        done.insert(message.topic().to_owned(), message.offset());
        let key = String::from_utf8(message.key().unwrap_or_default().to_vec()).unwrap();
        let time = message.timestamp().to_millis().unwrap_or_default();
        take(shared, &producer, message.topic(), &key, message.payload(), time);
    }
    let _ = producer.flush(Duration::from_secs(1));
}

fn take(shared: &Shared, producer: &BaseProducer, topic: &str, key: &str, payload: Option<&[u8]>, time: i64) {
    let value: Option<Map<String, Value>> = payload.and_then(|payload| serde_json::from_slice(payload).ok());
    let declared = shared.declared.lock().unwrap().clone();
    let Some((_, source)) = declared
        .iter()
        .find(|(_, declared)| declared.topic == topic && declared.query.is_none())
        .or_else(|| declared.iter().find(|(_, declared)| declared.topic == topic))
    else {
        return;
    };
    let Some(value) = value else {
        // A tombstone deletes a row of a table; a stream passes over it.
        shared.rows.lock().unwrap().entry(topic.to_owned()).or_default().remove(key);
        return;
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
        if kind == "INTEGER"
            && let Some(number) = row.get(column).and_then(Value::as_str).and_then(|text| text.parse::<i64>().ok())
        {
            row.insert(column.clone(), json!(number));
        }
    }
    row.insert(source.columns[0].0.clone(), json!(key));
    row.insert("ROWTIME".into(), json!(time));
    for stream in declared.values() {
        match &stream.query {
            Some(Query::Select { columns, condition }) if topic == "ofa_assets" && holds(condition, &row) => {
                let out: Map<String, Value> = columns
                    .iter()
                    .skip(1)
                    .map(|(column, alias)| (alias.clone(), row.get(column).cloned().unwrap_or(Value::Null)))
                    .collect();
                produce(producer, &stream.topic, key, &Value::Object(out));
            }
            Some(Query::Repartition) if topic == "ofa_assets" => {
                let id = row.get("ID").and_then(Value::as_str).unwrap_or_default();
                let get = |column: &str| row.get(column).cloned().unwrap_or(Value::Null);
                let out = json!({
                    "ASSET_UUID": key, "ID": id, "VALUE": get("VALUE"), "TYPE": get("TYPE"), "TAG": get("TAG"),
                    "TIMESTAMP": row.get("ATTRIBUTES").and_then(|found| found.get("timestamp")),
                });
                produce(producer, &stream.topic, &format!("{key}|{id}"), &out);
            }
            _ => {}
        }
    }
    shared.rows.lock().unwrap().entry(topic.to_owned()).or_default().insert(key.to_owned(), row);
}

fn produce(producer: &BaseProducer, topic: &str, key: &str, value: &Value) {
    let text = value.to_string();
    producer.send(BaseRecord::to(topic).key(key).payload(&text)).map_err(|(error, _)| error).unwrap();
    producer.poll(Duration::ZERO);
}
