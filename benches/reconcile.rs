//! How quick the whole loop is over 10,000 apps, on a Swarm and a registry in memory, in real time: deploying them
//! all, a pass that finds nothing to do, and from a service removed by hand to the call that creates it again.
//! Figures and the machine are in `docs/performance.md`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a bench may stop at what cannot be, and says how it goes"
)]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ofop::testing::{Operator, World, app};
use tokio::runtime::Runtime;

/// How many apps unless `OFOP_BENCH_APPS` says otherwise.
const APPS: usize = 10_000;
/// Apps in one file.
const PER_FILE: usize = 10;

fn apps() -> usize {
    std::env::var("OFOP_BENCH_APPS").ok().and_then(|number| number.parse().ok()).unwrap_or(APPS)
}

/// A cluster in which everything is as described, and an operator that watches it.
#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn steady(runtime: &Runtime) -> (World, Operator) {
    runtime.block_on(async {
        let world = World::new(1);
        world.swarm.latency(Duration::ZERO);
        for file in 0..apps() / PER_FILE {
            let mut text = String::from("apps:\n");
            for at in file * PER_FILE..(file + 1) * PER_FILE {
                let one = app(&format!("PRESS-{at:05}"), "example/press:1.2", "    environment: [MODE=production]\n");
                text.push_str(one.trim_start_matches("apps:\n"));
            }
            world.source.write_silently(&format!("line-{file:04}.yml"), text);
        }
        let began = Instant::now();
        let operator = world.start();
        let left = world.settle(Duration::from_secs(3600)).await;
        assert!(left.is_empty(), "{left:?}");
        eprintln!("{} apps deployed and registered in {:?}", apps(), began.elapsed());
        // Their tasks start, and the loop goes quiet.
        tokio::time::sleep(Duration::from_secs(5)).await;
        (world, operator)
    })
}

/// Number and sum of all passes so far, from the operator's own histogram.
fn passes(operator: &Operator) -> (f64, f64) {
    let metrics = operator.report.metrics();
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    (value("ofop_reconcile_duration_seconds_count"), value("ofop_reconcile_duration_seconds_sum"))
}

/// Waits until nothing is looked at any more: passes rest in proportion to what they cost, and what is measured is a
/// cluster in which nothing else happens.
async fn quiet(operator: &Operator) {
    let (mut before, _) = passes(operator);
    loop {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let (now, _) = passes(operator);
        if now <= before {
            return;
        }
        before = now;
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
fn bench(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (world, operator) = steady(&runtime);
    let mut group = c.benchmark_group("reconcile");
    group.sample_size(10);
    group.bench_function("a pass with nothing to do", |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let mut spent = 0.0;
                for _ in 0..times {
                    let (count, sum) = passes(&operator);
                    world.swarm.poke();
                    let (mut now, mut total) = passes(&operator);
                    while now <= count {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        (now, total) = passes(&operator);
                    }
                    spent += (total - sum) / (now - count);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Duration::from_secs_f64(spent)
            })
        });
    });
    // Another one each time: what goes again and again is deliberately put back more slowly.
    let next = std::cell::Cell::new(0u64);
    group.bench_function("from a service removed by hand to the create call", |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let writes = world.writes();
                    let name = format!("press-{:05}", next.replace(next.get() + 1).wrapping_mul(7_919) % apps() as u64);
                    let began = Instant::now();
                    world.swarm.remove(&name);
                    world.writes_reach(writes + 1).await;
                    spent += began.elapsed();
                    quiet(&operator).await;
                }
                spent
            })
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
