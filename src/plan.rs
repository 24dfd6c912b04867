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
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    ConditionKind, DesiredResource, InstanceName, Record, RecordId, ResourceId, ServiceId, ServiceName, SpecHash,
};

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

/// What the operator remembers between passes. All of it can be lost without harm: removals then take one more
/// look, an update that the engine rolled back is tried once more, and deadlines begin anew.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Services that were seen without a reason to exist, and the generation of the snapshot that showed it.
    pub orphan_services: BTreeMap<ServiceId, u64>,
    /// The same for records.
    pub orphan_records: BTreeMap<RecordId, u64>,
    /// Services that are being removed, and for which resource they ran: their tasks outlive them.
    pub departing: BTreeMap<ServiceId, ResourceId>,
    /// Since when tasks that end hold up the taking back of a record.
    pub ending: BTreeMap<ServiceId, Duration>,
    /// Records written or taken back a moment ago (`None`), with the time until which the registry may say
    /// otherwise.
    pub expected: BTreeMap<RecordId, (Option<Arc<Record>>, Duration)>,
    /// Since when an asset's rows have stayed away, for assets that are being taken back.
    pub gone_since: BTreeMap<RecordId, Duration>,
    /// Updates that the engine rolled back: not tried again until the manifest changes. The one part that is
    /// worth keeping over a restart, since the engine forgets what it rolled back.
    pub rolled_back: BTreeMap<ServiceName, SpecHash>,
    /// Updates that were sent and whose end has not been seen.
    pub attempted: BTreeMap<ServiceName, Attempt>,
    /// Since when a resource has been on its way.
    pub progressing_since: BTreeMap<ResourceId, Duration>,
    /// Since when a condition holds, by its kind and reason.
    pub condition_since: BTreeMap<(ResourceId, ConditionKind, String), Duration>,
    /// What each resource looked like when it was last seen in sync: what of it is missing later was lost.
    pub synced: BTreeMap<ResourceId, Arc<DesiredResource>>,
    /// Resources whose removal a person has confirmed and that are not gone yet.
    pub confirmed: BTreeSet<ResourceId>,
    /// A person confirmed removals beyond the guard, for the next plan.
    pub confirm_next: bool,
    /// Resources that a person told us to leave alone.
    pub suspended: BTreeSet<ResourceId>,
    /// Resources of which a rolled-back update may be tried again.
    pub retry: BTreeSet<ResourceId>,
}

/// An update that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was asked for: the hash in the mark, with the digest if one was pinned.
    pub spec: SpecHash,
    /// The service.
    pub id: ServiceId,
    /// The version that the update was planned on. Only what the engine says under a later one is about it.
    pub version: u64,
}
