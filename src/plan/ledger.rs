//! Brings the ledger up to date, and finds out which resources a plan must look at.
//!
//! # Flow
//!
//! ```text
//! desired   ─┐                       ┌─► names and records that are touched ─► orphans, wanted by whom
//! services  ─┤ what differs from the │
//! tasks     ─┼ ones that the ledger ─┼─► resources that are touched ─┐
//! records   ─┤ was made of           │                               ├─► examined
//! …         ─┘                       └─► small sets kept by it       │
//!                 not at rest in the last plan, spoken of by memory ─┘
//! ```
//!
//! # Guarantees
//!
//! - A ledger that is brought up to date equals one that is made from nothing.
//! - The plan of a resource that is not examined is what it was: nothing that it rests on has changed, and nothing of it
//!   depends on time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Memory;
use super::context::Context;
use super::health::fragile;
use super::records::is_taken_back;
use crate::model::ledger::{Basis, Left};
use crate::model::record::CoordinatorProtocol;
use crate::model::{
    DesiredResource, DiffItem, Examined, Ledger, Observed, ObservedRecord, ObservedService, PlatformSnapshot, Record,
    RecordId, RegistrySnapshot, ResourceId, ServiceId, ServiceName, SharedMap, TaskView,
};

/// Brings the ledger of the last plan up to date, and says what has to be planned anew.
pub(super) fn advance(context: &Context<'_>, observed: &Observed) -> (Ledger, Examined) {
    let known = &context.memory.ledger;
    let basis = known.basis.as_ref().filter(|basis| basis.fits(context));
    let before = basis.map(|_| (**known).clone()).unwrap_or_default();
    let mut change = Change::new(context, basis, before);
    change.desired();
    change.services();
    change.tasks();
    change.records();
    change.availability();
    change.names();
    change.orphans_of_records();
    let everything = basis.is_none_or(|basis| {
        basis.platform.is_some() != context.platform.is_some()
            || basis.registry.is_some() != context.registry.is_some()
            || basis.suspended_all != context.memory.suspended_all.is_some()
    });
    let mentioned = change.mentioned();
    let examined = if everything { Examined::Everything } else { Examined::Only(change.examined(known, &mentioned)) };
    let mut ledger = change.ledger;
    ledger.mentioned = mentioned;
    ledger.basis = Some(Basis {
        instance: context.policy.instance.clone(),
        scope: context.policy.scope.clone(),
        remove: context.policy.remove.clone(),
        taken_down: context.memory.taken_down.keys().cloned().collect(),
        suspended_all: context.memory.suspended_all.is_some(),
        desired: context.desired.resources.clone(),
        platform: observed.platform.clone(),
        registry: observed.registry.clone(),
    });
    (ledger, examined)
}

impl Basis {
    /// Whether the same policy holds, as far as resources at rest depend on it.
    fn fits(&self, context: &Context<'_>) -> bool {
        let policy = context.policy;
        self.instance == policy.instance && self.scope == policy.scope && self.remove == policy.remove
    }

    /// A resource as it was wanted.
    fn wanted(&self, id: &ResourceId) -> Option<&Arc<DesiredResource>> {
        let goes = self.remove.contains(id) || self.taken_down.contains(id);
        self.desired.get(id).filter(|_| !goes)
    }
}

