//! Why the loop looks again, and when.
//!
//! A trigger says why, never what: whatever woke the loop, a pass compares both sides and examines what differs.
//! Triggers that arrive together are one pass.

use std::collections::BTreeSet;
use std::time::Duration;

/// Why a pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// The operator starts.
    Started,
    /// The manifests changed, or may have.
    SourceChanged,
    /// Something changed on the platform.
    PlatformEvent,
    /// Something changed in the registry.
    RegistryEvent,
    /// The timed full look, which makes up for lost events.
    Timer,
    /// A resource that failed may be tried again, or a removal needs its second sighting.
    Retry,
    /// The steps of a resource ended.
    StepDone,
    /// A write of notes ended.
    Noted,
    /// The right to act began or ended, or the operator was stopped for a while.
    Lease,
    /// A person asked.
    Person,
}

impl Trigger {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Started => "started",
            Trigger::SourceChanged => "source changed",
            Trigger::PlatformEvent => "platform event",
            Trigger::RegistryEvent => "registry event",
            Trigger::Timer => "timer",
            Trigger::Retry => "retry",
            Trigger::StepDone => "step done",
            Trigger::Noted => "noted",
            Trigger::Lease => "lease",
            Trigger::Person => "person",
        }
    }
}

/// How long the first trigger waits for company: an engine reports one change as several events within a
/// millisecond or two.
pub const DEBOUNCE: Duration = Duration::from_millis(2);
/// How long the end of one task waits for that of others that are under way, and an event for its like while no further
/// task could be started: a pass for each of a thousand would cost more than the tasks.
pub const COMPANY: Duration = Duration::from_millis(20);
/// Passes rest this many times as long as the last one took to plan, so that planning for a large cluster never
/// takes more than a fifth of one processor while events pour in.
pub const REST: u32 = 4;

/// Triggers that wait for the next pass.
#[derive(Debug, Default)]
pub struct Pending {
    reasons: BTreeSet<Trigger>,
    due: Option<Duration>,
    not_before: Duration,
}

impl Pending {
    /// Takes a trigger that came at `now`.
    pub fn add(&mut self, trigger: Trigger, now: Duration) {
        self.add_within(trigger, now, DEBOUNCE);
    }

    /// Takes one that may wait this long for company.
    pub fn add_within(&mut self, trigger: Trigger, now: Duration, patience: Duration) {
        self.reasons.insert(trigger);
        let due = now + patience;
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Takes note of a pass that ended at `now` and whose planning took `took`; waiting for answers is no work.
    pub fn rest(&mut self, now: Duration, took: Duration) {
        self.not_before = now + took * REST;
    }

    /// When the next pass is due; none while nothing asks for one.
    pub fn due(&self) -> Option<Duration> {
        self.due.map(|due| due.max(self.not_before))
    }

    /// The reasons for the pass that is made now.
    pub fn take(&mut self) -> BTreeSet<Trigger> {
        self.due = None;
        std::mem::take(&mut self.reasons)
    }
}

/// Reasons as one text for a log line.
pub fn describe(reasons: &BTreeSet<Trigger>) -> String {
    reasons.iter().map(|trigger| trigger.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn the_first_trigger_sets_the_time_and_later_ones_do_not_postpone_it() {
        let mut pending = Pending::default();
        assert_eq!(pending.due(), None);
        pending.add(Trigger::PlatformEvent, ms(100));
        pending.add(Trigger::StepDone, ms(101));
        pending.add(Trigger::PlatformEvent, ms(101));
        assert_eq!(pending.due(), Some(ms(100) + DEBOUNCE));
        assert_eq!(describe(&pending.take()), "platform event, step done");
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn a_trigger_that_may_wait_is_overtaken_by_one_that_may_not() {
        let mut pending = Pending::default();
        pending.add_within(Trigger::StepDone, ms(100), COMPANY);
        assert_eq!(pending.due(), Some(ms(100) + COMPANY));
        pending.add(Trigger::PlatformEvent, ms(105));
        assert_eq!(pending.due(), Some(ms(105) + DEBOUNCE));
        pending.add_within(Trigger::StepDone, ms(106), COMPANY);
        assert_eq!(pending.due(), Some(ms(105) + DEBOUNCE), "and does not hold it up");
    }

    #[test]
    fn passes_rest_in_proportion_to_what_they_cost() {
        let mut pending = Pending::default();
        pending.rest(ms(100), ms(10));
        pending.add(Trigger::PlatformEvent, ms(101));
        assert_eq!(pending.due(), Some(ms(140)));
        pending.take();
        pending.add(Trigger::PlatformEvent, ms(200));
        assert_eq!(pending.due(), Some(ms(200) + DEBOUNCE), "a quiet loop answers at once");
    }
}
