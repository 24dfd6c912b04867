//! Tidying up the clone, in the background.
//!
//! # Flow
//!
//! ```text
//! a commit came into force ── many packs? ─► copy what our references name beside the clone ─► exchange the two
//! ```
//!
//! # Guarantees
//!
//! - Nothing is fetched for it, and no commit waits for it but for the moment of the exchange.
//! - No pack is ever written over another: the copy is a repository of its own.
//! - What is fetched meanwhile is kept: it is copied as well, before the exchange, while nobody fetches.
//! - A clone that cannot be tidied up is left as it is and tried again later, ever more rarely.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::follow::Follower;
use super::work::blocking;
use crate::model::SourceTrouble;

/// How long to wait after a failure, and how long at most after many of them.
const WAIT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Tidying {
    is_running: bool,
    /// How often in turn it failed.
    failures: u32,
    not_before: Option<Instant>,
}

impl Tidying {
    /// True when it may begin, and then it has begun.
    fn begin(&mut self, now: Instant) -> bool {
        let may = !self.is_running && self.not_before.is_none_or(|time| time <= now);
        self.is_running |= may;
        may
    }

    fn end(&mut self, worked: bool, now: Instant) {
        self.is_running = false;
        self.failures = if worked { 0 } else { self.failures.saturating_add(1) };
        self.not_before = self.failures.checked_sub(1).map(|earlier| {
            let (first, longest) = WAIT;
            now + first.saturating_mul(1 << earlier.min(16)).min(longest)
        });
    }
}

impl Follower {
    /// Tidies up if that is needed and nobody is at it.
    pub(super) fn tidy_soon(self: &Arc<Self>) {
        if !self.state().tidying.begin(Instant::now()) {
            return;
        }
        let follower = self.clone();
        tokio::spawn(async move {
            let outcome = follower.tidy().await;
            if let Err(trouble) = &outcome {
                tracing::warn!(
                    repository = %follower.shown, reason = %trouble.message, "the clone is not tidied up yet"
                );
            }
            follower.state().tidying.end(outcome.is_ok(), Instant::now());
        });
    }

    async fn tidy(&self) -> Result<(), SourceTrouble> {
        let (clone, copy) = (self.clone.clone(), self.clone.beside("tidy"));
        let is_copied = blocking(move || {
            let _shared = clone.share();
            if !clone.is_untidy() {
                return Ok(false);
            }
            copy.make_anew()?;
            clone.copy_to(&copy).inspect_err(|_| copy.remove())?;
            Ok(true)
        });
        if !is_copied.await? {
            return Ok(());
        }
        let _one = self.fetching.lock().await;
        let (clone, copy) = (self.clone.clone(), self.clone.beside("tidy"));
        blocking(move || copy.replace_idle(&clone).inspect_err(|_| copy.remove())).await?;
        tracing::debug!(repository = %self.shown, "the clone is tidied up");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_once_at_a_time_and_waits_ever_longer_after_failures() {
        let now = Instant::now();
        let mut tidying = Tidying::default();
        assert!(tidying.begin(now) && !tidying.begin(now));
        tidying.end(false, now);
        assert!(!tidying.begin(now + Duration::from_secs(59)) && tidying.begin(now + Duration::from_secs(60)));
        tidying.end(false, now);
        assert!(!tidying.begin(now + Duration::from_secs(119)) && tidying.begin(now + Duration::from_secs(120)));
        for _ in 0..40 {
            tidying.end(false, now);
        }
        assert!(tidying.begin(now + Duration::from_secs(3600)));
        tidying.end(true, now);
        assert!(tidying.begin(now));
    }
}
