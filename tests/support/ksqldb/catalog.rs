//! Streams and tables, and the statements that make them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};

use super::Shared;
use super::eval::{Column, Known, projection};
use super::sql::{Create, Expr, Select};
use super::streams::{Input, Plan, Running};
use super::text;
use super::wire::Refusal;

/// A stream or table.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) table: bool,
    /// Pull queries are answered: made by a query, or a source table.
    pub(super) queryable: bool,
    pub(super) topic: String,
    /// Name and type; the key comes first.
    pub(super) columns: Vec<Column>,
    /// Whether the first column is the key.
    pub(super) keyed: bool,
    pub(super) value_format: String,
    pub(super) partitions: i32,
    /// As the server writes it.
    pub(super) statement: String,
}

/// A persistent query, for people.
#[derive(Clone)]
pub(super) struct Query {
    pub(super) id: String,
    pub(super) statement: String,
    pub(super) reads: Vec<String>,
    pub(super) sink: Option<String>,
    pub(super) sink_topic: String,
}

/// What the server keeps in its metastore.
#[derive(Default)]
pub(super) struct Catalog {
    pub(super) sources: BTreeMap<String, Source>,
    pub(super) queries: BTreeMap<String, Query>,
    /// Commands carried out.
    pub(super) commands: u64,
}

impl Catalog {
    /// What is there before anybody makes something.
    pub(super) fn fresh() -> Catalog {
        let mut catalog = Catalog::default();
        let columns =
            [("LOGGER", "STRING"), ("LEVEL", "STRING"), ("TIME", "BIGINT"), ("MESSAGE", "STRUCT<`TYPE` INTEGER>")];
        let name = "KSQL_PROCESSING_LOG".to_owned();
        let log = Source {
            name: name.clone(),
            table: false,
            queryable: false,
            topic: "ofa_ksql_processing_log".into(),
            columns: columns.map(|(name, kind)| (name.to_owned(), kind.to_owned())).to_vec(),
            keyed: false,
            value_format: "JSON".into(),
            partitions: 1,
            statement: String::new(),
        };
        catalog.sources.insert(name, log);
        catalog
    }
}

/// A statement that has passed every check, and what it will make.
pub(super) struct Prepared {
    pub(super) source: Option<Source>,
    query: Option<(Query, Plan, Vec<Input>)>,
    statement: String,
    command: String,
}

/// Carries a `CREATE` out: its answer, an entity.
pub(super) async fn create(shared: &Shared, sql: &str, create: &Create, earliest: bool) -> Result<Value, Refusal> {
    let kind = if create.table { "table" } else { "stream" };
    let exists = shared.catalog.lock().unwrap().sources.contains_key(&create.name);
    if exists && create.if_not_exists {
        return Ok(json!({
            "@type": "warning_entity", "statementText": sql,
            "message": format!("Cannot add {kind} `{}`: A {kind} with the same name already exists.", create.name),
            "warnings": [],
        }));
    }
    let mut prepared = prepare(shared, sql, create).await?;
    if exists {
        let message = format!("Cannot add {kind} '{}': A {kind} with the same name already exists", create.name);
        return Err(Refusal::statement(&prepared.statement, message));
    }
    if let Some((_, _, inputs)) = &mut prepared.query {
        begin(shared, inputs, earliest);
    }
    Ok(add(shared, prepared))
}

/// Carries an `INSERT INTO … SELECT` out.
pub(super) fn insert(
    shared: &Shared,
    sql: &str,
    into: &str,
    select: &Select,
    earliest: bool,
) -> Result<Value, Refusal> {
    let sink = lookup(shared, sql, into)?;
    let (columns, plan, mut inputs) = of_query(shared, sql, select, sink.table, &sink.topic, &sink.value_format)?;
    if columns != sink.columns {
        return Err(Refusal::statement(sql, "Incompatible schema between results and sink."));
    }
    begin(shared, &mut inputs, earliest);
    let statement = text::insert(into, select);
    let query = Query {
        id: "INSERTQUERY".into(),
        statement: statement.clone(),
        reads: inputs.iter().map(|input| input.source.clone()).collect(),
        sink: Some(into.to_owned()),
        sink_topic: sink.topic,
    };
    let command = format!("stream/`{into}`/create");
    Ok(add(shared, Prepared { source: None, query: Some((query, plan, inputs)), statement, command }))
}

