//! What programs print, as the engine keeps it.
//!
//! The engine frames every piece of output (8 bytes: 1 for standard output, 2 for standard error, 3 for words of its own,
//! then the length), and splits lines of more than 16 KiB. `bollard` takes any length for granted and knows no third kind;
//! so frames are read here.
//!
//! # Invariants
//!
//! - Nothing but reads; only of services and containers that carry the mark of this instance, or that are named by id.
//! - A frame is at most 1 MiB and a line at most 64 KiB, whatever the engine sends: what is longer is cut, and shows it.

mod frames;

use std::collections::BTreeMap;

use hyper::body::Incoming;
use serde_json::{Value, json};

use super::PlatformError;
use super::engine::{Act, CallError, Engine, encode};
use super::swarm::convert::{self, Quorum};
use crate::model::service::{LABEL_INSTANCE, LABEL_RESOURCE};
use crate::model::{InstanceName, PlatformKind, ResourceId};
use frames::{Joiner, Scanner};

const LOGS: Act = Act::read("read the logs");
const SERVICES: Act = Act::read("list the services");
const TASKS: Act = Act::read("list the tasks");
const NODES: Act = Act::read("list the nodes");

/// A service, a task or a container whose output can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSource {
    /// The name of its service.
    pub service: String,
    /// Its tasks by id; none where they are not known.
    pub tasks: BTreeMap<String, LogTask>,
    target: Target,
}

/// A task that prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTask {
    /// Number of the replica, from 1.
    pub slot: u64,
    /// Host name of its node, or the node's id; empty where it was not placed.
    pub host: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Service(String),
    Task(String),
    Container(String),
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is printed from now on.
    pub follow: bool,
    /// Only so many of the last lines of each task; none: all that are kept.
    pub tail: Option<u32>,
    /// Only what was printed since then, in seconds since 1970 with a fraction.
    pub since: Option<String>,
}

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogStream {
    /// The program, to standard output.
    Out,
    /// The program, to standard error.
    Err,
    /// The engine: what it cannot show, and why.
    Engine,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the engine got it, RFC 3339 with nine digits of a second, so that texts sort like times.
    pub time: String,
    /// The task that printed it, by its id; empty where the engine does not say.
    pub task: String,
    /// Who wrote it.
    pub stream: LogStream,
    /// The line without its end.
    pub text: String,
}

impl LogSource {
    /// One service.
    pub fn service(id: &str, name: &str, platform: PlatformKind) -> Self {
        let target = match platform {
            PlatformKind::Swarm => Target::Service(id.to_owned()),
            PlatformKind::Docker => Target::Container(id.to_owned()),
        };
        LogSource { service: name.to_owned(), tasks: BTreeMap::new(), target }
    }

    /// One task of a service, which on plain Docker is a container.
    pub fn task(id: &str, platform: PlatformKind) -> Self {
        let target = match platform {
            PlatformKind::Swarm => Target::Task(id.to_owned()),
            PlatformKind::Docker => Target::Container(id.to_owned()),
        };
        LogSource { service: String::new(), tasks: BTreeMap::new(), target }
    }

    /// Its tasks with this number, or with an id that begins so.
    pub fn tasks_called(&self, name: &str) -> Vec<LogSource> {
        let is_meant = |id: &str, task: &LogTask| match name.parse::<u64>() {
            Ok(slot) => task.slot == slot,
            Err(_) => !name.is_empty() && id.starts_with(name),
        };
        let meant = self.tasks.iter().filter(|(id, task)| is_meant(id, task));
        let source = |(id, task): (&String, &LogTask)| LogSource {
            service: self.service.clone(),
            tasks: [(id.clone(), task.clone())].into(),
            target: match &self.target {
                Target::Container(container) => Target::Container(container.clone()),
                Target::Service(_) | Target::Task(_) => Target::Task(id.clone()),
            },
        };
        meant.map(source).collect()
    }

    fn path(&self, options: &LogOptions) -> String {
        let (kind, id) = match &self.target {
            Target::Service(id) => ("services", id),
            Target::Task(id) => ("tasks", id),
            Target::Container(id) => ("containers", id),
        };
        let tail = options.tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string());
        let follow = u8::from(options.follow);
        let since = options.since.as_ref().map(|since| format!("&since={}", encode(since))).unwrap_or_default();
        format!(
            "/{kind}/{}/logs?stdout=1&stderr=1&timestamps=1&details=1&follow={follow}&tail={tail}{since}",
            encode(id)
        )
    }
}

/// The services of a resource that carry the mark of this instance, with their tasks.
///
/// # Errors
/// When the engine cannot be read.
pub async fn sources(
    engine: &Engine,
    platform: PlatformKind,
    instance: &InstanceName,
    resource: &ResourceId,
) -> Result<Vec<LogSource>, PlatformError> {
    let marks = json!({ "label": [format!("{LABEL_INSTANCE}={instance}"), format!("{LABEL_RESOURCE}={resource}")] });
    let filters = encode(&marks.to_string());
    let path = match platform {
        PlatformKind::Swarm => format!("/services?filters={filters}"),
        PlatformKind::Docker => format!("/containers/json?all=1&filters={filters}"),
    };
    let mut found = Vec::new();
    let listed = engine.list(SERVICES, &path, |text| found.extend(listed(text, platform))).await; // I/O
    listed.map_err(|error| error.explain(engine.address()))?;
    for source in &mut found {
        fill(engine, source).await.map_err(|error| error.explain(engine.address()))?;
    }
    found.sort_by(|one, other| one.service.cmp(&other.service));
    Ok(found)
}

