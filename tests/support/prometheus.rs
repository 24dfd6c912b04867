//! A real Prometheus that scrapes one operator several times a second, on a free port of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test whose tools are missing fails")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

#[path = "port.rs"]
#[allow(clippy::duplicate_mod, reason = "several supports may be part of one test program")]
mod port;

/// How long anything may take that Prometheus does within a second; a bound for a broken run, not a wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlertState {
    Inactive,
    Pending,
    Firing,
}

pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    /// Starts a server with the given rules, and waits until it answers.
    pub(crate) async fn start(target: SocketAddr, rules: &Path) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port::claim()));
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs: [{{job_name: ofop, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus runs; `apt-get install prometheus` brings it");
        let prometheus = Prometheus { child, address, folder };
        prometheus.until("it is ready", async || prometheus.get("/-/ready").await.is_some()).await;
        prometheus
    }

    /// Waits until it has scraped its target.
    pub(crate) async fn sees_target_up(&self) {
        self.until("the target is up", async || {
            let answer = self.json("/api/v1/targets?state=active").await;
            answer["data"]["activeTargets"][0]["health"] == "up"
        })
        .await;
    }

    /// The worst state that an alert is in now.
    pub(crate) async fn alert(&self, name: &str) -> AlertState {
        let answer = self.json("/api/v1/rules?type=alert").await;
        let rules = answer["data"]["groups"].as_array().into_iter().flatten();
        let mut rules = rules.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let rule = rules.find(|rule| rule["name"] == name).unwrap_or_else(|| panic!("no alert `{name}` in {answer}"));
        match rule["state"].as_str() {
            Some("inactive") => AlertState::Inactive,
            Some("pending") => AlertState::Pending,
            Some("firing") => AlertState::Firing,
            other => panic!("an alert in state {other:?}"),
        }
    }

    /// Waits until an alert is in a state.
    pub(crate) async fn waits_for(&self, name: &str, state: AlertState) {
        self.until(&format!("{name} is {state:?}"), async || self.alert(name).await == state).await;
    }

    pub(crate) async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn until(&self, what: &str, reached: impl AsyncFn() -> bool) {
        let waiting = async {
            while !reached().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            panic!("Prometheus never came to: {what}\n{log}");
        }
    }

    async fn json(&self, path: &str) -> Value {
        let body = self.get(path).await.unwrap_or_default();
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    /// The body of an answer with status 200; HTTP/1.0, so that no body comes in chunks.
    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
    }
}
