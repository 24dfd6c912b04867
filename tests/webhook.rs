//! The webhook as a host of git repositories calls it: bare HTTP/1.1 against a real listener, signatures made by
//! openssl. And the real program, told of a change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it cannot go on")]

#[cfg(test)]
#[path = "support/factory.rs"]
mod factory;
#[cfg(test)]
#[path = "support/repository.rs"]
mod repository;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ofop::http::webhook::{MAX_BODY, Secret, Webhook};
use ofop::http::{self, Token};
use ofop::report::{Report, WebhookResult};
use repository::Plant;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const SECRET: &str = "It's a Secret to Everybody";
const PUSH: &str =
    r#"{"ref":"refs/heads/main","before":"0000","after":"1111","repository":{"full_name":"plant/line"}}"#;
/// Far more than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A server with a webhook, and how often that told of a push.
struct Server {
    address: SocketAddr,
    report: Report,
    told: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Status and the code of the error.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Server {
    async fn start(secret: Option<&str>, reference: Option<&str>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let report = Report::new(factory::instance());
        let (commands, _) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let told = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&told);
        let tell = move || {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        let secret = secret.map(|secret| Secret::new(secret).unwrap());
        let webhook = Webhook::new(report.clone(), tell).secret(secret).reference(reference);
        let token = Some(Token::new("the-token-of-the-api").unwrap()).into();
        let serving = http::serve_with(listener, report.clone(), commands, token, webhook.routes(), async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(serving);
        Server { address, report, told, stop, task }
    }

    async fn post(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        post(self.address, headers, body.as_bytes()).await
    }

    /// A call signed as GitHub signs.
    async fn push(&self, body: &str) -> Answer {
        let signature = format!("sha256={}", hmac(SECRET, body));
        self.post(&[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &signature)], body).await
    }

    fn told(&self) -> usize {
        self.told.load(Ordering::SeqCst)
    }

    fn counted(&self, result: WebhookResult) -> u64 {
        let start = format!("ofop_webhook_total{{result=\"{}\"}} ", result.as_str());
        let metrics = self.report.metrics();
        metrics.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}

async fn post(address: SocketAddr, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that has refused already may hang up on the rest.
    let _ = stream.write_all(body).await;
    answer(stream).await
}

async fn answer(mut stream: TcpStream) -> Answer {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("no answer came");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?} is no answer"));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// An HMAC-SHA256 in hexadecimal, by another program than ours.
fn hmac(secret: &str, body: &str) -> String {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    openssl.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_host_is_understood_in_its_own_way() {
    let server = Server::start(Some(SECRET), Some("main")).await;
    let tag = hmac(SECRET, PUSH);
    let hub = format!("sha256={tag}");
    let bearer = format!("Bearer {SECRET}");
    let calls: [&[(&str, &str)]; 6] = [
        &[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &hub), ("X-Hub-Signature", "sha1=00")],
        &[("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Token", SECRET)],
        &[("X-Gitea-Event", "push"), ("X-GitHub-Event", "push"), ("X-Gitea-Signature", &tag)],
        &[("X-Forgejo-Event", "push"), ("X-Forgejo-Signature", &tag), ("X-Hub-Signature-256", &hub)],
        &[("Authorization", &bearer)],
        &[("Authorization", &bearer), ("Content-Type", "text/plain")],
    ];
    for (told, headers) in calls.into_iter().enumerate() {
        let answer = server.post(headers, PUSH).await;
        assert_eq!((answer.status, answer.json()), (202, json!({"accepted": true})), "{headers:?}");
        assert_eq!(server.told(), told + 1, "{headers:?}");
    }
    // Without a body there is no branch that could be another one.
    assert_eq!(server.post(&[("Authorization", &bearer)], "").await.status, 202);
    assert_eq!(server.counted(WebhookResult::Triggered), 7);
    server.stop().await;
}

#[tokio::test]
async fn the_example_of_githubs_documentation_is_taken() {
    let server = Server::start(Some(SECRET), Some("main")).await;
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let answer = server.post(&[("X-Hub-Signature-256", signature)], "Hello, World!").await;
    assert_eq!(answer.status, 202, "what is no JSON names no other branch");
    server.stop().await;
}

#[tokio::test]
async fn a_signing_token_of_gitlab_is_taken() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let server = Server::start(Some(secret), None).await;
    let call = |signature: &'static str| {
        [
            ("X-Gitlab-Event", "Push Hook"),
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", signature),
        ]
    };
    let right = call("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_eq!(server.post(&right, r#"{"test": 2432232314}"#).await.status, 202);
    assert_eq!(server.post(&right, r#"{"test": 2432232315}"#).await.refusal(), (401, "unauthorized".into()));
    let wrong = call("v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_eq!(server.post(&wrong, r#"{"test": 2432232314}"#).await.refusal(), (401, "unauthorized".into()));
    server.stop().await;
}

#[tokio::test]
async fn without_a_proof_nothing_happens_and_nothing_is_explained() {
    let server = Server::start(Some(SECRET), None).await;
    let tag = hmac(SECRET, PUSH);
    let hub = |tag: &str| format!("sha256={tag}");
    let other = hmac("another secret of some length", PUSH);
    let mut answers = Vec::new();
    for (name, value) in [
        ("X-GitHub-Event", "push".into()),
        ("X-Hub-Signature-256", String::new()),
        ("X-Hub-Signature-256", tag.clone()),
        ("X-Hub-Signature-256", hub(&other)),
        ("X-Hub-Signature-256", hub(&tag[..62])),
        ("X-Hub-Signature-256", hub(&format!("{tag}00"))),
        ("X-Hub-Signature-256", hub(&format!("zz{}", &tag[2..]))),
        ("X-Hub-Signature-256", hub(&hmac(SECRET, "another body"))),
        ("X-Hub-Signature", format!("sha1={tag}")),
        ("X-Gitea-Signature", other.clone()),
        ("X-Gitlab-Token", String::new()),
        ("X-Gitlab-Token", SECRET[1..].into()),
        ("X-Gitlab-Token", format!("{SECRET} ")[..25].into()),
        ("Authorization", "Bearer the-token-of-the-api".into()),
        ("Authorization", format!("Basic {SECRET}")),
    ] {
        let answer = server.post(&[(name, &value)], PUSH).await;
        assert_eq!(answer.refusal(), (401, "unauthorized".into()), "{name}: {value}");
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| answer.body == answers[0].body), "refusals differ");
    assert_eq!((server.told(), server.counted(WebhookResult::Unauthorized)), (0, 15));
    server.stop().await;
}

#[tokio::test]
async fn without_a_secret_everybody_is_refused() {
    let server = Server::start(None, None).await;
    let signature = format!("sha256={}", hmac("", PUSH));
    for headers in
        [[("X-Hub-Signature-256", signature.as_str())], [("Authorization", "Bearer ")], [("X-Gitlab-Token", "")]]
    {
        let answer = server.post(&headers, PUSH).await;
        assert_eq!(answer.refusal(), (403, "no_webhook_secret_configured".into()), "{headers:?}");
        assert!(answer.json()["error"]["hint"].as_str().unwrap().contains("OFOP_WEBHOOK_SECRET_FILE"));
    }
    assert_eq!((server.told(), server.counted(WebhookResult::NoSecret)), (0, 3));
    server.stop().await;
}

#[tokio::test]
async fn what_does_not_concern_us_is_acknowledged_and_no_more() {
    let server = Server::start(Some(SECRET), Some("main")).await;
    let other = PUSH.replace("heads/main", "heads/feature");
    let answer = server.push(&other).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"accepted": false, "reason": "other_reference"})));
    for (event, reason) in [("ping", "ping"), ("issues", "other_event")] {
        let signature = format!("sha256={}", hmac(SECRET, "{}"));
        let answer = server.post(&[("X-GitHub-Event", event), ("X-Hub-Signature-256", &signature)], "{}").await;
        assert_eq!((answer.status, answer.json()), (200, json!({"accepted": false, "reason": reason})));
    }
    // A ping has to be signed as well.
    assert_eq!(server.post(&[("X-GitHub-Event", "ping")], "{}").await.status, 401);
    assert_eq!(server.told(), 0);
    assert_eq!(server.push(PUSH).await.status, 202);
    assert_eq!(server.told(), 1);
    for (result, calls) in
        [(WebhookResult::OtherReference, 1), (WebhookResult::Ping, 1), (WebhookResult::OtherEvent, 1)]
    {
        assert_eq!(server.counted(result), calls, "{result:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_long_push_is_taken_and_one_that_nobody_sends_is_not() {
    let server = Server::start(Some(SECRET), Some("main")).await;
    // Longer than what is kept, and to another branch: that cannot be told any more.
    let long = format!(r#"{{"commits":"{}","ref":"refs/heads/other"}}"#, "x".repeat(3 << 20));
    assert_eq!(server.push(&long).await.status, 202);
    assert_eq!(server.push(&long.replace("\"x", "\"y")).await.status, 202);
    let wrong = server.post(&[("X-Hub-Signature-256", &format!("sha256={}", hmac(SECRET, PUSH)))], &long).await;
    assert_eq!(wrong.status, 401);

    // Refused by its announced length alone …
    let head = |length: &str| {
        format!(
            "POST /webhook HTTP/1.1\r\nHost: localhost\r\nX-Gitlab-Token: {SECRET}\r\n{length}\r\nConnection: close\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head(&format!("Content-Length: {}", MAX_BODY + 1)).as_bytes()).await.unwrap();
    assert_eq!(answer(stream).await.refusal(), (413, "too_large".into()));
    // … and while it comes, when it does not say how long it is.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head("Transfer-Encoding: chunked").as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n".as_slice(), &[b' '; 1 << 20], b"\r\n"].concat();
    for _ in 0..MAX_BODY >> 20 {
        stream.write_all(&chunk).await.unwrap();
    }
    stream.write_all(b"1\r\n ").await.unwrap();
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).await.unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 413");
    // A body that breaks off is no push.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head("Content-Length: 100").as_bytes()).await.unwrap();
    drop(stream);
    let counted = async {
        while server.counted(WebhookResult::BrokenOff) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, counted).await.expect("nobody noticed");
    assert_eq!((server.told(), server.counted(WebhookResult::TooLarge)), (2, 2));
    server.stop().await;
}

#[tokio::test]
async fn only_post_is_taken_and_the_token_of_the_api_stays_its_own() {
    let server = Server::start(Some(SECRET), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /webhook HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let refused = answer(stream).await;
    assert_eq!(refused.refusal(), (405, "method_not_allowed".into()));
    assert!(refused.head.contains("allow: post") && refused.head.contains("content-security-policy"), "{refused:?}");
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST /api/v1/reconcile HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(answer(stream).await.status, 401, "the webhook's secret gives no command");
    server.stop().await;
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
    let server = Server::start(Some(SECRET), Some("main")).await;
    let signature = format!("sha256={}", hmac(SECRET, PUSH));
    let headers = [("X-GitHub-Event", "push"), ("X-Hub-Signature-256", signature.as_str())];
    let calls = (0..64).map(|_| server.post(&headers, PUSH));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(server.told(), 64);
    server.stop().await;
}

/// The whole program, without an engine.
struct Daemon {
    child: std::process::Child,
    log: std::path::PathBuf,
    address: SocketAddr,
}

/// The file with the secret, which nobody else may read.
fn write_secret(folder: &std::path::Path, text: &str) {
    let path = folder.join("secret");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Daemon {
    async fn start(folder: &std::path::Path, arguments: &[&str]) -> Daemon {
        let log = folder.join("log");
        let child = Command::new(env!("CARGO_BIN_EXE_ofop"))
            .args(["run", "-vv", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DOCKER_HOST", "unix:///nowhere.sock")
            .env("OFOP_WEBHOOK_SECRET_FILE", "secret")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut daemon = Daemon { child, log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let listens = async {
            loop {
                let line = daemon.said().lines().find(|line| line.contains("\"http\":")).map(str::to_owned);
                if let Some(line) = line.and_then(|line| serde_json::from_str::<Value>(&line).ok()) {
                    let url = line["http"].as_str().unwrap().to_owned();
                    return url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let address = tokio::time::timeout(LONG, listens).await;
        daemon.address = address.unwrap_or_else(|_| panic!("{}", daemon.said()));
        daemon
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(stream).await.body
    }

    /// Waits for a revision to be in force.
    async fn follows(&self, commit: &str) {
        let follows = async {
            while !self.get("/api/v1/resources").await.contains(&format!("\"revision\":\"{commit}\"")) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, follows).await.unwrap_or_else(|_| panic!("{commit}: {}", self.said()));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A repository that would be fetched in an hour is fetched on the word of a webhook, and what the daemon was given
/// it keeps to itself.
#[tokio::test]
async fn the_daemon_follows_a_push_at_once_and_never_shows_its_secret() {
    let plant = Plant::new();
    plant.write("press.yml", "apps: {press: {uuid: PRESS-7, image: demo/press}}\n");
    let first = plant.push("The press");
    let folder = tempfile::tempdir().unwrap();
    write_secret(folder.path(), &format!("{SECRET}\n"));
    let daemon = Daemon::start(folder.path(), &["--git", &plant.url(), "--branch", "main", "--interval", "1h"]).await;
    daemon.follows(&first).await;

    plant.write("press.yml", "apps: {press: {uuid: PRESS-7, image: demo/press:2}}\n");
    let second = plant.push("A better press");
    let signed = |body: &str| format!("sha256={}", hmac(SECRET, body));
    let other = PUSH.replace("heads/main", "heads/feature");
    let ignored = post(daemon.address, &[("X-Hub-Signature-256", &signed(&other))], other.as_bytes()).await;
    assert_eq!((ignored.status, ignored.json()["reason"].as_str()), (200, Some("other_reference")));
    let taken = post(daemon.address, &[("X-Hub-Signature-256", &signed(PUSH))], PUSH.as_bytes()).await;
    assert_eq!(taken.status, 202);
    daemon.follows(&second).await;

    let wrong = "another secret of some length";
    assert_eq!(post(daemon.address, &[("X-Gitlab-Token", wrong)], b"{}").await.status, 401);
    let metrics = daemon.get("/metrics").await;
    for (result, calls) in [("triggered", 1), ("other_reference", 1), ("unauthorized", 1), ("no_secret", 0)] {
        let line = format!("ofop_webhook_total{{result=\"{result}\"}} {calls}\n");
        assert!(metrics.contains(&line), "{line}");
    }
    let said = daemon.said();
    assert!(said.contains("a webhook tells of a push"), "{said}");
    for secret in [SECRET, wrong, signed(PUSH).trim_start_matches("sha256=")] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_directory_can_be_told_of_a_change_as_well() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("desired")).unwrap();
    write_secret(folder.path(), SECRET);
    let daemon = Daemon::start(folder.path(), &["--desired", "desired"]).await;
    assert_eq!(post(daemon.address, &[("X-Gitlab-Token", SECRET)], b"{}").await.status, 202);
    assert!(daemon.get("/metrics").await.contains("ofop_webhook_total{result=\"triggered\"} 1\n"));
}
