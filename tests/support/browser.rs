//! A real browser, driven over WebDriver: Chromium with chromedriver, headless, on ports and folders of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "support for tests: a test whose browser is missing fails"
)]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long anything may take; a bound for a broken run, not a wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _folder: TempDir,
}

impl Browser {
    /// Starts a browser whose window is `width` CSS pixels wide, as a phone's or a desktop's, light or dark.
    pub(crate) async fn start(width: u32) -> Browser {
        let folder = tempfile::tempdir().unwrap();
        // In a process namespace of its own, so that the browser ends with its driver, however the test ends.
        let mut driver = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "chromedriver", "--port=0"])
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .env("TMPDIR", folder.path())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver runs; `apt-get install chromium chromium-driver` brings it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port: u16 = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
            let line = line.expect("chromedriver says its port");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        let mut browser = Browser {
            driver,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
            _folder: folder,
        };
        let profile = browser._folder.path().join("profile");
        let options = json!({
            "args": ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", format!("--user-data-dir={}", profile.display())],
            "mobileEmulation": {"deviceMetrics": {"width": width, "height": 800, "pixelRatio": 1.0}},
        });
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let answer = browser.call("POST", "/session", Some(&capabilities)).await;
        browser.session = answer["sessionId"].as_str().expect("a session begins").to_owned();
        browser
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url })).await;
    }

    /// Runs a function body in the page; what it returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true in the page.
    pub(crate) async fn until(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        let waiting = async {
            while self.run(&script).await != true {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("never true: {expression}\n{}", self.run("return document.body.innerText").await);
        }
    }

    /// What the browser complained of: scripts that failed, loads that a policy refused.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "browser"})).await;
        let lines = log.as_array().expect("a list of lines").iter();
        lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub(crate) async fn stop(mut self) {
        self.call("DELETE", &format!("/session/{}", self.session), None).await;
        self.driver.kill().await.unwrap();
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}/{path}", self.session), Some(body)).await
    }

    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let answering = answer(BufReader::new(stream));
        let (status, body) = tokio::time::timeout(PATIENCE, answering).await.expect("the driver answers");
        assert_eq!(status, 200, "{method} {path}: {body}");
        serde_json::from_str::<Value>(&body).unwrap()["value"].take()
    }
}

/// Status and body of an answer. The driver keeps its connections open, whatever it is told.
async fn answer(mut stream: BufReader<TcpStream>) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "the driver hung up after {head:?}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.unwrap_or_else(|| panic!("an answer without length: {head}")).1.trim();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    (status, String::from_utf8(body).unwrap())
}
