//! `/ksql`: statements and their answers.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use serde_json::{Map, Value, json};

use super::Shared;
use super::catalog::{self, Query, Source};
use super::eval;
use super::sql::{Statement, parse, split};
use super::streams;
use super::wire::{Refusal, entities};

/// What becomes of the next `CREATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    /// It is taken, and carried out after this time.
    Queued(Duration),
    /// The connection ends without an answer, and it is carried out after this time.
    Unanswered(Duration),
    /// It takes this time, and nobody learns of it before.
    Silent(Duration),
}

pub(super) async fn carry_out(shared: &Arc<Shared>, request: &str, earliest: bool) -> Response {
    let mut answers = Vec::new();
    for sql in split(request) {
        match one(shared, &sql, earliest).await {
            Ok(Some(entity)) => answers.push(entity),
            Ok(None) => {}
            Err(Outcome::Refused(refusal)) => return refusal.into_response(),
            Err(Outcome::Lost) => return super::lost(),
        }
    }
    entities(&answers)
}

enum Outcome {
    Refused(Refusal),
    /// The connection ends.
    Lost,
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        Outcome::Refused(refusal)
    }
}

async fn one(shared: &Arc<Shared>, sql: &str, earliest: bool) -> Result<Option<Value>, Outcome> {
    Ok(match parse(sql)? {
        Statement::Select(_) => {
            let message = "The following statement types should be issued to the websocket endpoint '/query':\n\t* PRINT\n\t* \
                           SELECT";
            return Err(Refusal::statement_code(400, 40002, sql, message).into());
        }
        Statement::Create(create) => {
            let slow = shared.faults.slow.lock().unwrap().pop();
            let Some(slow) = slow else { return Ok(Some(catalog::create(shared, sql, &create, earliest).await?)) };
            let (Slow::Queued(time) | Slow::Unanswered(time) | Slow::Silent(time)) = slow;
            let (later, text, statement) = (Arc::clone(shared), sql.to_owned(), create.clone());
            let work = tokio::spawn(async move {
                tokio::time::sleep(time).await;
                catalog::create(&later, &text, &statement, earliest).await
            });
            match slow {
                Slow::Queued(_) => {
                    let kind = if create.table { "table" } else { "stream" };
                    Some(json!({
                        "@type": "currentStatus", "statementText": sql,
                        "commandId": format!("{kind}/`{}`/create", create.name),
                        "commandStatus": {"status": "QUEUED", "message": "Statement written to command topic", "queryId": null},
                        "commandSequenceNumber": shared.catalog.lock().unwrap().commands + 2, "warnings": [],
                    }))
                }
                Slow::Unanswered(_) => return Err(Outcome::Lost),
                Slow::Silent(_) => Some(work.await.unwrap()?),
            }
        }
        Statement::InsertSelect { into, select } => Some(catalog::insert(shared, sql, &into, &select, earliest)?),
        Statement::InsertValues { into, columns, values } => {
            let source = catalog::lookup(shared, sql, &into)?;
            let mut fields = Map::new();
            let mut key = None;
            for (column, expr) in columns.iter().zip(&values) {
                let value = eval::value(expr, &[]);
                if source.keyed && *column == source.columns[0].0 {
                    key = value.as_str().map(str::to_owned);
                } else if source.columns.iter().any(|(name, _)| name == column) {
                    fields.insert(column.clone(), value);
                } else {
                    let message =
                        format!("Failed to insert values into '{into}'. Column name `{column}` does not exist.");
                    return Err(Refusal::statement(sql, message).into());
                }
            }
            let brokers = shared.brokers.clone();
            let written = tokio::task::spawn_blocking(move || {
                let producer: BaseProducer = ClientConfig::new()
                    .set("bootstrap.servers", &brokers)
                    .set("partitioner", "murmur2_random")
                    .create()
                    .unwrap();
                let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
                let payload = Value::Object(fields).to_string();
                streams::produce(
                    &producer,
                    &source.topic,
                    key.as_deref(),
                    Some(&payload),
                    i64::try_from(time).unwrap(),
                );
                producer.flush(Duration::from_secs(10))
            });
            written.await.unwrap().unwrap();
            None
        }
        Statement::Show(what) => Some(show(shared, sql, &what)),
        Statement::Describe(name) => Some(describe(shared, sql, &name)?),
    })
}

