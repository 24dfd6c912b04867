//! Tasks over fakes, in paused time.

use super::*;
use crate::model::record::RecordOwner;
use crate::model::{
    AssetUuid, InstanceName, Mark, Reason, Record, Revision, ServiceId, ServiceName, ServiceSpec, SpecHash, StepVerb,
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
    executor_of(swarm, &FakeRegistry::new(1), concurrency, permission)
}

fn executor_of(
    swarm: &FakeSwarm,
    registry: &FakeRegistry,
    concurrency: usize,
    permission: Permission,
) -> (TestExecutor, mpsc::UnboundedReceiver<Progress>) {
    let (swarm, registry) = (Arc::new(swarm.clone()), Arc::new(registry.clone()));
    Executor::new(swarm, registry, Arc::new(TestClock::new()), permission, concurrency)
}

fn register(name: &str) -> PlannedStep {
    let record = Record::Connector { device: AssetUuid::new(name).unwrap(), config: "{}".into() };
    let owner = RecordOwner { instance: InstanceName::new("test").unwrap(), resource: resource(name), kept: false };
    PlannedStep { step: Step::Register { record: Arc::new(record), owner }, reason: Reason::New, changes: Vec::new() }
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
        run: None,
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
    let (mut executor, mut progress) = executor_of(&swarm, &registry, 2, always());
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
