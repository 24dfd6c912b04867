//! A proxy in front of an engine that lets through what an allow-list allows and refuses all else, as the proxies do that
//! people put in front of their engine's socket. It keeps what was asked.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "support for tests")]

#[path = "head.rs"]
mod head;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use regex::Regex;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

/// A method, and what a path of it must match from its first to its last character; the query does not count.
pub type Rules = Vec<(String, Regex)>;

/// What was asked: `METHOD PATH`, the path without its query and the version of the API.
type Asked = Arc<Mutex<BTreeSet<String>>>;

/// A proxy; ends when it is dropped.
pub struct Guard {
    path: PathBuf,
    allowed: Asked,
    refused: Asked,
    task: tokio::task::JoinHandle<()>,
}

impl Guard {
    /// A proxy in front of the engine at `engine`, with its own socket in the folder `dir`.
    pub fn start(engine: &Path, dir: &Path, rules: Rules) -> Guard {
        let path = dir.join("guard.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (allowed, refused) = (Asked::default(), Asked::default());
        let (engine, rules, seen) = (engine.to_owned(), Arc::new(rules), (Arc::clone(&allowed), Arc::clone(&refused)));
        let task = tokio::spawn(async move {
            let mut carriers = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (engine, rules, seen) = (engine.clone(), Arc::clone(&rules), seen.clone());
                carriers.spawn(async move {
                    // A client that leaves early is no trouble.
                    let _ = carry(client, &engine, &rules, &seen.0, &seen.1).await;
                });
            }
        });
        Guard { path, allowed, refused, task }
    }

    /// Address as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// What was let through so far.
    pub fn allowed(&self) -> BTreeSet<String> {
        self.allowed.lock().unwrap().clone()
    }

    /// What was refused so far.
    pub fn refused(&self) -> BTreeSet<String> {
        self.refused.lock().unwrap().clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries one request and its answer, and closes: so that each request is looked at.
async fn carry(
    mut client: UnixStream,
    engine: &Path,
    rules: &Rules,
    allowed: &Asked,
    refused: &Asked,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let Some(end) = head::read(&mut client, &mut request).await? else { return Ok(()) };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let is_allowed = rules.iter().any(|(allows, pattern)| allows == method && pattern.is_match(path));
    let kept = if is_allowed { allowed } else { refused };
    kept.lock().unwrap().insert(format!("{method} {}", without_version(path)));
    if !is_allowed {
        let answer = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 10\r\n\r\nForbidden\n";
        return client.write_all(answer).await;
    }
    let mut upstream = UnixStream::connect(engine).await?;
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(b"\r\nConnection: close").await?;
    upstream.write_all(&request[end..]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}

fn without_version(path: &str) -> &str {
    let rest = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    rest.unwrap_or(path)
}
