//! The plan of one resource.

use std::sync::Arc;

use super::context::Context;
use super::draft::Draft;
use super::join::{Found, Joined, Orphans, Wanted};
use super::removal::Pruning;
use super::{health, records, removal, services};
use crate::model::{Compared, ConditionKind, DesiredResource, Health, ResourceId, ResourcePlan, ServiceId, Sync};

/// Plans a resource that the manifests describe.
///
/// `known` is what memory says of an earlier comparison; one that found no difference and is new goes to `fresh`.
pub(super) fn plan_wanted<'a>(
    context: &Context<'a>,
    joined: &Joined<'a>,
    wanted: &Wanted<'a>,
    known: Option<&Compared>,
    fresh: &mut Vec<(ResourceId, Compared)>,
) -> ResourcePlan {
    let resource: &DesiredResource = wanted.resource;
    let (found, records) = (joined.services(wanted), joined.records(wanted));
    let mut draft = Draft::default();
    if !known.is_some_and(|known| is_unchanged(context, known, wanted.resource, found)) {
        services::plan_services(context, &mut draft, resource, found, records);
        if draft.is_clean() && !resource.services.is_empty() {
            let services = found.iter().filter_map(|found| found.service.cloned()).collect();
            fresh.push((resource.id.clone(), Compared { wanted: Arc::clone(wanted.resource), services }));
        }
    }
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

/// Whether these very values were compared before and found equal. What could change the verdict on the same values
/// is looked at again: whose mark it is, a name that two want, a tag that moves.
fn is_unchanged(context: &Context<'_>, known: &Compared, wanted: &Arc<DesiredResource>, found: &[Found<'_>]) -> bool {
    Arc::ptr_eq(&known.wanted, wanted)
        && known.services.len() == found.len()
        && known.services.iter().zip(found).all(|(known, found)| {
            found.rival.is_none() && found.service.is_some_and(|service| Arc::ptr_eq(known, service))
        })
        && known
            .services
            .iter()
            .all(|service| service.mark.as_ref().is_some_and(|mark| mark.instance == context.policy.instance))
        && wanted.services.iter().all(|service| !service.follow_digest)
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
