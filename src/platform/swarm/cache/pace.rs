//! When tasks are read again, for which Swarm has no events.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::LIST_INSTEAD;
use super::pending::Batch;
use crate::model::ServiceId;

/// How soon tasks are read again after something changed.
const TASKS_AGAIN: Duration = Duration::from_millis(150);
/// Reading tasks over and over may take this part of the time: one in `TASKS_SHARE`.
const TASKS_SHARE: u32 = 10;

/// Services of which something was heard, and when to read the tasks of these alone.
pub(super) struct Near {
    services: BTreeSet<ServiceId>,
    /// Those of which something was heard since the last read began.
    asked: BTreeSet<ServiceId>,
    /// A read goes on.
    reading: bool,
    next: Instant,
    wait: Duration,
    longest: Duration,
}

impl Near {
    pub(super) fn new(longest: Duration) -> Near {
        let (services, asked) = Default::default();
        Near { services, asked, reading: false, next: Instant::now(), wait: TASKS_AGAIN, longest }
    }

    /// The services whose tasks are read by themselves.
    pub(super) fn services(&self) -> &BTreeSet<ServiceId> {
        &self.services
    }

    /// Something happened to these services. False if they have become so many that one list of all tasks is cheaper.
    pub(super) fn ask(&mut self, batch: &Batch) -> bool {
        let ids = [&batch.services, &batch.removed, &batch.tasks];
        if ids.iter().any(|ids| !ids.is_empty()) {
            let soon = Instant::now() + TASKS_AGAIN;
            self.next = self.due().map_or(soon, |next| next.min(soon));
            self.wait = TASKS_AGAIN;
            for id in ids.into_iter().flatten() {
                self.services.insert(id.clone());
                self.asked.insert(id.clone());
            }
        }
        let few = self.services.len() <= LIST_INSTEAD;
        if !few {
            self.leave();
        }
        few
    }

    /// A list of all tasks has to tell.
    pub(super) fn leave(&mut self) {
        self.services.clear();
        self.asked.clear();
        self.reading = false;
    }

    /// When they are read; none while there are none, or while they are being read.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.services.is_empty() && !self.reading).then_some(self.next)
    }

    /// Begins a read of these.
    pub(super) fn begin(&mut self) -> BTreeSet<ServiceId> {
        self.reading = true;
        self.asked.clear();
        self.services.clone()
    }

    /// They were read, from `began` to now. Those whose tasks are where they should be need no further look.
    pub(super) fn were_read(&mut self, began: Instant, changed: bool, is_on_its_way: impl Fn(&ServiceId) -> bool) {
        self.reading = false;
        self.services.retain(|id| self.asked.contains(id) || is_on_its_way(id));
        self.wait = again(self.wait, began, changed || !self.asked.is_empty(), self.longest);
        self.next = Instant::now() + self.wait;
    }
}

/// How long to wait until tasks are read again that were read from `began` to now.
fn again(wait: Duration, began: Instant, changed: bool, longest: Duration) -> Duration {
    let wait = if changed { TASKS_AGAIN } else { (wait * 3 / 2).min(longest) };
    wait.max(began.elapsed() * TASKS_SHARE)
}

/// When to read all tasks again.
pub(super) struct Tasks {
    /// Not before this.
    pub(super) next: Instant,
    /// Time to the next read, as long as nothing changes.
    wait: Duration,
    longest: Duration,
    /// Something happened since they were last read.
    pub(super) asked: bool,
}

impl Tasks {
    pub(super) fn new(longest: Duration) -> Tasks {
        Tasks { next: Instant::now() + TASKS_AGAIN, wait: TASKS_AGAIN, longest, asked: false }
    }

    /// Something happened that may change tasks.
    pub(super) fn ask(&mut self) {
        if !self.asked {
            self.next = (self.next - self.wait).max(Instant::now()) + TASKS_AGAIN;
        }
        (self.asked, self.wait) = (true, TASKS_AGAIN);
    }

    /// They were read, from `began` to now.
    pub(super) fn were_read(&mut self, began: Instant, changed: bool) {
        self.wait = again(self.wait, began, changed, self.longest);
        self.next = Instant::now() + self.wait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(ids: impl IntoIterator<Item = usize>) -> Batch {
        Batch { services: ids.into_iter().map(|id| ServiceId(id.to_string())).collect(), ..Batch::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_pour_in_put_no_read_off() {
        let mut near = Near::new(Duration::from_secs(30));
        assert_eq!(near.due(), None);
        let begun = Instant::now();
        for number in 0..10 {
            assert!(near.ask(&batch([number])));
            tokio::time::advance(TASKS_AGAIN / 10).await;
        }
        assert_eq!(near.due(), Some(begun + TASKS_AGAIN));
    }

    #[tokio::test(start_paused = true)]
    async fn services_are_read_ever_less_often_until_they_have_settled() {
        let mut near = Near::new(Duration::from_secs(30));
        near.ask(&batch([1, 2]));
        let is_one = |id: &ServiceId| id.0 == "1";
        let mut waits = Vec::new();
        for _ in 0..20 {
            assert!(near.begin().contains(&ServiceId("1".into())) && near.due().is_none());
            near.were_read(Instant::now(), false, is_one);
            waits.push(near.due().unwrap() - Instant::now());
        }
        assert!(waits.is_sorted() && waits.last() == Some(&Duration::from_secs(30)), "{waits:?}");
        near.begin();
        near.were_read(Instant::now(), true, is_one);
        assert_eq!(near.due(), Some(Instant::now() + TASKS_AGAIN), "a change is followed by others");
        near.begin();
        near.ask(&batch([3]));
        near.were_read(Instant::now(), false, |_| false);
        assert_eq!(near.due(), Some(Instant::now() + TASKS_AGAIN), "what happened during a read is not in it");
        assert_eq!(near.begin(), batch([3]).services);
        near.were_read(Instant::now(), true, |_| false);
        assert_eq!(near.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_services_are_left_to_a_list_of_all() {
        let mut near = Near::new(Duration::from_secs(30));
        assert!(near.ask(&batch(0..LIST_INSTEAD)));
        assert!(!near.ask(&batch([LIST_INSTEAD])));
        assert_eq!(near.due(), None);
    }
}
