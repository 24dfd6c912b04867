//! What to do, decided: a pure function from what should be and what is to a list of steps.
//!
//! # Flow
//!
//! ```text
//! Desired ──┐
//! Observed ─┼─► plan() ─► Plan { per resource: steps in order, drift, sync, health, conditions; the prune verdict }
//! Policy ───┤
//! Memory ───┘        Memory::learn(observed, plan, outcomes) ─► the memory of the next pass
//! ```
//!
//! # Invariants
//!
//! - Idempotent: applying the plan and planning again yields no steps.
//! - A step leaves nothing to decide; it names full ids and versions from the snapshot.
//! - Only what carries our mark, or what adoption rightly takes over, is changed or removed.
//! - Nothing is removed on an incomplete read, on one sighting, while any manifest is invalid, or beyond the
//!   guard without a person's word.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{InstanceName, Record, RecordId, ResourceId, ServiceId, ServiceName, SpecHash};

/// What an operator may do, and its limits. Values, not behaviour.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whose objects are ours.
    pub instance: InstanceName,
    /// Remove what the manifests no longer describe.
    pub prune: bool,
    /// How many resources one plan may remove without a person's word.
    pub guard: Guard,
    /// A person has confirmed removals beyond the guard, for this plan.
    pub prune_confirmed: bool,
    /// Plan for these resources alone and leave all others as they are; none for every resource. `apply` and
    /// `down` with paths are scoped to what these paths describe.
    pub scope: Option<BTreeSet<ResourceId>>,
    /// Resources that a person asked to tear down: removed although the manifests describe them, with
    /// [`crate::model::Reason::Requested`], whatever `prune` and the guard say.
    pub remove: BTreeSet<ResourceId>,
    /// How long a resource may be on its way before it counts as degraded.
    pub progress_deadline: Duration,
    /// How long something written to the registry may stay invisible before it counts as missing.
    pub expectation: Duration,
}

/// The prune guard: a plan that would remove everything, or more than `count` resources and more than
/// `fraction` of those managed, removes nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guard {
    /// Default 5.
    pub count: usize,
    /// From 0 to 1, default 0.3.
    pub fraction: f64,
}

impl Default for Guard {
    fn default() -> Self {
        Guard { count: 5, fraction: 0.3 }
    }
}

/// What the operator remembers between passes. All of it can be lost without harm.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Services that were seen without a reason to exist, and the generation of the snapshot that showed it.
    pub orphan_services: BTreeMap<ServiceId, u64>,
    /// The same for records.
    pub orphan_records: BTreeMap<RecordId, u64>,
    /// Records written or taken back a moment ago (`None`), with the time until which the registry may say
    /// otherwise.
    pub expected: BTreeMap<RecordId, (Option<std::sync::Arc<Record>>, Duration)>,
    /// Since when an asset's rows have stayed away, for assets that are being taken back.
    pub gone_since: BTreeMap<RecordId, Duration>,
    /// Updates that the engine rolled back: not tried again until the manifest changes.
    pub rolled_back: BTreeMap<ServiceName, SpecHash>,
    /// Updates that were sent and whose end has not been seen.
    pub attempted: BTreeMap<ServiceName, SpecHash>,
    /// Since when a resource has been on its way.
    pub progressing_since: BTreeMap<ResourceId, Duration>,
    /// Resources that a person told us to leave alone.
    pub suspended: BTreeSet<ResourceId>,
}
