//! A stand-in for ksqlDB 7.7: its wire format over the real topics of a real broker, built around the captures of a
//! real server in `tests/ksqldb_wire/`. `tests/ksqldb_wire.rs` replays each of them.
//!
//! # What it does as the server does
//!
//! - `/ksql`, `/query` and `/query-stream` in the formats that the server chooses by `Accept`; each error with its
//!   status, code, kind, text, and its body in one piece or in chunks.
//! - The statements that OpenFactory and `ofop` use: `CREATE` of streams, tables and source tables, `… AS SELECT` with
//!   conditions, joins and aggregates, `INSERT INTO`, `DESCRIBE`, `SHOW`, pull queries, and queries of what comes with a
//!   limit. Whatever else is a syntax error, an unknown column, function, option or source is refused.
//! - Every query is one of its own and reads its topics at its own pace: rows of different tables come at different
//!   times, a tombstone and the row that it should delete race. Tables made by a query have topics of their own.
//! - A topic that exists must have the partitions and the retention that a statement asks for; one that does not is made
//!   compacted for a table, and with a policy that forgets for a stream.
//! - It goes and comes back as the server does ([`recovery`]): refused connections, 503, streams that end, 200 with a part
//!   of the rows for each table, 500 for one query, until everything is there. A `CREATE` may be slow, or not be answered.
//!
//! # What it cannot prove
//!
//! - That the server takes a statement of a form that is in no capture: its grammar, its type rules and its plans are larger.
//! - How long anything takes, alone or under load, and in which order the tables of a real server come back.
//! - Several servers of one cluster, standby replicas, TLS of its own, ACLs, other versions than 7.7.0.
//! - State that is restored from changelogs, and offsets of consumer groups that outlive a metastore.
//! - Windows, other formats than JSON and KAFKA, and every function beside the five that OpenFactory uses.
//! - `TERMINATE`, `DROP`, `ALTER`, variables and connectors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::result_large_err,
    dead_code,
    reason = "support for tests"
)]

#[path = "ksqldb/capture.rs"]
pub(crate) mod capture;
#[path = "ksqldb/catalog.rs"]
mod catalog;
#[path = "ksqldb/eval.rs"]
mod eval;
#[path = "ksqldb/pull.rs"]
mod pull;
#[path = "ksqldb/recovery.rs"]
pub(crate) mod recovery;
#[path = "ksqldb/sql.rs"]
mod sql;
#[path = "ksqldb/statements.rs"]
mod statements;
#[path = "ksqldb/streams.rs"]
mod streams;
#[path = "ksqldb/text.rs"]
mod text;
#[path = "ksqldb/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tower_service::Service as _;

use catalog::Catalog;
use eval::Row;
use recovery::{Answered, Answering, Playing, Random, Server, Step};
pub(crate) use statements::Slow;
use streams::{Message, Running, Store, follow};
use wire::{DELIMITED, Format, Refusal, V1_JSON};

/// What goes wrong on demand.
#[derive(Default)]
pub(crate) struct Faults {
    /// Milliseconds that every query lies behind its topics.
    pub(crate) lag: AtomicU64,
    /// The same for the queries that make these streams or tables alone.
    pub(crate) lags: Mutex<BTreeMap<String, Duration>>,
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
    /// What becomes of the next `CREATE`s, the last first.
    pub(crate) slow: Mutex<Vec<Slow>>,
    /// Who comes last where a row and its tombstone race: 0 as it happens, 1 the row, 2 the tombstone.
    pub(crate) race: AtomicU8,
    random: AtomicU64,
}

impl Faults {
    fn lag_of(&self, name: &str) -> Duration {
        let every = Duration::from_millis(self.lag.load(Ordering::SeqCst));
        self.lags.lock().unwrap().get(name).copied().unwrap_or(every)
    }

    /// Whether the queries that were made first come last this time.
    fn row_last(&self, (of, all): (u64, u64)) -> bool {
        match self.race.load(Ordering::SeqCst) {
            1 => true,
            2 => false,
            _ => {
                let mut random = Random(self.random.load(Ordering::SeqCst) | 1);
                let number = random.below(all);
                self.random.store(random.0, Ordering::SeqCst);
                number < of
            }
        }
    }
}

struct Shared {
    brokers: String,
    reader: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
    catalog: Mutex<Catalog>,
    running: Mutex<Vec<Running>>,
    /// Every message, by topic.
    logs: Mutex<BTreeMap<String, Vec<Arc<Message>>>>,
    /// Rows, by table.
    stores: Mutex<BTreeMap<String, Store>>,
    playing: Mutex<Option<Playing>>,
    faults: Faults,
    stop: AtomicBool,
    number: AtomicU64,
    whole: AtomicUsize,
}

