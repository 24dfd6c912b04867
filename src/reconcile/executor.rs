//! Walks steps. Decides nothing.
//!
//! One task per resource, never two for the same, a bounded number at a time; steps in order, up to the first
//! failure. A task that has services to write holds one of a few places, since a Swarm manager takes one write after
//! the other. Records are another matter: messages to Kafka travel together, and a place that waits for their
//! acknowledgement would make round trips of them. So a task gives its place up when only records are left, and one
//! that has nothing but records needs none.
//!
//! What waits for a free task is replaced by each pass, so that nothing is carried out that an older
//! pass wanted; what is under way is told by the [`Leave`] of its resource when the latest pass no longer
//! stands behind it, and stops before its next step.
//!
//! Each step asks the [`Fence`] just before its call, in the name of the term that it was planned in, and its call ends
//! before the term does.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use super::lease::{Fence, Leadership};
use crate::clock::Clock;
use crate::model::{DesiredResource, FailureKind, PlannedStep, ResourceId, Step, StepFailure};
use crate::platform::Platform;
use crate::registry::Registry;

/// What one resource needs, as one pass planned it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// The resource.
    pub(super) resource: ResourceId,
    /// What to do, in order.
    pub(super) steps: Vec<PlannedStep>,
    /// What it was planned for; none for a resource that goes.
    pub(super) desired: Option<Arc<DesiredResource>>,
}

/// Tasks at a time that write nothing but records. A few hundred assets are as many messages as one request to a
/// broker holds; each waits for little more than its acknowledgement.
const RECORDS_AT_ONCE: usize = 1024;

impl Job {
    /// Whether it has services to write.
    fn needs_place(&self) -> bool {
        self.steps.iter().any(|step| is_for_platform(&step.step))
    }

    /// A hash over what is done to what, to tell whether the same thing is done again and again.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for step in &self.steps {
            (step.step.verb(), step.step.object()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn is_for_platform(step: &Step) -> bool {
    match step {
        Step::Service(_) => true,
        Step::Record(_) => false,
    }
}

/// How far the latest pass stands behind what is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Leave {
    /// Go on.
    All = 0,
    /// Go on, but take nothing away.
    NothingDestructive = 1,
    /// Stop before the next step.
    Nothing = 2,
}

/// What a task tells the runner.
#[derive(Debug)]
pub(super) enum Progress {
    /// A step ended.
    Step(Box<Done>),
    /// Only records are left to write.
    RecordsLeft {
        /// The resource.
        resource: ResourceId,
    },
    /// The task ended.
    Ended {
        /// The resource.
        resource: ResourceId,
        /// How.
        end: End,
    },
}

/// A step that ended.
#[derive(Debug)]
pub(super) struct Done {
    /// The resource.
    pub(super) resource: ResourceId,
    /// What was done.
    pub(super) step: PlannedStep,
    /// How it ended.
    pub(super) outcome: Result<(), StepFailure>,
    /// How long it took.
    pub(super) took: Duration,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Every step worked.
    Done,
    /// A step failed; its outcome was told before.
    Failed,
    /// It stopped between two steps because the latest pass, or a shutdown, wanted it to.
    Stopped,
    /// An adapter panicked: whatever the call did is unknown.
    Died,
}

/// A task under way.
#[derive(Debug)]
pub(super) struct Running {
    leave: Arc<AtomicU8>,
    holds_place: bool,
    /// What it was planned for.
    pub(super) desired: Option<Arc<DesiredResource>>,
    /// [`Job::fingerprint`] of what it does.
    pub(super) fingerprint: u64,
}

impl Running {
    /// Tells the task how far it may still go. It never gets back what was taken from it.
    pub(super) fn restrict(&self, leave: Leave) {
        self.leave.fetch_max(leave as u8, Ordering::SeqCst);
    }
}

/// Runs jobs.
pub(super) struct Executor<P, R, C> {
    platform: Arc<P>,
    registry: Arc<R>,
    clock: Arc<C>,
    fence: Fence,
    /// The term in which what is submitted was planned; none while nothing may be done.
    term: Option<u64>,
    /// How many tasks may hold a place.
    places: usize,
    /// How many do.
    taken: usize,
    /// Jobs that need a place.
    waiting: BTreeMap<ResourceId, Job>,
    /// Jobs that need none.
    waiting_records: BTreeMap<ResourceId, Job>,
    running: BTreeMap<ResourceId, Running>,
    tasks: JoinSet<()>,
    progress: mpsc::UnboundedSender<Progress>,
    closed: bool,
}

impl<P: Platform, R: Registry, C: Clock> Executor<P, R, C> {
    /// An executor of at most `concurrency` tasks at a time that write services, and the end at which they report.
    /// The channel holds no more than the steps of that many resources, and of [`RECORDS_AT_ONCE`].
    pub(super) fn new(
        platform: Arc<P>,
        registry: Arc<R>,
        clock: Arc<C>,
        leadership: &Leadership,
        concurrency: usize,
    ) -> (Self, mpsc::UnboundedReceiver<Progress>) {
        let (progress, receiver) = mpsc::unbounded_channel();
        let executor = Executor {
            platform,
            registry,
            clock,
            fence: leadership.fence(),
            term: leadership.term(),
            places: concurrency.max(1),
            taken: 0,
            waiting: BTreeMap::new(),
            waiting_records: BTreeMap::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            progress,
            closed: false,
        };
        (executor, receiver)
    }

