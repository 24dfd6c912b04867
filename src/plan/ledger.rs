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
use std::sync::{Arc, LazyLock};

use super::Memory;
use super::context::Context;
use super::health::fragile;
use super::records::is_taken_back;
use crate::model::ledger::{Basis, Left};
use crate::model::record::CoordinatorProtocol;
use crate::model::shared::{key, parts};
use crate::model::{
    DesiredResource, Examined, Ledger, Observed, ObservedRecord, ObservedService, PlatformSnapshot, Record, RecordId,
    RegistrySnapshot, ResourceId, ServiceId, ServiceName, SharedSet, TaskView,
};

/// Brings the ledger of the last plan up to date, and says what has to be planned anew.
pub(super) fn advance(context: &Context<'_>, observed: &Observed) -> (Ledger, Examined) {
    let known = &context.memory.ledger;
    let (mut ledger, examined) = match known.basis.as_ref().filter(|basis| basis.fits(context)) {
        Some(basis) => Change::of(context, basis),
        None => (whole(context), Examined::Everything),
    };
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

    fn want(&mut self, resource: &DesiredResource) {
        let id = &resource.id;
        for service in &resource.services {
            add(self.services.entry(service.spec.name.clone()).or_default(), id);
        }
        for record in &resource.records {
            add(self.records.entry(record.id()).or_default(), id);
        }
        if resource.services.iter().any(|service| service.follow_digest) {
            self.followers.insert(id.clone());
        }
        if resource.records.iter().any(|record| matches!(**record, Record::CoordinatorDevice { .. })) {
            self.coordinated.insert(id.clone());
        }
        for first in &resource.handling.after {
            *self.firsts.entry(first.clone()).or_default() += 1;
        }
    }

    fn unwant(&mut self, resource: &DesiredResource) {
        let id = &resource.id;
        for service in &resource.services {
            remove(&mut self.services, &service.spec.name, id);
        }
        for record in &resource.records {
            remove(&mut self.records, &record.id(), id);
        }
        self.followers.remove(id);
        self.coordinated.remove(id);
        for first in &resource.handling.after {
            match self.firsts.get(first) {
                Some(1) | None => _ = self.firsts.remove(first),
                Some(count) => _ = self.firsts.insert(first.clone(), count - 1),
            }
        }
    }

    /// After something of a service, or of its tasks, changed.
    fn look_for_departed(&mut self, id: &ServiceId, tasks: Option<&Arc<[TaskView]>>) {
        let lives = |tasks: &Arc<[TaskView]>| tasks.iter().any(|task| task.state.is_active());
        if tasks.is_some_and(lives) && !self.present.contains_key(id) {
            self.departed.insert(id.clone());
        } else {
            self.departed.remove(id);
        }
    }

    fn look_for_fragile(&mut self, id: &ServiceId, tasks: Option<&Arc<[TaskView]>>) {
        let found = tasks.map(|tasks| fragile(tasks)).unwrap_or_default();
        if found.is_empty() {
            self.fragile.remove(id);
        } else {
            self.fragile.insert(id.clone(), found.into_iter().map(str::to_owned).collect());
        }
    }

    fn look_at_record(&mut self, id: &RecordId, found: Option<&Arc<ObservedRecord>>) {
        let keep = |set: &mut SharedSet<RecordId>, is_in: bool| match (is_in, set.contains(id)) {
            (true, false) => _ = set.insert(id.clone()),
            (false, true) => _ = set.remove(id),
            (true, true) | (false, false) => {}
        };
        keep(&mut self.taken_back, found.is_some_and(|found| is_taken_back(&found.record)));
        keep(&mut self.coordinators, found.is_some_and(|found| is_coordinator(&found.record)));
    }

    fn change_left(&mut self, resource: &ResourceId, change: impl FnOnce(&mut Left)) {
        let mut left = self.orphans.remove(resource).unwrap_or_default();
        change(&mut left);
        if left != Left::default() {
            self.orphans.insert(resource.clone(), left);
        }
    }
}

/// What is known of a side that cannot be read.
static NO_PLATFORM: LazyLock<PlatformSnapshot> = LazyLock::new(PlatformSnapshot::default);
static NO_REGISTRY: LazyLock<RegistrySnapshot> = LazyLock::new(RegistrySnapshot::default);

/// Both sides.
#[derive(Clone, Copy)]
struct Sides<'a> {
    platform: &'a PlatformSnapshot,
    registry: &'a RegistrySnapshot,
}