impl Shared {
    /// The state of the server as a whole.
    fn server(&self) -> Server {
        let mut playing = self.playing.lock().unwrap();
        playing.as_mut().and_then(Playing::now).map(|step| step.server).unwrap_or_default()
    }

    /// How a table answers now, and which of its rows if it is a part of them.
    fn asked(&self, table: &str, reading: bool) -> (Answering, u64) {
        if self.faults.empty.load(Ordering::SeqCst) {
            return (Answering::Rows(0), 0);
        }
        let mut playing = self.playing.lock().unwrap();
        let Some(playing) = playing.as_mut() else { return (Answering::Full, 0) };
        let step = if reading { playing.asked(table) } else { playing.now() };
        step.map_or((Answering::Full, 0), |step| (step.tables.get(table).copied().unwrap_or_default(), step.seed))
    }

    fn answered(&self, table: &str, status: u16, rows: usize) {
        self.whole.fetch_add(usize::from(status == 200), Ordering::SeqCst);
        if let Some(playing) = self.playing.lock().unwrap().as_mut() {
            playing.answered(table, status, rows);
        }
    }

    fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::SeqCst)
    }
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
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", brokers);
        let shared = Arc::new(Shared {
            brokers: brokers.to_owned(),
            reader: client.create().unwrap(),
            admin: client.create().unwrap(),
            catalog: Mutex::new(Catalog::fresh()),
            running: Mutex::default(),
            logs: Mutex::default(),
            stores: Mutex::default(),
            playing: Mutex::default(),
            faults: Faults::default(),
            stop: AtomicBool::new(false),
            number: AtomicU64::new(1),
            whole: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(serve(Arc::clone(&shared), listener, port));
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
        let stores = self.shared.stores.lock().unwrap();
        stores.get(name).into_iter().flatten().map(|(key, kept)| (key.clone(), kept.row.clone())).collect()
    }

    /// Drops a row from a table behind everybody's back.
    pub(crate) fn lose(&self, table: &str, key: &str) {
        self.shared.stores.lock().unwrap().get_mut(table).unwrap().remove(key).unwrap();
    }

    /// It goes and comes back as the steps say, beginning now.
    pub(crate) fn play(&self, steps: Vec<Step>) {
        *self.shared.playing.lock().unwrap() = Some(Playing::new(steps));
    }

    /// Whether there are steps left.
    pub(crate) fn is_playing(&self) -> bool {
        self.shared.playing.lock().unwrap().as_mut().is_some_and(|playing| playing.now().is_some())
    }

    /// What was answered since the steps began.
    pub(crate) fn answered(&self) -> Vec<Answered> {
        self.shared.playing.lock().unwrap().as_ref().map(|playing| playing.answered.clone()).unwrap_or_default()
    }

    /// The number of the step that is being played.
    pub(crate) fn step(&self) -> usize {
        self.shared.playing.lock().unwrap().as_mut().map(Playing::step).unwrap_or_default()
    }

    /// How many queries of a reading were answered with rows, since it began.
    pub(crate) fn requests(&self) -> usize {
        self.shared.whole.load(Ordering::SeqCst)
    }

    /// Its command topic is gone: it knows no stream and no table, under a new service id. Topics stay.
    pub(crate) fn lose_metastore(&self) {
        *self.shared.catalog.lock().unwrap() = Catalog::fresh();
        self.shared.running.lock().unwrap().clear();
        self.shared.stores.lock().unwrap().clear();
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

/// Put on an answer that never comes: the connection ends instead.
#[derive(Clone)]
struct Lost;

fn lost() -> Response {
    let mut response = StatusCode::OK.into_response();
    response.extensions_mut().insert(Lost);
    response
}

/// Takes connections while it is not refused.
async fn serve(shared: Arc<Shared>, listener: TcpListener, port: u16) {
    const LOOK: Duration = Duration::from_millis(10);
    let router = Router::new()
        .route("/ksql", post(statement))
        .route("/query", post(query))
        .route("/query-stream", post(query_stream))
        .route("/info", get(info))
        .fallback(nowhere)
        .with_state(Arc::clone(&shared));
    let mut listener = Some(listener);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        if shared.server() == Server::Refused {
            listener = None;
            connections.abort_all();
        } else if listener.is_none() {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            if socket.bind(([127, 0, 0, 1], port).into()).is_ok() {
                listener = Some(socket.listen(1024).unwrap());
            }
        }
        while connections.try_join_next().is_some() {}
        let Some(open) = &listener else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let Ok(Ok((stream, _))) = tokio::time::timeout(LOOK, open.accept()).await else { continue };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut router = router.clone();
            async move {
                let response: Response = router.call(request.map(Body::new)).await.unwrap();
                match response.extensions().get::<Lost>() {
                    Some(Lost) => Err(std::io::Error::other("the connection ends")),
                    None => Ok(response),
                }
            }
        });
        let io = hyper_util::rt::TokioIo::new(stream);
        let mut server = hyper::server::conn::http1::Builder::new();
        server.auto_date_header(false);
        connections.spawn(async move {
            let _ = server.serve_connection(io, service).await;
        });
    }
}

