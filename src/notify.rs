//! Tells people and programs what needs them: chats, mail, webhooks, Kafka, and the states of commits.
//!
//! # Flow
//!
//! ```text
//! Report ── concerns, events ──► decide (pure) ── messages + memory, one transaction ──► notify.db
//!                                                                                          │
//!                             sinks ◄── one task each: format (pure), send, judge (pure) ◄──┘
//! ```
//!
//! # Guarantees
//!
//! - Nothing that reconciles waits for any of this: the report is looked at from a task of its own, and each sink has another.
//! - What is decided outlives the operator, and is delivered at least once, unless it waits for longer than [`outbox::KEEP`] or
//!   behind [`outbox::MOST`] others.
//! - An operator that does not hold the lease decides as well, and keeps what comes of it to itself, so that it can go on
//!   from there: what an operator delivers it decided while it led, or within [`outbox::TAKE_OVER`] before. What is about itself
//!   alone, such as that it cannot read its engine, it tells in any case: nobody else knows.
//! - No address, token or password of a sink is part of any output.
//! - A file that becomes invalid leaves what it last validly said in force.

mod courier;
pub mod decide;
mod email;
pub mod file;
pub mod format;
pub mod message;
pub mod outbox;
pub mod outcome;
pub mod read;
pub mod rules;
pub mod send;
pub mod settings;
mod shapes;
mod template;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::courier::{Complaint, Courier, with};
use self::decide::{Decision, Memory, News, Seen, decide};
use self::file::{NotifyFile, Read};
use self::message::{Item, Payload};
use self::outbox::{NewLetter, Outbox};
use self::send::{Connections, senders};
use self::settings::Settings;
use crate::clock::Clock;
use crate::model::{InstanceName, Problem, Standing};
use crate::report::concerns::{ConcernSeverity, Concerns};
use crate::report::source::SourceChange;
use crate::report::{Entry, NotifyResult, Report};

/// How often it is looked whether there is something to decide. A comparison of two numbers while there is not.
const TICK: Duration = Duration::from_secs(1);

/// How often it is looked whether the file changed, in ticks.
const RELOAD: u32 = 5;

/// What notifications are made with.
pub struct Parts {
    /// What is told.
    pub report: Report,
    /// Who is told what.
    pub file: NotifyFile,
    /// What it says now.
    pub read: Read,
    /// Where what waits is kept.
    pub state_dir: PathBuf,
    /// The operator instance.
    pub instance: InstanceName,
    /// What connections are made with.
    pub connections: Connections,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Notifies until told to stop.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let directory = parts.state_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let outbox = Outbox::open(&directory)?;
        let memory = outbox.memory();
        Ok::<_, String>((outbox, memory))
    });
    let (outbox, memory) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(problem)) => return warn!("{problem}"),
        // It never panics.
        Err(_) => return,
    };
    let Parts { report, file, read, instance, connections, clock, .. } = parts;
    let mut notifier = Notifier {
        generation: None,
        wake: None,
        leads: None,
        trouble: None,
        problem: None,
        outbox: Arc::new(Mutex::new(outbox)),
        couriers: Couriers::default(),
        settings: Settings::default(),
        digest: [0; 32],
        report,
        file,
        memory,
        instance,
        connections,
        clock,
    };
    notifier.put_in_force(read).await;
    let mut ticks: u32 = 0;
    while !stop.is_cancelled() {
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(RELOAD) {
            notifier.reload().await;
        }
        notifier.look().await;
        notifier.tell_of_itself().await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
    notifier.couriers.end().await;
}

/// The tasks that deliver.
#[derive(Default)]
struct Couriers {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    wakes: BTreeMap<String, Arc<Notify>>,
    complaints: BTreeMap<String, watch::Receiver<Complaint>>,
}

