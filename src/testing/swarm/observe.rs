//! What the operator gets to see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::state::Swarm;
use crate::model::{NotesView, ObservedService, PlatformSnapshot, ServiceId, ServiceName};
use crate::platform::PlatformError;
use crate::testing::{Faults, Rng};

/// The adapter's cache.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// An event arrived since the cache was made.
    pub(super) patch: bool,
    /// A full read was asked for.
    pub(super) wanted: bool,
    /// The last answer was complete.
    pub(super) sound: bool,
    generation: u64,
    listed_at: Option<Duration>,
    last: Option<Arc<PlatformSnapshot>>,
    /// Services as they were last shown, so that those that did not change need not be made anew.
    shown: BTreeMap<ServiceId, Arc<ObservedService>>,
    /// What earlier full reads saw.
    history: VecDeque<Arc<PlatformSnapshot>>,
}

/// The adapter makes a full read at least this often.
const RELIST: Duration = Duration::from_secs(30);
/// A stale read shows a state of this many reads ago, at most.
const HISTORY: usize = 3;

impl Cache {
    pub(super) fn observe(
        &mut self,
        swarm: &Swarm,
        rng: &mut Rng,
        faults: &Faults,
        follow: &BTreeSet<String>,
        now: Duration,
    ) -> Result<Arc<PlatformSnapshot>, PlatformError> {
        if !swarm.leader || rng.chance(faults.reads_fail) {
            self.sound = false;
            return Err(PlatformError { message: "the swarm does not have a leader".into(), hint: None });
        }
        let full = self.wanted || self.last.is_none() || self.listed_at.is_none_or(|at| now >= at + RELIST);
        if let Some(last) = &self.last
            && !full
            && !self.patch
        {
            self.sound = last.complete;
            return Ok(Arc::clone(last));
        }
        let mut seen = self.look(swarm, follow, now);
        if full {
            self.generation += 1;
            self.listed_at = Some(now);
            self.wanted = false;
        }
        seen.generation = self.generation;
        if full && rng.chance(faults.reads_stale) && !self.history.is_empty() {
            let age = usize::try_from(rng.below(self.history.len() as u64)).unwrap_or(0);
            seen = PlatformSnapshot { generation: self.generation, ..PlatformSnapshot::clone(&self.history[age]) };
        } else if full && rng.chance(faults.reads_partial) {
            forget_some(&mut seen, rng);
        } else if rng.chance(faults.reads_incomplete) {
            forget_some(&mut seen, rng);
            seen.complete = false;
        }
        if rng.chance(faults.notes_unread) {
            seen.notes = NotesView::Unread("the notes cannot be read".into());
        }
        let seen = Arc::new(seen);
        self.patch = false;
        self.sound = seen.complete;
        self.last = Some(Arc::clone(&seen));
        if full {
            self.history.push_front(Arc::clone(&seen));
            self.history.truncate(HISTORY);
        }
        Ok(seen)
    }
}

impl Cache {
    fn look(&mut self, swarm: &Swarm, follow: &BTreeSet<String>, now: Duration) -> PlatformSnapshot {
        self.shown.retain(|id, _| swarm.services.contains_key(id));
        let mut services: BTreeMap<ServiceName, Arc<ObservedService>> = BTreeMap::new();
        for service in swarm.services.values() {
            let seen = match self.shown.get(&service.id) {
                Some(shown) if shown.version == service.version => Arc::clone(shown),
                Some(_) | None => {
                    let seen = Arc::new(service.seen());
                    self.shown.insert(service.id.clone(), Arc::clone(&seen));
                    seen
                }
            };
            services.insert(service.spec.name.clone(), seen);
        }
        let digests =
            follow.iter().filter_map(|image| Some((image.clone(), swarm.digests.get(image)?.clone()))).collect();
        PlatformSnapshot {
            complete: true,
            services: services.into(),
            tasks: swarm.tasks(now).into_iter().map(|(id, tasks)| (id, Arc::from(tasks))).collect(),
            networks: swarm.networks.clone(),
            digests,
            notes: NotesView::Read { version: swarm.notes_version, notes: Arc::clone(&swarm.notes) },
            ..PlatformSnapshot::default()
        }
    }
}

fn forget_some(seen: &mut PlatformSnapshot, rng: &mut Rng) {
    seen.services =
        seen.services.iter().filter(|_| !rng.chance(30)).map(|(name, seen)| (name.clone(), seen.clone())).collect();
}