/// A request that was admitted.
struct Request {
    sql: String,
    earliest: bool,
    format: Format,
}

/// Checks what every request must have.
async fn admit(shared: &Shared, headers: &HeaderMap, body: &Bytes, field: &str) -> Result<Request, Response> {
    const PAGE: &str = "<html><body><h1>Something went wrong</h1></body></html>";
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    while shared.server() == Server::Paused {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let page = |status: u16| {
        let status = StatusCode::from_u16(status).unwrap();
        (status, [("content-type", "text/html; charset=utf-8")], PAGE).into_response()
    };
    match shared.server() {
        Server::NotReady => return Err(Refusal::not_ready().into_response()),
        Server::BadGateway => return Err(page(502)),
        Server::Page => return Err(page(200)),
        Server::Refused => return Err(lost()),
        Server::Up | Server::Paused => {}
    }
    if let Some(wanted) = &*shared.faults.credentials.lock().unwrap()
        && header("authorization") != wanted
    {
        return Err(Refusal::unauthorized(!header("authorization").is_empty()).into_response());
    }
    let failing = &shared.faults.failing;
    if failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        let status = shared.faults.status.load(Ordering::SeqCst);
        let refusal = if status == 503 {
            Refusal::not_ready()
        } else {
            Refusal::generic(status, u32::from(status) * 100, "on demand")
        };
        return Err(refusal.into_response());
    }
    let format = match (header("accept"), field) {
        (V1_JSON, _) | ("application/json", "ksql") => Format::V1,
        ("application/json", _) => Format::Json,
        ("" | "*/*" | DELIMITED, _) => Format::Delimited,
        _ => return Err(StatusCode::NOT_ACCEPTABLE.into_response()),
    };
    let request: Value = serde_json::from_slice(body).map_err(|_| {
        let text = String::from_utf8_lossy(body);
        let token: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
        let message = format!(
            "Invalid JSON in request: Unrecognized token '{token}': was expecting (JSON String, Number, Array, Object or \
             token 'null', 'true' or 'false')\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` \
             disabled); line: 1, column: {}]",
            token.chars().count() + 1
        );
        Refusal::generic(400, 40000, message).into_response()
    })?;
    let Some(sql) = request[field].as_str() else {
        let message = format!("\"{field}\" field must be populated");
        return Err(Refusal::generic(400, 40000, message).typed().into_response());
    };
    let properties = if field == "ksql" { &request["streamsProperties"] } else { &request["properties"] };
    let offset = |name: &str| properties[name].as_str() == Some("earliest");
    let earliest = offset("ksql.streams.auto.offset.reset") || offset("auto.offset.reset");
    Ok(Request { sql: sql.trim().to_owned(), earliest, format })
}

async fn statement(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    match admit(&shared, &headers, &body, "ksql").await {
        Ok(request) => statements::carry_out(&shared, &request.sql, request.earliest).await,
        Err(refused) => refused,
    }
}

async fn query(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    rows(&shared, &headers, &body, "ksql").await
}

async fn query_stream(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    rows(&shared, &headers, &body, "sql").await
}

async fn rows(shared: &Shared, headers: &HeaderMap, body: &Bytes, field: &str) -> Response {
    let request = match admit(shared, headers, body, field).await {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    if shared.faults.hang.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    match pull::query(shared, &request.sql, request.earliest).await {
        Ok((rows, cut)) => rows.response(request.format, cut || shared.faults.cut.load(Ordering::SeqCst)),
        Err(refusal) => refusal.into_response(),
    }
}

async fn info(State(shared): State<Arc<Shared>>) -> Response {
    if shared.server() != Server::Up {
        return Refusal::not_ready().into_response();
    }
    let info = json!({"KsqlServerInfo": {"version": "7.7.0", "ksqlServiceId": "ofa_ksql_", "serverStatus": "RUNNING"}});
    ([("content-type", "application/json")], info.to_string()).into_response()
}

async fn nowhere() -> Response {
    let page = "<html><body><h1>Resource not found</h1></body></html>";
    (StatusCode::NOT_FOUND, [("content-type", "text/html; charset=utf-8")], page).into_response()
}
