//! Chaos: the real program, real engines, and everything that goes wrong on bad days, drawn from a seed.
//!
//! `OFOP_CHAOS_SEED` repeats a run, `OFOP_CHAOS_ROUNDS` makes it longer; `tests/chaos.sh` does both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    unreachable_pub,
    reason = "support for tests"
)]

mod cluster;
mod duel;
#[path = "../support/engine.rs"]
mod engine;
mod faults;
mod gate;
mod ledger;
mod lies;
mod managers;
#[path = "../support/operator.rs"]
mod operator;
mod world;

use std::time::Duration;

/// A number out of the environment, and what it is without.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Held by each test that needs the machine for itself: the others wait.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How long what came with a revision may take to run before what the revision takes away goes without it. No service of
/// these worlds ever runs, so every removal beside a newcomer waits for the whole of it.
const DEADLINE: &str = "10s";

/// Whether an operator knows everything that is described, in sync and with nothing to do.
fn is_idle(ofop: &operator::Operator, world: &world::Manifests) -> bool {
    let status = ofop.try_get("/api/v1/resources").unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    let resources = status["resources"].as_array().cloned().unwrap_or_default();
    resources.len() == world.described()
        && resources.iter().all(|it| it["sync"] == "Synced" && it["pending_steps"] == 0)
}

/// The end of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(60).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// The value at or below which so many per cent of them lie; they are sorted.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// What decides everything that is drawn.
fn seed() -> u64 {
    number("OFOP_CHAOS_SEED", 1)
}

impl world::Hand for engine::TestEngine {
    fn call(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        Some(engine::TestEngine::call(self, method, path, body))
    }
}