impl Ledger {
    /// The resources that want this service, in order.
    pub(super) fn wanters(&self, service: &ServiceName) -> &[ResourceId] {
        self.services.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    fn wanters_of_record(&self, record: &RecordId) -> &[ResourceId] {
        self.records.get(record).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What both sides hold; nothing for one that cannot be read.
struct Sides<'a> {
    services: &'a SharedMap<ServiceName, Arc<ObservedService>>,
    tasks: &'a SharedMap<ServiceId, Arc<[TaskView]>>,
    records: &'a SharedMap<RecordId, Arc<ObservedRecord>>,
}

/// Empty maps, to compare with.
#[derive(Default)]
struct Nothing {
    platform: PlatformSnapshot,
    registry: RegistrySnapshot,
    desired: SharedMap<ResourceId, Arc<DesiredResource>>,
}

static NOTHING: std::sync::LazyLock<Nothing> = std::sync::LazyLock::new(Nothing::default);

impl<'a> Sides<'a> {
    fn of(platform: Option<&'a PlatformSnapshot>, registry: Option<&'a RegistrySnapshot>) -> Self {
        let platform = platform.unwrap_or(&NOTHING.platform);
        let registry = registry.unwrap_or(&NOTHING.registry);
        Sides { services: &platform.services, tasks: &platform.tasks, records: &registry.records }
    }
}

/// A ledger while it is brought up to date.
struct Change<'a> {
    context: &'a Context<'a>,
    basis: Option<&'a Basis>,
    before: Sides<'a>,
    now: Sides<'a>,
    ledger: Ledger,
    /// Services whose name is wanted by others than before, or that are not as they were.
    names: BTreeSet<ServiceName>,
    /// The same for records.
    ids: BTreeSet<RecordId>,
    touched: BTreeSet<ResourceId>,
    /// A coordinator came, went, or says something else of itself.
    coordinators: bool,
}

impl<'a> Change<'a> {
    fn new(context: &'a Context<'a>, basis: Option<&'a Basis>, ledger: Ledger) -> Self {
        let before = basis.map(|basis| (basis.platform.as_deref(), basis.registry.as_deref())).unwrap_or_default();
        Change {
            context,
            basis,
            before: Sides::of(before.0, before.1),
            now: Sides::of(context.platform, context.registry),
            ledger,
            names: BTreeSet::new(),
            ids: BTreeSet::new(),
            touched: BTreeSet::new(),
            coordinators: false,
        }
    }

    /// What is wanted. What a person wants gone is not.
    fn desired(&mut self) {
        let (basis, context) = (self.basis, self.context);
        let before = basis.map_or(&NOTHING.desired, |basis| &basis.desired);
        let mut changed: BTreeSet<&ResourceId> = before.diff(&context.desired.resources).map(key).collect();
        if let Some(basis) = basis {
            let now = &context.memory.taken_down;
            changed.extend(basis.taken_down.iter().filter(|id| !now.contains_key(*id)));
            changed.extend(now.keys().filter(|id| !basis.taken_down.contains(*id)));
        }
        for id in changed {
            if let Some(resource) = basis.and_then(|basis| basis.wanted(id)) {
                self.unwant(resource);
            }
            if let Some(resource) = context.desired.resources.get(id).filter(|_| !context.is_to_go(id)) {
                self.want(resource);
            }
            self.touched.insert(id.clone());
        }
    }

    fn want(&mut self, resource: &DesiredResource) {
        let id = &resource.id;
        for service in &resource.services {
            let name = &service.spec.name;
            add(self.ledger.services.entry(name.clone()).or_default(), id);
            self.names.insert(name.clone());
        }
        for record in &resource.records {
            add(self.ledger.records.entry(record.id()).or_default(), id);
            self.ids.insert(record.id());
        }
        if resource.services.iter().any(|service| service.follow_digest) {
            self.ledger.followers.insert(id.clone());
        }
        if resource.records.iter().any(|record| matches!(**record, Record::CoordinatorDevice { .. })) {
            self.ledger.coordinated.insert(id.clone());
        }
    }

    fn unwant(&mut self, resource: &DesiredResource) {
        let id = &resource.id;
        for service in &resource.services {
            let name = &service.spec.name;
            if let Some(wanters) = self.ledger.services.get_mut(name) {
                wanters.retain(|other| other != id);
                if wanters.is_empty() {
                    self.ledger.services.remove(name);
                }
            }
            self.names.insert(name.clone());
        }
        for record in resource.records.iter().map(|record| record.id()) {
            if let Some(wanters) = self.ledger.records.get_mut(&record) {
                wanters.retain(|other| other != id);
                if wanters.is_empty() {
                    self.ledger.records.remove(&record);
                }
            }
            self.ids.insert(record);
        }
        self.ledger.followers.remove(id);
        self.ledger.coordinated.remove(id);
    }

