//! A plan as JSON, for programs.
//!
//! ```json
//! {"revision": "…", "steps": 1, "suspended": null,
//!  "summary": {"create": 0, "update": 1, "remove": 0, "register": 0, "deregister": 0, "forget": 0, "held": 0},
//!  "prune": {"state": "nothing | allowed | blocked", "resources": [], "reason": null, "message": null},
//!  "resources": {"app/X": {
//!     "origin": {"file": "app_x.yml", "line": 2}, "sync": "OutOfSync", "health": "Healthy",
//!     "verdict": {"state": "in_progress", "why": "steps", "message": "modified: service x (environment.MODE)"},
//!     "steps": [{"verb": "update", "object": "service x", "reason": "modified",
//!                "changes": [{"field": "environment.MODE", "from": null, "to": null, "secret": true}]}],
//!     "held": [{"verb": "…", "object": "…", "reason": "…", "changes": [], "waits_for": "a second look"}],
//!     "drift": [{"type": "modified", "object": "service x", "fields": ["environment.MODE"]}],
//!     "ignored": [{"object": "service x", "changes": [{"field": "replicas", "from": "4", "to": "2", "secret": false}]}],
//!     "conditions": [{"type": "Waiting", "reason": "NetworkMissing", "message": "…"}]}}}
//! ```
//!
//! `suspended` is since when everything is. Every resource is in it, in order of its id. `ignored` is left out where there is nothing: `from` is what is left
//! alone there, `to` what the manifest says. `from` and `to` of a secret change are null unless a person asked to
//! see them; `"secret": true` stays either way.

use std::collections::BTreeMap;

use serde::Serialize;

use super::hold::HoldStatus;
use super::{
    Condition, Drift, FieldChange, Health, Ignored, Origin, Plan, PlannedStep, PruneVerdict, Reason, ResourceId,
    ResourcePlan, StepVerb, Sync, Verdict, Wait,
};

/// Whether the values of environment variables are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretValues {
    /// They are null.
    Hidden,
    /// A person asked for them.
    Shown,
}

/// A plan to be written as JSON, in the shape that the module describes. It holds nothing but texts, numbers
/// and maps with texts for keys, so that serialising it cannot fail.
pub fn plan_json(plan: &Plan, secrets: SecretValues) -> impl Serialize {
    Document {
        revision: &plan.revision.0,
        steps: plan.steps(),
        suspended: plan.suspended.as_ref().map(|hold| hold.since.as_str()),
        suspended_until: plan.suspended.as_ref().and_then(|hold| hold.term.until).map(|until| until.to_string()),
        freeze: plan.freeze.as_ref().map(HoldStatus::from),
        summary: summary(plan),
        prune: Prune::of(&plan.prune),
        resources: plan.resources.iter().map(|(id, resource)| (id, Resource::of(resource, secrets))).collect(),
    }
}

/// How many steps of each verb can be taken, and how many are held.
fn summary(plan: &Plan) -> BTreeMap<&'static str, usize> {
    let mut summary: BTreeMap<&'static str, usize> = StepVerb::ALL.iter().map(|verb| (verb.as_str(), 0)).collect();
    summary.insert("held", 0);
    for resource in plan.resources.values() {
        for step in &resource.steps {
            *summary.entry(step.step.verb().as_str()).or_default() += 1;
        }
        *summary.entry("held").or_default() += resource.held.len();
    }
    summary
}

#[derive(Serialize)]
struct Document<'a> {
    revision: &'a str,
    steps: usize,
    suspended: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freeze: Option<HoldStatus>,
    summary: BTreeMap<&'static str, usize>,
    prune: Prune<'a>,
    resources: BTreeMap<&'a ResourceId, Resource<'a>>,
}

#[derive(Serialize)]
struct Prune<'a> {
    state: &'static str,
    resources: &'a [ResourceId],
    reason: Option<&'static str>,
    message: Option<String>,
}

impl<'a> Prune<'a> {
    fn of(verdict: &'a PruneVerdict) -> Self {
        match verdict {
            PruneVerdict::Nothing => Prune { state: "nothing", resources: &[], reason: None, message: None },
            PruneVerdict::Allowed(resources) => Prune { state: "allowed", resources, reason: None, message: None },
            PruneVerdict::Blocked { resources, reason } => {
                Prune { state: "blocked", resources, reason: Some(reason.as_str()), message: Some(reason.message()) }
            }
        }
    }
}

#[derive(Serialize)]
struct Resource<'a> {
    origin: Option<&'a Origin>,
    sync: Sync,
    health: Health,
    verdict: &'a Verdict,
    steps: Vec<Step<'a>>,
    held: Vec<Step<'a>>,
    drift: &'a [Drift],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<LeftAlone<'a>>,
    conditions: &'a [Condition],
}

impl<'a> Resource<'a> {
    fn of(resource: &'a ResourcePlan, secrets: SecretValues) -> Self {
        Resource {
            origin: resource.origin.as_ref(),
            sync: resource.sync,
            health: resource.health,
            verdict: &resource.verdict,
            steps: resource.steps.iter().map(|step| Step::of(step, None, secrets)).collect(),
            held: resource.held.iter().map(|held| Step::of(&held.step, Some(&held.wait), secrets)).collect(),
            drift: &resource.drift,
            ignored: resource.ignored.iter().map(|ignored| LeftAlone::of(ignored, secrets)).collect(),
            conditions: &resource.conditions,
        }
    }
}

#[derive(Serialize)]
struct Step<'a> {
    verb: StepVerb,
    object: String,
    reason: Reason,
    changes: Vec<Change<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'static str>,
}

impl<'a> Step<'a> {
    fn of(step: &'a PlannedStep, wait: Option<&Wait>, secrets: SecretValues) -> Self {
        Step {
            verb: step.step.verb(),
            object: step.step.object(),
            reason: step.reason,
            changes: step.changes.iter().map(|change| Change::of(change, secrets)).collect(),
            waits_for: wait.map(Wait::as_str),
        }
    }
}

#[derive(Serialize)]
struct LeftAlone<'a> {
    object: &'a str,
    changes: Vec<Change<'a>>,
}

impl<'a> LeftAlone<'a> {
    fn of(ignored: &'a Ignored, secrets: SecretValues) -> Self {
        let changes = ignored.changes.iter().map(|change| Change::of(change, secrets)).collect();
        LeftAlone { object: &ignored.object, changes }
    }
}

#[derive(Serialize)]
struct Change<'a> {
    field: &'a str,
    from: Option<&'a str>,
    to: Option<&'a str>,
    secret: bool,
}

impl<'a> Change<'a> {
    fn of(change: &'a FieldChange, secrets: SecretValues) -> Self {
        let shown =
            |value: &'a Option<String>| value.as_deref().filter(|_| !change.secret || secrets == SecretValues::Shown);
        Change { field: &change.field, from: shown(&change.from), to: shown(&change.to), secret: change.secret }
    }
}
