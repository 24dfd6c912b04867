//! Streams and tables, and the statements that make them.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use super::sql::{Term, columns, condition, options};
use super::{Refusal, Shared, malformed};

/// A stream or table.
#[derive(Clone)]
pub(super) struct Declared {
    pub(super) table: bool,
    /// Pull queries are answered: made by a query, or a source table.
    pub(super) materialised: bool,
    pub(super) topic: String,
    /// Name and type; the first is the key.
    pub(super) columns: Vec<(String, String)>,
    /// For what is made by a query.
    pub(super) query: Option<Query>,
}

/// What a persistent query does, by its form.
#[derive(Clone)]
pub(super) enum Query {
    /// `SELECT KEY, LATEST_BY_OFFSET(…) … GROUP BY KEY`, or `SELECT * FROM table`: rows of another topic.
    Rows { of: String },
    /// A stream of chosen rows, written to its own topic under the same key.
    Select { columns: Vec<(String, String)>, condition: Vec<Vec<Term>> },
    /// `PARTITION BY CONCAT(key, '|', ID)`.
    Repartition,
}

/// Under which name the rows of a table are kept.
pub(super) fn rows_of(name: &str, declared: &Declared) -> String {
    match &declared.query {
        Some(Query::Rows { of }) => of.clone(),
        _ if declared.topic.is_empty() => name.to_owned(),
        _ => declared.topic.clone(),
    }
}

pub(super) async fn create(shared: &Shared, words: &[&str]) -> Result<(), Refusal> {
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

async fn make_topic(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    // As the server does for streams: the broker's default policy, which is to delete.
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
}
