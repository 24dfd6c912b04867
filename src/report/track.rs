//! Since when things are as they are.
//!
//! The tracker compares what a pass looked at with what it knew of the same resources, and keeps totals by difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Pass;
use super::events::{ConditionChange, ConditionNews, Entry, StepReport};
use super::metrics::PassResult;
use super::source::{self, SourceNews, SourceTrack};
use super::status::{PartState, Row};
use crate::clock::parse_rfc3339;
use crate::model::{
    Condition, ConditionKind, Drift, DriftType, Health, Kind, ResourceId, SharedMap, StepFailure, Sync,
};

/// What the operator depends on, each with its state and since when.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub(super) source: Part,
    pub(super) source_track: SourceTrack,
    /// What the last pass found new about the source, until somebody takes it.
    pub(super) news: Vec<SourceNews>,
    pub(super) platform: Part,
    pub(super) registry: Part,
    pub(super) last_success: Option<SystemTime>,
    /// A pass has seen everything at least once.
    pub(super) seen_all: bool,
}

/// One of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pub(super) state: PartState,
    pub(super) since: Option<SystemTime>,
    pub(super) message: Option<String>,
}

impl Part {
    fn set(&mut self, state: PartState, message: Option<&str>, wall: SystemTime) {
        if self.state != state || self.since.is_none() {
            self.since = Some(wall);
        }
        self.state = state;
        if self.message.as_deref() != message {
            self.message = message.map(str::to_owned);
        }
    }
}

impl Parts {
    /// Takes in a pass and says how it went. A source whose newest state is not in force is read well enough: what
    /// is in force is looked after, and the trouble is told by itself.
    pub(super) fn pass(&mut self, pass: &Pass<'_>) -> PassResult {
        let read = |error: Option<&str>, complete: Option<bool>| match (error, complete) {
            (Some(_), _) => PartState::Down,
            (None, Some(true)) => PartState::Up,
            (None, Some(false)) => PartState::Partial,
            (None, None) => PartState::Unknown,
        };
        let platform = read(pass.platform_error, pass.observed.platform.as_ref().map(|seen| seen.complete));
        let registry = read(pass.registry_error, pass.observed.registry.as_ref().map(|seen| seen.complete));
        let (source, message) = source::state(pass.desired, pass.source_error);
        self.source.set(source, message.as_deref(), pass.wall);
        self.news = self.source_track.pass(pass.desired, pass.wall);
        self.platform.set(platform, pass.platform_error, pass.wall);
        self.registry.set(registry, pass.registry_error, pass.wall);
        let result = if platform != PartState::Up {
            PassResult::PlatformFailed
        } else if registry != PartState::Up {
            PassResult::RegistryFailed
        } else if source == PartState::Down {
            PassResult::SourceFailed
        } else if pass.plan.is_none() {
            PassResult::NotPlanned
        } else {
            PassResult::Success
        };
        if result == PassResult::Success {
            self.last_success = Some(pass.wall);
            self.seen_all = true;
        }
        result
    }
}

/// Numbers of resources by kind, sync and health.
pub(super) type Counts = [[[i64; Health::ALL.len()]; Sync::ALL.len()]; Kind::ALL.len()];

/// How many resources there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) resources: Counts,
    /// Those that a person took down.
    pub(super) taken_down: i64,
    /// Those whose changes somebody undoes again and again.
    pub(super) contested: i64,
}

impl Totals {
    /// Counts a resource, or counts it no longer.
    fn add(&mut self, tracked: &Tracked, number: i64) {
        self.resources[tracked.id.kind as usize][tracked.sync as usize][tracked.health as usize] += number;
        self.taken_down += number * i64::from(tracked.taken_down);
        self.contested += number * i64::from(tracked.contested);
    }
}

/// What is remembered of every resource.
#[derive(Debug, Clone, Default)]
pub(super) struct Tracker {
    resources: SharedMap<ResourceId, Arc<Tracked>>,
    totals: Totals,
    /// Conditions that held when an earlier run last said so, until the first pass.
    restored: BTreeMap<ResourceId, Vec<(ConditionKind, String, SystemTime)>>,
}

