//! When a resource may be tried again: a pure function of what happened to it.
//!
//! # Rules
//!
//! | what happened | what follows |
//! |---|---|
//! | everything worked | nothing waits; doing the same thing over and over is slowed down like a failure |
//! | a race (somebody else was faster) | look again at once, [`FREE_RACES`] times; then as a failure |
//! | refused as it is | only after [`REJECTED_RETRY`], or when the manifest says something else |
//! | the answer was lost | not before [`AMBIGUITY_WINDOW`] has passed since it was sent: it may still be carried out |
//! | anything else | exponential with jitter, from [`FIRST`] to [`LONGEST`] (or [`LONGEST_OUTAGE`]) |
//!
//! A changed manifest forgets everything but a lost answer, since that is about the engine and not about us.

use std::time::Duration;

use crate::model::FailureKind;

/// The first delay, before jitter.
pub const FIRST: Duration = Duration::from_secs(1);
/// No delay is longer, so that a cured cause is noticed within minutes without a person.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);
/// The longest delay when the other side was away or something is not there yet: nothing happened, and it
/// usually comes back within a minute.
pub const LONGEST_OUTAGE: Duration = Duration::from_secs(30);
/// How often in a row a race leads to another look at once. The orchestrator itself moves a service's version
/// for as long as it rolls tasks over; more than this in a row is not a race any more.
pub const FREE_RACES: u32 = 5;
/// After this time a request that was refused is tried once more, in case the engine changed its mind.
pub const REJECTED_RETRY: Duration = Duration::from_secs(30 * 60);
/// A Swarm manager gives a write up after 20 s (swarmkit's raft proposal and forwarding deadline); a request whose answer
/// was lost may come true until then.
pub const AMBIGUITY_WINDOW: Duration = Duration::from_secs(20);
/// How much later than the sending of a write a manager may begin to count: the way there, and a queue before it.
pub const AMBIGUITY_SLACK: Duration = Duration::from_secs(2);
/// How often the same steps may succeed within [`REPEAT_WINDOW`] before they are slowed down: somebody undoes
/// them, and a fight at full speed helps nobody.
pub const FREE_REPEATS: u32 = 5;
/// Successes further apart than this are not a fight.
pub const REPEAT_WINDOW: Duration = Duration::from_secs(60);

/// The delay before attempt number `attempts + 1`, for `attempts` ≥ 1 failures in a row: doubled each time,
/// at most `longest`, of which the second half is random so that resources that failed together do not come
/// back together.
pub fn delay(attempts: u32, longest: Duration, seed: u64) -> Duration {
    let whole = FIRST.saturating_mul(1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX)).min(longest);
    let half = whole / 2;
    half + half.mul_f64(unit(mix(seed, u64::from(attempts))))
}

/// A number from 0 to 1 from 53 random bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit into the mantissa")]
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Scrambles two numbers into one (the finaliser of SplitMix64).
pub fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is remembered of one resource's tries. Times are monotonic times since the operator started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    /// Failures in a row.
    pub attempts: u32,
    /// Races in a row.
    pub races: u32,
    /// What the last failure was.
    pub last: Option<FailureKind>,
    /// Not to be tried before.
    pub not_before: Duration,
    /// An answer was lost; until then it may still come true.
    pub ambiguous_until: Option<Duration>,
    /// Hash of the steps that last succeeded, when, and how often in a row.
    repeated: Option<(u64, Duration, u32)>,
}

impl Backoff {
    /// When the resource may be tried again; zero for at once.
    pub fn due(&self) -> Duration {
        self.not_before.max(self.ambiguous_until.unwrap_or_default())
    }

    /// Takes note of a failure at `now`.
    pub fn failed(&mut self, kind: FailureKind, now: Duration, seed: u64) {
        self.last = Some(kind);
        let longest = match kind {
            FailureKind::Conflict | FailureKind::Exists | FailureKind::Gone => {
                self.races += 1;
                if self.races <= FREE_RACES {
                    self.not_before = now;
                    return;
                }
                LONGEST
            }
            FailureKind::Rejected => {
                self.attempts += 1;
                self.not_before = now + REJECTED_RETRY;
                return;
            }
            FailureKind::Ambiguous => {
                self.ambiguous_until = Some(now + AMBIGUITY_WINDOW);
                LONGEST
            }
            FailureKind::Dependency | FailureKind::Unavailable | FailureKind::Revoked => LONGEST_OUTAGE,
        };
        self.attempts += 1;
        self.not_before = now + delay(self.attempts, longest, seed);
    }

    /// The write whose answer was lost was sent so long before the failure that was just noted: a manager that took its
    /// whole time to answer is done with it.
    pub fn sent_before(&mut self, ago: Duration) {
        if let Some(until) = &mut self.ambiguous_until {
            *until = until.saturating_sub(ago.saturating_sub(AMBIGUITY_SLACK));
        }
    }