fn add(shared: &Shared, prepared: Prepared) -> Value {
    let Prepared { source, query, statement, command } = prepared;
    let mut catalog = shared.catalog.lock().unwrap();
    catalog.commands += 2;
    let sequence = catalog.commands;
    let (mut message, mut id) = (String::new(), Value::Null);
    if let Some(source) = &source {
        message = if source.table { "Table created".into() } else { "Stream created".into() };
    }
    if let Some((mut query, plan, inputs)) = query {
        query.id = format!("{}_{}", query.id, sequence - 1);
        message = format!("Created query with ID {}", query.id);
        id = json!(query.id);
        let name = query.sink.clone().unwrap_or_else(|| query.reads[0].clone());
        catalog.queries.insert(query.id.clone(), query);
        let keeps = source.as_ref().is_some_and(|source| source.table);
        shared.running.lock().unwrap().push(Running::new(name, keeps, plan, inputs));
    }
    if let Some(source) = source {
        catalog.sources.insert(source.name.clone(), source);
    }
    json!({
        "@type": "currentStatus", "statementText": statement, "commandId": command,
        "commandStatus": {"status": "SUCCESS", "message": message, "queryId": id},
        "commandSequenceNumber": sequence, "warnings": [],
    })
}

pub(super) fn lookup(shared: &Shared, sql: &str, name: &str) -> Result<Source, Refusal> {
    shared
        .catalog
        .lock()
        .unwrap()
        .sources
        .get(name)
        .cloned()
        .ok_or_else(|| Refusal::statement(sql, format!("Exception while preparing statement: {name} does not exist.")))
}

fn plain(value: &str) -> String {
    value.trim_matches('\'').to_owned()
}

async fn prepare(shared: &Shared, sql: &str, create: &Create) -> Result<Prepared, Refusal> {
    const KNOWN: [&str; 7] =
        ["CLEANUP_POLICY", "KAFKA_TOPIC", "KEY_FORMAT", "PARTITIONS", "REPLICAS", "RETENTION_MS", "VALUE_FORMAT"];
    if let Some(odd) = create.with.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(Refusal::statement(
            sql,
            format!("Failed to prepare statement: Invalid config variable(s) in the WITH clause: {odd}"),
        ));
    }
    let mut with = create.with.clone();
    with.insert("CLEANUP_POLICY".into(), if create.table { "'compact'" } else { "'delete'" }.into());
    let number = |with: &BTreeMap<String, String>, name: &str| with.get(name).and_then(|text| text.parse::<i64>().ok());
    let command = format!("{}/`{}`/create", if create.table { "table" } else { "stream" }, create.name);
    let Some(select) = &create.select else {
        for needed in ["KAFKA_TOPIC", "VALUE_FORMAT"] {
            if !with.contains_key(needed) {
                let message = format!("Missing required property \"{needed}\" which has no default value.");
                return Err(Refusal::statement(sql, message));
            }
        }
        with.entry("KEY_FORMAT".into()).or_insert("'KAFKA'".into());
        let topic = plain(&with["KAFKA_TOPIC"]);
        let wanted = number(&with, "PARTITIONS");
        let asked = Asked { partitions: wanted, retention: None, compact: create.table, derived: false };
        let Some(partitions) = make_topic(shared, sql, &topic, &asked).await? else {
            let mut example = create.with.clone();
            example.extend(
                [("KEY_FORMAT", "'KAFKA'"), ("PARTITIONS", "2")].map(|(name, value)| (name.into(), value.into())),
            );
            let message = format!(
                "Topic '{topic}' does not exist. If you want to create a new topic for the stream/table please re-run \
                 the statement providing the required 'PARTITIONS' configuration in the WITH clause (and optionally \
                 'REPLICAS'). For example: {}",
                text::create(create, &example)
            );
            return Err(Refusal::generic(400, 40000, message).typed());
        };
        let statement = text::create(create, &with);
        let key = create.columns.iter().position(|(_, _, key)| *key);
        let mut columns: Vec<Column> =
            create.columns.iter().map(|(name, kind, _)| (name.clone(), kind.clone())).collect();
        if let Some(key) = key {
            let column = columns.remove(key);
            columns.insert(0, column);
        }
        let source = Source {
            name: create.name.clone(),
            table: create.table,
            queryable: create.source,
            topic: topic.clone(),
            columns: columns.clone(),
            keyed: key.is_some(),
            value_format: plain(&with["VALUE_FORMAT"]),
            partitions,
            statement: statement.clone(),
        };
        let query = create.source.then(|| {
            let query = Query {
                id: format!("CST_{}", create.name),
                statement: statement.clone(),
                reads: vec![create.name.clone()],
                sink: None,
                sink_topic: String::new(),
            };
            (query, Plan::Materialise, vec![Input::new(&source)])
        });
        return Ok(Prepared { source: Some(source), query, statement, command });
    };
    let parent = lookup(shared, sql, &select.from)?;
    let topic = with.get("KAFKA_TOPIC").map_or_else(|| create.name.clone(), |topic| plain(topic));
    let format = with.get("VALUE_FORMAT").map_or_else(|| parent.value_format.clone(), |format| plain(format));
    with.entry("KAFKA_TOPIC".into()).or_insert(format!("'{topic}'"));
    with.entry("PARTITIONS".into()).or_insert(parent.partitions.to_string());
    with.entry("REPLICAS".into()).or_insert("1".into());
    let inherited = retention(shared, &parent.topic).await.unwrap_or_default();
    with.entry("RETENTION_MS".into()).or_insert(inherited.to_string());
    // The options are filled in before the query is looked at.
    let (columns, plan, inputs) =
        of_query(shared, &text::create(create, &with), select, create.table, &topic, &format)?;
    let asked = Asked {
        partitions: number(&with, "PARTITIONS"),
        retention: number(&with, "RETENTION_MS"),
        compact: create.table,
        derived: true,
    };
    let partitions = make_topic(shared, sql, &topic, &asked).await?.unwrap_or_default();
    let statement = text::create(create, &with);
    let source = Source {
        name: create.name.clone(),
        table: create.table,
        queryable: create.table,
        topic: topic.clone(),
        columns,
        keyed: true,
        value_format: format,
        partitions,
        statement: statement.clone(),
    };
    let prefix = if create.table { "CTAS" } else { "CSAS" };
    let query = Query {
        id: format!("{prefix}_{}", create.name),
        statement: statement.clone(),
        reads: inputs.iter().map(|input| input.source.clone()).collect(),
        sink: Some(create.name.clone()),
        sink_topic: topic,
    };
    Ok(Prepared { source: Some(source), query: Some((query, plan, inputs)), statement, command })
}

