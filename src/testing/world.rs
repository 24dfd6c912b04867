//! Everything that an operator needs, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{FakeLease, FakeRegistry, FakeSource, FakeSwarm, TestClock};
use crate::compile::Compiler;
use crate::desired::{Loader, LoaderOptions};
use crate::model::service::EnvVar;
use crate::model::{
    Actor, Command, Desired, Field, Handling, InstanceName, OwnedField, PlatformKind, Record, Request, ResourceId,
    RunId, Settings,
};
use crate::plan::Policy;
use crate::reconcile::lease::{Candidate, Keeper, Leadership, Terms};
use crate::reconcile::{self, Options, Parts};
use crate::report::Report;

/// A source, a Swarm and a registry, and how an operator works on them. Operators come and go.
pub struct World {
    /// The manifests.
    pub source: FakeSource,
    /// The Swarm.
    pub swarm: FakeSwarm,
    /// The registry.
    pub registry: FakeRegistry,
    /// How operators behave.
    pub options: Options,
    /// The lease that operators try for; none when each acts as if it were alone.
    pub lease: Option<FakeLease>,
    /// How manifests are compiled.
    pub settings: Settings,
    runs: AtomicU64,
    /// When it began.
    pub began: tokio::time::Instant,
    /// Reads and compiles for whoever judges, apart from any operator.
    judge: tokio::sync::Mutex<(Loader<FakeSource>, Compiler)>,
}

/// An operator at work.
pub struct Operator {
    /// What it says of itself.
    pub report: Report,
    /// Its ears.
    pub commands: mpsc::Sender<Request>,
    /// Its clock.
    pub clock: Arc<TestClock>,
    /// The id of its run, as the lease names it.
    pub run: RunId,
    stop: CancellationToken,
    task: JoinHandle<bool>,
    keeper: Option<Keeper>,
}

/// Parts of an operator made of fakes.
pub type FakeParts = Parts<FakeSource, FakeSwarm, FakeRegistry, TestClock>;

fn loader(source: &FakeSource) -> Loader<FakeSource> {
    Loader::new(source.clone(), LoaderOptions::at_once(PlatformKind::Swarm))
}

impl World {
    /// An empty world, in a tokio runtime. The seed decides everything that is drawn.
    pub fn new(seed: u64) -> Self {
        let instance = InstanceName::new("factory").unwrap_or_else(|error| unreachable!("{error}"));
        // Short, since each story would wait for it again and again.
        let policy = Policy { prune_delay: Duration::from_secs(1), ..Policy::new(instance) };
        let mut options = Options::new(policy);
        options.seed = seed;
        let (source, settings) = (FakeSource::new(), Settings::default());
        World {
            judge: tokio::sync::Mutex::new((loader(&source), Compiler::new(settings.clone()))),
            source,
            swarm: FakeSwarm::new(seed ^ 1),
            registry: FakeRegistry::new(seed ^ 2),
            options,
            lease: None,
            runs: AtomicU64::new(seed << 16),
            settings,
            began: tokio::time::Instant::now(),
        }
    }

    /// A fresh operator's parts, which remember nothing, and the other end of its commands.
    pub fn parts(&self) -> (FakeParts, mpsc::Sender<Request>) {
        let (commands, receiver) = mpsc::channel(8);
        let parts = Parts {
            loader: loader(&self.source),
            compiler: Compiler::new(self.settings.clone()),
            platform: Arc::new(self.swarm.clone()),
            registry: Arc::new(self.registry.clone()),
            clock: Arc::new(TestClock::new()),
            report: Report::new(self.options.policy.instance.clone()),
            commands: Some(receiver),
            leadership: Leadership::alone(),
        };
        (parts, commands)
    }

    /// Starts an operator that remembers nothing.
    pub fn start(&self) -> Operator {
        let (mut parts, commands) = self.parts();
        let stop = CancellationToken::new();
        let (report, clock) = (parts.report.clone(), Arc::clone(&parts.clock));
        let run = RunId::new("host", 1, self.runs.fetch_add(1, Ordering::SeqCst));
        let keeper = self.lease.as_ref().map(|lease| {
            let me = Candidate { run: run.clone(), version: "test".into(), address: None };
            let store = Arc::new(lease.clone());
            Keeper::start(store, Arc::clone(&clock), me, Terms::default(), Some(report.clone()))
        });
        if let Some(keeper) = &keeper {
            parts.leadership = keeper.leadership();
        }
        let task = tokio::spawn(reconcile::run(parts, self.options.clone(), stop.clone()));
        Operator { report, commands, clock, run, stop, task, keeper }
    }