    fn services(&mut self) {
        let mut ids: BTreeSet<&ServiceId> = BTreeSet::new();
        for item in self.before.services.diff(self.now.services) {
            let (name, old, new) = parts(item);
            if let Some(old) = old {
                self.ledger.present.remove(&old.id);
                ids.insert(&old.id);
            }
            if let Some(new) = new {
                ids.insert(&new.id);
            }
            self.names.insert(name.clone());
        }
        // Afterwards, since an id may have passed from one name to another.
        for name in &self.names {
            if let Some(service) = self.now.services.get(name) {
                self.ledger.present.insert(service.id.clone(), name.clone());
            }
        }
        for id in ids {
            self.look_for_departed(id);
        }
    }

    fn tasks(&mut self) {
        for id in self.before.tasks.diff(self.now.tasks).map(key) {
            self.look_for_departed(id);
            let found = self.now.tasks.get(id).map(|tasks| fragile(tasks)).unwrap_or_default();
            if found.is_empty() {
                self.ledger.fragile.remove(id);
            } else {
                self.ledger.fragile.insert(id.clone(), found.into_iter().map(str::to_owned).collect());
            }
            if let Some(name) = self.ledger.present.get(id) {
                self.names.insert(name.clone());
            }
        }
    }

    fn look_for_departed(&mut self, id: &ServiceId) {
        let lives = |tasks: &Arc<[TaskView]>| tasks.iter().any(|task| task.state.is_active());
        if !self.ledger.present.contains_key(id) && self.now.tasks.get(id).is_some_and(lives) {
            self.ledger.departed.insert(id.clone());
        } else {
            self.ledger.departed.remove(id);
        }
    }

    fn records(&mut self) {
        for item in self.before.records.diff(self.now.records) {
            let (id, old, new) = parts(item);
            if new.is_some_and(|found| is_taken_back(&found.record)) {
                self.ledger.taken_back.insert(id.clone());
            } else {
                self.ledger.taken_back.remove(id);
            }
            if new.is_some_and(|found| is_coordinator(&found.record)) {
                self.ledger.coordinators.insert(id.clone());
                self.coordinators = true;
            } else if old.is_some_and(|found| is_coordinator(&found.record)) {
                self.ledger.coordinators.remove(id);
                self.coordinators = true;
            }
            self.ids.insert(id.clone());
        }
    }

    /// What assets say of their availability, and what else the registry tells.
    fn availability(&mut self) {
        let before = self.basis.and_then(|basis| basis.registry.as_deref()).unwrap_or(&NOTHING.registry);
        let now = self.context.registry.unwrap_or(&NOTHING.registry);
        for asset in before.availability.diff(&now.availability).map(key) {
            let id = RecordId::Asset(asset.clone());
            self.coordinators |= self.ledger.coordinators.contains(&id);
            self.touched.extend(self.ledger.wanters_of_record(&id).iter().cloned());
        }
        self.coordinators |= before.coordinators != now.coordinators;
        for id in before.expiring.union(&now.expiring) {
            self.touched.extend(self.ledger.wanters_of_record(id).iter().cloned());
        }
    }

    /// Whoever wants a service that is touched, and whose orphan it is.
    fn names(&mut self) {
        for name in std::mem::take(&mut self.names) {
            let wanters = self.ledger.wanters(&name);
            self.touched.extend(wanters.iter().cloned());
            let is_wanted = !wanters.is_empty();
            let was = self.before.services.get(&name).and_then(|service| self.context.ours(service)).cloned();
            let is = self.now.services.get(&name).and_then(|service| self.context.ours(service)).cloned();
            if let Some(was) = was {
                self.change_left(&was, |left| _ = left.services.remove(&name));
            }
            if let Some(resource) = is.filter(|_| !is_wanted) {
                self.change_left(&resource, |left| _ = left.services.insert(name));
            }
        }
    }