/// What is remembered of one resource.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    id: ResourceId,
    pub(super) sync: Sync,
    pub(super) sync_since: SystemTime,
    pub(super) health: Health,
    pub(super) health_since: SystemTime,
    taken_down: bool,
    contested: bool,
    conditions: Vec<(ConditionKind, String, SystemTime)>,
    drift: Vec<(DriftType, String, SystemTime)>,
    /// When it was first seen not to match, on the monotonic clock.
    out_since: Option<Duration>,
    /// How its last step failed.
    pub(super) failure: Option<(StepFailure, SystemTime)>,
}

impl Tracked {
    /// Since when a condition has held.
    pub(super) fn condition_since(&self, condition: &Condition) -> Option<SystemTime> {
        self.conditions
            .iter()
            .find(|(kind, reason, _)| *kind == condition.kind && *reason == condition.reason)
            .map(|(_, _, since)| *since)
    }

    /// Since when a piece of drift has been seen.
    pub(super) fn drift_since(&self, drift: &Drift) -> Option<SystemTime> {
        self.drift
            .iter()
            .find(|(kind, object, _)| *kind == drift.drift && *object == drift.object)
            .map(|(_, _, since)| *since)
    }
}

/// What a pass changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Resources that no longer exist.
    pub(super) vanished: Vec<ResourceId>,
    /// Pieces of drift that were not there before.
    pub(super) drift: Vec<DriftType>,
    /// Conditions that came or went.
    pub(super) conditions: Vec<ConditionNews>,
    /// How long resources took that came to match, or were to go and are gone.
    pub(super) converged: Vec<Duration>,
}

impl Tracker {
    /// Knows which conditions held when an earlier run last said so, by its events, oldest first.
    pub(super) fn restored(entries: &[Entry]) -> Self {
        let mut restored: BTreeMap<ResourceId, Vec<(ConditionKind, String, SystemTime)>> = BTreeMap::new();
        for entry in entries {
            let Entry::Condition(event) = entry else { continue };
            let own = restored.entry(event.resource.clone()).or_default();
            own.retain(|(kind, reason, _)| (*kind, reason) != (event.condition, &event.reason));
            match (event.change, parse_rfc3339(&event.time)) {
                (ConditionChange::Raised, Some(since)) => own.push((event.condition, event.reason.clone(), since)),
                (ConditionChange::Raised, None) | (ConditionChange::Cleared, _) => {}
            }
        }
        Tracker { restored, ..Tracker::default() }
    }

    /// Takes in what a pass shows of resources: of all that there are, or of `only` these. A blind pass knows nothing
    /// new: it only makes things unknown.
    pub(super) fn pass(
        &mut self,
        rows: &[Row<'_>],
        only: Option<&BTreeSet<ResourceId>>,
        blind: bool,
        wall: SystemTime,
        at: Duration,
    ) -> Changes {
        let mut changes = Changes::default();
        let shown: BTreeSet<&ResourceId> = rows.iter().map(|row| row.id).collect();
        let gone: Vec<ResourceId> = match only {
            Some(only) => only.iter().filter(|id| !shown.contains(id) && self.knows(id)).cloned().collect(),
            None => self.resources.keys().filter(|id| !shown.contains(id)).cloned().collect(),
        };
        for id in gone {
            if let Some(gone) = self.resources.remove(&id) {
                self.totals.add(&gone, -1);
                changes.leave(&gone, at);
            }
        }
        for row in rows {
            let known = self.resources.get(row.id);
            if let Some(known) = known {
                self.totals.add(known, -1);
            }
            let mut tracked = known.cloned().unwrap_or_else(|| {
                Arc::new(Tracked {
                    id: row.id.clone(),
                    sync: row.sync,
                    sync_since: wall,
                    health: row.health,
                    health_since: wall,
                    taken_down: false,
                    contested: false,
                    conditions: self.restored.remove(row.id).unwrap_or_default(),
                    drift: Vec::new(),
                    out_since: None,
                    failure: None,
                })
            });
            if tracked.is_news(row) {
                Arc::make_mut(&mut tracked).pass(row, blind, wall, at, &mut changes);
            }
            self.totals.add(&tracked, 1);
            if known.is_none_or(|known| !Arc::ptr_eq(known, &tracked)) {
                self.resources.insert(row.id.clone(), tracked);
            }
        }
        if !blind {
            self.restored.clear();
        }
        changes
    }

    /// How many resources there are, by their states.
    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Takes in what became of a step.
    pub(super) fn step(&mut self, step: &StepReport) {
        let Some(tracked) = self.resources.get_mut(&step.resource).map(Arc::make_mut) else { return };
        match &step.outcome {
            Ok(()) => tracked.failure = None,
            Err(failure) if failure.kind.is_race() => {}
            Err(failure) => {
                let since = match &tracked.failure {
                    Some((earlier, since)) if earlier.kind == failure.kind => *since,
                    Some(_) | None => step.wall,
                };
                tracked.failure = Some((failure.clone(), since));
            }
        }
    }

    /// Whether a resource exists.
    pub(super) fn knows(&self, id: &ResourceId) -> bool {
        self.resources.contains_key(id)
    }

    /// What is remembered of a resource.
    pub(super) fn get(&self, id: &ResourceId) -> Option<&Tracked> {
        self.resources.get(id).map(|tracked| &**tracked)
    }
}

impl Changes {
    /// Takes note of the conditions that came and went. That something is on its way is none to keep.
    fn compare(&mut self, row: &Row<'_>, before: &[(ConditionKind, String, SystemTime)]) {
        let mut add = |condition: ConditionKind, reason: &String, change: ConditionChange, message: &str| {
            if condition != ConditionKind::Progressing {
                let (reason, message) = (reason.clone(), message.to_owned());
                self.conditions.push(ConditionNews { resource: row.id.clone(), condition, reason, change, message });
            }
        };
        for (kind, reason, _) in before {
            if !row.conditions.iter().any(|now| (now.kind, &now.reason) == (*kind, reason)) {
                add(*kind, reason, ConditionChange::Cleared, "");
            }
        }
        for now in row.conditions {
            if !before.iter().any(|(kind, reason, _)| (*kind, reason) == (now.kind, &now.reason)) {
                add(now.kind, &now.reason, ConditionChange::Raised, &now.message);
            }
        }
    }

