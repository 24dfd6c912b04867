//! A proxy between an operator and an engine that counts what is asked, and that lies where it is told to: answers
//! are lost, late or invented, writes are carried out late or twice, lists are cut, shortened or of the past, events
//! stop without a word. A seed decides which request meets which lie.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ofop::testing::Rng;
use serde_json::{Value, json};

use crate::ledger::Ledger;

/// How long the proxy waits for bytes before it gives a connection up: longer than any call of the operator.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longer than the operator waits for the answer to a call (30 s).
const TOO_LATE: Duration = Duration::from_secs(33);

/// How many answers of the past are kept for each path.
const PAST: usize = 30;

/// The kinds of requests that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asked {
    Create,
    Update,
    Remove,
    List,
    Inspect,
    Tasks,
    Events,
    /// Writes to configs: the lease and the notes.
    Note,
    Other,
}

impl Asked {
    fn of(method: &str, path: &str) -> Asked {
        let path = path.trim_start_matches("/v").split_once('/').map_or(path, |(_, rest)| rest);
        let path = path.trim_start_matches('/');
        let end = path.split('?').next().unwrap_or_default();
        match (method, end) {
            ("POST", "services/create") => Asked::Create,
            ("POST", end) if end.starts_with("services/") && end.ends_with("/update") => Asked::Update,
            ("DELETE", end) if end.starts_with("services/") => Asked::Remove,
            ("GET", "services") => Asked::List,
            ("GET", end) if end.starts_with("services/") => Asked::Inspect,
            ("GET", "tasks") => Asked::Tasks,
            ("GET", "events") => Asked::Events,
            ("POST" | "DELETE", end) if end.starts_with("configs") => Asked::Note,
            _ => Asked::Other,
        }
    }

    /// Whether it changes services.
    pub fn is_write(self) -> bool {
        matches!(self, Asked::Create | Asked::Update | Asked::Remove)
    }
}

/// What may happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    LoseAnswer,
    LateCommit,
    AgainLater,
    Twice,
    Refused,
    Deadline,
    NoLeader,
    OutOfSequence,
    False404,
    False409,
    TooLate,
    Cut,
    Shorter,
    Empty,
    Past,
    Stuck,
    Mute,
    Half,
    /// Every event comes twice.
    Double,
}

/// What may happen, in per mille of the requests of a kind.
const LIES: &[(Asked, &[(Lie, u64)])] = &[
    (
        Asked::Create,
        &[
            (Lie::LoseAnswer, 60),
            (Lie::LateCommit, 60),
            (Lie::AgainLater, 20),
            (Lie::Twice, 30),
            (Lie::Refused, 40),
            (Lie::Deadline, 20),
            (Lie::False409, 20),
            (Lie::TooLate, 3),
        ],
    ),
    (
        Asked::Update,
        &[
            (Lie::LoseAnswer, 60),
            (Lie::LateCommit, 40),
            (Lie::Twice, 30),
            (Lie::Refused, 40),
            (Lie::Deadline, 20),
            (Lie::OutOfSequence, 60),
            (Lie::False404, 20),
            (Lie::TooLate, 3),
        ],
    ),
    (
        Asked::Remove,
        &[
            (Lie::LoseAnswer, 80),
            (Lie::LateCommit, 60),
            (Lie::Twice, 40),
            (Lie::Refused, 40),
            (Lie::Deadline, 20),
            (Lie::False404, 40),
            (Lie::TooLate, 3),
        ],
    ),
    (
        Asked::List,
        &[
            (Lie::Cut, 60),
            (Lie::Shorter, 60),
            (Lie::Empty, 30),
            (Lie::Past, 80),
            (Lie::Refused, 40),
            (Lie::NoLeader, 30),
            (Lie::TooLate, 3),
            (Lie::Stuck, 20),
        ],
    ),
    (Asked::Inspect, &[(Lie::False404, 40), (Lie::Past, 80), (Lie::Refused, 20)]),
    (Asked::Tasks, &[(Lie::Cut, 40), (Lie::Empty, 40), (Lie::Refused, 20)]),
    (Asked::Events, &[(Lie::Mute, 300), (Lie::Half, 300)]),
];

impl Lie {
    /// What somebody else answers in the engine's place.
    fn answer(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Lie::Refused => (500, "rpc error: code = Unavailable desc = transport is closing"),
            Lie::Deadline => (500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded"),
            Lie::NoLeader => (
                500,
                "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few \
                 managers are online. Make sure more than half of the managers are online.",
            ),
            Lie::OutOfSequence => (500, "rpc error: code = Unknown desc = update out of sequence"),
            Lie::False404 => (404, "service not found"),
            Lie::False409 => (
                409,
                "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service already exists",
            ),
            _ => return None,
        })
    }
}

