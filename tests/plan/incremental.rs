//! A plan that looks only at what has changed equals one that looks at everything, whatever happened before: so do its
//! deadlines, what becomes of removals, what is learned from it, and what the report says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ofop::model::record::{CoordinatorProtocol, DeviceCoordinator};
use ofop::model::{
    Availability, Command, Desired, DesiredResource, Doubt, DoubtReason, Evidence, Examined, InstanceName, Observed,
    Plan, Record, RecordId, ResourceId, SourceKind, SourcePlace, TaskState,
};
use ofop::plan::{Memory, Policy, plan};
use ofop::report::{Pass, Report, SourceView};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::Config;

use crate::properties::{Meddling, Shape, describe, meddle, meddling, shapes};
use crate::world::{World, app, app_id, asset, desired, device, policy, same_as_from_nothing, uuid};

/// What happens between two passes.
#[derive(Debug, Clone)]
enum Happening {
    Meddle(Meddling),
    Manifests(BTreeMap<usize, Shape>),
    /// One file says the same with another line number, is invalid for now, or is not.
    Moved(usize),
    Frozen(usize),
    Incomplete(bool),
    Suspend(usize),
    SuspendAll,
    Resume(usize),
    ResumeAll,
    Down(usize),
    Adopt(usize),
    Confirm,
    TaskFails(usize),
    TasksLoop(usize),
    TasksRun(usize),
    Unavailable(usize),
    Available(usize),
    Coordinator(bool),
    Expiring(usize),
    ExpiringNoMore,
    TagMoves(u8),
    Network(bool),
    /// Which sides can be read.
    Sight {
        platform: Sight,
        registry: Sight,
    },
    Doubt(bool),
    StandsIn(bool),
    /// Another operator plans with this memory for a while, or one that is about a part.
    Policy(u8),
    Time(u64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sight {
    Whole,
    Cut,
    None,
}

fn sight() -> impl Strategy<Value = Sight> {
    prop_oneof![3 => Just(Sight::Whole), 1 => Just(Sight::Cut), 1 => Just(Sight::None)]
}

fn happening() -> impl Strategy<Value = Happening> {
    let at = 0..12_usize;
    prop_oneof![
        12 => meddling().prop_map(Happening::Meddle),
        4 => shapes().prop_map(Happening::Manifests),
        1 => at.clone().prop_map(Happening::Moved),
        1 => at.clone().prop_map(Happening::Frozen),
        1 => proptest::bool::ANY.prop_map(Happening::Incomplete),
        1 => at.clone().prop_map(Happening::Suspend),
        1 => Just(Happening::SuspendAll),
        2 => at.clone().prop_map(Happening::Resume),
        2 => Just(Happening::ResumeAll),
        2 => at.clone().prop_map(Happening::Down),
        1 => at.clone().prop_map(Happening::Adopt),
        1 => Just(Happening::Confirm),
        2 => at.clone().prop_map(Happening::TaskFails),
        2 => at.clone().prop_map(Happening::TasksLoop),
        2 => at.clone().prop_map(Happening::TasksRun),
        2 => at.clone().prop_map(Happening::Unavailable),
        2 => at.clone().prop_map(Happening::Available),
        2 => proptest::bool::ANY.prop_map(Happening::Coordinator),
        1 => at.prop_map(Happening::Expiring),
        1 => Just(Happening::ExpiringNoMore),
        2 => (0..3_u8).prop_map(Happening::TagMoves),
        1 => proptest::bool::ANY.prop_map(Happening::Network),
        2 => (sight(), sight()).prop_map(|(platform, registry)| Happening::Sight { platform, registry }),
        1 => proptest::bool::ANY.prop_map(Happening::Doubt),
        1 => proptest::bool::ANY.prop_map(Happening::StandsIn),
        1 => (0..4_u8).prop_map(Happening::Policy),
        3 => (0..700_u64).prop_map(Happening::Time),
    ]
}

/// A history as it goes on.
struct History {
    world: World,
    memory: Memory,
    shapes: BTreeMap<usize, Shape>,
    moved: BTreeSet<usize>,
    frozen: BTreeSet<usize>,
    complete: bool,
    sight: (Sight, Sight),
    doubt: bool,
    stands_in: bool,
    policy: u8,
    /// What is told of every plan, and what would be told if each of them had looked at everything.
    reports: (Report, Report),
}

impl History {
    fn begin(shapes: BTreeMap<usize, Shape>) -> Self {
        let mut world = World::default();
        world.networks.insert("other-net".into());
        History {
            world,
            memory: Memory::default(),
            shapes,
            moved: BTreeSet::new(),
            frozen: BTreeSet::new(),
            complete: true,
            sight: (Sight::Whole, Sight::Whole),
            doubt: false,
            stands_in: false,
            policy: 0,
            reports: (Report::new(policy().instance), Report::new(policy().instance)),
        }
    }

    /// Beside the apps and devices of the other properties: two that want one service, one that follows a tag, a device
    /// that a coordinator is to know, and the coordinator.
    fn desired(&self) -> Desired {
        let mut wanted = describe(&self.shapes);
        let mut add = |resource: DesiredResource| _ = wanted.resources.insert(resource.id.clone(), Arc::new(resource));
        let mut follower = app("FOLLOWER", |spec| spec.image = "registry/app:latest".into());
        follower.services[0].follow_digest = true;
        add(follower);
        let mut twin = app("TWIN", |_| {});
        twin.services = app("A", |_| {}).services;
        if self.shapes.len().is_multiple_of(3) {
            add(twin);
        }
        let mut coordinated = device("OPC-1");
        let device = uuid("OPC-1");
        let record = Record::CoordinatorDevice { device, protocol: CoordinatorProtocol::Opcua, config: "{}".into() };
        coordinated.records.push(Arc::new(record));
        add(coordinated);
        let ids: Vec<ResourceId> = wanted.resources.keys().cloned().collect();
        for (at, id) in ids.iter().enumerate() {
            let mut resource = (*wanted.resources[id]).clone();
            resource.frozen = self.frozen.contains(&at);
            if self.moved.contains(&at) {
                resource.origin.line += 10;
            }
            if resource != *wanted.resources[id] {
                wanted.resources.insert(id.clone(), Arc::new(resource));
            }
        }
        wanted.complete = self.complete && self.frozen.is_empty();
        wanted
    }

    fn id(&self, at: usize) -> ResourceId {
        let ids: Vec<ResourceId> = self.desired().resources.keys().cloned().collect();
        ids[at % ids.len()].clone()
    }

    fn command(&mut self, command: &Command) {
        self.memory.command(command, "2026-01-02T03:04:05Z");
    }

    /// Changes the tasks of one service.
    fn tasks(&mut self, at: usize, states: &[TaskState]) {
        let ids: Vec<_> = self.world.services.values().map(|service| service.id.clone()).collect();
        let Some(id) = ids.get(at % ids.len().max(1)) else { return };
        let Some(tasks) = self.world.tasks.get_mut(id) else { return };
        let Some(like) = tasks.last().cloned() else { return };
        tasks.clear();
        for (age, state) in states.iter().enumerate() {
            let mut task = like.clone();
            (task.id, task.slot, task.state) = (format!("{}-{age}-{state:?}", id.0), 1, *state);
            task.wanted = age + 1 == states.len();
            tasks.push(task);
        }
    }

    fn happens(&mut self, happening: &Happening) {
        match happening {
            Happening::Meddle(act) => meddle(&mut self.world, &mut self.memory, act),
            Happening::Manifests(shapes) => self.shapes.clone_from(shapes),
            Happening::Moved(at) => _ = self.moved.insert(*at),
            Happening::Frozen(at) => {
                if !self.frozen.remove(at) {
                    self.frozen.insert(*at);
                }
            }
            Happening::Incomplete(complete) => self.complete = *complete,
            Happening::Suspend(at) => self.command(&Command::Suspend(Some(self.id(*at)), ofop::model::Term::default())),
            Happening::SuspendAll => self.command(&Command::Suspend(None, ofop::model::Term::default())),
            Happening::Resume(at) => self.command(&Command::Resume(Some(self.id(*at)))),
            Happening::ResumeAll => self.command(&Command::Resume(None)),
            Happening::Down(at) => self.command(&Command::Down(self.id(*at))),
            Happening::Adopt(at) => {
                let from = at.is_multiple_of(2).then(|| InstanceName::new("other").unwrap());
                self.command(&Command::Adopt { resource: self.id(*at), from });
            }
            Happening::Confirm => self.command(&Command::Reconcile { confirm_prune: true }),
            Happening::TaskFails(at) => self.tasks(*at, &[TaskState::Failed, TaskState::Preparing]),
            Happening::TasksLoop(at) => {
                let failed = TaskState::Failed;
                self.tasks(*at, &[failed, failed, failed, TaskState::Running]);
            }
            Happening::TasksRun(at) => self.tasks(*at, &[TaskState::Running]),
            Happening::Unavailable(at) => self.says(*at, Availability::Unavailable),
            Happening::Available(at) => self.says(*at, Availability::Available),
            Happening::Coordinator(there) => {
                let id = uuid("COORDINATOR");
                if *there {
                    let kind = CoordinatorProtocol::Opcua.coordinator_type();
                    let record = Record::Asset(asset("COORDINATOR", kind, ""));
                    let found = ofop::model::ObservedRecord { record, owner: None };
                    self.world.records.insert(RecordId::Asset(id.clone()), found);
                    self.world.availability.insert(id.clone(), Availability::Available);
                    let known = DeviceCoordinator { uuid: id, protocol: CoordinatorProtocol::Opcua };
                    self.world.coordinators.insert(uuid("OPC-1"), known);
                } else {
                    self.world.availability.insert(id, Availability::Unavailable);
                    self.world.coordinators.clear();
                }
            }
            Happening::Expiring(at) => {
                let ids: Vec<_> = self.world.records.keys().cloned().collect();
                self.world.expiring.extend(ids.get(at % ids.len().max(1)).cloned());
            }
            Happening::ExpiringNoMore => self.world.expiring.clear(),
            Happening::TagMoves(to) => {
                let digest = format!("sha256:{:064x}", *to);
                self.world.digests.insert("registry/app:latest".into(), digest);
            }
            Happening::Network(there) => {
                if *there {
                    self.world.networks.insert("other-net".into());
                } else {
                    self.world.networks.remove("other-net");
                }
            }
            Happening::Sight { platform, registry } => self.sight = (*platform, *registry),
            Happening::Doubt(doubt) => self.doubt = *doubt,
            Happening::StandsIn(stands_in) => self.stands_in = *stands_in,
            Happening::Policy(policy) => self.policy = *policy,
            Happening::Time(seconds) => self.world.now += Duration::from_secs(*seconds),
        }
    }

    fn says(&mut self, at: usize, availability: Availability) {
        let uuid = self.id(at).uuid;
        self.world.availability.insert(uuid, availability);
    }

    fn policy(&self) -> Policy {
        match self.policy {
            0 | 1 => policy(),
            2 => Policy { scope: Some(BTreeSet::from([app_id("A"), app_id("B")])), ..policy() },
            _ => Policy { instance: InstanceName::new("other").unwrap(), ..policy() },
        }
    }

    fn observe(&mut self) -> Observed {
        self.world.platform_complete = self.sight.0 == Sight::Whole;
        self.world.registry_complete = self.sight.1 == Sight::Whole;
        let mut observed = self.world.observe();
        observed.registry_stands_in = self.stands_in;
        if self.sight.0 == Sight::None {
            observed.platform = None;
        }
        match &mut observed.registry {
            Some(_) if self.sight.1 == Sight::None => observed.registry = None,
            Some(registry) if self.doubt => {
                let doubt = Doubt { reason: DoubtReason::Partial, message: "rows are missing".into(), lasting: false };
                Arc::make_mut(registry).evidence = Evidence { doubt: Some(doubt), ..Evidence::default() };
            }
            Some(_) | None => {}
        }
        observed
    }

    /// A report that hears of what was looked at says the same as one that hears of everything.
    fn report(&mut self, wanted: Desired, observed: &Observed, plan: &Plan) {
        let blind = self.stands_in && self.sight == (Sight::None, Sight::None);
        let wanted = Arc::new(wanted);
        let place =
            SourcePlace { kind: SourceKind::Directory, location: "/desired".into(), branch: None, path: "".into() };
        let tell = |report: &Report, plan: Arc<Plan>| {
            report.pass(&Pass {
                wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000) + observed.at,
                took: Duration::from_millis(3),
                desired: &wanted,
                observed,
                plan: (!blind).then_some(&plan),
                retries: &BTreeMap::new(),
                source: SourceView { place: &place, read_ago: None },
                source_error: None,
                platform_error: observed.platform.is_none().then_some("no answer"),
                registry_error: observed.registry.is_none().then_some("no answer"),
                notes_error: None,
                notes_unsaved: 0,
            });
        };
        tell(&self.reports.0, Arc::new(plan.clone()));
        tell(&self.reports.1, Arc::new(Plan { examined: Examined::Everything, ..plan.clone() }));
        let status = |report: &Report| serde_json::to_string_pretty(&*report.status()).unwrap();
        assert_eq!(status(&self.reports.0), status(&self.reports.1));
        assert_eq!(self.reports.0.metrics(), self.reports.1.metrics());
    }

    /// One pass, with the law.
    fn pass(&mut self, takes_steps: bool) -> Examined {
        let (wanted, policy) = (self.desired(), self.policy());
        let observed = self.observe();
        self.memory.recall(&observed);
        let plan = plan(&wanted, &observed, &policy, &self.memory);
        same_as_from_nothing(&plan, &wanted, &observed, &policy, &self.memory);
        self.memory.learn(&wanted, &observed, &plan);
        self.report(wanted, &observed, &plan);
        for (id, resource) in plan.resources.iter().filter(|_| takes_steps) {
            for step in &resource.steps {
                let outcome = self.world.apply(&step.step);
                self.memory.step_done(&policy, id, step, &outcome, self.world.now);
                if outcome.is_err() {
                    break;
                }
            }
        }
        self.world.note(&mut self.memory);
        self.world.tick();
        plan.examined
    }
}

/// How many histories: more of them by hand, `OFOP_PLAN_HISTORIES=20000 cargo test --release --test plan incremental`.
fn histories() -> u32 {
    std::env::var("OFOP_PLAN_HISTORIES").map_or(256, |number| number.parse().unwrap())
}

proptest::proptest! {
    #![proptest_config(Config { cases: histories(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_plan_that_looks_at_what_changed_equals_one_that_looks_at_everything(
        shapes in shapes(),
        happenings in vec((vec(happening(), 0..3), 0..4_u8), 1..14),
    ) {
        let mut history = History::begin(shapes);
        for (happenings, passes) in &happenings {
            for happening in happenings {
                history.happens(happening);
            }
            // Two operators' passes in a row, some without a step: a standby takes none.
            for pass in 0..=*passes {
                history.pass(pass < 3);
            }
        }
    }
}

