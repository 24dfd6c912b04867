//! How many refused commands become events of their own.

use std::time::Duration;

/// So many at once, and then one each [`EACH`].
const AT_ONCE: u32 = 10;

/// How long it takes until one more may be told: 1,440 a day at most, some 300 KiB of the archive.
const EACH: Duration = Duration::from_secs(60);

/// A bucket of refusals that may be told.
#[derive(Debug)]
pub(super) struct Refusals {
    left: u32,
    /// When one was last added.
    since: Duration,
    /// How many were not told since the last one that was.
    untold: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Refusals { left: AT_ONCE, since: Duration::ZERO, untold: 0 }
    }
}

impl Refusals {
    /// Whether the one that comes `now`, on the monotonic clock, is told; then, how many were not told before.
    pub(super) fn take(&mut self, now: Duration) -> Option<u64> {
        let spent = now.saturating_sub(self.since);
        let more = u32::try_from(spent.as_secs() / EACH.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(AT_ONCE);
            self.since = now;
        }
        if self.left == 0 {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_of_once_a_minute() {
        let mut refusals = Refusals::default();
        let told = |refusals: &mut Refusals, from: u64| -> Vec<u64> {
            (0..1_000).filter_map(|at| refusals.take(Duration::from_millis(from * 1_000 + at))).collect()
        };
        assert_eq!(told(&mut refusals, 1), [0; 10]);
        assert_eq!(told(&mut refusals, 59), [0; 0]);
        assert_eq!(told(&mut refusals, 60), [1_990]);
        assert_eq!(told(&mut refusals, 120), [999]);
        assert_eq!(told(&mut refusals, 7_200)[..2], [999, 0], "quiet times fill the bucket again");
    }
}
