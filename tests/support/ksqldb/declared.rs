//! Streams and tables, and the statements that make them.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

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
    /// Where a query begins to read its source, by partition; from the beginning where nothing is said.
    pub(super) from: BTreeMap<i32, i64>,
}

/// What a persistent query does, by its form.
#[derive(Clone)]
pub(super) enum Query {
    /// `SELECT KEY, LATEST_BY_OFFSET(…) … GROUP BY KEY`, or `SELECT * FROM table`: rows of another topic.
    Rows { of: String },
    /// A stream of chosen rows, written to its own topic under the same key.
    Select { columns: Vec<(String, String)>, condition: Vec<Vec<Term>> },
    /// `SELECT key, CAST(NULL AS …)`: a tombstone for each of the chosen rows.
    Tombstones { condition: Vec<Vec<Term>> },
    /// `PARTITION BY CONCAT(key, '|', ID)`.
    Repartition,
    /// Joins and aggregates: their form is checked, and nothing is made of them.
    Unfollowed,
}

/// Under which name the rows of a table are kept.
pub(super) fn rows_of(name: &str, declared: &Declared) -> String {
    match &declared.query {
        Some(Query::Rows { of }) => of.clone(),
        _ if declared.topic.is_empty() => name.to_owned(),
        _ => declared.topic.clone(),
    }
}

/// With `earliest`, queries read what their sources hold already, which they do not by default.
pub(super) async fn create(shared: &Shared, words: &[&str], earliest: bool) -> Result<(), Refusal> {
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
    let mut made = match select {
        None => {
            let columns = columns(rest)?;
            let topic = options.get("KAFKA_TOPIC").cloned().ok_or_else(|| malformed("KAFKA_TOPIC is missing"))?;
            Declared { table, materialised: source, topic, columns, query: None, from: BTreeMap::new() }
        }
        Some(at) => of_query(shared, name, table, &options, &rest[at + 2..])?,
    };
    if !made.topic.is_empty() {
        let partitions = options.get("PARTITIONS").map(|text| text.parse().map_err(|_| malformed("odd PARTITIONS")));
        make_topic(shared, &made, partitions.transpose()?).await?;
    }
    if !earliest && made.query.is_some() {
        made.from = ends(shared, "ofa_assets");
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
    let declared = |materialised, topic, columns, query| Declared {
        table,
        materialised,
        topic,
        columns,
        query: Some(query),
        from: BTreeMap::new(),
    };
    let Some((&"CHANGES", tail)) = tail.split_last() else { return Err(malformed("EMIT CHANGES is expected")) };
    let Some((&"EMIT", tail)) = tail.split_last() else { return Err(malformed("EMIT CHANGES is expected")) };
    let topic = options.get("KAFKA_TOPIC").cloned().unwrap_or_else(|| name.to_owned());
    if tail.contains(&"JOIN") {
        let columns = joined(shared, &words[..from], (&parent.columns, tail))?;
        return Ok(declared(false, if table { String::new() } else { topic }, columns, Query::Unfollowed));
    }
    if table {
        if words.contains(&"COLLECT_LIST") {
            let [first, ",", "COLLECT_LIST", "(", "STRUCT", "(", fields @ .., ")", ")", "AS", _] = &words[..from]
            else {
                return Err(malformed("a key and a list are expected"));
            };
            if tail != ["GROUP", "BY", first] {
                return Err(malformed("GROUP BY the key is expected"));
            }
            for field in fields.split(|word| *word == ",") {
                match field {
                    [_, ":=", column] => exists(&parent.columns, column)?,
                    _ => return Err(malformed(format!("odd field {field:?}"))),
                }
            }
            exists(&parent.columns, first)?;
            return Ok(declared(false, String::new(), parent.columns, Query::Unfollowed));
        }
        let copies = words[..from] == ["*"] && parent.table && tail.is_empty();
        let groups = words.contains(&"LATEST_BY_OFFSET") && tail == ["GROUP", "BY", "KEY"];
        if !copies && !groups {
            return Err(malformed("this table cannot be made here"));
        }
        let query = Query::Rows { of: parent.topic.clone() };
        return Ok(declared(true, String::new(), parent.columns, query));
    }
    if tail.starts_with(&["PARTITION", "BY", "CONCAT"]) {
        let columns = ["KEY", "ASSET_UUID", "ID", "VALUE", "TYPE", "TAG", "TIMESTAMP"]
            .map(|column| (column.to_owned(), "STRING".to_owned()))
            .to_vec();
        return Ok(declared(false, topic, columns, Query::Repartition));
    }
    let condition = match tail {
        ["WHERE", terms @ ..] => condition(terms)?,
        _ => return Err(malformed("WHERE is expected")),
    };
    for term in condition.iter().flatten() {
        exists(&parent.columns, &term.column)?;
    }
    if let [key, ",", "CAST", "(", "NULL", "AS", "VARCHAR", ")", "AS", alias] = &words[..from] {
        exists(&parent.columns, key)?;
        if options.get("VALUE_FORMAT").map(String::as_str) != Some("KAFKA") {
            return Err(malformed("a null in JSON is no tombstone"));
        }
        let columns = [*key, *alias].map(|name| (name.to_owned(), "STRING".to_owned())).to_vec();
        return Ok(declared(false, topic, columns, Query::Tombstones { condition }));
    }
    let mut columns = Vec::new();
    for part in words[..from].split(|word| *word == ",") {
        match part {
            [column] => columns.push(((*column).to_owned(), (*column).to_owned())),
            [column, "AS", alias] => columns.push(((*column).to_owned(), (*alias).to_owned())),
            _ => return Err(malformed("columns are names here")),
        }
    }
    for (column, _) in &columns {
        exists(&parent.columns, column)?;
    }
    let aliases = columns.iter().map(|(_, alias)| (alias.clone(), "STRING".to_owned())).collect();
    Ok(declared(false, topic, aliases, Query::Select { columns, condition }))
}

fn exists(columns: &[(String, String)], name: &str) -> Result<(), Refusal> {
    if columns.iter().any(|(column, _)| column == name) {
        return Ok(());
    }
    Err(malformed(format!("Column '{name}' cannot be resolved")))
}

/// `A.X AS X, … FROM (columns) A LEFT JOIN table M ON A.… = M.… WHERE M.… IS NOT NULL [PARTITION BY M.…]`.
fn joined(
    shared: &Shared,
    select: &[&str],
    (left, tail): (&[(String, String)], &[&str]),
) -> Result<Vec<(String, String)>, Refusal> {
    let [a, "LEFT", "JOIN", table, m, "ON", on_a, "=", on_m, "WHERE", present, "IS", "NOT", "NULL", rest @ ..] = tail
    else {
        return Err(malformed("this cannot be joined here"));
    };
    let right = shared.declared.lock().unwrap().get(*table).cloned();
    let right = right.ok_or_else(|| malformed(format!("{table} does not exist")))?.columns;
    let resolve = |name: &str| match name.split_once('.') {
        Some((source, column)) if source == *a => exists(left, column),
        Some((source, column)) if source == *m => exists(&right, column),
        _ => Err(malformed(format!("Column '{name}' cannot be resolved"))),
    };
    let partition_by = match rest {
        [] => None,
        ["PARTITION", "BY", column] => Some(*column),
        _ => return Err(malformed(format!("mismatched input '{}'", rest[0]))),
    };
    if on_m.split_once('.').map(|(_, column)| column) != Some(right[0].0.as_str()) {
        return Err(malformed("the key of the table is expected"));
    }
    for name in [on_a, on_m, present].into_iter().copied().chain(partition_by) {
        resolve(name)?;
    }
    let mut columns = Vec::new();
    let mut depth = 0;
    for part in select.split(|word| {
        depth = match *word {
            "(" => depth + 1,
            ")" => depth - 1,
            _ => depth,
        };
        *word == "," && depth == 0
    }) {
        let names: &[&str] = match part {
            [_, "AS", _] => &part[..1],
            ["CONCAT", "(", inside @ .., ")", "AS", _] => inside,
            _ => return Err(malformed(format!("odd column {part:?}"))),
        };
        for name in names.iter().filter(|name| **name != "," && !name.starts_with('\'')) {
            resolve(name)?;
        }
        columns.push((part[part.len() - 1].to_owned(), "STRING".to_owned()));
    }
    Ok(columns)
}

const PATIENCE: Duration = Duration::from_secs(10);

fn reader(shared: &Shared) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", &shared.brokers).create().unwrap()
}

