//! Tasks over fakes, in paused time.

use super::super::lease::machine::Term;
use super::*;
use crate::model::record::RecordOwner;
use crate::model::{
    AssetUuid, InstanceName, Mark, Reason, Record, RecordStep, Revision, ServiceId, ServiceName, ServiceSpec,
    ServiceStep, SpecHash,
};
use crate::testing::{FakeRegistry, FakeSwarm, Fault, TestClock};

type TestExecutor = Executor<FakeSwarm, FakeRegistry, TestClock>;

fn executor(swarm: &FakeSwarm, concurrency: usize) -> (TestExecutor, mpsc::UnboundedReceiver<Progress>) {
    executor_that(swarm, concurrency, &Leadership::alone())
}

fn executor_that(
    swarm: &FakeSwarm,
    concurrency: usize,
    leadership: &Leadership,
) -> (TestExecutor, mpsc::UnboundedReceiver<Progress>) {
    executor_of(swarm, &FakeRegistry::new(1), concurrency, leadership)
}

fn executor_of(
    swarm: &FakeSwarm,
    registry: &FakeRegistry,
    concurrency: usize,
    leadership: &Leadership,
) -> (TestExecutor, mpsc::UnboundedReceiver<Progress>) {
    let (swarm, registry) = (Arc::new(swarm.clone()), Arc::new(registry.clone()));
    Executor::new(swarm, registry, Arc::new(TestClock::new()), leadership, concurrency)
}

fn register(name: &str) -> PlannedStep {
    let record = Record::Connector { device: AssetUuid::new(name).unwrap(), config: "{}".into() };
    let owner = RecordOwner { instance: InstanceName::new("test").unwrap(), resource: resource(name), kept: false };
    PlannedStep {
        step: Step::Record(RecordStep::Register { record: Arc::new(record), owner }),
        reason: Reason::New,
        changes: Vec::new(),
    }
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
        terms: crate::model::RemovalTerms::default(),
        options: Vec::new(),
        run: None,
    };
    let spec = Arc::new(ServiceSpec::new(ServiceName::new(name).unwrap(), "image:1"));
    PlannedStep { step: Step::Service(ServiceStep::Create { spec, mark }), reason: Reason::New, changes: Vec::new() }
}

