//! Steps for the records of one wanted resource.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::record::{AssetRecord, CoordinatorProtocol, RecordOwner, Uns};
use crate::model::{
    AssetUuid, Availability, DesiredResource, Doubt, DriftType, FieldChange, ObservedRecord, Reason, Record, RecordId,
    RecordStep, RegistrySnapshot, Step, Wait,
};

use super::Written;
use super::context::Context;
use super::draft::Draft;
use super::join::Found;
use super::ownership::{self, Grant};
use super::{proof, verdict};

/// The attribute that says that a resource is kept, in the words of a difference.
const MANAGED_PRUNE: &str = "managed_prune";

/// Plans every record of a wanted resource, in the order in which they are written.
pub(super) fn plan_records(
    context: &Context<'_>,
    draft: &mut Draft,
    resource: &DesiredResource,
    found: &[Option<&Arc<ObservedRecord>>],
    services: &[Found<'_>],
) {
    if resource.records.is_empty() {
        return;
    }
    let Some(registry) = context.registry else {
        draft.unknown = true;
        return;
    };
    let planner = Planner { context, registry, resource, services, grant: Grant::of(context, resource) };
    for (record, found) in resource.records.iter().zip(found) {
        planner.record(draft, record, found.map(|found| &**found));
    }
}

/// Whether a coordinator that serves a device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coordinator {
    Available,
    /// Registered, and says that it is not available, or nothing.
    Away,
    /// None is registered: nobody could know the device.
    None,
}

/// Looks for coordinators of a protocol among these assets.
pub(super) fn find_coordinator<'a>(
    registry: &RegistrySnapshot,
    candidates: impl Iterator<Item = &'a RecordId>,
    protocol: CoordinatorProtocol,
) -> Coordinator {
    let mut found = Coordinator::None;
    for observed in candidates.filter_map(|id| registry.records.get(id)) {
        if let Record::Asset(asset) = &observed.record
            && asset.asset_type == protocol.coordinator_type()
        {
            if registry.availability.get(&asset.uuid) == Some(&Availability::Available) {
                return Coordinator::Available;
            }
            found = Coordinator::Away;
        }
    }
    found
}

/// Whether the coordinator that was told of a device is there; of any of its kind if none was told.
pub(super) fn coordinator_of(
    registry: &RegistrySnapshot,
    device: &AssetUuid,
    any: impl FnOnce() -> Coordinator,
) -> Coordinator {
    let Some(known) = registry.coordinators.get(device) else { return any() };
    let registered = registry.records.get(&RecordId::Asset(known.uuid.clone())).is_some_and(
        |found| matches!(&found.record, Record::Asset(asset) if asset.asset_type == known.protocol.coordinator_type()),
    );
    match registry.availability.get(&known.uuid) {
        _ if !registered => Coordinator::None,
        Some(Availability::Available) => Coordinator::Available,
        Some(Availability::Unavailable) | None => Coordinator::Away,
    }
}

/// A device of which nobody can say whether its coordinator knows it.
fn is_unsure(record: &Record) -> bool {
    matches!(record, Record::CoordinatorDevice { config, .. } if config.is_empty())
}

/// An asset that was taken back half-way: its rows are gone, its mark is not.
pub(super) fn is_taken_back(record: &Record) -> bool {
    matches!(record, Record::Asset(asset) if asset.asset_type.is_empty())
}

struct Planner<'a> {
    context: &'a Context<'a>,
    registry: &'a RegistrySnapshot,
    resource: &'a DesiredResource,
    services: &'a [Found<'a>],
    grant: Grant<'a>,
}

