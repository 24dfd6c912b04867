//! What events have pointed at since somebody last looked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::ServiceId;
use crate::platform::swarm::convert::Hint;

/// Events about a service that we wrote this long ago are about our own write, or near enough to it to wait.
const OWN: Duration = Duration::from_secs(1);
/// How long they wait: a created service gets its addresses and comes up as changed once more, and a batch of
/// created services is read once instead of three times.
const OWN_WAIT: Duration = Duration::from_millis(300);

/// Joins events until they are looked into.
#[derive(Default)]
pub(super) struct Pending {
    batch: Batch,
    /// Services that we wrote a moment ago, and events about them.
    own: BTreeMap<ServiceId, Instant>,
    late: BTreeSet<ServiceId>,
    late_due: Option<Instant>,
    /// When the last event came.
    last: Option<Instant>,
}

/// What to look into.
#[derive(Default)]
pub(super) struct Batch {
    /// Made or changed.
    pub(super) services: BTreeSet<ServiceId>,
    /// Removed.
    pub(super) removed: BTreeSet<ServiceId>,
    /// Services whose tasks have changed, or will.
    pub(super) tasks: BTreeSet<ServiceId>,
    pub(super) networks: bool,
    pub(super) nodes: bool,
    pub(super) notes: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        let services = self.services.is_empty() && self.removed.is_empty() && self.tasks.is_empty();
        services && !(self.networks || self.nodes || self.notes)
    }
}

impl Pending {
    /// Takes in an event.
    pub(super) fn hint(&mut self, hint: Hint) {
        let now = Instant::now();
        self.last = Some(now);
        match hint {
            Hint::Service(id) => {
                self.own.retain(|_, wrote| *wrote + OWN > now);
                if self.own.contains_key(&id) {
                    self.late.insert(id);
                    self.late_due.get_or_insert(now + OWN_WAIT);
                } else {
                    self.batch.services.insert(id);
                }
            }
            Hint::ServiceRemoved(id) => _ = self.batch.removed.insert(id),
            Hint::Networks => self.batch.networks = true,
            Hint::Nodes => self.batch.nodes = true,
            Hint::Tasks(id) => _ = self.batch.tasks.insert(id),
            Hint::Config(_) => self.batch.notes = true,
        }
    }

    /// We wrote a service.
    pub(super) fn wrote(&mut self, id: &ServiceId) {
        self.own.insert(id.clone(), Instant::now());
    }

    /// We created a service, and it has to be read soon, whether an event comes or not.
    pub(super) fn created(&mut self, id: &ServiceId) {
        self.wrote(id);
        self.late.insert(id.clone());
        self.late_due.get_or_insert(Instant::now() + OWN_WAIT);
    }

    /// The tasks of a service should be looked at.
    pub(super) fn tasks_soon(&mut self, id: &ServiceId) {
        self.batch.tasks.insert(id.clone());
    }

    /// What to look into now.
    pub(super) fn take(&mut self, now: Instant) -> Batch {
        if self.late_due.is_some_and(|due| due <= now) {
            self.late_due = None;
            self.batch.services.append(&mut self.late);
        }
        std::mem::take(&mut self.batch)
    }

    /// When something is due that is not yet.
    pub(super) fn due(&self) -> Option<Instant> {
        self.late_due
    }

    /// When the last event came.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }
}