    /// Takes note that all of a resource's steps worked; `steps` is a hash of them.
    pub fn succeeded(&mut self, steps: u64, now: Duration, seed: u64) {
        let repeats = match self.repeated {
            Some((same, at, count)) if same == steps && now.saturating_sub(at) < REPEAT_WINDOW => count + 1,
            Some(_) | None => 0,
        };
        let slow = repeats.saturating_sub(FREE_REPEATS);
        *self = Backoff {
            repeated: Some((steps, now, repeats)),
            not_before: if slow > 0 { now + delay(slow, REPEAT_WINDOW / 2, seed) } else { Duration::ZERO },
            ..Backoff::default()
        };
    }

    /// The manifest says something else now, or a person asks: try at once, unless an answer is still out.
    pub fn forgive(&mut self) {
        *self = Backoff { ambiguous_until: self.ambiguous_until, ..Backoff::default() };
    }

    /// What the lost answer was about has been seen to exist (or to be gone).
    pub fn answered(&mut self) {
        self.ambiguous_until = None;
    }

    /// Whether nothing worth keeping is left at `now`.
    pub fn is_spent(&self, now: Duration) -> bool {
        self.attempts == 0
            && self.races == 0
            && self.due() <= now
            && self.repeated.is_none_or(|(_, at, _)| now.saturating_sub(at) >= REPEAT_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn delays_double_up_to_the_longest_and_keep_half_of_it_random() {
        for attempts in 1..40 {
            let whole = Duration::from_secs(1 << (attempts - 1).min(20)).min(LONGEST);
            let delays: Vec<_> = (0..50).map(|seed| delay(attempts, LONGEST, seed)).collect();
            assert!(delays.iter().all(|d| *d >= whole / 2 && *d <= whole), "{attempts}: {delays:?}");
            let distinct: std::collections::BTreeSet<_> = delays.iter().collect();
            assert!(distinct.len() > 40, "jitter spreads resources that failed together");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_delay() {
        assert_eq!(delay(3, LONGEST, 7), delay(3, LONGEST, 7));
    }

    #[test]
    fn a_race_is_free_for_a_while_and_then_a_failure() {
        let mut backoff = Backoff::default();
        for _ in 0..FREE_RACES {
            backoff.failed(FailureKind::Conflict, NOW, 1);
            assert!(backoff.due() <= NOW);
        }
        backoff.failed(FailureKind::Conflict, NOW, 1);
        assert!(backoff.due() > NOW);
        backoff.succeeded(1, NOW, 1);
        assert_eq!(backoff.races, 0);
        assert!(backoff.due() <= NOW);
    }

    #[test]
    fn failures_wait_longer_and_longer_and_success_forgets_them() {
        let mut backoff = Backoff::default();
        let mut last = Duration::ZERO;
        for _ in 0..8 {
            backoff.failed(FailureKind::Ambiguous, Duration::ZERO, 3);
            assert!(backoff.not_before >= last / 2);
            last = backoff.not_before;
        }
        assert!(last > Duration::from_secs(60));
        backoff.succeeded(1, NOW, 3);
        assert_eq!(backoff.due(), Duration::ZERO);
    }

    #[test]
    fn an_outage_is_retried_within_half_a_minute_however_long_it_lasted() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            backoff.failed(FailureKind::Unavailable, NOW, 3);
        }
        assert!(backoff.due() <= NOW + LONGEST_OUTAGE);
    }

    #[test]
    fn a_refusal_holds_until_the_manifest_changes() {
        let mut backoff = Backoff::default();
        backoff.failed(FailureKind::Rejected, NOW, 3);
        assert_eq!(backoff.due(), NOW + REJECTED_RETRY);
        backoff.forgive();
        assert_eq!(backoff.due(), Duration::ZERO);
    }

    #[test]
    fn a_lost_answer_is_waited_for_even_when_the_manifest_changes() {
        let mut backoff = Backoff::default();
        backoff.failed(FailureKind::Ambiguous, NOW, 3);
        backoff.forgive();
        assert_eq!(backoff.due(), NOW + AMBIGUITY_WINDOW);
        backoff.answered();
        assert_eq!(backoff.due(), Duration::ZERO);
    }

    #[test]
    fn the_window_of_a_lost_answer_counts_from_the_sending() {
        // (seconds from the sending to the failure, seconds from the failure to the end of the window)
        for (ago, left) in [(0, 20), (1, 20), (2, 20), (12, 10), (20, 2), (22, 0), (30, 0)] {
            let mut backoff = Backoff::default();
            backoff.failed(FailureKind::Ambiguous, NOW, 3);
            backoff.sent_before(Duration::from_secs(ago));
            let until = backoff.ambiguous_until.unwrap();
            assert_eq!(until.saturating_sub(NOW), Duration::from_secs(left), "{ago}");
        }
        let mut backoff = Backoff::default();
        backoff.failed(FailureKind::Conflict, NOW, 3);
        backoff.sent_before(Duration::from_secs(5));
        assert_eq!(backoff.ambiguous_until, None);
    }

    #[test]
    fn a_fight_with_somebody_who_undoes_us_slows_down() {
        let mut backoff = Backoff::default();
        for _ in 0..=FREE_REPEATS {
            backoff.succeeded(9, NOW, 3);
            assert!(backoff.due() <= NOW);
        }
        backoff.succeeded(9, NOW, 3);
        assert!(backoff.due() > NOW);
        backoff.succeeded(10, NOW, 3);
        assert!(backoff.due() <= NOW, "other steps are no repetition");
    }
}