    /// How many writes both sides have met.
    pub fn writes(&self) -> usize {
        self.swarm.writes() + self.registry.writes()
    }

    /// Waits until both sides together have met this many writes; the last one is under way then.
    pub async fn writes_reach(&self, number: usize) {
        let (mut swarm, mut registry) = (self.swarm.watch_writes(), self.registry.watch_writes());
        while self.writes() < number {
            // Neither end can go away: this world holds them.
            tokio::select! {
                _ = swarm.changed() => {}
                _ = registry.changed() => {}
            }
        }
    }

    /// What the manifests mean right now.
    pub async fn desired(&self) -> Arc<Desired> {
        let mut judge = self.judge.lock().await;
        let (loader, compiler) = &mut *judge;
        let parsed = loader.load().await.unwrap_or_default();
        compiler.compile(&parsed)
    }

    /// Everything in which the world differs from what the manifests say, judged without any code that plans:
    /// empty once an operator has converged. What a person took down should not exist.
    pub async fn differences(&self) -> Vec<String> {
        let mut desired = Desired::clone(&*self.desired().await);
        let notes = self.swarm.notes();
        let stays = |id: &ResourceId| !notes.contains_key(&format!("taken-down/{id}"));
        desired.resources = desired.resources.into_iter().filter(|(id, _)| stays(id)).collect();
        let us = &self.options.policy.instance;
        let mut found = Vec::new();
        let mut expected = BTreeMap::new();
        for (id, resource) in &desired.resources {
            for service in &resource.services {
                expected.insert(service.spec.name.clone(), (id, service));
            }
        }
        let may_stay = self.may_stay(&desired);
        let services = self.swarm.services();
        let names: BTreeSet<_> = services.iter().map(|service| &service.spec.name).collect();
        if names.len() != services.len() {
            found.push("two services share a name".into());
        }
        for service in &services {
            let name = &service.spec.name;
            let ours = service.mark.as_ref().is_some_and(|mark| mark.instance == *us);
            match expected.remove(name) {
                Some((id, _)) if desired.resources[id].handling.suspend => {}
                Some((id, wanted)) if ours => {
                    let mut spec = service.spec.clone();
                    if wanted.follow_digest {
                        spec.image = spec.image.split('@').next().unwrap_or_default().to_owned();
                    }
                    if service.mark.as_ref().is_some_and(|mark| mark.resource != *id) {
                        found.push(format!("service {name} is marked for another resource"));
                    }
                    let handling = &desired.resources[id].handling;
                    if handling.ignores(name, &Field::of(OwnedField::Replicas)) {
                        spec.replicas = wanted.spec.replicas;
                        // The variable that repeats them is left alone as well.
                        let repeats = |variable: &&EnvVar| variable.name == "SWARM_REPLICAS";
                        let value = wanted.spec.env.iter().find(repeats).map(|variable| variable.value.clone());
                        let live = spec.env.iter_mut().find(|variable| variable.name == "SWARM_REPLICAS");
                        if let (Some(value), Some(live)) = (value, live) {
                            live.value = value;
                        }
                    }
                    // Options that no manifest sets are other people's.
                    if wanted.spec.options.clone().over(&spec.options) == spec.options {
                        spec.options.clone_from(&wanted.spec.options);
                    }
                    if service.mark.as_ref().is_some_and(|mark| mark.kept != Some(!handling.prune)) {
                        found.push(format!("service {name} does not say whether it stays"));
                    }
                    if spec != *wanted.spec {
                        found.push(format!("service {name} is not as described"));
                    }
                }
                Some(_) => found.push(format!("service {name} is not ours")),
                None if ours && !service.mark.as_ref().is_some_and(|mark| may_stay.contains(&mark.resource)) => {
                    found.push(format!("service {name} should not exist"));
                }
                None => {}
            }
        }
        expected.retain(|_, (id, _)| !desired.resources[*id].handling.suspend);
        found.extend(expected.keys().map(|name| format!("service {name} is missing")));
        self.record_differences(&desired, &may_stay, &mut found);
        found
    }

