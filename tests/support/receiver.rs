//! A web server on loopback that keeps what it gets, and answers as it is told to.

#![allow(clippy::unwrap_used, dead_code, reason = "support for tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: HeaderMap,
    pub(crate) body: String,
}

impl Got {
    /// A header's text; empty without it.
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

#[derive(Default)]
struct Shared {
    got: Vec<Got>,
    answers: BTreeMap<String, (u16, String)>,
    hanging: BTreeSet<String>,
}

/// The server. It runs for as long as the runtime.
pub(crate) struct Receiver {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl Receiver {
    pub(crate) async fn start() -> Receiver {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let router = Router::new().fallback(take).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { port, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it answers below a path from now on; 200 and `ok` unless told otherwise.
    pub(crate) fn answer(&self, path: &str, status: u16, body: &str) {
        self.shared.lock().unwrap().answers.insert(path.to_owned(), (status, body.to_owned()));
    }

    /// Whether it takes what comes below a path and never answers.
    pub(crate) fn hang(&self, path: &str, hangs: bool) {
        let mut shared = self.shared.lock().unwrap();
        if hangs {
            shared.hanging.insert(path.to_owned());
        } else {
            shared.hanging.remove(path);
        }
    }

    /// What came below a path so far.
    pub(crate) fn got(&self, path: &str) -> Vec<Got> {
        let shared = self.shared.lock().unwrap();
        shared.got.iter().filter(|got| is_below(&got.path, path)).cloned().collect()
    }
}

fn is_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn take(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let (hangs, (status, body)) = {
        let mut shared = shared.lock().unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        shared.got.push(Got { method: method.to_string(), path: path.clone(), headers, body });
        let answer = shared.answers.iter().find(|(base, _)| is_below(&path, base)).map(|(_, answer)| answer.clone());
        let hangs = shared.hanging.iter().any(|base| is_below(&path, base));
        (hangs, answer.unwrap_or((200, "ok".into())))
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    // Where a redirect leads nobody may follow.
    (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, "/stolen")], body).into_response()
}
