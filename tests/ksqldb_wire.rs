//! The stand-in for ksqlDB is held to every answer that was captured from a real server, and so is what `ofop` makes of
//! them. A file that is put into `tests/ksqldb_wire/` is replayed without a word here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/ksqldb.rs"]
mod ksqldb;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use kafka::Kafka;
use ksqldb::capture::{self, Answer, Request, many, one, send};
use ksqldb::recovery::{Answering, READ, Server, Step};
use ksqldb::{Ksqldb, Slow};
use ofop::clock::SystemClock;
use ofop::model::{Record, RecordId};
use ofop::registry::Registry;
use ofop::registry::openfactory::{KafkaSettings, KsqldbSettings, OpenfactoryRegistry, OpenfactorySettings};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);
const MANY: [&str; 2] = ["errors-seen-live.txt", "init-create-statements.txt"];
const DESCRIBED: [&str; 2] = ["describe-all-after-ofop-init.txt", "describe-all-after-openfactory-sql.txt"];

async fn kafka() -> Kafka {
    tokio::task::spawn_blocking(Kafka::start).await.unwrap()
}

/// The answer has the captured status, form and content.
fn same(what: &str, captured: &Answer, answer: &Answer) {
    assert_eq!(answer.status, captured.status, "{what}: {}", answer.body);
    assert_eq!(answer.form(), captured.form(), "{what}: {}", answer.body);
    let (content, wanted) = (answer.content(), captured.content());
    assert_eq!(content, wanted, "{what}");
    // In a line without what differs every time, every byte is the server's.
    let known = ["queryId", "statistics", "MAP<", "streams\"", "tables\"", "queries\""];
    if !known.iter().any(|word| captured.body.contains(word)) {
        assert_eq!(answer.body.trim_end_matches('\n'), captured.body, "{what}");
    }
    if let Some(length) = answer.headers.get("content-length") {
        assert_eq!(*length, answer.body.len().to_string(), "{what}");
    }
    if captured.headers.get("content-type").is_some_and(|kind| kind.contains("delimited")) {
        assert!(answer.body.ends_with('\n'), "{what}: every line ends");
    } else {
        assert!(!answer.body.ends_with('\n'), "{what}: nothing follows the last mark");
    }
}

async fn run(ksqldb: &Ksqldb, sql: &str) -> Answer {
    send(ksqldb.socket(), &Request::statement("/ksql", sql)).await
}

/// The first session of `registry init`: fresh topics of one partition. An error is answered to a server that had not
/// loaded its functions yet: the statement was sent again.
async fn set_up(ksqldb: &Ksqldb) {
    let statements = many("init-create-statements.txt");
    let end = statements.iter().skip(1).position(|(sql, _)| sql.contains(" ASSETS_STREAM (")).unwrap() + 1;
    for (sql, captured) in &statements[..end] {
        let captured = captured.as_ref().unwrap();
        if captured.code() == 200 {
            same(sql, captured, &run(ksqldb, sql).await);
            continue;
        }
        let unknown = |text: &str| text.replace("CONCAT", "NOSUCH");
        let captured = Answer { body: unknown(&captured.body), ..captured.clone() };
        same(sql, &captured, &run(ksqldb, &unknown(sql)).await);
    }
}

struct Topics<'b>(&'b str);

impl Topics<'_> {
    /// Writes messages in this order.
    fn write(&self, messages: &[(&str, &str, Option<Value>, Option<i64>)]) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", self.0).set("partitioner", "murmur2_random").create().unwrap();
        for (topic, key, value, time) in messages {
            let payload = value.as_ref().map(Value::to_string);
            let mut record = BaseRecord::<str, str>::to(topic).key(*key);
            if let Some(payload) = &payload {
                record = record.payload(payload);
            }
            if let Some(time) = time {
                record = record.timestamp(*time);
            }
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.poll(Duration::ZERO);
        }
        producer.flush(LONG).unwrap();
    }
}