    /// Replaces everything that waits, and starts as many tasks as are free. Jobs of resources that are under
    /// way are dropped: the pass after their end plans them afresh.
    pub(super) fn submit(&mut self, jobs: Vec<Job>) {
        (self.waiting, self.waiting_records) = jobs
            .into_iter()
            .filter(|job| !job.steps.is_empty() && !self.running.contains_key(&job.resource))
            .map(|job| (job.resource.clone(), job))
            .partition(|(_, job)| job.needs_place());
        self.fill();
    }

    /// Tasks under way.
    pub(super) fn running(&self) -> &BTreeMap<ResourceId, Running> {
        &self.running
    }

    /// Whether nothing is under way and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty() && self.waiting_records.is_empty()
    }

    /// Whether so much is under way that another pass could start nothing.
    pub(super) fn is_full(&self) -> bool {
        let places = self.taken == self.places && !self.waiting.is_empty();
        places || self.running.len() - self.taken >= RECORDS_AT_ONCE && !self.waiting_records.is_empty()
    }

    /// Takes note that the task of a resource ended, and starts what waits.
    pub(super) fn ended(&mut self, resource: &ResourceId) -> Option<Running> {
        let ended = self.running.remove(resource);
        if ended.as_ref().is_some_and(|running| running.holds_place) {
            self.taken -= 1;
        }
        while self.tasks.try_join_next().is_some() {}
        self.fill();
        ended
    }

    /// Takes note that a resource has only records left to write, and starts what waits for its place.
    pub(super) fn records_left(&mut self, resource: &ResourceId) {
        if let Some(running) = self.running.get_mut(resource).filter(|running| running.holds_place) {
            running.holds_place = false;
            self.taken -= 1;
            self.fill();
        }
    }

    /// Starts no further step of what it was given so far: calls in flight end, then their tasks.
    pub(super) fn halt(&mut self) {
        self.waiting.clear();
        self.waiting_records.clear();
        for running in self.running.values() {
            running.restrict(Leave::Nothing);
        }
    }

    /// What is submitted from now on was planned in this term. What was planned in another one ends before its next step.
    pub(super) fn enter(&mut self, term: Option<u64>) {
        if self.term != term {
            self.halt();
            self.term = term;
        }
    }