type Made = (Vec<Column>, Plan, Vec<Input>);

fn of_query(
    shared: &Shared,
    sql: &str,
    select: &Select,
    table: bool,
    topic: &str,
    format: &str,
) -> Result<Made, Refusal> {
    let parent = lookup(shared, sql, &select.from)?;
    let other = select.join.as_ref().map(|join| lookup(shared, sql, &join.table)).transpose()?;
    let mut known = Known { sources: vec![(&select.alias, &parent.columns)], rowtime: false };
    if let (Some(join), Some(other)) = (&select.join, &other) {
        known.sources.push((&join.alias, &other.columns));
        known.kind(&join.left, sql, "JOIN")?;
        known.kind(&join.right, sql, "JOIN")?;
        let key = matches!(&join.right, Expr::Column { name, .. } if *name == other.columns[0].0);
        if !other.table || !key {
            return Err(Refusal::statement(
                sql,
                format!("Invalid join condition: the key of table {} is expected.", join.table),
            ));
        }
        if !table && parent.partitions != other.partitions {
            let (a, m) = (&select.alias, &join.alias);
            let message = format!(
                "Can't join `{a}` with `{m}` since the number of partitions don't match. `{a}` partitions = {}; `{m}` \
                 partitions = {}. Please repartition either one so that the number of partitions match.",
                parent.partitions, other.partitions
            );
            return Err(Refusal::statement(sql, message));
        }
    }
    if table != (parent.table || select.group_by.is_some()) {
        let (is, wanted) = if table { ("STREAM", "TABLE") } else { ("TABLE", "STREAM") };
        let message = format!(
            "Invalid result type. Your SELECT query produces a {is}. Please use CREATE {is} AS SELECT statement instead of CREATE {wanted}."
        );
        return Err(Refusal::statement(sql, message));
    }
    let mut items = projection(select, &known, sql)?;
    let by = select.partition_by.as_ref().or(select.group_by.as_ref());
    if let Some(by) = by {
        known.kind(by, sql, if select.group_by.is_some() { "GROUP BY" } else { "PARTITION BY" })?;
    }
    let key = items.iter().position(|(_, expr, _)| match by {
        Some(by) => expr == by,
        None => matches!(expr, Expr::Column { source, name, .. }
            if *name == parent.columns[0].0 && source.as_deref().is_none_or(|source| source == select.alias)),
    });
    let Some(key) = key else {
        let name = text::alias(by.unwrap_or(&Expr::Null), None, 0);
        let message = format!(
            "Key missing from projection (ie, SELECT). See https://cnfl.io/add-key-to-projection. The query used to build the table must include the key column {name}."
        );
        return Err(Refusal::statement(sql, message));
    };
    // The key is the first of a source's columns, wherever the query names it.
    let item = items.remove(key);
    items.insert(0, item);
    let columns = items.iter().map(|(name, _, kind)| (name.clone(), kind.clone())).collect();
    let mut inputs = vec![Input::new(&parent)];
    inputs.extend(other.as_ref().map(Input::new));
    let plan = Plan::Query {
        select: Box::new(select.clone()),
        items: items.into_iter().map(|(name, expr, _)| (name, expr)).collect(),
        table,
        topic: topic.to_owned(),
        null_value: format == "KAFKA",
    };
    Ok((columns, plan, inputs))
}

