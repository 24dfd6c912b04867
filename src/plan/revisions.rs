//! What two revisions of the manifests describe otherwise, in the words of a plan: what a rollout of the second one would
//! do to a cluster that is as the first one says.
//!
//! Nothing is observed, and no rule of a rollout counts: nothing is held, and nothing is drift.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::diff;
use super::records;
use super::target::Target;
use crate::model::record::RecordOwner;
use crate::model::service::{Mark, RemovalTerms};
use crate::model::{
    Desired, DesiredResource, DesiredService, Health, InstanceName, ObservedService, Plan, PlannedStep, Progress,
    Reason, RecordStep, ResourceId, ResourcePlan, Revision, Rollout, ServiceId, ServiceStep, Step, Sync, UpdateState,
    Verdict,
};

/// The differences of `after` from `before`. Every resource of either is in the plan; one without steps is the same in
/// both. A resource that only `before` describes has its place there.
pub fn between(before: &Desired, after: &Desired, instance: &InstanceName) -> Plan {
    let side = |desired| Side { desired, instance };
    let (before, after) = (side(before), side(after));
    let ids: BTreeSet<&ResourceId> = before.desired.resources.keys().chain(after.desired.resources.keys()).collect();
    let mut plan = Plan { revision: after.desired.revision.clone(), ..Plan::default() };
    for id in ids {
        let (old, new) = (before.desired.resources.get(id), after.desired.resources.get(id));
        let steps = steps(&before, old.map(|old| &**old), &after, new.map(|new| &**new));
        let (sync, verdict) = if steps.is_empty() {
            (Sync::Synced, Verdict::Settled)
        } else {
            plan.restless.insert(id.clone());
            (Sync::OutOfSync, Verdict::InProgress { why: Progress::Steps, message: "it differs".into() })
        };
        let planned = ResourcePlan {
            origin: new.or(old).map(|resource| resource.origin.clone()),
            steps,
            held: Vec::new(),
            drift: Vec::new(),
            ignored: Vec::new(),
            sync,
            health: Health::Unknown,
            conditions: Vec::new(),
            verdict,
        };
        plan.resources.insert(id.clone(), Arc::new(planned));
    }
    plan
}

/// One of the two revisions.
struct Side<'a> {
    desired: &'a Desired,
    instance: &'a InstanceName,
}

impl Side<'_> {
    /// The mark of a service that this revision would deploy.
    fn mark(&self, resource: &DesiredResource, service: &DesiredService, revision: &Revision) -> Mark {
        Mark {
            instance: self.instance.clone(),
            resource: resource.id.clone(),
            spec: service.hash.clone(),
            revision: revision.clone(),
            origin: resource.origin.to_string(),
            kept: Some(!resource.handling.prune),
            terms: RemovalTerms { after: resource.handling.after.clone(), windows: resource.handling.windows.clone() },
            options: service.spec.options.set().collect(),
            run: None,
        }
    }

    /// A service as it would be found where this revision is in force.
    fn deployed(&self, resource: &DesiredResource, service: &DesiredService) -> ObservedService {
        ObservedService {
            id: ServiceId(String::new()),
            version: 0,
            spec: Arc::clone(&service.spec),
            foreign_mode: None,
            mark: Some(self.mark(resource, service, &self.desired.revision)),
            runs_operator: false,
            container_labels: service.spec.labels.clone(),
            update: UpdateState::None,
            rollout: Rollout::default(),
            created_at: String::new(),
        }
    }

    fn owner(&self, resource: &DesiredResource) -> RecordOwner {
        RecordOwner { instance: self.instance.clone(), resource: resource.id.clone(), kept: !resource.handling.prune }
    }
}

fn steps(
    before: &Side<'_>,
    old: Option<&DesiredResource>,
    after: &Side<'_>,
    new: Option<&DesiredResource>,
) -> Vec<PlannedStep> {
    let mut steps = Vec::new();
    let added = if old.is_some() { Reason::ManifestChanged } else { Reason::New };
    let mut push = |step, reason, changes| steps.push(PlannedStep { step, reason, changes });
    for (resource, service) in services(new) {
        let mark = after.mark(resource, service, &after.desired.revision);
        let spec = Arc::clone(&service.spec);
        let Some((owner, other)) = services(old).find(|(_, other)| other.spec.name == spec.name) else {
            push(Step::Service(ServiceStep::Create { spec, mark }), added, Vec::new());
            continue;
        };
        let found = before.deployed(owner, other);
        let target = Target::wanted(&service.spec, None, &found);
        let mut changes = diff::describe(&target, &found, diff::compare(&target, &found));
        changes.extend(diff::describe_mark(&mark, found.mark.as_ref(), false));
        if !changes.is_empty() {
            let (id, version, container_labels) = (found.id.clone(), found.version, spec.labels.clone());
            let step = ServiceStep::Update { id, version, spec, container_labels, mark };
            push(Step::Service(step), Reason::ManifestChanged, changes);
        }
    }
    for record in new.iter().flat_map(|resource| &resource.records) {
        let (Some(resource), id) = (new, record.id()) else { continue };
        let owner = after.owner(resource);
        let other = old.and_then(|old| Some((old, old.records.iter().find(|other| other.id() == id)?)));
        let (reason, changes) = match other {
            None => (added, Vec::new()),
            Some((old, other)) if records::same(record, other) && owner.kept != old.handling.prune => continue,
            Some((old, other)) => {
                let changes = records::describe(record, other, Some(&before.owner(old)), &owner);
                (Reason::ManifestChanged, changes)
            }
        };
        push(Step::Record(RecordStep::Register { record: Arc::clone(record), owner }), reason, changes);
    }
    for (_, service) in services(old).filter(|(_, old)| !services(new).any(|(_, new)| new.spec.name == old.spec.name)) {
        let (id, name) = (ServiceId(String::new()), service.spec.name.clone());
        push(Step::Service(ServiceStep::Remove { id, name }), Reason::Orphaned, Vec::new());
    }
    for record in old.iter().flat_map(|resource| &resource.records) {
        if !new.is_some_and(|new| new.records.iter().any(|other| other.id() == record.id())) {
            let step = RecordStep::Deregister { record: Arc::clone(record) };
            push(Step::Record(step), Reason::Orphaned, Vec::new());
        }
    }
    steps
}

fn services(resource: Option<&DesiredResource>) -> impl Iterator<Item = (&DesiredResource, &DesiredService)> {
    resource.into_iter().flat_map(|resource| resource.services.iter().map(move |service| (resource, service)))
}
