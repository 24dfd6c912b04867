//! Two operators of one instance: on three managers while the holder, its manager or its engine fails, and on one quiet
//! engine with manifests that differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ofop::testing::Rng;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::engine::{IDLE, IDLE_2, TestEngine};
use crate::gate::Gate;
use crate::ledger::Ledger;
use crate::operator::Operator;
use crate::world::Manifests;
use crate::{alone, is_idle, number, percentile, seed, tail};

/// How long anything may take to be well again after a fault, and to be taken over.
const PATIENCE: Duration = Duration::from_secs(240);

/// The lease of these operators: short, so that a round takes seconds.
const LEASE: Duration = Duration::from_secs(6);

/// The manager that a person uses; the operators have one each of the others.
const PERSON: usize = 2;

/// What happens to the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// It dies at once, and is started again.
    Killed,
    /// It stands still for longer than its lease, and goes on as if nothing had been.
    Frozen,
    /// It is stopped cleanly and started again, as for an upgrade.
    Upgraded,
    /// Its manager is cut off from the others for a while, and answers of the past.
    CutOff,
    /// Two of three managers stand still for longer than the lease: nobody can write.
    QuorumFrozen,
    /// The engine of its manager dies, and comes back.
    EngineKilled,
    /// A person takes the lease with `apply --take-over`.
    TakenOver,
}

const FAULTS: [Fault; 7] = [
    Fault::Killed,
    Fault::Frozen,
    Fault::Upgraded,
    Fault::CutOff,
    Fault::QuorumFrozen,
    Fault::EngineKilled,
    Fault::TakenOver,
];

/// An operator and its present process.
struct Side {
    manager: usize,
    ofop: Operator,
    sender: usize,
}

impl Side {
    fn new(manager: usize) -> Side {
        let mut ofop = Operator::new("");
        let lease = LEASE.as_secs();
        ofop.set("OFOP_LEASE", &format!("{lease}s"));
        ofop.set("OFOP_LEASE_RENEW", &format!("{}s", lease / 3));
        ofop.set("OFOP_PRUNE_GUARD_COUNT", "1000");
        // Nothing of this runs anywhere, so that no successor could be waited for.
        ofop.set("OFOP_PRUNE_LAST", "false");
        Side { manager, ofop, sender: usize::MAX }
    }

    /// A proxy for the next process.
    fn enters(&mut self, engine: &Path, dir: &Path, ledger: &Ledger, sender: usize) {
        let gate = Gate::entering(engine, &dir.join(format!("g{sender}.sock")), ledger, sender);
        self.ofop.set("DOCKER_HOST", &gate.host());
        self.sender = sender;
    }

    fn desired(&self) -> PathBuf {
        self.ofop.folder().join("desired")
    }
}

struct Duel {
    cluster: Cluster,
    ledger: Ledger,
    sides: [Side; 2],
    person: Side,
    senders: usize,
    world: Manifests,
    rng: Rng,
}

impl Duel {
    fn start(seed: u64) -> Duel {
        let cluster = Cluster::start();
        let mut duel = Duel {
            cluster,
            ledger: Ledger::default(),
            sides: [0, 1].map(Side::new),
            person: Side::new(PERSON),
            senders: 0,
            world: Manifests::new(seed),
            rng: Rng::new(seed ^ 5),
        };
        let folders = duel.folders();
        for _ in 0..25 {
            duel.world.add(&paths(&folders));
        }
        duel.world.make_strangers(&duel.cluster);
        duel.launch(0);
        duel.launch(1);
        duel.settle("the start");
        duel
    }

    fn folders(&self) -> [PathBuf; 3] {
        [self.sides[0].desired(), self.sides[1].desired(), self.person.desired()]
    }

    /// Starts an operator, behind a proxy of its own.
    fn launch(&mut self, side: usize) {
        self.senders += 1;
        let one = &mut self.sides[side];
        one.enters(&self.cluster.socket(one.manager), self.cluster.dir(), &self.ledger, self.senders);
        one.ofop.start();
    }

