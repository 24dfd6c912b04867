//! A plan without values.

use std::collections::BTreeMap;

use serde::Serialize;

use super::status::PruneStatus;
use crate::model::{Drift, Health, Origin, Plan, PlannedStep, Reason, ResourceId, Revision, StepVerb, Sync, Wait};

/// What a pass decided, fit to be shown to anybody: fields by name, values never.
#[derive(Debug, Clone, Serialize)]
pub struct PlanView {
    /// The revision planned for.
    pub revision: Revision,
    /// Number of steps that can be taken now, over all resources.
    pub steps: usize,
    /// What becomes of removals.
    pub prune: PruneStatus,
    /// Resources that need steps or have drift, by id.
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
    /// What is needed and must wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<StepView>,
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
    /// What it waits for, as people read it; none for a step that is being taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<&'static str>,
}

impl StepView {
    fn of(planned: &PlannedStep, wait: Option<&Wait>) -> Self {
        StepView {
            verb: planned.step.verb(),
            object: planned.step.object(),
            reason: planned.reason,
            fields: planned.changes.iter().map(|change| change.field.clone()).collect(),
            waits_for: wait.map(Wait::as_str),
        }
    }
}

impl PlanView {
    /// The view of a plan.
    pub fn of(plan: &Plan) -> Self {
        let resources: BTreeMap<_, _> = plan
            .resources
            .iter()
            .filter(|(_, resource)| {
                !(resource.steps.is_empty() && resource.held.is_empty() && resource.drift.is_empty())
            })
            .map(|(id, resource)| {
                let view = PlannedResource {
                    origin: resource.origin.clone(),
                    sync: resource.sync,
                    health: resource.health,
                    drift: resource.drift.clone(),
                    steps: resource.steps.iter().map(|step| StepView::of(step, None)).collect(),
                    held: resource.held.iter().map(|held| StepView::of(&held.step, Some(&held.wait))).collect(),
                };
                (id.clone(), view)
            })
            .collect();
        PlanView {
            revision: plan.revision.clone(),
            steps: plan.steps(),
            prune: PruneStatus::of(&plan.prune),
            resources,
        }
    }
}
