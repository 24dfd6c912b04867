//! The HTTP server as a client sees it: a real listener on a free port, a client that speaks bare HTTP/1.1.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot talk to its server fails"
)]

#[cfg(test)]
#[path = "support/factory.rs"]
mod factory;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use factory::{Factory, SECRET, app, device, instance};
use ofop::clock::SystemClock;
use ofop::http::{self, Token, Tokens};
use ofop::model::{
    Actor, Command, ConditionKind, FailureKind, Health, HiddenValues, Hold, InstanceName, Problem, PruneBlock,
    PruneVerdict, Request, Revision, Role, SourceTrouble, StepFailure, Suspension, Sync, Term, TroubleReason,
};
use ofop::report::archive::Limits;
use ofop::report::history::RevisionHistory;
use ofop::report::{Report, StepReport};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const TOKEN: &str = "a-token-of-some-length";
const SECOND: Duration = Duration::from_secs(1);

/// A server with what is behind it.
struct Server {
    address: SocketAddr,
    report: Report,
    commands: mpsc::Receiver<Request>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    fn code(&self) -> String {
        let body = self.json();
        assert!(!body["error"]["message"].as_str().unwrap_or_default().is_empty(), "{body}");
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Server {
    async fn start(token: Option<&str>) -> Server {
        Server::start_with(token.map(|token| Token::new(token).unwrap()).into()).await
    }

    async fn start_with(tokens: Tokens) -> Server {
        Server::start_at("127.0.0.1:0", tokens).await
    }

    async fn start_at(listen: &str, tokens: Tokens) -> Server {
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let report = Report::new(instance());
        let (sender, commands) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = http::serve(listener, report.clone(), sender, tokens, async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(serving);
        Server { address, report, commands, stop, task }
    }

    async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// A connection that has sent this much, and goes on.
    async fn open(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    async fn post(&self, path: &str, authorization: Option<&str>, body: &str) -> Answer {
        let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        self.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}

fn step(factory: &Factory, uuid: &str, outcome: Result<(), StepFailure>) -> StepReport {
    let id = app(uuid);
    let planned = factory::update_step(&factory.desired.resources[&id].services[0].spec, &id);
    StepReport::of(id, None, Revision("r".into()), &planned, outcome, factory.wall(), SECOND)
}

const BEARER: &str = "Bearer a-token-of-some-length";

#[tokio::test]
async fn the_history_is_answered_page_by_page() {
    let server = Server::start(None).await;
    assert_eq!(server.get("/api/v1/history").await.json(), json!({ "history": [], "next": null }), "none is kept");
    // The factory lives in a year of its own.
    let limits = Limits { keep: 1_500_000_000 * SECOND, bytes: 1 << 20 };
    server.report.keep_history(RevisionHistory::open(None, limits, Arc::new(SystemClock::new())));
    let mut factory = Factory::empty().with_app("PRESS-7");
    for commit in ["aa1", "ab2", "ac3"] {
        factory.commit(commit, "A change");
        factory.tell(&server.report, SECOND);
    }
    let names = |answer: &Value| {
        let all = answer["history"].as_array().unwrap().iter();
        all.map(|entry| entry["revision"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = server.get("/api/v1/history?limit=2").await.json();
    assert_eq!(names(&first), ["ac3", "ab2"]);
    assert_eq!(first["history"][0]["commit"]["author"], "Line Team");
    let second = server.get(&format!("/api/v1/history?limit=2&before={}", first["next"])).await.json();
    assert_eq!((names(&second), &second["next"]), (vec!["aa1".to_owned()], &Value::Null));
    assert_eq!(names(&server.get("/api/v1/history?revision=ab&resources=true").await.json()), ["ab2"]);
    assert!(names(&server.get("/api/v1/history?for=app/PRESS-7").await.json()).is_empty(), "nothing touched it");
    let resource = server.get("/api/v1/resources/app/PRESS-7").await.json();
    assert_eq!(resource["revisions"], json!([]));
    for wrong in ["limit=0", "limit=1001", "limit=51&resources=true", "for=press", "before=x", "unknown=1"] {
        let answer = server.get(&format!("/api/v1/history?{wrong}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{wrong}");
    }
}

#[tokio::test]
async fn health_and_readiness_tell_apart_alive_and_ready() {
    let server = Server::start(None).await;
    assert_eq!(server.get("/healthz").await.body, "ok\n");
    let waiting = server.get("/readyz").await;
    assert_eq!(waiting.status, 503);
    assert_eq!(waiting.json(), json!({"ready": false, "reasons": ["the first pass is not done"], "warnings": []}));
    Factory::empty().tell(&server.report, SECOND);
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
    server.stop().await;
}

#[tokio::test]
async fn resources_are_listed_filtered_and_found_by_encoded_uuids() {
    let server = Server::start(None).await;
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.add(device("odd /ü%?#"));
    factory.drift(&app("PRESS-7"));
    factory.tell(&server.report, SECOND);
    server.report.step(step(&factory, "PRESS-7", Ok(())));

    let all = server.get("/api/v1/resources").await.json();
    assert_eq!(all["resources"][0]["resource"], "app/PRESS-7");
    assert_eq!(all["resources"][0]["drift"][0]["type"], "modified");
    assert_eq!(all["resources"].as_array().unwrap().len(), 2);
    let synced = server.get("/api/v1/resources?sync=synced").await.json();
    assert_eq!(synced["resources"][0]["resource"], "device/odd /ü%?#");
    assert_eq!(server.get("/api/v1/resources?kind=app&sync=Synced").await.json()["resources"], json!([]));
    assert_eq!(server.get("/api/v1/resources?sync=wrong").await.code(), "bad_request");
    assert_eq!(server.get("/api/v1/resources?nonsense=1").await.status, 400);

    let one = server.get("/api/v1/resources/app/PRESS-7").await.json();
    assert_eq!(one["services"][0]["replicas"], json!({"wanted": 1, "running": 1}));
    assert_eq!(one["events"][0]["sequence"], 1);
    let odd = server.get("/api/v1/resources/device/odd%20%2F%C3%BC%25%3F%23").await;
    assert_eq!(odd.json()["uuid"], "odd /ü%?#");
    assert_eq!(server.get("/resources/device/odd%20%2F%C3%BC%25%3F%23").await.status, 200);
    for missing in ["/api/v1/resources/app/NONE", "/api/v1/resources/pod/x", "/api/v1/nothing", "/nothing"] {
        let answer = server.get(missing).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{missing}");
    }
    assert_eq!(server.get("/resources/app/NONE").await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn commands_need_the_token() {
    let mut server = Server::start(Some(TOKEN)).await;
    Factory::empty().with_app("PRESS-7").tell(&server.report, SECOND);
    for wrong in [None, Some("Bearer wrong"), Some("Basic YTpi"), Some(TOKEN), Some("Bearer "), Some("Bear")] {
        let answer = server.post("/api/v1/reconcile", wrong, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{wrong:?}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    }
    assert!(server.commands.try_recv().is_err());
    let body = r#"{"resource":"app/PRESS-7"}"#;
    let mut asked = 0;
    for (path, body, command) in [
        ("reconcile", "", Command::Reconcile { confirm_prune: false }),
        ("reconcile", r#"{"confirm_prune":true}"#, Command::Reconcile { confirm_prune: true }),
        ("reconcile", body, Command::ReconcileOne(app("PRESS-7"))),
        ("suspend", body, Command::Suspend(Some(app("PRESS-7")), Term::default())),
        ("suspend", r#"{"all":true}"#, Command::Suspend(None, Term::default())),
        ("resume", body, Command::Resume(Some(app("PRESS-7")))),
        ("resume", r#"{"all":true}"#, Command::Resume(None)),
        ("down", body, Command::Down(app("PRESS-7"))),
        ("adopt", body, Command::Adopt { resource: app("PRESS-7"), from: None }),
        (
            "adopt",
            r#"{"resource":"app/PRESS-7","from":"plant2"}"#,
            Command::Adopt { resource: app("PRESS-7"), from: Some(InstanceName::new("plant2").unwrap()) },
        ),
    ] {
        let answer = server.post(&format!("/api/v1/{path}"), Some(BEARER), body).await;
        assert_eq!(answer.status, 202, "{path}");
        if path == "reconcile" {
            asked += 1;
            assert_eq!(answer.json(), json!({ "accepted": true, "request": asked }));
        }
        let actor = Actor { name: "token".into(), address: Some("127.0.0.1".into()) };
        assert_eq!(server.commands.try_recv().unwrap(), Request { command, actor });
    }
    server.stop().await;
}

#[tokio::test]
async fn a_command_carries_the_name_of_its_token_whatever_the_client_calls_itself() {
    let tokens = [("anna", "token-of-anna"), ("pipeline", "token-of-pipeline")];
    let tokens = tokens.into_iter().map(|(name, token)| Token::named(name, token).unwrap()).collect();
    let mut server = Server::start_with(tokens).await;
    for (token, name) in [("token-of-anna", "anna"), ("token-of-pipeline", "pipeline")] {
        let headers =
            format!("Bearer {token}\r\nX-User: boss\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1");
        assert_eq!(server.post("/api/v1/suspend", Some(&headers), EVERYTHING).await.status, 202);
        let actor = Actor { name: name.into(), address: Some("127.0.0.1".into()) };
        assert_eq!(
            server.commands.try_recv().unwrap(),
            Request { command: Command::Suspend(None, Term::default()), actor }
        );
    }
    for wrong in ["token-of-nobody", "anna", "anna token-of-anna"] {
        let answer = server.post("/api/v1/suspend", Some(&format!("Bearer {wrong}")), "").await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{wrong}");
    }
    assert!(server.commands.try_recv().is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_token_allows_what_its_role_says() {
    let tokens = [("screen", Role::Read), ("shift", Role::Operate), ("chief", Role::Confirm)];
    let token = |name: &str| format!("0123456789-of-{name}");
    let made = tokens.iter().map(|(name, role)| Token::named(name, &token(name)).unwrap().role(*role)).collect();
    let mut server = Server::start_with(made).await;
    Factory::empty().with_app("PRESS-7").tell(&server.report, SECOND);
    let body = r#"{"resource":"app/PRESS-7"}"#;
    for (path, body, needed) in [
        ("reconcile", "", Role::Operate),
        ("suspend", body, Role::Operate),
        ("resume", EVERYTHING, Role::Operate),
        ("reconcile", r#"{"confirm_prune":true}"#, Role::Confirm),
        ("down", body, Role::Confirm),
        ("adopt", body, Role::Confirm),
    ] {
        for (name, role) in tokens {
            let answer = server.post(&format!("/api/v1/{path}"), Some(&format!("Bearer {}", token(name))), body).await;
            let sent = server.commands.try_recv();
            if role >= needed {
                assert_eq!((answer.status, sent.unwrap().actor.name.as_str()), (202, name), "{path} {body}");
            } else {
                assert_eq!((answer.status, answer.code().as_str()), (403, "not_permitted"), "{path} {body} {name}");
                assert!(sent.is_err());
            }
        }
    }
    let refused = server.get("/api/v1/events?type=command").await.json();
    assert_eq!(refused["events"][0]["actor"]["name"], "screen");
    assert_eq!(refused["events"][0]["refused"], "not_permitted");
    server.stop().await;
}

#[tokio::test]
async fn others_read_with_a_token_alone_unless_everybody_may() {
    let basic = |password: &str| format!("Basic {}", BASE64.encode(format!("anybody:{password}")));
    let reading = [
        "/",
        "/resources/app/PRESS-7",
        "/api/v1/resources",
        "/api/v1/resources/app/PRESS-7",
        "/api/v1/plan",
        "/api/v1/events",
    ];
    let open = ["/healthz", "/readyz", "/leaderz", "/metrics", "/assets/status.css"];
    let tokens = || -> Tokens { [Token::new(TOKEN).unwrap().role(Role::Read)].into_iter().collect() };
    let ask = async |server: &Server, path: &str, authorization: &str| {
        let lines = format!("Host: plant.example\r\nConnection: close\r\n{authorization}\r\n");
        server.send(&format!("GET {path} HTTP/1.1\r\n{lines}")).await
    };
    let header = |value: &str| format!("Authorization: {value}\r\n");

    let server = Server::start_at("0.0.0.0:0", tokens()).await;
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&server.report, SECOND);
    for path in open {
        assert_ne!(ask(&server, path, "").await.status / 100, 4, "{path}");
    }
    for path in reading {
        for wrong in ["".to_owned(), header("Bearer wrong"), header(&basic("wrong")), header("Basic %%%")] {
            let answer = ask(&server, path, &wrong).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path} {wrong}");
            assert!(answer.head.contains("www-authenticate: basic"), "a browser asks: {}", answer.head);
        }
        for right in [header(BEARER), header(&basic(TOKEN))] {
            assert_eq!(ask(&server, path, &right).await.status, 200, "{path}");
        }
    }
    let (code, said) = read_beside(&server, "").await;
    assert!(code == Some(2) && said.contains("hint: name the file with its token: --token-file FILE"), "{said}");
    let (code, said) = read_beside(&server, "0123456789-of-nobody").await;
    assert!(code == Some(2) && said.contains("hint: is the first token of --token-file"), "{said}");
    assert_eq!(read_beside(&server, TOKEN).await.0, Some(0));
    // What browsers send along for other pages gives no command.
    let answer = server.post("/api/v1/reconcile", Some(&basic(TOKEN)), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"));
    server.stop().await;

    let server = Server::start_at("0.0.0.0:0", Tokens::default()).await;
    let answer = ask(&server, "/api/v1/resources", "").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "no_token_configured"));
    let hint = answer.json()["error"]["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains(ofop::http::MAKE_A_TOKEN) && hint.contains("--public-read"), "{hint}");
    assert_eq!(ask(&server, "/metrics", "").await.status, 200);
    server.stop().await;

    for public in [Tokens::default().public_read(true), tokens().public_read(true)] {
        let server = Server::start_at("0.0.0.0:0", public).await;
        factory.tell(&server.report, SECOND);
        for path in reading {
            assert_eq!(ask(&server, path, "").await.status, 200, "{path}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_secret_outside_an_environment_is_answered_nowhere() {
    let mut server = Server::start(Some(TOKEN)).await;
    let hidden = HiddenValues::default();
    hidden.add(["hunter2<\"sentinel\">"]);
    server.report.hide(hidden);
    let press = app("PRESS-7");
    let mut factory = Factory::empty().with_app("PRESS-7");
    let image = "plant/press:hunter2<\"sentinel\">";
    let services = &mut factory.platform.as_mut().unwrap().services;
    let (name, mut service) = services.iter().next().map(|(name, service)| (name.clone(), service.clone())).unwrap();
    std::sync::Arc::make_mut(&mut service).spec_mut().image = image.to_owned();
    services.insert(name, service);
    factory.condition(&press, ConditionKind::Conflict, "Odd", &format!("no such image {image}"));
    let mut following = server.open("GET /api/v1/events?follow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    factory.tell(&server.report, SECOND);
    let mut seen = 0;
    for path in [
        "/",
        "/resources/app/PRESS-7",
        "/api/v1/resources",
        "/api/v1/resources/app/PRESS-7",
        "/api/v1/plan",
        "/api/v1/events",
        "/metrics",
        "/readyz",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.contains("hunter2") && !answer.body.contains("sentinel"), "{path}: {}", answer.body);
        seen += usize::from(answer.body.contains("press:(hidden)"));
    }
    assert!(seen >= 4, "it is shown without the secret: {seen}");
    let image = server.get("/api/v1/resources/app/PRESS-7").await.json()["services"][0]["image"].clone();
    assert_eq!(image, "plant/press:(hidden)");
    let mut events = String::new();
    while !events.contains("(hidden)") {
        let mut bytes = [0; 4096];
        let count = following.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "the stream ended: {events}");
        events.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(!events.contains("hunter2") && !events.contains("sentinel"), "{events}");
    drop(following);
    assert!(server.commands.try_recv().is_err());
    server.stop().await;
}

/// `ofop events` beside this server: its exit code, and what it says.
async fn read_beside(server: &Server, token: &'static str) -> (Option<i32>, String) {
    let address = server.address.to_string();
    let run = move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_ofop"))
            .args(["events", "--address", &address])
            .current_dir(std::env::temp_dir())
            .env_clear()
            .env("OFOP_TOKEN", token)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What a command about everything says.
const EVERYTHING: &str = r#"{"all":true}"#;

/// Resumes, and what the answer has to say about it.
async fn resume(server: &mut Server, body: &str) -> Option<String> {
    let answer = server.post("/api/v1/resume", Some(BEARER), body).await.json();
    server.commands.try_recv().unwrap();
    assert_eq!(answer["accepted"], true);
    answer["note"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_word_that_does_not_end_a_suspension_says_so() {
    let mut server = Server::start(Some(TOKEN)).await;
    let mut factory = Factory::empty().with_app("ONE").with_app("TWO").with_app("THREE");
    factory.tell(&server.report, SECOND);
    assert_eq!(resume(&mut server, EVERYTHING).await, None);
    assert_eq!(resume(&mut server, r#"{"resource":"app/ONE"}"#).await, None);
    factory.suspend(&app("ONE"), Suspension::Manifest);
    factory.suspend(&app("TWO"), Suspension::Person);
    factory.plan.as_mut().unwrap().suspended = Some(Hold::new("2026-01-02T03:04:05Z", Term::default()));
    factory.tell(&server.report, SECOND);
    assert_eq!(
        resume(&mut server, EVERYTHING).await.unwrap(),
        "still suspended by themselves: app/ONE (`x-ofop` in desired/app_press.yml says `suspend: true`), \
         app/TWO (`ofop resume app/TWO`)"
    );
    assert_eq!(
        resume(&mut server, r#"{"resource":"app/ONE"}"#).await.unwrap(),
        "app/ONE stays suspended: `x-ofop` in desired/app_press.yml says `suspend: true`; \
         everything is suspended since 2026-01-02T03:04:05Z, until `ofop resume --all`"
    );
    let status = server.get("/api/v1/resources").await.json();
    assert_eq!(status["suspended"], json!({"since": "2026-01-02T03:04:05Z"}));
    assert_eq!(server.get("/api/v1/plan").await.json()["suspended"], "2026-01-02T03:04:05Z");
    assert!(server.get("/").await.body.contains("Everything is suspended"));
    assert!(server.get("/metrics").await.body.contains("\nofop_suspended 1\n"));
    server.stop().await;
}

#[tokio::test]
async fn what_is_suspended_is_not_taken_down_before_that_is_lifted() {
    let mut server = Server::start(Some(TOKEN)).await;
    let mut factory = Factory::empty().with_app("ONE").with_app("TWO").with_app("THREE");
    factory.suspend(&app("ONE"), Suspension::Manifest);
    factory.suspend(&app("TWO"), Suspension::Person);
    factory.tell(&server.report, SECOND);
    for (resource, status) in [("app/ONE", 409), ("app/TWO", 409), ("app/THREE", 202)] {
        let answer = server.post("/api/v1/down", Some(BEARER), &format!(r#"{{"resource":"{resource}"}}"#)).await;
        assert_eq!(answer.status, status, "{resource} {}", answer.body);
        assert!(status == 202 || answer.code() == "suspended");
    }
    assert_eq!(server.commands.try_recv().unwrap().command, Command::Down(app("THREE")));
    factory.plan.as_mut().unwrap().suspended = Some(Hold::new("2026-01-02T03:04:05Z", Term::default()));
    factory.tell(&server.report, SECOND);
    let answer = server.post("/api/v1/down", Some(BEARER), r#"{"resource":"app/THREE"}"#).await;
    assert!(answer.status == 409 && answer.body.contains("resume --all"), "{}", answer.body);
    assert!(server.commands.try_recv().is_err());
    server.stop().await;
}

#[tokio::test]
async fn refused_commands_are_events_and_a_flood_of_them_is_counted() {
    let server = Server::start(Some(TOKEN)).await;
    let mut factory = Factory::empty().with_app("ONE");
    factory.suspend(&app("ONE"), Suspension::Person);
    factory.tell(&server.report, SECOND);
    let body = r#"{"resource":"app/ONE"}"#;
    assert_eq!(server.post("/api/v1/down", Some(BEARER), body).await.status, 409);
    for _ in 0..50 {
        assert_eq!(server.post("/api/v1/suspend", Some("Bearer a-wrong-token"), body).await.status, 401);
    }
    // A slip of the pen is nobody's business.
    assert_eq!(server.post("/api/v1/suspend", Some(BEARER), "{").await.status, 400);
    let events = server.get("/api/v1/events?type=command").await.json();
    let events = events["events"].as_array().unwrap();
    assert_eq!(events.len(), 10, "{events:#?}");
    assert_eq!((&events[0]["command"], &events[0]["refused"]), (&json!("down"), &json!("suspended")));
    assert_eq!(events[0]["actor"], json!({"name": "token", "address": "127.0.0.1"}));
    assert_eq!((&events[1]["command"], &events[1]["refused"]), (&json!("suspend"), &json!("unauthorized")));
    assert_eq!(events[1]["actor"]["address"], "127.0.0.1");
    assert!(!events[1].to_string().contains("a-wrong-token"));
    assert!(server.get("/metrics").await.body.contains("\nofop_commands_refused_total 51\n"));
    assert!(server.get("/").await.body.contains("down refused"));
    server.stop().await;
}

#[tokio::test]
async fn commands_are_refused_when_no_token_is_configured() {
    let mut server = Server::start(None).await;
    let answer = server.post("/api/v1/reconcile", Some(BEARER), "").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "no_token_configured"));
    assert!(server.commands.try_recv().is_err());
    server.stop().await;
}

#[tokio::test]
async fn bad_commands_say_what_is_wrong_with_them() {
    let server = Server::start(Some(TOKEN)).await;
    Factory::empty().with_app("PRESS-7").tell(&server.report, SECOND);
    for (path, body, status) in [
        ("/api/v1/suspend", r#"{"resources":["app/PRESS-7"]}"#, 400),
        ("/api/v1/adopt", "", 400),
        ("/api/v1/adopt", r#"{"resource":"app/NOWHERE"}"#, 404),
        ("/api/v1/adopt", r#"{"resource":"app/PRESS-7","from":"not a name"}"#, 400),
        ("/api/v1/adopt", r#"{"resource":"app/PRESS-7","instance":"another"}"#, 400),
        ("/api/v1/suspend", "{", 400),
        ("/api/v1/suspend", "", 400),
        ("/api/v1/resume", "{}", 400),
        ("/api/v1/suspend", r#"{"resource":"app/PRESS-7","all":true}"#, 400),
        ("/api/v1/down", "", 400),
        ("/api/v1/down", r#"{"all":true}"#, 400),
        ("/api/v1/down", r#"{"resource":"app/PRESS-8"}"#, 404),
        ("/api/v1/down", r#"{"resource":"app/PRESS-7","instance":"another"}"#, 400),
        ("/api/v1/suspend", r#"{"resource":"PRESS-7"}"#, 400),
        ("/api/v1/suspend", r#"{"resource":"app/PRESS-8"}"#, 404),
        ("/api/v1/reconcile", r#"{"confirm-prune":true}"#, 400),
    ] {
        let answer = server.post(path, Some(BEARER), body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        assert!(!answer.code().is_empty());
    }
    let long = format!("{:20000}", "{}");
    let answer = server.post("/api/v1/reconcile", Some(BEARER), &long).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    server.stop().await;
}

#[tokio::test]
async fn a_full_queue_and_a_stopping_operator_are_said() {
    let mut server = Server::start(Some(TOKEN)).await;
    assert_eq!(server.post("/api/v1/reconcile", Some(BEARER), "").await.status, 202);
    let full = server.post("/api/v1/reconcile", Some(BEARER), "").await;
    assert_eq!((full.status, full.code().as_str()), (503, "busy"));
    server.commands.close();
    let closed = server.post("/api/v1/reconcile", Some(BEARER), "").await;
    assert_eq!((closed.status, closed.code().as_str()), (503, "stopping"));
    server.stop().await;
}

#[tokio::test]
async fn wrong_methods_are_named_and_the_right_ones_listed() {
    let server = Server::start(Some(TOKEN)).await;
    let answer = server.get("/api/v1/reconcile").await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    assert!(answer.head.contains("allow: post"), "{}", answer.head);
    let answer = server.post("/metrics", None, "").await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
    server.stop().await;
}

#[tokio::test]
async fn a_page_whose_name_was_re_pointed_reads_nothing() {
    let server = Server::start(None).await;
    let answer = server.send("GET /api/v1/resources HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!((answer.status, answer.code().as_str()), (421, "foreign_host"));
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_contradicts_itself_is_refused() {
    let mut server = Server::start(Some(TOKEN)).await;
    for head in [
        "GET /healthz HTTP/1.1",
        "GET /healthz HTTP/1.1\r\nHost:",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost",
        "GET /healthz HTTP/1.1\r\nHost: localhost:80@evil.example",
        "GET /healthz HTTP/1.0\r\nHost: localhost, evil.example",
        "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost",
        "GET http://localhost:80@evil.example/healthz HTTP/1.1\r\nHost: localhost",
    ] {
        let answer = server.send(&format!("{head}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{head}");
    }
    let foreign = server.send("GET http://evil.example/healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(foreign.status, 421);
    for fine in ["GET /healthz HTTP/1.0", "GET http://localhost/healthz HTTP/1.1\r\nHost: localhost"] {
        assert_eq!(server.send(&format!("{fine}\r\nConnection: close\r\n\r\n")).await.body, "ok\n", "{fine}");
    }

    let command = |lengths: &str| {
        format!(
            "POST /api/v1/reconcile HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BEARER}\r\n{lengths}\r\n\r\n0\r\n\r\n"
        )
    };
    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\ncontent-length: 5"]
    {
        let answer = server.send(&command(lengths)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{lengths}");
    }
    assert!(server.commands.try_recv().is_err());
    assert_eq!(server.send(&command("Connection: close\r\nTransfer-Encoding: chunked")).await.status, 202);
    // The second of two requests at once is not seen as it was sent.
    let two = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()
        + &command("Content-Length: 5\r\nTransfer-Encoding: chunked");
    assert!(server.send(&two).await.body.contains("HTTP/1.1 400"));
    server.stop().await;
}

#[tokio::test]
async fn streams_and_unfinished_requests_keep_nobody_out() {
    let server = Server::start(None).await;
    Factory::empty().tell(&server.report, SECOND);
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(server.open("GET /api/v1/events?follow HTTP/1.1\r\nHost: localhost\r\n\r\n").await);
    }
    for _ in 0..100 {
        held.push(server.open("GET / HT").await);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/resources"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let (mut streams, mut refused) = (0, 0);
    for stream in &mut held[..300] {
        let mut line = String::new();
        // One that gave way ends without an answer.
        BufReader::new(stream).read_line(&mut line).await.unwrap_or_default();
        streams += usize::from(line.starts_with("HTTP/1.1 200"));
        refused += usize::from(line.starts_with("HTTP/1.1 503"));
    }
    assert_eq!((streams, refused), (48, 252), "streams of one machine");
    // A stream that ends makes room for another.
    drop(held);
    let mut again = false;
    while !again {
        let mut line = String::new();
        let stream = server.open("GET /api/v1/events?follow HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        BufReader::new(stream).read_line(&mut line).await.unwrap();
        again = line.starts_with("HTTP/1.1 200");
    }
    server.stop().await;
}

#[tokio::test]
async fn unfinished_requests_alone_keep_nobody_out() {
    let server = Server::start(None).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(server.open("GET / HT").await);
    }
    assert_eq!(server.get("/healthz").await.status, 200);
    // Whoever has waited longest gave way.
    let mut nothing = String::new();
    held[0].read_to_string(&mut nothing).await.unwrap_or_default();
    assert_eq!(nothing, "");
    server.stop().await;
}

#[tokio::test]
async fn every_answer_carries_the_protecting_headers() {
    let server = Server::start(None).await;
    for path in ["/", "/metrics", "/api/v1/resources", "/assets/status.js", "/nothing"] {
        let head = server.get(path).await.head;
        assert!(head.contains("content-security-policy: default-src 'none'"), "{path}: {head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
        assert!(!head.contains("access-control-allow"), "{path}: {head}");
    }
    server.stop().await;
}

#[tokio::test]
async fn events_come_as_a_list_or_as_a_stream_that_resumes() {
    let server = Server::start(None).await;
    let mut factory = Factory::empty().with_app("PRESS-7").with_app("PRESS-8");
    factory.tell(&server.report, SECOND);
    server.report.step(step(&factory, "PRESS-7", Ok(())));
    server.report.step(step(&factory, "PRESS-8", Err(StepFailure::new(FailureKind::Rejected, "no such image"))));

    let list = server.get("/api/v1/events").await.json();
    assert_eq!(list["events"][1]["outcome"], json!({"result":"failed","kind":"rejected","message":"no such image"}));
    assert_eq!(server.get("/api/v1/events?after=1").await.json()["events"].as_array().unwrap().len(), 1);
    let of_one = server.get("/api/v1/events?resource=app/PRESS-7").await.json();
    assert_eq!(of_one["events"][0]["resource"], "app/PRESS-7");
    assert_eq!(of_one["events"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/api/v1/events?resource=x").await.status, 400);

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request =
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: 1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut data = async || loop {
        let line = lines.next_line().await.unwrap().expect("the stream goes on");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str::<Value>(data).unwrap();
        }
    };
    assert_eq!(data().await["sequence"], 2);
    server.report.step(step(&factory, "PRESS-7", Ok(())));
    assert_eq!(data().await["sequence"], 3);
    // Shutdown ends the endless.
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_how_much_it_missed() {
    let report = Report::new(instance());
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.tell(&report, SECOND);
    let (_, mut coming) = report.events(0);
    for _ in 0..300 {
        report.step(step(&factory, "PRESS-7", Ok(())));
    }
    let missed = coming.recv().await.unwrap_err();
    assert_eq!(missed, tokio::sync::broadcast::error::RecvError::Lagged(44));
    assert_eq!(coming.recv().await.unwrap().sequence(), 45, "it goes on with the oldest that is left");
}

#[tokio::test]
async fn the_page_escapes_what_it_shows() {
    let server = Server::start(None).await;
    let mut factory = Factory::empty().with_app("PRESS-7");
    let nasty = "<script>alert(1)</script>\" onmouseover=\"x";
    factory.add(app(nasty));
    factory.condition(&app(nasty), ConditionKind::Waiting, nasty, nasty);
    factory.desired.problems.push(Problem::file(nasty, nasty).hint(nasty));
    let trouble = SourceTrouble::new(TroubleReason::Other, nasty).hint(nasty).about(factory::commit(nasty, nasty));
    factory.commit(nasty, nasty);
    factory.desired.trouble = Some(trouble);
    factory.tell(&server.report, SECOND);
    let path = "/resources/app/%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%20onmouseover%3D%22x";
    for path in ["/", "/?q=%3Cscript%3E%22%20onmouseover%3D%22x", path] {
        let page = server.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.body.contains("<script>"), "{}", page.body);
        assert!(!page.body.contains("\" onmouseover"), "{}", page.body);
    }
    assert!(server.get("/").await.body.contains("&lt;script&gt;alert(1)"));
    server.stop().await;
}

#[tokio::test]
async fn the_page_says_how_to_confirm_removals_and_what_runs_unwanted() {
    let server = Server::start(None).await;
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.desired.resources.clear();
    for (reason, confirmed) in
        [(PruneBlock::Guard { removing: 1, managed: 1 }, true), (PruneBlock::InvalidManifests, false)]
    {
        factory.plan.as_mut().unwrap().prune = PruneVerdict::Blocked { resources: vec![app("PRESS-7")], reason };
        factory.tell(&server.report, SECOND);
        let page = server.get("/").await.body;
        assert!(page.contains("Removal of 1 resource waits:"), "{page}");
        assert_eq!(page.contains("<code>ofop reconcile --confirm-prune</code>"), confirmed, "{page}");
        assert!(page.contains(">1, none wanted<"), "{page}");
        let one = server.get("/resources/app/PRESS-7").await.body;
        assert!(one.contains("<small>1 running, none wanted</small>"), "{one}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_page_shows_first_what_needs_a_person_and_pages_through_thousands() {
    let server = Server::start(None).await;
    let mut factory = Factory::empty();
    for number in 0..450 {
        factory.add(app(&format!("APP-{number:03}")));
    }
    factory.planned(&app("APP-449")).health = Health::Degraded;
    factory.planned(&app("APP-449")).sync = Sync::OutOfSync;
    factory.tell(&server.report, SECOND);
    let first = server.get("/").await.body;
    let at = |name: &str| first.find(&format!(">app/{name}<"));
    assert!(at("APP-449").unwrap() < at("APP-000").unwrap());
    assert!(at("APP-300").is_none());
    assert!(first.contains("page 1 of 3"));
    assert!(server.get("/?page=3").await.body.contains(">app/APP-448<"));
    let found = server.get("/?q=app-30").await.body;
    assert!(found.contains(">app/APP-305<") && !found.contains(">app/APP-449<"));
    let attention = server.get("/?show=attention").await.body;
    assert!(attention.contains(">app/APP-449<") && !attention.contains(">app/APP-000<"));
    assert!(server.get("/?page=nonsense").await.body.contains("page 1 of 3"));
    server.stop().await;
}

#[tokio::test]
async fn no_secret_in_sight_over_http() {
    let server = Server::start(Some(TOKEN)).await;
    let mut factory = Factory::empty().with_app("PRESS-7");
    factory.drift(&app("PRESS-7"));
    factory.tell(&server.report, SECOND);
    server.report.step(step(&factory, "PRESS-7", Ok(())));
    for path in [
        "/",
        "/resources/app/PRESS-7",
        "/metrics",
        "/readyz",
        "/api/v1/resources",
        "/api/v1/resources/app/PRESS-7",
        "/api/v1/plan",
        "/api/v1/events",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.contains(SECRET) && !answer.body.contains(TOKEN), "{path}: {}", answer.body);
    }
    let plan = server.get("/api/v1/plan").await;
    let change = &plan.json()["resources"]["app/PRESS-7"]["steps"][0]["changes"][0];
    assert_eq!(change, &json!({"field": "environment.TOKEN", "from": null, "to": null, "secret": true}));
    server.stop().await;
}

#[tokio::test]
async fn there_is_no_plan_before_the_first() {
    let server = Server::start(None).await;
    let answer = server.get("/api/v1/plan").await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "not_yet"));
    server.stop().await;
}

/// `ofop reconcile --wait` beside this server: its exit code, and what it says.
async fn wait_beside(server: &Server, timeout: &'static str) -> (Option<i32>, Vec<String>) {
    let address = server.address.to_string();
    let run = move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_ofop"))
            .args(["reconcile", "--wait", "--timeout", timeout, "--address", &address])
            .current_dir(std::env::temp_dir())
            .env_clear()
            .env("OFOP_TOKEN", TOKEN)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    (output.status.code(), said)
}

#[tokio::test]
async fn reconcile_that_waits_ends_with_what_the_verdicts_say() {
    let mut server = Server::start(Some(TOKEN)).await;
    let press = app("PRESS-7");
    let mut factory = Factory::empty().with_app("PRESS-7").with_app("MILL");
    server.report.answered(u64::MAX);
    factory.tell(&server.report, SECOND);
    let (code, said) = wait_beside(&server, "1m").await;
    assert_eq!(code, Some(0), "{said:?}");
    assert!(said.last().unwrap().starts_with("2 of 2 in sync and healthy at "), "{said:?}");
    server.commands.recv().await.unwrap();

    // What can only end badly ends the wait at once: the reason, and what to do.
    factory.planned(&press).health = Health::RolledBack;
    factory.condition(&press, ConditionKind::RolledBack, "UpdateRolledBack", "the last update was rolled back");
    factory.planned(&app("MILL")).health = Health::Progressing;
    factory.tell(&server.report, SECOND);
    let (code, said) = wait_beside(&server, "10m").await;
    assert_eq!(code, Some(3), "{said:?}");
    let status = server.report.status();
    let block = status.get(&press).unwrap().verdict.block().unwrap();
    let (error, hint) = (format!("error: app/PRESS-7: {}", block.message), format!("hint: {}", block.hint));
    assert_eq!(said[said.len() - 2..], [error, hint], "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("app/MILL is still on its way: ")), "{said:?}");
    server.commands.recv().await.unwrap();

    // What may still settle is waited for up to the limit.
    factory.planned(&press).health = Health::Waiting;
    factory.planned(&press).conditions.clear();
    factory.condition(&press, ConditionKind::Waiting, "NetworkMissing", "network line does not exist");
    factory.tell(&server.report, SECOND);
    let (code, said) = wait_beside(&server, "10s").await;
    assert_eq!(code, Some(3), "{said:?}");
    let told = |text: &str| said.iter().any(|line| line.starts_with(text));
    assert!(told("error: app/MILL: not done within the time: "), "{said:?}");
    assert_eq!(said[said.len() - 2], "error: app/PRESS-7: network line does not exist");

    // The JSON names the kind, and where it can be fixed.
    let json = server.get("/api/v1/resources/app/PRESS-7").await.json();
    assert_eq!(json["verdict"]["state"], "blocked");
    assert_eq!(
        (&json["verdict"]["kind"], &json["verdict"]["fixed_by"]),
        (&"missing_network".into(), &"cluster".into())
    );
    let plan = server.get("/api/v1/plan").await.json();
    assert_eq!(plan["resources"]["app/MILL"]["verdict"]["why"], "tasks");
    server.stop().await;
}

#[tokio::test]
async fn a_suspension_and_a_freeze_have_an_end_and_a_reason() {
    const UNTIL: &str = "2199-01-02T03:04:05Z";
    let mut server = Server::start(Some(TOKEN)).await;
    Factory::empty().with_app("PRESS-7").tell(&server.report, SECOND);
    let term = |reason| Term::new(UNTIL.parse().ok(), reason);
    for (path, body, command, until) in [
        (
            "suspend",
            r#"{"resource":"app/PRESS-7","until":"2199-01-02T04:04:05+01:00","reason":"shift change"}"#,
            Command::Suspend(Some(app("PRESS-7")), term(Some("shift change"))),
            Some(UNTIL),
        ),
        ("suspend", r#"{"all":true,"reason":" "}"#, Command::Suspend(None, Term::default()), None),
        ("freeze", r#"{"until":"2199-01-02T03:04:05Z"}"#, Command::Freeze(term(None)), Some(UNTIL)),
        ("freeze", r#"{"no_end":true}"#, Command::Freeze(Term::default()), None),
        ("freeze", r#"{"end":true}"#, Command::EndFreeze, None),
    ] {
        let answer = server.post(&format!("/api/v1/{path}"), Some(BEARER), body).await;
        assert_eq!((answer.status, answer.json()["until"].as_str()), (202, until), "{body}: {}", answer.body);
        assert_eq!(server.commands.try_recv().unwrap().command, command, "{body}");
    }
    let answer = server.post("/api/v1/freeze", Some(BEARER), r#"{"for":"8h"}"#).await;
    let Command::Freeze(term) = server.commands.try_recv().unwrap().command else { panic!("{}", answer.body) };
    assert_eq!(term.until.map(|until| until.to_string()).as_deref(), answer.json()["until"].as_str());
    let long = "x".repeat(201);
    for (path, body) in [
        ("freeze", "".to_owned()),
        ("freeze", r#"{"reason":"audit"}"#.into()),
        ("freeze", r#"{"for":"8h","end":true}"#.into()),
        ("freeze", r#"{"for":"8h","until":"2199-01-02T03:04:05Z"}"#.into()),
        ("freeze", r#"{"for":"8"}"#.into()),
        ("freeze", r#"{"for":"8h","resource":"app/PRESS-7"}"#.into()),
        ("suspend", r#"{"for":"2h"}"#.into()),
        ("suspend", r#"{"all":true,"for":"2h","until":"2199-01-02T03:04:05Z"}"#.into()),
        ("suspend", r#"{"all":true,"for":"0h"}"#.into()),
        ("suspend", r#"{"all":true,"until":"2026-01-02T03:04:05Z"}"#.into()),
        ("suspend", r#"{"all":true,"until":"tomorrow"}"#.into()),
        ("suspend", format!(r#"{{"all":true,"reason":"{long}"}}"#)),
    ] {
        let answer = server.post(&format!("/api/v1/{path}"), Some(BEARER), &body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{body}: {}", answer.body);
    }
    assert!(server.commands.try_recv().is_err());
    server.stop().await;
}

#[tokio::test]
async fn what_is_held_back_is_shown_with_its_end_and_its_reason() {
    let server = Server::start(Some(TOKEN)).await;
    let mut factory = Factory::empty().with_app("ONE");
    let hold = Hold::new("2026-01-02T03:04:05Z", Term::new("2026-01-02T05:04:05Z".parse().ok(), Some("<b>audit</b>")));
    let plan = factory.plan.as_mut().unwrap();
    (plan.suspended, plan.freeze) = (Some(hold.clone()), Some(hold));
    factory.tell(&server.report, SECOND);
    let shown = json!({"since": "2026-01-02T03:04:05Z", "until": "2026-01-02T05:04:05Z", "reason": "<b>audit</b>"});
    let status = server.get("/api/v1/resources").await.json();
    assert_eq!((&status["suspended"], &status["freeze"]), (&shown, &shown));
    let plan = server.get("/api/v1/plan").await.json();
    assert_eq!((&plan["suspended_until"], &plan["freeze"]), (&json!("2026-01-02T05:04:05Z"), &shown));
    let page = server.get("/").await.body;
    assert!(
        page.contains("Changes from manifests are frozen")
            && page.contains("&lt;b&gt;audit")
            && !page.contains("<b>audit")
    );
    assert!(server.get("/metrics").await.body.contains("\nofop_frozen 1\n"));
    server.stop().await;
}