    fn act(&mut self, count: u64) {
        let folders = self.folders();
        for _ in 0..count {
            self.world.act(&paths(&folders), &self.cluster);
            std::thread::sleep(Duration::from_millis(self.rng.below(50)));
        }
    }

    /// Many changes at once, and a moment for the holder to be at work on them.
    fn burst(&mut self) {
        let folders = self.folders();
        for _ in 0..15 {
            self.world.act(&paths(&folders), &self.cluster);
        }
        std::thread::sleep(Duration::from_millis(self.rng.below(400)));
    }

    /// Which side holds the lease.
    fn holder(&self) -> Option<usize> {
        let (sender, lease) = self.ledger.lease()?;
        self.sides.iter().position(|side| side.sender == sender && !lease.holder.is_empty())
    }

    fn epoch(&self) -> u64 {
        self.ledger.lease().map_or(0, |(_, lease)| lease.epoch)
    }

    /// Waits until somebody takes the lease under a higher epoch; when that was.
    fn taken(&self, fault: Fault, epoch: u64) -> Instant {
        let began = Instant::now();
        loop {
            if let Some((_, at)) = self.ledger.taken_after(epoch) {
                return at;
            }
            assert!(began.elapsed() < PATIENCE, "seed {}: nobody takes over after {fault:?}\n{}", seed(), self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the swarm has its managers, one operator holds the lease and the other knows, and all is as described
    /// with nothing to do. Then nothing may have been made anew without a reason or be written without one, and no call may
    /// have been stale.
    fn settle(&mut self, after: &str) {
        self.cluster.has_quorum();
        let began = Instant::now();
        loop {
            let wrong = self.world.wrong(&self.cluster);
            let told = self.holder().map(|holder| (self.told(holder), self.leads(1 - holder)));
            if wrong.is_empty() && told == Some((true, Some(0.0))) {
                break;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "seed {}, after {after}: not well again within {} s: {told:?} {wrong:?}\n{}",
                seed(),
                PATIENCE.as_secs(),
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        let again = self.world.settled(&self.cluster);
        assert!(again.is_empty(), "seed {}, after {after}: {again:?}\n{}", seed(), self.logs());
        let since = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
        let written = self.ledger.changes_since(since);
        assert!(written.is_empty(), "seed {}, after {after}: written without a reason: {written:?}", seed());
        let stale = self.ledger.stale();
        assert!(stale.is_empty(), "seed {}, after {after}: stale calls: {stale:#?}\n{}", seed(), self.logs());
    }

    fn leads(&self, side: usize) -> Option<f64> {
        self.sides[side].ofop.metric("ofop_leader ")
    }

    /// Whether the holder has everything in sync and nothing to do.
    fn told(&self, holder: usize) -> bool {
        self.leads(holder) == Some(1.0) && is_idle(&self.sides[holder].ofop, &self.world)
    }

    fn logs(&self) -> String {
        self.sides.iter().map(|side| format!("process {}:\n{}\n", side.sender, tail(&side.ofop.log()))).collect()
    }

    /// A fault, and all well again; from the fault (or, for a swarm that nobody can write to, from its end) until the lease
    /// was held again.
    fn round(&mut self, fault: Fault) -> Duration {
        self.act(4);
        let holder = self.holder().expect("one of them holds the lease when all is well");
        let (manager, epoch) = (self.sides[holder].manager, self.epoch());
        let mut since = Instant::now();
        let taken = match fault {
            Fault::Killed => {
                self.burst();
                since = Instant::now();
                self.sides[holder].ofop.kill();
                self.act(4);
                let taken = self.taken(fault, epoch);
                self.launch(holder);
                taken
            }
            Fault::Frozen => {
                // In the middle of its work, which is out of date when it wakes.
                self.burst();
                since = Instant::now();
                self.sides[holder].ofop.freeze(true);
                self.act(4);
                let taken = self.taken(fault, epoch);
                // It wakes while the other one is at work, or later.
                std::thread::sleep(Duration::from_millis(self.rng.below(1_500)));
                self.sides[holder].ofop.freeze(false);
                self.act(2);
                taken
            }
            Fault::Upgraded => {
                let sender = self.sides[holder].sender;
                assert_eq!(self.sides[holder].ofop.signal("TERM"), Some(0));
                let calls = self.ledger.calls();
                let handed_back = calls.iter().rev().find(|call| call.sender == sender).and_then(|it| it.lease.clone());
                let handed_back = handed_back.is_some_and(|lease| lease.holder.is_empty());
                assert!(handed_back, "seed {}: the lease was not handed back at the end\n{}", seed(), self.logs());
                let taken = self.taken(fault, epoch);
                self.launch(holder);
                taken
            }
            Fault::CutOff => {
                self.cluster.link(manager, false);
                self.act(4);
                let taken = self.taken(fault, epoch);
                std::thread::sleep(Duration::from_millis(self.rng.below(2_000)));
                self.cluster.link(manager, true);
                taken
            }
            Fault::QuorumFrozen => {
                let frozen = [PERSON, usize::try_from(self.rng.below(2)).unwrap()];
                for manager in frozen {
                    self.cluster.engine_freeze(manager, true);
                }
                // By hand nothing can be done either; the manifests go on.
                let folders = self.folders();
                for _ in 0..2 {
                    self.world.add(&paths(&folders));
                }
                std::thread::sleep(LEASE + Duration::from_millis(500 + self.rng.below(3_000)));
                since = Instant::now();
                for manager in frozen {
                    self.cluster.engine_freeze(manager, false);
                }
                self.taken(fault, epoch)
            }
            Fault::EngineKilled => {
                self.cluster.engine_kill(manager);
                self.act(4);
                let taken = self.taken(fault, epoch);
                self.cluster.engine_start(manager);
                taken
            }
            Fault::TakenOver => self.take_over(since),
        };
        self.settle(&format!("{fault:?}"));
        taken.saturating_duration_since(since)
    }

    /// A person deploys an app that the daemons get to know afterwards; when its service was asked for.
    fn take_over(&mut self, since: Instant) -> Instant {
        self.senders += 1;
        self.person.enters(&self.cluster.socket(PERSON), self.cluster.dir(), &self.ledger, self.senders);
        let name = self.world.add(&[&self.person.desired()]);
        let ran = self.person.ofop.run(&["apply", "--take-over"]);
        assert!(matches!(ran.code, Some(0)), "seed {}: {ran:?}\n{}", seed(), self.logs());
        self.world.write(&name, &[&self.sides[0].desired(), &self.sides[1].desired()]);
        let asked = self.ledger.changes_since(since).into_iter().find(|call| call.sender == self.person.sender);
        asked.unwrap_or_else(|| panic!("the app is new: {ran:?}")).at
    }
}

fn paths(folders: &[PathBuf]) -> Vec<&Path> {
    folders.iter().map(PathBuf::as_path).collect()
}

/// The first faults of the list, or as many rounds as `OFOP_CHAOS_ROUNDS` says: each fault equally often.
#[test]
fn of_two_operators_on_three_managers_one_works_whatever_fails_and_nobody_writes_without_the_lease() {
    let _alone = alone();
    let (seed, rounds) = (seed(), number("OFOP_CHAOS_ROUNDS", 4));
    println!("OFOP_CHAOS_SEED={seed} OFOP_CHAOS_ROUNDS={rounds}");
    let began = Instant::now();
    let mut duel = Duel::start(seed);
    let mut took: BTreeMap<Fault, Vec<Duration>> = BTreeMap::new();
    let mut faults: Vec<Fault> = FAULTS.to_vec();
    for number in 0..usize::try_from(rounds).unwrap() {
        let place = number % FAULTS.len();
        if number >= FAULTS.len() && place == 0 {
            for last in (1..faults.len()).rev() {
                faults.swap(last, usize::try_from(duel.rng.below(last as u64 + 1)).unwrap());
            }
        }
        let fault = faults[place];
        let time = duel.round(fault);
        println!("{:>4} s, round {}: {fault:?}: taken over after {time:?}", began.elapsed().as_secs(), number + 1);
        took.entry(fault).or_default().push(time);
    }
    let (calls, leases) = duel.ledger.counts();
    println!(
        "{rounds} rounds in {} s, {} operations, {calls} calls and {leases} writes of the lease by {} processes: \
              0 duplicates, 0 wrong removals, 0 stale calls",
        began.elapsed().as_secs(),
        duel.world.operations(),
        duel.senders
    );
    for (fault, mut times) in took {
        times.sort();
        let [half, most, longest] = [50, 99, 100].map(|percent| percentile(&times, percent));
        println!("taken over after {fault:?}: {} times, p50 {half:?}, p99 {most:?}, longest {longest:?}", times.len());
    }
}

/// `OFOP_CHAOS_SECONDS` makes it longer.
#[test]
fn two_daemons_with_manifests_that_differ_write_no_more_than_one_does() {
    let seconds = number("OFOP_CHAOS_SECONDS", 20);
    let engine = TestEngine::swarm();
    let ledger = Ledger::default();
    let app = |name: &str, image: &str, mode: u64| {
        format!(
            "apps:\n  {name}:\n    uuid: {}\n    image: {image}\n    environment: [MODE={mode}]\n    networks: \
             [factory-net]\n    deploy: {{placement: {{constraints: ['node.labels.none == x']}}}}\n",
            name.to_uppercase()
        )
    };
    let [mut one, mut other] = [0, 1].map(Side::new);
    for (number, side) in [&mut one, &mut other].into_iter().enumerate() {
        side.enters(&engine.socket(), engine.dir(), &ledger, number);
    }
    // An old checkout beside the new one: images that differ, an app more and an app less.
    for (side, image, names) in [(&one, IDLE, ["press", "mill", "lathe"]), (&other, IDLE_2, ["press", "mill", "saw"])] {
        for name in names {
            side.ofop.write(&format!("{name}.yml"), &app(name, image, 0));
        }
    }
    let modes = || -> BTreeMap<String, String> {
        let services = engine.get("/services");
        let spec = |it: &Value| it["Spec"].clone();
        let mode = |spec: &Value| spec["TaskTemplate"]["ContainerSpec"]["Env"].to_string();
        let name = |spec: &Value| spec["Name"].as_str().unwrap_or_default().to_owned();
        services.as_array().unwrap().iter().map(spec).map(|spec| (name(&spec), mode(&spec))).collect()
    };
    one.ofop.start();
    one.ofop.wait("the apps are there", || modes().len() == 3);
    other.ofop.start();
    other.ofop.wait("the second daemon is a standby", || other.ofop.metric("ofop_leader ") == Some(0.0));
    let began = Instant::now();
    let mut edits = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        edits += 1;
        one.ofop.write("press.yml", &app("press", IDLE, edits));
        other.ofop.write("mill.yml", &app("mill", IDLE_2, edits));
        one.ofop.wait("the edit is there", || modes()["press"].contains(&format!("MODE={edits}")));
        std::thread::sleep(Duration::from_secs(3));
    }
    let calls = ledger.calls();
    let by = |sender: usize| calls.iter().filter(move |call| call.sender == sender);
    assert_eq!(by(1).count(), 0, "the standby asks for nothing: {:?}", by(1).collect::<Vec<_>>());
    let changes: Vec<_> = by(0).filter(|call| call.is_of_services()).collect();
    println!(
        "{} changes to services in {seconds} s, {} writes of the lease",
        changes.len(),
        by(0).filter(|call| call.lease.is_some()).count()
    );
    assert_eq!(changes.len() as u64, 3 + edits, "three made, and each edit once: {changes:#?}");
    assert_eq!(ledger.stale(), [""; 0]);
    let says = other.ofop.try_get("/").unwrap_or_default();
    assert!(other.ofop.log().contains("is a standby") && says.contains("this operator is a standby"), "{says}");
}