impl Couriers {
    /// Ends them once what is under way is done, which takes a bounded time.
    async fn end(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    fn complaints(&self) -> Vec<String> {
        self.complaints.values().filter_map(|complaint| complaint.borrow().clone()).collect()
    }
}

struct Notifier {
    report: Report,
    file: NotifyFile,
    settings: Settings,
    digest: [u8; 32],
    memory: Memory,
    outbox: Arc<Mutex<Outbox>>,
    couriers: Couriers,
    instance: InstanceName,
    connections: Connections,
    clock: Arc<dyn Clock>,
    /// Of the report, when it was last looked at.
    generation: Option<u64>,
    /// When to decide again although nothing happens.
    wake: Option<u64>,
    /// Whether this operator held the lease the last time; none before the first.
    leads: Option<bool>,
    /// What is wrong with notifications, as it was last told.
    trouble: Option<String>,
    /// What is wrong with the newest state of the file.
    problem: Option<String>,
}

impl Notifier {
    /// Starts with these settings, or goes on with them.
    async fn put_in_force(&mut self, read: Read) {
        let Read { settings, warnings, digest } = read;
        for warning in &warnings {
            warn!("{warning}");
        }
        self.couriers.end().await;
        self.connections.hidden.add(settings.secrets());
        let names: Vec<String> = settings.sinks.keys().cloned().collect();
        self.report.notify_sinks(&names);
        with(&self.outbox, move |outbox| outbox.retain(&names)).await;
        let (connections, wanted) = (self.connections.clone(), settings.clone());
        // Setting up TLS reads files.
        let made = tokio::task::spawn_blocking(move || senders(&wanted, &connections)).await;
        let mut couriers = Couriers::default();
        for (name, sender) in made.unwrap_or_default() {
            let wake = Arc::new(Notify::new());
            let (complaint, complaints) = watch::channel(None);
            couriers.wakes.insert(name.clone(), Arc::clone(&wake));
            couriers.complaints.insert(name.clone(), complaints);
            let courier = Courier {
                kind: settings.sinks.get(&name).map_or("", settings::Sink::kind),
                name,
                sender,
                outbox: Arc::clone(&self.outbox),
                report: self.report.clone(),
                wake,
                complaint,
                stop: couriers.stop.clone(),
            };
            couriers.tasks.spawn(courier.run());
        }
        info!(sinks = settings.sinks.len(), rules = settings.rules.len(), "notifications are sent");
        (self.couriers, self.settings, self.digest, self.problem) = (couriers, settings, digest, None);
        self.generation = None;
        self.report.notify_settings(true);
    }

    /// Takes in what the file says now, if that is something else.
    async fn reload(&mut self) {
        let file = self.file.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || file.read()).await else { return };
        match read {
            Ok(read) if read.digest == self.digest => {
                if self.problem.take().is_some() {
                    self.report.notify_settings(true);
                }
            }
            Ok(read) => self.put_in_force(read).await,
            Err(problems) => {
                let problem = problems.first().map(Problem::to_string).unwrap_or_default();
                if self.problem.as_ref() != Some(&problem) {
                    warn!("the notification file as it was read last stays in force: {problem}");
                }
                self.problem = Some(problem);
                self.report.notify_settings(false);
            }
        }
    }