    fn leave(&mut self, gone: &Tracked, at: Duration) {
        if let Some(since) = gone.out_since {
            self.converged.push(at.saturating_sub(since));
        }
        self.vanished.push(gone.id.clone());
    }
}

impl Tracked {
    /// Whether a row says anything new. What matches, runs, and has nothing to tell stays as it is, as most do.
    fn is_news(&self, row: &Row<'_>) -> bool {
        let at_rest = row.sync == Sync::Synced && row.drift.is_empty() && row.conditions.is_empty();
        let knows = self.conditions.is_empty() && self.drift.is_empty() && !self.taken_down && !self.contested;
        let settled = self.out_since.is_none() && self.failure.is_none();
        !(at_rest && knows && settled && self.sync == row.sync && self.health == row.health)
    }

    fn pass(&mut self, row: &Row<'_>, blind: bool, wall: SystemTime, at: Duration, changes: &mut Changes) {
        if self.sync != row.sync {
            self.sync = row.sync;
            self.sync_since = wall;
        }
        if self.health != row.health {
            self.health = row.health;
            self.health_since = wall;
        }
        self.taken_down = row.is_taken_down();
        self.contested = row.is_contested();
        if blind {
            return;
        }
        match row.sync {
            // Nothing converges while a person wants it left alone.
            Sync::OutOfSync if row.health == Health::Suspended => self.out_since = None,
            Sync::OutOfSync => self.out_since = self.out_since.or(Some(at)),
            Sync::Synced => {
                self.failure = None;
                if let Some(since) = self.out_since.take() {
                    changes.converged.push(at.saturating_sub(since));
                }
            }
            // What cannot be seen may well be as it was.
            Sync::Unknown => return,
        }
        // Most resources have neither drift nor conditions, pass after pass.
        if !(row.drift.is_empty() && self.drift.is_empty()) {
            let mut drift = Vec::with_capacity(row.drift.len());
            for piece in row.drift {
                let since = self.drift_since(piece);
                if since.is_none() {
                    changes.drift.push(piece.drift);
                }
                drift.push((piece.drift, piece.object.clone(), since.unwrap_or(wall)));
            }
            self.drift = drift;
        }
        if !(row.conditions.is_empty() && self.conditions.is_empty()) {
            changes.compare(row, &self.conditions);
            let conditions = row.conditions.iter().map(|condition| {
                let since = self.condition_since(condition).unwrap_or(wall);
                (condition.kind, condition.reason.clone(), since)
            });
            self.conditions = conditions.collect();
        }
    }
}
