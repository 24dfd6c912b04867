//! Gaining and losing the right to act, and what follows from having been away.

use std::time::Duration;

use tracing::info;

use super::super::lease::Permit;
use super::super::look::RegistryReader;
use super::super::retries::Retries;
use super::super::trigger::Trigger;
use super::Runner;
use crate::clock::Clock;
use crate::desired::Source;
use crate::platform::Platform;
use crate::registry::Registry;

/// A loop that was asleep longer than this beyond its resync was not asleep but stopped, or its machine was.
const LATE: Duration = Duration::from_secs(2);

/// How often a loop that waits for a look takes note that it runs: much more often than what counts as a gap.
pub(super) const BREATH: Duration = Duration::from_secs(1);

/// What the loop knows of its right to act.
#[derive(Debug)]
pub(super) struct Tenure {
    /// The term in which it acts; none for a standby.
    pub(super) term: Option<u64>,
    /// Manifests and both sides must be read before anything is planned to be done.
    afresh: bool,
    /// When the loop was last seen to run.
    awake: Duration,
    /// The longest time for which it was not seen to run since that was last judged.
    gap: Duration,
    /// When it began.
    began: Duration,
}

impl Tenure {
    pub(super) fn new(term: Option<u64>, now: Duration) -> Self {
        Tenure { term, afresh: false, awake: now, gap: Duration::ZERO, began: now }
    }

    /// Takes note that the loop runs, wherever it is. A read that takes long is no gap.
    pub(super) fn runs(&mut self, now: Duration) {
        self.gap = self.gap.max(now.saturating_sub(self.awake));
        self.awake = now;
    }

    /// Whether it acts on what it plans.
    pub(super) fn acts(&self) -> bool {
        self.term.is_some() && !self.afresh
    }
}

impl<S: Source, P: Platform, R: Registry, C: Clock> Runner<S, P, R, C> {
    /// Takes note that the loop runs. After a gap, whatever is in memory is out of date.
    pub(super) fn awake(&mut self, now: Duration) {
        self.tenure.runs(now);
        let gap = std::mem::take(&mut self.tenure.gap);
        if gap > self.resync + LATE {
            info!(?gap, "this process was stopped for a while: everything is read afresh before the next write");
            self.begin_anew(now);
        }
    }

    /// Whether there is a right to act.
    pub(in crate::reconcile) fn leads(&self) -> bool {
        self.leadership.term().is_some()
    }

    /// Takes in that the right to act may have changed.
    pub(super) fn tenure_changed(&mut self) {
        let term = self.leadership.term();
        if term == self.tenure.term {
            return;
        }
        let now = self.clock.now();
        self.tenure.term = term;
        self.executor.enter(term);
        let at_start = self.tenure.began + self.resync > now && !self.manifests.is_read();
        if term.is_some() && !at_start {
            self.begin_anew(now);
        } else {
            // What is being read while the right to act changes is read once more.
            self.look = None;
            self.pending.add(Trigger::Lease, now);
        }
    }

    /// Forgets what another operator may have made untrue, as a restart would, and reads everything.
    fn begin_anew(&mut self, now: Duration) {
        self.executor.halt();
        self.memory = self.memory.after_a_gap();
        self.retries = Retries::new(self.seed);
        // What a read that began before would show is of no use.
        self.registry_reader = RegistryReader::new(std::sync::Arc::clone(&self.registry));
        self.look = None;
        self.source.refresh();
        self.manifests.load();
        self.tenure.afresh = true;
        self.look_afresh(Trigger::Lease, now);
    }

    /// Whether what a pass plans may be done: in a term, and on what was read since it began.
    pub(super) fn may_act(&mut self, registry_is_fresh: bool) -> bool {
        if self.tenure.afresh && self.manifests.is_idle() && registry_is_fresh {
            self.tenure.afresh = false;
        }
        self.tenure.acts()
    }

    /// The right to write notes now.
    pub(super) fn permit(&self) -> Option<Permit> {
        let term = self.tenure.term.filter(|_| !self.tenure.afresh)?;
        self.leadership.fence().permit(term, self.clock.now())
    }
}
