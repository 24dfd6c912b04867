//! A proxy in front of an engine that does what networks and managers do on bad days.
//!
//! It carries one request per connection, so that each can be met with a fault by its first line.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, unreachable_pub, reason = "support for tests")]

#[path = "head.rs"]
mod head;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is carried out, and the connection breaks before the answer.
    LoseAnswer,
    /// The connection breaks after so many bytes of the answer.
    CutAnswer(usize),
    /// The head of the answer arrives, and then nothing more.
    Mute,
    /// Somebody else answers.
    Say(u16, String),
    /// It goes no further, and waits for an answer until the client leaves.
    Hold,
}

/// Faults by what a request holds in its first line or its body, and how many requests met them.
type Faults = Arc<Mutex<Vec<(String, Fault, usize)>>>;

/// A proxy; ends when it is dropped.
pub struct Proxy {
    path: PathBuf,
    faults: Faults,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of the engine at `engine`, with its own socket in the folder `dir`.
    pub fn start(engine: &Path, dir: &Path) -> Proxy {
        let path = dir.join("proxy.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let faults = Faults::default();
        let (engine, shared) = (engine.to_owned(), Arc::clone(&faults));
        let task = tokio::spawn(async move {
            let mut carriers = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (engine, faults) = (engine.clone(), Arc::clone(&shared));
                // A connection that breaks is what this is about.
                carriers.spawn(async move { carry(client, &engine, &faults).await.unwrap_or_default() });
            }
        });
        Proxy { path, faults, task }
    }

    /// Address as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// From now on, requests meet the fault whose first line (without the API's version) or body holds `request`.
    pub fn fault(&self, request: &str, fault: Fault) {
        self.faults.lock().unwrap().push((request.to_owned(), fault, 0));
    }

    /// How many requests have met the fault so far.
    pub fn met(&self, request: &str) -> usize {
        self.faults.lock().unwrap().iter().filter(|(pattern, ..)| pattern == request).map(|(.., met)| met).sum()
    }

    /// From now on all is well.
    pub fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The first line of a request without the API's version, which engines differ in.
fn without_version(line: &str) -> String {
    let plain = || {
        let (method, target) = line.split_once(" /v1.")?;
        let (version, rest) = target.split_once('/')?;
        version.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{method} /{rest}"))
    };
    plain().unwrap_or_else(|| line.to_owned())
}

async fn carry(mut client: UnixStream, engine: &Path, faults: &Faults) -> std::io::Result<()> {
    let mut request = Vec::new();
    let Some(end) = head::read(&mut client, &mut request).await? else { return Ok(()) };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    while request.len() < end + 4 + length.unwrap_or(0) {
        client.read_buf(&mut request).await?;
    }
    let first = without_version(head.lines().next().unwrap_or_default());
    let body = String::from_utf8_lossy(&request[end..]);
    let meets = |pattern: &str| first.contains(pattern) || body.contains(pattern);
    let fault = faults.lock().unwrap().iter_mut().find(|(pattern, ..)| meets(pattern)).map(|found| {
        found.2 += 1;
        found.1.clone()
    });

    if let Some(Fault::Say(status, body)) = &fault {
        let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        return client.write_all(format!("{head}{body}").as_bytes()).await;
    }
    if let Some(Fault::Hold) = &fault {
        client.read_to_end(&mut Vec::new()).await?;
        return Ok(());
    }
    let mut upstream = UnixStream::connect(engine).await?;
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(b"\r\nConnection: close").await?;
    upstream.write_all(&request[end..]).await?;
    match fault {
        None => _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await?,
        Some(Fault::LoseAnswer) => _ = upstream.read_to_end(&mut Vec::new()).await?,
        Some(Fault::CutAnswer(length)) => _ = tokio::io::copy(&mut upstream.take(length as u64), &mut client).await?,
        Some(Fault::Mute) => {
            let mut answer = Vec::new();
            while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
                upstream.read_buf(&mut answer).await?;
            }
            client.write_all(&answer).await?;
            // Until the client has enough of it.
            client.read_to_end(&mut Vec::new()).await?;
        }
        Some(Fault::Say(..) | Fault::Hold) => {}
    }
    Ok(())
}
