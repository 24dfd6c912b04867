//! A clock that a test moves.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::clock::Clock;

/// Monotonic time is tokio's, so that a paused runtime moves it; wall time follows it from a fixed date on, and
/// may be made to jump.
#[derive(Debug)]
pub struct TestClock {
    start: Instant,
    jumped: AtomicI64,
}

/// 2026-01-02T03:04:05Z.
const EPOCH: Duration = Duration::from_secs(1_767_323_045);

impl TestClock {
    /// A clock that starts now, within a tokio runtime.
    pub fn new() -> Self {
        TestClock { start: Instant::now(), jumped: AtomicI64::new(0) }
    }

    /// Makes the wall clock jump, back with a negative number.
    pub fn jump(&self, seconds: i64) {
        self.jumped.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Default for TestClock {
    fn default() -> Self {
        TestClock::new()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> SystemTime {
        let jumped = self.jumped.load(Ordering::SeqCst);
        let wall = UNIX_EPOCH + EPOCH + self.now();
        let jump = Duration::from_secs(jumped.unsigned_abs());
        if jumped < 0 { wall - jump } else { wall + jump }
    }
}
