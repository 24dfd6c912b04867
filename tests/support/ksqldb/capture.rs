//! Requests and answers as they went over the wire: those captured from a real server (`tests/ksqldb_wire/`), and those of
//! now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) accept: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn statement(path: &str, sql: &str) -> Request {
        Request {
            method: "POST".into(),
            path: path.into(),
            accept: "application/vnd.ksql.v1+json".into(),
            body: serde_json::json!({"ksql": sql, "streamsProperties": {}}).to_string(),
            ..Request::default()
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// With its reason.
    pub(crate) status: String,
    /// Names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    /// Without the marks of its chunks.
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn code(&self) -> u16 {
        self.status.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Takes an answer apart; a body whose chunks were captured keeps its JSON lines alone.
    pub(crate) fn parse(text: &str) -> Answer {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().unwrap().to_owned();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let in_chunks = |body: &str| body.lines().next().is_some_and(|line| usize::from_str_radix(line, 16).is_ok());
        let body = if in_chunks(body) {
            body.lines().filter(|line| line.starts_with(['{', '['])).collect::<Vec<_>>().join("\n")
        } else {
            body.to_owned()
        };
        Answer { status, headers, body: body.trim_end_matches('\n').to_owned() }
    }

    /// How the body goes over the wire, and the headers that a client may look at.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        let of = |name: &str| self.headers.get(name).map(|value| (name.to_owned(), value.to_lowercase()));
        let mut form: Vec<_> =
            ["content-type", "transfer-encoding", "www-authenticate", "allow"].into_iter().filter_map(of).collect();
        // The length itself says nothing that the body does not say.
        form.extend(of("content-length").map(|(name, _)| (name, String::new())));
        form
    }

    /// The body's lines: the marks around each, and what it holds without what is different every time.
    pub(crate) fn content(&self) -> Vec<(String, Value)> {
        self.body.lines().map(line).collect()
    }
}

fn line(line: &str) -> (String, Value) {
    for (open, close) in [("", ""), ("", ","), ("[", ","), ("[", ""), ("", "]")] {
        let inside = line.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(mut value) = inside.and_then(|inside| serde_json::from_str(inside).ok()) {
            settle(&mut value);
            return (format!("{open} {close}"), value);
        }
    }
    (line.to_owned(), Value::Null)
}

/// Takes away what is different every time: numbers of queries, statistics, the order of maps.
fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, inside) in fields.iter_mut() {
                match name.as_str() {
                    "queryId" if inside.as_str().is_some_and(|id| !id.starts_with('C')) => *inside = "a query".into(),
                    "statistics" | "clusterStatistics" | "queryOffsetSummaries" => *inside = Value::Null,
                    _ => settle(inside),
                }
                let by = match name.as_str() {
                    "streams" | "tables" => "name",
                    "queries" | "readQueries" | "writeQueries" => "id",
                    _ => continue,
                };
                if let Value::Array(items) = inside {
                    items.sort_by_key(|item| item[by].as_str().map(str::to_owned));
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

/// A file of the captures.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ksqldb_wire")
}

pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// A capture of one request; the few that were taken without it are known by their names.
pub(crate) fn one(name: &str) -> (Request, Answer) {
    let text = text(name).replace("\r\n", "\n");
    let mut request = Request { method: "POST".into(), path: "/ksql".into(), ..Request::default() };
    match name {
        "auth-none.txt" => {}
        "auth-wrong.txt" => request.authorization = "Basic d3Jvbmc6d3Jvbmc=".into(),
        "nowhere.txt" => (request.method, request.path) = ("GET".into(), "/nowhere".into()),
        "query-get.txt" => (request.method, request.path) = ("GET".into(), "/query".into()),
        _ => {
            let (head, answer) = text.split_once("\n\n").unwrap();
            let mut lines = head.lines();
            let first: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
            let [">>>", method, path, "Accept:", accept] = first.as_slice() else { panic!("{name}: {first:?}") };
            let body = lines.next().unwrap().strip_prefix(">>> ").unwrap().to_owned();
            let [method, path, accept] = [method, path, accept].map(|text| (*text).to_owned());
            return (Request { method, path, accept, body, ..Request::default() }, Answer::parse(answer));
        }
    }
    (request, Answer::parse(&text))
}

/// Statements and their answers, from a file of many; no answer where none came.
pub(crate) fn many(name: &str) -> Vec<(String, Option<Answer>)> {
    let text = text(name).replace("\r\n", "\n");
    let mut found: Vec<(String, Option<Answer>)> = Vec::new();
    let mut parts = text.split(">>> ");
    parts.next();
    for part in parts {
        let (sql, rest) = part.split_once('\n').unwrap();
        // What follows the answer is the time of the next statement.
        let answer = rest.strip_prefix("<<< ").unwrap();
        let answer = answer.starts_with("HTTP").then(|| Answer::parse(answer));
        found.push((sql.to_owned(), answer.map(|answer| Answer { body: only_json(&answer.body), ..answer })));
    }
    found
}

fn only_json(body: &str) -> String {
    body.lines().filter(|line| line.starts_with(['{', '['])).collect::<Vec<_>>().join("\n")
}

/// Sends a request by hand, so that nothing of the answer's form is lost.
pub(crate) async fn send(to: std::net::SocketAddr, request: &Request) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let Request { method, path, accept, authorization, body } = request;
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in [("Accept", accept), ("Authorization", authorization)] {
        if !value.is_empty() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let at = bytes.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let mut answer = Answer::parse(std::str::from_utf8(&bytes[..at]).unwrap());
    answer.headers.remove("connection");
    let mut rest = &bytes[at + 4..];
    let mut whole = Vec::new();
    if answer.headers.contains_key("transfer-encoding") {
        loop {
            let end = rest.windows(2).position(|part| part == b"\r\n").unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 2 + size + 2..];
            if size == 0 {
                break;
            }
        }
    } else {
        whole.extend_from_slice(rest);
    }
    answer.body = String::from_utf8(whole).unwrap();
    answer
}
