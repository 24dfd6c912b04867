//! The loop: takes triggers, makes passes, hands steps to the executor, keeps the memory.

mod handover;
mod progress;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::handover::{BREATH, Tenure};
use super::executor::{Executor, Leave, Progress};
use super::lease::Leadership;
use super::look::{Look, PlatformAnswer, RegistryReader};
use super::manifests::Manifests;
use super::noting::Noting;
use super::retries::{Retries, Selection, same_meaning};
use super::trigger::{COMPANY, DEBOUNCE, Pending, Trigger, describe};
use super::waits::{Soon, is_on_its_way};
use super::{Options, Parts};
use crate::clock::{Clock, timestamp};
use crate::desired::Source;
use crate::model::{Desired, Observed, Plan, Request, ResourceId, SourcePlace};
use crate::plan::{self, Memory, Policy};
use crate::platform::Platform;
use crate::registry::Registry;
use crate::report::{Event, Pass, Report, SourceView};

/// A plan that wants to be looked at again does so no sooner than this, so that no mistake in a deadline can
/// make the loop spin.
const SHORTEST_RECHECK: Duration = Duration::from_millis(100);

/// Why some notes are not written although nothing fails.
const FULL: &str = "more is to be noted than fits into the notes (256 KiB)";

/// What a pass left for whoever watches the loop.
pub(super) struct Passed {
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) desired: Arc<Desired>,
    pub(super) source_error: Option<String>,
    pub(super) platform_error: Option<String>,
    pub(super) registry_error: Option<String>,
    /// The first read of the registry has not ended yet.
    pub(super) awaits_registry: bool,
    /// The registry does not show yet what was written to it.
    pub(super) awaits_rows: bool,
}

/// What came of waiting.
pub(super) enum Turn {
    /// A pass was made.
    Passed(Passed),
    /// A step ended.
    Stepped(Arc<Event>),
    /// Something else happened; nothing to tell.
    Quiet,
    /// Told to stop.
    Stopped,
}

/// The loop's state.
pub(super) struct Runner<S, P, R, C> {
    manifests: Manifests<S>,
    source: Arc<S>,
    place: SourcePlace,
    source_changes: BoxStream<'static, ()>,
    platform: Arc<P>,
    platform_events: BoxStream<'static, ()>,
    registry: Arc<R>,
    registry_reader: RegistryReader<R>,
    /// The look that the next pass will rest on, while it is under way.
    look: Option<Look>,
    registry_events: BoxStream<'static, ()>,
    clock: Arc<C>,
    report: Report,
    commands: Option<mpsc::Receiver<Request>>,
    stop: CancellationToken,
    executor: Executor<P, R, C>,
    progress: mpsc::UnboundedReceiver<Progress>,

    policy: Policy,
    memory: Memory,
    retries: Retries,
    noting: Noting<P, C>,
    leadership: Leadership,
    tenure: Tenure,
    seed: u64,
    platform_error: Option<String>,
    registry_error: Option<String>,
    generations: (u64, u64),
    /// Resources whose task ended after the look of the present pass began.
    ended: BTreeSet<ResourceId>,
    /// Steps that ended while the loop was being ended.
    untold: VecDeque<Arc<Event>>,

    /// How often people asked for a look, and how many of these requests a pass has answered.
    asked: u64,
    answered: u64,

    pending: Pending,
    resync: Duration,
    next_timer: Duration,
    retry_due: Option<Duration>,
    soon: Soon,
}

impl<S: Source, P: Platform, R: Registry, C: Clock> Runner<S, P, R, C> {
    pub(super) fn new(parts: Parts<S, P, R, C>, options: Options, stop: CancellationToken) -> Self {
        let Parts { loader, compiler, platform, registry, clock, report, commands, leadership } = parts;
        let (executor, progress) = Executor::new(
            Arc::clone(&platform),
            Arc::clone(&registry),
            Arc::clone(&clock),
            &leadership,
            options.concurrency,
        );
        let now = clock.now();
        let mut pending = Pending::default();
        pending.add(Trigger::Started, now);
        let mut runner = Runner {
            place: loader.source().place(),
            source: Arc::clone(loader.source()),
            source_changes: loader.changes().fuse().boxed(),
            platform_events: platform.events().fuse().boxed(),
            registry_events: registry.events().fuse().boxed(),
            registry_reader: RegistryReader::new(Arc::clone(&registry)),
            look: None,
            manifests: Manifests::new(loader, compiler),
            noting: Noting::new(Arc::clone(&platform), Arc::clone(&clock), options.seed),
            tenure: Tenure::new(leadership.term(), now),
            leadership,
            seed: options.seed,
            platform,
            registry,
            clock,
            report,
            commands,
            stop,
            executor,
            progress,
            policy: options.policy,
            memory: Memory::default(),
            retries: Retries::new(options.seed),
            platform_error: None,
            registry_error: None,
            generations: (0, 0),
            ended: BTreeSet::new(),
            untold: VecDeque::new(),
            asked: 0,
            answered: 0,
            pending,
            resync: options.resync,
            next_timer: now + options.resync,
            retry_due: None,
            soon: Soon::default(),
        };
        runner.manifests.load();
        runner
    }