    /// Resources of which things may be there that are not wanted: those that are suspended, and those of which
    /// something says that they stay, described no longer.
    fn may_stay(&self, desired: &Desired) -> BTreeSet<ResourceId> {
        let services = self.swarm.services();
        let marks = services.iter().filter_map(|service| service.mark.as_ref());
        let records = self.registry.records();
        let owners = records.values().filter_map(|record| record.owner.as_ref());
        let kept = marks
            .filter(|mark| mark.kept == Some(true))
            .map(|mark| &mark.resource)
            .chain(owners.filter(|owner| owner.kept).map(|owner| &owner.resource))
            .filter(|id| !desired.resources.contains_key(*id));
        let suspended = desired.resources.iter().filter(|(_, resource)| resource.handling.suspend).map(|(id, _)| id);
        kept.chain(suspended).cloned().collect()
    }

    fn record_differences(&self, desired: &Desired, may_stay: &BTreeSet<ResourceId>, found: &mut Vec<String>) {
        let us = &self.options.policy.instance;
        let mut expected: BTreeMap<_, (&Arc<Record>, &Handling)> = desired
            .resources
            .values()
            .flat_map(|resource| resource.records.iter().map(move |record| (record.id(), (record, &resource.handling))))
            .collect();
        for (id, record) in self.registry.records() {
            let ours = record.owner.as_ref().is_some_and(|owner| owner.instance == *us);
            let kept = record.owner.as_ref().is_some_and(|owner| owner.kept);
            match expected.remove(&id) {
                Some((_, handling)) if handling.suspend => {}
                Some((wanted, handling)) if ours && record.record == **wanted && kept != handling.prune => {}
                Some(_) => found.push(format!("{id} is not as described")),
                None if ours && !record.owner.as_ref().is_some_and(|owner| may_stay.contains(&owner.resource)) => {
                    found.push(format!("{id} should not exist"));
                }
                None => {}
            }
        }
        expected.retain(|_, (_, handling)| !handling.suspend);
        found.extend(expected.keys().map(|id| format!("{id} is missing")));
        let told: BTreeMap<_, _> = desired
            .resources
            .values()
            .flat_map(|resource| &resource.records)
            .filter_map(|record| match &**record {
                Record::CoordinatorDevice { device, config, .. } => Some((device.clone(), config.clone())),
                Record::Asset(_) | Record::Connector { .. } | Record::MetricsTarget { .. } => None,
            })
            .collect();
        if self.registry.known_to_coordinators() != told {
            found.push("coordinators do not know the devices that are described".into());
        }
    }

    /// Lets time pass until nothing differs any more, at most `limit`; what still differs.
    pub async fn settle(&self, limit: Duration) -> Vec<String> {
        let began = tokio::time::Instant::now();
        loop {
            let differences = self.differences().await;
            if differences.is_empty() || began.elapsed() > limit {
                return differences;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The same, and panics when something still differs after five minutes.
    #[expect(clippy::panic, reason = "a test that cannot go on")]
    pub async fn settled(&self) {
        let differences = self.settle(Duration::from_secs(300)).await;
        if !differences.is_empty() {
            panic!("after five minutes: {differences:#?}\ncalls: {:#?}", self.swarm.calls());
        }
    }
}

impl Operator {
    /// It dies here and now, whatever it was doing.
    pub async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// It is told to stop; whether everything in flight ended in time.
    pub async fn stop(self) -> bool {
        self.stop.cancel();
        let ended = self.task.await.unwrap_or(false);
        if let Some(keeper) = self.keeper.filter(|_| ended) {
            keeper.hand_back(Duration::from_secs(1)).await;
        }
        ended
    }

    /// It takes the lease from whoever holds it.
    pub fn take_over(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.take_over();
        }
    }

    /// Tells it something.
    pub async fn tell(&self, command: Command) {
        // Fails only when the operator is gone, which the test is about to notice.
        let actor = Actor { name: "tester".into(), address: None };
        let _ = self.commands.send(Request { command, actor }).await;
    }
}

/// A manifest with one app. `more` are further lines of the entry, indented by four blanks.
pub fn app(uuid: &str, image: &str, more: &str) -> String {
    format!("apps:\n  {}:\n    uuid: {uuid}\n    image: {image}\n{more}", uuid.to_lowercase())
}
