//! Lays what is wanted beside what is found: one walk over two sorted lists for services, one for records.
//!
//! What is found under our mark and wanted by nobody is an orphan of the resource that its mark names.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{
    AssetUuid, DesiredResource, ObservedRecord, ObservedService, Record, RecordId, ResourceId, ServiceId, ServiceName,
    TaskView,
};

use super::context::Context;
use super::ownership;

/// Both sides, matched.
pub(super) struct Joined<'a> {
    /// Wanted resources, sorted by id.
    pub(super) wanted: Vec<Wanted<'a>>,
    /// What exists under our mark and is not wanted, by the resource that it was made for.
    pub(super) orphans: BTreeMap<&'a ResourceId, Orphans<'a>>,
    services: Vec<Found<'a>>,
    records: Vec<Option<&'a Arc<ObservedRecord>>>,
}

/// A wanted resource with what was found for it.
pub(super) struct Wanted<'a> {
    pub(super) resource: &'a Arc<DesiredResource>,
    services: usize,
    records: usize,
}

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

impl<'a> Joined<'a> {
    /// Services found for a wanted resource, in its order.
    pub(super) fn services(&self, wanted: &Wanted<'a>) -> &[Found<'a>] {
        self.services.get(wanted.services..wanted.services + wanted.resource.services.len()).unwrap_or_default()
    }

    /// Records found for a wanted resource, in its order.
    pub(super) fn records(&self, wanted: &Wanted<'a>) -> &[Option<&'a Arc<ObservedRecord>>] {
        self.records.get(wanted.records..wanted.records + wanted.resource.records.len()).unwrap_or_default()
    }
}

/// Matches both sides. Resources that a person wants removed count as not wanted.
pub(super) fn join<'a>(context: &Context<'a>) -> Joined<'a> {
    let mut wanted = Vec::with_capacity(context.desired.resources.len());
    let (mut services, mut records) = (0, 0);
    for (id, resource) in &context.desired.resources {
        if !context.is_to_go(id) {
            wanted.push(Wanted { resource, services, records });
            services += resource.services.len();
            records += resource.records.len();
        }
    }
    let mut joined = Joined {
        wanted,
        orphans: BTreeMap::new(),
        services: vec![Found::default(); services],
        records: vec![None; records],
    };
    join_services(context, &mut joined);
    join_records(context, &mut joined);
    join_stripped(context, &mut joined);
    joined
}

fn join_services<'a>(context: &Context<'a>, joined: &mut Joined<'a>) {
    let mut names: Vec<(&'a ServiceName, usize, &'a ResourceId)> = Vec::with_capacity(joined.services.len());
    for wanted in &joined.wanted {
        for service in &wanted.resource.services {
            names.push((&service.spec.name, names.len(), &wanted.resource.id));
        }
    }
    // nearly sorted already, since names derive from uuids
    names.sort_by(|left, right| left.0.cmp(right.0).then(left.1.cmp(&right.1)));
    for pair in names.windows(2) {
        if let [(before, _, resource), (after, at, _)] = pair
            && before == after
            && let Some(found) = joined.services.get_mut(*at)
        {
            found.rival = Some(resource);
        }
    }
    let Some(platform) = context.platform else { return };
    // ids are random: a tree would fetch a dozen keys from all over memory for each
    let tasks: HashMap<&ServiceId, &[TaskView]> =
        platform.tasks.iter().map(|(id, tasks)| (id, tasks.as_slice())).collect();
    let mut names = names.into_iter().peekable();
    for (name, service) in &platform.services {
        while names.next_if(|(wanted, ..)| *wanted < name).is_some() {}
        let mut is_wanted = false;
        while let Some((_, at, _)) = names.next_if(|(wanted, ..)| *wanted == name) {
            is_wanted = true;
            if let Some(found) = joined.services.get_mut(at) {
                found.service = Some(service);
                found.tasks = tasks.get(&service.id).copied().unwrap_or_default();
            }
        }
        if !is_wanted
            && let Some(mark) = &service.mark
            && mark.instance == context.policy.instance
            && context.in_scope(&mark.resource)
        {
            joined.orphans.entry(&mark.resource).or_default().services.push(service);
        }
    }
}