/// A write: when it was sent on, what, and the status that the engine answered, 0 if it did not.
#[derive(Debug, Clone)]
pub struct Written {
    pub at: Instant,
    pub asked: Asked,
    pub path: String,
    pub status: u16,
}

struct Shared {
    engine: Mutex<PathBuf>,
    lying: AtomicBool,
    /// Lies that the next requests of a kind meet, whether or not it lies otherwise, and how many of them.
    next: Mutex<Vec<(Asked, Lie, usize)>>,
    rng: Mutex<Rng>,
    told: Mutex<BTreeMap<(Asked, Lie), usize>>,
    asked: Mutex<BTreeMap<Asked, usize>>,
    writes: Mutex<Vec<Written>>,
    /// Requests that are carried out later.
    pending: AtomicUsize,
    past: Mutex<HashMap<String, Vec<Vec<u8>>>>,
    /// Until when every list is one of the past, and which.
    stuck: Mutex<Option<(Instant, Vec<u8>)>>,
    /// Where everything is entered, and whose requests these are.
    ledger: Option<(Ledger, usize)>,
}

/// The proxy. It lives as long as the test's process.
#[derive(Clone)]
pub struct Gate {
    path: PathBuf,
    shared: Arc<Shared>,
}

struct Request {
    method: String,
    path: String,
    head: Vec<String>,
    body: Vec<u8>,
}

impl Gate {
    /// An honest proxy in front of the engine at `engine`, with its own socket at `path`.
    pub fn start(engine: &Path, path: &Path, seed: u64) -> Gate {
        Gate::open(engine, path, seed, None)
    }

    /// One for this process alone, that enters into a ledger what is asked.
    pub fn entering(engine: &Path, path: &Path, ledger: &Ledger, sender: usize) -> Gate {
        Gate::open(engine, path, 0, Some((ledger.clone(), sender)))
    }

