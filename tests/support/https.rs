//! A web server behind TLS on loopback, with a certificate authority of its own.

#[path = "tls.rs"]
mod tls;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tls::make_certificates;

/// What the server answers to every request from now on.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(body: &str) -> Self {
        Answer { status: 200, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request: the first line, then the headers, as they came.
pub(crate) type Request = Vec<String>;

struct Shared {
    answer: Mutex<Answer>,
    /// Folder whose bare repositories are served below `/git/`, and the `Authorization` that this takes.
    git: Mutex<Option<(PathBuf, Option<String>)>>,
    /// What git's program answered to which first line, once that is to be remembered.
    remembered: Mutex<Option<HashMap<String, Answer>>>,
    requests: Mutex<Vec<Request>>,
    away: AtomicBool,
}

/// The server. It runs until the test's process ends.
pub(crate) struct Server {
    pub(crate) port: u16,
    folder: TempDir,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_file_iter(folder.path().join("leaf.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.path().join("leaf.key")).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Mutex::new(Answer::status(404));
        let shared = Arc::new(Shared {
            answer,
            git: Mutex::default(),
            remembered: Mutex::default(),
            requests: Mutex::default(),
            away: AtomicBool::new(false),
        });
        let (config, serving) = (Arc::new(config), shared.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.away.load(Ordering::SeqCst) {
                    continue;
                }
                let (config, shared) = (config.clone(), serving.clone());
                // What a client breaks off is not the server's problem.
                std::thread::spawn(move || drop(serve(stream, config, &shared)));
            }
        });
        Server { port, folder, shared }
    }

    /// The certificate authority that signed the server's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Whether it breaks off every connection from now on.
    pub(crate) fn away(&self, away: bool) {
        self.shared.away.store(away, Ordering::SeqCst);
    }

    /// Serves the bare repositories of a folder below `/git/`, by git's own program for that.
    pub(crate) fn serve_git(&self, folder: &Path, authorization: Option<&str>) {
        *self.shared.git.lock().unwrap() = Some((folder.to_owned(), authorization.map(str::to_owned)));
    }

    /// Answers as [`Server::answer`] says below `/git/` as well.
    pub(crate) fn serve_git_no_longer(&self) {
        *self.shared.git.lock().unwrap() = None;
    }

    /// From now on asks git's program only once for what is read: benches measure us, and not how long that takes to
    /// start.
    pub(crate) fn remember(&self) {
        *self.shared.remembered.lock().unwrap() = Some(HashMap::new());
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, shared: &Shared) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let mut reader = BufReader::new(&mut stream);
    loop {
        let mut line = String::new();
        reader.by_ref().take(16_384).read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        request.push(line.to_owned());
    }
    let value = |name: &str| {
        let header = |line: &String| line.split_once(": ").map(|(key, value)| (key.to_lowercase(), value.to_owned()));
        request.iter().filter_map(header).find(|(key, _)| key == name).map(|(_, value)| value)
    };
    let mut body = vec![0; value("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    shared.requests.lock().unwrap().push(request.clone());
    let git = shared.git.lock().unwrap().clone();
    let answer = match git {
        Some((folder, wanted)) if request[0].contains(" /git/") => {
            if wanted.is_some() && value("authorization") != wanted {
                Answer::status(401).header("WWW-Authenticate", "Basic realm=\"git\"")
            } else {
                let ask = || backend(&folder, &request[0], value("content-type").unwrap_or_default(), &body);
                match shared.remembered.lock().unwrap().as_mut().filter(|_| request[0].starts_with("GET ")) {
                    Some(remembered) => remembered.entry(request[0].clone()).or_insert_with(ask).clone(),
                    None => ask(),
                }
            }
        }
        Some(_) | None => shared.answer.lock().unwrap().clone(),
    };
    write!(stream, "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len())?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    stream.write_all(&answer.body)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// `git http-backend`, by the rules of CGI.
fn backend(folder: &Path, first: &str, kind: String, body: &[u8]) -> Answer {
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap().strip_prefix("/git").unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .envs([("REQUEST_METHOD", method), ("PATH_INFO", path), ("QUERY_STRING", query)])
        .env("CONTENT_TYPE", kind)
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").expect("headers end");
    let headers = String::from_utf8(output[..end].to_vec()).unwrap();
    let mut answer = Answer { status: 200, headers: Vec::new(), body: output[end + 4..].to_vec() };
    for line in headers.lines() {
        match line.split_once(": ").unwrap() {
            ("Status", status) => answer.status = status[..3].parse().unwrap(),
            ("Content-Type", kind) => answer.headers.push(("Content-Type", kind.to_owned())),
            _ => {}
        }
    }
    answer
}
