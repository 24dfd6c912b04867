//! What is remembered of each resource's tries, and what of a plan may be carried out now.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::backoff::{Backoff, mix};
use super::executor::Job;
use crate::model::{
    Desired, DesiredResource, FailureKind, Observed, Plan, PlannedStep, ResourceId, ResourcePlan, StepVerb, Sync,
};
use crate::report::Retry;

/// The tries of every resource that did not simply succeed. Losing it costs nothing but patience.
#[derive(Debug, Default)]
pub(super) struct Retries {
    seed: u64,
    tries: BTreeMap<ResourceId, Try>,
}

#[derive(Debug, Default)]
struct Try {
    backoff: Backoff,
    /// What was tried; something else is tried at once.
    desired: Option<Arc<DesiredResource>>,
    /// The step whose answer was lost.
    lost: Option<Lost>,
}

/// A step whose answer was lost.
#[derive(Debug)]
struct Lost {
    verb: StepVerb,
    object: String,
    /// Generations of the platform's and the registry's snapshot when it was lost: only a later one can tell.
    generations: (u64, u64),
}

/// What of a plan may be carried out now, and when to look again for the rest.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Resources with steps that may be taken now.
    pub(super) jobs: Vec<Job>,
    /// Resources with steps that have to wait.
    pub(super) waiting: BTreeMap<ResourceId, Retry>,
    /// The earliest time at which one of them may go on.
    pub(super) due: Option<Duration>,
}

impl Retries {
    /// No tries yet. `seed` varies the jitter between operators.
    pub(super) fn new(seed: u64) -> Self {
        Retries { seed, tries: BTreeMap::new() }
    }

    /// A step failed. `generations` are those of the snapshots known at this time.
    pub(super) fn failed(
        &mut self,
        resource: &ResourceId,
        desired: Option<Arc<DesiredResource>>,
        kind: FailureKind,
        step: Option<&PlannedStep>,
        generations: (u64, u64),
        now: Duration,
    ) {
        let seed = self.seed_of(resource);
        let tried = self.tries.entry(resource.clone()).or_default();
        tried.desired = desired;
        tried.backoff.failed(kind, now, seed);
        tried.lost = match (kind, step) {
            (FailureKind::Ambiguous, Some(step)) => {
                Some(Lost { verb: step.step.verb(), object: step.step.object(), generations })
            }
            (_, _) => None,
        };
    }

    /// The step that failed just now was sent so long before; zero where nobody measured it.
    pub(super) fn sent_before(&mut self, resource: &ResourceId, ago: Duration) {
        if let Some(tried) = self.tries.get_mut(resource) {
            tried.backoff.sent_before(ago);
        }
    }

    /// All steps of a resource worked.
    pub(super) fn succeeded(&mut self, resource: &ResourceId, fingerprint: u64, now: Duration) {
        let seed = self.seed_of(resource);
        let tried = self.tries.entry(resource.clone()).or_default();
        tried.backoff.succeeded(fingerprint, now, seed);
        tried.lost = None;
    }

    /// A person asks for another try of everything.
    pub(super) fn forgive_all(&mut self) {
        for tried in self.tries.values_mut() {
            tried.backoff.forgive();
        }
    }

    /// A person asks for another try of one resource.
    pub(super) fn forgive(&mut self, resource: &ResourceId) {
        if let Some(tried) = self.tries.get_mut(resource) {
            tried.backoff.forgive();
        }
    }

    /// Failures in a row, and what the last one was.
    pub(super) fn failures(&self, resource: &ResourceId) -> (u32, Option<FailureKind>) {
        self.tries.get(resource).map_or((0, None), |tried| (tried.backoff.attempts, tried.backoff.last))
    }

    /// Picks what of a plan may be carried out now. `busy` says which resources to leave out.
    pub(super) fn select(
        &mut self,
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        busy: impl Fn(&ResourceId) -> bool,
    ) -> Selection {
        let now = observed.at;
        self.tries.retain(|resource, tried| plan.resources.contains_key(resource) || !tried.backoff.is_spent(now));
        for (resource, tried) in &mut self.tries {
            if let Some(planned) = plan.resources.get(resource) {
                tried.learn(desired.resources.get(resource), planned, observed);
            }
        }
        let mut selection = Selection::default();
        for (resource, planned) in plan.restless().filter(|(_, planned)| !planned.steps.is_empty()) {
            if let Some(tried) = self.tries.get(resource).filter(|tried| tried.backoff.due() > now) {
                let (due, attempts, last) = (tried.backoff.due(), tried.backoff.attempts, tried.backoff.last);
                let failures = attempts + tried.backoff.races;
                selection.waiting.insert(resource.clone(), Retry { failures, attempts, last, at: due });
                selection.due = Some(selection.due.map_or(due, |earliest| earliest.min(due)));
            } else if !busy(resource) {
                let (resource, steps) = (resource.clone(), planned.steps.clone());
                let desired = desired.resources.get(&resource).cloned();
                selection.jobs.push(Job { resource, steps, desired });
            }
        }
        selection
    }

    fn seed_of(&self, resource: &ResourceId) -> u64 {
        let mut hasher = DefaultHasher::new();
        resource.hash(&mut hasher);
        mix(self.seed, hasher.finish())
    }
}

impl Try {
    /// Lets go of what is no longer true.
    fn learn(&mut self, wanted: Option<&Arc<DesiredResource>>, planned: &ResourcePlan, observed: &Observed) {
        let same = match (&self.desired, wanted) {
            (Some(tried), Some(wanted)) => Arc::ptr_eq(tried, wanted) || same_meaning(tried, wanted),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            self.desired = wanted.cloned();
            self.backoff.forgive();
        }
        if let Some(lost) = &self.lost {
            let seen_since =
                observed.platform.as_ref().is_some_and(|p| p.complete && p.generation > lost.generations.0)
                    && observed.registry.as_ref().is_some_and(|r| r.complete && r.generation > lost.generations.1);
            let still_needed =
                planned.steps.iter().any(|step| step.step.verb() == lost.verb && step.step.object() == lost.object);
            if seen_since && !still_needed {
                self.lost = None;
                self.backoff.answered();
            }
        }
        if planned.sync == Sync::Synced && self.backoff.attempts > 0 && self.lost.is_none() {
            self.backoff.forgive();
        }
    }
}

/// Whether two versions of a resource ask for the same, wherever in the files they stand.
pub(super) fn same_meaning(one: &DesiredResource, other: &DesiredResource) -> bool {
    one.services == other.services && one.records == other.records && one.handling == other.handling
}
