//! Lays what is found beside what is wanted, for one resource, by the names that the ledger knows.
//!
//! What is found under our mark and wanted by nobody is an orphan of the resource that its mark names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    DesiredResource, ObservedRecord, ObservedService, Record, RecordId, ResourceId, ServiceId, ServiceName, TaskView,
};

use super::context::Context;
use super::ownership;

/// What was found under the name of a wanted service.
#[derive(Clone, Copy, Default)]
pub(super) struct Found<'a> {
    /// The service.
    pub(super) service: Option<&'a Arc<ObservedService>>,
    /// Its tasks.
    pub(super) tasks: &'a [TaskView],
    /// Another resource that wants a service of the same name and comes before this one.
    pub(super) rival: Option<&'a ResourceId>,
}

/// What exists for a resource under our mark without being wanted.
#[derive(Default)]
pub(super) struct Orphans<'a> {
    /// Sorted by name.
    pub(super) services: Vec<&'a Arc<ObservedService>>,
    /// Sorted by id.
    pub(super) records: Vec<(&'a RecordId, &'a Arc<ObservedRecord>)>,
}

/// All of them, by resource.
pub(super) type AllOrphans<'a> = BTreeMap<&'a ResourceId, Orphans<'a>>;

/// What was found for the services of a wanted resource, in its order.
pub(super) fn services<'a>(context: &Context<'a>, resource: &'a DesiredResource) -> Vec<Found<'a>> {
    let found = |(at, name): (usize, &'a ServiceName)| {
        let service = context.platform.and_then(|platform| platform.services.get(name));
        let tasks = |id: &ServiceId| context.platform.and_then(|platform| platform.tasks.get(id));
        let tasks = service.and_then(|service| tasks(&service.id)).map(|tasks| &**tasks).unwrap_or_default();
        Found { service, tasks, rival: rival(context, resource, at, name) }
    };
    let names = resource.services.iter().map(|service| &service.spec.name);
    names.enumerate().map(found).collect()
}

fn rival<'a>(
    context: &Context<'a>,
    resource: &'a DesiredResource,
    at: usize,
    name: &ServiceName,
) -> Option<&'a ResourceId> {
    if resource.services.iter().take(at).any(|service| service.spec.name == *name) {
        return Some(&resource.id);
    }
    let wanters = context.ledger.wanters(name);
    wanters.iter().take_while(|other| **other < resource.id).last()
}

/// What was found for the records of a wanted resource, in its order.
pub(super) fn records<'a>(context: &Context<'a>, resource: &DesiredResource) -> Vec<Option<&'a Arc<ObservedRecord>>> {
    let found = |record: &Arc<Record>| context.registry.and_then(|registry| registry.records.get(&record.id()));
    resource.records.iter().map(found).collect()
}

/// Everything under our mark that nobody wants. Resources that a person wants removed count as not wanted.
pub(super) fn orphans<'a>(context: &Context<'a>) -> AllOrphans<'a> {
    let mut orphans = AllOrphans::new();
    for (id, left) in &context.ledger.orphans {
        let services = context
            .platform
            .iter()
            .flat_map(|platform| left.services.iter().filter_map(move |name| platform.services.get(name)));
        let records = context
            .registry
            .iter()
            .flat_map(|registry| left.records.iter().filter_map(move |record| registry.records.get_key_value(record)));
        orphans.insert(id, Orphans { services: services.collect(), records: records.collect() });
    }
    add_stripped(context, &mut orphans);
    orphans
}

/// Finds services that lost their mark while nothing describes them any more, by the records of ours that name them:
/// such a service goes as if it still had its mark, before these records do. Without that it would stay for ever, since
/// nothing else says whose it is.
fn add_stripped<'a>(context: &Context<'a>, orphans: &mut AllOrphans<'a>) {
    let Some(platform) = context.platform else { return };
    for (id, orphans) in orphans {
        for (_, found) in &orphans.records {
            let Record::Asset(asset) = &found.record else { continue };
            if let Ok(name) = ServiceName::new(&asset.docker_service)
                && let Some(service) = platform.services.get(&name)
                && ownership::is_ours_without_mark(service, id, asset)
                && context.ledger.wanters(&name).is_empty()
                && !orphans.services.iter().any(|known| known.id == service.id)
            {
                orphans.services.push(service);
            }
        }
        orphans.services.sort_by(|left, right| left.spec.name.cmp(&right.spec.name));
    }
}

/// Ids of removed services that still have a live task, with the resource that they ran for if it is known.
pub(super) fn departed<'a>(context: &Context<'a>) -> impl Iterator<Item = (&'a ServiceId, Option<&'a ResourceId>)> {
    let memory = context.memory;
    context.ledger.departed.iter().map(|id| (id, memory.departing.get(id)))
}
