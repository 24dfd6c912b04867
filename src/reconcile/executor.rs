//! Walks steps. Decides nothing.
//!
//! One task per resource, never two for the same, a bounded number at a time; steps in order, up to the first
//! failure. What waits for a free task is replaced by each pass, so that nothing is carried out that an older
//! pass wanted; what is under way is told by the [`Leave`] of its resource when the latest pass no longer
//! stands behind it, and stops before its next step.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::model::{DesiredResource, FailureKind, PlannedStep, ResourceId, Step, StepFailure};
use crate::platform::Platform;
use crate::registry::Registry;

/// Asked just before each destructive call: may this operator still act? The place where a lease is checked.
pub type Permission = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The permission of an operator that shares its instance name with nobody.
pub fn always() -> Permission {
    Arc::new(|| Box::pin(async { true }))
}

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

impl Job {
    /// A hash over what is done to what, to tell whether the same thing is done again and again.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for step in &self.steps {
            (step.step.verb(), step.step.object()).hash(&mut hasher);
        }
        hasher.finish()
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
    permission: Permission,
    concurrency: usize,
    waiting: BTreeMap<ResourceId, Job>,
    running: BTreeMap<ResourceId, Running>,
    tasks: JoinSet<()>,
    progress: mpsc::UnboundedSender<Progress>,
    closed: bool,
}