/// The number of partitions of a topic that exists.
pub(super) fn partitions(reader: &BaseConsumer, topic: &str) -> Option<usize> {
    let metadata = reader.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let found = &metadata.topics()[0];
    found.error().is_none().then(|| found.partitions().len())
}

fn ends(shared: &Shared, topic: &str) -> BTreeMap<i32, i64> {
    let reader = reader(shared);
    let count = i32::try_from(partitions(&reader, topic).unwrap_or_default()).unwrap();
    (0..count).map(|partition| (partition, reader.fetch_watermarks(topic, partition, PATIENCE).unwrap().1)).collect()
}

/// Makes a topic that does not exist; as the server does, with a policy that forgets for a stream. One that exists
/// must have as many partitions as are asked for and, if a stream is written to it, the retention of its source.
async fn make_topic(shared: &Shared, made: &Declared, wanted: Option<usize>) -> Result<(), Refusal> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &shared.brokers).create().unwrap();
    let topic = &made.topic;
    let Some(actual) = partitions(&reader(shared), topic) else {
        let count = wanted.ok_or_else(|| malformed(format!("Topic '{topic}' does not exist")))?;
        let new = NewTopic::new(topic, i32::try_from(count).unwrap(), TopicReplication::Fixed(1));
        admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        return Ok(());
    };
    let (mut here, mut source) = (None, None);
    if made.query.is_some() {
        let asked = [ResourceSpecifier::Topic(topic), ResourceSpecifier::Topic("ofa_assets")];
        let answers = admin.describe_configs(&asked, &AdminOptions::new()).await.unwrap();
        [here, source] = [0, 1].map(|at| answers[at].as_ref().ok()?.get("retention.ms")?.value.clone());
    }
    if wanted.is_some_and(|wanted| wanted != actual) || here != source {
        return Err(malformed(format!(
            "A Kafka topic with the name '{topic}' already exists, with different partition/replica/retention \
             configuration than required. KSQL expects {wanted:?} partitions (topic has {actual}), and {source:?} \
             retention (topic has {here:?})."
        )));
    }
    Ok(())
}