/// The columns of each row of a capture.
fn rows(name: &str) -> Vec<Vec<Value>> {
    let rows = one(name).1.content().into_iter().filter_map(|(_, value)| value["row"]["columns"].as_array().cloned());
    rows.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// When a time as ksqlDB shows it was, in milliseconds since 1970.
fn millis(time: &str) -> i64 {
    let day = Duration::from_secs(24 * 3600);
    // All that was captured lies on one day.
    let (date, clock) = time.split_once('T').unwrap();
    assert_eq!(date, "2026-11-29");
    let mut parts = clock.split([':', '.']).map(|part| part.parse::<i64>().unwrap());
    let mut next = || parts.next().unwrap();
    let begin = 1_795_910_400_000;
    assert_eq!(begin % i64::try_from(day.as_millis()).unwrap(), 0);
    begin + ((next() * 60 + next()) * 60 + next()) * 1000 + next()
}

/// Writes what the captured registry was told, so that its tables hold what the captures show.
fn tell(brokers: &str) {
    let attribute = |asset: &str, id: &str, value: &str, tag: &str, kind: &str, at: &str| {
        let value = json!({"ID": id, "VALUE": value, "TAG": tag, "TYPE": kind, "attributes": {"timestamp": at}});
        ("ofa_assets", asset.to_owned(), Some(value), None::<i64>)
    };
    let at = "2026-11-29T05:48:19.716Z";
    let mut said = Vec::new();
    for row in rows("query-v1-on-stream.txt") {
        said.push(attribute(
            text(&row[0]),
            text(&row[1]),
            text(&row[2]),
            text(&row[3]),
            text(&row[4]),
            text(&row[5]["timestamp"]),
        ));
    }
    let first = rows("query-v1-push-table.txt");
    let types = rows("query-v1-types.txt");
    for row in first.iter().chain(types.iter().filter(|row| !first.contains(row))) {
        said.push(attribute(text(&row[0]), "AssetType", text(&row[1]), "AssetType", "OpenFactory", at));
    }
    for row in rows("query-v1-star.txt") {
        said.push(attribute(text(&row[0]), "DockerService", text(&row[1]), "DockerService", "OpenFactory", at));
    }
    for row in rows("query-json-accept.txt") {
        said.push(attribute(text(&row[0]), "avail", text(&row[1]), "Availability", "Events", at));
    }
    for row in rows("query-v1-where-scan.txt").iter().filter(|row| row[0] != "PRESS-1") {
        said.push(attribute(text(&row[0]), "managed_by", text(&row[2]), "ManagedBy", "OpenFactory", at));
    }
    for row in rows("query-v1-uns.txt") {
        let value =
            json!({"ASSET_UUID": row[0], "UNS_ID": row[1], "UNS_LEVELS": row[2], "UPDATED_AT": millis(text(&row[3]))});
        said.push(("asset_to_uns_map_topic", text(&row[0]).to_owned(), Some(value), None));
    }
    let ages = rows("ages-connector-named.txt");
    for row in rows("query-v1-connector.txt") {
        let age = ages.iter().find(|age| age[0] == row[0]).map(|age| age[1].as_i64().unwrap());
        said.push(("device_connector_topic", text(&row[0]).to_owned(), Some(json!({"CONNECTOR_CONFIG": row[1]})), age));
    }
    let said: Vec<_> =
        said.iter().map(|(topic, key, value, time)| (*topic, key.as_str(), value.clone(), *time)).collect();
    Topics(brokers).write(&said);
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, looking).await.unwrap_or_else(|_| panic!("never seen: {what}"));
}

