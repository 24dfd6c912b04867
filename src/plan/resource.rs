//! The plan of one resource.
//!
//! It is made in two steps: everything is found out and decided as if the resource were alone, and then, once what others
//! do is known, it is finished.

use super::context::Context;
use super::draft::Draft;
use super::health::Ran;
use super::join::{self, AllOrphans, Orphans};
use super::removal::Pruning;
use super::rollout::Rollouts;
use super::{contest, health, ownership, records, removal, services, verdict};
use crate::model::{
    ConditionKind, DesiredResource, Health, ResourceId, ResourcePlan, ServiceId, Suspension, Sync, Verdict,
};

/// A resource of which everything is known but what others do.
pub(super) struct Prepared<'a> {
    pub(super) draft: Draft,
    /// What the manifests say of it, also when a person wants it gone.
    pub(super) described: Option<&'a DesiredResource>,
    pub(super) sync: Sync,
    pub(super) health: Health,
    /// How the services that exist do, whatever is wanted of them.
    pub(super) ran: Ran,
    /// When the newest of their tasks failed, as the engine writes it.
    pub(super) newest_failure: Option<String>,
}

/// Prepares one resource; none for one that is neither described nor there, or that the plan is not about.
pub(super) fn prepare<'a>(
    context: &Context<'a>,
    id: &ResourceId,
    orphans: &AllOrphans<'_>,
    pruning: &Pruning<'_>,
) -> Option<Prepared<'a>> {
    let (described, left) = (context.desired.resources.get(id), orphans.get(id));
    if let Some(resource) = described.filter(|_| !context.is_to_go(id)) {
        return context.in_scope(id).then(|| prepare_wanted(context, resource, left));
    }
    if let Some(left) = left {
        return Some(prepare_unwanted(context, id, left, pruning));
    }
    let taken_down =
        context.memory.taken_down.contains_key(id) && context.in_scope(id) && !context.policy.remove.contains(id);
    described.filter(|_| taken_down).map(|resource| prepare_gone(context, resource))
}

/// Prepares a resource that the manifests describe. `left` is what exists of an earlier form of it.
pub(super) fn prepare_wanted<'a>(
    context: &Context<'a>,
    resource: &'a DesiredResource,
    left: Option<&Orphans<'_>>,
) -> Prepared<'a> {
    let (found, records) = (join::services(context, resource), join::records(context, resource));
    let mut draft = Draft::default();
    ownership::check_records(context, &mut draft, resource, &found, &records);
    services::plan_services(context, &mut draft, resource, &found, &records);
    records::plan_records(context, &mut draft, resource, &records, &found);
    if let Some(left) = left {
        removal::plan_leftovers(context, &mut draft, &resource.id, left, &found);
    }
    let health = health::of_wanted(context, &mut draft, resource, &found);
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
    let newest_failure = health::newest_failure(&found);
    Prepared { draft, described: Some(resource), sync, health, ran: health::ran(&found), newest_failure }
}

/// Prepares a resource that exists and that nothing describes, or that a person wants gone.
fn prepare_unwanted<'a>(
    context: &Context<'a>,
    id: &ResourceId,
    orphans: &Orphans<'_>,
    pruning: &Pruning<'_>,
) -> Prepared<'a> {
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
    let services = orphans
        .services
        .iter()
        .map(|service| (&***service, tasks(&service.id).map(|tasks| &**tasks).unwrap_or_default()));
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
    Prepared { draft, described, sync, health, ran: Ran::Nothing, newest_failure: None }
}

/// Prepares a resource that a person took down and of which nothing is left: it stays away, as wanted.
fn prepare_gone<'a>(context: &Context<'_>, resource: &'a DesiredResource) -> Prepared<'a> {
    let seen = context.platform.is_some_and(|platform| platform.complete)
        && context.registry.is_some_and(|registry| registry.complete);
    let sync = if seen { Sync::Synced } else { Sync::Unknown };
    let (draft, health, ran) = (Draft::default(), Health::Suspended, Ran::Nothing);
    Prepared { draft, described: Some(resource), sync, health, ran, newest_failure: None }
}

/// The plan of a resource, once it is known what others do.
pub(super) fn finish(
    context: &Context<'_>,
    id: &ResourceId,
    prepared: Prepared<'_>,
    rollouts: &mut Rollouts<'_>,
) -> ResourcePlan {
    let Prepared { mut draft, described, sync, mut health, ran, newest_failure: _ } = prepared;
    rollouts.hold(&mut draft, id, ran);
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
    if let Some(hold) = &context.memory.suspended_all {
        let words = hold.words("`ofop resume --all`");
        draft.suspend(Suspension::Everything, format!("everything is left alone {words}"));
        health = Health::Suspended;
    }
    if let Some(since) = context.memory.taken_down.get(id) {
        let message = format!("taken down since {since}, and kept away until `ofop resume {id}`");
        draft.note(ConditionKind::Suspended, Suspension::TakenDown.as_str(), message);
    }
    if let Some(hold) = context.memory.suspended.get(id) {
        draft.suspend(Suspension::Person, format!("left alone {}", hold.words(&format!("`ofop resume {id}`"))));
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