    /// Decides what is to be told, if anything may have changed.
    async fn look(&mut self) {
        let now = u64::try_from(self.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
        let now = now.unwrap_or(u64::MAX);
        let standing = self.report.lease_status().standing;
        if standing == Standing::Unknown {
            // Whether another one sends is known in a moment, and what needs a person stays.
            return;
        }
        let leads = standing.leads();
        if leads && self.leads != Some(true) {
            with(&self.outbox, move |outbox| outbox.take_over(now)).await;
            self.wake_couriers();
        }
        self.leads = Some(leads);
        let generation = self.report.generation();
        let is_due = self.wake.is_some_and(|wake| wake <= now);
        if self.generation == Some(generation) && !is_due {
            return;
        }
        self.generation = Some(generation);
        let (events, _) = self.report.events(self.memory.cursor.unwrap_or(0));
        // Nobody is told of what happened before there was anybody to tell.
        let cursor = events.last().map_or(self.memory.cursor.unwrap_or(0), Entry::sequence);
        let news: Vec<News> = match self.memory.cursor {
            Some(_) => events.iter().filter_map(news).collect(),
            None => Vec::new(),
        };
        let concerns = self.report.concerns();
        self.decide(concerns.as_ref(), &news, cursor, now, !leads).await;
    }

    async fn decide(&mut self, concerns: Option<&Concerns>, news: &[News], cursor: u64, now: u64, held: bool) {
        let before = self.memory.clone();
        let (instance, link) = (self.instance.to_string(), self.settings.link.clone());
        let seen = Seen { concerns, news, cursor, now, instance: &instance, link: link.as_deref() };
        let Decision { messages, commits, wake } = decide(&self.settings.rules, &mut self.memory, &seen);
        self.wake = wake;
        let mut letters = Vec::new();
        for (sinks, message) in messages {
            let held = held && !message.items.iter().any(is_own);
            let payload = Payload::Message(Box::new(message));
            letters.extend(sinks.into_iter().map(|sink| NewLetter { sink, payload: payload.clone(), held }));
        }
        for status in commits {
            let letter =
                |host: &String| NewLetter { sink: host.clone(), payload: Payload::Commit(status.clone()), held };
            letters.extend(self.settings.hosts().map(letter));
        }
        if letters.is_empty() && before == self.memory {
            return;
        }
        let memory = self.memory.clone();
        with(&self.outbox, move |outbox| outbox.keep(&memory, &letters, now)).await;
        self.wake_couriers();
    }

    fn wake_couriers(&self) {
        self.couriers.wakes.values().for_each(|wake| wake.notify_one());
    }

    /// Says in metrics and in the status how notifications go.
    async fn tell_of_itself(&mut self) {
        let names: Vec<String> = self.settings.sinks.keys().cloned().collect();
        let looked = with(&self.outbox, move |outbox| {
            let waiting: Vec<_> = names.into_iter().map(|name| (outbox.waiting(&name), name)).collect();
            (waiting, outbox.take_dropped(), outbox.trouble().map(str::to_owned))
        });
        let Some((waiting, dropped, trouble)) = looked.await else { return };
        for (waiting, name) in &waiting {
            self.report.notify_queue(name, waiting.count, waiting.oldest.map(Duration::from_millis));
        }
        for sink in &dropped {
            self.report.notified(sink, NotifyResult::Dropped);
        }
        if !dropped.is_empty() {
            warn!(
                dropped = dropped.len(),
                "notifications were dropped: they waited for too long, or too many others came"
            );
        }
        let invalid = self
            .problem
            .as_ref()
            .map(|problem| format!("the notification file as it was read last stays in force: {problem}"));
        let troubles: Vec<String> = invalid.into_iter().chain(trouble).chain(self.couriers.complaints()).collect();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        if trouble != self.trouble {
            self.report.trouble("notifications", trouble.clone());
            self.trouble = trouble;
        }
    }
}

/// Whether it is about this operator and no other: its own engine, itself. Then it tells it, whoever holds the lease.
fn is_own(item: &Item) -> bool {
    item.subject == "engine" || item.subject.starts_with("operator ")
}

/// What of the events people want to hear of that is no concern.
fn news(entry: &Entry) -> Option<News> {
    let news = |kind: &str, severity, resource: Option<String>, message: String| News {
        kind: kind.to_owned(),
        severity,
        resource,
        message,
        time: entry.time().to_owned(),
    };
    match entry {
        Entry::Source(event) if event.change == SourceChange::Commit => {
            let commit = event.commit.as_ref()?;
            let message = format!("commit {} by {}: {}", commit.short, commit.author, commit.subject);
            Some(news("commit", ConcernSeverity::Info, None, message))
        }
        Entry::Command(event) => {
            let severity = if event.refused.is_some() { ConcernSeverity::Warning } else { ConcernSeverity::Info };
            let resource = event.resource.as_ref().map(ToString::to_string);
            Some(news("command", severity, resource, format!("{}: {}", event.actor.name, event.message)))
        }
        // A change or a condition is part of what a concern tells.
        Entry::Source(_) | Entry::Change(_) | Entry::Condition(_) => None,
    }
}