async fn told(ksqldb: &Ksqldb, brokers: &str) {
    let to = brokers.to_owned();
    tokio::task::spawn_blocking(move || tell(&to)).await.unwrap();
    let managed = || ksqldb.table("ASSETS").keys().filter(|key| key.ends_with("|managed_by")).count();
    let counts = || {
        [
            ("ASSETS_TYPE", 10),
            ("DOCKER_SERVICES", 8),
            ("ASSETS_AVAIL", 2),
            ("ASSET_TO_UNS_MAP", 6),
            ("DEVICE_CONNECTOR", 3),
        ]
        .iter()
        .all(|(table, count)| ksqldb.table(table).len() == *count)
    };
    until("all rows", || counts() && managed() == 8).await;
}

/// `DESCRIBE` of everything, as the captures put it.
async fn described(ksqldb: &Ksqldb) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for what in ["STREAMS", "TABLES"] {
        let shown = run(ksqldb, &format!("SHOW {what};")).await.content().remove(0).1;
        for source in shown[0][what.to_lowercase()].as_array().unwrap() {
            let sql = format!("DESCRIBE `{}` EXTENDED;", text(&source["name"]));
            let described = run(ksqldb, &sql).await.content().remove(0).1[0]["sourceDescription"].clone();
            let word = |name: &str| text(&described[name]).to_owned();
            let fields: Vec<String> = described["fields"]
                .as_array()
                .unwrap()
                .iter()
                .map(|field| {
                    let key = field["type"].as_str().map(|key| format!(" {key}")).unwrap_or_default();
                    format!("'{} {}{key}'", text(&field["name"]), text(&field["schema"]["type"]))
                })
                .collect();
            let line = format!(
                "{} {} {} {} {} p {} r {} ts {} [{}]",
                word("name"),
                word("type"),
                word("keyFormat"),
                word("valueFormat"),
                word("topic"),
                described["partitions"],
                described["replication"],
                word("timestamp"),
                fields.join(", ")
            );
            let queries = ["readQueries", "writeQueries"].iter().flat_map(|name| described[*name].as_array().unwrap());
            let queries = queries.map(|query| {
                let id =
                    text(&query["id"]).trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_').to_owned();
                let sinks: Vec<String> =
                    query["sinks"].as_array().unwrap().iter().map(|sink| format!("'{}'", text(sink))).collect();
                format!("    Q {id} {} {} [{}]", text(&query["queryType"]), text(&query["state"]), sinks.join(", "))
            });
            found.insert(line, queries.collect());
        }
    }
    found
}