fn remove(id: ServiceId, name: &str) -> PlannedStep {
    let step = Step::Service(ServiceStep::Remove { id, name: ServiceName::new(name).unwrap() });
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
            Progress::RecordsLeft { resource } => executor.records_left(&resource),
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
async fn a_place_is_given_up_when_only_records_are_left_and_records_alone_need_none() {
    let (swarm, registry) = (FakeSwarm::new(1), FakeRegistry::new(1));
    swarm.latency(Duration::from_secs(1));
    registry.latency(Duration::from_secs(100));
    let (mut executor, mut progress) = executor_of(&swarm, &registry, 2, &Leadership::alone());
    let whole = |name: &str| job(name, vec![create(name), register(name)]);
    let mut jobs: Vec<Job> = (0..6).map(|n| whole(&format!("app{n}"))).collect();
    jobs.extend((0..RECORDS_AT_ONCE + 10).map(|n| job(&format!("rec{n}"), vec![register(&format!("rec{n}"))])));
    executor.submit(jobs);
    assert_eq!(executor.running().len(), 2 + RECORDS_AT_ONCE);
    let began = tokio::time::Instant::now();
    let ends = finish(&mut executor, &mut progress).await;
    assert_eq!((ends.len(), ends.values().all(|end| *end == End::Done)), (16 + RECORDS_AT_ONCE, true));
    // the last two services wait for room among the records; then these take as long once more
    assert!(began.elapsed() < Duration::from_secs(204), "{:?}", began.elapsed());
    assert_eq!(executor.taken, 0);
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

/// The right to act in term 1 until a time, for an executor whose clock begins now.
fn leads_until(until: Duration) -> Leadership {
    let leadership = Leadership::alone();
    leadership.fence().set(Some(Term { number: 0, from: Duration::ZERO, until }));
    leadership
}

#[tokio::test(start_paused = true)]
async fn the_fence_is_asked_before_each_call_and_not_only_before_destructive_ones() {
    let swarm = FakeSwarm::new(1);
    let leadership = leads_until(Duration::from_secs(60));
    swarm.latency(Duration::from_secs(1));
    let (mut executor, mut progress) = executor_that(&swarm, 1, &leadership);
    executor.submit(vec![job("a", vec![create("a"), create("b")])]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    leadership.fence().set(None);
    assert_eq!(finish(&mut executor, &mut progress).await["a"], End::Stopped);
    assert_eq!(swarm.writes(), 1, "the call in flight ended, and no other began");
    executor.submit(vec![job("b", vec![create("b")])]);
    assert_eq!(finish(&mut executor, &mut progress).await["b"], End::Stopped);
    assert_eq!(swarm.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_call_outlives_the_lease_and_what_was_cut_short_may_have_worked() {
    let swarm = FakeSwarm::new(1);
    swarm.latency(Duration::from_secs(600));
    let began = tokio::time::Instant::now();
    let (mut executor, mut progress) = executor_that(&swarm, 1, &leads_until(Duration::from_secs(10)));
    executor.submit(vec![job("a", vec![create("a")])]);
    let Some(Progress::Step(done)) = progress.recv().await else { panic!("no step") };
    assert_eq!(done.outcome.unwrap_err().kind, FailureKind::Ambiguous);
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn what_was_planned_in_another_term_is_not_carried_out() {
    let swarm = FakeSwarm::new(1);
    let leadership = leads_until(Duration::from_secs(60));
    swarm.latency(Duration::from_secs(1));
    let (mut executor, mut progress) = executor_that(&swarm, 1, &leadership);
    executor.submit(vec![job("a", vec![create("a"), create("b")]), job("c", vec![create("c")])]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    // It was lost, and got again: somebody else may have acted in between.
    leadership.fence().set(Some(Term { number: 7, from: Duration::ZERO, until: Duration::from_secs(60) }));
    let ends = finish(&mut executor, &mut progress).await;
    assert_eq!((ends["a"], ends["c"]), (End::Stopped, End::Stopped));
    assert_eq!(swarm.writes(), 1);
    executor.enter(Some(7));
    executor.submit(vec![job("c", vec![create("c")])]);
    assert_eq!(finish(&mut executor, &mut progress).await["c"], End::Done);
}

/// A platform whose calls about one service panic.
struct Panics(FakeSwarm);

impl Platform for Panics {
    async fn observe(
        &self,
        follow: &std::collections::BTreeSet<String>,
    ) -> Result<Arc<crate::model::PlatformSnapshot>, crate::platform::PlatformError> {
        self.0.observe(follow).await
    }

    fn refresh(&self) {}

    async fn execute(&self, step: &ServiceStep) -> Result<(), StepFailure> {
        assert_ne!(step.name().as_str(), "a", "on purpose");
        self.0.execute(step).await
    }

    async fn note(&self, edits: &crate::model::NoteEdits) -> Result<(), StepFailure> {
        self.0.note(edits).await
    }

    fn events(&self) -> impl futures_util::Stream<Item = ()> + Send + 'static {
        self.0.events()
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_adapter_ends_its_task_and_no_other() {
    let platform = Arc::new(Panics(FakeSwarm::new(1)));
    let (registry, clock) = (Arc::new(FakeRegistry::new(1)), Arc::new(TestClock::new()));
    let (mut executor, mut progress) = Executor::new(platform, registry, clock, &Leadership::alone(), 2);
    executor.submit(vec![job("a", vec![create("a")]), job("b", vec![create("b")])]);
    let mut ends = BTreeMap::new();
    while !executor.is_idle() {
        if let Some(Progress::Ended { resource, end }) = progress.recv().await {
            executor.ended(&resource);
            ends.insert(resource.uuid.to_string(), end);
        }
    }
    assert_eq!((ends["a"], ends["b"]), (End::Died, End::Done));
}