fn listed(text: &[u8], platform: PlatformKind) -> Option<LogSource> {
    let value: Value = serde_json::from_slice(text).ok()?;
    match platform {
        PlatformKind::Swarm => {
            Some(LogSource::service(value["ID"].as_str()?, value["Spec"]["Name"].as_str()?, platform))
        }
        PlatformKind::Docker => {
            let name = value["Names"][0].as_str()?.trim_start_matches('/');
            Some(LogSource::service(value["Id"].as_str()?, name, platform))
        }
    }
}

/// Finds the tasks of a service. A container is its own only task.
///
/// # Errors
/// When the engine cannot be read.
async fn fill(engine: &Engine, source: &mut LogSource) -> Result<(), CallError> {
    let service = match &source.target {
        Target::Container(id) => {
            source.tasks = [(id.clone(), LogTask { slot: 1, host: String::new() })].into();
            return Ok(());
        }
        Target::Task(_) => return Ok(()),
        Target::Service(id) => id.clone(),
    };
    let filters = encode(&json!({ "service": [service] }).to_string());
    let (mut tasks, mut nodes) = (Vec::new(), Quorum::default());
    let path = format!("/tasks?filters={filters}");
    engine.list(TASKS, &path, |text| tasks.extend(convert::task(text))).await?; // I/O
    engine.list(NODES, "/nodes", |text| _ = nodes.count(text)).await?; // I/O
    let names = nodes.into_names();
    let place = |task: convert::ListedTask| {
        let host = names.get(&task.view.node).cloned().unwrap_or(task.view.node);
        (task.view.id, LogTask { slot: task.view.slot, host })
    };
    source.tasks = tasks.into_iter().map(place).collect();
    Ok(())
}

/// Finds the tasks of a service anew, since one came that was not known.
///
/// # Errors
/// When the engine cannot be read.
pub async fn refresh(engine: &Engine, source: &mut LogSource) -> Result<(), PlatformError> {
    fill(engine, source).await.map_err(|error| error.explain(engine.address()))
}

/// Begins to read.
///
/// # Errors
/// When the engine refuses: a logging driver may keep nothing that could be read.
pub async fn open(engine: &Engine, source: &LogSource, options: &LogOptions) -> Result<Logs, PlatformError> {
    let body = engine.stream(LOGS, &source.path(options)).await.map_err(|error| refused(&error, engine))?;
    Ok(Logs { engine: engine.clone(), body, scanner: Scanner::default(), joiner: Joiner::default(), ended: false })
}

fn refused(error: &CallError, engine: &Engine) -> PlatformError {
    let explained = error.explain(engine.address());
    match explained.message.contains("logging driver") {
        true => PlatformError {
            hint: Some("the logs are where the engine's logging driver sends them".into()),
            ..explained
        },
        false => explained,
    }
}

/// Output that is being read.
pub struct Logs {
    engine: Engine,
    body: Incoming,
    scanner: Scanner,
    joiner: Joiner,
    ended: bool,
}

impl Logs {
    /// The next line; none at the end. Can be dropped while it waits without losing a byte.
    ///
    /// # Errors
    /// When the connection is lost, or what the engine sends makes no sense.
    pub async fn next(&mut self) -> Result<Option<LogLine>, PlatformError> {
        use http_body_util::BodyExt as _;
        loop {
            if let Some(line) = self.joiner.take() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            while let Some(frame) = self.scanner.next().map_err(|message| self.broken(message))? {
                self.joiner.add(&frame);
            }
            if self.joiner.has_lines() {
                continue;
            }
            match self.body.frame().await {
                None => {
                    self.ended = true;
                    self.scanner.rest().iter().for_each(|frame| self.joiner.add(frame));
                    self.joiner.end();
                }
                Some(Err(error)) => {
                    return Err(CallError::lost(LOGS, &error).explain(self.engine.address()));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.scanner.feed(&data);
                    }
                }
            }
        }
    }

    fn broken(&self, message: String) -> PlatformError {
        CallError::Answer { act: LOGS, message }.explain(self.engine.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_named_by_its_number_or_the_beginning_of_its_id() {
        let task = |slot| LogTask { slot, host: "hall-1".into() };
        let tasks = [("1abc".into(), task(1)), ("x7k2".into(), task(1)), ("x9z".into(), task(2))].into();
        let source = LogSource { tasks, ..LogSource::service("s1", "press", PlatformKind::Swarm) };
        let called = |name: &str| -> Vec<String> {
            let found = source.tasks_called(name);
            found.iter().flat_map(|source| source.tasks.keys().cloned()).collect()
        };
        assert_eq!(called("1"), ["1abc", "x7k2"]);
        assert_eq!(called("2"), ["x9z"]);
        assert_eq!(called("x"), ["x7k2", "x9z"]);
        assert!(called("3").is_empty() && called("").is_empty() && called("zz").is_empty());
        let path = source.tasks_called("2")[0].path(&LogOptions::default());
        assert!(path.starts_with("/tasks/x9z/logs?") && path.ends_with("follow=0&tail=all"), "{path}");
    }

    #[test]
    fn what_is_asked_for_is_a_query() {
        let options = LogOptions { follow: true, tail: Some(10), since: Some("1767323045.000000001".into()) };
        assert_eq!(
            LogSource::service("a/b", "a", PlatformKind::Docker).path(&options),
            "/containers/a%2Fb/logs?stdout=1&stderr=1&timestamps=1&details=1&follow=1&tail=10&since=1767323045.000000001"
        );
    }
}
