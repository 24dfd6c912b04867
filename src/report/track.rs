//! Since when things are as they are.
//!
//! The tracker compares one pass with the one before. Both are sorted by resource, so that a pass costs one
//! walk over both lists side by side.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::Pass;
use super::events::{ConditionChange, ConditionNews, Entry, StepReport};
use super::metrics::PassResult;
use super::source::{self, SourceNews, SourceTrack};
use super::status::{PartState, Row};
use crate::clock::parse_rfc3339;
use crate::model::{Condition, ConditionKind, Drift, DriftType, Health, ResourceId, StepFailure, Sync};

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

/// What is remembered of every resource.
#[derive(Debug, Clone, Default)]
pub(super) struct Tracker {
    /// Sorted by resource.
    resources: Vec<Tracked>,
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
        Tracker { resources: Vec::new(), restored }
    }

    /// Takes in the resources of a pass, sorted. A blind pass knows nothing new: it only makes things unknown.
    pub(super) fn pass(&mut self, rows: &[Row<'_>], blind: bool, wall: SystemTime, at: Duration) -> Changes {
        let mut changes = Changes::default();
        let mut before = std::mem::take(&mut self.resources).into_iter().peekable();
        let mut resources = Vec::with_capacity(rows.len());
        for row in rows {
            while let Some(gone) = before.next_if(|tracked| tracked.id < *row.id) {
                changes.leave(gone, at);
            }
            let mut tracked = before.next_if(|tracked| tracked.id == *row.id).unwrap_or_else(|| Tracked {
                id: row.id.clone(),
                sync: row.sync,
                sync_since: wall,
                health: row.health,
                health_since: wall,
                conditions: self.restored.remove(row.id).unwrap_or_default(),
                drift: Vec::new(),
                out_since: None,
                failure: None,
            });
            tracked.pass(row, blind, wall, at, &mut changes);
            resources.push(tracked);
        }
        for gone in before {
            changes.leave(gone, at);
        }
        self.resources = resources;
        if !blind {
            self.restored.clear();
        }
        changes
    }

    /// Takes in what became of a step.
    pub(super) fn step(&mut self, step: &StepReport) {
        let Some(tracked) = self.find(&step.resource).map(|index| &mut self.resources[index]) else { return };
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
        self.find(id).is_some()
    }

    /// What is remembered of a resource.
    pub(super) fn get(&self, id: &ResourceId) -> Option<&Tracked> {
        self.find(id).map(|index| &self.resources[index])
    }

    fn find(&self, id: &ResourceId) -> Option<usize> {
        self.resources.binary_search_by(|tracked| tracked.id.cmp(id)).ok()
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

    fn leave(&mut self, gone: Tracked, at: Duration) {
        if let Some(since) = gone.out_since {
            self.converged.push(at.saturating_sub(since));
        }
        self.vanished.push(gone.id);
    }
}

impl Tracked {
    fn pass(&mut self, row: &Row<'_>, blind: bool, wall: SystemTime, at: Duration, changes: &mut Changes) {
        if self.sync != row.sync {
            self.sync = row.sync;
            self.sync_since = wall;
        }
        if self.health != row.health {
            self.health = row.health;
            self.health_since = wall;
        }
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