    fn open(engine: &Path, path: &Path, seed: u64, ledger: Option<(Ledger, usize)>) -> Gate {
        let listener = UnixListener::bind(path).unwrap();
        let shared = Arc::new(Shared {
            engine: Mutex::new(engine.to_owned()),
            lying: AtomicBool::new(false),
            next: Mutex::default(),
            rng: Mutex::new(Rng::new(seed)),
            told: Mutex::default(),
            asked: Mutex::default(),
            writes: Mutex::default(),
            pending: AtomicUsize::new(0),
            past: Mutex::default(),
            stuck: Mutex::default(),
            ledger,
        });
        let gate = Gate { path: path.to_owned(), shared };
        let accepting = gate.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let gate = accepting.clone();
                // A connection that breaks is what this is about.
                std::thread::spawn(move || gate.carry(client).unwrap_or_default());
            }
        });
        gate
    }

    /// Address as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// From now on it lies, or is honest.
    pub fn lie(&self, lying: bool) {
        self.shared.lying.store(lying, Ordering::SeqCst);
    }

    /// The next so many requests of a kind meet this lie.
    pub fn next(&self, asked: Asked, lie: Lie, count: usize) {
        self.shared.next.lock().unwrap().push((asked, lie, count));
    }

    /// Whether every lie that was meant for the next requests has been told.
    pub fn has_told(&self) -> bool {
        self.shared.next.lock().unwrap().is_empty()
    }

    /// How many requests are still to be carried out.
    pub fn pending(&self) -> usize {
        self.shared.pending.load(Ordering::SeqCst)
    }

    /// The writes to services that were sent on to the engine so far, and have ended.
    pub fn writes(&self) -> Vec<Written> {
        self.shared.writes.lock().unwrap().clone()
    }

    /// The writes that were sent on after a moment, and have ended.
    pub fn writes_since(&self, since: Instant) -> Vec<Written> {
        self.writes().into_iter().filter(|write| write.at > since).collect()
    }

    /// How many lies were told, and which.
    pub fn told(&self) -> (usize, String) {
        let told = self.shared.told.lock().unwrap();
        let words = told.iter().map(|((asked, lie), count)| format!("{asked:?} {lie:?} {count}"));
        (told.values().sum(), words.collect::<Vec<_>>().join(", "))
    }

    /// How many requests of each kind there were.
    pub fn asked(&self) -> String {
        format!("{:?}", self.shared.asked.lock().unwrap())
    }

    fn draw(&self, asked: Asked) -> Option<Lie> {
        let mut next = self.shared.next.lock().unwrap();
        if let Some(index) = next.iter().position(|(kind, ..)| *kind == asked) {
            let lie = next[index].1;
            next[index].2 -= 1;
            next.retain(|(.., left)| *left > 0);
            *self.shared.told.lock().unwrap().entry((asked, lie)).or_default() += 1;
            return Some(lie);
        }
        drop(next);
        if !self.shared.lying.load(Ordering::SeqCst) {
            return None;
        }
        let (_, lies) = LIES.iter().find(|(kind, _)| *kind == asked)?;
        let mut dice = self.shared.rng.lock().unwrap().below(1000);
        for (lie, share) in *lies {
            if dice < *share {
                *self.shared.told.lock().unwrap().entry((asked, *lie)).or_default() += 1;
                return Some(*lie);
            }
            dice -= share;
        }
        None
    }

    fn below(&self, bound: u64) -> u64 {
        self.shared.rng.lock().unwrap().below(bound)
    }

    /// The engine's true answer.
    fn ask(&self, request: &Request) -> std::io::Result<(u16, Vec<u8>)> {
        let (at, asked) = (Instant::now(), Asked::of(&request.method, &request.path));
        let entry = self
            .shared
            .ledger
            .as_ref()
            .map(|(ledger, sender)| (ledger, ledger.asked(*sender, &request.method, &request.path, &request.body)));
        let answer = || {
            let mut upstream = self.connect(request, "1.0")?;
            let (status, mut body) = answer_head(&mut upstream)?;
            upstream.read_to_end(&mut body)?;
            Ok((status, body))
        };
        let answer: std::io::Result<(u16, Vec<u8>)> = answer();
        if let Some((ledger, entry)) = entry {
            let (status, body) = answer.as_ref().map_or((0, &[][..]), |(status, body)| (*status, body.as_slice()));
            ledger.answered(&entry, &request.path, status, body);
        }
        if asked.is_write() {
            let status = answer.as_ref().map_or(0, |(status, _)| *status);
            self.shared.writes.lock().unwrap().push(Written { at, asked, path: request.path.clone(), status });
        }
        answer
    }

    fn connect(&self, request: &Request, version: &str) -> std::io::Result<UnixStream> {
        let engine = self.shared.engine.lock().unwrap().clone();
        let mut upstream = UnixStream::connect(engine)?;
        upstream.set_read_timeout(Some(PATIENCE))?;
        let mut text = format!("{} {} HTTP/{version}\r\n", request.method, request.path);
        for line in &request.head {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", request.body.len()));
        upstream.write_all(text.as_bytes())?;
        upstream.write_all(&request.body)?;
        Ok(upstream)
    }

    fn later(&self, wait: Duration, request: Request) {
        let gate = self.clone();
        gate.shared.pending.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            std::thread::sleep(wait);
            // Whatever the engine says of it, nobody waits for it.
            let _ = gate.ask(&request);
            gate.shared.pending.fetch_sub(1, Ordering::SeqCst);
        });
    }

    fn carry(&self, mut client: UnixStream) -> std::io::Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        let Some(request) = read_request(&mut client)? else { return Ok(()) };
        let asked = Asked::of(&request.method, &request.path);
        *self.shared.asked.lock().unwrap().entry(asked).or_default() += 1;
        let lie = self.draw(asked);
        if asked == Asked::Events {
            return self.stream(lie, client, &request);
        }
        if let Some((status, message)) = lie.and_then(Lie::answer) {
            return say(&mut client, status, json!({ "message": message }).to_string().as_bytes());
        }
        if asked == Asked::List
            && let Some(answer) = self.stuck(lie, &request.path)
        {
            return say(&mut client, 200, &answer);
        }
        match lie {
            Some(Lie::LateCommit) => {
                self.later(Duration::from_millis(self.below(12_000)), request);
                return Ok(());
            }
            Some(Lie::AgainLater) => {
                let again =
                    Request { head: request.head.clone(), body: request.body.clone(), ..request_line(&request) };
                self.later(Duration::from_millis(3_000 + self.below(12_000)), again);
            }
            Some(Lie::Past) => {
                if let Some(answer) = self.past(&request.path) {
                    return say(&mut client, 200, &answer);
                }
            }
            Some(Lie::TooLate) => {
                self.shared.pending.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(TOO_LATE);
                let answer = self.ask(&request);
                self.shared.pending.fetch_sub(1, Ordering::SeqCst);
                let (status, answer) = answer?;
                return say(&mut client, status, &answer);
            }
            Some(Lie::Twice) => _ = self.ask(&request)?,
            _ => {}
        }
        let (status, mut answer) = self.ask(&request)?;
        if status == 200 && matches!(asked, Asked::List | Asked::Inspect) {
            let mut past = self.shared.past.lock().unwrap();
            let known = past.entry(request.path.clone()).or_default();
            known.push(answer.clone());
            let surplus = known.len().saturating_sub(PAST);
            known.drain(..surplus);
        }
        match lie {
            Some(Lie::LoseAnswer) => return Ok(()),
            Some(Lie::Cut) => {
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", answer.len());
                client.write_all(head.as_bytes())?;
                return client.write_all(&answer[..answer.len() / 2]);
            }
            Some(Lie::Empty) => answer = b"[]\n".to_vec(),
            Some(Lie::Shorter) if status == 200 => {
                let mut list: Vec<Value> = serde_json::from_slice(&answer).unwrap_or_default();
                list.retain(|_| self.below(10) < 7);
                answer = Value::Array(list).to_string().into_bytes();
            }
            _ => {}
        }
        say(&mut client, status, &answer)
    }

    /// Complete, sound and wrong, again and again: a manager that was cut off. The answer, while that lasts.
    fn stuck(&self, lie: Option<Lie>, path: &str) -> Option<Vec<u8>> {
        let mut stuck = self.shared.stuck.lock().unwrap();
        if lie == Some(Lie::Stuck)
            && let Some(answer) = self.past(path)
        {
            *stuck = Some((Instant::now() + Duration::from_millis(3_000 + self.below(12_000)), answer));
        }
        let lying = self.shared.lying.load(Ordering::SeqCst);
        stuck.as_ref().filter(|(until, _)| lying && Instant::now() < *until).map(|(_, answer)| answer.clone())
    }

    fn past(&self, path: &str) -> Option<Vec<u8>> {
        let past = self.shared.past.lock().unwrap();
        let known = past.get(path)?;
        known.get(usize::try_from(self.below(known.len() as u64)).unwrap()).cloned()
    }

    /// Events: all of them, none, or half of them, until somebody leaves.
    fn stream(&self, lie: Option<Lie>, mut client: UnixStream, request: &Request) -> std::io::Result<()> {
        let mut upstream = self.connect(request, "1.0")?;
        upstream.set_read_timeout(None)?;
        let (status, rest) = answer_head(&mut upstream)?;
        write!(client, "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")?;
        let mut line = rest;
        let mut piece = [0; 4096];
        loop {
            while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                let event: Vec<u8> = line.drain(..=end).collect();
                let lying = self.shared.lying.load(Ordering::SeqCst);
                let keep = match lie {
                    Some(Lie::Double) => true,
                    Some(Lie::Mute) => !lying,
                    Some(_) => !lying || self.below(2) == 0,
                    None => true,
                };
                if keep {
                    client.write_all(&event)?;
                }
                // Now and then an event comes twice: a reader must not mind.
                if keep && (lie == Some(Lie::Double) || lying && self.below(10) == 0) {
                    client.write_all(&event)?;
                }
            }
            let count = upstream.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            line.extend_from_slice(&piece[..count]);
        }
    }
}

