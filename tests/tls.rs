//! The HTTP server behind TLS, and the commands that talk to it.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "support/tls.rs"]
mod tls;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ofop::http::{self, Door, Tls, TlsError, Token, Tokens};
use ofop::model::InstanceName;
use ofop::report::Report;
use serde_json::Value;
use tempfile::TempDir;
use tls::make_certificates;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

const TOKEN: &str = "0123456789abcdef";

/// A certificate, its key and its authority.
struct Pair(TempDir);

impl Pair {
    fn new() -> Pair {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path());
        Pair(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A server, and the files that it was given.
struct Server {
    folder: TempDir,
    port: u16,
    report: Report,
    _commands: mpsc::Receiver<ofop::model::Request>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(pair: &Pair) -> Server {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), pair, "leaf.pem");
        put(folder.path(), pair, "leaf.key");
        let tls = Tls::open(&folder.path().join("leaf.pem"), &folder.path().join("leaf.key")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let report = Report::new(InstanceName::new("plant").unwrap());
        let (sender, commands) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let tokens: Tokens = Some(Token::new(TOKEN).unwrap()).into();
        let serving = http::serve(Door::secure(listener, tls), report.clone(), sender, tokens, async {
            let _ = stopped.await;
        });
        Server { folder, port, report, _commands: commands, stop, task: tokio::spawn(serving) }
    }

    /// What a client that trusts this authority alone is answered; none when it does not trust the server.
    async fn get(&self, authority: &Path, path: &str) -> Option<Value> {
        let ca = reqwest::Certificate::from_pem(&fs::read(authority).unwrap()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
        let answer = client.get(format!("https://localhost:{}{path}", self.port)).send().await.ok()?;
        answer.json().await.ok()
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// Puts a file of a pair into place at once.
fn put(folder: &Path, pair: &Pair, name: &str) {
    fs::copy(pair.file(name), folder.join("new")).unwrap();
    fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

fn warnings(answer: &Value) -> String {
    answer["warnings"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pair_counts_at_once_and_a_bad_one_leaves_the_last_in_force() {
    let (first, second) = (Pair::new(), Pair::new());
    let server = Server::start(&first).await;
    let (trust_first, trust_second) = (first.file("ca.pem"), second.file("ca.pem"));
    assert_eq!(warnings(&server.get(&trust_first, "/readyz").await.unwrap()), "[]");
    assert!(server.get(&trust_second, "/readyz").await.is_none());
    // Half of a replacement: the key of the one and the certificate of the other.
    put(server.folder.path(), &second, "leaf.pem");
    let answer = server.get(&trust_first, "/readyz").await.unwrap();
    assert!(warnings(&answer).contains("stays in force"), "{answer}");
    assert!(server.report.status().warnings.iter().any(|warning| warning.contains("cannot be used together")));
    // The other half.
    put(server.folder.path(), &second, "leaf.key");
    assert_eq!(warnings(&server.get(&trust_second, "/readyz").await.unwrap()), "[]");
    assert!(server.get(&trust_first, "/readyz").await.is_none());
    // No certificate, no key, no file.
    for (name, text) in [("leaf.pem", "no certificate"), ("leaf.key", "no private key")] {
        fs::write(server.folder.path().join(name), "").unwrap();
        let answer = server.get(&trust_second, "/readyz").await.unwrap();
        assert!(warnings(&answer).contains(text), "{name} {answer}");
        fs::remove_file(server.folder.path().join(name)).unwrap();
        let answer = server.get(&trust_second, "/readyz").await.unwrap();
        assert!(warnings(&answer).contains("No such file"), "{name} {answer}");
        put(server.folder.path(), &second, name);
        assert_eq!(warnings(&server.get(&trust_second, "/readyz").await.unwrap()), "[]", "{name}");
    }
    // Who speaks no TLS gets no answer of ours.
    let mut plain = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    server.end().await;
}

#[test]
fn a_pair_that_cannot_be_used_is_told_apart() {
    let (one, other) = (Pair::new(), Pair::new());
    assert!(Tls::open(&one.file("leaf.pem"), &one.file("leaf.key")).is_ok());
    let open = |certificate: PathBuf, key: PathBuf| Tls::open(&certificate, &key).unwrap_err();
    assert!(matches!(open(one.file("leaf.pem"), other.file("leaf.key")), TlsError::Pair { .. }));
    assert!(matches!(open(one.file("leaf.key"), one.file("leaf.key")), TlsError::NoCertificate { .. }));
    assert!(matches!(open(one.file("leaf.pem"), one.file("leaf.pem")), TlsError::NoKey { .. }));
    assert!(matches!(open(one.file("none"), one.file("leaf.key")), TlsError::File { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_talk_to_a_daemon_behind_tls_that_they_can_trust() {
    let pair = Pair::new();
    let server = Server::start(&pair).await;
    let ofop = |arguments: &[&str], ca: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ofop"));
        command.args(arguments).current_dir(pair.0.path()).env_clear().env("OFOP_TOKEN", TOKEN);
        command.envs(ca.map(|path| ("OFOP_CA_FILE", path)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for host in ["localhost", "127.0.0.1"] {
        let address = format!("https://{host}:{}", server.port);
        let (code, error) = ofop(&["events", "--address", &address], Some(&pair.file("ca.pem")));
        assert!(code == Some(0) && error.contains("no such events"), "{host} {error}");
        let stranger = Pair::new();
        for ca in [None, Some(stranger.file("ca.pem"))] {
            for command in [&["events"][..], &["suspend", "app/X"], &["get", "all"]] {
                let (code, error) = ofop(&[command, &["--address", &address]].concat(), ca.as_deref());
                assert_eq!(code, Some(2), "{command:?} {error}");
                assert!(error.contains("OFOP_CA_FILE"), "{command:?} {ca:?} {error}");
            }
        }
    }
    // Plain HTTP to a server with TLS, a file without a certificate, an address without a port.
    let plain = format!("127.0.0.1:{}", server.port);
    assert_eq!(ofop(&["events", "--address", &plain], None).0, Some(2));
    let address = format!("https://localhost:{}", server.port);
    let (code, error) = ofop(&["events", "--address", &address], Some(&pair.file("leaf.key")));
    assert!(code == Some(2) && error.contains("holds no certificate"), "{error}");
    let (code, error) = ofop(&["events", "--address", "https://localhost"], None);
    assert!(code == Some(2) && error.contains("https://ofop.plant.example:8420"), "{error}");
    server.end().await;
}

#[test]
fn a_daemon_does_not_start_with_a_pair_that_it_cannot_use() {
    let (one, other) = (Pair::new(), Pair::new());
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ofop"))
            .args(["run", "--desired", ".", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(one.0.path())
            .env_clear()
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    fs::copy(other.file("leaf.key"), one.file("other.key")).unwrap();
    fs::copy(one.file("leaf.key"), one.file("open.key")).unwrap();
    fs::set_permissions(one.file("open.key"), Permissions::from_mode(0o644)).unwrap();
    for (arguments, said) in [
        (&["--tls-cert", "leaf.pem"][..], "--tls-key"),
        (&["--tls-key", "leaf.key"], "--tls-cert"),
        (&["--tls-cert", "leaf.pem", "--tls-key", "other.key"], "cannot be used together"),
        (&["--tls-cert", "none.pem", "--tls-key", "leaf.key"], "cannot read `none.pem`"),
        (&["--tls-cert", "leaf.pem", "--tls-key", "open.key"], "chmod 600"),
    ] {
        let (code, error) = run(arguments);
        assert!(code == Some(2) && error.contains(said), "{arguments:?}: {error}");
    }
}
