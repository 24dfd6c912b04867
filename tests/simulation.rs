//! The real loop in a world where everything goes wrong, over and over: each seed draws a schedule of edits,
//! foreign hands, faults and crashes, and in the end everything must be as described.
//!
//! `OFOP_SIM_SEEDS=N` runs N schedules instead of the default, `OFOP_SIM_SEED=S` the one with this seed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ofop::model::record::{AssetRecord, CoordinatorProtocol};
use ofop::model::{AssetUuid, Command, Mark, Record, RecordId, ResourceId, StepVerb};
use ofop::testing::{FakeSwarm, Faults, Operator, Rng, World, app};
use tokio::time::sleep;

/// Schedules in one run of the tests, about half a minute of a debug build; a night takes a million.
const SCHEDULES: u64 = 300;

/// Once nothing goes wrong any more, everything is as described within this time: the longest backoff, and the
/// tasks and rows that a removal then waits for.
const CONVERGES_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Always described, so that no schedule runs into the prune guard.
const ANCHOR: &str = "ANCHOR";
const APPS: [&str; 4] = ["ALPHA", "BETA", "GAMMA", "DELTA"];
const DEVICE: &str = "CNC-1";

fn id(uuid: &str) -> ResourceId {
    ResourceId::app(asset(uuid))
}

fn device(port: u64) -> String {
    format!(
        "devices:\n  cnc:\n    uuid: {DEVICE}\n    connector:\n      type: mtconnect\n      agent:\n        ip: 10.0.0.7\n        port: {port}\n"
    )
}

/// A device without a service, and the coordinator that serves it.
const COORDINATED: &str = "SHDR-1";
const COORDINATOR: &str = "COORD";

fn coordinated(port: u64) -> String {
    format!(
        "devices:\n  s:\n    uuid: {COORDINATED}\n    connector:\n      type: shdr\n      host: 10.0.0.9\n      port: {port}\n      data:\n        temp: {{tag: Temperature, type: Samples}}\n"
    )
}

fn asset(text: &str) -> AssetUuid {
    AssetUuid::new(text).unwrap()
}

struct Schedule {
    world: World,
    operator: Option<Operator>,
    rng: Rng,
    story: Vec<String>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        // So few resources come and go all the time here.
        world.options.policy.guard.fraction = 1.0;
        let mut rng = Rng::new(seed);
        world.registry.lag(Duration::from_millis(rng.below(5_000)));
        if rng.chance(30) {
            world.registry.slow(Duration::from_millis(rng.below(6_000)));
        }
        world.swarm.latency(Duration::from_millis(rng.below(300)));
        Schedule { world, operator: None, rng, story: Vec::new() }
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    fn manifest(&mut self, uuid: &str) -> String {
        let image = format!("example/app:{}", self.rng.below(4));
        let mut more = String::new();
        if self.rng.chance(40) {
            more.push_str(&format!("    environment: [MODE={}]\n", self.rng.below(3)));
        }
        if self.rng.chance(30) {
            more.push_str(&format!("    deploy: {{replicas: {}}}\n", 1 + self.rng.below(3)));
        }
        if self.rng.chance(20) {
            more.push_str("    networks: [factory-net]\n");
        }
        let settings = match self.rng.below(20) {
            0 | 1 => "x-ofop: {ignore: [replicas]}\n",
            2 | 3 => "x-ofop: {prune: false}\n",
            4 => "x-ofop: {suspend: true}\n",
            _ => "",
        };
        app(uuid, &image, &more) + settings
    }

