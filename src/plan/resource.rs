//! The plan of one resource.

use std::sync::Arc;

use super::context::Context;
use super::draft::Draft;
use super::join::{Found, Joined, Orphans, Wanted};
use super::removal::Pruning;
use super::{contest, health, ownership, records, removal, services, verdict};
use crate::model::{
    Compared, ConditionKind, DesiredResource, Health, ObservedRecord, Record, ResourceId, ResourcePlan, ServiceId,
    Suspension, Sync, Verdict,
};

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
    let for_now = depends_on_time(context, resource);
    let known = known.filter(|_| !for_now);
    if !known.is_some_and(|known| is_unchanged(known, wanted.resource, found, records)) {
        ownership::check_records(context, &mut draft, resource, found, records);
        services::plan_services(context, &mut draft, resource, found, records);
        records::plan_records(context, &mut draft, resource, records, found);
        if draft.is_clean() && !depends_on_more(resource) && !for_now {
            let services = found.iter().filter_map(|found| found.service.cloned()).collect();
            let records = records.iter().flatten().copied().cloned().collect();
            let compared = Compared { wanted: Arc::clone(wanted.resource), services, records };
            fresh.push((resource.id.clone(), compared));
        }
    }
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

/// Whether these very values were compared before and found equal.
fn is_unchanged(
    known: &Compared,
    wanted: &Arc<DesiredResource>,
    services: &[Found<'_>],
    records: &[Option<&Arc<ObservedRecord>>],
) -> bool {
    Arc::ptr_eq(&known.wanted, wanted)
        && known.services.len() == services.len()
        && known.records.len() == records.len()
        && known.services.iter().zip(services).all(|(known, found)| {
            found.rival.is_none() && found.service.is_some_and(|service| Arc::ptr_eq(known, service))
        })
        && known.records.iter().zip(records).all(|(known, found)| found.is_some_and(|found| Arc::ptr_eq(known, found)))
}

/// Whether the verdict on the same values is one for now: what was written a moment ago counts as there for a while, and
/// what will be lost by its age has to be written again although it is as it should be.
fn depends_on_time(context: &Context<'_>, resource: &DesiredResource) -> bool {
    let expected = &context.memory.expected;
    let expiring = context.registry.map(|registry| &registry.expiring).filter(|expiring| !expiring.is_empty());
    if expected.is_empty() && expiring.is_none() {
        return false;
    }
    resource
        .records
        .iter()
        .map(|record| record.id())
        .any(|id| expected.contains_key(&id) || expiring.is_some_and(|expiring| expiring.contains(&id)))
}

/// Whether the verdict on the same values may change with something else: a tag that moves, a coordinator that
/// goes away.
fn depends_on_more(resource: &DesiredResource) -> bool {
    resource.services.iter().any(|service| service.follow_digest)
        || resource.records.iter().any(|record| matches!(**record, Record::CoordinatorDevice { .. }))
}

/// Plans a resource that exists and that nothing describes, or that a person wants gone.
pub(super) fn plan_unwanted(
    context: &Context<'_>,
    id: &ResourceId,
    orphans: &Orphans<'_>,
    pruning: &Pruning<'_>,
) -> ResourcePlan {
    let mut draft = Draft::default();
    let kept = pruning.keeps(id);
    if kept {
        let message = format!("no longer described, and kept as its manifest wanted; `ofop down {id}` removes it");
        draft.note(ConditionKind::Kept, "PruneFalse", message);
        draft.unknown = !context.desired.complete;
    } else {
        removal::plan_removal(context, &mut draft, id, orphans, pruning);
    }
    let tasks = |service: &ServiceId| context.platform.and_then(|platform| platform.tasks.get(service));
    let services =
        orphans.services.iter().map(|service| (&***service, tasks(&service.id).map(Vec::as_slice).unwrap_or_default()));
    let health = health::of_orphans(&mut draft, services);
    let described = context.desired.resources.get(id).map(|resource| &**resource);
    let sync = match kept {
        _ if draft.unknown || context.platform.is_none() => Sync::Unknown,
        true => Sync::Synced,
        false => Sync::OutOfSync,
    };
    let health = match kept {
        true if orphans.services.is_empty() => Health::Healthy,
        // what is left of it are records on their way out
        false if orphans.services.is_empty() && context.memory.taken_down.contains_key(id) => Health::Suspended,
        true | false => health,
    };
    finish(context, draft, id, described, sync, health)
}

/// Plans a resource that a person took down and of which nothing is left: it stays away, as wanted.
pub(super) fn plan_gone(context: &Context<'_>, resource: &DesiredResource) -> ResourcePlan {
    let seen = context.platform.is_some_and(|platform| platform.complete)
        && context.registry.is_some_and(|registry| registry.complete);
    let sync = if seen { Sync::Synced } else { Sync::Unknown };
    finish(context, Draft::default(), &resource.id, Some(resource), sync, Health::Suspended)
}

fn finish(
    context: &Context<'_>,
    mut draft: Draft,
    id: &ResourceId,
    described: Option<&DesiredResource>,
    sync: Sync,
    mut health: Health,
) -> ResourcePlan {
    draft.await_attempts();
    contest::hold(context, &mut draft, id);
    if context.notes_may_hide_something() {
        draft.await_notes();
    }
    if let Some(described) = described.filter(|described| described.handling.suspend) {
        let message = format!("left alone: `x-ofop` in {} says `suspend: true`", described.origin.file);
        draft.suspend(Suspension::Manifest, message);
        health = Health::Suspended;
    }
    if let Some(since) = &context.memory.suspended_all {
        draft.suspend(
            Suspension::Everything,
            format!("everything is left alone since {since}, until `ofop resume --all`"),
        );
        health = Health::Suspended;
    }
    if let Some(since) = context.memory.taken_down.get(id) {
        let message = format!("taken down since {since}, and kept away until `ofop resume {id}`");
        draft.note(ConditionKind::Suspended, Suspension::TakenDown.as_str(), message);
    }
    if let Some(since) = context.memory.suspended.get(id) {
        draft.suspend(Suspension::Person, format!("left alone since {since}, until `ofop resume {id}`"));
        health = Health::Suspended;
    }
    let conditions = draft.conditions(context, id);
    let mut planned = ResourcePlan {
        origin: described.map(|resource| resource.origin.clone()),
        steps: draft.steps,
        held: draft.held,
        drift: draft.drift,
        ignored: draft.ignored,
        sync,
        health,
        conditions,
        verdict: Verdict::Settled,
    };
    planned.verdict = verdict::judge(id, &planned, draft.last_failure.as_deref());
    planned
}
