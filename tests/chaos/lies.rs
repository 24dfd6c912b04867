//! An engine that lies.

use std::time::{Duration, Instant};

use ofop::testing::Rng;

use crate::engine::TestEngine;
use crate::gate::Gate;
use crate::operator::Operator;
use crate::world::Manifests;
use crate::{DEADLINE, alone, number, seed};

/// How long after the last lie everything may take to be as described: a call that was begun last may wait 30 s for
/// its answer, and is tried again after a pause.
const PATIENCE: Duration = Duration::from_secs(240);

/// How many operations a batch has, and how long it waits between two at most: the time between them is most of a batch.
const BATCH: u64 = 500;
const PAUSE: u64 = 50;

/// Waits until all is as described and the daemon has nothing to do; how long that took.
fn converge(ofop: &Operator, engine: &TestEngine, gate: &Gate, world: &Manifests) -> Duration {
    let began = Instant::now();
    loop {
        let mut wrong = world.wrong(engine);
        let status: serde_json::Value =
            ofop.try_get("/api/v1/resources").and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default();
        for resource in status["resources"].as_array().into_iter().flatten() {
            if resource["sync"] != "Synced" || resource["pending_steps"] != 0 {
                wrong.push(format!(
                    "{} is {} with {} steps to do: {}",
                    resource["resource"], resource["sync"], resource["pending_steps"], resource["conditions"]
                ));
            }
        }
        if status["summary"]["resources"] != world.described() {
            wrong.push(format!("the daemon knows {} resources", status["summary"]["resources"]));
        }
        if wrong.is_empty() {
            return began.elapsed();
        }
        assert!(
            began.elapsed() < PATIENCE,
            "seed {}: not as described {} s after the last lie:\n{}\nlies: {}\nlog:\n{}",
            seed(),
            PATIENCE.as_secs(),
            wrong.join("\n"),
            gate.told().1,
            ofop.log().lines().rev().take(200).collect::<Vec<_>>().join("\n")
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Two batches of operations unless `OFOP_CHAOS_ROUNDS` says otherwise; during each of them the engine lies, and after each
/// of them everything must be exactly as described.
#[test]
fn an_engine_that_lies_leads_to_no_duplicate_no_wrong_removal_and_no_standstill() {
    let _alone = alone();
    let (seed, rounds) = (seed(), number("OFOP_CHAOS_ROUNDS", 2));
    println!("OFOP_CHAOS_SEED={seed} OFOP_CHAOS_ROUNDS={rounds}");
    let engine = TestEngine::swarm();
    let gate = Gate::start(&engine.socket(), &engine.dir().join("gate.sock"), seed ^ 1);
    let mut ofop = Operator::new(&gate.host());
    // Removals pile up while lists are not to be trusted; that they wait for a person is another test's matter.
    ofop.set("OFOP_PRUNE_GUARD_COUNT", "1000");
    ofop.set("OFOP_PROGRESS_DEADLINE", DEADLINE);
    let desired = ofop.folder().join("desired");
    let folders = [desired.as_path()];
    let mut world = Manifests::new(seed);
    let mut rng = Rng::new(seed ^ 2);
    for _ in 0..40 {
        world.add(&folders);
    }
    world.make_strangers(&engine);
    ofop.start();
    converge(&ofop, &engine, &gate, &world);
    assert_eq!(world.settled(&engine), [""; 0]);
    let (began, mut took) = (Instant::now(), Vec::new());
    for round in 1..=rounds {
        gate.lie(true);
        for _ in 0..BATCH {
            world.act(&folders, &engine);
            std::thread::sleep(Duration::from_millis(rng.below(PAUSE)));
        }
        if round % 2 == 0 {
            // It dies in the middle of it, and finds itself among lies when it is back.
            ofop.kill();
            ofop.start();
            std::thread::sleep(Duration::from_secs(2));
        }
        gate.lie(false);
        while gate.pending() > 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        took.push(converge(&ofop, &engine, &gate, &world));
        let again = world.settled(&engine);
        assert!(again.is_empty(), "seed {seed}, round {round}: {again:?}\nlies: {}", gate.told().1);
        // As described, and left so: whatever is written now is written without a reason.
        let since = Instant::now();
        std::thread::sleep(Duration::from_secs(5));
        let written = gate.writes_since(since);
        assert!(written.is_empty(), "seed {seed}, round {round}: {written:?}");
    }
    let (lies, words) = gate.told();
    println!("{} operations in {} s: {:?}", world.operations(), began.elapsed().as_secs(), world.done);
    println!("{lies} lies: {words}");
    println!("{} writes reached the engine; asked: {}", gate.writes().len(), gate.asked());
    println!("as described after the last lie within {took:?}");
    assert!(world.operations() as u64 >= BATCH * rounds && lies > 100);
}
