//! A plan without values.

use std::collections::BTreeMap;

use serde::Serialize;

use super::status::PruneStatus;
use crate::model::{Drift, Health, Origin, Plan, Reason, ResourceId, Revision, StepVerb, Sync};

/// What a pass decided, fit to be shown to anybody: fields by name, values never.
#[derive(Debug, Clone, Serialize)]
pub struct PlanView {
    /// The revision planned for.
    pub revision: Revision,
    /// Number of steps over all resources.
    pub steps: usize,
    /// What becomes of removals.
    pub prune: PruneStatus,
    /// Resources that need steps or drift, by id.
    pub resources: BTreeMap<ResourceId, PlannedResource>,
}

/// One resource in a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedResource {
    /// Where the manifests describe it.
    pub origin: Option<Origin>,
    /// Does it match?
    pub sync: Sync,
    /// Does it run?
    pub health: Health,
    /// Differences that no change of the manifests explains.
    pub drift: Vec<Drift>,
    /// What will be done, in order.
    pub steps: Vec<StepView>,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    /// What to do.
    pub verb: StepVerb,
    /// To what: `service scheduler`.
    pub object: String,
    /// Why.
    pub reason: Reason,
    /// Names of the fields that differ.
    pub fields: Vec<String>,
}

impl PlanView {
    /// The view of a plan.
    pub fn of(plan: &Plan) -> Self {
        let resources: BTreeMap<_, _> = plan
            .resources
            .iter()
            .filter(|(_, resource)| !resource.steps.is_empty() || !resource.drift.is_empty())
            .map(|(id, resource)| {
                let steps = resource.steps.iter().map(|planned| StepView {
                    verb: planned.step.verb(),
                    object: planned.step.object(),
                    reason: planned.reason,
                    fields: planned.changes.iter().map(|change| change.field.clone()).collect(),
                });
                let view = PlannedResource {
                    origin: resource.origin.clone(),
                    sync: resource.sync,
                    health: resource.health,
                    drift: resource.drift.clone(),
                    steps: steps.collect(),
                };
                (id.clone(), view)
            })
            .collect();
        PlanView {
            revision: plan.revision.clone(),
            steps: resources.values().map(|resource| resource.steps.len()).sum(),
            prune: PruneStatus::of(&plan.prune),
            resources,
        }
    }
}
