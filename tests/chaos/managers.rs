//! Three managers and an operator at the first of them, while one or the other fails.

use std::time::{Duration, Instant};

use ofop::testing::Rng;

use crate::cluster::{Cluster, MANAGERS};
use crate::gate::Gate;
use crate::operator::Operator;
use crate::world::Manifests;
use crate::{DEADLINE, alone, is_idle, number, percentile, seed, tail};

/// How long anything may take to be well again after a fault: a call may wait 30 s for an answer and is then tried again.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long somebody is stopped or cut off at most.
const LONGEST: Duration = Duration::from_secs(20);

/// The manager that the operator talks to.
const OWN: usize = 0;

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The manager that leads the swarm dies while services are changed, and comes back.
    LeaderKilled,
    /// Two of three managers stand still for a while: nobody can write.
    QuorumFrozen,
    /// The operator's manager is cut off from the others for a while. It answers, of the past.
    ManagerCutOff,
    /// The engine of the operator's manager dies, and comes back.
    EngineKilled,
    /// The operator dies at once, and is started again.
    OperatorKilled,
    /// The operator stands still, and goes on as if nothing had been.
    OperatorFrozen,
    /// The operator is stopped as for an upgrade, and started again.
    Upgraded,
}

const FAULTS: [Fault; 7] = [
    Fault::LeaderKilled,
    Fault::QuorumFrozen,
    Fault::ManagerCutOff,
    Fault::EngineKilled,
    Fault::OperatorKilled,
    Fault::OperatorFrozen,
    Fault::Upgraded,
];

struct Site {
    cluster: Cluster,
    gate: Gate,
    ofop: Operator,
    world: Manifests,
    rng: Rng,
}

impl Site {
    fn start(seed: u64) -> Site {
        let cluster = Cluster::start();
        let gate = Gate::start(&cluster.socket(OWN), &cluster.dir().join("gate.sock"), seed);
        let mut ofop = Operator::new(&gate.host());
        ofop.set("OFOP_PRUNE_GUARD_COUNT", "1000");
        ofop.set("OFOP_PROGRESS_DEADLINE", DEADLINE);
        let mut site = Site { cluster, gate, ofop, world: Manifests::new(seed), rng: Rng::new(seed ^ 3) };
        let desired = site.ofop.folder().join("desired");
        for _ in 0..30 {
            site.world.add(&[&desired]);
        }
        site.world.make_strangers(&site.cluster);
        site.ofop.start();
        site.settle("the start");
        site
    }

    fn act(&mut self, count: u64) {
        let desired = self.ofop.folder().join("desired");
        for _ in 0..count {
            self.world.act(&[&desired], &self.cluster);
            std::thread::sleep(Duration::from_millis(self.rng.below(50)));
        }
    }

    /// Waits until the swarm has all its managers, all is as described, and the operator has nothing to do; then nothing
    /// may have been made anew without a reason, and nothing more may be written. How long that took, from when the
    /// swarm had its managers.
    fn settle(&mut self, after: &str) -> Duration {
        self.cluster.has_quorum();
        let began = Instant::now();
        let took = loop {
            let wrong = self.world.wrong(&self.cluster);
            let idle = is_idle(&self.ofop, &self.world);
            if wrong.is_empty() && idle {
                break began.elapsed();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "seed {}, after {after}: not well again within {} s: idle {idle}, {wrong:?}\nlog:\n{}",
                seed(),
                PATIENCE.as_secs(),
                tail(&self.ofop.log())
            );
            std::thread::sleep(Duration::from_millis(200));
        };
        let again = self.world.settled(&self.cluster);
        assert!(again.is_empty(), "seed {}, after {after}: {again:?}", seed());
        let since = Instant::now();
        std::thread::sleep(Duration::from_secs(3));
        let written = self.gate.writes_since(since);
        assert!(written.is_empty(), "seed {}, after {after}: written without a reason: {written:?}", seed());
        took
    }

    fn round(&mut self, fault: Fault) -> Duration {
        self.act(6);
        match fault {
            Fault::LeaderKilled => {
                let leader = self.cluster.leader().unwrap_or(MANAGERS - 1);
                self.cluster.engine_kill(leader);
                self.act(6);
                std::thread::sleep(Duration::from_secs(3));
                self.cluster.engine_start(leader);
            }
            Fault::QuorumFrozen => {
                let frozen = [1, 2];
                for manager in frozen {
                    self.cluster.engine_freeze(manager, true);
                }
                // By hand nothing can be done either; the manifests go on.
                let desired = self.ofop.folder().join("desired");
                for _ in 0..4 {
                    self.world.add(&[&desired]);
                }
                std::thread::sleep(
                    Duration::from_secs(3) + LONGEST * u32::try_from(self.rng.below(100)).unwrap() / 100,
                );
                for manager in frozen {
                    self.cluster.engine_freeze(manager, false);
                }
            }
            Fault::ManagerCutOff => {
                self.cluster.link(OWN, false);
                self.act(6);
                std::thread::sleep(LONGEST / 2);
                self.cluster.link(OWN, true);
            }
            Fault::EngineKilled => {
                self.cluster.engine_kill(OWN);
                self.act(6);
                self.cluster.engine_start(OWN);
            }
            Fault::OperatorKilled => {
                self.ofop.kill();
                self.act(6);
                self.ofop.start();
            }
            Fault::OperatorFrozen => {
                self.ofop.freeze(true);
                self.act(6);
                std::thread::sleep(LONGEST);
                self.ofop.freeze(false);
            }
            Fault::Upgraded => {
                assert_eq!(self.ofop.signal("TERM"), Some(0));
                self.ofop.start();
            }
        }
        self.settle(&format!("{fault:?}"))
    }
}

/// Each fault once, or as many rounds as `OFOP_CHAOS_ROUNDS` says.
#[test]
fn whatever_fails_of_three_managers_and_an_operator_all_is_as_described_afterwards() {
    let _alone = alone();
    let (seed, rounds) = (seed(), number("OFOP_CHAOS_ROUNDS", 3));
    println!("OFOP_CHAOS_SEED={seed} OFOP_CHAOS_ROUNDS={rounds}");
    let mut site = Site::start(seed);
    let mut took = Vec::new();
    for number in 1..=rounds {
        // Each once in the order of the list, and then as drawn.
        let fault = match FAULTS.get(usize::try_from(number - 1).unwrap()) {
            Some(fault) => *fault,
            None => *site.rng.pick(&FAULTS).unwrap(),
        };
        took.push(site.round(fault));
        println!("round {number}: {fault:?}: well again after {:?}", took[took.len() - 1]);
    }
    took.sort();
    let operations = site.world.operations();
    println!(
        "{rounds} rounds, {operations} operations, {} writes: 0 duplicates, 0 wrong removals",
        site.gate.writes().len()
    );
    let [half, most, longest] = [50, 99, 100].map(|percent| percentile(&took, percent));
    println!("well again: {rounds} times, p50 {half:?}, p99 {most:?}, longest {longest:?}");
}
