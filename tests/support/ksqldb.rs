//! A stand-in for ksqlDB: its documented wire format over the real topics of a real broker.
//!
//! What it does as the server does: `/ksql` and `/query` with `application/vnd.ksql.v1+json`, `CREATE STREAM`,
//! `CREATE TABLE`, `CREATE SOURCE TABLE`, `… AS SELECT` in the forms that OpenFactory uses, `DESCRIBE … EXTENDED`,
//! `SHOW STREAMS`, pull queries with `=`, `!=`, `AND`-free `OR` conditions. Unknown statements, sources, columns
//! and malformed SQL are errors. Streams made by a query write to their topics through the broker, from what comes
//! after they were made unless the request says `earliest`; tables are built from the topics, tombstones delete rows,
//! and everything follows with a lag. A topic that exists must have the partitions and the retention that a statement
//! asks for.
//!
//! What it cannot prove: that the real server takes our `CREATE` statements (it checks their form, not ksqlDB's
//! whole grammar and type rules), its timing under load, its behaviour while tables are rebuilt or fail over.
//! Joins and `COLLECT_LIST` are checked in their form, and have no rows. It has no windows and no push queries.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "support for tests")]

#[path = "ksqldb/declared.rs"]
mod declared;
#[path = "ksqldb/follow.rs"]
mod follow;
#[path = "ksqldb/sql.rs"]
mod sql;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use declared::{Declared, create, rows_of};
use follow::follow;
use sql::{condition, holds, tokens};

type Row = BTreeMap<String, Value>;

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

    /// Where it listens.
    pub(crate) fn socket(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
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
fn admit(shared: &Shared, headers: &HeaderMap, body: &Bytes) -> Result<(String, Value), Refusal> {
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
    let mut request: Value = serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    let properties = request["streamsProperties"].take();
    let sql = request["ksql"].as_str().ok_or_else(|| malformed("no ksql in the request"))?.trim().to_owned();
    match sql.strip_suffix(';') {
        Some(one) if !outside_quotes(one).contains(';') => Ok((one.to_owned(), properties)),
        _ => Err(malformed("one statement with a semicolon is expected")),
    }
}

fn outside_quotes(sql: &str) -> String {
    sql.split('\'').step_by(2).collect::<Vec<_>>().join("''")
}

async fn statement(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let (sql, properties) = admit(&shared, &headers, &body)?;
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
            let earliest = properties["ksql.streams.auto.offset.reset"] == "earliest";
            create(&shared, &words, earliest).await?;
            let status = json!({"status": "SUCCESS", "message": "created", "queryId": null});
            Ok(json!([{"@type": "currentStatus", "commandStatus": status}]).to_string().into_response())
        }
        ["SELECT", ..] => Err(Refusal(StatusCode::BAD_REQUEST, 40002, "use the /query endpoint".into())),
        _ => Err(malformed(format!("mismatched input '{}'", words.first().unwrap_or(&"")))),
    }
}

async fn query(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let (sql, _) = admit(&shared, &headers, &body)?;
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
