//! What the operator says of itself: status, events, metrics.
//!
//! # Flow
//!
//! ```text
//! reconcile ── pass(&Pass) ──► track: since when?  ─► metrics: gauges, convergence
//!           │                  ─► history: what became of the revision in force
//!           └─ step(StepReport) ─► events: ring + broadcast, steps_total
//!
//! http, cli ◄── status() (built when somebody asks, then kept until the next pass or step), events(), metrics()
//! ```
//!
//! Nothing here decides anything, and nothing that leaves here ever holds the value of an environment variable.
//!
//! # Guarantees
//!
//! - A pass costs what its plan looked at, or a walk over all resources while nothing can be observed; the [`Status`]
//!   itself is only built for a reader.
//! - Memory is bounded by the resources that exist and by [`events::GLOBAL_EVENTS`]; what vanished is forgotten.
//! - A slow reader of events never holds anybody up; it skips, and is told how many it missed.

pub mod archive;
pub mod concerns;
pub(crate) mod database;
mod event_log;
pub mod events;
pub mod history;
pub mod metrics;
mod refusals;
pub mod source;
mod state;
pub mod status;
mod track;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tracing::warn;

use self::archive::{Archive, Restored};
pub use self::events::{
    CommandEvent, ConditionEvent, Entry, Event, EventOutcome, EventQuery, EventType, RefusedCommand, StepReport,
};
pub use self::metrics::{NotifyResult, WebhookResult};
pub use self::source::{SourceEvent, SourceStatus, SourceView};
pub use self::status::{LeaseSummary, ResourceStatus, Status};

use self::events::RESOURCE_EVENTS;
use self::history::{HistoryQuery, Opened, Recorder, RevisionEntry, RevisionHistory, Sighting};
use self::metrics::Metrics;
use self::state::{Last, Noted, State};
use self::status::{History, View};
use crate::clock::{Clock as _, SystemClock};
use crate::model::plan_json::{SecretValues, plan_json};
use crate::model::{
    CommandVerb, Desired, Examined, FailureKind, HiddenValues, InstanceName, LeaseStatus, Observed, Plan, Request,
    ResourceId, SourceTrouble, Standing,
};

/// How many events a reader may lag behind before it skips some. An event is a pointer here.
const BROADCAST_EVENTS: usize = 256;

/// What one pass saw and decided.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Wall time of the pass.
    pub wall: SystemTime,
    /// How long the pass took.
    pub took: Duration,
    /// What is wanted; kept until the next pass.
    pub desired: &'a Arc<Desired>,
    /// What is; its `at` is the monotonic time of the pass.
    pub observed: &'a Observed,
    /// What was decided; none when nothing could be observed.
    pub plan: Option<&'a Arc<Plan>>,
    /// Resources that wait before they are tried again.
    pub retries: &'a BTreeMap<ResourceId, Retry>,
    /// Where manifests come from.
    pub source: SourceView<'a>,
    /// Why the source could not be read at all; the last good state is in force.
    pub source_error: Option<&'a SourceTrouble>,
    /// Why the platform could not be observed.
    pub platform_error: Option<&'a str>,
    /// Why the registry could not be observed.
    pub registry_error: Option<&'a str>,
    /// Why what is to outlive the operator could not be noted the last time.
    pub notes_error: Option<&'a str>,
    /// How many notes are still to be written.
    pub notes_unsaved: usize,
}

/// When a resource whose steps failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many attempts have failed in a row, races included.
    pub failures: u32,
    /// The same without races, which the next look ends.
    pub attempts: u32,
    /// What the last failure was.
    pub last: Option<FailureKind>,
    /// When the next one may begin, on the operator's monotonic clock.
    pub at: Duration,
}

/// The operator's account of itself. Clones share it.
#[derive(Debug, Clone)]
pub struct Report {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Held while a status is built, so that many readers cost one building.
    building: Mutex<()>,
    metrics: Metrics,
    events: broadcast::Sender<Entry>,
    /// Where events outlive the operator, if anywhere.
    archive: Option<Archive>,
    /// Where it is kept what became of revisions, if anywhere.
    history: OnceLock<RevisionHistory>,
    /// What nothing that leaves here may show.
    hidden: OnceLock<HiddenValues>,
}