/// A query reads its sources from the beginning, or what comes next.
fn begin(shared: &Shared, inputs: &mut [Input], earliest: bool) {
    if earliest {
        return;
    }
    for input in inputs {
        let reader = &shared.reader;
        let count = partitions(reader, &input.topic).unwrap_or_default();
        input.from = (0..count).map(|partition| (partition, end_of(reader, &input.topic, partition))).collect();
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Where a partition ends. One of a topic that was made a moment ago has no leader yet, and is waited for.
fn end_of(reader: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    let begun = Instant::now();
    loop {
        match reader.fetch_watermarks(topic, partition, PATIENCE) {
            Ok((_, end)) => return end,
            Err(error) if begun.elapsed() > PATIENCE => panic!("partition {partition} of {topic}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// The number of partitions of a topic that exists.
pub(super) fn partitions(reader: &BaseConsumer, topic: &str) -> Option<i32> {
    let metadata = reader.fetch_metadata(Some(topic), PATIENCE).ok()?;
    let found = &metadata.topics()[0];
    found.error().is_none().then(|| i32::try_from(found.partitions().len()).unwrap())
}

/// The retention of a topic; a broker may need a moment until it knows one that was just made.
async fn retention(shared: &Shared, topic: &str) -> Option<i64> {
    let admin = &shared.admin;
    for _ in 0..100 {
        let answers = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await.ok()?;
        let found =
            answers[0].as_ref().ok().and_then(|config| config.get("retention.ms")?.value.as_ref()?.parse().ok());
        if found.is_some() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

struct Asked {
    partitions: Option<i64>,
    retention: Option<i64>,
    compact: bool,
    derived: bool,
}

/// Makes a topic that does not exist: compacted for a table; for a stream with a policy that forgets, and with the
/// retention of its source. One that exists must be as asked for. The number of partitions, none if there is no topic
/// and nobody said how many it should have.
async fn make_topic(shared: &Shared, sql: &str, topic: &str, asked: &Asked) -> Result<Option<i32>, Refusal> {
    let Some(actual) = partitions(&shared.reader, topic) else {
        let Some(count) = asked.partitions.and_then(|count| i32::try_from(count).ok()) else { return Ok(None) };
        let kept = asked.retention.map(|time| time.to_string());
        let mut new = NewTopic::new(topic, count, TopicReplication::Fixed(1))
            .set("cleanup.policy", if asked.compact { "compact" } else { "delete" });
        if let Some(kept) = &kept {
            new = new.set("retention.ms", kept);
        }
        let made = shared.admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert!(made[0].is_ok(), "{made:?}");
        while partitions(&shared.reader, topic) != Some(count) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        return Ok(Some(count));
    };
    let here = retention(shared, topic).await.unwrap_or_default();
    let (count, kept) = (asked.partitions.unwrap_or(actual.into()), asked.retention.unwrap_or(here));
    if count != i64::from(actual) || (asked.derived && kept != here) {
        let message = format!(
            "A Kafka topic with the name '{topic}' already exists, with different partition/replica/retention \
             configuration than required. KSQL expects {count} partitions (topic has {actual}), 1 replication factor \
             (topic has 1), and {kept} retention (topic has {here})."
        );
        return Err(Refusal::statement_code(500, 50000, sql, message));
    }
    Ok(Some(actual))
}