impl<P: Platform, R: Registry, C: Clock> Executor<P, R, C> {
    /// An executor of at most `concurrency` tasks at a time, and the end at which they report. The channel
    /// holds no more than the steps of that many resources.
    pub(super) fn new(
        platform: Arc<P>,
        registry: Arc<R>,
        clock: Arc<C>,
        permission: Permission,
        concurrency: usize,
    ) -> (Self, mpsc::UnboundedReceiver<Progress>) {
        let (progress, receiver) = mpsc::unbounded_channel();
        let executor = Executor {
            platform,
            registry,
            clock,
            permission,
            concurrency: concurrency.max(1),
            waiting: BTreeMap::new(),
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
        self.waiting = jobs
            .into_iter()
            .filter(|job| !job.steps.is_empty() && !self.running.contains_key(&job.resource))
            .map(|job| (job.resource.clone(), job))
            .collect();
        self.fill();
    }

    /// Tasks under way.
    pub(super) fn running(&self) -> &BTreeMap<ResourceId, Running> {
        &self.running
    }

    /// Whether nothing is under way and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Takes note that the task of a resource ended, and starts what waits.
    pub(super) fn ended(&mut self, resource: &ResourceId) -> Option<Running> {
        let ended = self.running.remove(resource);
        while self.tasks.try_join_next().is_some() {}
        self.fill();
        ended
    }

    /// Starts no further step of what it was given so far: calls in flight end, then their tasks.
    pub(super) fn halt(&mut self) {
        self.waiting.clear();
        for running in self.running.values() {
            running.restrict(Leave::Nothing);
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
        while !self.closed && self.running.len() < self.concurrency {
            let Some((resource, job)) = self.waiting.pop_first() else { return };
            let leave = Arc::new(AtomicU8::new(Leave::All as u8));
            let running =
                Running { leave: Arc::clone(&leave), desired: job.desired.clone(), fingerprint: job.fingerprint() };
            self.running.insert(resource, running);
            let walk = Walk {
                platform: Arc::clone(&self.platform),
                registry: Arc::clone(&self.registry),
                clock: Arc::clone(&self.clock),
                permission: Arc::clone(&self.permission),
                leave,
                report: Reporter { resource: job.resource, progress: self.progress.clone(), end: End::Stopped },
            };
            self.tasks.spawn(walk.run(job.steps));
        }
    }
}

/// One task.
struct Walk<P, R, C> {
    platform: Arc<P>,
    registry: Arc<R>,
    clock: Arc<C>,
    permission: Permission,
    leave: Arc<AtomicU8>,
    report: Reporter,
}

impl<P: Platform, R: Registry, C: Clock> Walk<P, R, C> {
    async fn run(mut self, steps: Vec<PlannedStep>) {
        for step in steps {
            let destructive = step.step.is_destructive();
            let allowed = self.leave.load(Ordering::SeqCst);
            if allowed == Leave::Nothing as u8 || destructive && allowed == Leave::NothingDestructive as u8 {
                return;
            }
            let begun = self.clock.now();
            let outcome = if destructive && !(self.permission)().await {
                Err(StepFailure::new(FailureKind::Revoked, "another operator has taken over"))
            } else {
                self.execute(&step.step).await // I/O
            };
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
            Step::CreateService { .. } | Step::UpdateService { .. } | Step::RemoveService { .. } => {
                self.platform.execute(step).await
            }
            Step::Register { .. } | Step::Deregister { .. } | Step::ForgetRecord { .. } => {
                self.registry.execute(step).await
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AssetUuid, InstanceName, Mark, Reason, Revision, ServiceId, ServiceName, ServiceSpec, SpecHash, StepVerb,
    };
    use crate::testing::{FakeRegistry, FakeSwarm, Fault, TestClock};

    type TestExecutor = Executor<FakeSwarm, FakeRegistry, TestClock>;

    fn executor(swarm: &FakeSwarm, concurrency: usize) -> (TestExecutor, mpsc::UnboundedReceiver<Progress>) {
        executor_that(swarm, concurrency, always())
    }

    fn executor_that(
        swarm: &FakeSwarm,
        concurrency: usize,
        permission: Permission,
    ) -> (TestExecutor, mpsc::UnboundedReceiver<Progress>) {
        let registry = Arc::new(FakeRegistry::new(1));
        Executor::new(Arc::new(swarm.clone()), registry, Arc::new(TestClock::new()), permission, concurrency)
    }

    fn resource(name: &str) -> ResourceId {
        ResourceId::app(AssetUuid::new(name).unwrap())
    }

    fn create(name: &str) -> PlannedStep {
        let mark = Mark {
            instance: InstanceName::new("test").unwrap(),
            resource: resource(name),
            spec: SpecHash("hash".into()),
            revision: Revision("1".into()),
            origin: "a.yml:1".into(),
            kept: Some(false),
        };
        let spec = Arc::new(ServiceSpec::new(ServiceName::new(name).unwrap(), "image:1"));
        PlannedStep { step: Step::CreateService { spec, mark }, reason: Reason::New, changes: Vec::new() }
    }

    fn remove(id: ServiceId, name: &str) -> PlannedStep {
        let step = Step::RemoveService { id, name: ServiceName::new(name).unwrap() };
        PlannedStep { step, reason: Reason::Orphaned, changes: Vec::new() }
    }

    fn job(name: &str, steps: Vec<PlannedStep>) -> Job {
        Job { resource: resource(name), steps, desired: None }
    }

    /// Runs everything that was submitted and returns how each resource ended.
    async fn finish(
        executor: &mut TestExecutor,
        progress: &mut mpsc::UnboundedReceiver<Progress>,
    ) -> BTreeMap<String, End> {
        let mut ends = BTreeMap::new();
        while !executor.is_idle() {
            match progress.recv().await.unwrap() {
                Progress::Step(_) => {}
                Progress::Ended { resource, end } => {
                    executor.ended(&resource);
                    ends.insert(resource.uuid.to_string(), end);
                }
            }
        }
        ends
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_tasks_run_than_allowed_and_all_jobs_are_done() {
        let swarm = FakeSwarm::new(1);
        swarm.latency(Duration::from_secs(1));
        let (mut executor, mut progress) = executor(&swarm, 3);
        executor.submit((0..10).map(|n| job(&format!("app{n}"), vec![create(&format!("app{n}"))])).collect());
        assert_eq!(executor.running().len(), 3);
        let began = tokio::time::Instant::now();
        let ends = finish(&mut executor, &mut progress).await;
        assert_eq!(ends.len(), 10);
        assert_eq!(began.elapsed().as_secs(), 4, "ten calls of a second, three at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_resource_under_way_is_never_worked_on_twice() {
        let swarm = FakeSwarm::new(1);
        let (mut executor, mut progress) = executor(&swarm, 3);
        executor.submit(vec![job("app", vec![create("app")])]);
        executor.submit(vec![job("app", vec![create("app")])]);
        finish(&mut executor, &mut progress).await;
        assert_eq!(swarm.calls().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_replaced_by_what_a_later_pass_wants() {
        let swarm = FakeSwarm::new(1);
        let (mut executor, mut progress) = executor(&swarm, 1);
        executor.submit(vec![job("a", vec![create("a")]), job("b", vec![create("b")])]);
        executor.submit(vec![job("c", vec![create("c")])]);
        let ends = finish(&mut executor, &mut progress).await;
        assert_eq!(ends.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn steps_stop_at_the_first_failure() {
        let swarm = FakeSwarm::new(1);
        swarm.script([None, Some(Fault::Refused)]);
        let (mut executor, mut progress) = executor(&swarm, 1);
        executor.submit(vec![job("a", vec![create("a"), create("b"), create("c")])]);
        assert_eq!(finish(&mut executor, &mut progress).await["a"], End::Failed);
        assert_eq!(swarm.calls().len(), 2);
        assert!(swarm.service("a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_stops_before_its_next_step_when_told_so() {
        let swarm = FakeSwarm::new(1);
        let (mut executor, mut progress) = executor(&swarm, 1);
        executor.submit(vec![job("a", vec![create("a"), create("b")])]);
        assert!(matches!(progress.recv().await, Some(Progress::Step(_))));
        executor.close();
        finish(&mut executor, &mut progress).await;
        assert!(swarm.calls().len() <= 2);
        executor.submit(vec![job("c", vec![create("c")])]);
        assert!(executor.running().is_empty(), "a closed executor starts nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_must_spare_still_creates_but_takes_nothing_away() {
        let swarm = FakeSwarm::new(1);
        let id = swarm.deploy(FakeSwarm::stranger("old"), None);
        let (mut executor, mut progress) = executor(&swarm, 1);
        executor.submit(vec![job("a", vec![create("a"), remove(id, "old"), create("b")])]);
        executor.running()[&resource("a")].restrict(Leave::NothingDestructive);
        assert_eq!(finish(&mut executor, &mut progress).await["a"], End::Stopped);
        assert!(swarm.service("a").is_some() && swarm.service("old").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn permission_is_asked_before_each_destructive_call_and_only_then() {
        let swarm = FakeSwarm::new(1);
        let id = swarm.deploy(FakeSwarm::stranger("old"), None);
        let never: Permission = Arc::new(|| Box::pin(async { false }));
        let (mut executor, mut progress) = executor_that(&swarm, 1, never);
        executor.submit(vec![job("a", vec![create("a"), remove(id, "old")])]);
        assert_eq!(finish(&mut executor, &mut progress).await["a"], End::Failed);
        assert_eq!(swarm.count(StepVerb::Create), 1);
        assert_eq!(swarm.count(StepVerb::Remove), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_an_adapter_ends_its_task_and_no_other() {
        let swarm = FakeSwarm::new(1);
        let dies: Permission = Arc::new(|| Box::pin(async { panic!("on purpose") }));
        let (mut executor, mut progress) = executor_that(&swarm, 2, dies);
        let id = swarm.deploy(FakeSwarm::stranger("old"), None);
        executor.submit(vec![job("a", vec![remove(id, "old")]), job("b", vec![create("b")])]);
        let ends = finish(&mut executor, &mut progress).await;
        assert_eq!((ends["a"], ends["b"]), (End::Died, End::Done));
    }
}
