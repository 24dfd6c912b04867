//! The plan of one resource.

use super::context::Context;
use super::draft::Draft;
use super::join::{Joined, Orphans, Wanted};
use super::removal::Pruning;
use super::{health, records, removal, services};
use crate::model::{ConditionKind, DesiredResource, Health, ResourceId, ResourcePlan, ServiceId, Sync};

/// Plans a resource that the manifests describe.
pub(super) fn plan_wanted<'a>(context: &Context<'a>, joined: &Joined<'a>, wanted: &Wanted<'a>) -> ResourcePlan {
    let resource: &DesiredResource = wanted.resource;
    let (found, records) = (joined.services(wanted), joined.records(wanted));
    let mut draft = Draft::default();
    services::plan_services(context, &mut draft, resource, found, records);
    records::plan_records(context, &mut draft, resource, records, found);
    if !joined.orphans.is_empty()
        && let Some(orphans) = joined.orphans.get(&resource.id)
    {
        removal::plan_leftovers(context, &mut draft, &resource.id, orphans, found);
    }
    let health = health::of_wanted(context, &mut draft, resource, found);
    if resource.frozen {
        let message = format!("{} is invalid; the resource stays as it last was valid", resource.origin.file);
        draft.note(ConditionKind::Frozen, "InvalidManifest", message);
    }
    let blind = !resource.services.is_empty() && context.platform.is_none();
    let sync = match () {
        () if blind => Sync::Unknown,
        () if draft.differs => Sync::OutOfSync,
        () if draft.unknown => Sync::Unknown,
        () => Sync::Synced,
    };
    finish(context, draft, &resource.id, Some(resource), sync, health)
}

/// Plans a resource that exists and that nothing describes, or that a person wants gone.
pub(super) fn plan_unwanted(
    context: &Context<'_>,
    id: &ResourceId,
    orphans: &Orphans<'_>,
    pruning: &Pruning,
) -> ResourcePlan {
    let mut draft = Draft::default();
    removal::plan_removal(context, &mut draft, id, orphans, pruning);
    let tasks = |service: &ServiceId| context.platform.and_then(|platform| platform.tasks.get(service));
    let services =
        orphans.services.iter().map(|service| (&***service, tasks(&service.id).map(Vec::as_slice).unwrap_or_default()));
    let health = health::of_orphans(&mut draft, services);
    let described = context.desired.resources.get(id).map(|resource| &**resource);
    let sync = if draft.unknown || context.platform.is_none() { Sync::Unknown } else { Sync::OutOfSync };
    finish(context, draft, id, described, sync, health)
}

fn finish(
    context: &Context<'_>,
    mut draft: Draft,
    id: &ResourceId,
    described: Option<&DesiredResource>,
    sync: Sync,
    mut health: Health,
) -> ResourcePlan {
    if !context.memory.suspended.is_empty() && context.memory.suspended.contains(id) {
        draft.suspend();
        health = Health::Suspended;
    }
    let conditions = draft.conditions(context, id);
    ResourcePlan {
        origin: described.map(|resource| resource.origin.clone()),
        steps: draft.steps,
        held: draft.held,
        drift: draft.drift,
        sync,
        health,
        conditions,
    }
}
