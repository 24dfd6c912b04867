//! Notifications, as real receivers on this machine get them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where it cannot go on"
)]

#[path = "support/factory.rs"]
mod factory;
#[path = "support/kafka.rs"]
mod kafka;
#[path = "support/mail.rs"]
mod mail;
#[path = "support/receiver.rs"]
mod receiver;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use factory::{Factory, app, instance};
use hmac::{Hmac, Mac as _};
use ofop::clock::SystemClock;
use ofop::model::{ConditionKind, Health, LeaseStatus, ResourceId, Standing};
use ofop::notify::file::NotifyFile;
use ofop::notify::send::{Connections, KafkaServers};
use ofop::notify::{Parts, run};
use ofop::report::Report;
use ofop::report::archive::Limits;
use ofop::report::history::RevisionHistory;
use receiver::{Got, Receiver};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take; on an idle machine it is a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// What no output may show.
const TOKEN: &str = "s3ntinel-0f-a-token";

/// An operator's account of a factory, and who is told of it.
struct World {
    folder: tempfile::TempDir,
    report: Report,
    factory: Factory,
    connections: Connections,
    running: Option<(JoinHandle<()>, CancellationToken)>,
}

impl World {
    fn new(apps: usize) -> World {
        let report = Report::new(instance());
        let limits = Limits { keep: Duration::from_secs(3_600), bytes: 1 << 20 };
        report.keep_history(RevisionHistory::open(None, limits, Arc::new(SystemClock::new())));
        let mut factory = Factory::empty();
        (0..apps).for_each(|number| factory.add(name(number)));
        let mut world = World {
            folder: tempfile::tempdir().unwrap(),
            report,
            factory,
            connections: Connections::default(),
            running: None,
        };
        world.tell();
        world
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("notify.yml")
    }

    /// Sinks, and one rule that tells all of them of everything.
    fn settings(&self, sinks: &Value) {
        let to: Vec<&String> = sinks
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, it)| it["repository"].is_null())
            .map(|(name, _)| name)
            .collect();
        let rule = json!({"to": to, "severity": "info", "wait": "300ms", "interval": "300ms"});
        let rules = if to.is_empty() { json!([]) } else { json!([rule]) };
        write_private(
            &self.file(),
            &json!({"sinks": sinks, "rules": rules, "link": "https://ofop.example"}).to_string(),
        );
    }

    fn start(&mut self) {
        let file = NotifyFile::new(&self.file(), Vec::new(), BTreeMap::new());
        let read = file.read().unwrap_or_else(|problems| panic!("{problems:?}"));
        self.connections.hidden.add(read.settings.secrets());
        let parts = Parts {
            report: self.report.clone(),
            file,
            read,
            state_dir: self.folder.path().join("state"),
            instance: instance(),
            connections: self.connections.clone(),
            clock: Arc::new(SystemClock::new()),
        };
        let stop = CancellationToken::new();
        self.running = Some((tokio::spawn(run(parts, stop.clone())), stop));
    }

    /// Ends as a daemon that is told to.
    async fn stop(&mut self) {
        let (task, stop) = self.running.take().unwrap();
        stop.cancel();
        task.await.unwrap();
    }

    /// Ends in the middle of whatever is going on.
    async fn crash(&mut self) {
        let (task, _) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    fn tell(&mut self) {
        self.factory.tell(&self.report, Duration::from_secs(1));
    }

    fn fail(&mut self, numbers: std::ops::Range<usize>) {
        for id in numbers.map(name) {
            self.factory.planned(&id).health = Health::Degraded;
            self.factory.condition(&id, ConditionKind::Degraded, "ImageMissing", "no such image: press:<9>");
        }
        self.tell();
    }

    fn heal(&mut self, numbers: std::ops::Range<usize>) {
        for id in numbers.map(name) {
            let planned = self.factory.planned(&id);
            planned.health = Health::Healthy;
            planned.conditions.clear();
        }
        self.tell();
    }

    fn metric(&self, series: &str) -> f64 {
        let metrics = self.report.metrics();
        metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(f64::NAN)
    }
}

