//! What a pass decided.

use std::collections::BTreeMap;

use super::desired::Origin;
use super::names::{ResourceId, Revision};
use super::status::{Condition, Drift, Health, Sync};
use super::step::PlannedStep;

/// What a pass will do and what it found.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The revision planned for.
    pub revision: Revision,
    /// Every resource that is desired, or of which something exists under our mark.
    pub resources: BTreeMap<ResourceId, ResourcePlan>,
    /// What became of removals.
    pub prune: PruneVerdict,
}

/// One resource in a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourcePlan {
    /// Where the manifests describe it; none for a resource that they no longer describe.
    pub origin: Option<Origin>,
    /// What to do, in order; empty when nothing can or need be done now.
    pub steps: Vec<PlannedStep>,
    /// Differences that no change of the manifests explains.
    pub drift: Vec<Drift>,
    /// Does it match?
    pub sync: Sync,
    /// Does it run?
    pub health: Health,
    /// What else is known.
    pub conditions: Vec<Condition>,
}

/// What became of the removals that a plan would need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PruneVerdict {
    /// Nothing to remove.
    #[default]
    Nothing,
    /// These resources are being removed (or wait for their second sighting).
    Allowed(Vec<ResourceId>),
    /// These resources are kept, and why.
    Blocked {
        /// What would be removed.
        resources: Vec<ResourceId>,
        /// Why it is not.
        reason: PruneBlock,
    },
}

/// Why removals wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneBlock {
    /// Too many at once: a person must confirm.
    Guard {
        /// How many would be removed.
        removing: usize,
        /// Out of how many managed.
        managed: usize,
    },
    /// A manifest is invalid or could not be read.
    InvalidManifests,
    /// A list was incomplete.
    IncompleteObservation,
    /// `Policy::prune` is off.
    Disabled,
}
