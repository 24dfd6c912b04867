//! What the operator gets to see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::state::Swarm;
use crate::model::{ObservedService, PlatformSnapshot};
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
        let mut seen = look(swarm, follow, now);
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

fn forget_some(seen: &mut PlatformSnapshot, rng: &mut Rng) {
    seen.services.retain(|_, _| !rng.chance(30));
}

fn look(swarm: &Swarm, follow: &BTreeSet<String>, now: Duration) -> PlatformSnapshot {
    let services: BTreeMap<_, _> = swarm
        .services
        .values()
        .map(|service| {
            let seen = ObservedService {
                id: service.id.clone(),
                version: service.version,
                spec: service.spec.clone(),
                foreign_mode: service.foreign_mode.clone(),
                mark: service.mark.clone(),
                container_labels: service.spec.labels.clone(),
                update: service.update.clone(),
                created_at: "2026-01-02T03:04:05Z".into(),
            };
            (service.spec.name.clone(), Arc::new(seen))
        })
        .collect();
    let digests = follow.iter().filter_map(|image| Some((image.clone(), swarm.digests.get(image)?.clone()))).collect();
    PlatformSnapshot {
        generation: 0,
        complete: true,
        services,
        tasks: swarm.tasks(now),
        networks: swarm.networks.clone(),
        digests,
        unreadable: BTreeMap::new(),
    }
}