impl<'a> Sides<'a> {
    fn now(context: &Context<'a>) -> Self {
        Sides { platform: context.platform.unwrap_or(&NO_PLATFORM), registry: context.registry.unwrap_or(&NO_REGISTRY) }
    }

    fn before(basis: &'a Basis) -> Self {
        Sides {
            platform: basis.platform.as_deref().unwrap_or(&NO_PLATFORM),
            registry: basis.registry.as_deref().unwrap_or(&NO_REGISTRY),
        }
    }
}

/// A ledger from nothing.
fn whole(context: &Context<'_>) -> Ledger {
    let Sides { platform, registry } = Sides::now(context);
    let mut ledger = Ledger::default();
    for (_, resource) in context.desired.resources.iter().filter(|(id, _)| !context.is_to_go(id)) {
        ledger.want(resource);
    }
    for (name, service) in &platform.services {
        ledger.present.insert(service.id.clone(), name.clone());
        if let Some(resource) = context.ours(service).filter(|_| !ledger.services.contains_key(name)) {
            ledger.change_left(resource, |left| _ = left.services.insert(name.clone()));
        }
    }
    for (id, tasks) in &platform.tasks {
        ledger.look_for_fragile(id, Some(tasks));
        ledger.look_for_departed(id, Some(tasks));
    }
    for (id, record) in &registry.records {
        ledger.look_at_record(id, Some(record));
        if let Some(resource) = context.ours_of(record).filter(|_| !ledger.records.contains_key(id)) {
            ledger.change_left(resource, |left| _ = left.records.insert(id.clone()));
        }
    }
    ledger.mentioned = mentioned(context, &ledger);
    ledger
}

/// Resources whose plan may be another although both sides are the same.
fn mentioned(context: &Context<'_>, ledger: &Ledger) -> BTreeSet<ResourceId> {
    let Memory { taken_down, suspended, adopting, retry, expected, going, .. } = context.memory;
    let written = expected.keys().flat_map(|record| ledger.wanters_of_record(record));
    let going = going.iter().filter(|(_, known)| !known.proven).map(|(id, _)| id);
    let named = taken_down.keys().chain(suspended.keys()).chain(adopting.keys()).chain(retry).chain(going);
    named.chain(written).cloned().collect()
}