    /// Waits for the next thing to happen and deals with it.
    pub(super) async fn turn(&mut self) -> Turn {
        let now = self.clock.now();
        self.awake(now);
        self.tenure_changed();
        self.ring(now);
        // The first pass waits for the first read of the source.
        let due = self.pending.due().filter(|_| self.look.is_none() && self.manifests.is_read());
        if due.is_some_and(|due| due <= now) && !self.stop.is_cancelled() {
            self.begin_look(now);
        }
        let is_ready = self.registry_reader.is_ready();
        if let Some(look) = self.look.take_if(|look| look.until().is_some_and(|until| is_ready || until <= now)) {
            return self.pass(look);
        }
        // When thousands of tasks end at once, waiting for everything else each time is most of the work.
        if !self.stop.is_cancelled()
            && self.look.is_none()
            && let Ok(progress) = self.progress.try_recv()
        {
            return self.progressed(progress);
        }
        let permit = self.permit();
        let permitted = permit.is_some();
        self.noting.begin(&mut self.memory.notebook, permit, now);
        let note = self.noting.due(&self.memory.notebook).filter(|_| permitted);
        let looked = self.look.as_ref().map(|look| look.until().unwrap_or(now + BREATH));
        let wake = [due.filter(|_| self.look.is_none()), looked, note, self.retry_due, self.soon.due]
            .into_iter()
            .flatten()
            .fold(self.next_timer, Duration::min);
        let until = tokio::time::sleep(wake.saturating_sub(now));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Turn::Stopped,
            () = self.leadership.changed() => {
                self.tenure_changed();
                Turn::Quiet
            }
            answer = Look::platform(&mut self.look) => {
                self.looked(answer);
                Turn::Quiet
            }
            Some(progress) = self.progress.recv() => self.progressed(progress),
            request = receive(&mut self.commands) => {
                self.command(request);
                Turn::Quiet
            }
            () = self.noting.ended() => {
                // Whoever looks shall see what became of it.
                self.pending.add(Trigger::Noted, self.clock.now());
                Turn::Quiet
            }
            Some(()) = self.source_changes.next() => {
                self.manifests.load();
                Turn::Quiet
            }
            changed = self.manifests.loaded() => {
                if changed {
                    self.pending.add(Trigger::SourceChanged, self.clock.now());
                    // A look that did not ask for the digests that are wanted now is of no use.
                    self.look.take_if(|look| look.follow != self.manifests.follow());
                } else if self.answered < self.asked {
                    self.pending.add(Trigger::Person, self.clock.now());
                }
                Turn::Quiet
            }
            Some(()) = self.platform_events.next() => {
                self.heard(Trigger::PlatformEvent);
                Turn::Quiet
            }
            Some(()) = self.registry_events.next() => {
                self.heard(Trigger::RegistryEvent);
                Turn::Quiet
            }
            // What the registry answered while the platform is waited for would be old when it counts.
            sound = self.registry_reader.finished(), if !self.awaits_platform() => {
                if !sound {
                    self.spare();
                }
                if self.look.is_none() {
                    self.pending.add(Trigger::RegistryEvent, self.clock.now());
                }
                Turn::Quiet
            }
            () = until => Turn::Quiet,
        }
    }

    /// Something changed on one side. While a rollout takes all places most of it is its own echo, and a pass could
    /// start nothing that is not waiting already.
    fn heard(&mut self, trigger: Trigger) {
        let patience = if self.executor.is_full() { COMPANY } else { DEBOUNCE };
        self.pending.add_within(trigger, self.clock.now(), patience);
    }

    /// Turns times that have come into triggers.
    fn ring(&mut self, now: Duration) {
        if self.next_timer <= now {
            self.next_timer = now + self.resync;
            self.look_afresh(Trigger::Timer, now);
            self.manifests.load();
        }
        if self.retry_due.is_some_and(|due| due <= now) {
            self.retry_due = None;
            self.look_afresh(Trigger::Retry, now);
        }
        if self.soon.due.is_some_and(|due| due <= now) {
            self.soon.due = None;
            self.look_afresh(Trigger::Retry, now);
        }
    }

    /// Asks for a pass that rests on full reads.
    fn look_afresh(&mut self, trigger: Trigger, now: Duration) {
        self.platform.refresh();
        self.registry.refresh();
        self.pending.add(trigger, now);
    }

    fn awaits_platform(&self) -> bool {
        self.look.as_ref().is_some_and(|look| look.until().is_none())
    }

    /// Begins to look at both sides for the next pass.
    fn begin_look(&mut self, now: Duration) {
        let reasons = self.pending.take();
        // What was asked for before everything is looked at is answered, once the manifests were read since.
        let answers = if self.manifests.is_idle() { self.asked } else { self.answered };
        self.ended.clear();
        self.look = Some(Look::begin(now, reasons, answers, Arc::clone(&self.platform), self.manifests.follow()));
        // What a cache answers is there at once.
        if let Some(answer) = Look::platform(&mut self.look).now_or_never() {
            self.looked(answer);
        }
    }

    /// The platform has answered a look: the registry is next.
    fn looked(&mut self, answer: PlatformAnswer) {
        // At once, and not only when the plan is made: until then tasks go on.
        if !answer.as_ref().is_ok_and(|snapshot| snapshot.complete) {
            self.spare();
        } else if !self.manifests.desired().complete {
            // What a person took down goes whatever a manifest may still say.
            let running = self.executor.running().iter();
            running.filter(|(resource, _)| !self.memory.taken_down.contains_key(*resource)).for_each(|(_, running)| {
                running.restrict(Leave::NothingDestructive);
            });
        }
        let now = self.clock.now();
        if let Some(look) = &mut self.look {
            look.take(answer, now);
        }
        self.registry_reader.begin(now);
    }

    /// One pass over what a look saw: plan, hand over.
    fn pass(&mut self, look: Look) -> Turn {
        let planned_at = self.clock.now();
        let Look { begun, answers, .. } = look;
        let reasons = describe(&look.reasons);
        let registry = self.registry_reader.look(planned_at);
        if !registry.is_complete() {
            self.spare();
        }
        let Some(platform) = look.answer() else { return Turn::Quiet };
        if !registry.stands_in {
            self.answered = answers;
        }
        let observed = Observed {
            at: planned_at,
            wall: timestamp(self.clock.wall()),
            platform: platform.as_ref().ok().cloned(),
            registry: registry.answer.as_ref().and_then(|answer| answer.as_ref().ok()).cloned(),
            registry_stands_in: registry.stands_in,
        };
        change_of_sight("platform", &mut self.platform_error, platform.err());
        change_of_sight("registry", &mut self.registry_error, registry.answer.and_then(Result::err));
        let plan = (observed.platform.is_some() || observed.registry.is_some()).then(|| self.decide(&observed)); // pure
        let mut selection = plan.as_ref().map(|plan| self.select(plan, &observed)).unwrap_or_default(); // pure
        if !self.may_act(observed.registry.is_some() && !observed.registry_stands_in || self.registry_error.is_some()) {
            selection.jobs.clear();
        }
        let jobs = selection.jobs.len();
        self.executor.submit(selection.jobs);

        let now = self.clock.now();
        let took = now.saturating_sub(begun);
        self.pending.rest(now, now.saturating_sub(planned_at));
        self.report.pass(&Pass {
            wall: self.clock.wall(),
            took,
            desired: self.manifests.desired(),
            observed: &observed,
            plan: plan.as_ref(),
            retries: &selection.waiting,
            source: SourceView { place: &self.place, read_ago: self.source.read_ago() },
            source_error: self.manifests.error(),
            platform_error: self.platform_error.as_deref(),
            registry_error: self.registry_error.as_deref(),
            notes_error: self.noting.error().or_else(|| self.memory.notebook.is_full().then_some(FULL)),
            notes_unsaved: self.memory.notebook.unsaved(),
        });
        self.report.answered(self.answered);
        debug!(reasons, ?took, jobs, waiting = selection.waiting.len(), "pass");
        Turn::Passed(Passed { plan, awaits_rows: self.memory.awaits_rows(&observed), ..self.blank() })
    }

    /// Lets tasks under way take nothing away: something cannot be seen or read in full.
    fn spare(&self) {
        for running in self.executor.running().values() {
            running.restrict(Leave::NothingDestructive);
        }
    }

    fn decide(&mut self, observed: &Observed) -> Arc<Plan> {
        self.memory.recall(observed);
        let plan = plan::plan(self.manifests.desired(), observed, &self.policy, &self.memory);
        #[cfg(debug_assertions)]
        if let Some(difference) =
            plan::difference_from_whole(&plan, self.manifests.desired(), observed, &self.policy, &self.memory)
        {
            unreachable!("a plan leaves out what has changed: {difference}");
        }
        // What is noted is decided by whoever may act.
        let notebook = (!self.tenure.acts()).then(|| self.memory.notebook.clone());
        self.memory.learn(self.manifests.desired(), observed, &plan);
        if let Some(notebook) = notebook {
            self.memory.restore_notes(notebook);
        }
        self.tell_ended();
        Arc::new(plan)
    }

    /// Picks what may be carried out now, restrains what is under way, and sets the next times to look.
    fn select(&mut self, plan: &Plan, observed: &Observed) -> Selection {
        let platform = observed.platform.as_ref();
        let registry = observed.registry.as_ref();
        self.generations = (
            platform.map_or(self.generations.0, |snapshot| snapshot.generation),
            registry.map_or(self.generations.1, |snapshot| snapshot.generation),
        );
        for (resource, running) in self.executor.running() {
            let wanted = self.manifests.desired().resources.get(resource);
            let still_meant = match (&running.desired, wanted) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other) || same_meaning(one, other),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !still_meant || self.memory.is_suspended(resource) {
                running.restrict(Leave::Nothing);
            }
        }
        let (executor, ended) = (&self.executor, &self.ended);
        let busy = |resource: &ResourceId| executor.running().contains_key(resource) || ended.contains(resource);
        let selection = self.retries.select(plan, self.manifests.desired(), observed, busy);
        let now = observed.at;
        self.retry_due = selection.due;
        let on_their_way = plan
            .restless()
            .filter(|(resource, planned)| !busy(resource) && is_on_its_way(planned))
            .map(|(resource, _)| resource.clone())
            .collect();
        self.soon.watch(on_their_way, now, self.resync);
        if let Some(recheck) = plan.recheck {
            let ripe = now + recheck.max(SHORTEST_RECHECK);
            self.soon.due = Some(self.soon.due.map_or(ripe, |due| due.min(ripe)));
        }
        selection
    }

    /// Ends well: calls in flight are finished and reported, nothing new is started. Whether everything ended
    /// within `limit`.
    pub(super) async fn finish(&mut self, limit: Duration) -> bool {
        self.executor.close();
        let permit = self.permit();
        let noted = self.noting.finish(&mut self.memory.notebook, permit, self.clock.now());
        let (drained, _) = tokio::join!(self.executor.drain(limit), tokio::time::timeout(limit, noted));
        while let Ok(progress) = self.progress.try_recv() {
            self.note(progress);
        }
        let unsaved = self.memory.notebook.unsent().len();
        if let Some(error) = self.noting.error() {
            warn!(%error, unsaved, "what people said could not all be noted; it ends with this process");
        }
        drained
    }

    /// What is known before the first pass.
    pub(super) fn blank(&self) -> Passed {
        Passed {
            plan: None,
            desired: Arc::clone(self.manifests.desired()),
            source_error: self.manifests.error().map(ToString::to_string),
            platform_error: self.platform_error.clone(),
            registry_error: self.registry_error.clone(),
            awaits_registry: self.registry_reader.awaits_first() && self.registry_error.is_none(),
            awaits_rows: false,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.executor.is_idle()
    }

    pub(super) fn retries(&self) -> &Retries {
        &self.retries
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Has the next timed look come no later than `at`.
    pub(super) fn look_by(&mut self, at: Duration) {
        self.next_timer = self.next_timer.min(at);
    }
}

/// Keeps the latest error of one side, and tells when it changes.
fn change_of_sight(side: &str, before: &mut Option<String>, now: Option<impl std::error::Error>) {
    let now = now.map(|error| error.to_string());
    match &now {
        Some(error) if before.as_ref() != Some(error) => warn!(%error, "the {side} cannot be observed"),
        None if before.is_some() => info!("the {side} can be observed again"),
        Some(_) | None => {}
    }
    *before = now;
}

/// The next command; never when nobody can send one any more.
async fn receive(commands: &mut Option<mpsc::Receiver<Request>>) -> Request {
    if let Some(receiver) = commands {
        if let Some(request) = receiver.recv().await {
            return request;
        }
        *commands = None;
    }
    std::future::pending().await
}