impl Planner<'_> {
    fn record(&self, draft: &mut Draft, wanted: &Arc<Record>, found: Option<&ObservedRecord>) {
        let us = &self.context.policy.instance;
        if found.is_some_and(|found| ownership::record_claim(wanted, found, us, self.grant).is_foreign()) {
            // a conflict, which was told before anything was planned for a service
            draft.blocked = true;
            return;
        }
        if let Some(found) = found {
            let marked = found
                .owner
                .as_ref()
                .filter(|owner| owner.instance == *us)
                .is_some_and(|owner| owner.resource == self.resource.id && self.says_whether_kept(wanted, owner));
            if marked && same(wanted, &found.record) && !self.is_being_taken_back(wanted) {
                self.coordinator(draft, wanted);
                if self.registry.expiring.contains(&wanted.id()) && !self.was_just_written(wanted) {
                    match proof::doubt_of(self.registry, wanted, Some(found), &self.owner()) {
                        Some(doubt) => draft.unproven(self.step(wanted), Reason::Expiring, Vec::new(), doubt),
                        None => self.register(draft, wanted, Reason::Expiring, Vec::new(), None),
                    }
                }
                return;
            }
        }
        if self.was_just_written(wanted) {
            return;
        }
        if let Some(doubt) = proof::doubt_of(self.registry, wanted, found, &self.owner()) {
            self.unproven(draft, wanted, found, doubt);
            return;
        }
        if let Record::CoordinatorDevice { device, .. } = &**wanted
            && self.is_another_ones(device)
        {
            // its asset comes later and says so; until then nobody is told of it
            draft.blocked = true;
        }
        match found.filter(|found| !is_taken_back(&found.record) && !is_unsure(&found.record)) {
            Some(found) => self.present(draft, wanted, found),
            None => self.absent(draft, wanted),
        }
    }

    /// What the record would need if the reading showed all there is. Nothing else is concluded from it: no drift, no
    /// conflict with a coordinator.
    fn unproven(&self, draft: &mut Draft, wanted: &Arc<Record>, found: Option<&ObservedRecord>, doubt: &Doubt) {
        let found = found.filter(|found| !is_taken_back(&found.record) && !is_unsure(&found.record));
        let (reason, changes) = match found {
            Some(found) => {
                let reason = if found.owner.is_none() { Reason::Adopt } else { self.reason_of_change(draft, wanted) };
                (reason, describe(wanted, &found.record, found.owner.as_ref(), &self.owner()))
            }
            None => (self.reason_of_absence(draft, &wanted.id()), Vec::new()),
        };
        draft.unproven(self.step(wanted), reason, changes, doubt);
    }

    fn absent(&self, draft: &mut Draft, wanted: &Arc<Record>) {
        if !self.registry.complete {
            // absent from a reading that is cut is not absent
            draft.unknown = true;
            return;
        }
        let reason = self.reason_of_absence(draft, &wanted.id());
        if reason == Reason::Unregistered {
            draft.drift(DriftType::Unregistered, wanted.id().to_string(), &[]);
        }
        self.coordinator(draft, wanted);
        let wait = draft.blocked.then_some(Wait::Dependency);
        self.register(draft, wanted, reason, Vec::new(), wait);
    }

    fn present(&self, draft: &mut Draft, wanted: &Arc<Record>, found: &ObservedRecord) {
        let changes = describe(wanted, &found.record, found.owner.as_ref(), &self.owner());
        if found.owner.is_none() {
            if draft.conflict {
                return;
            }
            self.coordinator(draft, wanted);
            self.register(draft, wanted, Reason::Adopt, changes, self.wait_of(draft, wanted));
            return;
        }
        if found.owner.as_ref().is_some_and(|owner| owner.instance != self.context.policy.instance) {
            self.coordinator(draft, wanted);
            self.register(draft, wanted, Reason::Adopt, changes, self.wait_of(draft, wanted));
            return;
        }
        let id = wanted.id();
        let mark_alone = !changes.is_empty() && changes.iter().all(|change| change.field == MANAGED_PRUNE);
        // nobody else writes it, and what it says comes from the manifest
        let reason = if mark_alone { Reason::ManifestChanged } else { self.reason_of_change(draft, wanted) };
        if reason == Reason::StaleRecord {
            draft.drift(DriftType::StaleRecord, id.to_string(), &changes);
        }
        self.coordinator(draft, wanted);
        self.register(draft, wanted, reason, changes, self.wait_of(draft, wanted));
    }

    fn reason_of_change(&self, draft: &Draft, wanted: &Record) -> Reason {
        match self.last_wanted(&wanted.id()) {
            Some(last) if *last == *wanted => Reason::StaleRecord,
            Some(_) => Reason::ManifestChanged,
            None if has_manifest_change(draft) => Reason::ManifestChanged,
            None => Reason::StaleRecord,
        }
    }

    /// A coordinator that is missing holds up the device that it shall be told of, and nothing that is there already.
    fn wait_of(&self, draft: &Draft, wanted: &Record) -> Option<Wait> {
        (draft.blocked && matches!(wanted, Record::CoordinatorDevice { .. })).then_some(Wait::Dependency)
    }

    /// A device of a coordinator needs one that is there: its own, while that one is registered.
    fn coordinator(&self, draft: &mut Draft, wanted: &Record) {
        let Record::CoordinatorDevice { device, protocol, .. } = wanted else { return };
        let known = self.registry.coordinators.get(device).filter(|known| known.protocol == *protocol);
        let message = match coordinator_of(self.registry, device, || Coordinator::None) {
            Coordinator::Away if known.is_some() => {
                let uuid = known.map(|known| known.uuid.as_str()).unwrap_or_default();
                format!("device {device} needs its coordinator {uuid}, which is not available")
            }
            Coordinator::Available if known.is_some() => return,
            Coordinator::Available | Coordinator::Away | Coordinator::None => {
                if self.context.coordinator(*protocol) == Coordinator::Available {
                    return;
                }
                format!("device {device} needs an available asset of type {}", protocol.coordinator_type())
            }
        };
        draft.blocked = true;
        draft.wait_for(verdict::COORDINATOR_MISSING, message);
    }

    /// Whether the asset of a device that we want belongs to somebody else.
    fn is_another_ones(&self, device: &AssetUuid) -> bool {
        let Some(found) = self.registry.records.get(&RecordId::Asset(device.clone())) else { return false };
        match (&found.owner, &found.record) {
            (Some(owner), _) => owner.instance != self.context.policy.instance && !self.grant.covers(&owner.instance),
            (None, Record::Asset(_)) if self.grant.covers_strangers() => false,
            (None, Record::Asset(asset)) => self.resource.records.iter().any(|record| {
                matches!(&**record, Record::Asset(wanted)
                    if wanted.uuid == *device && wanted.asset_type != asset.asset_type)
            }),
            (None, _) => false,
        }
    }

    fn owner(&self) -> RecordOwner {
        RecordOwner {
            instance: self.context.policy.instance.clone(),
            resource: self.resource.id.clone(),
            kept: !self.resource.handling.prune,
        }
    }

    /// The mark on an asset says whether the resource is kept; what belongs to an asset has no mark of its own.
    fn says_whether_kept(&self, wanted: &Record, owner: &RecordOwner) -> bool {
        !matches!(wanted, Record::Asset(_)) || owner.kept != self.resource.handling.prune
    }

    fn register(
        &self,
        draft: &mut Draft,
        wanted: &Arc<Record>,
        reason: Reason,
        changes: Vec<FieldChange>,
        wait: Option<Wait>,
    ) {
        draft.step(self.step(wanted), reason, changes, wait);
    }

    fn step(&self, wanted: &Arc<Record>) -> Step {
        Step::Record(RecordStep::Register { record: Arc::clone(wanted), owner: self.owner() })
    }

    /// The registry follows its topics with a lag: what was written a moment ago counts as there.
    fn was_just_written(&self, wanted: &Record) -> bool {
        let written = |written: &Written| *written.record == *wanted && written.kept != self.resource.handling.prune;
        self.context.expectation(&wanted.id()).is_some_and(|expected| expected.as_ref().is_some_and(written))
    }

    /// What was taken back a moment ago counts as gone, whatever rows are still visible.
    fn is_being_taken_back(&self, wanted: &Record) -> bool {
        !self.context.memory.expected.is_empty() && self.context.expectation(&wanted.id()).is_some_and(Option::is_none)
    }

    fn last_wanted(&self, id: &RecordId) -> Option<&Record> {
        let synced = self.context.memory.synced.get(&self.resource.id)?;
        synced.records.iter().map(|record| &**record).find(|record| record.id() == *id)
    }

    fn reason_of_absence(&self, draft: &Draft, id: &RecordId) -> Reason {
        match self.context.memory.synced.get(&self.resource.id) {
            Some(_) if self.last_wanted(id).is_some() => Reason::Unregistered,
            Some(_) => Reason::ManifestChanged,
            None if has_manifest_change(draft) => Reason::ManifestChanged,
            None => {
                let us = &self.context.policy.instance;
                let runs = self
                    .services
                    .iter()
                    .filter_map(|found| found.service?.mark.as_ref())
                    .any(|mark| mark.instance == *us && mark.resource == self.resource.id);
                if runs { Reason::Unregistered } else { Reason::New }
            }
        }
    }
}