#[test]
fn a_plan_looks_only_at_what_has_changed() {
    let apps: Vec<String> = (0..50).map(|at| format!("APP-{at}")).collect();
    let wanted = desired(apps.iter().map(|id| app(id, |_| {})));
    let (mut world, mut memory) = (World::default(), Memory::default());
    world.converge(&wanted, &policy(), &mut memory);
    world.now += policy().expectation;
    for _ in 0..2 {
        world.pass(&wanted, &policy(), &mut memory);
    }
    let examined = |world: &mut World, memory: &mut Memory, wanted: &Desired| {
        let plan = world.pass(wanted, &policy(), memory);
        match plan.examined {
            Examined::Only(ids) => ids,
            Examined::Everything => panic!("everything was looked at"),
        }
    };
    assert_eq!(examined(&mut world, &mut memory, &wanted), BTreeSet::new());

    world.edit("app-7", |service| service.spec_mut().replicas = 4);
    assert_eq!(examined(&mut world, &mut memory, &wanted), BTreeSet::from([app_id("APP-7")]));

    let mut other = wanted.clone();
    other.resources.remove(&app_id("APP-9"));
    other.resources.insert(app_id("APP-3"), Arc::new(app("APP-3", |spec| spec.image = "registry/app:2".into())));
    let seen = examined(&mut world, &mut memory, &other);
    assert!(seen.is_superset(&BTreeSet::from([app_id("APP-3"), app_id("APP-9")])) && seen.len() <= 3, "{seen:?}");
}

#[test]
fn histories_of_the_property_reach_what_they_speak_of() {
    let mut history = History::begin(BTreeMap::new());
    history.happens(&Happening::Coordinator(true));
    for _ in 0..12 {
        history.pass(true);
    }
    let rest = |history: &History, id: &ResourceId| !history.memory.restless.contains(id);
    let (follower, coordinated) = (app_id("FOLLOWER"), ResourceId::device(uuid("OPC-1")));
    assert!(rest(&history, &follower) && rest(&history, &coordinated), "{:?}", history.memory.restless);
    assert!(matches!(history.pass(true), Examined::Only(_)));

    history.happens(&Happening::TagMoves(1));
    history.pass(false);
    assert!(!rest(&history, &follower));
    history.happens(&Happening::Coordinator(false));
    history.pass(false);
    assert!(!rest(&history, &coordinated));
}