fn join_records<'a>(context: &Context<'a>, joined: &mut Joined<'a>) {
    let Some(registry) = context.registry else { return };
    let mut ids: Vec<(Key<'a>, usize)> = Vec::with_capacity(joined.records.len());
    for wanted in &joined.wanted {
        for record in &wanted.resource.records {
            ids.push((key_of(record), ids.len()));
        }
    }
    ids.sort();
    let mut ids = ids.into_iter().peekable();
    for (id, record) in &registry.records {
        let key = key(id);
        while ids.next_if(|(wanted, _)| *wanted < key).is_some() {}
        let mut is_wanted = false;
        while let Some((_, at)) = ids.next_if(|(wanted, _)| *wanted == key) {
            is_wanted = true;
            if let Some(found) = joined.records.get_mut(at) {
                *found = Some(record);
            }
        }
        if !is_wanted
            && let Some(owner) = &record.owner
            && owner.instance == context.policy.instance
            && context.in_scope(&owner.resource)
        {
            joined.orphans.entry(&owner.resource).or_default().records.push((id, record));
        }
    }
}

/// Finds services that lost their mark while nothing describes them any more, by the records of ours that name them:
/// such a service goes as if it still had its mark, before these records do. Without that it would stay for ever, since
/// nothing else says whose it is.
fn join_stripped<'a>(context: &Context<'a>, joined: &mut Joined<'a>) {
    let Some(platform) = context.platform else { return };
    let mut stripped: Vec<(&'a ResourceId, &'a Arc<ObservedService>)> = Vec::new();
    for (id, orphans) in &joined.orphans {
        for (_, found) in &orphans.records {
            let Record::Asset(asset) = &found.record else { continue };
            if let Ok(name) = ServiceName::new(&asset.docker_service)
                && let Some(service) = platform.services.get(&name)
                && ownership::is_ours_without_mark(service, id, asset)
            {
                stripped.push((id, service));
            }
        }
    }
    for (id, service) in stripped {
        let is_wanted =
            |wanted: &Wanted<'_>| wanted.resource.services.iter().any(|wanted| wanted.spec.name == service.spec.name);
        let orphans = joined.orphans.entry(id).or_default();
        let is_known = orphans.services.iter().any(|known| known.id == service.id);
        if !is_known && !joined.wanted.iter().any(is_wanted) {
            orphans.services.push(service);
            orphans.services.sort_by(|left, right| left.spec.name.cmp(&right.spec.name));
        }
    }
}

/// A record's id without a copy of its uuid. Sorts as [`RecordId`] does.
type Key<'a> = (u8, &'a AssetUuid);

fn key(id: &RecordId) -> Key<'_> {
    match id {
        RecordId::CoordinatorDevice(uuid) => (0, uuid),
        RecordId::Asset(uuid) => (1, uuid),
        RecordId::Connector(uuid) => (2, uuid),
        RecordId::MetricsTarget(uuid) => (3, uuid),
    }
}

fn key_of(record: &Record) -> Key<'_> {
    match record {
        Record::CoordinatorDevice { device, .. } => (0, device),
        Record::Asset(asset) => (1, &asset.uuid),
        Record::Connector { device, .. } => (2, device),
        Record::MetricsTarget { asset, .. } => (3, asset),
    }
}

/// Ids of removed services that still have a live task, with the resource that they ran for if it is known.
pub(super) fn departed<'a>(context: &Context<'a>) -> Vec<(&'a ServiceId, Option<&'a ResourceId>)> {
    let Some(platform) = context.platform else { return Vec::new() };
    let present: std::collections::BTreeSet<&ServiceId> =
        platform.services.values().map(|service| &service.id).collect();
    platform
        .tasks
        .iter()
        .filter(|(id, tasks)| !present.contains(id) && tasks.iter().any(|task| task.state.is_active()))
        .map(|(id, _)| (id, context.memory.departing.get(id)))
        .collect()
}