fn has_manifest_change(draft: &Draft) -> bool {
    draft
        .steps
        .iter()
        .chain(draft.held.iter().map(|held| &held.step))
        .any(|step| step.reason == Reason::ManifestChanged)
}

/// Whether a record says what it should. References are sets, further attributes belong to others, and values
/// are compared as they read, since the registry keeps them as text.
pub(super) fn same(wanted: &Record, found: &Record) -> bool {
    match (wanted, found) {
        (Record::Asset(wanted), Record::Asset(found)) => {
            wanted.asset_type == found.asset_type
                && wanted.docker_service == found.docker_service
                && same_references(&wanted.references_above, &found.references_above)
                && same_references(&wanted.references_below, &found.references_below)
                && same_uns(wanted.uns.as_ref(), found.uns.as_ref())
                && wanted.attributes.iter().all(|attribute| has_attribute(found, attribute))
        }
        (wanted, found) => wanted == found,
    }
}

fn same_references(wanted: &[String], found: &[String]) -> bool {
    wanted == found || wanted.iter().collect::<BTreeSet<_>>() == found.iter().collect::<BTreeSet<_>>()
}

fn same_uns(wanted: Option<&Uns>, found: Option<&Uns>) -> bool {
    match (wanted, found) {
        (Some(wanted), Some(found)) => {
            wanted == found || (wanted.uns_id == found.uns_id && levels(wanted) == levels(found))
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn levels(uns: &Uns) -> BTreeSet<(&str, String)> {
    uns.levels.iter().map(|(level, value)| (level.as_str(), value.as_kept())).collect()
}

fn has_attribute(found: &AssetRecord, wanted: &crate::model::record::Attribute) -> bool {
    found
        .attributes
        .iter()
        .filter(|attribute| attribute.id == wanted.id)
        .any(|attribute| attribute.value == wanted.value || attribute.value.as_kept() == wanted.value.as_kept())
}

/// What differs, in words.
pub(super) fn describe(
    wanted: &Record,
    found: &Record,
    found_owner: Option<&RecordOwner>,
    owner: &RecordOwner,
) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    let mut push_as = |field: &str, from: Option<String>, to: Option<String>, secret: bool| {
        if from != to {
            changes.push(FieldChange { field: field.to_owned(), from, to, secret });
        }
    };
    if let (
        Record::Connector { config, .. } | Record::CoordinatorDevice { config, .. },
        Record::Connector { config: found, .. } | Record::CoordinatorDevice { config: found, .. },
    ) = (wanted, found)
    {
        // a device's configuration holds the environment of its adapter
        push_as("config", Some(found.clone()), Some(config.clone()), true);
    }
    let mut push = |field: &str, from, to| push_as(field, from, to, false);
    match (wanted, found) {
        (Record::Asset(wanted), Record::Asset(found)) => {
            push("type", Some(found.asset_type.clone()), Some(wanted.asset_type.clone()));
            push("docker_service", text(&found.docker_service), text(&wanted.docker_service));
            if !same_references(&wanted.references_above, &found.references_above) {
                push("references_above", list(&found.references_above), list(&wanted.references_above));
            }
            if !same_references(&wanted.references_below, &found.references_below) {
                push("references_below", list(&found.references_below), list(&wanted.references_below));
            }
            if !same_uns(wanted.uns.as_ref(), found.uns.as_ref()) {
                push("uns", found.uns.as_ref().map(uns_words), wanted.uns.as_ref().map(uns_words));
            }
            for attribute in &wanted.attributes {
                let before = found.attributes.iter().find(|other| other.id == attribute.id);
                push(
                    &format!("attributes.{}", attribute.id),
                    before.map(|before| before.value.python_str()),
                    Some(attribute.value.python_str()),
                );
            }
        }
        (
            Record::MetricsTarget { host, port, path, .. },
            Record::MetricsTarget { host: found_host, port: found_port, path: found_path, .. },
        ) => {
            push(
                "target",
                Some(format!("{found_host}:{found_port}{found_path}")),
                Some(format!("{host}:{port}{path}")),
            );
        }
        // the configurations are told above; an id decides the kind of its record
        (
            Record::Asset(_)
            | Record::Connector { .. }
            | Record::CoordinatorDevice { .. }
            | Record::MetricsTarget { .. },
            _,
        ) => {}
    }
    push("managed_by", found_owner.map(|found| found.instance.to_string()), Some(owner.instance.to_string()));
    if matches!(wanted, Record::Asset(_)) {
        let prune = |owner: &RecordOwner| (!owner.kept).to_string();
        push(MANAGED_PRUNE, Some(found_owner.map_or("true".into(), prune)), Some(prune(owner)));
    }
    push("managed_resource", found_owner.map(|found| found.resource.to_string()), Some(owner.resource.to_string()));
    changes
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn list(items: &[String]) -> Option<String> {
    (!items.is_empty()).then(|| items.join(", "))
}

fn uns_words(uns: &Uns) -> String {
    let levels: Vec<String> =
        uns.levels.iter().map(|(level, value)| format!("{level}={}", value.python_str())).collect();
    format!("{} ({})", uns.uns_id, levels.join(" "))
}