    fn some_app(&mut self) -> &'static str {
        self.rng.pick(&APPS).copied().unwrap_or(APPS[0])
    }

    /// One thing happens.
    async fn act(&mut self) {
        let uuid = self.some_app();
        let (file, name) = (format!("{uuid}.yml"), uuid.to_lowercase());
        match self.rng.below(28) {
            0..=3 => {
                let text = self.manifest(uuid);
                self.tell(format!("write {file}"));
                self.world.source.write(&file, text);
            }
            4 => {
                self.tell(format!("write {file} without a word"));
                let text = self.manifest(uuid);
                self.world.source.write_silently(&file, text);
            }
            5 | 6 => {
                self.tell(format!("delete {file}"));
                self.world.source.remove(&file);
            }
            7 => {
                self.tell(format!("break {file}"));
                self.world.source.write(&file, "apps:\n  x:\n    uuid: [");
            }
            8 => {
                let text = device(5000 + self.rng.below(3));
                self.tell("write the device");
                self.world.source.write("device.yml", text);
            }
            9 => {
                self.tell("delete the device");
                self.world.source.remove("device.yml");
            }
            10 => {
                self.tell(format!("somebody removes {name}"));
                if self.rng.chance(50) {
                    self.world.swarm.remove(&name)
                } else {
                    self.world.swarm.remove_silently(&name)
                }
            }
            11 => {
                self.tell(format!("somebody edits {name}"));
                let replicas = self.rng.below(4);
                self.world.swarm.edit(&name, |service| {
                    service.spec.replicas = replicas;
                    service.spec.image = "somebody/elses:1".into();
                });
            }
            12 => {
                let record = RecordId::Asset(asset(ANCHOR));
                if self.world.registry.records().contains_key(&record) {
                    self.tell("somebody strips the anchor's labels");
                    self.world.swarm.edit("anchor", |service| service.mark = None);
                }
            }
            13 => {
                self.tell(format!("somebody erases asset {uuid}"));
                self.world.registry.erase(&RecordId::Asset(asset(uuid)));
            }
            14 => {
                let pause = self.rng.below(40_000);
                self.tell(format!("no leader for {pause} ms"));
                self.world.swarm.leader(false);
                sleep(Duration::from_millis(pause)).await;
                self.world.swarm.leader(true);
            }
            15 => {
                let pause = self.rng.below(60_000);
                self.tell(format!("no registry for {pause} ms"));
                self.world.registry.down(true);
                sleep(Duration::from_millis(pause)).await;
                self.world.registry.down(false);
            }
            16 => {
                self.tell("the source is away for a while");
                self.world.source.fail(Some("out of reach"));
                sleep(Duration::from_millis(self.rng.below(60_000))).await;
                self.world.source.fail(None);
            }
            17 => {
                self.tell("a network comes and goes");
                self.world.swarm.network("factory-net", false);
                sleep(Duration::from_millis(self.rng.below(20_000))).await;
                self.world.swarm.network("factory-net", true);
            }
            18 | 19 => {
                let text = coordinated(7878 + self.rng.below(3));
                self.tell("write the coordinated device");
                self.world.source.write("coordinated.yml", text);
            }
            20 => {
                self.tell("delete the coordinated device");
                self.world.source.remove("coordinated.yml");
            }
            21 => {
                let forgets = self.rng.chance(50);
                self.tell(format!("the coordinator restarts, and forgets: {forgets}"));
                self.world.registry.coordinator_stops(&asset(COORDINATOR));
                sleep(Duration::from_millis(self.rng.below(30_000))).await;
                self.world.registry.coordinator_starts(&asset(COORDINATOR), forgets);
            }
            22..=24 => {
                let about = self.rng.chance(70).then(|| id(uuid));
                let (word, command) = match (self.rng.chance(50), self.rng.chance(30), &about) {
                    (true, true, Some(one)) => ("takes down", Command::Down(one.clone())),
                    (true, _, _) => ("suspends", Command::Suspend(about.clone(), ofop::model::Term::default())),
                    (false, _, _) => ("resumes", Command::Resume(about.clone())),
                };
                self.tell(format!("a person {word} {about:?}"));
                if let Some(operator) = &self.operator {
                    operator.tell(command).await;
                }
            }
            25 => {
                self.tell("somebody throws the notes away");
                self.world.swarm.lose_notes();
            }
            _ => self.crash().await,
        }
    }

    /// What a person says last holds over a crash, whatever became of what was said before.
    async fn last_word(&mut self) {
        let about = self.rng.chance(50).then(|| id(ANCHOR));
        self.tell(format!("at last a person suspends {about:?}"));
        let Some(operator) = self.operator.take() else { return };
        operator.tell(Command::Suspend(about.clone(), ofop::model::Term::default())).await;
        sleep(Duration::from_millis(self.rng.below(3_000))).await;
        sleep(Duration::from_secs(2)).await;
        if self.rng.chance(50) {
            operator.crash().await
        } else {
            assert!(operator.stop().await)
        }
        let key = about.as_ref().map_or("suspended".to_owned(), |id| format!("suspended/{id}"));
        // What a rollout changed last is noted until it ran for a while.
        let lasting = self.world.swarm.notes().into_keys().filter(|key| !key.starts_with("going/"));
        assert_eq!(lasting.collect::<Vec<_>>(), [key], "notes");
        self.world.swarm.edit("anchor", |service| service.spec.replicas = 9);
        let operator = self.world.start();
        sleep(Duration::from_secs(120)).await;
        assert_eq!(self.world.swarm.service("anchor").unwrap().spec.replicas, 9, "suspended before the crash");
        operator.tell(Command::Resume(about)).await;
        assert_eq!(
            self.world.settle(CONVERGES_WITHIN).await,
            Vec::<String>::new(),
            "not converged after the last word"
        );
        sleep(Duration::from_secs(60)).await;
        assert!(self.world.swarm.notes().is_empty(), "notes");
        self.operator = Some(operator);
    }

    /// The operator dies, right now or after its next calls, and another starts sooner or later.
    async fn crash(&mut self) {
        let Some(operator) = self.operator.take() else { return };
        let more = self.rng.below(4);
        let reach = self.world.writes() + usize::try_from(more).unwrap();
        tokio::select! {
            () = self.world.writes_reach(reach) => {}
            () = sleep(Duration::from_secs(30)) => {}
        }
        sleep(Duration::from_millis(self.rng.below(300))).await;
        operator.crash().await;
        let pause = self.rng.below(10_000);
        self.tell(format!("crash at write {}, back after {pause} ms", self.world.writes()));
        sleep(Duration::from_millis(pause)).await;
        self.operator = Some(self.world.start());
    }

    async fn run(&mut self) {
        let theirs = Mark {
            instance: ofop::model::InstanceName::new("somebody-else").unwrap(),
            resource: "app/ALPHA".parse().unwrap(),
            spec: ofop::model::SpecHash("x".into()),
            revision: ofop::model::Revision("x".into()),
            origin: "x:1".into(),
            kept: Some(false),
            terms: ofop::model::RemovalTerms::default(),
            options: Vec::new(),
            run: None,
        };
        self.world.swarm.deploy(FakeSwarm::stranger("bystander"), None);
        self.world.swarm.deploy(FakeSwarm::stranger("bystander-2"), Some(theirs));
        let strangers: BTreeMap<_, _> =
            self.world.swarm.services().into_iter().map(|service| (service.id.clone(), service)).collect();

        let coordinator = AssetRecord {
            uuid: asset(COORDINATOR),
            asset_type: CoordinatorProtocol::Shdr.coordinator_type().into(),
            docker_service: "coord".into(),
            references_above: Vec::new(),
            references_below: Vec::new(),
            uns: None,
            attributes: Vec::new(),
        };
        self.world.registry.write(Record::Asset(coordinator), None);
        self.world.registry.coordinator_starts(&asset(COORDINATOR), false);

        self.world.source.write("anchor.yml", app(ANCHOR, "example/app:1", ""));
        for uuid in APPS {
            if self.rng.chance(50) {
                let text = self.manifest(uuid);
                self.world.source.write(&format!("{uuid}.yml"), text);
            }
        }
        let storm = if self.rng.chance(70) { Faults::STORM } else { Faults::default() };
        self.world.swarm.faults(storm);
        self.world.registry.faults(storm);
        self.operator = Some(self.world.start());
        for _ in 0..4 + self.rng.below(10) {
            sleep(Duration::from_millis(self.rng.below(20_000))).await;
            self.act().await;
        }

        // From here on nothing goes wrong any more.
        self.world.swarm.faults(Faults::default());
        self.world.registry.faults(Faults::default());
        for path in self.world.source.paths() {
            let broken = self.world.source.text(&path).is_some_and(|text| text.contains('['));
            if broken && !["device.yml", "coordinated.yml"].contains(&path.as_str()) {
                let text = self.manifest(path.trim_end_matches(".yml"));
                self.world.source.write(&path, text);
            }
        }
        if let Some(operator) = &self.operator {
            for about in APPS.into_iter().map(|uuid| Some(id(uuid))).chain([None]) {
                operator.tell(Command::Resume(about)).await;
            }
            // A schedule may have removed most of a small world at once: a person agrees.
            operator.tell(Command::Reconcile { confirm_prune: true }).await;
        }
        // What was lost on its way may still arrive.
        sleep(Duration::from_secs(30)).await;
        let left = self.world.settle(CONVERGES_WITHIN).await;
        assert_eq!(left, Vec::<String>::new(), "not converged");

        self.last_word().await;

        // And stays there.
        sleep(Duration::from_secs(60)).await;
        let still_since = self.world.began.elapsed();
        sleep(Duration::from_secs(600)).await;
        let calls = self.world.swarm.calls().into_iter().chain(self.world.registry.calls());
        let late: Vec<_> = calls.filter(|call| call.at > still_since).collect();
        assert_eq!(late, Vec::new(), "writes although nothing differs");
        assert_eq!(self.world.differences().await, Vec::<String>::new());

        for (id, stranger) in &strangers {
            let now = self.world.swarm.services().into_iter().find(|service| service.id == *id);
            assert_eq!(now.as_ref(), Some(stranger), "a stranger's service was touched");
        }
        for call in self.world.swarm.calls().into_iter().chain(self.world.registry.calls()) {
            let destructive = matches!(call.verb, StepVerb::Remove | StepVerb::Deregister | StepVerb::Forget);
            assert!(call.sound || !destructive, "something was taken away on an incomplete read: {call:?}");
        }
        if let Some(operator) = &self.operator {
            let status = operator.report.status();
            assert!(status.resources.iter().all(|resource| resource.pending_steps == 0), "a plan that is not empty");
        }
    }
}

/// Runs one schedule; the account of it when it fails.
fn play(seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let story = std::sync::Mutex::new(Vec::new());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut schedule = Schedule::new(seed);
            let run = std::panic::AssertUnwindSafe(schedule.run());
            let outcome = futures_util::FutureExt::catch_unwind(run).await;
            *story.lock().unwrap() = schedule.story;
            outcome
        })
    }));
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(panic)) | Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            Err(format!("seed {seed}: {text}\nstory: {:#?}", story.into_inner().unwrap()))
        }
    }
}

#[test]
fn promise_2_eventually_stable() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("OFOP_SIM_SEED") {
        play(seed).unwrap_or_else(|account| panic!("{account}"));
        return;
    }
    let schedules = number("OFOP_SIM_SEEDS").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let accounts: Vec<String> = std::thread::scope(|scope| {
        let player = || {
            let mut accounts = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= schedules || accounts.len() >= 3 {
                    return accounts;
                }
                accounts.extend(play(seed).err());
            }
        };
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(player)).collect();
        players.into_iter().flat_map(|player| player.join().unwrap()).collect()
    });
    assert!(accounts.is_empty(), "run one again with OFOP_SIM_SEED=…\n{}", accounts.join("\n\n"));
}