fn name(number: usize) -> ResourceId {
    app(&format!("A-{number}"))
}

fn write_private(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The messages of webhooks, by what they tell.
fn told(got: &[Got]) -> Vec<(String, u64, u64)> {
    let count = |value: &Value, name: &str| value["counts"][name].as_u64().unwrap();
    let body = |got: &Got| serde_json::from_str::<Value>(&got.body).unwrap();
    got.iter()
        .map(body)
        .map(|it| (it["status"].as_str().unwrap().to_owned(), count(&it, "new"), count(&it, "recovered")))
        .collect()
}

fn webhook(receiver: &Receiver) -> Value {
    json!({"type": "webhook", "url": receiver.url("/hook")})
}

/// What a receiver of Standard Webhooks does, by its specification and not by our code.
fn is_signed(got: &Got, secret: &str) -> bool {
    let signed = format!("{}.{}.{}", got.header("webhook-id"), got.header("webhook-timestamp"), got.body);
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let header = got.header("webhook-signature");
    header
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .any(|one| STANDARD.decode(one).is_ok_and(|given| mac.clone().verify_slice(&given).is_ok()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_product_gets_a_failure_and_its_recovery_as_it_documents_it() {
    let receiver = Receiver::start().await;
    receiver.answer("/matrix", 200, r#"{"event_id":"$abc"}"#);
    for path in ["/github", "/gitlab", "/gitea"] {
        receiver.answer(path, 201, "{}");
    }
    receiver.answer("/teams", 202, "");
    let mut world = World::new(2);
    let secret = "0123456789abcdef-of-the-webhook";
    world.settings(&json!({
        "web": {"type": "webhook", "url": receiver.url("/web"), "secret": secret, "token": TOKEN},
        "plain": {"type": "webhook", "url": receiver.url("/plain"), "content_type": "text/plain",
                  "template": "{{ severity }} {{ title }}"},
        "slack": {"type": "slack", "url": receiver.url("/slack")},
        "teams": {"type": "teams", "url": receiver.url("/teams")},
        "mm": {"type": "mattermost", "url": receiver.url("/mm")},
        "matrix": {"type": "matrix", "homeserver": receiver.url("/matrix"), "room": "!room:example", "token": TOKEN},
        "github": {"type": "github", "url": receiver.url("/github"), "repository": "plant/factory", "token": TOKEN},
        "gitlab": {"type": "gitlab", "url": receiver.url("/gitlab"), "repository": "plant/line/factory", "token": TOKEN},
        "gitea": {"type": "gitea", "url": receiver.url("/gitea"), "repository": "plant/factory", "token": TOKEN},
    }));
    world.factory.commit("c0ffee0123456789c0ffee0123456789c0ffee01", "line 2: newer image");
    world.fail(0..1);
    world.start();
    let failing = |got: &Got| got.body.contains("no such image");
    for path in ["/web", "/plain", "/slack", "/teams", "/mm", "/matrix"] {
        eventually(path, || receiver.got(path).iter().any(failing)).await;
    }
    let one = |path: &str| receiver.got(path).into_iter().find(failing).unwrap();
    let web = one("/web");
    assert!(is_signed(&web, secret) && !is_signed(&web, "another-secret-of-some-length"));
    assert_eq!(
        (web.header("authorization"), web.header("content-type")),
        (format!("Bearer {TOKEN}"), "application/json".into())
    );
    let value: Value = serde_json::from_str(&web.body).unwrap();
    let schema: Value = serde_json::from_str(
        &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/notification.schema.json")).unwrap(),
    )
    .unwrap();
    assert!(jsonschema::is_valid(&schema, &value), "{value}");
    assert_eq!(
        (&value["items"][0]["resource"], &value["items"][0]["file"]),
        (&json!("app/A-0"), &json!("desired/app_press.yml"))
    );
    assert_eq!(one("/plain").body, "critical app/A-0: image_missing: no such image: press:<9>");
    let json = |path: &str| serde_json::from_str::<Value>(&one(path).body).unwrap();
    assert!(json("/slack")["blocks"][1]["text"]["text"].as_str().unwrap().contains("&lt;9&gt;"));
    assert_eq!(json("/teams")["attachments"][0]["content"]["type"], "AdaptiveCard");
    assert_eq!(json("/mm")["attachments"][0]["title_link"], "https://ofop.example/resources/app/A-0");
    let matrix = one("/matrix");
    assert_eq!((matrix.method.as_str(), matrix.header("authorization")), ("PUT", format!("Bearer {TOKEN}")));
    assert!(
        matrix.path.starts_with("/matrix/_matrix/client/v3/rooms/!room:example/send/m.room.message/test-"),
        "{}",
        matrix.path
    );
    assert_eq!(json("/matrix")["msgtype"], "m.text");

    for (path, address, word) in [
        ("/github", "/github/repos/plant/factory/statuses/c0ffee", "success"),
        ("/gitlab", "/gitlab/api/v4/projects/plant%2Fline%2Ffactory/statuses/c0ffee", "success"),
        ("/gitea", "/gitea/api/v1/repos/plant/factory/statuses/c0ffee", "success"),
    ] {
        let state = |got: &Got| serde_json::from_str::<Value>(&got.body).unwrap()["state"].clone();
        eventually(path, || receiver.got(path).iter().any(|got| state(got) == word)).await;
        let got = receiver.got(path);
        assert!(got.iter().all(|got| got.path.starts_with(address)), "{:?}", got[0].path);
        let body: Value = serde_json::from_str(&got[0].body).unwrap();
        assert_eq!((&body["context"], &body["target_url"]), (&json!("ofop/test"), &json!("https://ofop.example/")));
    }
    assert_eq!(receiver.got("/gitlab")[0].header("private-token"), TOKEN);
    assert_eq!(receiver.got("/gitea")[0].header("authorization"), format!("token {TOKEN}"));
    let github = &receiver.got("/github")[0];
    assert_eq!(github.header("x-github-api-version"), "2022-11-28");
    assert!(github.header("user-agent").starts_with("ofop/"), "GitHub refuses requests without one");

    world.heal(0..1);
    for path in ["/web", "/slack", "/teams", "/mm", "/matrix"] {
        eventually(path, || receiver.got(path).iter().any(|got| got.body.contains("is over"))).await;
    }
    eventually("counted", || world.metric(r#"ofop_notifications_total{result="delivered",sink="web"}"#) >= 2.0).await;
    eventually("the queue is empty", || world.metric(r#"ofop_notify_queue{sink="web"}"#) == 0.0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_breaks_something_is_shown_as_failed_with_the_reason() {
    let receiver = Receiver::start().await;
    receiver.answer("/git", 201, "{}");
    let mut world = World::new(1);
    world.settings(&json!({
        "git": {"type": "gitea", "url": receiver.url("/git"), "repository": "plant/factory", "token": TOKEN},
    }));
    let states = || -> Vec<String> {
        let state = |got: Got| serde_json::from_str::<Value>(&got.body).unwrap()["state"].as_str().unwrap().to_owned();
        receiver.got("/git").into_iter().map(state).collect()
    };
    world.start();
    let id = name(0);
    world.factory.commit("c0ffee0123456789c0ffee0123456789c0ffee01", "line 2: newer image");
    world.factory.drift(&id);
    world.factory.planned(&id).steps[0].reason = ofop::model::Reason::ManifestChanged;
    world.factory.planned(&id).drift.clear();
    world.tell();
    eventually("pending", || states() == ["pending"]).await;
    world.factory.heal(&id);
    world.fail(0..1);
    eventually("failure", || states() == ["pending", "failure"]).await;
    let body: Value = serde_json::from_str(&receiver.got("/git")[1].body).unwrap();
    assert_eq!(body["description"], "app/A-0: no such image: press:<9>");
    world.heal(0..1);
    eventually("success", || states() == ["pending", "failure", "success"]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_failures_are_one_message_and_one_recovery() {
    let receiver = Receiver::start().await;
    let mut world = World::new(1_000);
    world.settings(&json!({"web": webhook(&receiver)}));
    world.start();
    world.fail(0..1_000);
    eventually("failures", || !receiver.got("/hook").is_empty()).await;
    world.heal(0..1_000);
    eventually("recovery", || receiver.got("/hook").len() > 1).await;
    world.stop().await;
    assert_eq!(told(&receiver.got("/hook")), [("failing".into(), 1_000, 0), ("recovered".into(), 0, 1_000)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_being_delivered_when_the_operator_died_is_delivered_by_the_next_one() {
    let receiver = Receiver::start().await;
    // It takes the message and never says so.
    receiver.hang("/hook", true);
    let mut world = World::new(1);
    world.settings(&json!({"web": webhook(&receiver)}));
    world.start();
    world.fail(0..1);
    eventually("a delivery begins", || !receiver.got("/hook").is_empty()).await;
    world.crash().await;
    receiver.hang("/hook", false);
    world.start();
    eventually("it is delivered", || receiver.got("/hook").len() == 2).await;
    let got = receiver.got("/hook");
    assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"), "its receiver can tell that it is the same");
    world.heal(0..1);
    eventually("recovery", || receiver.got("/hook").len() == 3).await;
    world.stop().await;
    // And nothing of it is told again.
    world.start();
    world.fail(0..1);
    eventually("another failure", || receiver.got("/hook").len() == 4).await;
    world.stop().await;
    let words: Vec<String> = told(&receiver.got("/hook")).into_iter().map(|(word, ..)| word).collect();
    assert_eq!(words, ["failing", "failing", "recovered", "failing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_nobody_ran_is_told_by_the_next_one() {
    let receiver = Receiver::start().await;
    let mut world = World::new(1);
    world.settings(&json!({"web": webhook(&receiver)}));
    world.start();
    world.fail(0..1);
    eventually("failure", || receiver.got("/hook").len() == 1).await;
    world.crash().await;
    world.heal(0..1);
    world.start();
    eventually("recovery", || receiver.got("/hook").len() == 2).await;
    world.stop().await;
    assert_eq!(told(&receiver.got("/hook"))[1], ("recovered".into(), 0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_sink_holds_up_no_other_and_says_so() {
    let receiver = Receiver::start().await;
    receiver.hang("/hangs", true);
    receiver.answer("/gone", 404, &format!("no_service {TOKEN}"));
    receiver.answer("/redirects", 302, "");
    let mut world = World::new(1);
    world.settings(&json!({
        "dead": {"type": "webhook", "url": "http://127.0.0.1:9/hook"},
        "gone": {"type": "slack", "url": receiver.url("/gone")},
        "hangs": {"type": "webhook", "url": receiver.url("/hangs"), "token": TOKEN},
        "live": webhook(&receiver),
        "redirects": {"type": "webhook", "url": receiver.url("/redirects")},
    }));
    world.start();
    world.fail(0..1);
    eventually("the live one", || receiver.got("/hook").iter().any(|got| got.body.contains("image_missing"))).await;
    for sink in ["dead", "gone", "redirects"] {
        let failed = format!(r#"ofop_notifications_total{{result="failed",sink="{sink}"}}"#);
        eventually(sink, || world.metric(&failed) >= 1.0).await;
        assert!(world.metric(&format!(r#"ofop_notify_queue{{sink="{sink}"}}"#)) >= 1.0);
        assert!(world.metric(&format!(r#"ofop_notify_oldest_timestamp_seconds{{sink="{sink}"}}"#)) > 1e9);
    }
    eventually("the status says so", || {
        world.report.status().warnings.iter().any(|warning| warning.contains("`gone` takes no notifications: HTTP 404"))
    })
    .await;
    // Which is a concern of its own, of which the live one is told.
    eventually("told of itself", || {
        receiver.got("/hook").iter().any(|got| got.body.contains("operator notifications"))
    })
    .await;
    let warnings = world.report.status().warnings.join("\n");
    assert!(warnings.contains("`redirects`") && !warnings.contains(TOKEN) && !warnings.contains("/gone"), "{warnings}");
    world.crash().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_keeps_silent_and_goes_on_from_there_when_it_takes_over() {
    let receiver = Receiver::start().await;
    let mut world = World::new(2);
    world.settings(&json!({"web": webhook(&receiver)}));
    let standing = |standing| LeaseStatus { standing, ..LeaseStatus::default() };
    world.report.lease(&standing(Standing::Standby));
    world.fail(0..1);
    world.start();
    // Long enough for everything that would send it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(receiver.got("/hook").is_empty());
    world.report.lease(&standing(Standing::Holder));
    eventually("what the dead one may not have sent", || receiver.got("/hook").len() == 1).await;
    world.heal(0..1);
    eventually("recovery", || receiver.got("/hook").len() == 2).await;
    world.stop().await;
    assert_eq!(told(&receiver.got("/hook")), [("failing".into(), 1, 0), ("recovered".into(), 0, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_read_again_when_it_changes_and_a_broken_one_leaves_the_last_in_force() {
    let receiver = Receiver::start().await;
    let mut world = World::new(3);
    world.settings(&json!({"web": {"type": "webhook", "url": receiver.url("/first")}}));
    world.start();
    world.fail(0..1);
    eventually("the first", || receiver.got("/first").len() == 1).await;
    write_private(&world.file(), "sinks: {web: {type: webhok}}\n");
    eventually("it is said", || world.metric("ofop_notify_settings_valid") == 0.0).await;
    world.fail(1..2);
    eventually("the last stays in force", || receiver.got("/first").iter().any(|got| got.body.contains("A-1"))).await;
    world.settings(&json!({"web": {"type": "webhook", "url": receiver.url("/second")}}));
    eventually("valid again", || world.metric("ofop_notify_settings_valid") == 1.0).await;
    world.fail(2..3);
    eventually("the second", || receiver.got("/second").iter().any(|got| got.body.contains("A-2"))).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_through_starttls_and_signs_in_only_there() {
    let server = mail::Server::start().await;
    let mut world = World::new(1);
    world.connections.authorities = Some(server.ca());
    world.settings(&json!({"mail": {
        "type": "email", "server": "localhost", "port": server.port, "username": "ofop", "password": TOKEN,
        "from": "ofop <ofop@plant.example>", "to": ["line-2@plant.example", "Schichtführer <shift@plant.example>"],
    }}));
    world.start();
    world.fail(0..1);
    eventually("a mail", || server.mails().iter().any(|mail| mail.text.contains("image_missing"))).await;
    world.heal(0..1);
    eventually("recovery", || server.mails().iter().any(|mail| mail.text.contains("recovered"))).await;
    world.stop().await;
    let mails = server.mails();
    let mail = &mails[0];
    assert_eq!(mail.from, "<ofop@plant.example>");
    assert_eq!(mail.to, ["<line-2@plant.example>", "<shift@plant.example>"]);
    assert_eq!(mail.login, format!("\0ofop\0{TOKEN}"));
    for line in
        ["Subject: [ofop test critical] app/A-0: image_missing", "Auto-Submitted: auto-generated", "Message-ID: <test-"]
    {
        assert!(mail.text.contains(line), "{line}: {}", mail.text);
    }
    assert!(!server.in_clear().contains("AUTH") && !server.in_clear().contains("MAIL"), "{}", server.in_clear());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_is_not_sent_to_a_server_that_offers_no_tls_or_shows_another_certificate() {
    let server = mail::Server::start().await;
    let mut world = World::new(1);
    let sink = json!({"type": "email", "server": "localhost", "port": server.port, "username": "ofop", "password": TOKEN,
        "from": "ofop@plant.example", "to": ["line-2@plant.example"]});
    // Nobody vouches for its certificate here.
    world.settings(&json!({"mail": sink}));
    world.start();
    world.fail(0..1);
    let failed = r#"ofop_notifications_total{result="failed",sink="mail"}"#;
    eventually("it fails", || world.metric(failed) >= 1.0).await;
    server.offer_tls(false);
    let before = world.metric(failed);
    eventually("it fails again", || world.metric(failed) > before).await;
    world.crash().await;
    assert!(server.mails().is_empty());
    assert!(!server.in_clear().contains("AUTH"), "{}", server.in_clear());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_gets_messages_in_order_under_keys_and_survives_being_down() {
    let mut broker = tokio::task::spawn_blocking(kafka::Kafka::start).await.unwrap();
    let address = broker.address();
    make_topic(&address, "ofop_notifications").await;
    let mut world = World::new(1);
    world.connections.kafka = KafkaServers { brokers: address.clone(), ..KafkaServers::default() };
    world.settings(&json!({"kafka": {"type": "kafka", "topic": "ofop_notifications"}}));
    world.start();
    world.fail(0..1);
    let delivered = r#"ofop_notifications_total{result="delivered",sink="kafka"}"#;
    eventually("failure", || world.metric(delivered) >= 1.0).await;
    broker.stop();
    world.heal(0..1);
    eventually("it waits", || world.metric(r#"ofop_notify_queue{sink="kafka"}"#) >= 1.0).await;
    broker.resume();
    eventually("recovery", || world.metric(delivered) >= 2.0).await;
    world.stop().await;
    let messages = tokio::task::spawn_blocking(move || kafka::messages(&address, "ofop_notifications")).await.unwrap();
    let of_app: Vec<(String, Value)> = messages
        .into_iter()
        .map(|(key, value)| (key, serde_json::from_str(&value).unwrap()))
        .filter(|(key, _): &(String, Value)| key == "test/rule 1/image_missing")
        .collect();
    let words: Vec<_> = of_app.iter().map(|(_, value)| value["status"].as_str().unwrap()).collect();
    assert_eq!((words.first(), words.last()), (Some(&"failing"), Some(&"recovered")), "{words:?}");
}

async fn make_topic(brokers: &str, topic: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<_> =
        rdkafka::config::ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    made.into_iter().for_each(|topic| drop(topic.unwrap()));
}

/// `ofop` in a folder of its own, without an engine; its exit code and both its outputs.
fn ofop(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ofop"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env("OFOP_NOTIFY", "notify.yml")
        .env("OFOP_DESIRED", "desired")
        .env("CHAT_TOKEN", TOKEN)
        .env("CHAT_ADDRESS", "https://chat.example/hook")
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_check_the_file_and_try_each_sink() {
    let receiver = Receiver::start().await;
    receiver.answer("/gone", 404, "no_service");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("desired")).unwrap();
    let file = folder.path().join("notify.yml");
    let text = json!({
        "sinks": {
            "chat": {"type": "webhook", "url": receiver.url("/chat"), "token": "${CHAT_TOKEN}"},
            "gone": {"type": "slack", "url": receiver.url("/gone")},
            "git": {"type": "github", "url": receiver.url("/git"), "repository": "plant/factory", "token": "${CHAT_TOKEN}"},
        },
        "rules": [{"to": ["chat", "gone"]}],
    });
    write_private(&file, &text.to_string());
    let run = |arguments: &[&str]| {
        let (arguments, folder): (Vec<String>, _) =
            (arguments.iter().map(|it| (*it).to_owned()).collect(), folder.path().to_owned());
        let told = tokio::task::spawn_blocking(move || {
            ofop(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
        });
        async move {
            let (code, text) = told.await.unwrap();
            assert!(!text.contains(TOKEN) && !text.contains("/gone"), "a secret: {text}");
            (code, text)
        }
    };
    let (code, said) = run(&["notify", "check"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("chat (webhook): rule 1") && said.contains("git (github): the state of every commit"),
        "{said}"
    );
    let (code, said) = run(&["notify", "test"]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("chat (webhook): delivered: HTTP 200")
            && said.contains("gone (slack): failed: HTTP 404: no_service"),
        "{said}"
    );
    assert_eq!(receiver.got("/git")[0].method, "GET", "without a commit nothing is written");
    let (code, said) = run(&["notify", "test", "git", "--commit", "c0ffee", "-o", "json"]).await;
    assert_eq!(
        (code, serde_json::from_str::<Value>(&said).unwrap()[0]["delivered"].clone()),
        (Some(0), json!(true)),
        "{said}"
    );
    assert_eq!(receiver.got("/git")[1].path, "/git/repos/plant/factory/statuses/c0ffee");
    let (code, said) = run(&["notify", "test", "chatt"]).await;
    assert!(code == Some(2) && said.contains("there is no sink `chatt`"), "{said}");
    // What the file refers to is the operator's, whatever it is called.
    let manifest = "apps:\n  a:\n    uuid: A\n    image: a:1\n    environment: [\"X=${CHAT_ADDRESS}\"]\n";
    fs::write(folder.path().join("desired/app_a.yml"), manifest).unwrap();
    let (code, said) = run(&["render", "desired"]).await;
    assert!(code == Some(0) && said.contains("chat.example"), "{said}");
    write_private(&file, &text.to_string().replace(&receiver.url("/gone"), "${CHAT_ADDRESS}"));
    let (code, said) = run(&["render", "desired"]).await;
    assert!(code == Some(2) && said.contains("CHAT_ADDRESS") && !said.contains("chat.example"), "{said}");
    fs::remove_file(folder.path().join("desired/app_a.yml")).unwrap();
    write_private(&file, &text.to_string());
    // A secret in a file that others may read.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = run(&["notify", "check"]).await;
    assert!(code == Some(2) && said.contains("0644") && said.contains("chmod 600"), "{said}");
    // A slip, with its place.
    write_private(&file, "sinks:\n  chat:\n    type: webhok\nrules: []\n");
    for command in [&["notify", "check"][..], &["run"]] {
        let (code, said) = run(command).await;
        assert!(
            code == Some(2) && said.contains("notify.yml:3:11") && said.contains("did you mean `webhook`?"),
            "{said}"
        );
    }
    // Whoever writes manifests may not say who is told.
    fs::rename(&file, folder.path().join("desired/notify.yml")).unwrap();
    let (code, said) = run(&["notify", "check", "--notify", "desired/notify.yml"]).await;
    assert!(code == Some(2) && said.contains("where manifests come from"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_tells_that_its_engine_cannot_be_read() {
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("desired")).unwrap();
    let text =
        json!({"sinks": {"chat": webhook(&receiver)}, "rules": [{"to": ["chat"], "types": ["engine"], "wait": "1s"}]});
    write_private(&folder.path().join("notify.yml"), &text.to_string());
    let mut daemon = tokio::process::Command::new(env!("CARGO_BIN_EXE_ofop"))
        .args(["run", "--listen", "127.0.0.1:0", "--notify", "notify.yml"])
        .current_dir(folder.path())
        .env_clear()
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env("OFOP_DESIRED", "desired")
        .stderr(fs::File::create(folder.path().join("log")).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("the engine", || receiver.got("/hook").iter().any(|got| got.body.contains(r#""type":"engine""#))).await;
    daemon.kill().await.unwrap();
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("notifications are sent") && !log.contains("/hook"), "{log}");
}