fn request_line(request: &Request) -> Request {
    Request { method: request.method.clone(), path: request.path.clone(), head: Vec::new(), body: Vec::new() }
}

fn say(client: &mut UnixStream, status: u16, body: &[u8]) -> std::io::Result<()> {
    write!(
        client,
        "HTTP/1.1 {status} X\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )?;
    client.write_all(body)
}

/// Reads up to the end of a head; the head, and what came with it of the body.
fn head(stream: &mut UnixStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Ok(Some((String::from_utf8_lossy(&read).trim_end().to_owned(), rest)));
        }
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(None);
        }
        read.extend_from_slice(&piece[..count]);
    }
}

fn answer_head(stream: &mut UnixStream) -> std::io::Result<(u16, Vec<u8>)> {
    let broken = || std::io::Error::other("the answer is no HTTP");
    let (head, rest) = head(stream)?.ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok((status, rest))
}

fn read_request(client: &mut UnixStream) -> std::io::Result<Option<Request>> {
    let Some((head, mut body)) = head(client)? else { return Ok(None) };
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    let length =
        lines.clone().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let chunked = lines.clone().any(|line| line.to_ascii_lowercase().starts_with("transfer-encoding: chunked"));
    let of_connection = ["connection:", "content-length:", "transfer-encoding:", "expect:", "upgrade:"];
    let head = lines
        .filter(|line| !of_connection.iter().any(|name| line.to_ascii_lowercase().starts_with(name)))
        .map(str::to_owned)
        .collect();
    let mut piece = [0; 4096];
    let mut more = |body: &mut Vec<u8>| -> std::io::Result<()> {
        let count = client.read(&mut piece)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        body.extend_from_slice(&piece[..count]);
        Ok(())
    };
    if chunked {
        while !body.ends_with(b"0\r\n\r\n") {
            more(&mut body)?;
        }
        body = unchunk(&body);
    }
    while !chunked && body.len() < length.unwrap_or(0) {
        more(&mut body)?;
    }
    Ok(Some(Request { method, path, head, body }))
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&raw[..end]).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 4 + size..];
    }
    body
}