fn captured_description(name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut last = String::new();
    for line in capture::text(name).lines() {
        if line.starts_with("    Q ") {
            found.get_mut(&last).unwrap().insert(line.to_owned());
        } else {
            line.clone_into(&mut last);
            found.insert(line.to_owned(), BTreeSet::new());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_answers_as_the_real_server_did() {
    let kafka = kafka().await;
    let brokers = kafka.address();
    let ksqldb = Ksqldb::start(&brokers).await;
    set_up(&ksqldb).await;
    assert_eq!(described(&ksqldb).await, captured_description(DESCRIBED[0]));
    told(&ksqldb, &brokers).await;

    let mut names: Vec<String> = std::fs::read_dir(capture::folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".txt") && !name.contains("timeline"))
        .filter(|name| !MANY.contains(&name.as_str()) && !DESCRIBED.contains(&name.as_str()))
        .collect();
    // What was captured later: after two devices were taken back, and after a row was inserted.
    let later = |name: &String| ["ages-", "ksql-insert"].iter().any(|begin| name.starts_with(begin));
    names.sort();
    names.sort_by_key(later);
    assert!(names.len() > 40, "{names:?}");
    let mut taken_back = false;
    for name in &names {
        if later(name) && !taken_back {
            let to = brokers.clone();
            let ends = ["Cnc_2", "SHDR-1"].map(|key| ("device_connector_topic", key, None, None));
            tokio::task::spawn_blocking(move || Topics(&to).write(&ends)).await.unwrap();
            until("two connectors gone", || ksqldb.table("DEVICE_CONNECTOR").len() == 1).await;
            taken_back = true;
        }
        let credentials = name.starts_with("auth-").then(|| "Basic cmlnaHQ6cmlnaHQ=".to_owned());
        *ksqldb.faults().credentials.lock().unwrap() = credentials;
        let (request, captured) = one(name);
        same(name, &captured, &send(ksqldb.socket(), &request).await);
    }
    until("the inserted row", || ksqldb.table("ASSETS_AVAIL").contains_key("INS")).await;
    // The tables for others have rows, too.
    assert!(ksqldb.table("ASSETS_UNS").contains_key("PRESS-1|managed_by"));
    assert!(ksqldb.table("ASSETS_AGGREGATED_BY_ASSET_UUID").contains_key("SHDR-COORD"));

    // Every error that was seen while the server went and came back, from a server in that state.
    let fresh = Ksqldb::start(&brokers).await;
    let whole = |server, answering: Option<Answering>| Step {
        server,
        tables: READ.iter().filter_map(|(_, table)| Some(((*table).to_owned(), answering?))).collect(),
        at_most: LONG,
        ..Step::default()
    };
    let mut seen = 0;
    for (sql, captured) in many("errors-seen-live.txt") {
        let captured = captured.unwrap();
        let of = |part: &str| captured.body.contains(part);
        let (server, step) = if of("Wildcards") || of("wildcards") {
            (&ksqldb, None)
        } else if of("in the Metastore") || of("does not exist") {
            (&fresh, None)
        } else if of("PENDING_SHUTDOWN") {
            (&ksqldb, Some(whole(Server::Up, Some(Answering::Ending))))
        } else if of("50302") {
            (&ksqldb, Some(whole(Server::NotReady, None)))
        } else if of("internal error") {
            (&ksqldb, Some(whole(Server::Up, Some(Answering::Internal))))
        } else if of("isn't queryable") {
            (&ksqldb, Some(whole(Server::Up, Some(Answering::NotQueryable))))
        } else if of("which host contains") {
            (&ksqldb, Some(whole(Server::Up, Some(Answering::NoHost))))
        } else if captured.code() == 401 {
            *ksqldb.faults().credentials.lock().unwrap() = Some("Basic cmlnaHQ6cmlnaHQ=".into());
            (&ksqldb, None)
        } else {
            // The same stands in the statements of `registry init`, with the topics that it needs.
            let found = many("init-create-statements.txt")
                .into_iter()
                .any(|(other, answer)| other == sql && answer.is_some_and(|answer| answer.body == captured.body));
            assert!(found, "nobody knows how to bring about: {sql}\n{}", captured.body);
            continue;
        };
        server.play(step.into_iter().collect());
        let path = if sql.starts_with("SELECT") { "/query" } else { "/ksql" };
        same(&sql, &captured, &send(server.socket(), &Request::statement(path, &sql)).await);
        *ksqldb.faults().credentials.lock().unwrap() = None;
        seen += 1;
    }
    assert!(seen >= 9, "{seen}");
}

/// The second session of `registry init` that was captured: over topics that were there, of three partitions, one with
/// another retention than its source. And what OpenFactory's own SQL makes of such topics.
#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_refuses_and_takes_existing_topics_as_the_real_server_did() {
    let kafka = kafka().await;
    let brokers = kafka.address();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let topic =
        |name, partitions, kept| NewTopic::new(name, partitions, TopicReplication::Fixed(1)).set("retention.ms", kept);
    let (week, month) = ("604800000", "2592000000");
    let made = [
        topic("ofa_assets", 3, month),
        topic("enriched_assets_stream_topic", 3, week),
        topic("metrics_targets_topic", 1, week),
    ];
    assert!(admin.create_topics(&made, &AdminOptions::new()).await.unwrap().iter().all(Result::is_ok));
    let ksqldb = Ksqldb::start(&brokers).await;
    let statements = many("init-create-statements.txt");
    let begin = statements.iter().rposition(|(sql, _)| sql.contains(" ASSETS_STREAM (")).unwrap();
    for (sql, captured) in &statements[begin..] {
        let Some(captured) = captured else {
            // Somebody has mended the retention by then. The server is slow, and nobody waits for it.
            let policy = rdkafka::admin::AlterConfig::new(rdkafka::admin::ResourceSpecifier::Topic("ofa_assets"))
                .set("retention.ms", week);
            assert!(admin.alter_configs([&policy], &AdminOptions::new()).await.unwrap().iter().all(Result::is_ok));
            ksqldb.faults().slow.lock().unwrap().push(Slow::Unanswered(Duration::ZERO));
            let client = reqwest_client();
            let request = Request::statement("/ksql", sql);
            let url = format!("{}/ksql", ksqldb.url());
            assert!(client.post(url).header("accept", &request.accept).body(request.body).send().await.is_err());
            let name = sql.split_whitespace().nth(5).unwrap();
            let waiting = async {
                while run(&ksqldb, &format!("DESCRIBE {name} EXTENDED;")).await.code() != 200 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(LONG, waiting).await.expect("it is made all the same");
            continue;
        };
        same(sql, captured, &run(&ksqldb, sql).await);
    }

    // A fresh server, and topics that somebody made before.
    ksqldb.lose_metastore();
    let others = ["asset_to_uns_map_topic", "device_connector_topic", "ofa_assets_uns"];
    for topic in others {
        assert_eq!(kafka_partitions(&brokers, topic), 3, "{topic}");
    }
    for sql in OPENFACTORY {
        let answer = run(&ksqldb, sql).await;
        assert_eq!(answer.code(), 200, "{sql}: {}", answer.body);
    }
    // OpenFactory's own made that of the metrics' targets with one partition; ours has kept what the other run made.
    let wanted = captured_description(DESCRIBED[1]);
    assert_eq!(described(&ksqldb).await, wanted);
}

fn kafka_partitions(brokers: &str, topic: &str) -> usize {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    reader.fetch_metadata(Some(topic), LONG).unwrap().topics()[0].partitions().len()
}

fn reqwest_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The statements of OpenFactory's script in their kinds: where it has CREATE and INSERT INTO in place of CREATE … AS.
const OPENFACTORY: [&str; 22] = [
    "CREATE STREAM ASSETS_STREAM (ASSET_UUID VARCHAR KEY, ID VARCHAR, VALUE VARCHAR, TAG VARCHAR, TYPE VARCHAR, ATTRIBUTES MAP<VARCHAR, VARCHAR>) WITH (KAFKA_TOPIC='ofa_assets', VALUE_FORMAT='JSON');",
    "CREATE STREAM ENRICHED_ASSETS_STREAM (KEY VARCHAR KEY, ASSET_UUID VARCHAR, ID VARCHAR, VALUE VARCHAR, TYPE VARCHAR, TAG VARCHAR, TIMESTAMP VARCHAR) WITH (KAFKA_TOPIC='enriched_assets_stream_topic', VALUE_FORMAT='JSON');",
    "INSERT INTO ENRICHED_ASSETS_STREAM SELECT CONCAT(CAST(ASSET_UUID AS STRING), '|', CAST(ID AS STRING)) AS KEY, ASSET_UUID, ID, VALUE, TYPE, TAG, COALESCE(ATTRIBUTES['timestamp'], 'UNAVAILABLE') AS TIMESTAMP FROM ASSETS_STREAM PARTITION BY CONCAT(CAST(ASSET_UUID AS STRING), '|', CAST(ID AS STRING));",
    "CREATE TABLE ASSETS AS SELECT KEY, LATEST_BY_OFFSET(ASSET_UUID) AS ASSET_UUID, LATEST_BY_OFFSET(ID) AS ID, LATEST_BY_OFFSET(VALUE) AS VALUE, LATEST_BY_OFFSET(TYPE) AS TYPE, LATEST_BY_OFFSET(TAG) AS TAG, LATEST_BY_OFFSET(TIMESTAMP) AS TIMESTAMP FROM ENRICHED_ASSETS_STREAM GROUP BY KEY;",
    "CREATE TABLE ASSETS_AGGREGATED_BY_ASSET_UUID AS SELECT ASSET_UUID, COLLECT_LIST(STRUCT(ID := ID, VALUE := VALUE, TYPE := TYPE, TAG := TAG, TIMESTAMP := TIMESTAMP)) AS READINGS FROM ASSETS GROUP BY ASSET_UUID;",
    "CREATE STREAM DOCKER_SERVICES_STREAM WITH (KAFKA_TOPIC='docker_services_topic', VALUE_FORMAT='JSON') AS SELECT ASSET_UUID, VALUE AS DOCKER_SERVICE FROM ASSETS_STREAM WHERE ID = 'DockerService' AND TYPE = 'OpenFactory';",
    "CREATE SOURCE TABLE DOCKER_SERVICES (ASSET_UUID VARCHAR PRIMARY KEY, DOCKER_SERVICE VARCHAR) WITH (KAFKA_TOPIC='docker_services_topic', VALUE_FORMAT='JSON');",
    "CREATE STREAM ASSETS_TYPE_TOMBSTONES WITH (KAFKA_TOPIC='assets_types_topic', VALUE_FORMAT='KAFKA') AS SELECT ASSET_UUID, CAST(NULL AS VARCHAR) AS TYPE FROM ASSETS_STREAM WHERE ID = 'AssetType' AND TYPE = 'OpenFactory' AND VALUE = 'delete';",
    "CREATE STREAM ASSETS_TYPE_STREAM WITH (KAFKA_TOPIC='assets_types_topic', VALUE_FORMAT='JSON') AS SELECT ASSET_UUID, VALUE AS TYPE FROM ASSETS_STREAM WHERE ID = 'AssetType' AND TYPE = 'OpenFactory';",
    "CREATE SOURCE TABLE ASSETS_TYPE (ASSET_UUID VARCHAR PRIMARY KEY, TYPE VARCHAR) WITH (KAFKA_TOPIC='assets_types_topic', VALUE_FORMAT='JSON');",
    "CREATE STREAM ASSETS_AVAIL_TOMBSTONES WITH (KAFKA_TOPIC='assets_avail_topic', VALUE_FORMAT='KAFKA') AS SELECT ASSET_UUID, CAST(NULL AS VARCHAR) AS VALUE FROM ASSETS_STREAM WHERE (ID IN ('avail', 'agent_avail') AND VALUE = 'delete');",
    "CREATE STREAM ASSETS_AVAIL_STREAM WITH (KAFKA_TOPIC='assets_avail_topic', VALUE_FORMAT='JSON') AS SELECT ASSET_UUID, VALUE AS AVAILABILITY FROM ASSETS_STREAM WHERE (ID IN ('avail', 'agent_avail') AND VALUE != 'delete');",
    "CREATE SOURCE TABLE ASSETS_AVAIL (ASSET_UUID VARCHAR PRIMARY KEY, AVAILABILITY VARCHAR) WITH (KAFKA_TOPIC='assets_avail_topic', VALUE_FORMAT='JSON');",
    "CREATE TABLE ASSET_TO_UNS_MAP_RAW (ASSET_UUID VARCHAR PRIMARY KEY, UNS_ID VARCHAR, UNS_LEVELS MAP<VARCHAR, VARCHAR>, UPDATED_AT TIMESTAMP) WITH (KAFKA_TOPIC='asset_to_uns_map_topic', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON');",
    "CREATE TABLE ASSET_TO_UNS_MAP AS SELECT * FROM ASSET_TO_UNS_MAP_RAW EMIT CHANGES;",
    "CREATE STREAM ASSETS_STREAM_UNS (UNS_ID VARCHAR KEY, ASSET_UUID VARCHAR, ID VARCHAR, VALUE VARCHAR, TAG VARCHAR, TYPE VARCHAR, ATTRIBUTES MAP<VARCHAR, VARCHAR>) WITH (KAFKA_TOPIC='ofa_assets_uns', VALUE_FORMAT='JSON');",
    "INSERT INTO ASSETS_STREAM_UNS SELECT M.UNS_ID AS UNS_ID, A.ASSET_UUID AS ASSET_UUID, A.ID, A.VALUE, A.TAG, A.TYPE, A.ATTRIBUTES FROM ASSETS_STREAM A LEFT JOIN ASSET_TO_UNS_MAP M ON A.ASSET_UUID = M.ASSET_UUID WHERE M.UNS_ID IS NOT NULL PARTITION BY M.UNS_ID;",
    "CREATE TABLE ASSETS_UNS AS SELECT CONCAT(M.UNS_ID, '|', A.ID) AS KEY, A.KEY AS ASSET_UUID_KEY, M.UNS_ID AS UNS_ID, A.ASSET_UUID AS ASSET_UUID, A.ID AS ID, A.VALUE AS VALUE, A.TYPE AS TYPE, A.TAG AS TAG, A.TIMESTAMP AS TIMESTAMP FROM ASSETS A LEFT JOIN ASSET_TO_UNS_MAP M ON A.ASSET_UUID = M.ASSET_UUID WHERE M.UNS_ID IS NOT NULL;",
    "CREATE TABLE DEVICE_CONNECTOR_SOURCE (ASSET_UUID VARCHAR PRIMARY KEY, CONNECTOR_CONFIG VARCHAR) WITH (KAFKA_TOPIC='device_connector_topic', VALUE_FORMAT='JSON');",
    "CREATE TABLE DEVICE_CONNECTOR AS SELECT * FROM DEVICE_CONNECTOR_SOURCE;",
    "CREATE TABLE METRICS_TARGETS_SOURCE (APPLICATION_UUID VARCHAR PRIMARY KEY, HOST VARCHAR, PORT INTEGER, PATH VARCHAR) WITH (KAFKA_TOPIC='metrics_targets_topic', VALUE_FORMAT='JSON');",
    "CREATE TABLE METRICS_TARGETS AS SELECT * FROM METRICS_TARGETS_SOURCE;",
];

/// Stands between `ofop` and the stand-in, and answers some statements with the bytes of a capture.
#[derive(Clone)]
struct Between {
    url: String,
    client: reqwest::Client,
    captured: Arc<Mutex<BTreeMap<String, Answer>>>,
}

async fn between(State(between): State<Between>, uri: axum::http::Uri, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let captured = between.captured.lock().unwrap().get(text(&request["ksql"])).cloned();
    if let Some(answer) = captured {
        let mut response = Response::builder().status(answer.code());
        if let Some(kind) = answer.headers.get("content-type") {
            response = response.header("content-type", kind);
        }
        // Byte by byte: nobody may rely on where one chunk ends.
        let bytes = answer.body.into_bytes().into_iter().map(|byte| Ok::<_, std::io::Error>(Bytes::from(vec![byte])));
        return response.body(Body::from_stream(futures_util::stream::iter(bytes.collect::<Vec<_>>()))).unwrap();
    }
    let url = format!("{}{}", between.url, uri.path());
    let accept = "application/vnd.ksql.v1+json";
    let answer = between.client.post(url).header("accept", accept).body(body).send().await.unwrap();
    let response = Response::builder().status(answer.status().as_u16());
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}

/// What was captured of a whole registry is read as that registry, and an error in place of any of its answers is never
/// read as a registry with less in it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_captured_is_read_as_it_was_meant() {
    let kafka = kafka().await;
    let brokers = kafka.address();
    let ksqldb = Ksqldb::start(&brokers).await;
    set_up(&ksqldb).await;
    told(&ksqldb, &brokers).await;
    let proxy = Between { url: ksqldb.url(), client: reqwest_client(), captured: Arc::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/ksql", post(between)).route("/query", post(between)).with_state(proxy.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let sql = |answer: &(Request, Answer)| {
        let request: Value = serde_json::from_str(&answer.0.body).unwrap();
        text(&request["ksql"]).to_owned()
    };
    let good = [
        "query-v1-types.txt",
        "query-v1-star.txt",
        "query-json-accept.txt",
        "query-v1-uns.txt",
        "query-v1-connector.txt",
        "query-v1-empty.txt",
    ];
    for name in good {
        let found = one(name);
        proxy.captured.lock().unwrap().insert(sql(&found), found.1);
    }
    let registry = || {
        let settings = OpenfactorySettings {
            kafka: KafkaSettings { brokers: brokers.clone(), options: BTreeMap::new() },
            ksqldb: KsqldbSettings { url: url.clone(), ..KsqldbSettings::default() },
            interval: Duration::from_millis(100),
        };
        OpenfactoryRegistry::new(settings, Arc::new(SystemClock::new())).unwrap()
    };
    let reading = registry();
    let whole = async {
        loop {
            // The captures were taken at different times, so that the reading made of them is no evidence of anything;
            // what matters here is that every row is decoded.
            if let Ok(snapshot) = reading.observe().await
                && !snapshot.records.is_empty()
            {
                return snapshot;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            reading.refresh();
        }
    };
    let snapshot = tokio::time::timeout(LONG, whole).await.expect("a whole reading");
    for row in rows("query-v1-types.txt") {
        let id = RecordId::Asset(ofop::model::AssetUuid::new(text(&row[0])).unwrap());
        let Some(Record::Asset(asset)) = snapshot.records.get(&id).map(|found| &found.record) else {
            panic!("{id:?} is missing")
        };
        assert_eq!(asset.asset_type, text(&row[1]));
        let place = rows("query-v1-uns.txt").into_iter().find(|place| place[0] == row[0]);
        assert_eq!(
            asset.uns.as_ref().map(|uns| uns.uns_id.clone()),
            place.map(|place| text(&place[1]).to_owned()),
            "{id:?}"
        );
    }
    for row in rows("query-v1-connector.txt") {
        let id = RecordId::Connector(ofop::model::AssetUuid::new(text(&row[0])).unwrap());
        let Some(Record::Connector { config, .. }) = snapshot.records.get(&id).map(|found| &found.record) else {
            panic!("{id:?} is missing")
        };
        assert_eq!(
            serde_json::from_str::<Value>(config).unwrap(),
            serde_json::from_str::<Value>(text(&row[1])).unwrap()
        );
    }

    // Every captured error of a query, in place of each of the answers in turn. A reading with an error is none.
    let mut errors: Vec<Answer> = many("errors-seen-live.txt").into_iter().filter_map(|(_, answer)| answer).collect();
    errors.extend(
        [
            "query-v1-malformed.txt",
            "query-v1-on-raw-table.txt",
            "query-v1-unknown-column.txt",
            "nowhere.txt",
            "auth-none.txt",
        ]
        .map(|name| one(name).1),
    );
    let statements: Vec<String> = proxy.captured.lock().unwrap().keys().cloned().collect();
    for (index, error) in errors.iter().enumerate() {
        // Each error once, at another query every time: a reading ends with it, whichever it is.
        let sql = &statements[index % statements.len()];
        let before = proxy.captured.lock().unwrap().insert(sql.clone(), error.clone()).unwrap();
        let fresh = registry();
        let observed = fresh.observe().await;
        let complete = observed.as_ref().is_ok_and(|snapshot| snapshot.complete);
        assert!(!complete, "{sql} was answered {} {} and the reading counts as whole", error.status, error.body);
        proxy.captured.lock().unwrap().insert(sql.clone(), before);
    }
    server.abort();
}
