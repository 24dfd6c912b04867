//! What is on its way without any step of ours, and how often to look after it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Health, Progress, ResourceId, ResourcePlan, Verdict};

/// How soon another look follows when something is known to be on its way without any event that would tell:
/// the second sighting that a removal rests on, tasks that start or end (the engine has no task events), rows
/// that the registry is still to show.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// When to look again for what no event tells: soon at first, then less and less often while nothing changes.
#[derive(Debug, Default)]
pub(super) struct Soon {
    pub(super) due: Option<Duration>,
    wait: Duration,
    watched: BTreeSet<ResourceId>,
}

impl Soon {
    /// Watches these resources.
    pub(super) fn watch(&mut self, watched: BTreeSet<ResourceId>, now: Duration, longest: Duration) {
        if watched.is_empty() {
            *self = Soon::default();
            return;
        }
        if watched != self.watched {
            *self = Soon { due: Some(now + SOON), wait: SOON, watched };
        } else if self.due.is_none() {
            self.wait = (self.wait + self.wait / 2).min(longest);
            self.due = Some(now + self.wait);
        }
    }
}

/// Whether a resource is known to be on its way to another state without any step of ours.
pub(super) fn is_on_its_way(planned: &ResourcePlan) -> bool {
    let waits_for_time = match &planned.verdict {
        Verdict::InProgress { why, .. } => match why {
            Progress::Held | Progress::Successor | Progress::Tasks => true,
            // Those that go first are watched.
            Progress::Steps | Progress::Rollout | Progress::Unread => false,
        },
        Verdict::Settled | Verdict::Blocked(_) => false,
    };
    waits_for_time || planned.health == Health::Progressing
}