fn show(shared: &Shared, sql: &str, what: &str) -> Value {
    let catalog = shared.catalog.lock().unwrap();
    if what == "QUERIES" {
        let queries: Vec<Value> = catalog.queries.values().map(query).collect();
        return json!({"@type": "queries", "statementText": sql, "queries": queries, "warnings": []});
    }
    let tables = what == "TABLES";
    let found: Vec<Value> = catalog
        .sources
        .values()
        .filter(|source| source.table == tables)
        .map(|source| {
            json!({
                "type": if tables { "TABLE" } else { "STREAM" }, "name": source.name, "topic": source.topic,
                "keyFormat": "KAFKA", "valueFormat": source.value_format, "isWindowed": false,
            })
        })
        .collect();
    let kind = what.to_lowercase();
    json!({"@type": kind, "statementText": sql, kind.clone(): found, "warnings": []})
}

fn query(query: &Query) -> Value {
    json!({
        "queryString": query.statement, "sinks": query.sink.iter().collect::<Vec<_>>(),
        "sinkKafkaTopics": Some(&query.sink_topic).filter(|topic| !topic.is_empty()).into_iter().collect::<Vec<_>>(),
        "id": query.id, "statusCount": {"RUNNING": 1}, "queryType": "PERSISTENT", "state": "RUNNING",
    })
}

/// A type, taken apart.
fn schema(kind: &str) -> Value {
    let (name, inside) = kind.split_once('<').unwrap_or((kind, ""));
    let inside = inside.strip_suffix('>').unwrap_or(inside);
    let member = match name {
        "MAP" => schema(inside.split_once(", ").map_or("STRING", |(_, kind)| kind)),
        "ARRAY" => schema(inside),
        _ => Value::Null,
    };
    json!({"type": name, "fields": null, "memberSchema": member})
}

fn describe(shared: &Shared, sql: &str, name: &str) -> Result<Value, Refusal> {
    let catalog = shared.catalog.lock().unwrap();
    let Some(source) = catalog.sources.get(name) else {
        let mut message = format!("Could not find STREAM/TABLE '{name}' in the Metastore");
        if let Some(near) = catalog.sources.keys().find(|known| known.eq_ignore_ascii_case(name)) {
            message.push_str(&format!("\nDid you mean {near}? Hint: try removing double quotes from the source name."));
        }
        return Err(Refusal::statement(sql, message));
    };
    let Source { name, table, topic, columns, keyed, value_format, partitions, statement, .. } = source;
    let fields: Vec<Value> = columns
        .iter()
        .enumerate()
        .map(|(index, (name, kind))| {
            let mut field = json!({"name": name, "schema": schema(kind)});
            if *keyed && index == 0 {
                field["type"] = json!("KEY");
            }
            field
        })
        .collect();
    let those = |wanted: &dyn Fn(&Query) -> bool| -> Vec<Value> {
        catalog.queries.values().filter(|found| wanted(found)).map(query).collect()
    };
    let description = json!({
        "name": name, "windowType": null,
        "readQueries": those(&|query| query.reads.contains(name)),
        "writeQueries": those(&|query| query.sink.as_ref() == Some(name)),
        "fields": fields, "type": if *table { "TABLE" } else { "STREAM" }, "timestamp": "",
        "statistics": "", "errorStats": "", "extended": true, "keyFormat": "KAFKA", "valueFormat": value_format,
        "topic": topic, "partitions": partitions, "replication": 1, "statement": statement,
        "queryOffsetSummaries": [], "sourceConstraints": [], "clusterStatistics": [], "clusterErrorStats": [],
    });
    Ok(json!({"@type": "sourceDescription", "statementText": sql, "sourceDescription": description, "warnings": []}))
}