/// A ledger while it is brought up to date.
struct Change<'a> {
    context: &'a Context<'a>,
    basis: &'a Basis,
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
    /// The ledger of the last plan, which was made of `basis`, brought up to date; and what has to be planned anew.
    fn of(context: &'a Context<'a>, basis: &'a Basis) -> (Ledger, Examined) {
        let known = &context.memory.ledger;
        let mut change = Change {
            context,
            basis,
            before: Sides::before(basis),
            now: Sides::now(context),
            ledger: (**known).clone(),
            names: BTreeSet::new(),
            ids: BTreeSet::new(),
            touched: BTreeSet::new(),
            coordinators: false,
        };
        change.desired();
        change.services();
        change.tasks();
        change.records();
        change.availability();
        change.orphans_of_services();
        change.orphans_of_records();
        change.ledger.mentioned = mentioned(context, &change.ledger);
        let everything = basis.platform.is_some() != context.platform.is_some()
            || basis.registry.is_some() != context.registry.is_some()
            || basis.suspended_all != context.memory.suspended_all.is_some();
        let examined = if everything { Examined::Everything } else { Examined::Only(change.examined()) };
        (change.ledger, examined)
    }

    /// What is wanted. What a person wants gone is not.
    fn desired(&mut self) {
        let (basis, context) = (self.basis, self.context);
        let mut changed: BTreeSet<&ResourceId> = basis.desired.diff(&context.desired.resources).map(key).collect();
        let now = &context.memory.taken_down;
        changed.extend(basis.taken_down.iter().filter(|id| !now.contains_key(*id)));
        changed.extend(now.keys().filter(|id| !basis.taken_down.contains(*id)));
        for id in changed {
            let before = basis.wanted(id);
            let now = context.desired.resources.get(id).filter(|_| !context.is_to_go(id));
            if let Some(resource) = before {
                self.ledger.unwant(resource);
            }
            if let Some(resource) = now {
                self.ledger.want(resource);
            }
            for resource in before.into_iter().chain(now) {
                self.names.extend(resource.services.iter().map(|service| service.spec.name.clone()));
                self.ids.extend(resource.records.iter().map(|record| record.id()));
            }
            self.touched.insert(id.clone());
        }
    }

    fn services(&mut self) {
        let (mut gone, mut there) = (Vec::new(), Vec::new());
        for item in self.before.platform.services.diff(&self.now.platform.services) {
            let (name, old, new) = parts(item);
            gone.extend(old.map(|old| &old.id));
            there.extend(new.map(|new| (&new.id, name)));
            self.names.insert(name.clone());
        }
        // In this order, since an id may pass from one name to another.
        for id in &gone {
            self.ledger.present.remove(*id);
        }
        for (id, name) in &there {
            self.ledger.present.insert((*id).clone(), (*name).clone());
        }
        for id in gone.into_iter().chain(there.into_iter().map(|(id, _)| id)) {
            self.ledger.look_for_departed(id, self.now.platform.tasks.get(id));
        }
    }

    fn tasks(&mut self) {
        for id in self.before.platform.tasks.diff(&self.now.platform.tasks).map(key) {
            let tasks = self.now.platform.tasks.get(id);
            self.ledger.look_for_departed(id, tasks);
            self.ledger.look_for_fragile(id, tasks);
            self.names.extend(self.ledger.present.get(id).cloned());
        }
    }

    fn records(&mut self) {
        for item in self.before.registry.records.diff(&self.now.registry.records) {
            let (id, old, new) = parts(item);
            self.ledger.look_at_record(id, new);
            self.coordinators |= old.into_iter().chain(new).any(|found| is_coordinator(&found.record));
            self.ids.insert(id.clone());
        }
    }

    /// What assets say of their availability, and what else the registry tells.
    fn availability(&mut self) {
        let (before, now) = (self.before.registry, self.now.registry);
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
    fn orphans_of_services(&mut self) {
        for name in std::mem::take(&mut self.names) {
            let wanters = self.ledger.wanters(&name);
            self.touched.extend(wanters.iter().cloned());
            let is_wanted = !wanters.is_empty();
            let ours = |side: &Sides<'a>| side.platform.services.get(&name).and_then(|found| self.context.ours(found));
            let (was, is) = (ours(&self.before), ours(&self.now));
            self.touched.extend(was.into_iter().chain(is).cloned());
            if let Some(was) = was {
                self.ledger.change_left(was, |left| _ = left.services.remove(&name));
            }
            if let Some(is) = is.filter(|_| !is_wanted) {
                self.ledger.change_left(is, |left| _ = left.services.insert(name.clone()));
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
            let ours = |side: &Sides<'a>| side.registry.records.get(&id).and_then(|found| self.context.ours_of(found));
            let (was, is) = (ours(&self.before), ours(&self.now));
            self.touched.extend(was.into_iter().chain(is).cloned());
            if let Some(was) = was {
                self.ledger.change_left(was, |left| _ = left.records.remove(&id));
            }
            if let Some(is) = is.filter(|_| !is_wanted) {
                self.ledger.change_left(is, |left| _ = left.records.insert(id.clone()));
            }
        }
    }

    /// Everything that must be planned anew.
    fn examined(&mut self) -> BTreeSet<ResourceId> {
        let (known, memory) = (&self.context.memory.ledger, self.context.memory);
        let mut examined = std::mem::take(&mut self.touched);
        examined.extend(memory.restless.iter().cloned());
        examined.extend(known.mentioned.iter().chain(&self.ledger.mentioned).cloned());
        examined.extend(known.orphans.keys().chain(self.ledger.orphans.keys()).cloned());
        if self.coordinators {
            examined.extend(self.ledger.coordinated.iter().cloned());
        }
        let (before, now) = (self.before.platform, self.now.platform);
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

/// One of them less.
fn remove<K: Clone + Eq + std::hash::Hash>(wanted: &mut imbl::HashMap<K, Vec<ResourceId>>, key: &K, id: &ResourceId) {
    let Some(wanters) = wanted.get_mut(key) else { return };
    wanters.retain(|other| other != id);
    if wanters.is_empty() {
        wanted.remove(key);
    }
}

fn is_coordinator(record: &Record) -> bool {
    let kinds = [CoordinatorProtocol::Opcua, CoordinatorProtocol::Shdr].map(CoordinatorProtocol::coordinator_type);
    matches!(record, Record::Asset(asset) if kinds.contains(&asset.asset_type.as_str()))
}