/// How many revisions of a resource are shown with it.
pub const RESOURCE_REVISIONS: usize = 5;

impl Report {
    /// Whose account it is.
    pub fn instance(&self) -> InstanceName {
        self.state().instance.clone()
    }

    /// An account that knows nothing yet, of the operator that owns objects marked with `instance`.
    pub fn new(instance: InstanceName) -> Self {
        Report::with(State::new(instance, Restored::default()), None)
    }

    /// The same for an operator whose events outlive it, with those of earlier runs.
    pub fn archived(instance: InstanceName, archive: Archive, restored: Restored) -> Self {
        let report = Report::with(State::new(instance, restored), Some(archive));
        if let Some(archive) = &report.inner.archive {
            archive.on_change(report.out_of_date());
        }
        report
    }

    /// Has it kept what becomes of revisions, on from what an earlier run began. Counts once, before anything is told.
    pub fn keep_history(&self, opened: Opened) {
        let Opened { history, newest } = opened;
        history.on_change(self.out_of_date());
        self.state().recorder = Recorder::restored(newest);
        // A second one would come from a second daemon in the process.
        let _ = self.inner.history.set(history);
    }

    /// What to call when the warnings change: the next status has the new ones.
    fn out_of_date(&self) -> impl Fn() + Send + 'static {
        let inner = Arc::downgrade(&self.inner);
        move || {
            if let Some(inner) = inner.upgrade() {
                Report { inner }.state().changed();
            }
        }
    }

    fn with(state: State, archive: Option<Archive>) -> Self {
        Report {
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                building: Mutex::default(),
                metrics: Metrics::new(),
                events: broadcast::Sender::new(BROADCAST_EVENTS),
                archive,
                history: OnceLock::new(),
                hidden: OnceLock::new(),
            }),
        }
    }

    /// Writes the events and the history that wait to be written, and lets go of their files. Blocks.
    pub fn close(&self) {
        if let Some(archive) = &self.inner.archive {
            archive.close();
        }
        if let Some(history) = self.inner.history.get() {
            history.close();
        }
    }

    /// Waits until all events and revisions so far are written, or could not be. Blocks.
    pub fn flush(&self) {
        if let Some(archive) = &self.inner.archive {
            archive.flush();
        }
        if let Some(history) = self.inner.history.get() {
            history.flush();
        }
    }

    /// Values that whoever prints something from here must not show. Counts once, before anything is told.
    pub fn hide(&self, hidden: HiddenValues) {
        // A second one would come from a second daemon in the process.
        let _ = self.inner.hidden.set(hidden);
    }

    /// Whether there is anything that may not be shown.
    pub fn hides(&self) -> bool {
        self.inner.hidden.get().is_some_and(|hidden| !hidden.is_empty())
    }

    /// The text without what may not be shown.
    pub fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.inner.hidden.get().map_or(Cow::Borrowed(text), |hidden| hidden.mask(text))
    }

    /// A value as it may be kept, where the next run does not know what it must not show.
    fn cleaned<T: Serialize + DeserializeOwned>(&self, value: T) -> T {
        let text = serde_json::to_string(&value).unwrap_or_default();
        match self.masked(&text) {
            Cow::Borrowed(_) => value,
            Cow::Owned(text) => serde_json::from_str(&text).unwrap_or(value),
        }
    }

    /// Takes down what a pass means for the revision in force.
    fn record(&self, pass: &Pass<'_>, state: &mut State) {
        let Some(history) = self.inner.history.get() else { return };
        let State { recorder, tracker, last, lease, .. } = state;
        let before = last.as_ref().map(|last| Arc::clone(&last.desired));
        let read = |complete: Option<bool>| complete == Some(true);
        let platform = pass.observed.platform.as_ref().map(|seen| seen.complete);
        let registry = pass.observed.registry.as_ref().map(|seen| seen.complete);
        let seen = Sighting {
            wall: pass.wall.duration_since(UNIX_EPOCH).unwrap_or_default(),
            at: pass.observed.at,
            before: before.as_deref(),
            desired: pass.desired,
            place: pass.source.place,
            plan: pass.plan.map(|plan| &**plan),
            complete: read(platform) && read(registry),
            acts: lease.as_ref().is_none_or(|lease| lease.standing.leads()),
        };
        let news =
            recorder.pass(&seen, |id, planned| status::verdict_of(planned, id, pass.retries.get(id), tracker.get(id)));
        history.write(if self.hides() { self.cleaned(news) } else { news });
    }

    /// Hands an event to whoever follows, and to the archive.
    fn publish(&self, entry: Entry) {
        let entry = if self.hides() { self.cleaned(entry) } else { entry };
        if let Some(archive) = &self.inner.archive {
            archive.write(&entry);
        }
        // No receiver is no error: nobody is listening.
        let _ = self.inner.events.send(entry);
    }

    /// Takes in what a pass saw and decided. Plans are to be told in the order in which they were made, each of them: one
    /// that looked at a part of the resources speaks of this part alone.
    pub fn pass(&self, pass: &Pass<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        let earlier = state.last.as_ref().and_then(|last| last.plan.clone());
        let plan = pass.plan.cloned().or(earlier);
        let blind = pass.plan.is_none();
        let result = state.parts.pass(pass);
        let knew_all = state.last.as_ref().is_some_and(|last| !last.blind);
        let only = match pass.plan.map(|plan| &plan.examined) {
            Some(Examined::Only(only)) if knew_all => Some(only),
            Some(Examined::Everything | Examined::Only(_)) | None => None,
        };
        let rows = status::rows(pass.desired, plan.as_deref(), blind, only);
        let mut changes = Arc::make_mut(&mut state.tracker).pass(&rows, only, blind, pass.wall, pass.observed.at);
        state.events.forget(&changes.vanished);
        for news in state.parts.news.drain(..) {
            let event = state.events.push_source(news, pass.wall, |resource| state.tracker.knows(resource));
            self.publish(Entry::Source(event));
        }
        for news in changes.conditions.drain(..) {
            let event = state.events.push_condition(news, pass.wall, |resource| state.tracker.knows(resource));
            self.publish(Entry::Condition(event));
        }
        self.inner.metrics.pass(pass, result, &state.parts, &rows, state.tracker.totals(), &changes, plan.as_deref());
        self.record(pass, state);
        state.last = Some(Arc::new(Last {
            wall: pass.wall,
            desired: Arc::clone(pass.desired),
            observed: pass.observed.clone(),
            plan,
            blind,
            retries: pass.retries.clone(),
            place: pass.source.place.clone(),
            read_ago: pass.source.read_ago,
            notes: Noted { unsaved: pass.notes_unsaved, error: pass.notes_error.map(str::to_owned) },
        }));
        state.changed();
    }

    /// Takes in how this operator stands to the lease.
    pub fn lease(&self, lease: &LeaseStatus) {
        let mut state = self.state();
        self.inner.metrics.lease(state.lease.as_ref(), lease);
        state.lease = Some(lease.clone());
        state.changed();
    }

    /// How this operator stands to the lease.
    pub fn lease_status(&self) -> LeaseStatus {
        self.state().lease.clone().unwrap_or_else(LeaseStatus::alone)
    }

    /// Takes note that the last pass answers this many requests of people for a look: it began after them, with
    /// manifests that were read after them.
    pub fn answered(&self, requests: u64) {
        let mut state = self.state();
        if state.answered != requests {
            state.answered = requests;
            state.changed();
        }
    }

    /// Takes in what became of a step, and gives it its number.
    pub fn step(&self, step: StepReport) -> Arc<Event> {
        let mut state = self.state();
        let State { events, tracker, .. } = &mut *state;
        self.inner.metrics.step(&step);
        Arc::make_mut(tracker).step(&step);
        let event = events.push(step, |resource| tracker.knows(resource));
        state.changed();
        self.publish(Entry::Change(Arc::clone(&event)));
        event
    }

    /// Takes note of a command at this wall time.
    pub fn command(&self, request: &Request, wall: SystemTime) {
        let mut state = self.state();
        let State { events, tracker, .. } = &mut *state;
        let event = events.push_command(&request.command, &request.actor, wall, |resource| tracker.knows(resource));
        state.changed();
        self.publish(Entry::Command(event));
    }

    /// Takes note of a person's word that ended by itself at this wall time.
    pub fn ended(&self, command: CommandVerb, resource: Option<ResourceId>, message: String, wall: SystemTime) {
        let mut state = self.state();
        let State { events, tracker, .. } = &mut *state;
        let event = events.push_ended(command, resource, message, wall, |resource| tracker.knows(resource));
        state.changed();
        self.publish(Entry::Command(event));
    }

    /// Takes note of a command that was refused just now; `now` is monotonic time. Whoever knocks again and again pushes
    /// nothing out: so many are events of their own, and the others are counted.
    pub fn refused(&self, refused: RefusedCommand, now: Duration) {
        self.inner.metrics.refused();
        let mut state = self.state();
        let Some(more) = state.refusals.take(now) else { return };
        let (name, address) = (&refused.actor.name, refused.actor.address.as_deref());
        warn!(by = name, address, code = %refused.code, more, "command refused: {}: {}", refused.command.as_str(), refused.message);
        let event = state.events.push_refused(refused, more, SystemClock::new().wall());
        state.changed();
        self.publish(Entry::Command(event));
    }

    /// Takes note of what is wrong with the operator itself and does not keep it from its work, or that `about` is well
    /// again. It is one of the status's warnings.
    pub fn trouble(&self, about: &'static str, trouble: Option<String>) {
        let mut state = self.state();
        match trouble {
            Some(trouble) => state.troubles.insert(about, trouble),
            None => state.troubles.remove(about),
        };
        state.changed();
    }

    /// Counts a call of the webhook.
    pub fn webhook(&self, result: WebhookResult) {
        self.inner.metrics.webhook(result);
    }

    /// These are the sinks of notifications: their metrics exist, and those of no others.
    pub fn notify_sinks(&self, names: &[String]) {
        self.inner.metrics.notify_sinks(names);
    }

    /// Counts what became of a notification.
    pub fn notified(&self, sink: &str, result: NotifyResult) {
        self.inner.metrics.notified(sink, result);
    }

    /// How many notifications wait for a sink, and when the oldest was decided, since 1970-01-01 UTC.
    pub fn notify_queue(&self, sink: &str, count: usize, oldest: Option<Duration>) {
        self.inner.metrics.notify_queue(sink, count, oldest);
    }

    /// Whether the newest state of the notification file is in force.
    pub fn notify_settings(&self, valid: bool) {
        self.inner.metrics.notify_settings(valid);
    }

    /// Everything that is known, as of the last pass. Resources come without their events, see
    /// [`Report::resource`].
    pub fn status(&self) -> Arc<Status> {
        let _building = self.inner.building.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        if let Some(status) = &state.status {
            return Arc::clone(status);
        }
        let (generation, instance, last) = (state.generation, state.instance.clone(), state.last.clone());
        let answered = state.answered;
        let lease = state.lease.as_ref().map(LeaseSummary::of);
        let (parts, tracker) = (state.parts.clone(), Arc::clone(&state.tracker));
        let troubles: Vec<String> = state.troubles.values().cloned().collect();
        // Building takes a while with thousands of resources, and no pass shall wait for it.
        drop(state);
        let mut warnings = self.inner.archive.as_ref().map(Archive::warnings).unwrap_or_default();
        warnings.extend(self.inner.history.get().into_iter().flat_map(RevisionHistory::warnings));
        let mut status = match last {
            None => Status::unknown(),
            Some(last) => status::build(&View {
                instance: &instance,
                wall: last.wall,
                desired: &last.desired,
                observed: &last.observed,
                source: SourceView { place: &last.place, read_ago: last.read_ago },
                plan: last.plan.as_deref(),
                blind: last.blind,
                history: Some(History {
                    parts: &parts,
                    tracker: &tracker,
                    answered,
                    retries: &last.retries,
                    notes: &last.notes,
                }),
            }),
        };
        status.warnings.extend(warnings.into_iter().chain(troubles));
        drop(tracker);
        if let Some(lease) = &lease
            && lease.standing != Standing::Standby.as_str()
        {
            status.warnings.extend(lease.notice());
        }
        status.lease = lease;
        let status = Arc::new(status);
        let mut state = self.state();
        if state.generation == generation {
            state.status = Some(Arc::clone(&status));
        }
        status
    }

    /// One resource, with its last events and revisions. Blocks while they are read.
    pub fn resource(&self, id: &ResourceId) -> Option<ResourceStatus> {
        let mut resource = self.status().get(id)?.clone();
        let state = self.state();
        let (recent, newest) = (state.events.of(id), state.events.sequence());
        drop(state);
        resource.events = Some(match &self.inner.archive {
            Some(archive) if recent.len() < RESOURCE_EVENTS => {
                let query = EventQuery { resource: Some(id.clone()), limit: RESOURCE_EVENTS, ..EventQuery::default() };
                archive.read(&query, recent, newest)
            }
            Some(_) | None => recent,
        });
        let query = HistoryQuery { resource: Some(id.clone()), limit: RESOURCE_REVISIONS, ..HistoryQuery::default() };
        resource.revisions = Some(self.revisions(&query));
        Some(resource)
    }

    /// What became of revisions, newest first; nothing where no history is kept. Blocks while it is read.
    pub fn revisions(&self, query: &HistoryQuery) -> Vec<RevisionEntry> {
        self.inner.history.get().map(|history| history.read(query)).unwrap_or_default()
    }

    /// What the last pass decided, as `ofop plan -o json` shows it without secrets; none before the first plan.
    pub fn plan(&self) -> Option<serde_json::Value> {
        let state = self.state();
        let plan = state.last.as_ref().and_then(|last| last.plan.clone());
        drop(state);
        // It cannot fail.
        plan.map(|plan| serde_json::to_value(plan_json(&plan, SecretValues::Hidden)).unwrap_or_default())
    }

    /// The events after number `sequence` that are still kept, oldest first, and those to come. Nothing is
    /// lost or doubled between the two. A number that was never given, since it stems from an earlier life of
    /// the operator, counts as 0.
    pub fn events(&self, sequence: u64) -> (Vec<Entry>, broadcast::Receiver<Entry>) {
        let state = self.state();
        (state.events.after(sequence), self.inner.events.subscribe())
    }

    /// The last events that a query asks for, oldest first, those of earlier runs included, and all that come.
    /// Nothing is lost or doubled between the two. Blocks while the archive is read.
    pub fn history(&self, query: &EventQuery) -> (Vec<Entry>, broadcast::Receiver<Entry>) {
        let state = self.state();
        // A number that was never given counts as 0.
        let after = if query.after > state.events.sequence() { 0 } else { query.after };
        let newest = state.events.sequence();
        let (mut recent, coming) = (state.events.after(after), self.inner.events.subscribe());
        drop(state);
        recent.retain(|entry| query.wants(entry));
        recent.drain(..recent.len().saturating_sub(query.limit));
        let past = match &self.inner.archive {
            Some(archive) => archive.read(&EventQuery { after, ..query.clone() }, recent, newest),
            None => recent,
        };
        (past, coming)
    }

    /// The metrics in Prometheus's text format.
    pub fn metrics(&self) -> String {
        // The lock keeps a pass from moving gauges half-way through the gathering.
        let state = self.state();
        let families = self.inner.metrics.gather();
        drop(state);
        metrics::encode(&families)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves at worst one pass half taken in; the next one mends it.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