    /// The same for good.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.halt();
    }

    /// Waits until every task has ended, at most `limit`. Tasks that take longer are dropped with the
    /// executor, which is what a crash would do to them.
    pub(super) async fn drain(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, async { while self.tasks.join_next().await.is_some() {} }).await.is_ok()
    }

    fn fill(&mut self) {
        let Some(term) = self.term.filter(|_| !self.closed) else { return };
        while self.taken < self.places && self.running.len() < self.places + RECORDS_AT_ONCE {
            let Some((_, job)) = self.waiting.pop_first() else { break };
            self.taken += 1;
            self.start(job, true, term);
        }
        while self.running.len() - self.taken < RECORDS_AT_ONCE {
            let Some((_, job)) = self.waiting_records.pop_first() else { break };
            self.start(job, false, term);
        }
    }

    fn start(&mut self, job: Job, holds_place: bool, term: u64) {
        let leave = Arc::new(AtomicU8::new(Leave::All as u8));
        let running = Running {
            leave: Arc::clone(&leave),
            holds_place,
            desired: job.desired.clone(),
            fingerprint: job.fingerprint(),
        };
        self.running.insert(job.resource.clone(), running);
        let walk = Walk {
            platform: Arc::clone(&self.platform),
            registry: Arc::clone(&self.registry),
            clock: Arc::clone(&self.clock),
            fence: self.fence.clone(),
            term,
            leave,
            report: Reporter { resource: job.resource, progress: self.progress.clone(), end: End::Stopped },
        };
        self.tasks.spawn(walk.run(job.steps));
    }
}

/// One task.
struct Walk<P, R, C> {
    platform: Arc<P>,
    registry: Arc<R>,
    clock: Arc<C>,
    fence: Fence,
    term: u64,
    leave: Arc<AtomicU8>,
    report: Reporter,
}

impl<P: Platform, R: Registry, C: Clock> Walk<P, R, C> {
    async fn run(mut self, steps: Vec<PlannedStep>) {
        // After so many steps only records are left.
        let services = steps.iter().rposition(|step| is_for_platform(&step.step)).map_or(0, |last| last + 1);
        for (number, step) in steps.into_iter().enumerate() {
            if number > 0 && number == services {
                self.report.records_left();
            }
            let destructive = step.step.is_destructive();
            let allowed = self.leave.load(Ordering::SeqCst);
            if allowed == Leave::Nothing as u8 || destructive && allowed == Leave::NothingDestructive as u8 {
                return;
            }
            let begun = self.clock.now();
            let Some(permit) = self.fence.permit(self.term, begun) else {
                // Nothing was sent, and whoever acts next looks for itself.
                debug!(resource = %self.report.resource, "a step is not taken: the lease is not held any more");
                return;
            };
            let outcome = permit.within(&*self.clock, self.execute(&step.step)).await; // I/O
            let outcome = outcome.unwrap_or_else(|| {
                let message = "the call did not end before the lease did; it may have worked";
                let since_sent = self.clock.now().saturating_sub(begun);
                Err(StepFailure { since_sent, ..StepFailure::new(FailureKind::Ambiguous, message) })
            });
            let took = self.clock.now().saturating_sub(begun);
            let failed = outcome.is_err();
            self.report.step(step, outcome, took);
            if failed {
                self.report.end = End::Failed;
                return;
            }
        }
        self.report.end = End::Done;
    }

    async fn execute(&self, step: &Step) -> Result<(), StepFailure> {
        match step {
            // Boxed, so that the many tasks that write records only are not as large as a rollout.
            Step::Service(step) => Box::pin(self.platform.execute(step)).await,
            Step::Record(step) => self.registry.execute(step).await,
        }
    }
}

/// Tells the runner about a task. Its end is told whatever happens, also when an adapter panics: a resource
/// must not stay marked as under way.
struct Reporter {
    resource: ResourceId,
    progress: mpsc::UnboundedSender<Progress>,
    end: End,
}

impl Reporter {
    fn records_left(&self) {
        let _ = self.progress.send(Progress::RecordsLeft { resource: self.resource.clone() });
    }

    fn step(&self, step: PlannedStep, outcome: Result<(), StepFailure>, took: Duration) {
        let done = Done { resource: self.resource.clone(), step, outcome, took };
        // Fails only when the runner is gone, and then nobody needs to know.
        let _ = self.progress.send(Progress::Step(Box::new(done)));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let end = if std::thread::panicking() { End::Died } else { self.end };
        let _ = self.progress.send(Progress::Ended { resource: self.resource.clone(), end });
    }
}