    /// The same for records.
    fn orphans_of_records(&mut self) {
        for id in std::mem::take(&mut self.ids) {
            let wanters = self.ledger.wanters_of_record(&id);
            self.touched.extend(wanters.iter().cloned());
            let is_wanted = !wanters.is_empty();
            if let RecordId::Asset(asset) = &id {
                let device = RecordId::CoordinatorDevice(asset.clone());
                self.touched.extend(self.ledger.wanters_of_record(&device).iter().cloned());
            }
            let was = self.before.records.get(&id).and_then(|found| self.context.ours_of(found)).cloned();
            let is = self.now.records.get(&id).and_then(|found| self.context.ours_of(found)).cloned();
            if let Some(was) = was {
                self.change_left(&was, |left| _ = left.records.remove(&id));
            }
            if let Some(resource) = is.filter(|_| !is_wanted) {
                self.change_left(&resource, |left| _ = left.records.insert(id));
            }
        }
    }

    fn change_left(&mut self, resource: &ResourceId, change: impl FnOnce(&mut Left)) {
        let mut left = self.ledger.orphans.remove(resource).unwrap_or_default();
        change(&mut left);
        if left != Left::default() {
            self.ledger.orphans.insert(resource.clone(), left);
        }
        self.touched.insert(resource.clone());
    }

    /// Resources whose plan may be another although both sides are the same.
    fn mentioned(&self) -> BTreeSet<ResourceId> {
        let Memory { taken_down, suspended, adopting, retry, expected, .. } = self.context.memory;
        let written = expected.keys().flat_map(|record| self.ledger.wanters_of_record(record));
        let named = taken_down.keys().chain(suspended.keys()).chain(adopting.keys()).chain(retry);
        named.chain(written).cloned().collect()
    }

    /// Everything that must be planned anew.
    fn examined(&mut self, known: &Ledger, mentioned: &BTreeSet<ResourceId>) -> BTreeSet<ResourceId> {
        let mut examined = std::mem::take(&mut self.touched);
        examined.extend(self.context.memory.restless.iter().cloned());
        examined.extend(known.mentioned.iter().chain(mentioned).cloned());
        examined.extend(known.orphans.keys().chain(self.ledger.orphans.keys()).cloned());
        if self.coordinators {
            examined.extend(self.ledger.coordinated.iter().cloned());
        }
        let before = self.basis.and_then(|basis| basis.platform.as_deref()).unwrap_or(&NOTHING.platform);
        let now = self.context.platform.unwrap_or(&NOTHING.platform);
        if before.digests != now.digests || before.unresolved != now.unresolved {
            examined.extend(self.ledger.followers.iter().cloned());
        }
        examined
    }
}

impl Context<'_> {
    /// The resource that our mark on a service names, if the plan is about it.
    fn ours<'s>(&self, service: &'s ObservedService) -> Option<&'s ResourceId> {
        let mark = service.mark.as_ref().filter(|mark| mark.instance == self.policy.instance)?;
        Some(&mark.resource).filter(|id| self.in_scope(id))
    }

    /// The same for a record.
    fn ours_of<'s>(&self, record: &'s ObservedRecord) -> Option<&'s ResourceId> {
        let owner = record.owner.as_ref().filter(|owner| owner.instance == self.policy.instance)?;
        Some(&owner.resource).filter(|id| self.in_scope(id))
    }
}

/// One more of several that want the same, in order.
fn add(wanters: &mut Vec<ResourceId>, id: &ResourceId) {
    if let Err(at) = wanters.binary_search(id) {
        wanters.insert(at, id.clone());
    }
}

fn is_coordinator(record: &Record) -> bool {
    let kinds = [CoordinatorProtocol::Opcua, CoordinatorProtocol::Shdr].map(CoordinatorProtocol::coordinator_type);
    matches!(record, Record::Asset(asset) if kinds.contains(&asset.asset_type.as_str()))
}

/// The key of a difference.
fn key<'a, K, V>(item: DiffItem<'a, 'a, K, V>) -> &'a K {
    parts(item).0
}

/// The key of a difference, and the value on both sides.
fn parts<'a, K, V>(item: DiffItem<'a, 'a, K, V>) -> (&'a K, Option<&'a V>, Option<&'a V>) {
    match item {
        DiffItem::Add(key, new) => (key, None, Some(new)),
        DiffItem::Update { old: (_, old), new: (key, new) } => (key, Some(old), Some(new)),
        DiffItem::Remove(key, old) => (key, Some(old), None),
    }
}
